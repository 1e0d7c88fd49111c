//! What is to be told, in order: by notifier and route, what may be tried soonest first, the most severe
//! first among those.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::alert::{Alert, Way};
use crate::rule::Severity;

/// Notifier and route: what is told one after the other.
pub type Lane = (String, String);

/// Not before (Unix milliseconds), severity (critical first), fired, alert, notice.
type Slot = (i64, std::cmp::Reverse<Severity>, i64, String, u32);

/// See the module.
#[derive(Default)]
pub struct Outbox {
    lanes: BTreeMap<Lane, BTreeSet<Slot>>,
    /// Where an alert's messages stand.
    places: HashMap<String, Vec<(Lane, Slot)>>,
    /// Being told at this moment.
    in_flight: HashSet<(String, Way)>,
}

impl Outbox {
    /// Replaces what `alert` has to tell: way, route and the Unix millisecond before which it waits.
    pub fn put(&mut self, alert: &Alert, messages: Vec<(Way, String, i64)>) {
        self.clear(&alert.id);
        let mut places = Vec::new();
        for (way, route, not_before_ms) in messages {
            if self.is_in_flight(&alert.id, &way) {
                continue;
            }
            let lane = (way.notifier, route);
            let slot = (not_before_ms, std::cmp::Reverse(alert.severity), alert.fired_s, alert.id.clone(), way.notice);
            self.lanes.entry(lane.clone()).or_default().insert(slot.clone());
            places.push((lane, slot));
        }
        if !places.is_empty() {
            self.places.insert(alert.id.clone(), places);
        }
    }

    /// Takes out what an alert has to tell.
    pub fn clear(&mut self, id: &str) {
        for (lane, slot) in self.places.remove(id).unwrap_or_default() {
            if let Some(slots) = self.lanes.get_mut(&lane) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
        }
    }

    /// Every lane with something in it, and when its first message may be tried (Unix milliseconds).
    pub fn lanes(&self) -> impl Iterator<Item = (&Lane, i64)> {
        self.lanes.iter().filter_map(|(lane, slots)| Some((lane, slots.first()?.0)))
    }

    /// The alert and way that are next in a lane.
    pub fn next(&self, lane: &Lane, now_ms: i64) -> Option<(String, Way)> {
        let (not_before_ms, _, _, id, notice) = self.lanes.get(lane)?.first()?;
        (*not_before_ms <= now_ms).then(|| (id.clone(), Way { notifier: lane.0.clone(), notice: *notice }))
    }

    /// An attempt begins.
    pub fn begin(&mut self, id: &str, way: &Way) {
        self.in_flight.insert((id.to_owned(), way.clone()));
    }

    /// An attempt has ended.
    pub fn end(&mut self, id: &str, way: &Way) {
        self.in_flight.remove(&(id.to_owned(), way.clone()));
    }

    /// Whether an attempt is under way.
    pub fn is_in_flight(&self, id: &str, way: &Way) -> bool {
        self.in_flight.contains(&(id.to_owned(), way.clone()))
    }
}
