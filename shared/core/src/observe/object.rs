//! Parses the object of an event, and names the field without which it says nothing.

use serde::Deserialize;

use super::bounds::is_too_dense;
use super::ways;
use crate::event::Event;

/// An event that cannot be applied. The text names the field and never quotes its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind}: {what}")]
pub struct ObserveError {
    kind: String,
    what: String,
}

pub(super) fn read<'a, T: Deserialize<'a>>(event: &Event<'a>) -> Result<T, ObserveError> {
    let object = event
        .object
        .ok_or_else(|| unreadable(event, "data.object: missing"))?
        .get();
    // serde would also parse the fields of an object from a list.
    if !object.starts_with('{') {
        return Err(unreadable(
            event,
            "data.object: does not have the documented type",
        ));
    }
    if is_too_dense(object) {
        return Err(unreadable(
            event,
            "data.object: has too many values for its size",
        ));
    }
    // Every field can be read, so this is about the object itself.
    ways::read(object)
        .map_err(|_| unreadable(event, "data.object: contains a field twice, or too many"))
}

pub(super) fn unreadable(event: &Event<'_>, what: &str) -> ObserveError {
    ObserveError {
        kind: event.kind_label().to_owned(),
        what: what.to_owned(),
    }
}
