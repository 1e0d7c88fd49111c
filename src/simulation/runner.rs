//! Runs a rule test in several variants, all of which must give the same result. Pure.
//!
//! Invariant: evaluator restarts, duplicate or reordered events and a replay of the complete
//! archive change neither alerts nor notifications. A test fails if a variant differs.

#[cfg(test)]
mod tests;

use anyhow::Context as _;
use jiff::Timestamp;
use revwatch_alerting::alert::{Alert, Command, CommandKind, Matcher, Silence};
use revwatch_alerting::policy::Policy;
use revwatch_core::event_settings::EventSettings;
use revwatch_storage::ports::Delivery;
use revwatch_worker::batch::Outcome;
use uuid::Uuid;

use super::expectation::{check_want, view_summary};
use super::scenario::{Arrival, Moment, Order, OrderKind, Scenario, SubjectMatch};
use super::simulator::{SentMessage, SimulationConfig, Simulator, View};

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
        for (Arrival { delivery, place }, outcome) in moment.arrivals.iter().zip(&outcomes) {
            if let Outcome::Dead(why) = outcome {
                let event = format!("{} {}", delivery.event_type, delivery.event_id);
                let expected = format!("{event} can be applied");
                played.fail(place.to_string(), at_s, expected, why.clone());
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
            ahead_until_s: None,
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
