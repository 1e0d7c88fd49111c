use std::collections::BTreeMap;

use fastrand::Rng;
use revwatch_core::bucket::{Bucket, Buckets, hour_of};
use revwatch_core::class::{Class, Owner};
use revwatch_core::counters::{Counters, Tally};
use revwatch_core::realm::Realm;

use crate::alert::Point;
use crate::metric_evaluation::{Evaluation, evaluate, trend};
use crate::metric_value::{MetricInputs, MetricQuery, PipelineStatus};
use crate::rule::{MetricRule, RuleKind};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3600;

/// 12:34:05 of some day.
const NOW_S: i64 = 20_000 * 24 * HOUR_S + 12 * HOUR_S + 34 * MINUTE_S + 5;

fn rule(fields: &str) -> MetricRule {
    let head = "name = \"r\"\nseverity = \"high\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]";
    let text = format!("[[rule]]\n{head}\n{fields}\n");
    let rules = crate::rule_text::parse(&[("test".into(), text)]).expect("valid");
    match rules.into_iter().next().expect("one").kind {
        RuleKind::Metric(rule) => *rule,
        RuleKind::Condition { .. } => panic!("a metric"),
    }
}

/// What entities contribute that did this at these times.
fn counters(parts: &[&str], times: &[(i64, i64)]) -> Counters {
    let mut tally = Tally::of(Class {
        realm: Realm::main(),
        owner: Owner::Platform,
    });
    for (at_s, by) in times {
        tally.add(Bucket::minute_of(*at_s), parts, *by);
    }
    let mut counters = Counters::from(&tally);
    counters.add(Bucket::Current, &["events", "applied"], 1);
    counters
}

/// Those that an evaluator reads for the rule.
fn read(counters: &Counters, rule: &MetricRule, now_s: i64) -> Counters {
    let now = hour_of(now_s);
    let ages = rule.measure.ages_of_minutes();
    let buckets = Buckets {
        hours: now.saturating_sub(rule.measure.hours_needed())..=now,
        minutes_of: ages.iter().map(|age| now.saturating_sub(*age)).collect(),
    };
    let mut read = Counters::default();
    let needed = counters
        .iter()
        .filter(|(bucket, ..)| buckets.contains(*bucket));
    needed.for_each(|(bucket, name, n)| read.add_named(bucket, name.to_owned(), n));
    read
}

fn inputs(counters: &Counters, now_s: i64) -> MetricInputs<'_> {
    static PIPELINE: PipelineStatus = PipelineStatus {
        queue_depth: None,
        dead_letters: None,
        parked: None,
        stalled_s: 0,
        broken_notifiers: BTreeMap::new(),
    };
    MetricInputs {
        counters,
        pipeline: &PIPELINE,
        begun_s: None,
        now_s,
    }
}

/// The value of a rule without segments, or of one segment.
fn value(rule: &MetricRule, counters: &Counters, now_s: i64, segment: &str) -> Option<f64> {
    let counters = read(counters, rule, now_s);
    let figures = counters.of(&rule.scope);
    let query = MetricQuery::new(inputs(&counters, now_s), &figures, rule.by.as_deref());
    rule.measure.samples(query).remove(segment)?.value
}

fn created_in(window: &str) -> MetricRule {
    rule(&format!(
        "kind = \"count\"\nmetric = \"accounts_created\"\nwindow = \"{window}\"\nabove = 10"
    ))
}

#[test]
fn a_window_is_never_shorter_than_it_says_and_at_most_a_minute_longer() {
    let created = ["cohort", "account_created", "PT"];
    for (window, length_s) in [("1h", HOUR_S), ("24h", 24 * HOUR_S), ("48h", 48 * HOUR_S)] {
        let rule = created_in(window);
        let minute_s = NOW_S / MINUTE_S * MINUTE_S;
        for (at_s, expected) in [
            (NOW_S, 1.0),
            (NOW_S - length_s, 1.0),
            (minute_s - length_s, 1.0),
            (minute_s - length_s - 1, 0.0),
        ] {
            let counters = counters(&created, &[(at_s, 1)]);
            let counted = value(&rule, &counters, NOW_S, "");
            assert_eq!(counted, Some(expected), "{window}, {} s ago", NOW_S - at_s);
        }
        // The second in which a minute begins has exactly the window behind it.
        let counters = counters(&created, &[(minute_s - length_s, 1)]);
        assert_eq!(value(&rule, &counters, minute_s, ""), Some(1.0), "{window}");
        let later = minute_s + MINUTE_S;
        assert_eq!(value(&rule, &counters, later, ""), Some(0.0), "{window}");
    }
}

/// C1.
#[test]
fn six_accounts_and_five_two_hours_later_are_not_eleven_in_an_hour() {
    let day_s = 20_000 * 24 * HOUR_S;
    let (first_s, then_s) = (day_s + MINUTE_S, day_s + HOUR_S + 59 * MINUTE_S);
    let created = ["cohort", "account_created", "PT"];
    let counters = counters(&created, &[(first_s, 6), (then_s, 5)]);
    let rule = created_in("1h");
    assert_eq!(value(&rule, &counters, first_s, ""), Some(6.0));
    assert_eq!(value(&rule, &counters, then_s, ""), Some(5.0));
}

#[test]
fn a_longer_window_and_a_counter_without_minutes_end_on_hours() {
    let hour_s = NOW_S / HOUR_S * HOUR_S;
    let created = ["cohort", "account_created", "PT"];
    let long = created_in("49h");
    let lost = rule("kind = \"count\"\nmetric = \"subscribers_lost\"\nwindow = \"1h\"\nabove = 1");
    for (rule, parts, hours) in [(&long, &created[..], 49), (&lost, &["churn", "lost"], 1)] {
        for (at_s, expected) in [
            (hour_s - hours * HOUR_S, Some(1.0)),
            (hour_s - hours * HOUR_S - 1, Some(0.0)),
        ] {
            let counters = counters(parts, &[(at_s, 1)]);
            assert_eq!(value(rule, &counters, NOW_S, ""), expected, "{parts:?}");
        }
    }
}

#[test]
fn nothing_is_absent_after_exactly_its_window() {
    let rule = rule(
        "kind = \"absence\"\nmetric = \"payouts_paid\"\nwindow = \"1h\"\nowner = \"platform\"",
    );
    let paid_s = NOW_S / MINUTE_S * MINUTE_S;
    let counters = counters(&["payouts", "paid", "usd"], &[(paid_s, 1)]);
    for (after_s, is_absent) in [(0, false), (HOUR_S, false), (HOUR_S + MINUTE_S, true)] {
        let now_s = paid_s + after_s;
        let counters = read(&counters, &rule, now_s);
        let found = evaluate(&rule, inputs(&counters, now_s), []);
        let breached = matches!(found.get(""), Some(Evaluation::Breached { .. }));
        assert_eq!(breached, is_absent, "after {after_s} s");
    }
}

/// The level before the first of the minutes, however far away the end of their hour is.
#[test]
fn a_fall_looks_back_its_complete_window() {
    let rule =
        rule("kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.2");
    let minute_s = NOW_S / MINUTE_S * MINUTE_S;
    for (fell_s, expected) in [
        (minute_s - 24 * HOUR_S - 1, 0.0),
        (minute_s - 24 * HOUR_S, 0.5),
        (NOW_S, 0.5),
    ] {
        let mut counters = counters(&["mrr_change", "usd"], &[(fell_s, -500)]);
        counters.add(Bucket::Current, &["mrr", "usd"], 500);
        assert_eq!(value(&rule, &counters, NOW_S, "usd"), Some(expected));
    }
    // By hours it is the complete first hour, too.
    let rule = self::rule(
        "kind = \"drop\"\nmetric = \"paying\"\nwindow = \"24h\"\nabsolute = true\nabove = 1",
    );
    let hour_s = NOW_S / HOUR_S * HOUR_S;
    for (fell_s, expected) in [(hour_s - 24 * HOUR_S - 1, 0.0), (hour_s - 24 * HOUR_S, 5.0)] {
        let mut counters = counters(&["base", "paying"], &[(fell_s, -5)]);
        counters.add(Bucket::Current, &["base", "paying"], 5);
        assert_eq!(value(&rule, &counters, NOW_S, ""), Some(expected));
    }
}

/// Each of random failures is counted as if all were listed, with what an evaluator reads.
#[test]
fn a_sliding_window_counts_what_is_in_it() {
    let mut rng = Rng::with_seed(11);
    for round in 0..60 {
        let now_s = NOW_S + rng.i64(0..2 * HOUR_S);
        let (hours, delay) = (rng.i64(1..=30), rng.i64(0..=24));
        let rule = rule(&format!(
            "kind = \"count\"\nmetric = \"payments_failed\"\nwindow = \"{hours}h\"\ndelay = \"{delay}h\"\nabove = 1"
        ));
        let times: Vec<(i64, i64)> = (0..300)
            .map(|_| (now_s - rng.i64(0..110 * HOUR_S), rng.i64(1..4)))
            .collect();
        let counters = counters(&["payments", "failed", "usd"], &times);
        let counters = read(&counters, &rule, now_s);
        let points = trend(&rule, inputs(&counters, now_s), "");
        for Point { at_s, value } in points {
            let until_s = at_s - delay * HOUR_S;
            let from_s = until_s - hours * HOUR_S;
            let unit_s = match now_s - from_s <= 48 * HOUR_S {
                true => MINUTE_S,
                false => HOUR_S,
            };
            let units = from_s / unit_s..=until_s / unit_s;
            let is_in = |(at_s, _): &&(i64, i64)| units.contains(&(at_s / unit_s));
            let direct: i64 = times.iter().filter(is_in).map(|(_, by)| by).sum();
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let direct = Some(direct as f64);
            assert_eq!(
                value, direct,
                "round {round}: {hours} h, {delay} h ago, at {at_s}"
            );
        }
    }
}

#[test]
fn few_hours_of_minutes_are_read() {
    let ages =
        |fields: &str| -> Vec<u32> { rule(fields).measure.ages_of_minutes().into_iter().collect() };
    let of = |window: &str| {
        ages(&format!(
            "kind = \"count\"\nmetric = \"deauthorizations\"\nwindow = \"{window}\"\nabove = 1"
        ))
    };
    assert_eq!(of("1h"), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(of("24h"), [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44]);
    assert_eq!(of("48h"), [0, 48]);
    assert!(of("49h").is_empty());
    let of_kind = BTreeMap::from([
        ("kind = \"ratio\"\nmetric = \"payout_failures\"", 12),
        ("kind = \"ratio\"\nmetric = \"onboarding_conversion\"", 0),
        ("kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"", 12),
        ("kind = \"drop\"\nmetric = \"active_base\"", 0),
        ("kind = \"absence\"\nmetric = \"payouts_paid\"", 12),
        ("kind = \"absence\"\nmetric = \"events\"", 0),
    ]);
    for (fields, expected) in of_kind {
        let threshold = if fields.contains("absence") {
            ""
        } else {
            "above = 0.5\n"
        };
        let found = ages(&format!("{fields}\nwindow = \"24h\"\n{threshold}"));
        assert_eq!(found.len(), expected, "{fields}");
    }
}
