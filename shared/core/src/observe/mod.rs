//! Derives from an event what it says about which entities. Both forms of Stripe's objects (up to
//! acacia, and from 2025-03-31.basil on) are parsed here and nowhere else.
//!
//! A field that is absent or null is unknown. A field that has another type than Stripe documents
//! makes the complete event unreadable, because a guess about money is worse than a dead letter.

pub(crate) mod account;
mod fields;
pub(crate) mod invoice;
pub(crate) mod movements;
mod mrr;
pub(crate) mod payout;
mod prices;
pub(crate) mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::fields::{INSIDE, Reference};
use self::prices::Price;
use crate::entity::kind::row_of_event;
use crate::entity::timeline::{Change, Facts, RecordedState, Stage, changes};
use crate::entity::{EntityKey, EntityKind, Observation, Update};
use crate::event::{Event, Text};

/// Reads the events of one kind of object: what the event says about the object, if anything.
pub(crate) type Observe = fn(&Event<'_>, &Plans) -> Result<Option<Observation>, ObserveError>;

/// An event whose object cannot be parsed. The text names the field and never quotes its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind}: {what}")]
pub struct ObserveError {
    kind: String,
    what: String,
}

/// Plan names by price id, product id or lookup key (R1).
#[derive(Debug, Clone, Default)]
pub struct Plans(BTreeMap<String, String>);

impl Plans {
    /// The names configured under `[plans]`.
    pub fn new(names: BTreeMap<String, String>) -> Self {
        Self(names)
    }

    fn name(&self, price: &Price) -> Option<&str> {
        let product = price.product.as_ref().map(Reference::id);
        let keys = [price.id.as_deref(), price.lookup_key.as_deref(), product];
        keys.into_iter()
            .flatten()
            .find_map(|key| self.0.get(key))
            .map(String::as_str)
    }
}

/// The plan of a subscription whose prices are not configured.
pub const UNMAPPED_PLAN: &str = "unmapped";

/// The observations of `event`, one per entity. Types that change no entity give none.
pub fn observe(event: &Event<'_>, plans: &Plans) -> Result<Vec<Observation>, ObserveError> {
    let mut observations = Vec::new();
    observations.extend(account::seen(event));
    if let Some(row) = row_of_event(&event.kind) {
        observations.extend((row.observe)(event, plans)?);
    }
    Ok(observations)
}

fn observation(
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

fn recorded_state<F: Facts>(event: &Event<'_>, facts: F) -> Result<RecordedState<F>, ObserveError> {
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

/// The failing path is located only after an error: that costs several times as much as parsing.
fn read<T: DeserializeOwned>(event: &Event<'_>) -> Result<T, ObserveError> {
    let object = event
        .object
        .ok_or_else(|| unreadable(event, "data.object: missing"))?;
    serde_json::from_str(object.get()).or_else(|_| locate(event, object))
}

/// Parses the object again, to name the field that cannot be parsed.
fn locate<T: DeserializeOwned>(event: &Event<'_>, object: &RawValue) -> Result<T, ObserveError> {
    let mut reader = serde_json::Deserializer::from_str(object.get());
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path_text = if path == "." {
            "data.object".to_owned()
        } else {
            format!("data.object.{path}")
        };
        // serde's messages quote values, except those about a missing field.
        let cause = error.inner().to_string();
        let missing = cause
            .strip_prefix("missing field ")
            .and_then(|rest| rest.split(' ').next());
        // `Fingerprinted` reports the path inside its list after this prefix.
        let inside = cause
            .strip_prefix(INSIDE)
            .and_then(|rest| rest.split(" at line ").next());
        let inside = inside.map_or("", |path| path.trim_end_matches('.'));
        match missing {
            Some(field) => unreadable(event, &format!("{path_text}: missing field {field}")),
            None => unreadable(
                event,
                &format!("{path_text}{inside}: does not have the documented type"),
            ),
        }
    })
}

fn unreadable(event: &Event<'_>, what: &str) -> ObserveError {
    ObserveError {
        kind: event.kind_label().to_owned(),
        what: what.to_owned(),
    }
}
