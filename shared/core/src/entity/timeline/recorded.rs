//! The recorded state of an object in one event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::event_id::EventId;

/// The facts of an object that revwatch tracks.
pub trait Facts {
    /// The tracked fields: their paths in Stripe's object. Neighbours within the same second are recognised
    /// only by these, so every field that determines money belongs here. Their places are stored: new ones
    /// are appended.
    const FIELDS: &'static [&'static str];

    /// The fields in the places that they had in timelines of format 2.
    const FIELDS_OF_FORMAT_2: &'static [&'static str] = Self::FIELDS;

    /// The position in the object's lifecycle: a number that never decreases in the true order.
    /// Facts that can change back and forth share one number.
    fn progress(&self) -> u64;

    /// The fingerprint of the value of one of [`Self::FIELDS`], by its place there.
    fn value(&self, place: usize) -> u32;

    /// Fingerprints of the values of [`Self::FIELDS`], in their order.
    fn values(&self) -> Vec<u32> {
        (0..Self::FIELDS.len())
            .map(|place| self.value(place))
            .collect()
    }
}

/// The kind of event, in the order in which such events happen within one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum Stage {
    /// `*.created`
    Created,
    /// All others.
    Updated,
    /// `*.deleted`
    Deleted,
}

/// The state of an object in one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedState<F> {
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// `evt_…`
    pub event_id: EventId,
    /// From the event's type.
    pub stage: Stage,
    /// The object's facts, shared with other states that have the same.
    pub facts: Arc<F>,
    /// What this event changed.
    pub changes: Changes,
}

impl<F: Facts> RecordedState<F> {
    /// Whether it may be the first with its facts: its event created or deleted the object, does not say
    /// what it changed, or changed a tracked field.
    pub(super) fn may_have_changed(&self) -> bool {
        self.stage != Stage::Updated || !self.changes.are_none()
    }
}

impl From<u8> for Stage {
    fn from(stage: u8) -> Self {
        match stage {
            0 => Self::Created,
            2 => Self::Deleted,
            _ => Self::Updated,
        }
    }
}

impl From<Stage> for u8 {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Created => 0,
            Stage::Updated => 1,
            Stage::Deleted => 2,
        }
    }
}
