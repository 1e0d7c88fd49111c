//! Plays a rule test in several variants, each of which must come to the same. Pure.
//!
//! Invariant: whether the evaluator is restarted, events come twice or in another order, or the
//! whole archive is played again, the same alerts are told by the same messages. What breaks that
//! fails the test.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::Timestamp;
use revwatch_alerting::alert::Alert;
use revwatch_alerting::command::{Command, CommandKind, Matcher, Silence};
use revwatch_alerting::lifecycle::Stage;
use revwatch_alerting::policy::Policy;
use revwatch_core::observe::Plans;
use revwatch_storage::ports::Delivery;
use revwatch_worker::plan::Outcome;
use uuid::Uuid;

use super::scenario::{Expect, Moment, Order, OrderKind, Scenario, SubjectMatch, Want};
use super::simulator::{SentMessage, SimulationConfig, Simulator, View};

/// What became of a test.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// Nothing: it passed.
    pub failures: Vec<Failure>,
    /// What was told, in the plain variant.
    pub log: Vec<String>,
}

/// Something that is not as it must be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// File, line and column.
    pub place: String,
    /// Unix second of the test.
    pub at_s: i64,
    /// What must be.
    pub expected: String,
    /// What is.
    pub seen: String,
    /// What was told in the plain variant and in the one that differs, if that is what is wrong.
    pub logs: Option<(Vec<String>, Vec<String>)>,
}

/// How a test is played. The replay follows on the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// The evaluator begins anew after every tick and in the middle of every message.
    Restarted,
    /// Every event comes twice, and those of one moment in reverse order.
    Doubled,
    /// At the end everything comes again.
    Replayed,
}

/// One way a test went.
struct Played {
    /// At every moment with something in it, what every rule and subject was up to.
    seen: Vec<(i64, Vec<View>)>,
    log: Vec<SentMessage>,
    failures: Vec<Failure>,
}

/// Plays a test in every variant.
pub fn play(script: &Scenario, policy: &Policy) -> anyhow::Result<Verdict> {
    let (plain, mut bench) = run(script, policy, Variant::Plain)?;
    let mut failures = plain.failures.clone();
    for variant in [Variant::Restarted, Variant::Doubled] {
        let (other, _) = run(script, policy, variant)
            .with_context(|| format!("{}: when {}", script.name, variant.words()))?;
        failures.extend(compare(script, &plain, &other, variant));
    }
    let replayed = replay(script, &mut bench)?;
    failures.extend(compare(script, &plain, &replayed, Variant::Replayed));
    let log = lines(&plain.log);
    Ok(Verdict {
        name: script.name.clone(),
        place: script.place.clone(),
        failures,
        log,
    })
}

/// A Unix second for people.
pub fn moment_text(at_s: i64) -> String {
    Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string())
}

impl Variant {
    fn words(self) -> &'static str {
        match self {
            Self::Plain => "nothing special happens",
            Self::Restarted => {
                "the evaluator is restarted after every tick and within every message"
            }
            Self::Doubled => "every event comes twice and in reverse order",
            Self::Replayed => "all events come again at the end",
        }
    }
}

fn run(
    script: &Scenario,
    policy: &Policy,
    variant: Variant,
) -> anyhow::Result<(Played, Simulator)> {
    let mut bench = bench(script, policy, variant)?;
    let mut played = Played {
        seen: Vec::new(),
        log: Vec::new(),
        failures: Vec::new(),
    };
    for (at_s, moment) in &script.moments {
        bench.run_to(*at_s)?;
        happen(&mut bench, moment, *at_s, variant, &mut played)?;
        played.seen.push((*at_s, bench.views()));
    }
    played.log = bench.log().to_vec();
    Ok((played, bench))
}

fn bench(script: &Scenario, policy: &Policy, variant: Variant) -> anyhow::Result<Simulator> {
    let setting = SimulationConfig {
        rules: script.rules.clone(),
        policy: policy.clone(),
        plans: Plans::default(),
        restarts: variant == Variant::Restarted,
        tick_s: script.tick_s,
        spacing_s: 1,
    };
    let mut bench = Simulator::new(setting, script.start_s)?;
    bench.tick(script.start_s)?;
    Ok(bench)
}

/// Everything comes again.
fn replay(script: &Scenario, bench: &mut Simulator) -> anyhow::Result<Played> {
    let at_s = script
        .moments
        .last_key_value()
        .map_or(script.start_s, |(at_s, _)| *at_s);
    let all = script
        .moments
        .values()
        .flat_map(|moment| &moment.deliveries);
    let again: Vec<_> = all
        .enumerate()
        .map(|(n, delivery)| repeat(delivery, n, 2))
        .collect();
    bench.apply(&again)?;
    bench.tick(at_s)?;
    Ok(Played {
        seen: vec![(at_s, bench.views())],
        log: bench.log().to_vec(),
        failures: Vec::new(),
    })
}

/// One moment of the script: what arrives, what people ask, what must be true then.
fn happen(
    bench: &mut Simulator,
    moment: &Moment,
    at_s: i64,
    variant: Variant,
    played: &mut Played,
) -> anyhow::Result<()> {
    if let Some(pipeline) = &moment.pipeline {
        bench.set_pipeline(pipeline.clone());
    }
    let mut deliveries = moment.deliveries.clone();
    if variant == Variant::Doubled {
        let again: Vec<_> = deliveries
            .iter()
            .enumerate()
            .map(|(n, delivery)| repeat(delivery, n, 1))
            .collect();
        deliveries.extend(again);
        deliveries.reverse();
    }
    let outcomes = bench.apply(&deliveries)?;
    bench.tick(at_s)?;
    if variant != Variant::Plain {
        for order in &moment.orders {
            submit(bench, order, at_s);
        }
    } else {
        for (delivery, outcome) in deliveries.iter().zip(&outcomes) {
            if let Outcome::Dead(why) = outcome {
                let event = format!("{} {}", delivery.event_type, delivery.event_id);
                played.fail(
                    String::new(),
                    at_s,
                    format!("{event} can be applied"),
                    why.clone(),
                );
            }
        }
        for order in &moment.orders {
            if !submit(bench, order, at_s) {
                let (expected, seen) = ("an alert to take".to_owned(), tell_views(&bench.views()));
                played.fail(order.place.clone(), at_s, expected, seen);
            }
        }
    }
    if !moment.orders.is_empty() {
        bench.tick(at_s)?;
    }
    if variant == Variant::Plain {
        for check in &moment.checks {
            if let Err(seen) = judge(bench, &check.want) {
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

/// The same event, sent again.
fn repeat(delivery: &Delivery, n: usize, round: u128) -> Delivery {
    Delivery {
        id: Uuid::from_u128(delivery.id.as_u128() + (round << 96) + ((n as u128) << 64)),
        ..delivery.clone()
    }
}

/// Leaves the command; `false`: there is no alert that it could be about.
fn submit(bench: &mut Simulator, order: &Order, at_s: i64) -> bool {
    let asks: Vec<CommandKind> = match &order.what {
        OrderKind::Acknowledge(whom) => meant(bench, whom)
            .into_iter()
            .map(|alert_id| CommandKind::Acknowledge { alert_id })
            .collect(),
        OrderKind::Resolve(whom) => meant(bench, whom)
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
    for ask in &asks {
        let command = Command {
            ask: ask.clone(),
            by: order.by.clone(),
            via: "cli".to_owned(),
            at_s,
        };
        bench.submit(serde_json::to_string(&command).unwrap_or_default());
    }
    !asks.is_empty()
}

/// The alerts that people would press a button of: a group stands for its members.
fn meant(bench: &Simulator, whom: &SubjectMatch) -> Vec<String> {
    let fits = |alert: &&Alert| {
        let is_told = alert.part_of.is_none() || !whom.is_all();
        whom.fits(&alert.rule, &alert.subject, alert.account()) && is_told
    };
    let mut ids: Vec<String> = bench
        .alerts()
        .filter(fits)
        .map(|alert| alert.id.clone())
        .collect();
    ids.sort_unstable();
    ids
}

/// Whether it is as wanted; if not, how it is.
fn judge(bench: &Simulator, want: &Want) -> Result<(), String> {
    let is_open = |view: &&View| {
        matches!(
            view.stage,
            Stage::Pending | Stage::Firing | Stage::Acknowledged
        )
    };
    let views = bench.views();
    match want {
        Want::Quiet(rules) => {
            let meant = |view: &&View| {
                rules
                    .as_ref()
                    .is_none_or(|rules| rules.contains(&view.key.rule))
            };
            let loud: Vec<View> = views
                .iter()
                .filter(is_open)
                .filter(meant)
                .cloned()
                .collect();
            if loud.is_empty() {
                Ok(())
            } else {
                Err(tell_views(&loud))
            }
        }
        Want::Expect(Expect {
            whom,
            stage,
            count,
            notified,
            notices,
            says,
        }) => {
            let fits = |view: &&View| {
                whom.fits(&view.key.rule, &view.key.subject, view.account.as_deref())
            };
            let views: Vec<View> = views.iter().filter(fits).cloned().collect();
            let said = || {
                bench
                    .log()
                    .iter()
                    .filter(|l| whom.fits(&l.rule, &l.subject, l.account.as_deref()))
                    .rev()
            };
            let in_stage = views
                .iter()
                .filter(|view| Some(view.stage) == *stage)
                .count();
            let stage_fits = match (stage, count) {
                (None, _) => true,
                (Some(_), Some(count)) => in_stage == *count,
                (Some(Stage::Inactive), None) if views.is_empty() => true,
                (Some(_), None) => in_stage == views.len() && !views.is_empty(),
            };
            let now_told = said()
                .filter(|line| line.is_new && line.notice.is_none())
                .count();
            let now_noticed = said()
                .filter(|line| line.is_new && line.notice.is_some())
                .count();
            let last = said().next();
            let says_fit = says
                .as_ref()
                .is_none_or(|text| last.is_some_and(|l| l.text.contains(text.as_str())));
            let all = stage_fits
                && notified.is_none_or(|n| n == now_told)
                && notices.is_none_or(|n| n == now_noticed);
            if all && says_fit {
                return Ok(());
            }
            let mut seen = format!(
                "{}; notified {now_told}, notices {now_noticed}",
                tell_views(&views)
            );
            if let Some(line) = last.filter(|_| !says_fit) {
                seen.push_str(&format!("; says {:?}", line.text));
            }
            Err(seen)
        }
    }
}

/// What every one is up to; many of one rule and stage as a number.
fn tell_views(views: &[View]) -> String {
    const NAMED: usize = 5;
    let mut by_stage: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for view in views {
        let subject = view.key.subject.to_string();
        by_stage
            .entry((&view.key.rule, view.stage.as_str()))
            .or_default()
            .push(subject);
    }
    let parts: Vec<String> = by_stage
        .into_iter()
        .map(|((rule, stage), subjects)| {
            let named: Vec<_> = subjects
                .iter()
                .filter(|s| !s.is_empty())
                .take(NAMED)
                .map(String::as_str)
                .collect();
            match (named.as_slice(), subjects.len()) {
                ([], _) => format!("{rule} {stage}"),
                (named, n) if n > named.len() => {
                    format!("{rule} {n} × {stage} ({}, …)", named.join(", "))
                }
                (named, _) => format!("{rule} {stage} ({})", named.join(", ")),
            }
        })
        .collect();
    if parts.is_empty() {
        "inactive".to_owned()
    } else {
        parts.join(", ")
    }
}

/// Where another variant differs from the plain one.
fn compare(script: &Scenario, plain: &Played, other: &Played, variant: Variant) -> Option<Failure> {
    let (told, told_there) = (lines(&plain.log), lines(&other.log));
    let fail = |at_s, expected, seen| {
        let logs = Some((told.clone(), told_there.clone()));
        let seen = format!("when {}: {seen}", variant.words());
        Some(Failure {
            place: script.place.clone(),
            at_s,
            expected,
            seen,
            logs,
        })
    };
    // Of a replay only the end is seen.
    let same = plain
        .seen
        .iter()
        .skip(plain.seen.len().saturating_sub(other.seen.len()));
    for ((at_s, views), (_, views_there)) in same.zip(&other.seen) {
        if views != views_there {
            return fail(
                *at_s,
                format!("as plainly: {}", tell_views(views)),
                tell_views(views_there),
            );
        }
    }
    let first =
        (0..told.len().max(told_there.len())).find(|n| told.get(*n) != told_there.get(*n))?;
    let line = |of: &[String]| {
        of.get(first)
            .cloned()
            .unwrap_or_else(|| "nothing more is told".to_owned())
    };
    let at_s = plain
        .log
        .get(first)
        .or(other.log.get(first))
        .map_or(script.start_s, |line| line.at_s);
    fail(
        at_s,
        format!("as plainly: {}", line(&told)),
        line(&told_there),
    )
}

/// What was told, a line for each message.
fn lines(log: &[SentMessage]) -> Vec<String> {
    let line = |line: &SentMessage| {
        let how = if line.is_new { "" } else { "(changed) " };
        let subject = line.subject.to_string();
        let about = if subject.is_empty() {
            String::new()
        } else {
            format!(" ({subject})")
        };
        format!("{} {how}{}{about}", moment_text(line.at_s), line.headline)
    };
    log.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use revwatch_alerting::policy::Capabilities;
    use revwatch_alerting::rule_text;
    use revwatch_runtime::config::Config;

    use super::*;
    use crate::simulation::scenario_file::{FileSource, parse};
    use crate::simulation::simulator::NOTIFIER;

    struct Nothing;

    impl FileSource for Nothing {
        fn rules(&self, path: &str) -> Result<Vec<rule_text::NamedText>, String> {
            Err(path.to_owned())
        }

        fn events(&self, path: &str) -> Result<String, String> {
            Err(path.to_owned())
        }
    }

    fn policy() -> Policy {
        let config = Config::load(None, &|_| None).expect("the defaults");
        let habits = Capabilities {
            edits: true,
            resolves: true,
        };
        Policy::new(&config.alerting, vec![(NOTIFIER.into(), habits)]).expect("valid")
    }

    fn verdict(steps: &str) -> Verdict {
        let rules = rule_text::built_in().expect("valid");
        let text = format!("[[test]]\nname = \"t\"\nonly = [\"payout_failure_rate\"]\n{steps}");
        let scripts = parse(&("t.toml".into(), text), &rules, &Nothing).expect("valid");
        play(&scripts[0], &policy()).expect("played")
    }

    /// Time is skipped where nothing can change; whoever looks every minute sees the same.
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
            for script in parse(&(path, text), &rules, &Nothing).expect("valid") {
                let (plain, _) = run(&script, &policy(), Variant::Plain).expect("played");
                let mut bench = bench(&script, &policy(), Variant::Plain).expect("a bench");
                let mut dense = Played {
                    seen: Vec::new(),
                    log: Vec::new(),
                    failures: Vec::new(),
                };
                let mut now_s = script.start_s;
                for (at_s, moment) in &script.moments {
                    while now_s < *at_s {
                        bench.tick(now_s).expect("ticked");
                        now_s += 60;
                    }
                    bench.run_to(*at_s).expect("run");
                    happen(&mut bench, moment, *at_s, Variant::Plain, &mut dense).expect("played");
                    dense.seen.push((*at_s, bench.views()));
                }
                dense.log = bench.log().to_vec();
                assert_eq!(dense.seen, plain.seen, "{}", script.name);
                assert_eq!(lines(&dense.log), lines(&plain.log), "{}", script.name);
                sent += plain.log.len();
            }
        }
        assert!(sent > 50, "only {sent} messages");
    }

    #[test]
    fn what_is_not_as_expected_is_said_with_time_and_place() {
        let verdict = verdict(
            "[[test.step]]\nat = \"+1h\"\nsend = { event = \"payout.failed\", count = 20 }\n\
             expect = [{ rule = \"payout_failure_rate\", state = \"inactive\" },\n\
             { rule = \"payout_failure_rate\", notified = 1 }]\nexpect_none = true\n",
        );
        let said: Vec<_> = verdict
            .failures
            .iter()
            .map(|f| (f.place.as_str(), f.seen.as_str()))
            .collect();
        assert_eq!(
            said,
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
    fn an_event_that_cannot_be_applied_and_a_command_about_nothing_fail() {
        let verdict = verdict(
            "[[test.step]]\nat = \"+1h\"\nsend = { event = \"payout.failed\", object = { amount = true } }\n\
             command = { acknowledge = { rule = \"past_due_share\" } }\n",
        );
        let said: Vec<_> = verdict
            .failures
            .iter()
            .map(|f| f.expected.as_str())
            .collect();
        assert_eq!(
            said,
            ["payout.failed evt_1 can be applied", "an alert to take"]
        );
    }

    #[test]
    fn a_variant_that_tells_something_else_fails() {
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
        let script = Scenario {
            name: "t".into(),
            place: "t.toml:1:1".into(),
            start_s: 0,
            tick_s: 300,
            rules: Vec::new(),
            missing: Vec::new(),
            moments: BTreeMap::new(),
        };
        let (one, two) = (played(vec![line("a")]), played(vec![line("a"), line("b")]));
        assert!(compare(&script, &one, &one, Variant::Doubled).is_none());
        let failure = compare(&script, &one, &two, Variant::Doubled).expect("a difference");
        assert_eq!(failure.expected, "as plainly: nothing more is told");
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
