//! Runs a rule test in several variants, all of which must give the same result. Pure.
//!
//! Invariant: evaluator restarts, duplicate or reordered events and a replay of the complete
//! archive change neither alerts nor notifications. A test fails if a variant differs.

use anyhow::Context as _;
use jiff::Timestamp;
use revwatch_alerting::alert::{Alert, Command, CommandKind, Matcher, Silence};
use revwatch_alerting::policy::Policy;
use revwatch_core::event_settings::EventSettings;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::Outcome;
use uuid::Uuid;

use super::expectation::{check_want, view_summary};
use super::scenario::{Arrival, Moment, Order, OrderKind, Origin, Scenario, SubjectMatch};
use super::simulator::{SentMessage, SimulationConfig, Simulator, View};
use super::template::field_setting;

/// The result of a test.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The test's name.
    pub name: String,
    /// File, line and column.
    pub place: String,
    /// Empty if the test passed.
    pub failures: Vec<Failure>,
    /// The notifications of the plain variant.
    pub log: Vec<String>,
}

/// A failed expectation.
#[derive(Debug, Clone)]
pub struct Failure {
    /// File, line and column.
    pub place: String,
    /// Unix second in the test.
    pub at_s: i64,
    /// The expected state.
    pub expected: String,
    /// The actual state.
    pub seen: String,
    /// The notifications of the plain variant and of the differing one, if they differ.
    pub logs: Option<(Vec<String>, Vec<String>)>,
}

/// How a test is run. The replay continues the plain variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// The evaluator restarts after every tick and in the middle of every notification.
    Restarted,
    /// Every event arrives twice, and events of one second arrive in reverse order.
    Doubled,
    /// At the end all events arrive again.
    Replayed,
}

/// One run of a test.
struct Played {
    /// At each second of the scenario, the state of every rule and subject.
    seen: Vec<(i64, Vec<View>)>,
    log: Vec<SentMessage>,
    failures: Vec<Failure>,
}

/// Runs a test in every variant.
pub fn play(scenario: &Scenario, policy: &Policy) -> anyhow::Result<Verdict> {
    let (plain, mut simulator) = run(scenario, policy, Variant::Plain)?;
    let mut failures = plain.failures.clone();
    for variant in [Variant::Restarted, Variant::Doubled] {
        let (changed, _) = run(scenario, policy, variant)
            .with_context(|| format!("{}: when {}", scenario.name, variant.description()))?;
        failures.extend(compare(scenario, &plain, &changed, variant));
    }
    let replayed = replay(scenario, &mut simulator)?;
    failures.extend(compare(scenario, &plain, &replayed, Variant::Replayed));
    let log = lines(&plain.log);
    Ok(Verdict {
        name: scenario.name.clone(),
        place: scenario.place.clone(),
        failures,
        log,
    })
}

/// A Unix second for display.
pub fn moment_text(at_s: i64) -> String {
    Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string())
}

impl Variant {
    fn description(self) -> &'static str {
        match self {
            Self::Plain => "nothing else happens",
            Self::Restarted => {
                "the evaluator is restarted after every tick and within every notification"
            }
            Self::Doubled => "every event arrives twice and in reverse order",
            Self::Replayed => "all events arrive again at the end",
        }
    }
}

fn run(
    scenario: &Scenario,
    policy: &Policy,
    variant: Variant,
) -> anyhow::Result<(Played, Simulator)> {
    let mut simulator = new_simulator(scenario, policy, variant)?;
    let mut played = Played {
        seen: Vec::new(),
        log: Vec::new(),
        failures: Vec::new(),
    };
    for (at_s, moment) in &scenario.moments {
        simulator.run_to(*at_s)?;
        run_moment(&mut simulator, moment, *at_s, variant, &mut played)?;
        played.seen.push((*at_s, simulator.views()));
    }
    played.log = simulator.log().to_vec();
    Ok((played, simulator))
}

fn new_simulator(
    scenario: &Scenario,
    policy: &Policy,
    variant: Variant,
) -> anyhow::Result<Simulator> {
    let mut policy = policy.clone();
    policy.began_s = Some(scenario.began_s);
    let setting = SimulationConfig {
        rules: scenario.rules.clone(),
        policy,
        events: EventSettings::default(),
        restarts: variant == Variant::Restarted,
        tick_s: scenario.tick_s,
        spacing_s: 1,
    };
    let mut simulator = Simulator::new(setting, scenario.start_s)?;
    simulator.set_first_delivery(scenario.first_delivery_ms());
    simulator.tick(scenario.start_s)?;
    Ok(simulator)
}

/// All events arrive again.
fn replay(scenario: &Scenario, simulator: &mut Simulator) -> anyhow::Result<Played> {
    let at_s = scenario
        .moments
        .last_key_value()
        .map_or(scenario.start_s, |(at_s, _)| *at_s);
    let all = scenario
        .moments
        .values()
        .flat_map(|moment| &moment.arrivals);
    let repeated: Vec<_> = all
        .enumerate()
        .map(|(n, arrival)| repeat(&arrival.delivery, n, 2))
        .collect();
    simulator.apply(&repeated)?;
    simulator.tick(at_s)?;
    Ok(Played {
        seen: vec![(at_s, simulator.views())],
        log: simulator.log().to_vec(),
        failures: Vec::new(),
    })
}

/// Runs one second of the scenario: deliveries, commands, then checks.
fn run_moment(
    simulator: &mut Simulator,
    moment: &Moment,
    at_s: i64,
    variant: Variant,
    played: &mut Played,
) -> anyhow::Result<()> {
    if let Some(pipeline) = &moment.pipeline {
        simulator.set_pipeline(pipeline.clone());
    }
    let arrivals = moment.arrivals.iter();
    let mut deliveries: Vec<_> = arrivals.map(|arrival| arrival.delivery.clone()).collect();
    if variant == Variant::Doubled {
        let repeated: Vec<_> = deliveries
            .iter()
            .enumerate()
            .map(|(n, delivery)| repeat(delivery, n, 1))
            .collect();
        deliveries.extend(repeated);
        deliveries.reverse();
    }
    let outcomes = simulator.apply(&deliveries)?;
    simulator.tick(at_s)?;
    if variant != Variant::Plain {
        for order in &moment.orders {
            submit(simulator, order, at_s);
        }
    } else {
        for (Arrival { delivery, origin }, outcome) in moment.arrivals.iter().zip(&outcomes) {
            if let Outcome::Dead(why) = outcome {
                let event = format!("{} {}", delivery.event_type, delivery.event_id);
                let expected = format!("{event} can be applied");
                played.fail(origin.place.clone(), at_s, expected, dead(why, origin));
            }
        }
        for order in &moment.orders {
            if !submit(simulator, order, at_s) {
                let (expected, seen) = (
                    "an alert for the command".to_owned(),
                    view_summary(&simulator.views()),
                );
                played.fail(order.place.clone(), at_s, expected, seen);
            }
        }
    }
    if !moment.orders.is_empty() {
        simulator.tick(at_s)?;
    }
    if variant == Variant::Plain {
        for check in &moment.checks {
            if let Err(seen) = check_want(simulator, &check.want) {
                played.fail(check.place.clone(), at_s, check.want.to_string(), seen);
            }
        }
    }
    Ok(())
}

impl Played {
    fn fail(&mut self, place: String, at_s: i64, expected: String, seen: String) {
        self.failures.push(Failure {
            place,
            at_s,
            expected,
            seen,
            logs: None,
        });
    }
}

/// Why an event cannot be applied, with the field of the test that made it so.
fn dead(why: &str, origin: &Origin) -> String {
    let after = why.split_once("data.object.");
    let path = after.map_or("", |(_, after)| after.split(':').next().unwrap_or_default());
    let given = format!("object.{path}");
    let field = [given.as_str(), field_setting(path)]
        .into_iter()
        .find_map(|field| Some((field, origin.fields.get(field)?)));
    match field {
        Some((field, place)) => format!("{why} (`{field}` at {place})"),
        None => why.to_owned(),
    }
}

/// The same event, delivered again.
fn repeat(delivery: &Delivery, n: usize, round: u128) -> Delivery {
    Delivery {
        id: Uuid::from_u128(delivery.id.as_u128() + (round << 96) + ((n as u128) << 64)),
        ..delivery.clone()
    }
}

/// Submits the commands. Returns `false` if no alert matches.
fn submit(simulator: &mut Simulator, order: &Order, at_s: i64) -> bool {
    let commands: Vec<CommandKind> = match &order.what {
        OrderKind::Acknowledge(subject) => matching_alerts(simulator, subject)
            .into_iter()
            .map(|alert_id| CommandKind::Acknowledge { alert_id })
            .collect(),
        OrderKind::Resolve(subject) => matching_alerts(simulator, subject)
            .into_iter()
            .map(|alert_id| CommandKind::Resolve { alert_id })
            .collect(),
        OrderKind::Silence {
            rule,
            account,
            labels,
            for_s,
            reason,
        } => vec![CommandKind::Silence(Silence {
            id: format!("si_{at_s}"),
            matches: Matcher {
                alert_id: None,
                rule: rule.clone(),
                account: account.clone(),
                labels: labels.clone(),
            },
            from_s: at_s,
            until_s: at_s + for_s,
            reason: reason.clone(),
            by: order.by.clone(),
        })],
    };
    for command in &commands {
        let command = Command {
            kind: command.clone(),
            by: order.by.clone(),
            via: "cli".to_owned(),
            at_s,
        };
        simulator.submit(serde_json::to_string(&command).unwrap_or_default());
    }
    !commands.is_empty()
}

/// The alerts that match. A group stands for its members, since people act on the group.
fn matching_alerts(simulator: &Simulator, subject: &SubjectMatch) -> Vec<String> {
    let fits = |alert: &&Alert| {
        let is_notified = alert.part_of.is_none() || !subject.is_all();
        subject.fits(&alert.rule, &alert.subject, alert.account()) && is_notified
    };
    let mut ids: Vec<String> = simulator
        .alerts()
        .filter(fits)
        .map(|alert| alert.id.clone())
        .collect();
    ids.sort_unstable();
    ids
}

/// The first difference between a variant and the plain one.
fn compare(
    scenario: &Scenario,
    plain: &Played,
    changed: &Played,
    variant: Variant,
) -> Option<Failure> {
    let (expected_lines, actual_lines) = (lines(&plain.log), lines(&changed.log));
    let fail = |at_s, expected, seen| {
        let logs = Some((expected_lines.clone(), actual_lines.clone()));
        let seen = format!("when {}: {seen}", variant.description());
        Some(Failure {
            place: scenario.place.clone(),
            at_s,
            expected,
            seen,
            logs,
        })
    };
    // A replay covers the end only.
    let same = plain
        .seen
        .iter()
        .skip(plain.seen.len().saturating_sub(changed.seen.len()));
    for ((at_s, views), (_, actual)) in same.zip(&changed.seen) {
        if views != actual {
            return fail(
                *at_s,
                format!("as in the plain run: {}", view_summary(views)),
                view_summary(actual),
            );
        }
    }
    let first = (0..expected_lines.len().max(actual_lines.len()))
        .find(|n| expected_lines.get(*n) != actual_lines.get(*n))?;
    let line = |of: &[String]| {
        of.get(first)
            .cloned()
            .unwrap_or_else(|| "no further notification".to_owned())
    };
    let at_s = plain
        .log
        .get(first)
        .or(changed.log.get(first))
        .map_or(scenario.start_s, |line| line.at_s);
    fail(
        at_s,
        format!("as in the plain run: {}", line(&expected_lines)),
        line(&actual_lines),
    )
}

/// One line per notification.
fn lines(log: &[SentMessage]) -> Vec<String> {
    let line = |line: &SentMessage| {
        let prefix = if line.is_new { "" } else { "(changed) " };
        let subject = line.subject.to_string();
        let about = if subject.is_empty() {
            String::new()
        } else {
            format!(" ({subject})")
        };
        format!(
            "{} {prefix}{}{about}",
            moment_text(line.at_s),
            line.headline
        )
    };
    log.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use revwatch_alerting::policy::Capabilities;
    use revwatch_alerting::rule_text;
    use revwatch_runtime::config::Config;

    use super::*;
    use crate::simulation::scenario_file::{FileSource, parse};
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
    fn an_invalid_event_and_a_command_without_an_alert_fail() {
        let verdict = verdict(
            "[[test.step]]\nat = \"+1h\"\nsend = [\n\
             { event = \"payout.failed\", object = { status = true } },\n\
             { event = \"payout.failed\", id = \"\" },\n\
             { json = '{\"id\":\"evt_9\",\"type\":\"payout.paid\",\"created\":1767574800,\"data\":{\"object\":{\"id\":\"po_9\"}}}' },\n\
             ]\ncommand = { acknowledge = { rule = \"payout_failure_rate\" } }\n",
        );
        let says: Vec<_> = verdict
            .failures
            .iter()
            .map(|f| format!("{}: {}: {}", f.place, f.expected, f.seen))
            .collect();
        assert_eq!(
            says,
            [
                "t.toml:7:1: payout.failed evt_1 can be applied: payout.failed: data.object.status: does not have the \
                 documented type (`object.status` at t.toml:7:39)",
                "t.toml:8:1: payout.failed evt_2 can be applied: payout.failed: data.object.id: missing \
                 (`id` at t.toml:8:28)",
                "t.toml:9:1: payout.paid evt_3 can be applied: payout.paid: data.object.status: missing",
                "t.toml:11:11: an alert for the command: inactive",
            ]
        );
    }

    #[test]
    fn an_event_of_a_file_that_cannot_be_applied_is_named_by_its_line() {
        struct OneFile;
        impl FileSource for OneFile {
            fn rules(&self, path: &str) -> Result<Vec<rule_text::NamedText>, String> {
                Err(path.to_owned())
            }

            fn events(&self, _: &str) -> Result<String, String> {
                let event = r#"{"id":"evt_9","type":"payout.paid","created":1767574800,"data":{"object":{"id":"po_9"}}}"#;
                Ok(format!("\n{event}\n"))
            }
        }
        let rules = rule_text::built_in().expect("valid");
        let text = "[[test]]\nname = \"t\"\nonly = [\"payout_failed\"]\n[[test.step]]\nat = \"+1h\"\nsend = { file = \"e.jsonl\" }\n";
        let scenarios = parse(&("t.toml".into(), text.into()), &rules, &OneFile).expect("valid");
        let failures = play(&scenarios[0], &policy()).expect("played").failures;
        let places: Vec<_> = failures.iter().map(|it| it.place.as_str()).collect();
        assert_eq!(places, ["t.toml:6:8 (line 2 of e.jsonl)"]);
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
        // An event that cannot be applied fails the test, and is a delivery.
        let dead = failures(
            "",
            "event = \"payout.paid\", object = { status = true }",
            &later[..1],
        );
        assert_eq!(dead.len(), 1, "{dead:?}");
        assert!(dead[0].1.contains("data.object.status"), "{dead:?}");
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
}
