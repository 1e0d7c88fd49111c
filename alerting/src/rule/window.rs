//! Windows, and which earlier counters a metric reads. Pure.

use std::collections::BTreeSet;
use std::fmt;

use revwatch_core::bucket::{MINUTES_READ_HOURS, has_minutes};
use revwatch_core::durations::Span;
use serde_json::{Value, json};

use super::fields::Fields;

/// A stretch of time that ends now, or some hours ago.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// How long it is. It begins and ends with minutes or, where no minutes are kept, with hours, which are in it
    /// completely: it is never shorter.
    pub hours: u32,
    /// Number of newest hours to leave out: what began only now cannot have completed.
    pub delay_hours: u32,
}

/// Which earlier counters a metric reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Number of hours before the current one that a value needs.
    pub hours: u32,
    /// The time between two points of its trend. `None`: no value is known for earlier times.
    pub trend_step_hours: Option<u32>,
    /// The window over which it is computed.
    pub window: Option<Window>,
    /// Whether that begins and ends with minutes.
    pub has_minutes: bool,
}

/// The number of points of a trend.
pub const POINTS: u32 = 6;

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

    /// As rule files write it.
    pub(super) fn fields(self) -> Vec<(&'static str, Value)> {
        let delay = hours_span(self.delay_hours);
        vec![
            ("window", json!(hours_span(self.hours))),
            ("delay", json!(Some(delay).filter(|_| self.delay_hours > 0))),
        ]
    }

    /// How many hours ago it begins.
    fn begins_hours(self) -> u32 {
        self.delay_hours.saturating_add(self.hours)
    }

    /// What a value over this window of the counters below `name` reads.
    pub fn history(self, name: &str) -> History {
        let hours = self.begins_hours();
        History {
            hours,
            trend_step_hours: Some(trend_step_hours(self.hours)),
            window: Some(self),
            has_minutes: has_minutes(name) && hours <= MINUTES_READ_HOURS,
        }
    }
}

impl History {
    /// How many hours after its own the counter of an hour begins or ceases to matter.
    pub fn edges_hours(&self) -> Vec<u32> {
        let window = self.window.filter(|_| !self.has_minutes);
        let edges = window.map(|it| [it.delay_hours, it.begins_hours().saturating_add(1)]);
        edges.into_iter().flatten().collect()
    }

    /// How many minutes after its own the counter of a minute begins or ceases to matter.
    pub fn edges_minutes(&self) -> Vec<u32> {
        let window = self.window.filter(|_| self.has_minutes);
        let minutes = |hours: u32| hours.saturating_mul(60);
        let begins = |it: Window| minutes(it.begins_hours()).saturating_add(1);
        let edges = window.map(|it| [minutes(it.delay_hours), begins(it)]);
        edges.into_iter().flatten().collect()
    }

    /// How many hours before now the hours are whose minutes a value and its trend read.
    pub(super) fn ages_of_minutes(&self) -> BTreeSet<u32> {
        let Some(window) = self.window.filter(|_| self.has_minutes) else {
            return BTreeSet::new();
        };
        let step = self.trend_step_hours.unwrap_or(0);
        let ends =
            (0..POINTS).map(|back| back.saturating_mul(step).saturating_add(window.delay_hours));
        // Points whose window began earlier are read by the hour.
        let both = ends.map(|end| [end, end.saturating_add(window.hours)]);
        let read = both.filter(|[_, begin]| *begin <= MINUTES_READ_HOURS);
        read.flatten().collect()
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
    Span(i64::from(hours).saturating_mul(3600))
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

#[cfg(test)]
mod tests;
