//! Windows of full hours, and which earlier hours a metric reads. Pure.

use std::fmt;

use revwatch_core::durations::Span;

use super::fields::Fields;

/// Full hours of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Number of hours, in addition to the current one.
    pub hours: u32,
    /// Number of newest hours to leave out: what began only now cannot have completed.
    pub delay_hours: u32,
}

/// Which earlier hours of counters a metric reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Number of hours before the current one that a value needs.
    pub hours: u32,
    /// The time between two points of its trend. `None`: no value is known for earlier times.
    pub trend_step_hours: Option<u32>,
    /// How many hours after its own a counter begins or ceases to matter.
    pub edges_hours: Vec<u32>,
}

/// The number of points of a trend.
pub const POINTS: i64 = 6;

/// The longest window: metric values are computed from hours, all of which are read.
const MAX_HOURS: i64 = 24 * 62;

impl Window {
    /// Reads `window` and `delay`. After a fault one hour is used, so that the other fields can be
    /// checked.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        let hours = fields.required("window");
        let hours = hours.and_then(|span| full_hours(fields, "window", span, 1));
        let delay = fields.optional("delay");
        let delay_hours = delay.and_then(|span| full_hours(fields, "delay", span, 0));
        Self {
            hours: hours.unwrap_or(1),
            delay_hours: delay_hours.unwrap_or(0),
        }
    }

    /// The hours that a value over this window reads.
    pub fn history(self) -> History {
        History {
            hours: self.hours + self.delay_hours,
            trend_step_hours: Some(trend_step_hours(self.hours)),
            edges_hours: vec![self.delay_hours, self.delay_hours + self.hours + 1],
        }
    }
}

/// For example `1d`, or `7d up to 2d ago`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delay_hours {
            0 => write!(f, "{}", hours_span(self.hours)),
            delay => write!(
                f,
                "{} up to {} ago",
                hours_span(self.hours),
                hours_span(delay)
            ),
        }
    }
}

/// The time between two points of the trend of a value over so many hours.
pub(super) fn trend_step_hours(hours: u32) -> u32 {
    (hours / 6).clamp(1, 24)
}

/// So many hours, as a span.
pub(super) fn hours_span(hours: u32) -> Span {
    Span(i64::from(hours) * 3600)
}

fn full_hours(fields: &mut Fields<'_>, name: &str, span: Span, min_hours: i64) -> Option<u32> {
    let (hours, rest_s) = (span.0 / 3600, span.0 % 3600);
    if rest_s != 0 || !(min_hours..=MAX_HOURS).contains(&hours) {
        let max_days = MAX_HOURS / 24;
        fields.fault(
            name,
            format!("`{name}` must be whole hours, from {min_hours}h to {max_days}d"),
        );
        return None;
    }
    u32::try_from(hours).ok()
}
