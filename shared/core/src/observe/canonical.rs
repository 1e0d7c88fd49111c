//! The canonical text of a JSON value: without spaces, with its fields sorted, and of several fields of one name only
//! the last. The same as that of `serde_json::Value`, but what needs no change is borrowed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use crate::event::Text;

/// Fails if the text has too many levels.
pub(super) fn canonical(json: &str) -> serde_json::Result<String> {
    serde_json::to_string(&serde_json::from_str::<Canonical<'_>>(json)?)
}

enum Canonical<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Fields(Vec<(Cow<'a, str>, Self)>),
}

impl<'de> Deserialize<'de> for Canonical<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Canonical<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Canonical::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Canonical::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Canonical::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Canonical::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(value).map_or(Canonical::Null, Canonical::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Canonical::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Canonical::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Canonical::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((Text(name), value)) = map.next_entry()? {
            fields.push((name, value));
        }
        // So that the last one of a name comes first.
        fields.reverse();
        fields.sort_by(|(one, _), (other, _): &(Cow<'_, str>, _)| one.cmp(other));
        fields.dedup_by(|(later, _), (kept, _)| later == kept);
        Ok(Canonical::Fields(fields))
    }
}

impl Serialize for Canonical<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => serializer.collect_seq(values),
            Self::Fields(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Stored fingerprints are of that text.
    #[test]
    fn the_text_is_that_of_a_parsed_value() {
        let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        let texts = [
            "null",
            "[]",
            "{}",
            " [ 1 , -2, 1.0, 1e3, 0.1, 1e400, 18446744073709551615, 184467440737095516150, -0, true ] ",
            r#"{"b":1,"a":{"d":[{"z":null,"y":false}],"c":2},"b":{"x":3},"é":"\u00e9\n\/\u0000","a":0}"#,
            r#"{"\u0061":1,"a":2,"B":3,"":4,"aa":5,"a":6}"#,
            &deep,
        ];
        for text in texts {
            let value = serde_json::from_str::<Value>(text).map(|value| value.to_string());
            assert_eq!(canonical(text).ok(), value.ok(), "{text}");
        }
        for depth in [127, 128, 200] {
            let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            let value = serde_json::from_str::<Value>(&deep);
            assert_eq!(canonical(&deep).is_ok(), value.is_ok(), "{depth} levels");
        }
    }
}
