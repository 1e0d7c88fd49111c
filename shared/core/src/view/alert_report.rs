//! The monthly report on alerts as rows. Its JSON is [`Line`] itself.

use super::NOT_KNOWN;
use crate::alert::report::Line;
use crate::durations::duration;

/// The header of [`row`].
pub const HEADER: [&str; 8] = [
    "month",
    "severity",
    "alerts",
    "acknowledged in time",
    "resolved in time",
    "mean time to acknowledge",
    "mean time to resolve",
    "breaches open",
];

/// The alerts of one severity in one month.
pub fn row(line: &Line) -> [String; HEADER.len()] {
    let percent = |share: Option<f64>| {
        share.map_or_else(|| NOT_KNOWN.to_owned(), |s| format!("{:.1} %", s * 100.0))
    };
    let mean = |seconds: Option<i64>| seconds.map_or_else(|| NOT_KNOWN.to_owned(), duration);
    [
        line.month.clone(),
        line.severity.as_str().to_owned(),
        line.alerts.to_string(),
        percent(line.acknowledged_within),
        percent(line.resolved_within),
        mean(line.mean_seconds_to_acknowledge),
        mean(line.mean_seconds_to_resolve),
        line.breaches_open.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;

    #[test]
    fn shares_are_percent_and_a_mean_of_nothing_is_a_dash() {
        let line = Line {
            month: "2026-11".into(),
            severity: Severity::High,
            alerts: 3,
            acknowledged_within: Some(2.0 / 3.0),
            resolved_within: None,
            mean_seconds_to_acknowledge: Some(330),
            mean_seconds_to_resolve: None,
            breaches_open: 1,
        };
        assert_eq!(
            row(&line),
            [
                "2026-11",
                "high",
                "3",
                "66.7 %",
                "–",
                "5 min 30 s",
                "–",
                "1"
            ]
        );
    }
}
