//! The types of the fields that revwatch parses in Stripe's objects.

use std::fmt;
use std::marker::PhantomData;

use rust_decimal::Decimal;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use serde_json::value::RawValue;

use super::lenient::Lenient;
use super::object::{ObserveError, unreadable};
use super::ways::{BothWays, either_way, read_strictly};
use crate::currency::is_currency;
use crate::entity::timeline::{fingerprint, json_fingerprint};
use crate::event::{Event, MAX_ID_BYTES, MAX_S};

/// The largest amount, in minor units. Stripe's own limits differ by object and currency; an IDR
/// payout reaches 14 digits. A hundred times as much is no amount, and a sum of thousands of such amounts
/// still fits into 64 bits.
/// Source: <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
pub(super) const MAX_MINOR: i64 = 1_000_000_000_000_000;

/// Stripe sends some objects as their id, or completely if they were expanded.
#[derive(Debug, Clone)]
pub(super) enum Expandable<T> {
    Id(String),
    Object(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Expandable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdOrObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for IdOrObject<T> {
            type Value = Expandable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id or an object")
            }

            fn visit_str<E: serde::de::Error>(self, id: &str) -> Result<Self::Value, E> {
                Id::try_from(id.to_owned())
                    .map(|id| Expandable::Id(id.0))
                    .map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(Expandable::Object)
            }
        }

        deserializer.deserialize_any(IdOrObject(PhantomData))
    }
}

/// Of the object, only its id is read.
pub(super) type Reference = Expandable<Identified>;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Identified {
    id: Id,
}

/// An id. A longer text is none.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Id(String);

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        match id.len() {
            ..=MAX_ID_BYTES => Ok(Self(id)),
            _ => Err("too long for an id"),
        }
    }
}

impl Reference {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object(Identified { id: Id(id) }) => id,
        }
    }

    pub(super) fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Object(Identified { id: Id(id) }) => id,
        }
    }
}

impl Lenient<Reference> {
    pub(super) fn into_id(self) -> Option<String> {
        self.known().map(Reference::into_id)
    }
}

/// Unix seconds up to the year 9999.
#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(try_from = "i64")]
pub(super) struct Seconds(pub(super) i64);

impl TryFrom<i64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: i64) -> Result<Self, Self::Error> {
        if (0..=MAX_S).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err("out of range")
        }
    }
}

/// A code that [`crate::currency`] lists; here in lower case. Currencies become parts of counters and labels, so other text
/// is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Currency(String);

impl TryFrom<String> for Currency {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let code = text.to_ascii_lowercase();
        is_currency(&code)
            .then_some(Self(code))
            .ok_or("not a currency")
    }
}

impl Currency {
    pub(super) fn code(&self) -> &str {
        &self.0
    }
}

impl Lenient<Currency> {
    pub(super) fn into_code(self) -> Option<String> {
        self.known().map(|currency| currency.0)
    }
}

/// A list or an object, and the fingerprint of its JSON.
#[derive(Debug)]
pub(super) struct Fingerprinted<T>(pub(super) Lenient<T>, pub(super) u32);

impl<T> Default for Fingerprinted<T> {
    fn default() -> Self {
        Self(Lenient::Absent, fingerprint("null"))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fingerprinted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        either_way(deserializer)
    }
}

impl<'de, T: Deserialize<'de>> BothWays<'de> for Fingerprinted<T> {
    fn strictly<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let value = read_strictly(json).map_err(D::Error::custom)?;
        Ok(Self(value, json_fingerprint(json)))
    }

    fn leniently(json: &'de str) -> serde_json::Result<Self> {
        Ok(Self(Lenient::leniently(json)?, json_fingerprint(json)))
    }
}

/// A JSON number with its decimals.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Number")]
pub(super) struct DecimalNumber(pub(super) Decimal);

impl TryFrom<Number> for DecimalNumber {
    type Error = &'static str;

    fn try_from(number: Number) -> Result<Self, Self::Error> {
        Decimal::from_str_exact(&number.to_string())
            .map(Self)
            .map_err(|_| "not a decimal number")
    }
}

/// Minor units with up to 12 decimals, as text.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct DecimalText(pub(super) Decimal);

impl TryFrom<String> for DecimalText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Decimal::from_str_exact(&text)
            .map(Self)
            .map_err(|_| "not a decimal number")
    }
}

/// An integer number of minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Minor {
    Within(i64),
    /// More than [`MAX_MINOR`], or less than its negative.
    Beyond,
}

impl Minor {
    pub(super) fn of(minor: i64) -> Self {
        if (-MAX_MINOR..=MAX_MINOR).contains(&minor) {
            Self::Within(minor)
        } else {
            Self::Beyond
        }
    }
}

impl<'de> Deserialize<'de> for Minor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        either_way(deserializer)
    }
}

impl<'de> BothWays<'de> for Minor {
    fn strictly<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::of)
    }

    /// serde_json would read an integer of more than 64 bits as a fraction.
    fn leniently(json: &'de str) -> serde_json::Result<Self> {
        let digits = json.strip_prefix('-').unwrap_or(json);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(serde_json::Error::custom("not an integer"));
        }
        Ok(json.parse().map_or(Self::Beyond, Self::of))
    }
}

impl Lenient<Minor> {
    /// The amount, if it is known. One beyond the bound makes the event unreadable: it could
    /// overflow a sum.
    pub(super) fn amount(self, event: &Event<'_>, name: &str) -> Result<Option<i64>, ObserveError> {
        match self.known() {
            None => Ok(None),
            Some(Minor::Within(minor)) => Ok(Some(minor)),
            Some(Minor::Beyond) => Err(beyond(event, name, MAX_MINOR)),
        }
    }
}

pub(super) fn beyond(event: &Event<'_>, name: &str, bound_minor: i64) -> ObserveError {
    let what = format!("data.object.{name}: larger than any amount ({bound_minor} minor units)");
    unreadable(event, &what)
}
