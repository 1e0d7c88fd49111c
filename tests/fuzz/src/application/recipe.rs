//! An event of a documented type, with fields removed, nulled or retyped, as bytes choose it: a fuzzer that changes text
//! seldom finds such a one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use revwatch_core::app_event::{AppEvent, AppEventType, TYPES};
use serde_json::{Value, json};

use crate::NOW_S;

/// The bytes say: the type, the id, the minute, the object, and then a field and what happens to it, any number of times.
/// Each counts modulo the number of choices; what is missing is the first choice.
pub(super) struct Recipe {
    row: &'static AppEventType,
    schema: Value,
    event: Value,
    /// The fields that the schema must refuse.
    wrong: BTreeSet<String>,
}

impl Recipe {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied();
        let mut choose = |choices: usize| usize::from(bytes.next()?).checked_rem(choices);
        let mut first = |choices| choose(choices).unwrap_or(0);
        let row = &TYPES[first(TYPES.len())];
        let schema: Value = serde_json::from_str(row.schema).expect("JSON");
        let (id, minute, object) = (first(32), first(8), first(3));
        let time = NOW_S - 3600 + i64::try_from(minute).unwrap_or(0) * 60;
        let time = Timestamp::from_second(time).expect("a time").to_string();
        let mut data = schema["examples"][0].clone();
        of_object(&mut data, row.subject.field(), object);
        let mut recipe = Self {
            row,
            event: json!({"specversion": "1.0", "id": id.to_string(), "source": "/fuzz", "type": row.name, "time": time, "data": data}),
            schema,
            wrong: BTreeSet::new(),
        };
        let fields: Vec<String> = recipe.properties().map(ToOwned::to_owned).collect();
        while let Some(field) = choose(fields.len()) {
            recipe.change(&fields[field], choose(CHANGES.len()).unwrap_or(0));
        }
        recipe
    }

    /// The body. The verdict on it is what its changes ask for.
    pub(super) fn checked_body(self) -> Vec<u8> {
        let body = self.event.to_string().into_bytes();
        match AppEvent::parse(&body) {
            Ok(event) => {
                assert!(self.wrong.is_empty(), "accepted: {}", self.event);
                assert_eq!(event.subject.map(|it| it.0), Some(self.row.subject));
            }
            Err(error) => assert!(
                self.wrong.contains(&error.pointer),
                "{error}: {}",
                self.event
            ),
        }
        body
    }

    fn properties(&self) -> impl Iterator<Item = &str> {
        let fields = self.schema["properties"].as_object().into_iter().flatten();
        fields.map(|(name, _)| name.as_str())
    }

    fn change(&mut self, field: &str, change: usize) {
        let is_required = self.schema["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it == field));
        let types = &self.schema["properties"][field]["type"];
        let may_be_null = types.is_array();
        let data = self.event["data"].as_object_mut().expect("an object");
        let is_right = match CHANGES[change] {
            Change::Remove => {
                data.remove(field);
                !is_required
            }
            Change::Null => {
                data.insert(field.to_owned(), Value::Null);
                may_be_null
            }
            Change::Retype(value) => {
                let value = serde_json::from_str(value).expect("JSON");
                data.insert(field.to_owned(), value);
                false
            }
            Change::Restore => {
                let value = self.schema["examples"][0][field].clone();
                // The examples do not have all that is optional.
                match value {
                    Value::Null => drop(data.remove(field)),
                    value => drop(data.insert(field.to_owned(), value)),
                }
                true
            }
        };
        let pointer = format!("/data/{field}");
        match is_right {
            true => self.wrong.remove(&pointer),
            false => self.wrong.insert(pointer),
        };
    }
}

/// What happens to a field.
#[derive(Clone, Copy)]
enum Change {
    Remove,
    Null,
    /// A value of a type, or in a range, that no schema accepts.
    Retype(&'static str),
    Restore,
}

const CHANGES: [Change; 10] = [
    Change::Restore,
    Change::Remove,
    Change::Null,
    Change::Retype("true"),
    Change::Retype("-1"),
    Change::Retype("1e300"),
    Change::Retype(r#""""#),
    Change::Retype(r#""\u0000""#),
    Change::Retype("[]"),
    Change::Retype("{}"),
];

/// A few objects, so that many events are about the same one.
fn of_object(data: &mut Value, field: &str, object: usize) {
    let id = data[field].as_str().expect("a text");
    data[field] = json!(format!("{id}{object}"));
}
