//! "This field, if it can be read": one odd field must not cost the rest of its event.

use serde::{Deserialize, Deserializer};

use super::bounds::is_too_long_a_text;
use super::object::{ObserveError, unreadable};
use super::ways::{BothWays, Documented, either_way, read_leniently};
use crate::event::{Event, MAX_ID_BYTES};

/// A field of one of Stripe's objects. The lenient way to read it never fails; the strict way
/// never gives an odd field.
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        either_way(deserializer)
    }
}

impl<'de, T: Deserialize<'de>> BothWays<'de> for Lenient<T> {
    fn strictly<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Absent, |Documented(value)| Self::Known(value)))
    }

    fn leniently(json: &'de str) -> serde_json::Result<Self> {
        Ok(match json {
            "null" => Self::Absent,
            json if is_too_long_a_text(json) => Self::Odd,
            json => read_leniently(json).map_or(Self::Odd, Self::Known),
        })
    }
}

impl<T> Lenient<T> {
    pub(super) fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Odd => None,
        }
    }

    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Lenient<U> {
        match self {
            Self::Absent => Lenient::Absent,
            Self::Known(value) => Lenient::Known(f(value)),
            Self::Odd => Lenient::Odd,
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
        let id = match self {
            Self::Known(id) if id.is_empty() => Self::Absent,
            id => id,
        };
        let id = id.required(event, "id")?;
        if id.len() > MAX_ID_BYTES {
            let what = format!("data.object.id: longer than {MAX_ID_BYTES} bytes");
            return Err(unreadable(event, &what));
        }
        Ok(id)
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
        list: Lenient<Vec<Lenient<u32>>>,
    }

    #[test]
    fn an_odd_field_costs_only_itself() {
        let read = |json: &str| read_leniently::<Object>(json).expect("an object");
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
