//! Evaluates rules on metric values. Pure: inputs in, evaluations out.

// What a sender sends must neither panic nor wrap; see `revwatch_core`.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;

use revwatch_core::amounts::Amounts;

use crate::alert::{Evidence, MetricValue, Point};
use crate::metric_value::{MetricInputs, MetricQuery, Sample};
use crate::rule::{MetricRule, NoData, POINTS, Verdict};

/// The result of evaluating a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluation {
    /// The threshold is breached, since this Unix second.
    Breached {
        /// Unix seconds.
        since_s: i64,
        /// The evidence to show.
        evidence: Evidence,
    },
    /// Between `limit` and `clear` (hysteresis): a firing alert keeps firing.
    Between,
    /// Good.
    Clear {
        /// The evidence to show if this resolves an alert; `None`: the previous one.
        evidence: Option<Evidence>,
    },
    /// There is too little data.
    Unknown,
}

/// Evaluates a rule on each segment of the business; segments in `watched` are evaluated even if
/// there is no data for them. Without segments the business has the empty name.
pub fn evaluate(
    rule: &MetricRule,
    inputs: MetricInputs<'_>,
    watched: impl IntoIterator<Item = String>,
) -> BTreeMap<String, Evaluation> {
    let figures = inputs.counters.of(&rule.scope);
    let query = MetricQuery::new(inputs, &figures, rule.by.as_deref());
    let mut found = rule.measure.samples(query);
    let business = rule.by.is_none().then(String::new);
    for segment in watched.into_iter().chain(business) {
        found
            .entry(segment)
            .or_insert_with(|| rule.measure.missing());
    }
    found
        .into_iter()
        .map(|(segment, sample)| (segment, evaluate_sample(rule, query, &sample)))
        .collect()
}

/// The recent values of one segment: six points, the last one is now.
pub fn trend(rule: &MetricRule, inputs: MetricInputs<'_>, segment: &str) -> Vec<Point> {
    let Some(step_hours) = rule.measure.history().trend_step_hours else {
        return Vec::new();
    };
    let figures = inputs.counters.of(&rule.scope);
    let query = MetricQuery::new(inputs, &figures, rule.by.as_deref());
    let step_s = i64::from(step_hours).saturating_mul(3600);
    let point = |back: u32| {
        let before_s = i64::from(back).saturating_mul(step_s);
        let at_s = inputs.now_s.saturating_sub(before_s);
        let sample = rule.measure.samples(query.at(at_s)).remove(segment);
        let known = sample.filter(|sample| sample.samples >= rule.threshold.min_samples);
        Point {
            at_s,
            value: known.and_then(|sample| sample.value),
        }
    };
    (0..POINTS).rev().map(point).collect()
}

fn evaluate_sample(rule: &MetricRule, query: MetricQuery<'_>, sample: &Sample) -> Evaluation {
    let breached = |since_s| Evaluation::Breached {
        since_s,
        evidence: evidence(rule, sample),
    };
    match (rule.threshold.compare(sample), rule.no_data) {
        (verdict @ (Verdict::Breached | Verdict::Between), _) => rule
            .measure
            .breached_since(verdict, &rule.threshold, query)
            .map_or(Evaluation::Between, breached),
        (Verdict::Clear, _) => Evaluation::Clear {
            evidence: Some(evidence(rule, sample)),
        },
        (Verdict::NoData, NoData::Breach) => Evaluation::Breached {
            since_s: query.inputs.now_s,
            evidence: missing_data(rule, sample),
        },
        (Verdict::NoData, NoData::Clear) => Evaluation::Clear { evidence: None },
        (Verdict::NoData, NoData::Unknown) | (Verdict::Unknown, _) => Evaluation::Unknown,
    }
}

/// What a value of too few samples is does not matter: that there are too few does.
fn missing_data(rule: &MetricRule, sample: &Sample) -> Evidence {
    let needed = rule.threshold.min_samples;
    let detail = match sample.samples {
        few @ 1.. if few < needed => format!("data is missing: {few} of {needed} samples"),
        _ => "data is missing".to_owned(),
    };
    Evidence {
        detail: Some(detail),
        ..Evidence::default()
    }
}

fn evidence(rule: &MetricRule, sample: &Sample) -> Evidence {
    let threshold = &rule.threshold;
    let metric_value = sample.value.map(|value| MetricValue {
        value,
        threshold: threshold.limit,
        side: threshold.side,
        unit: rule.measure.unit(),
        range: sample.range.map(|(low, high)| (finite(low), finite(high))),
        parts: sample.parts,
        parts_high: sample.parts_high,
        are_parts_money: rule.measure.is_money() && sample.parts.is_some(),
    });
    let Amounts { money, doubt } = sample.money.clone();
    Evidence {
        metric_value,
        money,
        money_doubt: doubt,
        detail: sample.reason.clone(),
        ..Evidence::default()
    }
}

fn finite(value: f64) -> Option<f64> {
    Some(value).filter(|value| value.is_finite())
}

#[cfg(test)]
mod money_tests;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use revwatch_core::counters::{Bucket, Counters};

    use super::*;
    use crate::metric_value::PipelineStatus;
    use crate::rule::{Rule, RuleKind};

    const DAY_S: i64 = 86_400;

    /// A rule of this kind and these fields.
    pub(super) fn rule(fields: &str) -> MetricRule {
        let text = format!(
            "[[rule]]\nname = \"r\"\nseverity = \"high\"\nroute = \"x\"\ntitle = \"t\"\nactions = [\"a\"]\n{fields}\n"
        );
        let rules: Vec<Rule> = crate::rule_text::parse(&[("test".into(), text)]).expect("valid");
        match rules.into_iter().next().expect("one").kind {
            RuleKind::Metric(rule) => *rule,
            RuleKind::Condition { .. } => panic!("a metric"),
        }
    }

    /// Counts in a minute and in its hour.
    pub(super) fn count(counters: &mut Counters, at_s: i64, parts: &[&str], n: i64) {
        counters.add(Bucket::minute_of(at_s), parts, n);
        counters.add(Bucket::hour_of(at_s), parts, n);
    }

    fn outcome_name(evaluation: Option<&Evaluation>) -> &'static str {
        match evaluation {
            None => "none",
            Some(Evaluation::Breached { .. }) => "breached",
            Some(Evaluation::Between) => "between",
            Some(Evaluation::Clear { .. }) => "clear",
            Some(Evaluation::Unknown) => "unknown",
        }
    }

    fn outcome_of(rule: &MetricRule, counters: &Counters, now_s: i64, part: &str) -> &'static str {
        let inputs = MetricInputs {
            begun_s: None,
            counters,
            pipeline: &PipelineStatus::default(),
            now_s,
        };
        outcome_name(evaluate(rule, inputs, []).get(part))
    }

    #[test]
    fn a_ratio_needs_samples_and_is_strictly_above() {
        let rule = rule(
            "kind = \"ratio\"\nmetric = \"payout_failures\"\nwindow = \"24h\"\nabove = 0.05\nclear_below = 0.04\n\
             min_denominator = 20",
        );
        for (failed, paid, expected) in [
            (0, 0, "unknown"),
            (19, 0, "unknown"),
            (20, 0, "breached"),
            (1, 19, "between"),
            (2, 18, "breached"),
            (5, 95, "between"),
            (51, 949, "breached"),
            (4, 96, "clear"),
            (0, 20, "clear"),
        ] {
            let mut counters = Counters::default();
            let mut add = |parts: &[&str], n| count(&mut counters, 100 * 3600, parts, n);
            add(&["main/connected:payouts", "failed", "usd"], failed);
            add(&["main/connected:payouts", "paid", "usd"], paid);
            add(
                &["main/connected:payouts_minor", "failed", "usd"],
                failed * 10,
            );
            assert_eq!(
                outcome_of(&rule, &counters, 100 * 3600, ""),
                expected,
                "{failed} failed, {paid} paid"
            );
        }
    }

    #[test]
    fn segments_are_evaluated_separately_and_watched_ones_even_without_data() {
        let rule = rule(
            "kind = \"ratio\"\nmetric = \"payout_failures\"\nby = \"currency\"\nwindow = \"1h\"\nabove = 0.5\nno_data = \"clear\"",
        );
        let mut counters = Counters::default();
        let mut add = |parts: &[&str]| count(&mut counters, 100 * 3600, parts, 1);
        add(&["main/connected:payouts", "failed", "usd"]);
        add(&["main/connected:payouts", "paid", "eur"]);
        let inputs = MetricInputs {
            begun_s: None,
            counters: &counters,
            pipeline: &PipelineStatus::default(),
            now_s: 100 * 3600,
        };
        let found = evaluate(&rule, inputs, ["brl".to_owned()]);
        let words: Vec<_> = found
            .iter()
            .map(|(part, evaluation)| (part.as_str(), outcome_name(Some(evaluation))))
            .collect();
        assert_eq!(
            words,
            [("brl", "clear"), ("eur", "clear"), ("usd", "breached")]
        );
    }

    #[test]
    fn counts_gauges_falls_durations_and_absence() {
        let now_s = 1000 * 3600 + 60;
        let at = |back: u32| Bucket::Hour(1000 - back);
        let ago_s = |hours: i64| now_s - hours * 3600;
        let mut c = Counters::default();
        c.add(Bucket::Current, &["events", "applied"], 9);
        c.add(at(0), &["events", "created"], 9);
        count(&mut c, ago_s(0), &["cohort", "account_created", "BR"], 6);
        count(&mut c, ago_s(1), &["cohort", "account_created", "PT"], 5);
        count(&mut c, ago_s(2), &["cohort", "account_created", "PT"], 50);
        count(&mut c, ago_s(30), &["deauthorized"], 2);
        count(&mut c, ago_s(3), &["deauthorized"], 2);
        c.add(Bucket::Current, &["mrr", "usd"], 800);
        count(&mut c, ago_s(3), &["mrr_change", "usd"], -200);
        c.add(Bucket::Current, &["mrr", "eur"], 799);
        count(&mut c, ago_s(24), &["mrr_change", "eur"], -999);
        count(&mut c, ago_s(3), &["mrr_change", "eur"], -201);
        count(&mut c, ago_s(5), &["mrr_change", "jpy"], -7);
        c.add(Bucket::Current, &["accounts_charging"], 9);
        c.add(at(100), &["charging_change"], -1);
        c.add(Bucket::Current, &["invoices_retrying"], 100);
        c.add(at(0), &["events", "processing", "5000"], 99);
        c.add(at(0), &["events", "processing", "10000"], 2);
        c.add(at(9), &["onboarded", "count"], 2);
        c.add(at(9), &["onboarded", "seconds"], 2 * 48 * 3600 + 2);
        for (fields, part, expected) in [
            (
                "kind = \"count\"\nmetric = \"accounts_created\"\nwindow = \"1h\"\nabove = 10",
                "",
                "breached",
            ),
            (
                "kind = \"count\"\nmetric = \"accounts_created\"\nwindow = \"1h\"\nabove = 11",
                "",
                "clear",
            ),
            (
                "kind = \"count\"\nmetric = \"accounts_created\"\nby = \"country\"\nwindow = \"1h\"\nabove = 5",
                "BR",
                "breached",
            ),
            (
                "kind = \"count\"\nmetric = \"accounts_created\"\nby = \"country\"\nwindow = \"1h\"\nabove = 5",
                "PT",
                "clear",
            ),
            (
                "kind = \"count\"\nmetric = \"deauthorizations\"\nwindow = \"24h\"\nabove = 1",
                "",
                "breached",
            ),
            (
                "kind = \"count\"\nmetric = \"deauthorizations\"\nwindow = \"24h\"\nabove = 2",
                "",
                "clear",
            ),
            (
                "kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.2",
                "usd",
                "clear",
            ),
            (
                "kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.2",
                "eur",
                "breached",
            ),
            (
                "kind = \"drop\"\nmetric = \"mrr\"\nby = \"currency\"\nwindow = \"24h\"\nabove = 0.2",
                "jpy",
                "breached",
            ),
            (
                "kind = \"drop\"\nmetric = \"accounts_charging\"\nwindow = \"168h\"\nabsolute = true\nabove = 0",
                "",
                "breached",
            ),
            (
                "kind = \"drop\"\nmetric = \"accounts_charging\"\nwindow = \"24h\"\nabsolute = true\nabove = 0",
                "",
                "clear",
            ),
            (
                "kind = \"gauge\"\nmetric = \"retry_queue\"\nabove = 100",
                "",
                "clear",
            ),
            (
                "kind = \"gauge\"\nmetric = \"retry_queue\"\nabove = 99",
                "",
                "breached",
            ),
            (
                "kind = \"gauge\"\nmetric = \"queue_depth\"\nabove = 99",
                "",
                "unknown",
            ),
            (
                "kind = \"gauge\"\nmetric = \"mrr\"\nby = \"currency\"\nbelow = 800",
                "eur",
                "breached",
            ),
            (
                "kind = \"gauge\"\nmetric = \"mrr\"\nby = \"currency\"\nbelow = 800",
                "usd",
                "clear",
            ),
            (
                "kind = \"percentile\"\nmetric = \"processing_seconds\"\npercentile = 99\nwindow = \"1h\"\nabove = 5",
                "",
                "breached",
            ),
            (
                "kind = \"percentile\"\nmetric = \"processing_seconds\"\npercentile = 95\nwindow = \"1h\"\nabove = 5",
                "",
                "clear",
            ),
            (
                "kind = \"percentile\"\nmetric = \"onboarding_seconds\"\npercentile = \"mean\"\nwindow = \"7d\"\nabove = 172800",
                "",
                "breached",
            ),
            (
                "kind = \"absence\"\nmetric = \"events\"\nwindow = \"24h\"",
                "",
                "clear",
            ),
            (
                "kind = \"absence\"\nmetric = \"payouts_paid\"\nwindow = \"24h\"",
                "",
                "breached",
            ),
        ] {
            assert_eq!(
                outcome_of(&rule(fields), &c, now_s, part),
                expected,
                "{fields} for {part:?}"
            );
        }
        let absence = rule("kind = \"absence\"\nmetric = \"events\"\nwindow = \"24h\"");
        assert_eq!(
            outcome_of(&absence, &Counters::default(), now_s, ""),
            "unknown",
            "before the first event"
        );
        let low = rule("kind = \"gauge\"\nmetric = \"accounts_charging\"\nbelow = 2");
        assert_eq!(
            outcome_of(&low, &Counters::default(), now_s, ""),
            "unknown",
            "before the first event"
        );
        let mut of_other_mode = Counters::default();
        of_other_mode.add(Bucket::Current, &["events", "other_mode"], 1);
        for rule in [&absence, &low] {
            let outcome = outcome_of(rule, &of_other_mode, now_s, "");
            assert_eq!(outcome, "unknown", "before the first event of its mode");
        }
        let mut none_charging = Counters::default();
        none_charging.add(Bucket::Current, &["events", "applied"], 1);
        assert_eq!(outcome_of(&low, &none_charging, now_s, ""), "breached");
        assert_eq!(outcome_of(&absence, &c, now_s + 26 * 3600, ""), "breached");
    }

    /// A new revwatch whose first deliveries are of old events: only after a window is anything missing.
    #[test]
    fn nothing_is_missing_in_the_time_before_revwatch_began() {
        let absence = rule("kind = \"absence\"\nmetric = \"events\"\nwindow = \"24h\"");
        let began_h: u32 = 1000;
        let mut old = Counters::default();
        old.add(Bucket::Current, &["events", "applied"], 1);
        old.add(Bucket::Hour(began_h - 100), &["events", "created"], 1);
        let mut new = old.clone();
        new.add(Bucket::Hour(began_h), &["events", "created"], 1);
        for (counters, hours, expected) in [
            (&old, 0, "unknown"),
            (&old, 24, "unknown"),
            (&old, 25, "breached"),
            (&new, 0, "clear"),
            (&new, 24, "clear"),
            (&new, 25, "breached"),
        ] {
            let inputs = MetricInputs {
                counters,
                pipeline: &PipelineStatus::default(),
                begun_s: Some(i64::from(began_h) * 3600 + 1800),
                now_s: i64::from(began_h + hours) * 3600,
            };
            let found = evaluate(&absence, inputs, []);
            assert_eq!(outcome_name(found.get("")), expected, "after {hours} hours");
        }
    }

    #[test]
    fn no_event_is_missing_while_old_ones_arrive() {
        let rule = rule("kind = \"absence\"\nmetric = \"events\"\nwindow = \"24h\"");
        let mut counters = Counters::default();
        counters.add(Bucket::Current, &["events", "applied"], 1);
        counters.add(Bucket::Hour(100), &["events", "created"], 1);
        counters.add(Bucket::Hour(200), &["events", "received"], 1);
        for (hour, expected) in [
            (125, "breached"),
            (200, "clear"),
            (224, "clear"),
            (225, "breached"),
        ] {
            let outcome = outcome_of(&rule, &counters, hour * 3600, "");
            assert_eq!(outcome, expected, "in hour {hour}");
        }
    }

    /// 100 subscriptions; `past_due` says how many were past due from which hour on.
    fn base(past_due: &[(i64, i64)]) -> Counters {
        let mut counters = Counters::default();
        counters.add(Bucket::Current, &["base", "all"], 100);
        counters.add(Bucket::Hour(0), &["base", "all"], 100);
        let mut level = 0;
        for (at_s, now) in past_due {
            counters.add(Bucket::hour_of(*at_s), &["base", "past_due"], now - level);
            level = *now;
        }
        counters.add(Bucket::Current, &["base", "past_due"], level);
        counters
    }

    fn days(counters: &Counters, zone: &str, now_s: i64) -> &'static str {
        let rule = rule(&format!(
            "kind = \"consecutive\"\nmetric = \"past_due_share\"\ndays = 2\ntime_zone = \"{zone}\"\nabove = 0.08\n\
             min_denominator = 10"
        ));
        outcome_of(&rule, counters, now_s, "")
    }

    #[test]
    fn fires_after_two_consecutive_closed_days() {
        let day = |n: i64| 20_000 * DAY_S + n * DAY_S;
        let noon = 12 * 3600;
        let high = base(&[(day(0) + noon, 9)]);
        assert_eq!(
            days(&high, "UTC", day(1) + noon),
            "between",
            "one closed day"
        );
        assert_eq!(
            days(&high, "UTC", day(2) - 1),
            "between",
            "the second is not closed"
        );
        assert_eq!(days(&high, "UTC", day(2)), "breached");
        assert_eq!(
            days(&base(&[(day(0), 8)]), "UTC", day(3)),
            "clear",
            "8 % is not above 8 %"
        );
        let dip = base(&[(day(0), 9), (day(1), 2), (day(2), 9)]);
        assert_eq!(
            days(&dip, "UTC", day(3)),
            "between",
            "the sequence is broken"
        );
        let recovered = base(&[(day(0), 9), (day(2) + noon, 3)]);
        assert_eq!(
            days(&recovered, "UTC", day(2) + noon),
            "clear",
            "resolved by now"
        );
        assert_eq!(days(&Counters::default(), "UTC", day(2)), "unknown");
    }

    #[test]
    fn days_are_calendar_days_where_clocks_change() {
        // Lisbon, 2026-10-25: clocks go back, the day has 25 hours and ends at 00:00 UTC on the
        // 26th.
        let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_second();
        let high = base(&[(at("2026-10-24T23:00:00Z"), 9)]);
        assert_eq!(
            days(&high, "Europe/Lisbon", at("2026-10-26T23:59:59Z")),
            "between"
        );
        assert_eq!(
            days(&high, "Europe/Lisbon", at("2026-10-27T00:00:00Z")),
            "breached"
        );
        let before = base(&[(at("2026-10-24T22:00:00Z"), 9)]);
        assert_eq!(
            days(&before, "Europe/Lisbon", at("2026-10-26T00:00:00Z")),
            "breached",
            "the 24th closed at 23:00 UTC"
        );
    }

    pub(super) fn evidence_of(rule: &MetricRule, counters: &Counters, part: &str) -> Evidence {
        let inputs = MetricInputs {
            begun_s: None,
            counters,
            pipeline: &PipelineStatus::default(),
            now_s: 100 * 3600,
        };
        match evaluate(rule, inputs, []).remove(part) {
            Some(Evaluation::Breached { evidence, .. }) => evidence,
            other => panic!("breached: {other:?}"),
        }
    }

    #[test]
    fn the_parts_of_a_drop_are_what_was_lost_and_what_there_was() {
        let mut counters = Counters::default();
        counters.add(Bucket::Current, &["events", "applied"], 1);
        counters.add(Bucket::Current, &["mrr", "usd"], 1500);
        counters.add(Bucket::Current, &["accounts_charging"], 3);
        count(&mut counters, 99 * 3600, &["mrr_change", "usd"], -500);
        count(&mut counters, 99 * 3600, &["charging_change"], -1);
        for (metric, part, parts, are_money) in [
            ("mrr\"\nby = \"currency", "usd", (500, 2000), true),
            ("accounts_charging", "", (1, 4), false),
        ] {
            let fields =
                format!("kind = \"drop\"\nmetric = \"{metric}\"\nwindow = \"24h\"\nabove = 0.2");
            let evidence = evidence_of(&rule(&fields), &counters, part);
            let shown = evidence.metric_value.expect("a value");
            assert_eq!(shown.parts, Some(parts), "{metric}");
            assert_eq!(shown.are_parts_money, are_money, "{metric}");
        }
    }

    #[test]
    fn an_alert_on_missing_data_says_that_and_shows_no_value() {
        let rule = rule(
            "kind = \"ratio\"\nmetric = \"payout_failures\"\nwindow = \"24h\"\nabove = 0.5\n\
             min_denominator = 20\nno_data = \"breach\"",
        );
        let mut counters = Counters::default();
        for (paid, expected) in [
            (0, "data is missing"),
            (4, "data is missing: 4 of 20 samples"),
        ] {
            let parts = ["main/connected:payouts", "paid", "usd"];
            count(&mut counters, 100 * 3600, &parts, paid);
            let evidence = evidence_of(&rule, &counters, "");
            assert_eq!(evidence.detail.as_deref(), Some(expected));
            assert_eq!(evidence.metric_value, None);
        }
    }

    #[test]
    fn the_last_point_of_a_trend_is_now() {
        let rule =
            rule("kind = \"ratio\"\nmetric = \"payout_failures\"\nwindow = \"24h\"\nabove = 0.05");
        let mut counters = Counters::default();
        let mut add = |hour: i64, outcome| {
            let parts = ["main/connected:payouts", outcome, "usd"];
            count(&mut counters, hour * 3600, &parts, 1);
        };
        add(1000, "failed");
        add(990, "paid");
        let inputs = MetricInputs {
            begun_s: None,
            counters: &counters,
            pipeline: &PipelineStatus::default(),
            now_s: 1000 * 3600,
        };
        let values: Vec<_> = trend(&rule, inputs, "")
            .into_iter()
            .map(|p| p.value)
            .collect();
        assert_eq!(values, [None, None, None, Some(0.0), Some(0.0), Some(0.5)]);
    }
}
