//! How many events a batch has: by outcome, by the hours in which they were created and received, and by how long they
//! took.

use std::collections::BTreeMap;

use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::histogram;
use revwatch_core::kpi::application::APP_APPLIED;
use revwatch_core::mode::LACKS_MODE;
use revwatch_core::source::Source;

use super::item::{Content, Item};
use super::outcome::Outcome;

/// Sums of a batch. Its events are mostly of few hours, so that few counters get their names.
#[derive(Default)]
pub(super) struct EventCounts {
    by_outcome: BTreeMap<&'static str, i64>,
    lack_mode: i64,
    by_hour: BTreeMap<(&'static str, Bucket), i64>,
    /// By the upper bound of the milliseconds, too.
    took: BTreeMap<(Bucket, u32), i64>,
}

impl EventCounts {
    /// Counts a delivery, unless it is paused or was processed before.
    pub(super) fn add(&mut self, item: &Item, outcome: &Outcome) {
        let Some(counter) = outcome.counter() else {
            return;
        };
        count(self.by_outcome.entry(counter).or_default());
        let is_kept = matches!(outcome, Outcome::Applied | Outcome::Ignored);
        if item.source == Source::App && is_kept {
            count(self.by_outcome.entry(APP_APPLIED[1]).or_default());
        }
        if item.lacks_mode && *outcome == Outcome::Applied {
            count(&mut self.lack_mode);
        }
    }

    /// Counts an event in the hour of its `created` time (the newest such hour shows how current the
    /// events are) and, if it came by webhook, in the hour of receipt. For an applied event, also counts the
    /// processing time in milliseconds, if known, in the hour of receipt.
    pub(super) fn add_times(
        &mut self,
        item: &Item,
        content: &Content,
        outcome: &Outcome,
        now_ms: Option<i64>,
    ) {
        // That an application speaks says nothing of whether Stripe does.
        let [created, received] = match item.source {
            Source::App => ["app_created", "app_received"],
            Source::Stripe | Source::Snapshot => ["created", "received"],
        };
        let hour = Bucket::hour_of(content.created_s);
        count(self.by_hour.entry((created, hour)).or_default());
        let hour = Bucket::hour_of(item.received_ms.div_euclid(1000));
        if item.is_webhook {
            count(self.by_hour.entry((received, hour)).or_default());
        }
        if let Some(now_ms) = now_ms.filter(|_| *outcome == Outcome::Applied) {
            let bound_ms = histogram::processing_bound_ms(now_ms.saturating_sub(item.received_ms));
            count(self.took.entry((hour, bound_ms)).or_default());
        }
    }

    pub(super) fn add_to(&self, counters: &mut Counters) {
        for (outcome, count) in &self.by_outcome {
            counters.add(Bucket::Current, &["events", outcome], *count);
        }
        counters.add(Bucket::Current, &["events", LACKS_MODE], self.lack_mode);
        for ((what, hour), count) in &self.by_hour {
            counters.add(*hour, &["events", what], *count);
        }
        for ((hour, bound_ms), count) in &self.took {
            let bound_ms = bound_ms.to_string();
            counters.add(*hour, &["events", "processing", &bound_ms], *count);
        }
    }
}

fn count(events: &mut i64) {
    *events = events.saturating_add(1);
}
