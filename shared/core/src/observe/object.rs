//! Parses the object of an event, and names the field that cannot be parsed.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::fields::INSIDE;
use crate::event::Event;

/// An event whose object cannot be parsed. The text names the field and never quotes its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind}: {what}")]
pub struct ObserveError {
    kind: String,
    what: String,
}

/// The failing path is located only after an error: that costs several times as much as parsing.
pub(super) fn read<T: DeserializeOwned>(event: &Event<'_>) -> Result<T, ObserveError> {
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

pub(super) fn unreadable(event: &Event<'_>, what: &str) -> ObserveError {
    ObserveError {
        kind: event.kind_label().to_owned(),
        what: what.to_owned(),
    }
}
