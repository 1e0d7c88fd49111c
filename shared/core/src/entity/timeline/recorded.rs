//! The recorded state of an object in one event.

use serde::{Deserialize, Serialize};

/// The facts of an object that revwatch tracks.
pub trait Facts {
    /// The position in the object's lifecycle: a number that never decreases in the true order.
    /// Facts that can change back and forth share one number.
    fn progress(&self) -> u64;

    /// The tracked fields: their paths in Stripe's object and fingerprints of their values.
    /// Neighbours within the same second are recognised only by these, so every field that
    /// determines money belongs here. All facts of one type return the same paths in the same
    /// order.
    fn fields(&self) -> Vec<(&'static str, u32)>;
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedState<F> {
    /// Unix seconds, from the event.
    pub created_s: i64,
    /// `evt_…`
    pub event_id: String,
    /// From the event's type.
    pub stage: Stage,
    /// The object's facts.
    pub facts: F,
    /// What this event changed, from `previous_attributes`.
    pub changes: Vec<Change>,
}

/// One changed field: fingerprints of its old and new values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// For example `requirements.currently_due`.
    #[serde(with = "crate::entity::compact::path")]
    pub path: String,
    /// Fingerprint of the value before.
    pub from: u32,
    /// Fingerprint of the value in this event's object.
    pub to: u32,
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
