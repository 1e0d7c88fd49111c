//! Makes observations and recorded states of what was parsed.

use serde_json::value::RawValue;

use crate::entity::key::EntityKey;
use crate::entity::kind::EntityKind;
use crate::entity::timeline::{Changes, Facts, RecordedState, Stage};
use crate::entity::{Observation, Update};
use crate::event::Event;
use crate::realm::Realm;

pub(super) fn observation(
    event: &Event<'_>,
    kind: EntityKind,
    id: impl Into<String>,
    update: Update,
) -> Observation {
    Observation {
        key: EntityKey::new(kind, id),
        created_s: event.created_s,
        realm: Realm::MAIN,
        update,
    }
}

pub(super) fn recorded_state<F: Facts>(event: &Event<'_>, facts: F) -> RecordedState<F> {
    let stage = match event.kind.rsplit_once('.').map(|(_, last)| last) {
        Some("created") => Stage::Created,
        Some("deleted") => Stage::Deleted,
        _ => Stage::Updated,
    };
    RecordedState {
        created_s: event.created_s,
        event_id: event.id.clone().into_owned().into(),
        stage,
        facts: facts.into(),
        changes: changes(event, F::FIELDS),
    }
}

/// Far more than the old values of all fields that Stripe tracks; reading more would only take
/// time.
const MAX_PREVIOUS_BYTES: usize = 256 * 1024;

/// What cannot be read says nothing.
fn changes(event: &Event<'_>, tracked: &[&str]) -> Changes {
    let previous = event.previous.map(RawValue::get);
    let previous = previous.filter(|previous| previous.len() <= MAX_PREVIOUS_BYTES);
    let changes = previous.and_then(|previous| Changes::read(previous, tracked));
    changes.unwrap_or_default()
}
