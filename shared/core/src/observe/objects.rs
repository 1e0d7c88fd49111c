//! The fields of Stripe's objects that revwatch parses, in both forms.

use rust_decimal::Decimal;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use crate::entity::timeline::fingerprint;

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

#[derive(Deserialize)]
pub(super) struct SubscriptionObject {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) customer: Option<Reference>,
    #[serde(default, deserialize_with = "currency")]
    pub(super) currency: Option<String>,
    #[serde(deserialize_with = "record")]
    pub(super) items: Items,
    /// Up to acacia; later versions have only `discounts`.
    #[serde(default)]
    pub(super) discount: FingerprintedItem<Discount>,
    #[serde(default)]
    pub(super) discounts: Fingerprinted<Discount>,
    pub(super) cancel_at_period_end: Option<bool>,
    pub(super) cancel_at: Option<Seconds>,
    pub(super) trial_end: Option<Seconds>,
}

#[derive(Deserialize)]
pub(super) struct Items {
    #[serde(deserialize_with = "not_null")]
    pub(super) data: Fingerprinted<Item>,
}

/// A list that must not be null.
fn not_null<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(
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
        if (0..=253_402_300_799).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err("out of range")
        }
    }
}

/// Parses an object where an object is documented: serde would also parse its fields from a list.
fn record<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(
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
fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let is_currency =
        |text: &str| (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic());
    match text {
        Some(text) if !is_currency(&text) => Err(D::Error::custom("not a currency")),
        text => Ok(text),
    }
}

fn required_currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
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

#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(deserialize_with = "record")]
    pub(super) price: Price,
    pub(super) quantity: Option<u64>,
    #[serde(default)]
    pub(super) discounts: Discounts,
}

/// A list of discounts; null is an empty one.
#[derive(Default)]
pub(super) struct Discounts(pub(super) Vec<Discount>);

impl<'de> Deserialize<'de> for Discounts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// An id, or the discount itself. From 2025-09-30.clover on, the coupon is below `source`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Discount {
    Id(#[expect(dead_code, reason = "an id does not contain the amount")] String),
    Object(FullDiscount),
}

#[derive(Deserialize)]
#[serde(try_from = "DiscountFields")]
pub(super) struct FullDiscount(Option<CouponRef>);

#[derive(Deserialize)]
struct DiscountFields {
    coupon: Option<CouponRef>,
    #[serde(default, deserialize_with = "record")]
    source: Option<DiscountSource>,
}

impl TryFrom<DiscountFields> for FullDiscount {
    type Error = &'static str;

    fn try_from(fields: DiscountFields) -> Result<Self, Self::Error> {
        match (fields.coupon, fields.source) {
            (Some(coupon), _) => Ok(Self(Some(coupon))),
            (None, Some(source)) => Ok(Self(source.coupon)),
            (None, None) => Err("a discount without its coupon"),
        }
    }
}

#[derive(Deserialize)]
struct DiscountSource {
    #[serde(deserialize_with = "present")]
    coupon: Option<CouponRef>,
}

/// The field may be null, but must be present.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CouponRef {
    Id(#[expect(dead_code, reason = "an id does not contain the amount")] String),
    Object(Coupon),
}

#[derive(Deserialize)]
#[serde(try_from = "CouponFields")]
pub(super) struct Coupon {
    pub(super) lasts_forever: bool,
    pub(super) off: CouponValue,
}

pub(super) enum CouponValue {
    Percent(Decimal),
    Minor(i64),
}

#[derive(Deserialize)]
struct CouponFields {
    duration: String,
    percent_off: Option<DecimalNumber>,
    amount_off: Option<Minor>,
}

impl TryFrom<CouponFields> for Coupon {
    type Error = &'static str;

    fn try_from(fields: CouponFields) -> Result<Self, Self::Error> {
        let off = match (fields.percent_off, fields.amount_off) {
            (Some(percent), _)
                if percent.0 >= Decimal::ZERO && percent.0 <= Decimal::ONE_HUNDRED =>
            {
                CouponValue::Percent(percent.0)
            }
            (None, Some(amount)) if amount.0 >= 0 => CouponValue::Minor(amount.0),
            _ => return Err("a coupon without a discount, or with more than 100 %"),
        };
        Ok(Self {
            lasts_forever: fields.duration == "forever",
            off,
        })
    }
}

impl Discount {
    pub(super) fn coupon(&self) -> Option<&Coupon> {
        let Self::Object(FullDiscount(coupon)) = self else {
            return None;
        };
        match coupon {
            Some(CouponRef::Object(coupon)) => Some(coupon),
            _ => None,
        }
    }
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

#[derive(Deserialize)]
pub(super) struct Price {
    pub(super) id: Option<String>,
    pub(super) product: Option<Reference>,
    pub(super) lookup_key: Option<String>,
    pub(super) unit_amount: Option<i64>,
    pub(super) unit_amount_decimal: Option<DecimalText>,
    /// Null for a one-off price.
    #[serde(deserialize_with = "record")]
    pub(super) recurring: Option<Recurring>,
    #[serde(default, deserialize_with = "record")]
    pub(super) transform_quantity: Option<Transform>,
}

#[derive(Deserialize)]
pub(super) struct Recurring {
    pub(super) interval: String,
    pub(super) interval_count: u32,
    pub(super) usage_type: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Transform {
    pub(super) divide_by: u32,
    pub(super) round: String,
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

#[derive(Deserialize)]
pub(super) struct InvoiceObject {
    pub(super) id: String,
    pub(super) status: Option<String>,
    pub(super) paid: Option<bool>,
    pub(super) customer: Option<Reference>,
    /// Up to acacia; later versions have it under `parent`.
    pub(super) subscription: Option<Reference>,
    pub(super) parent: Option<InvoiceParent>,
    #[serde(default, deserialize_with = "currency")]
    pub(super) currency: Option<String>,
    pub(super) amount_due: Minor,
    pub(super) amount_paid: Minor,
    pub(super) attempt_count: u32,
}

#[derive(Deserialize)]
pub(super) struct InvoiceParent {
    pub(super) subscription_details: Option<SubscriptionDetails>,
}

#[derive(Deserialize)]
pub(super) struct SubscriptionDetails {
    pub(super) subscription: Option<Reference>,
}

#[derive(Deserialize)]
pub(super) struct PayoutObject {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    pub(super) currency: String,
    pub(super) failure_code: Option<String>,
    pub(super) failure_message: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct AccountObject {
    pub(super) id: String,
    pub(super) country: Option<String>,
    pub(super) created: Option<Seconds>,
    pub(super) charges_enabled: bool,
    pub(super) payouts_enabled: bool,
    pub(super) details_submitted: Option<bool>,
    #[serde(default, deserialize_with = "record")]
    pub(super) requirements: Option<Requirements>,
    pub(super) external_accounts: Option<ExternalAccounts>,
}

#[derive(Deserialize, Default)]
pub(super) struct Requirements {
    pub(super) disabled_reason: Option<String>,
    #[serde(default)]
    pub(super) currently_due: Fingerprinted<String>,
    #[serde(default)]
    pub(super) past_due: Fingerprinted<String>,
}

/// Only whether there are any is read: no numbers, no holders.
#[derive(Deserialize, Default)]
pub(super) struct ExternalAccounts {
    pub(super) data: Option<Vec<serde::de::IgnoredAny>>,
    pub(super) total_count: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct CapabilityObject {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) account: Option<Reference>,
}

#[derive(Deserialize)]
pub(super) struct ExternalAccountObject {
    pub(super) id: String,
    pub(super) last4: Option<String>,
    pub(super) country: Option<String>,
    #[serde(default, deserialize_with = "currency")]
    pub(super) currency: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PaymentObject {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    pub(super) currency: String,
    pub(super) customer: Option<Reference>,
    /// Up to acacia.
    pub(super) invoice: Option<Reference>,
    pub(super) last_payment_error: Option<PaymentError>,
    pub(super) latest_charge: Option<Reference>,
}

/// Excludes the message: it may name a person or a card.
#[derive(Deserialize)]
pub(super) struct PaymentError {
    /// Every error has a type; only some have codes.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CheckoutObject {
    pub(super) id: String,
    pub(super) status: Option<String>,
    pub(super) payment_status: Option<String>,
    pub(super) amount_total: Option<Minor>,
    #[serde(default, deserialize_with = "currency")]
    pub(super) currency: Option<String>,
    pub(super) customer: Option<Reference>,
    pub(super) subscription: Option<Reference>,
}

#[derive(Deserialize)]
pub(super) struct DisputeObject {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    pub(super) currency: String,
    pub(super) reason: Option<String>,
    pub(super) charge: Option<Reference>,
}

#[derive(Deserialize)]
pub(super) struct RefundObject {
    pub(super) id: String,
    /// Absent in the oldest API versions, which reported only refunds that had succeeded.
    pub(super) status: Option<String>,
    pub(super) amount: Minor,
    #[serde(deserialize_with = "required_currency")]
    pub(super) currency: String,
    pub(super) failure_reason: Option<String>,
    pub(super) charge: Option<Reference>,
}

#[derive(Deserialize)]
pub(super) struct TransferObject {
    pub(super) id: String,
    pub(super) amount: Minor,
    pub(super) amount_reversed: Minor,
    pub(super) reversed: bool,
    #[serde(deserialize_with = "required_currency")]
    pub(super) currency: String,
    pub(super) destination: Option<Reference>,
}
