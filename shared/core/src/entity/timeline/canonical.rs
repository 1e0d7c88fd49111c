//! The canonical text of a JSON value: without spaces, with its fields sorted, and of several fields of one name only
//! the last. The same as that of `serde_json::Value`, but the value is never in memory: only its text, and the
//! names of the fields of the objects around the place that is read.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::json_text::Text;

/// Fails if the text has too many levels.
pub(super) fn canonical(json: &str) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut from = serde_json::Deserializer::from_str(json);
    Canonical(&mut text).deserialize(&mut from)?;
    from.end()?;
    Ok(text)
}

/// Appends the canonical text of the next value.
struct Canonical<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend(b"null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.extend(value.to_string().bytes());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.extend(value.to_string().bytes());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.extend(value.to_string().bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        match Number::from_f64(value) {
            Some(number) => self.0.extend(number.to_string().bytes()),
            None => self.0.extend(b"null"),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        serde_json::to_writer(self.0, text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let text = self.0;
        text.push(b'[');
        let begin = text.len();
        while list.next_element_seed(Canonical(text))?.is_some() {
            text.push(b',');
        }
        // The comma after the last one.
        text.truncate(begin.max(text.len().saturating_sub(1)));
        text.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let text = self.0;
        let begin = text.len();
        let mut fields: Vec<(Cow<'de, str>, Range<usize>)> = Vec::new();
        while let Some(Text(name)) = map.next_key()? {
            let from = text.len().saturating_sub(begin);
            serde_json::to_writer(&mut *text, &name).map_err(A::Error::custom)?;
            text.push(b':');
            map.next_value_seed(Canonical(text))?;
            fields.push((name, from..text.len().saturating_sub(begin)));
        }
        // So that the last one of a name comes first.
        fields.reverse();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields.dedup_by(|(later, _), (kept, _)| later == kept);
        let as_read = text.split_off(begin);
        text.push(b'{');
        for (place, (_, field)) in fields.into_iter().enumerate() {
            if place > 0 {
                text.push(b',');
            }
            text.extend(&as_read[field]);
        }
        text.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn text_of(json: &str) -> Option<String> {
        canonical(json)
            .ok()
            .map(|text| String::from_utf8(text).expect("JSON"))
    }

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
            assert_eq!(text_of(text), value.ok(), "{text}");
        }
        for depth in [127, 128, 200] {
            let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            let value = serde_json::from_str::<Value>(&deep);
            assert_eq!(canonical(&deep).is_ok(), value.is_ok(), "{depth} levels");
        }
    }
}
