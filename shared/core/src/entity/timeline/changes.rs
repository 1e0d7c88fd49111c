//! What an event says that it changed, from `previous_attributes`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fingerprint::json_fingerprint;
use crate::json_text::Text;

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
    /// objects, `previous_attributes` has only the changed fields; a changed list appears completely. All else is
    /// skipped, however much it is. `None`: it is no object.
    pub fn read(previous: &str, tracked: &[&str]) -> Option<Self> {
        let mut found = vec![Before::Same; tracked.len()];
        let paths: Vec<Path<'_>> = tracked.iter().copied().enumerate().collect();
        read_fields(previous, &paths, &mut found).ok()?;
        let changed = (0..).zip(found).filter_map(|(field, before)| match before {
            Before::Was(value) => Some((field, Some(value))),
            Before::Unknown => Some((field, None)),
            Before::Nothing | Before::NotSaid | Before::Same => None,
        });
        Some(Self(Some(changed.collect())))
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
    path_inside(outer, inner).is_some()
}

/// The place of a tracked field, and its path from the object that is read.
type Path<'a> = (usize, &'a str);

/// Notes in `found` what an object says of the fields at `paths`.
fn read_fields(object: &str, paths: &[Path<'_>], found: &mut [Before]) -> serde_json::Result<()> {
    let wanted = Wanted { paths, found };
    let fields = serde_json::Deserializer::from_str(object).deserialize_map(wanted)?;
    for (name, value) in fields {
        let value = value.get();
        let has_fields = value.starts_with('{') && !value[1..].trim_start().starts_with('}');
        let mut inside = Vec::new();
        for &(place, path) in paths {
            if path == name {
                // Only a part of it changed, unless it is no object.
                found[place] = match has_fields {
                    true => Before::Unknown,
                    false => Before::Was(json_fingerprint(value)),
                };
            } else if let Some(rest) = path_inside(&name, path) {
                match has_fields {
                    true => inside.push((place, rest)),
                    false => found[place] = Before::Unknown,
                }
            }
        }
        if !inside.is_empty() {
            read_fields(value, &inside, found)?;
        }
    }
    Ok(())
}

fn path_inside<'a>(outer: &str, inner: &'a str) -> Option<&'a str> {
    inner.strip_prefix(outer)?.strip_prefix('.')
}

/// Of an object the fields that are tracked or have a tracked one, each as text. Other values are never in
/// memory.
struct Wanted<'a> {
    paths: &'a [Path<'a>],
    found: &'a mut [Before],
}

impl<'de> Visitor<'de> for Wanted<'_> {
    /// Of several fields of one name, the last.
    type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wanted = BTreeMap::new();
        while let Some(Text(name)) = map.next_key()? {
            for (place, _) in self.paths.iter().filter(|(_, path)| encloses(path, &name)) {
                self.found[*place] = Before::Unknown;
            }
            let is_wanted = |(_, path): &Path<'_>| *path == name || encloses(&name, path);
            if self.paths.iter().any(is_wanted) {
                wanted.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fingerprint::fingerprint;
    use super::*;

    const TRACKED: [&str; 4] = ["status", "requirements.due", "items.data", "discount"];

    fn before(previous: &Value) -> [Before; 4] {
        let changes = Changes::read(&previous.to_string(), &TRACKED).expect("an object");
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
    fn of_fields_that_are_there_twice_the_last_counts_and_others_are_skipped() {
        let was = |value: &str| Before::Was(fingerprint(value));
        let table = [
            (
                r#"{"status":"a","status":"b"}"#,
                [was(r#""b""#), Before::Same],
            ),
            (
                r#"{"items":{"data":[1]},"items":{"data":[ 2 ]}}"#,
                [Before::Same, was("[2]")],
            ),
            (
                r#"{"items":{"data":[1]},"items":{"x":1}}"#,
                [Before::Same; 2],
            ),
            (r#"{"items":{ }}"#, [Before::Same, Before::Unknown]),
            (
                r#"{"st\u0061tus":{"":0},"statuses":{"status":1}}"#,
                [Before::Unknown, Before::Same],
            ),
        ];
        for (previous, expected) in table {
            let changes = Changes::read(previous, &["status", "items.data"]).expect("an object");
            assert_eq!(
                [0, 1].map(|field| changes.before(field)),
                expected,
                "{previous}"
            );
        }
        let deep = format!(
            r#"{{"status":1,"x":{}1{}}}"#,
            "[".repeat(999),
            "]".repeat(999)
        );
        let changes = Changes::read(&deep, &["status"]).expect("an object");
        assert_eq!(changes.before(0), was("1"));
    }

    #[test]
    fn no_previous_attributes_say_nothing_and_empty_ones_that_nothing_changed() {
        assert_eq!(Changes::default().before(0), Before::NotSaid);
        assert!(!Changes::default().are_none());
        let empty = Changes::read("{}", &TRACKED).expect("an object");
        assert!(empty.are_none());
        for text in ["null", "7", "[]", r#"["status"]"#] {
            assert_eq!(Changes::read(text, &TRACKED), None, "{text}");
        }
    }
}
