//! What is read of an event's JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::EnvelopeError;
use crate::json_text::Text;

pub(super) fn read<'a, Object: Deserialize<'a>>(
    body: &'a [u8],
) -> Result<Wire<'a, Object>, EnvelopeError> {
    if is_array(body) && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        return Err(EnvelopeError::WrongShape("it is an array"));
    }
    // What is known to be UTF-8 is not checked again, text by text.
    let parsed = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    parsed.map_err(|e| {
        if e.is_data() {
            EnvelopeError::WrongShape(
                "id, type, created or account has the wrong type, or a field is there twice",
            )
        } else {
            EnvelopeError::InvalidJson {
                line: e.line(),
                column: e.column(),
            }
        }
    })
}

/// serde would also parse the fields of a struct from an array.
pub(super) fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Object: Deserialize<'de>"))]
pub(super) struct Wire<'a, Object> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) created: Option<Created<'a>>,
    #[serde(borrow)]
    pub(super) account: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) context: IfDocumented<Text<'a>>,
    #[serde(default)]
    pub(super) livemode: IfDocumented<bool>,
    #[serde(borrow, default = "IfObject::absent")]
    pub(super) data: IfObject<WireData<'a, Object>>,
    #[serde(borrow, default = "IfObject::absent")]
    pub(super) related_object: IfObject<Related<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Object: Deserialize<'de>"))]
pub(super) struct WireData<'a, Object> {
    pub(super) object: Option<Object>,
    #[serde(borrow)]
    pub(super) previous_attributes: Option<&'a RawValue>,
    #[serde(borrow, default = "IfObject::absent")]
    pub(super) impact: IfObject<Impact<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Related<'a> {
    #[serde(borrow, default)]
    pub(super) id: IfDocumented<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    pub(super) object: IfDocumented<Text<'a>>,
}

/// What the event was about that Stripe failed to make.
#[derive(Deserialize)]
pub(super) struct Impact<'a> {
    #[serde(borrow, default)]
    pub(super) context: IfDocumented<Text<'a>>,
    #[serde(borrow, default = "IfObject::absent")]
    pub(super) related_object: IfObject<Related<'a>>,
}

/// A text or a flag. Of another type, it counts as absent.
pub(super) struct IfDocumented<T>(pub(super) Option<T>);

impl<T> Default for IfDocumented<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for IfDocumented<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(json.get()).ok()))
    }
}

/// An object. Anything else counts as absent.
pub(super) struct IfObject<T>(pub(super) Option<T>);

impl<T> IfObject<T> {
    fn absent() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for IfObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ObjectOrNot(PhantomData))
            .map(Self)
    }
}

struct ObjectOrNot<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectOrNot<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// `created` is a number in snapshot events and ISO 8601 in thin ones.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Created<'a> {
    Seconds(i64),
    Iso(#[serde(borrow)] Cow<'a, str>),
}
