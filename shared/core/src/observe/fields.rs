//! The types of the fields that revwatch parses in Stripe's objects.

use rust_decimal::Decimal;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use crate::entity::timeline::fingerprint;
use crate::event::MAX_S;

/// Stripe sends a reference as an id, or as the complete object if it was expanded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }

    pub(super) fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

/// A list that must not be null.
pub(super) fn not_null<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Fingerprinted<T>, D::Error> {
    let list = Fingerprinted::deserialize(deserializer)?;
    if list.1 == fingerprint("null") {
        Err(serde::de::Error::custom("null"))
    } else {
        Ok(list)
    }
}

/// Unix seconds up to the year 9999.
#[derive(Deserialize, Clone, Copy)]
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

/// Parses an object where an object is documented: serde would also parse its fields from a list.
pub(super) fn record<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_array() {
        return Err(serde::de::Error::custom("a list"));
    }
    from_value(value)
}

/// Parses a value from [`Value`]. The failing path is located only after an error.
fn from_value<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    T::deserialize(&value)
        .or_else(|_| serde_path_to_error::deserialize(value).map_err(|e| inside(&e)))
}

/// Three letters (ISO 4217), or more for a currency that no state issues. Currencies become parts
/// of counters and labels, so other text is refused. Source: <https://docs.stripe.com/currencies>.
pub(super) fn currency<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let is_currency =
        |text: &str| (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic());
    match text {
        Some(text) if !is_currency(&text) => Err(D::Error::custom("not a currency")),
        text => Ok(text),
    }
}

pub(super) fn required_currency<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    currency(deserializer)?.ok_or_else(|| D::Error::custom("no currency"))
}

/// Reports the path of an error inside a nested value.
fn inside<E: serde::de::Error>(error: &serde_path_to_error::Error<serde_json::Error>) -> E {
    let cause = error.inner().to_string();
    if cause.starts_with("missing field") {
        return E::custom(cause);
    }
    let deeper = cause.strip_prefix(INSIDE).unwrap_or_default();
    let path = error.path().to_string();
    let dot = if path.starts_with(['[', '.']) {
        ""
    } else {
        "."
    };
    E::custom(format!("{INSIDE}{dot}{path}{deeper}"))
}

/// A list, and the fingerprint of its JSON.
pub(super) struct Fingerprinted<T>(pub(super) Vec<T>, pub(super) u32);

impl<T> Default for Fingerprinted<T> {
    fn default() -> Self {
        Self(Vec::new(), fingerprint("null"))
    }
}

/// One value or null, and the fingerprint of its JSON.
pub(super) struct FingerprintedItem<T>(pub(super) Option<T>, pub(super) u32);

impl<T> Default for FingerprintedItem<T> {
    fn default() -> Self {
        Self(None, fingerprint("null"))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for FingerprintedItem<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let fingerprint_of_value = fingerprint(&value.to_string());
        let item = Option::deserialize(value)
            .map_err(|_| serde::de::Error::custom("does not have the documented type"))?;
        Ok(Self(item, fingerprint_of_value))
    }
}

pub(super) const INSIDE: &str = "inside: ";

impl<'de, T: DeserializeOwned> Deserialize<'de> for Fingerprinted<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let fingerprint_of_value = fingerprint(&value.to_string());
        // Null is an empty list, as for every other field.
        let list: Option<Vec<T>> = from_value(value)?;
        Ok(Self(list.unwrap_or_default(), fingerprint_of_value))
    }
}

/// The field may be null, but must be present.
pub(super) fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// A JSON number, parsed as text and not through a double.
#[derive(Deserialize)]
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

/// An amount in minor units. Stripe's amounts have at most twelve digits; a much larger number is
/// invalid and could overflow a sum. Source:
/// <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "i64")]
pub(super) struct Minor(pub(super) i64);

const MAX_MINOR: i64 = 10_000_000_000_000;

impl TryFrom<i64> for Minor {
    type Error = &'static str;

    fn try_from(minor: i64) -> Result<Self, Self::Error> {
        if (-MAX_MINOR..=MAX_MINOR).contains(&minor) {
            Ok(Self(minor))
        } else {
            Err("too large for an amount")
        }
    }
}

/// Minor units with up to 12 decimals, as text.
#[derive(Deserialize)]
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
