//! Whatever the order and the time in which the events of a subscription and an account arrive: once all are applied,
//! the same alerts fire, and they show the same.

use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_alerting::alert::Evidence;
use revwatch_alerting::policy::{Capabilities, Policy};
use revwatch_alerting::rule::{Rule, RuleKind};
use revwatch_alerting::rule_text;
use revwatch_core::event_settings::EventSettings;
use revwatch_runtime::config::Config;
use revwatch_storage::ports::Delivery;

use super::scenario_file::{FileSource, parse};
use super::simulator::{NOTIFIER, SimulationConfig, Simulator};

/// A rule test that stands alone.
pub(super) struct NoFiles;

impl FileSource for NoFiles {
    fn rules(&self, path: &str) -> Result<Vec<rule_text::NamedText>, String> {
        Err(path.to_owned())
    }

    fn events(&self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}

/// Rule and subject of an alert that fires, since when it does, and what it shows.
type Firing = BTreeMap<(String, String), (i64, Evidence)>;

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

/// No shipped rule is on this condition.
const MRR_INCOMPLETE: &str = r#"
[[rule]]
name = "mrr_incomplete"
kind = "condition"
condition = "mrr_incomplete"
severity = "low"
route = "billing"
title = "MRR is not known"
actions = ["See why."]
"#;

/// The shipped rules on conditions, and one on what is met from the store: what they evaluate does not depend on when
/// an event was applied.
fn rules() -> Vec<Rule> {
    let mut rules = rule_text::built_in().expect("valid");
    rules.retain(|rule| matches!(rule.kind, RuleKind::Condition { .. }));
    let own = ("own.toml".to_owned(), MRR_INCOMPLETE.to_owned());
    rules.extend(rule_text::parse(&[own]).expect("valid"));
    rules
}

fn policy() -> Policy {
    let config = Config::load(None, &|_| None).expect("the defaults");
    let capabilities = Capabilities {
        edits: true,
        resolves: true,
    };
    Policy::new(&config.alerting, vec![(NOTIFIER.into(), capabilities)]).expect("valid")
}

/// A change of the subscription or the account, in the words of a rule test.
fn random_event(rng: &mut Rng, hour: i64) -> String {
    let subscription =
        "event = \"customer.subscription.updated\", id = \"sub_1\", customer = \"cus_1\"";
    // The coupon of a discount never changes.
    let discount = rng.u8(1..4);
    let coupon = discount % 2;
    match rng.u8(0..9) {
        0 => format!("{subscription}, status = \"active\""),
        1 => format!("{subscription}, status = \"past_due\""),
        2 => {
            let end_h = hour + rng.i64(0..240);
            format!("{subscription}, status = \"trialing\", trial_end = \"+{end_h}h\"")
        }
        3 => format!(
            "{subscription}, status = \"active\", object = {{ discounts = [\"di_{discount}\"] }}"
        ),
        4 => format!(
            "event = \"customer.discount.created\", object = {{ id = \"di_{discount}\", subscription = \"sub_1\", coupon = \"C{coupon}\" }}"
        ),
        5 => format!(
            "event = \"coupon.created\", object = {{ id = \"C{coupon}\", percent_off = 10, duration = \"forever\" }}"
        ),
        6 | 7 => {
            let capability = rng.choice(["card_payments", "transfers"]).expect("one");
            let status = rng.choice(["active", "pending", "inactive"]).expect("one");
            format!(
                "event = \"capability.updated\", account = \"acct_1\", capability = \"{capability}\", status = \"{status}\""
            )
        }
        _ => {
            let due = rng.choice(["", "\"a\"", "\"a\", \"b\""]).expect("one");
            format!("event = \"account.updated\", account = \"acct_1\", currently_due = [{due}]")
        }
    }
}

/// Events of ten days, and when Stripe created each, in that order.
fn random_history(rng: &mut Rng, rules: &[Rule]) -> (i64, Vec<(i64, Delivery)>) {
    let mut text = "[[test]]\nname = \"t\"\n".to_owned();
    let mut hour = 0;
    while hour < 240 {
        let event = random_event(rng, hour);
        text += &format!("[[test.step]]\nat = \"+{hour}h\"\nsend = {{ {event} }}\n");
        hour += rng.i64(1..60);
    }
    let scenarios = parse(&("t.toml".into(), text), rules, &NoFiles).expect("valid");
    let moments = scenarios[0].moments.iter();
    let deliveries = moments.flat_map(|(at_s, moment)| {
        let arrivals = moment.arrivals.iter();
        arrivals.map(|arrival| (*at_s, arrival.delivery.clone()))
    });
    (scenarios[0].start_s, deliveries.collect())
}

/// Delivers each event at its time, and evaluates until `end_s`.
fn play(
    setting: SimulationConfig,
    start_s: i64,
    mut arrivals: Vec<(i64, Delivery)>,
    end_s: i64,
) -> Simulator {
    arrivals.sort_by_key(|(at_s, _)| *at_s);
    let mut simulator = Simulator::new(setting, start_s).expect("a simulator");
    simulator.tick(start_s).expect("a tick");
    for at_once in arrivals.chunk_by(|a, b| a.0 == b.0) {
        let at_s = at_once[0].0;
        let deliveries: Vec<_> = at_once.iter().map(|(_, it)| it.clone()).collect();
        simulator.run_to(at_s).expect("ticks");
        simulator.apply(&deliveries).expect("applied");
        simulator.tick(at_s).expect("a tick");
    }
    simulator.run_to(end_s).expect("ticks");
    simulator.tick(end_s).expect("a tick");
    simulator
}

fn firing(simulator: &Simulator) -> Firing {
    let alerts = simulator.alerts().filter(|alert| alert.group.is_none());
    alerts
        .map(|alert| {
            let key = (alert.rule.clone(), alert.subject.to_string());
            (key, (alert.since_s, alert.evidence.clone()))
        })
        .collect()
}

/// The last message of an alert that is over says so, and that of one that fires does not.
fn check_last_messages(simulator: &Simulator, seed: u64) {
    let ids = |alert: &revwatch_alerting::alert::Alert| alert.id.clone();
    let over: Vec<_> = simulator.resolved().map(ids).collect();
    let mut last = BTreeMap::new();
    for message in simulator.log().iter().filter(|it| it.notice.is_none()) {
        last.insert(&message.alert_id, &message.headline);
    }
    for (alert_id, headline) in last {
        let says_over = headline.contains("RESOLVED");
        assert_eq!(
            says_over,
            over.contains(alert_id),
            "seed {seed}: {headline}"
        );
    }
}

#[test]
fn in_whatever_order_events_arrive_the_same_alerts_fire_in_the_end() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    let setting = SimulationConfig {
        rules: rules(),
        policy: policy(),
        events: EventSettings::default(),
        restarts: false,
        tick_s: 300,
        spacing_s: 1,
    };
    let mut fired = 0;
    for seed in first..first + 100 {
        let mut rng = Rng::with_seed(seed);
        let (start_s, events) = random_history(&mut rng, &setting.rules);
        let end_s = start_s + 12 * DAY_S + rng.i64(0..3 * DAY_S);
        let in_order = play(setting.clone(), start_s, events.clone(), end_s);
        check_last_messages(&in_order, seed);
        let expected = firing(&in_order);
        fired += expected.len();
        for restarts in [false, true] {
            let late = |(at_s, delivery): &(i64, Delivery)| {
                let late_s = rng.i64(0..start_s + 11 * DAY_S - at_s);
                (at_s + late_s / HOUR_S * HOUR_S, delivery.clone())
            };
            let arrivals = events.iter().map(late).collect();
            let setting = SimulationConfig {
                restarts,
                ..setting.clone()
            };
            let late = play(setting, start_s, arrivals, end_s);
            check_last_messages(&late, seed);
            assert_eq!(firing(&late), expected, "seed {seed}");
        }
    }
    assert!(fired > 100, "alerts fire in the end: {fired}");
}
