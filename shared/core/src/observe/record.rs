//! Makes observations and recorded states of what was parsed.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::object::{ObserveError, unreadable};
use crate::entity::key::EntityKey;
use crate::entity::kind::EntityKind;
use crate::entity::timeline::{Change, Facts, RecordedState, Stage, changes};
use crate::entity::{Observation, Update};
use crate::event::{Event, Text};

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
    let changes = changed(event, &facts)?;
    Ok(RecordedState {
        created_s: event.created_s,
        event_id: event.id.clone().into_owned(),
        stage,
        facts,
        changes,
    })
}

fn changed(event: &Event<'_>, facts: &impl Facts) -> Result<Vec<Change>, ObserveError> {
    let (Some(previous), Some(object)) = (event.previous, event.object) else {
        return Ok(Vec::new());
    };
    let not_an_object = |_| unreadable(event, "data.previous_attributes: not an object");
    match serde_json::from_str(previous.get()).map_err(not_an_object)? {
        Value::Object(previous) => {
            let object = named_fields(&previous, object).map_err(not_an_object)?;
            Ok(changes(&Value::Object(previous), &object, &facts.fields()))
        }
        Value::Null => Ok(Vec::new()),
        _ => Err(unreadable(event, "data.previous_attributes: not an object")),
    }
}

/// The object, reduced to the fields that `previous` names. The rest, which is most of it, is
/// skipped.
fn named_fields(previous: &Map<String, Value>, object: &RawValue) -> serde_json::Result<Value> {
    struct NamedFields<'a>(&'a Map<String, Value>);

    impl<'de> Visitor<'de> for NamedFields<'_> {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
            let mut found = Map::new();
            while let Some(Text(name)) = fields.next_key()? {
                if self.0.contains_key(name.as_ref()) {
                    found.insert(name.into_owned(), fields.next_value()?);
                } else {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    // If `previous` is empty or the object has no fields, the complete object is compared.
    if previous.is_empty() || !object.get().starts_with('{') {
        return serde_json::from_str(object.get());
    }
    serde_json::Deserializer::from_str(object.get())
        .deserialize_map(NamedFields(previous))
        .map(Value::Object)
}
