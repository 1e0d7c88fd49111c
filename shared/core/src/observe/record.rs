//! Makes observations and recorded states of what was parsed.

use serde_json::{Map, Value};

use super::object::{ObserveError, unreadable};
use crate::entity::key::EntityKey;
use crate::entity::kind::EntityKind;
use crate::entity::timeline::{Changes, Facts, RecordedState, Stage};
use crate::entity::{Observation, Update};
use crate::event::Event;

pub(super) fn observation(
    event: &Event<'_>,
    kind: EntityKind,
    id: impl Into<String>,
    update: Update,
) -> Observation {
    Observation {
        key: EntityKey::new(kind, id),
        created_s: event.created_s,
        update,
    }
}

pub(super) fn recorded_state<F: Facts>(
    event: &Event<'_>,
    facts: F,
) -> Result<RecordedState<F>, ObserveError> {
    let stage = match event.kind.rsplit_once('.').map(|(_, last)| last) {
        Some("created") => Stage::Created,
        Some("deleted") => Stage::Deleted,
        _ => Stage::Updated,
    };
    let changes = changes(event, F::FIELDS)?;
    Ok(RecordedState {
        created_s: event.created_s,
        event_id: event.id.clone().into_owned().into(),
        stage,
        facts: facts.into(),
        changes,
    })
}

fn changes(event: &Event<'_>, tracked: &[&str]) -> Result<Changes, ObserveError> {
    let Some(previous) = event.previous else {
        return Ok(Changes::default());
    };
    let previous: Option<Map<String, Value>> = serde_json::from_str(previous.get())
        .map_err(|_| unreadable(event, "data.previous_attributes: not an object"))?;
    Ok(previous.map_or_else(Changes::default, |previous| Changes::of(&previous, tracked)))
}
