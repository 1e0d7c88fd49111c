//! What an event says that it changed, from `previous_attributes`.

use serde_json::{Map, Value};

use super::fingerprint::fingerprint;

/// Which tracked fields an event changed, with fingerprints of their former values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Changes(Option<Vec<ChangedField>>);

/// A tracked field that an event changed: its place in [`super::Facts::FIELDS`], and the fingerprint of
/// its former value; `None`: a part of the field changed, or an object that has it.
pub type ChangedField = (u8, Option<u32>);

/// What an event says that a field was before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There was no object: the event reports its creation.
    Nothing,
    /// The event does not say what it changed (it has no `previous_attributes`). It reports
    /// something that happened, so what it shows is taken to have happened with it.
    NotSaid,
    /// The same as in the event.
    Same,
    /// Another value, with this fingerprint.
    Was(u32),
    /// The event does not say enough: it has only a part of the value before, or says nothing of what
    /// happened (see [`super::RecordedState::is_unsure`]).
    Unknown,
}

impl Changes {
    /// Of an event with these `previous_attributes` about an object with these tracked fields. Of nested
    /// objects, `previous_attributes` has only the changed fields; a changed list appears completely.
    pub fn of(previous: &Map<String, Value>, tracked: &[&str]) -> Self {
        let mut found = vec![Before::Same; tracked.len()];
        leaves("", previous, &mut |path, value| {
            for (before, field) in found.iter_mut().zip(tracked) {
                if path == *field {
                    *before = Before::Was(fingerprint(&value.to_string()));
                } else if encloses(path, field) || encloses(field, path) {
                    *before = Before::Unknown;
                }
            }
        });
        let changed = (0..).zip(found).filter_map(|(field, before)| match before {
            Before::Was(value) => Some((field, Some(value))),
            Before::Unknown => Some((field, None)),
            Before::Nothing | Before::NotSaid | Before::Same => None,
        });
        Self(Some(changed.collect()))
    }

    /// `None`: the event has no `previous_attributes`.
    pub fn new(changed: Option<Vec<ChangedField>>) -> Self {
        Self(changed)
    }

    /// `None`: the event has no `previous_attributes`.
    pub fn fields(&self) -> Option<&[ChangedField]> {
        self.0.as_deref()
    }

    /// Whether the event says that every tracked field is as before.
    pub fn are_none(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    /// Of a field, by its place in [`super::Facts::FIELDS`].
    pub fn before(&self, field: usize) -> Before {
        let Some(changed) = &self.0 else {
            return Before::NotSaid;
        };
        let is_field = |(changed, _): &&ChangedField| usize::from(*changed) == field;
        match changed.iter().find(is_field) {
            Some((_, Some(value))) => Before::Was(*value),
            Some((_, None)) => Before::Unknown,
            None => Before::Same,
        }
    }
}

pub(super) fn encloses(outer: &str, inner: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with('.'))
}

fn leaves(path: &str, fields: &Map<String, Value>, each: &mut impl FnMut(&str, &Value)) {
    for (name, value) in fields {
        let path = match path {
            "" => name.clone(),
            outer => format!("{outer}.{name}"),
        };
        match value {
            Value::Object(inner) if !inner.is_empty() => leaves(&path, inner, each),
            leaf => each(&path, leaf),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TRACKED: [&str; 4] = ["status", "requirements.due", "items.data", "discount"];

    fn before(previous: &Value) -> [Before; 4] {
        let previous = previous.as_object().expect("an object");
        let changes = Changes::of(previous, &TRACKED);
        [0, 1, 2, 3].map(|field| changes.before(field))
    }

    #[test]
    fn a_field_is_as_before_unless_previous_attributes_have_it_or_a_part_of_it() {
        use Before::{Same, Unknown, Was};
        let was = |value: Value| Was(fingerprint(&value.to_string()));
        let table = [
            (json!({}), [Same; 4]),
            (json!({"metadata": {"status": "x"}}), [Same; 4]),
            (
                json!({"status": "active", "statuses": 1}),
                [was(json!("active")), Same, Same, Same],
            ),
            (
                json!({"status": null}),
                [was(Value::Null), Same, Same, Same],
            ),
            (
                json!({"requirements": {"due": ["a"]}}),
                [Same, was(json!(["a"])), Same, Same],
            ),
            (json!({"requirements": null}), [Same, Unknown, Same, Same]),
            (json!({"requirements": {}}), [Same, Unknown, Same, Same]),
            (
                json!({"discount": {"coupon": {"id": "c"}}}),
                [Same, Same, Same, Unknown],
            ),
            (
                json!({"items": {"data": {"price": 1}}}),
                [Same, Same, Unknown, Same],
            ),
        ];
        for (previous, expected) in table {
            assert_eq!(before(&previous), expected, "{previous}");
        }
    }

    #[test]
    fn no_previous_attributes_say_nothing_and_empty_ones_that_nothing_changed() {
        assert_eq!(Changes::default().before(0), Before::NotSaid);
        assert!(!Changes::default().are_none());
        assert!(Changes::of(&Map::new(), &TRACKED).are_none());
    }
}
