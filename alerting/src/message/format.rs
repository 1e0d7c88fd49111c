//! Times and metric values as people read them. Pure.

use jiff::Timestamp;
use revwatch_core::durations::duration;
use revwatch_core::money::Money;

use crate::alert::{MetricValue, Side, Subject, Unit};
use crate::metric_value::number;

/// For example `12 of 150 (8.0 %), at most 5.0 % allowed`.
pub(super) fn measured(metric_value: MetricValue, subject: &Subject) -> String {
    let write = |value: f64| in_unit(value, metric_value.unit, subject);
    let value = match metric_value.range {
        None => write(metric_value.value),
        Some((low, high)) => between(low.map(write), high.map(write)),
    };
    let value = match (metric_value.parts, metric_value.unit) {
        (Some(parts), Unit::Share) => {
            let of_part = match metric_value.are_parts_money {
                true => Unit::Minor,
                false => Unit::Count,
            };
            let write = |part| in_unit(number(part), of_part, subject);
            let (part, total) = parts;
            let (part_high, total_high) =
                metric_value.parts_high.unwrap_or((Some(part), Some(total)));
            let part = between(Some(write(part)), part_high.map(write));
            let total = between(Some(write(total)), total_high.map(write));
            format!("{part} of {total} ({value})")
        }
        _ => value,
    };
    let threshold = write(metric_value.threshold);
    match metric_value.side {
        Side::Above => format!("{value}, at most {threshold} allowed"),
        Side::Below => format!("{value}, at least {threshold} expected"),
    }
}

/// Two bounds, as far as there are.
fn between(low: Option<String>, high: Option<String>) -> String {
    match (low, high) {
        (Some(low), Some(high)) if low == high => low,
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("at least {low}"),
        (None, Some(high)) => format!("at most {high}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// A value with its unit. Amounts of money are those of the subject's currency.
pub(super) fn in_unit(value: f64, unit: Unit, subject: &Subject) -> String {
    match (unit, subject) {
        (Unit::Share, _) => format!("{:.1} %", value * 100.0),
        (Unit::Seconds, _) if value < 60.0 => format!("{value:.1} s"),
        (Unit::Seconds, _) => duration(rounded(value)),
        (
            Unit::Minor,
            Subject::Segment {
                value: currency, ..
            },
        ) => Money::new(rounded(value), currency).to_string(),
        (Unit::Minor | Unit::Count, _) => format!("{value:.0}"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "metric values stay far below 2^53"
)]
fn rounded(value: f64) -> i64 {
    value.round() as i64
}

/// At most `max_chars` characters; a cut is marked.
pub(crate) fn clamp(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let kept = text.chars().take(max_chars.saturating_sub(1));
    kept.chain(['…']).take(max_chars).collect()
}

/// To the minute.
pub(super) fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(
        |_| unix_s.to_string(),
        |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}
