//! Describes rules in words. Pure.

use revwatch_alerting::alert::{Side, Unit};
use revwatch_alerting::metric::Named;
use revwatch_alerting::rule::{Measure, MetricRule, NoData, Rule, RuleKind, Window};
use revwatch_core::span::Span;

/// The name of the rule's kind in rule files.
pub fn kind(rule: &Rule) -> &'static str {
    match &rule.kind {
        RuleKind::Condition { .. } => "condition",
        RuleKind::Metric(rule) => match rule.measure {
            Measure::Ratio(..) => "ratio",
            Measure::Count(..) => "count",
            Measure::Absence(..) => "absence",
            Measure::Gauge(_) => "gauge",
            Measure::Drop(..) => "drop",
            Measure::Consecutive(..) => "consecutive",
            Measure::Percentile(..) => "percentile",
        },
    }
}

/// When the rule fires, and when it resolves.
pub fn threshold(rule: &Rule) -> String {
    let mut text = match &rule.kind {
        RuleKind::Condition {
            condition,
            after_s: 0,
        } => condition.as_str().to_owned(),
        RuleKind::Condition { condition, after_s } => {
            format!("{} for {}", condition.as_str(), Span(*after_s))
        }
        RuleKind::Metric(rule) => metric_threshold(rule),
    };
    for (words, seconds) in [
        ("for", rule.for_s),
        ("resolves after", rule.keep_firing_for_s),
    ] {
        if seconds > 0 {
            text.push_str(&format!(", {words} {}", Span(seconds)));
        }
    }
    if let Some(within_s) = rule.fresh_within_s {
        text.push_str(&format!(", events not older than {}", Span(within_s)));
    }
    text
}

fn metric_threshold(rule: &MetricRule) -> String {
    let MetricRule {
        measure,
        by,
        threshold,
        no_data,
    } = rule;
    let mut text = match measure {
        Measure::Ratio(metric, window) => format!("{} in {}", metric.name(), of_window(*window)),
        Measure::Count(metric, window) => format!("{} in {}", metric.name(), of_window(*window)),
        Measure::Absence(metric, window) => {
            format!("no {} in {}", metric.name(), of_window(*window))
        }
        Measure::Gauge(metric) => metric.name().to_owned(),
        Measure::Drop(metric, fall) => {
            format!("fall of {} within {}", metric.name(), hours(fall.hours))
        }
        Measure::Consecutive(metric, days) => {
            let zone = days.time_zone.iana_name().unwrap_or("UTC");
            format!(
                "{} at the end of {} days ({zone})",
                metric.name(),
                days.days
            )
        }
        Measure::Percentile(metric, Some(percent), window) => {
            format!(
                "{} % of {} in {}",
                percent,
                metric.name(),
                of_window(*window)
            )
        }
        Measure::Percentile(metric, None, window) => {
            format!("mean of {} in {}", metric.name(), of_window(*window))
        }
    };
    if !matches!(measure, Measure::Absence(..)) {
        let unit = measure.unit();
        let (beyond, clear) = match threshold.side {
            Side::Above => ("above", "at most"),
            Side::Below => ("below", "at least"),
        };
        text.push_str(&format!(" {beyond} {}", number(threshold.limit, unit)));
        if (threshold.clear - threshold.limit).abs() > f64::EPSILON {
            text.push_str(&format!(
                ", resolved when {clear} {}",
                number(threshold.clear, unit)
            ));
        }
    }
    if threshold.min_samples > 1 {
        text.push_str(&format!(", of at least {}", threshold.min_samples));
    }
    if let Some(by) = by {
        text.push_str(&format!(", each {by}"));
    }
    match no_data {
        NoData::Unknown => {}
        NoData::Clear => text.push_str(", no data is fine"),
        NoData::Breach => text.push_str(", or no data"),
    }
    text
}

fn of_window(window: Window) -> String {
    match window.delay_hours {
        0 => hours(window.hours),
        delay => format!("{} up to {} ago", hours(window.hours), hours(delay)),
    }
}

fn hours(hours: u32) -> String {
    Span(i64::from(hours) * 3600).to_string()
}

fn number(value: f64, unit: Unit) -> String {
    let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
    match unit {
        Unit::Share => format!("{} %", round(value * 100.0)),
        Unit::Seconds => format!("{} s", round(value)),
        Unit::Count => round(value).to_string(),
        Unit::Minor => format!("{} of the smallest unit", round(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_rules_are_described_in_words() {
        let rules = revwatch_alerting::rule_text::built_in().expect("valid");
        let words = |name: &str| {
            let rule = rules
                .iter()
                .find(|rule| rule.name == name)
                .expect("shipped");
            (kind(rule), threshold(rule))
        };
        assert_eq!(
            words("payout_failure_rate"),
            (
                "ratio",
                "payout_failures in 1d above 5 %, resolved when at most 4 %, of at least 20"
                    .to_owned()
            )
        );
        assert_eq!(
            words("provider_lost_charges"),
            ("condition", "charges_lost".to_owned())
        );
    }
}
