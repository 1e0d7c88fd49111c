use std::collections::BTreeMap;

use revwatch_alerting::policy::Capabilities;
use revwatch_alerting::rule_text;
use revwatch_runtime::config::Config;

use super::*;
use crate::simulation::scenario_file::parse;
use crate::simulation::simulator::NOTIFIER;
use crate::simulation::tests::NoFiles;

fn policy() -> Policy {
    let config = Config::load(None, &|_| None).expect("the defaults");
    let capabilities = Capabilities {
        edits: true,
        resolves: true,
    };
    Policy::new(&config.alerting, vec![(NOTIFIER.into(), capabilities)]).expect("valid")
}

fn verdict(steps: &str) -> Verdict {
    let rules = rule_text::built_in().expect("valid");
    let text = format!("[[test]]\nname = \"t\"\nonly = [\"payout_failure_rate\"]\n{steps}");
    let scenarios = parse(&("t.toml".into(), text), &rules, &NoFiles).expect("valid");
    play(&scenarios[0], &policy()).expect("played")
}

/// Time is skipped while nothing can change. Evaluating every minute gives the same result.
#[test]
fn skipping_time_changes_nothing() {
    let shipped = [
        "data_gap",
        "past_due_share",
        "payout_failure_rate",
        "provider_lost_charges",
    ];
    let rules = rule_text::built_in().expect("valid");
    let mut sent = 0;
    for file in shipped {
        let path = format!(
            "{}/deploy/rules/tests/{file}.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(&path).expect("a shipped test");
        for scenario in parse(&(path, text), &rules, &NoFiles).expect("valid") {
            let (plain, _) = run(&scenario, &policy(), Variant::Plain).expect("played");
            let mut simulator =
                new_simulator(&scenario, &policy(), Variant::Plain).expect("a simulator");
            let mut dense = Played {
                seen: Vec::new(),
                log: Vec::new(),
                failures: Vec::new(),
            };
            let mut now_s = scenario.start_s;
            for (at_s, moment) in &scenario.moments {
                while now_s < *at_s {
                    simulator.tick(now_s).expect("ticked");
                    now_s += 60;
                }
                simulator.run_to(*at_s).expect("run");
                run_moment(&mut simulator, moment, *at_s, Variant::Plain, &mut dense)
                    .expect("played");
                dense.seen.push((*at_s, simulator.views()));
            }
            dense.log = simulator.log().to_vec();
            assert_eq!(dense.seen, plain.seen, "{}", scenario.name);
            assert_eq!(lines(&dense.log), lines(&plain.log), "{}", scenario.name);
            sent += plain.log.len();
        }
    }
    assert!(sent > 50, "only {sent} notifications");
}

#[test]
fn a_failed_expectation_names_its_time_and_place() {
    let verdict = verdict(
        "[[test.step]]\nat = \"+1h\"\nsend = { event = \"payout.failed\", count = 20 }\n\
         expect = [{ rule = \"payout_failure_rate\", state = \"inactive\" },\n\
         { rule = \"payout_failure_rate\", notified = 1 }]\nexpect_none = true\n",
    );
    let says: Vec<_> = verdict
        .failures
        .iter()
        .map(|f| (f.place.as_str(), f.seen.as_str()))
        .collect();
    assert_eq!(
        says,
        [
            (
                "t.toml:7:11",
                "payout_failure_rate firing; notified 1, notices 0"
            ),
            ("t.toml:9:15", "payout_failure_rate firing")
        ]
    );
    assert_eq!(
        verdict.failures[0].expected,
        "payout_failure_rate: inactive"
    );
    assert_eq!(
        moment_text(verdict.failures[0].at_s),
        "2026-01-05T01:00:00Z"
    );
    assert_eq!(
        verdict.log,
        ["2026-01-05T01:00:00Z 🔴 CRITICAL: More than 5 % of payouts are failing"]
    );
}

#[test]
fn an_event_that_is_dead_and_a_command_without_an_alert_fail() {
    let text = "[[test]]\nname = \"t\"\n[[test.step]]\nat = \"+1h\"\nsend = { event = \"payout.failed\" }\n\
                command = { acknowledge = { rule = \"payout_failure_rate\" } }\n";
    let rules = rule_text::built_in().expect("valid");
    let mut scenarios = parse(&("t.toml".into(), text.into()), &rules, &NoFiles).expect("valid");
    // What its own text shows is a fault of the file.
    let moment = scenarios[0].moments.values_mut().next();
    moment.expect("a step").arrivals[0].delivery.body = "{}".into();
    let verdict = play(&scenarios[0], &policy()).expect("played");
    let says: Vec<_> = verdict
        .failures
        .iter()
        .map(|f| format!("{}: {}: {}", f.place, f.expected, f.seen))
        .collect();
    assert_eq!(
        says,
        [
            "t.toml:5:8: payout.failed evt_1 can be applied: the body is JSON but not a Stripe event: no id",
            "t.toml:6:11: an alert for the command: inactive",
        ]
    );
}

#[test]
fn a_number_of_inactive_subjects_counts_those_that_were_pending_or_firing() {
    let verdict = verdict(
        "[[test.step]]\nat = \"+1h\"\nsend = { event = \"payout.paid\", count = 3 }\n\
         expect = { rule = \"payout_failure_rate\", state = \"inactive\", count = 3 }\n",
    );
    let seen: Vec<_> = verdict.failures.iter().map(|it| it.seen.as_str()).collect();
    let expected = "inactive (0 inactive: what was never pending or firing is not counted); notified 0, notices 0";
    assert_eq!(seen, [expected]);
}

/// As in a deployment: what was wrong before it began is in the digest, and in no message of its own.
#[test]
fn what_was_wrong_before_the_beginning_is_in_the_digest() {
    let steps = |began: &str, created: &str| {
        format!(
            "{began}\n[[test.step]]\nat = \"+1h\"\nsend = {{ event = \"payout.failed\", id = \"po_1\", created = {created:?} }}\n\
             expect = [\n{{ rule = \"payout_failed\", state = \"firing\", notified = 1 }},\n\
             {{ rule = \"pre-existing\", notified = 0 }}]\n"
        )
    };
    let failures = |began: &str, created: &str| {
        let rules = rule_text::built_in().expect("valid");
        let text = format!(
            "[[test]]\nname = \"t\"\nonly = [\"payout_failed\"]\n{}",
            steps(began, created)
        );
        let scenarios = parse(&("t.toml".into(), text), &rules, &NoFiles).expect("valid");
        let verdict = play(&scenarios[0], &policy()).expect("played");
        let seen = verdict.failures.into_iter().map(|failure| failure.seen);
        seen.collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(
        failures("", "-2h"),
        none,
        "an hour before the start is still news"
    );
    assert_eq!(failures("began = \"-30d\"", "-3d"), none);
    let digest = [
        "payout_failed firing (payout po_1); notified 0, notices 0; wrong already when revwatch began, see `began`",
        "notified 1, notices 0",
    ];
    assert_eq!(failures("", "-3d"), digest);
    assert_eq!(failures("began = \"+30m\"", "-45m"), digest);
}

/// As in a deployment: what did not come before the first delivery is not missing.
#[test]
fn nothing_is_missing_until_a_window_after_the_first_delivery_is_over() {
    let failures = |began: &str, sent: &str, checks: &[(&str, &str)]| {
        let mut text = format!(
            "[[rule]]\nname = \"no_payouts\"\nkind = \"absence\"\nmetric = \"payouts_paid\"\nwindow = \"6h\"\n\
             severity = \"high\"\nroute = \"x\"\ntitle = \"None paid\"\nactions = [\"Look.\"]\n\
             [[test]]\nname = \"t\"\n{began}\n[[test.step]]\nat = \"+3h\"\nsend = {{ {sent} }}\n"
        );
        for (at, state) in checks {
            text += &format!(
                "[[test.step]]\nat = {at:?}\nexpect = {{ rule = \"no_payouts\", state = {state:?} }}\n"
            );
        }
        let scenarios = parse(&("t.toml".into(), text), &[], &NoFiles).expect("valid");
        let verdict = play(&scenarios[0], &policy()).expect("played");
        verdict
            .failures
            .into_iter()
            .map(|it| (it.at_s, it.seen))
            .collect::<Vec<_>>()
    };
    let none: [(i64, String); 0] = [];
    let later = [
        ("+3h", "inactive"),
        ("+9h", "inactive"),
        ("+9h1m", "firing"),
    ];
    let created = "event = \"payout.created\"";
    assert_eq!(failures("", created, &later), none);
    let soon = [("+3h", "inactive"), ("+6h1m", "firing")];
    assert_eq!(failures("began = \"+0s\"", created, &soon), none);
    assert_eq!(
        failures("began = \"-30d\"", created, &[("+3h", "firing")]),
        none
    );
}

#[test]
fn a_variant_with_other_notifications_fails() {
    let line = |headline: &str| SentMessage {
        at_s: 60,
        alert_id: "al_1".into(),
        rule: "r".into(),
        subject: Default::default(),
        account: None,
        notice: None,
        is_new: true,
        headline: headline.into(),
        text: String::new(),
    };
    let played = |log: Vec<SentMessage>| Played {
        seen: Vec::new(),
        log,
        failures: Vec::new(),
    };
    let scenario = Scenario {
        name: "t".into(),
        place: "t.toml:1:1".into(),
        start_s: 0,
        began_s: 0,
        is_beginning_given: false,
        tick_s: 300,
        rules: Vec::new(),
        missing: Vec::new(),
        warnings: Vec::new(),
        moments: BTreeMap::new(),
    };
    let (one, two) = (played(vec![line("a")]), played(vec![line("a"), line("b")]));
    assert!(compare(&scenario, &one, &one, Variant::Doubled).is_none());
    let failure = compare(&scenario, &one, &two, Variant::Doubled).expect("a difference");
    assert_eq!(
        failure.expected,
        "as in the plain run: no further notification"
    );
    assert!(
        failure
            .seen
            .ends_with("twice and in reverse order: 1970-01-01T00:01:00Z b"),
        "{}",
        failure.seen
    );
    assert_eq!(failure.logs.map(|(a, b)| (a.len(), b.len())), Some((1, 2)));
}
