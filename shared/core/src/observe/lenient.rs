//! "This field, if it can be read": one odd field must not cost the rest of its event.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::object::{ObserveError, unreadable};
use crate::event::Event;

/// A field of one of Stripe's objects. Parsing it never fails.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Lenient<T> {
    /// It is not there, or null.
    #[default]
    Absent,
    /// It has the documented type.
    Known(T),
    /// It has another type, or a value that the type excludes.
    Odd,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    /// serde would also parse the fields of an object from a list: lists need [`list`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = raw(deserializer)?;
        Ok(if json.starts_with('[') {
            Self::Odd
        } else {
            Self::of(json)
        })
    }
}

/// A field that Stripe documents as a list; its elements are as lenient.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Lenient<Vec<Lenient<T>>>, D::Error> {
    raw(deserializer).map(Lenient::of)
}

/// The JSON text of a value. Because it is taken as text first, no error inside it (such as too many
/// levels) is an error of what surrounds it.
pub(super) fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    <&RawValue>::deserialize(deserializer).map(RawValue::get)
}

impl<'de, T: Deserialize<'de>> Lenient<T> {
    pub(super) fn of(json: &'de str) -> Self {
        match json {
            "null" => Self::Absent,
            json => serde_json::from_str(json).map_or(Self::Odd, Self::Known),
        }
    }
}

impl<T> Lenient<T> {
    pub(super) fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Odd => None,
        }
    }

    pub(super) fn as_known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Odd => None,
        }
    }

    pub(super) fn is_odd(&self) -> bool {
        matches!(self, Self::Odd)
    }

    /// The default of a field that is always there in an object that can be read.
    pub(super) fn odd() -> Self {
        Self::Odd
    }

    /// A field whose absence has a meaning, but whose value decides the object's status.
    pub(super) fn readable(self, event: &Event<'_>, name: &str) -> Result<Option<T>, ObserveError> {
        match self {
            Self::Absent => Ok(None),
            Self::Known(value) => Ok(Some(value)),
            Self::Odd => Err(unreadable(
                event,
                &format!("data.object.{name}: does not have the documented type"),
            )),
        }
    }

    /// A field without which nothing can be said of the object: its id, its status.
    pub(super) fn required(self, event: &Event<'_>, name: &str) -> Result<T, ObserveError> {
        self.readable(event, name)?
            .ok_or_else(|| unreadable(event, &format!("data.object.{name}: missing")))
    }
}

impl Lenient<String> {
    /// The id of the object, which an event cannot do without.
    pub(super) fn id(self, event: &Event<'_>) -> Result<String, ObserveError> {
        match self {
            Self::Known(id) if id.is_empty() => Self::Absent,
            id => id,
        }
        .required(event, "id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Default, PartialEq)]
    #[serde(default)]
    struct Object {
        number: Lenient<u32>,
        nested: Lenient<Box<Object>>,
        #[serde(deserialize_with = "list")]
        list: Lenient<Vec<Lenient<u32>>>,
    }

    #[test]
    fn an_odd_field_costs_only_itself() {
        let read = |json: &str| serde_json::from_str::<Object>(json).expect("an object");
        let known = Object {
            number: Lenient::Known(7),
            ..Object::default()
        };
        assert_eq!(read(r#"{"number":7,"nested":null}"#), known);
        let odd = read(r#"{"number":7,"nested":[7],"list":{"0":7}}"#);
        assert_eq!((odd.number, odd.nested), (Lenient::Known(7), Lenient::Odd));
        assert_eq!(odd.list, Lenient::Odd);
        let inside = read(r#"{"nested":{"number":"7"},"list":[7,"7",null]}"#);
        let nested = inside.nested.known().expect("an object");
        assert_eq!(nested.number, Lenient::Odd);
        let list = vec![Lenient::Known(7), Lenient::Odd, Lenient::Absent];
        assert_eq!(inside.list, Lenient::Known(list));
        let deep = format!(
            r#"{{"number":7,"nested":{}1{}}}"#,
            "[".repeat(999),
            "]".repeat(999)
        );
        assert_eq!(read(&deep).number, Lenient::Known(7));
    }
}
