//! When time alone moves a metric: where counters come into a window or leave it, and where days end. Pure.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use revwatch_alerting::rule::{History, Rule, RuleKind};
use revwatch_core::bucket::{hour_of, minute_of};

use super::memory_store::MemoryStore;

/// See the module.
pub struct Calendar {
    /// Ages in hours at which the counter of an hour begins or ceases to matter to some rule.
    edges_hours: BTreeSet<u32>,
    /// Ages in minutes at which that of a minute does.
    edges_minutes: BTreeSet<u32>,
    /// Time zones in which some rule counts days.
    zones: Vec<TimeZone>,
}

impl Calendar {
    /// For these rules.
    pub fn new(rules: &[Rule]) -> Self {
        let histories = || rules.iter().filter_map(history);
        Self {
            edges_hours: histories()
                .flat_map(|it| it.edges_hours())
                .chain([0])
                .collect(),
            edges_minutes: histories().flat_map(|it| it.edges_minutes()).collect(),
            zones: rules.iter().filter_map(zone).collect(),
        }
    }

    /// The first Unix second after `since_s` at which time alone moves a metric. Nothing is missing before `begun_s`:
    /// that leaves windows as counters do.
    pub fn next_s(&self, since_s: i64, store: &MemoryStore, begun_s: Option<i64>) -> Option<i64> {
        let (hour, minute) = (hour_of(since_s), minute_of(since_s));
        let of_hours = self.edges_hours.iter().filter_map(|edge| {
            let first = (hour + 1).saturating_sub(*edge);
            Some(i64::from(store.hour_from(first)? + edge) * 3600)
        });
        let of_minutes = self.edges_minutes.iter().filter_map(|edge| {
            let first = (minute + 1).saturating_sub(*edge);
            Some(i64::from(store.minute_from(first)? + edge) * 60)
        });
        let since_begun = begun_s.into_iter().flat_map(|begun_s| {
            let hours = self.edges_hours.iter();
            let hours = hours.map(move |edge| i64::from(hour_of(begun_s) + edge) * 3600);
            let minutes = self.edges_minutes.iter();
            hours.chain(minutes.map(move |edge| i64::from(minute_of(begun_s) + edge) * 60))
        });
        let zones = match store.is_empty() {
            true => &[][..],
            false => &self.zones,
        };
        let of_days = zones
            .iter()
            .filter_map(|zone| next_midnight_s(since_s, zone));
        let of_begun = since_begun.filter(|at_s| *at_s > since_s);
        let moments = of_hours.chain(of_minutes).chain(of_days).chain(of_begun);
        moments.min()
    }
}

/// What a rule reads of the past.
fn history(rule: &Rule) -> Option<History> {
    let RuleKind::Metric(metric) = &rule.kind else {
        return None;
    };
    Some(metric.measure.history())
}

fn zone(rule: &Rule) -> Option<TimeZone> {
    let RuleKind::Metric(metric) = &rule.kind else {
        return None;
    };
    metric.measure.time_zone().cloned()
}

fn next_midnight_s(now_s: i64, zone: &TimeZone) -> Option<i64> {
    let now = Timestamp::from_second(now_s).ok()?;
    let today = now.to_zoned(zone.clone()).date();
    let tomorrow = today.checked_add(1.day()).ok()?;
    let midnight = tomorrow.to_zoned(zone.clone()).ok()?;
    Some(midnight.timestamp().as_second())
}
