//! Thresholds with hysteresis: how they are written, checked, compared and described. Pure.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::alert::{Side, Unit};
use crate::metric_value::Sample;

/// Fires strictly beyond `limit`; resolves at `clear` or better; not evaluated below `min_samples`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The side of the limit on which the rule fires.
    pub side: Side,
    /// In the metric's unit.
    pub limit: f64,
    /// Never on the firing side of `limit`.
    pub clear: f64,
    /// At least 1 if the metric has samples.
    pub min_samples: i64,
}

/// The thresholds that make sense for a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Bounds {
    /// From 0 to 1.
    Share,
    /// 0 or more.
    NotNegative,
    /// Any number.
    Any,
    /// One of these, in ascending order: values are counted by them.
    OneOf(Vec<f64>),
}

/// A value compared with a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Beyond the limit.
    Breached,
    /// Between `limit` and `clear`.
    Between,
    /// At `clear` or better.
    Clear,
    /// There are too few samples.
    NoData,
    /// The value is not exactly known, and what is known of it is on both sides of the limit.
    Unknown,
}

impl Threshold {
    /// As rule files write it.
    pub(super) fn fields(&self) -> [(&'static str, Value); 3] {
        let (limit, clear) = match self.side {
            Side::Above => ("above", "clear_below"),
            Side::Below => ("below", "clear_above"),
        };
        let min_denominator = json!(self.min_samples);
        [
            (limit, json!(self.limit)),
            (clear, json!(self.clear)),
            ("min_denominator", min_denominator),
        ]
    }

    /// Reads `above` and `clear_below`, or `below` and `clear_above`, and `min_denominator`.
    /// Without `bounds` (the metric itself has a fault) only the fields are checked.
    pub(crate) fn read(fields: &mut Fields<'_>, bounds: Option<&Bounds>) -> Option<Self> {
        let min_samples = fields.optional("min_denominator").unwrap_or(1);
        if min_samples < 1 {
            fields.fault(
                "min_denominator",
                "`min_denominator` must be at least 1".into(),
            );
        }
        let above: Option<f64> = fields.optional("above");
        let below: Option<f64> = fields.optional("below");
        let clear_below: Option<f64> = fields.optional("clear_below");
        let clear_above: Option<f64> = fields.optional("clear_above");
        let (side, field, limit, clear) = match (fields.has("above"), fields.has("below")) {
            (true, true) => {
                let what = "`above` and `below` exclude each other: write two rules";
                fields.fault("above", what.into());
                return None;
            }
            (false, false) => {
                match fields.accepts("below") {
                    true => fields.fault_missing_one_of("`above` or `below`"),
                    false => fields.fault_missing("above"),
                }
                return None;
            }
            (true, false) => {
                if fields.accepts("clear_above") && fields.has("clear_above") {
                    fields.fault("clear_above", "`clear_above` requires `below`".into());
                }
                (Side::Above, "above", above?, clear_below)
            }
            (false, true) => {
                if fields.has("clear_below") {
                    fields.fault("clear_below", "`clear_below` requires `above`".into());
                }
                (Side::Below, "below", below?, clear_above)
            }
        };
        let threshold = Self {
            side,
            limit,
            clear: clear.unwrap_or(limit),
            min_samples,
        };
        threshold.check(fields, field, bounds);
        Some(threshold)
    }

    fn check(&self, fields: &mut Fields<'_>, field: &str, bounds: Option<&Bounds>) {
        match self.side {
            Side::Above if self.clear > self.limit => fields.fault(
                "clear_below",
                "`clear_below` must not be greater than `above`".into(),
            ),
            Side::Below if self.clear < self.limit => fields.fault(
                "clear_above",
                "`clear_above` must not be less than `below`".into(),
            ),
            _ => {}
        }
        if let Some(what) = bounds.and_then(|bounds| self.out_of(bounds, field)) {
            fields.fault(field, what);
        }
    }

    /// Why a metric value can never exceed this threshold, or exceeds it nearly always.
    fn out_of(&self, bounds: &Bounds, field: &str) -> Option<String> {
        let Self {
            side, limit, clear, ..
        } = *self;
        if !limit.is_finite() || !clear.is_finite() {
            return Some(format!("`{field}` must be a number"));
        }
        let is_possible = match (bounds, side) {
            (Bounds::Any, _) => true,
            (Bounds::Share, Side::Above) => (0.0..1.0).contains(&limit) && clear >= 0.0,
            (Bounds::Share, Side::Below) => limit > 0.0 && limit <= 1.0 && clear <= 1.0,
            (Bounds::NotNegative | Bounds::OneOf(_), Side::Above) => limit >= 0.0,
            (Bounds::NotNegative | Bounds::OneOf(_), Side::Below) => limit > 0.0,
        };
        match bounds {
            Bounds::Share if !is_possible => Some(format!(
                "`{field}` of a share is from 0 to 1, and it must be possible: 5 % is 0.05"
            )),
            _ if !is_possible => Some(format!(
                "`{field}` must be possible: this metric is never below 0"
            )),
            Bounds::OneOf(known) => {
                let is_known = |value: f64| known.iter().any(|known| (known - value).abs() < 1e-9);
                let names: Vec<String> = known.iter().map(ToString::to_string).collect();
                (!is_known(limit) || !is_known(clear)).then(|| {
                    format!(
                        "`{field}` of this metric, and where it clears, must be one of {} (seconds): it is counted by those",
                        names.join(", ")
                    )
                })
            }
            _ => None,
        }
    }

    /// Compares a value.
    pub fn compare(&self, sample: &Sample) -> Verdict {
        let Some(value) = sample.value.filter(|_| sample.samples >= self.min_samples) else {
            return Verdict::NoData;
        };
        if let Some((low, high)) = sample.range {
            return match [low, high].map(|end| self.verdict(end)) {
                [one, other] if one == other => one,
                [Verdict::Breached, _] | [_, Verdict::Breached] => Verdict::Unknown,
                _ => Verdict::Between,
            };
        }
        self.verdict(value)
    }

    fn verdict(&self, value: f64) -> Verdict {
        // Mirrored, so that a breach is always above the limit.
        let (value, limit, clear) = match self.side {
            Side::Above => (value, self.limit, self.clear),
            Side::Below => (-value, -self.limit, -self.clear),
        };
        if value > limit {
            Verdict::Breached
        } else if value > clear {
            Verdict::Between
        } else {
            Verdict::Clear
        }
    }

    /// For example `above 5 %, resolved when at most 4 %`.
    pub fn describe(&self, unit: Unit) -> String {
        let (beyond, clear) = match self.side {
            Side::Above => ("above", "at most"),
            Side::Below => ("below", "at least"),
        };
        let mut text = format!("{beyond} {}", number(self.limit, unit));
        if (self.clear - self.limit).abs() > f64::EPSILON {
            text.push_str(&format!(
                ", resolved when {clear} {}",
                number(self.clear, unit)
            ));
        }
        text
    }
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
