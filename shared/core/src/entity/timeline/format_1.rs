//! Timelines that versions before format 2 stored: an array of states, each with its event id and every
//! field that its event changed.

use serde::Deserialize;

use super::changes::Changes;
use super::recorded::{Facts, RecordedState, Stage};
use super::{Order, Timeline};
use crate::entity::compact;

/// A state as it was stored.
#[derive(Deserialize)]
pub(super) struct OldState<F> {
    created_s: i64,
    event_id: String,
    stage: Stage,
    facts: F,
    changes: Vec<OldChange>,
}

#[derive(Deserialize)]
struct OldChange {
    #[serde(deserialize_with = "compact::path")]
    path: String,
    from: u32,
    #[expect(dead_code, reason = "the facts have it")]
    to: u32,
}

/// How many states were kept at most of those that changed often.
const KEPT: usize = 32;

/// What was dropped before is unknown: that something may have been is known.
pub(super) fn timeline<F: Facts>(old: Vec<OldState<F>>) -> Timeline<F> {
    let first = old.first();
    let is_cut = old.len() >= KEPT && first.is_some_and(|s| s.stage != Stage::Created);
    let mut timeline = Timeline {
        states: Vec::new(),
        dropped_s: first.filter(|_| is_cut).map(|s| s.created_s),
        order: Order::default(),
    };
    for state in old {
        timeline.insert(RecordedState {
            created_s: state.created_s,
            event_id: state.event_id.into(),
            stage: state.stage,
            facts: state.facts.into(),
            changes: changes::<F>(&state.changes),
        });
    }
    timeline
}

/// A state without changes was stored for events without `previous_attributes` and for those whose changes
/// were empty.
fn changes<F: Facts>(old: &[OldChange]) -> Changes {
    if old.is_empty() {
        return Changes::default();
    }
    let of_field = |(place, field): (u8, &&str)| {
        let exact = old.iter().find(|change| change.path == **field);
        let part = |change: &OldChange| {
            super::changes::encloses(&change.path, field)
                || super::changes::encloses(field, &change.path)
        };
        match exact {
            Some(change) => Some((place, Some(change.from))),
            None => old.iter().any(part).then_some((place, None)),
        }
    };
    Changes::new(Some((0..).zip(F::FIELDS).filter_map(of_field).collect()))
}
