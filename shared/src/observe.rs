//! What an event says of which entities. Both shapes of Stripe's objects (up to acacia, and from
//! 2025-03-31.basil on) are read here and nowhere else.
//!
//! A field that is absent or null is unknown; one that has another type than Stripe documents makes
//! the whole event unreadable, because a guess about money is worse than a dead letter.

use std::collections::BTreeMap;

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::entity::account::{AccountFacts, AccountNews, CapabilityFacts};
use crate::entity::invoice::{InvoiceFacts, InvoiceOrigin};
use crate::entity::payout::{PayoutFacts, PayoutOrigin};
use crate::entity::subscription::{SubscriptionFacts, SubscriptionOrigin};
use crate::entity::timeline::{Change, Sighting, Stage, changes, fingerprint};
use crate::entity::words::InvoiceStatus;
use crate::entity::{EntityKey, EntityKind, News, Observation};
use crate::event::Event;

/// An event whose object cannot be read. The text names the field and never quotes its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind}: {what}")]
pub struct Unreadable {
    kind: String,
    what: String,
}

/// Plan names by price id, product id or lookup key (R1).
#[derive(Debug, Clone, Default)]
pub struct Plans(BTreeMap<String, String>);

impl Plans {
    /// As configured under `[plans]`.
    pub fn new(names: BTreeMap<String, String>) -> Self {
        Self(names)
    }

    fn name(&self, price: &Price) -> Option<&str> {
        let product = price.product.as_ref().map(Reference::id);
        let keys = [price.id.as_deref(), price.lookup_key.as_deref(), product];
        keys.into_iter().flatten().find_map(|key| self.0.get(key)).map(String::as_str)
    }
}

/// The plan of a subscription none of whose prices is configured.
pub const UNMAPPED_PLAN: &str = "unmapped";

/// Which entities learn what from `event`. Types that change no entity give nothing.
pub fn observe(event: &Event<'_>, plans: &Plans) -> Result<Vec<Observation>, Unreadable> {
    let kind = event.kind.as_ref();
    let mut observations = Vec::new();
    if let Some(account) = event.account.as_deref().filter(|id| id.starts_with("acct_")) {
        observations.push(about_account(event, account, AccountNews::Seen));
    }
    let family = kind.rsplit_once('.').map_or(kind, |(family, _)| family);
    match family {
        "customer.subscription" => observations.push(subscription(event, plans)?),
        // A preview of what is to come has no invoice behind it yet, and no id.
        "invoice" if kind != "invoice.upcoming" => observations.push(invoice(event)?),
        "payout" => observations.push(payout(event)?),
        "account" if kind == "account.updated" => observations.push(account(event)?),
        "account.application" => observations.extend(connection(event)),
        "account.external_account" if kind == "account.external_account.created" => {
            observations
                .extend(event.account.as_deref().map(|id| about_account(event, id, AccountNews::ExternalAccount)));
        }
        "capability" => observations.extend(capability(event)?),
        _ => {}
    }
    Ok(observations)
}

fn subscription(event: &Event<'_>, plans: &Plans) -> Result<Observation, Unreadable> {
    let object: SubscriptionObject = read(event)?;
    let recurring =
        recurring_minor(&object.items.data.0).ok_or_else(|| unreadable(event, "items: amounts overflow"))?;
    let plan = object.items.data.0.iter().find_map(|item| plans.name(item.price.as_ref()?));
    let facts = SubscriptionFacts {
        status: object.status.into(),
        plan: plan.unwrap_or(UNMAPPED_PLAN).to_owned(),
        recurring_minor: recurring,
        cancel_at_period_end: object.cancel_at_period_end.unwrap_or(false),
        cancel_at_s: object.cancel_at,
        trial_end_s: object.trial_end,
        items_print: object.items.data.1,
    };
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.map(Reference::into_id),
        currency: object.currency.map(|c| c.to_ascii_lowercase()),
    };
    let news = News::Subscription(origin, sighting(event, facts)?);
    Ok(Observation { key: EntityKey::new(EntityKind::Subscription, object.id), created_s: event.created_s, news })
}

fn invoice(event: &Event<'_>) -> Result<Observation, Unreadable> {
    let object: InvoiceObject = read(event)?;
    let status = match (event.kind.as_ref(), object.status) {
        ("invoice.deleted", _) => InvoiceStatus::Deleted,
        (_, Some(status)) => status.into(),
        // The oldest API versions have no status, but say whether the invoice is paid.
        (_, None) if object.paid == Some(true) => InvoiceStatus::Paid,
        (_, None) => return Err(unreadable(event, "status: missing")),
    };
    let parent = object.parent.and_then(|p| p.subscription_details).and_then(|d| d.subscription);
    let facts = InvoiceFacts {
        status,
        amount_due_minor: object.amount_due.map_or(0, |a| a.0),
        amount_paid_minor: object.amount_paid.map_or(0, |a| a.0),
        attempts: object.attempt_count.unwrap_or(0),
    };
    let origin = InvoiceOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.map(Reference::into_id),
        subscription: object.subscription.or(parent).map(Reference::into_id),
        currency: object.currency.map(|c| c.to_ascii_lowercase()),
    };
    let news = News::Invoice(origin, sighting(event, facts)?);
    Ok(Observation { key: EntityKey::new(EntityKind::Invoice, object.id), created_s: event.created_s, news })
}

fn payout(event: &Event<'_>) -> Result<Observation, Unreadable> {
    let object: PayoutObject = read(event)?;
    let facts = PayoutFacts { status: object.status.into(), failure_code: object.failure_code };
    let origin = PayoutOrigin {
        account: event.account.as_deref().map(str::to_owned),
        amount_minor: Some(object.amount.0),
        currency: Some(object.currency.to_ascii_lowercase()),
    };
    let news = News::Payout(origin, sighting(event, facts)?);
    Ok(Observation { key: EntityKey::new(EntityKind::Payout, object.id), created_s: event.created_s, news })
}

fn account(event: &Event<'_>) -> Result<Observation, Unreadable> {
    let object: AccountObject = read(event)?;
    let requirements = object.requirements.unwrap_or_default();
    let count = |list: &Printed<String>| u32::try_from(list.0.len()).unwrap_or(u32::MAX);
    let facts = AccountFacts {
        charges_enabled: object.charges_enabled,
        payouts_enabled: object.payouts_enabled,
        details_submitted: object.details_submitted.unwrap_or(false),
        disabled_reason: requirements.disabled_reason,
        currently_due: count(&requirements.currently_due),
        past_due: count(&requirements.past_due),
        due_prints: (requirements.currently_due.1, requirements.past_due.1),
    };
    let external = object.external_accounts.unwrap_or_default();
    let news = AccountNews::Snapshot {
        country: object.country,
        created_s: object.created,
        sighting: sighting(event, facts)?,
        has_external_account: !external.data.unwrap_or_default().is_empty() || external.total_count.unwrap_or(0) > 0,
    };
    Ok(about_account(event, &object.id, news))
}

/// The object of `account.application.*` is the application; the account is in the envelope only.
fn connection(event: &Event<'_>) -> Option<Observation> {
    let connected = match event.kind.as_ref() {
        "account.application.authorized" => true,
        "account.application.deauthorized" => false,
        _ => return None,
    };
    let news = AccountNews::Connection { connected, event_id: event.id.clone().into_owned() };
    Some(about_account(event, event.account.as_deref()?, news))
}

fn capability(event: &Event<'_>) -> Result<Option<Observation>, Unreadable> {
    let object: CapabilityObject = read(event)?;
    let facts = CapabilityFacts { status: object.status.into() };
    let Some(account) = event.account.as_deref().or(object.account.as_ref().map(Reference::id)) else {
        return Ok(None);
    };
    let news = AccountNews::Capability { name: object.id, sighting: sighting(event, facts)? };
    Ok(Some(about_account(event, account, news)))
}

fn about_account(event: &Event<'_>, id: &str, news: AccountNews) -> Observation {
    Observation { key: EntityKey::new(EntityKind::Account, id), created_s: event.created_s, news: News::Account(news) }
}

fn sighting<F>(event: &Event<'_>, facts: F) -> Result<Sighting<F>, Unreadable> {
    let stage = match event.kind.rsplit_once('.').map(|(_, last)| last) {
        Some("created") => Stage::Created,
        Some("deleted") => Stage::Deleted,
        _ => Stage::Updated,
    };
    Ok(Sighting {
        created_s: event.created_s,
        event_id: event.id.clone().into_owned(),
        stage,
        facts,
        changes: changed(event)?,
    })
}

fn changed(event: &Event<'_>) -> Result<Vec<Change>, Unreadable> {
    let (Some(previous), Some(object)) = (event.previous, event.object) else { return Ok(Vec::new()) };
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get());
    match (value(previous), value(object)) {
        (Ok(previous @ Value::Object(_)), Ok(object)) => Ok(changes(&previous, &object)),
        (Ok(Value::Null), Ok(_)) => Ok(Vec::new()),
        _ => Err(unreadable(event, "data.previous_attributes: not an object")),
    }
}

fn read<T: DeserializeOwned>(event: &Event<'_>) -> Result<T, Unreadable> {
    let object = event.object.ok_or_else(|| unreadable(event, "data.object: missing"))?;
    let mut reader = serde_json::Deserializer::from_str(object.get());
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { "data.object".to_owned() } else { format!("data.object.{path}") };
        // serde's own words quote values; only those about a missing field do not.
        let cause = error.inner().to_string();
        let missing = cause.strip_prefix("missing field ").and_then(|rest| rest.split(' ').next());
        // What `Printed` says of the inside of its list.
        let inside = cause.strip_prefix(INSIDE).and_then(|rest| rest.split(" at line ").next());
        let inside = inside.map_or("", |path| path.trim_end_matches('.'));
        match missing {
            Some(field) => unreadable(event, &format!("{at}: missing field {field}")),
            None => unreadable(event, &format!("{at}{inside}: not of the documented type")),
        }
    })
}

fn unreadable(event: &Event<'_>, what: &str) -> Unreadable {
    Unreadable { kind: event.kind_label().to_owned(), what: what.to_owned() }
}

/// Monthly recurring amount of licensed prices: quantity × unit amount ÷ months of the interval; a week
/// is 7 and a day 1 of the 365/12 days of a month. Metered and tiered prices are not in the event and
/// count nothing. Rounded once, half to even. `None`: too large to count.
fn recurring_minor(items: &[Item]) -> Option<i64> {
    let mut total = Decimal::ZERO;
    for item in items {
        let Some(price) = &item.price else { continue };
        let Some(recurring) = &price.recurring else { continue };
        if recurring.usage_type.as_deref() == Some("metered") {
            continue;
        }
        let unit = price.unit_amount_decimal.as_ref().and_then(DecimalText::value);
        let Some(unit) = unit.or(price.unit_amount.map(Decimal::from)) else { continue };
        let mut quantity = Decimal::from(item.quantity.unwrap_or(1));
        if let Some(Transform { divide_by, round }) = &price.transform_quantity {
            let packages = quantity.checked_div(Decimal::from(*divide_by))?;
            quantity = if round.as_deref() == Some("up") { packages.ceil() } else { packages.floor() };
        }
        let count = Decimal::from(recurring.interval_count.unwrap_or(1).max(1));
        let amount = unit.checked_mul(quantity)?;
        // Multiplying before dividing keeps 12 months of a yearly price whole.
        let monthly = match recurring.interval.as_deref() {
            Some("month") => amount.checked_div(count)?,
            Some("year") => amount.checked_div(count.checked_mul(Decimal::from(12))?)?,
            Some("week") => days(amount, count.checked_mul(Decimal::from(7))?)?,
            Some("day") => days(amount, count)?,
            _ => continue,
        };
        total = total.checked_add(monthly)?;
    }
    let total = total.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven).to_i64()?;
    Minor::try_from(total).ok().map(|minor| minor.0)
}

fn days(amount: Decimal, days: Decimal) -> Option<Decimal> {
    amount.checked_mul(Decimal::from(365))?.checked_div(days.checked_mul(Decimal::from(12))?)
}

/// Stripe sends a reference as an id, or as the whole object where it was expanded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }

    fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

#[derive(Deserialize)]
struct SubscriptionObject {
    id: String,
    status: String,
    customer: Option<Reference>,
    currency: Option<String>,
    #[serde(default)]
    items: Items,
    cancel_at_period_end: Option<bool>,
    cancel_at: Option<i64>,
    trial_end: Option<i64>,
}

#[derive(Deserialize, Default)]
struct Items {
    #[serde(default)]
    data: Printed<Item>,
}

/// A list, and the fingerprint of its JSON.
struct Printed<T>(Vec<T>, u32);

impl<T> Default for Printed<T> {
    fn default() -> Self {
        Self(Vec::new(), fingerprint("null"))
    }
}

const INSIDE: &str = "inside: ";

impl<'de, T: DeserializeOwned> Deserialize<'de> for Printed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let print = fingerprint(&value.to_string());
        // Null is an empty list, as for every other field.
        let list: Option<Vec<T>> = serde_path_to_error::deserialize(value).map_err(|e| {
            let cause = e.inner().to_string();
            let missing = cause.starts_with("missing field");
            serde::de::Error::custom(if missing { cause } else { format!("{INSIDE}{}", e.path()) })
        })?;
        Ok(Self(list.unwrap_or_default(), print))
    }
}

#[derive(Deserialize)]
struct Item {
    price: Option<Price>,
    quantity: Option<u64>,
}

#[derive(Deserialize)]
struct Price {
    id: Option<String>,
    product: Option<Reference>,
    lookup_key: Option<String>,
    unit_amount: Option<i64>,
    unit_amount_decimal: Option<DecimalText>,
    recurring: Option<Recurring>,
    transform_quantity: Option<Transform>,
}

#[derive(Deserialize)]
struct Recurring {
    interval: Option<String>,
    interval_count: Option<u32>,
    usage_type: Option<String>,
}

#[derive(Deserialize)]
struct Transform {
    divide_by: u64,
    round: Option<String>,
}

/// An amount in minor units. Stripe's have at most twelve digits; what is much larger is no amount, and
/// would in the end overflow a sum. Source: <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "i64")]
struct Minor(i64);

const LARGEST_MINOR: i64 = 10_000_000_000_000;

impl TryFrom<i64> for Minor {
    type Error = &'static str;

    fn try_from(minor: i64) -> Result<Self, Self::Error> {
        if (-LARGEST_MINOR..=LARGEST_MINOR).contains(&minor) { Ok(Self(minor)) } else { Err("too large for an amount") }
    }
}

/// Minor units with up to 12 decimals, as text.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct DecimalText(Decimal);

impl DecimalText {
    fn value(&self) -> Option<Decimal> {
        Some(self.0)
    }
}

impl TryFrom<String> for DecimalText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Decimal::from_str_exact(&text).map(Self).map_err(|_| "not a decimal number")
    }
}

#[derive(Deserialize)]
struct InvoiceObject {
    id: String,
    status: Option<String>,
    paid: Option<bool>,
    customer: Option<Reference>,
    /// Up to acacia; afterwards under `parent`.
    subscription: Option<Reference>,
    parent: Option<InvoiceParent>,
    currency: Option<String>,
    amount_due: Option<Minor>,
    amount_paid: Option<Minor>,
    attempt_count: Option<u32>,
}

#[derive(Deserialize)]
struct InvoiceParent {
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Deserialize)]
struct SubscriptionDetails {
    subscription: Option<Reference>,
}

#[derive(Deserialize)]
struct PayoutObject {
    id: String,
    status: String,
    amount: Minor,
    currency: String,
    failure_code: Option<String>,
}

#[derive(Deserialize)]
struct AccountObject {
    id: String,
    country: Option<String>,
    created: Option<i64>,
    charges_enabled: bool,
    payouts_enabled: bool,
    details_submitted: Option<bool>,
    requirements: Option<Requirements>,
    external_accounts: Option<ExternalAccounts>,
}

#[derive(Deserialize, Default)]
struct Requirements {
    disabled_reason: Option<String>,
    #[serde(default)]
    currently_due: Printed<String>,
    #[serde(default)]
    past_due: Printed<String>,
}

/// Only whether there are any is read: no number, no holder.
#[derive(Deserialize, Default)]
struct ExternalAccounts {
    data: Option<Vec<serde::de::IgnoredAny>>,
    total_count: Option<u64>,
}

#[derive(Deserialize)]
struct CapabilityObject {
    id: String,
    status: String,
    account: Option<Reference>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::Entity;

    fn see(kind: &str, account: Option<&str>, object: &Value) -> Result<Vec<Observation>, Unreadable> {
        let body =
            json!({"id": "evt_1", "type": kind, "created": 1000, "account": account, "data": {"object": object}});
        let body = body.to_string();
        let plans = Plans::new(BTreeMap::from([("pro".to_owned(), "PRO".to_owned())]));
        observe(&Event::parse(body.as_bytes()).expect("an event"), &plans)
    }

    fn monthly(price: &Value, quantity: u64) -> i64 {
        let object = json!({"id": "sub_1", "status": "active", "currency": "usd",
            "items": {"data": [{"price": price, "quantity": quantity}]}});
        match &see("customer.subscription.updated", None, &object).expect("readable")[0].news {
            News::Subscription(_, seen) => seen.facts.recurring_minor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn recurring_amounts_per_month() {
        let every =
            |interval: &str, n: u32| json!({"interval": interval, "interval_count": n, "usage_type": "licensed"});
        let table = [
            (json!({"unit_amount": 2000, "recurring": every("month", 1)}), 3, 6000),
            (json!({"unit_amount_decimal": "0.5", "unit_amount": null, "recurring": every("month", 1)}), 3, 2),
            (json!({"unit_amount": 12_000, "recurring": every("year", 1)}), 1, 1000),
            (json!({"unit_amount": 3000, "recurring": every("month", 3)}), 1, 1000),
            (json!({"unit_amount": 700, "recurring": every("week", 1)}), 1, 3042),
            (json!({"unit_amount": 100, "recurring": every("day", 1)}), 1, 3042),
            (json!({"unit_amount": 100, "recurring": {"interval": "month", "usage_type": "metered"}}), 9, 0),
            (json!({"unit_amount": null, "recurring": every("month", 1)}), 9, 0),
            (json!({"unit_amount": 100, "recurring": null}), 9, 0),
            (
                json!({"unit_amount": 100, "recurring": every("month", 1), "transform_quantity": {"divide_by": 10, "round": "up"}}),
                21,
                300,
            ),
            (
                json!({"unit_amount": 100, "recurring": every("month", 1), "transform_quantity": {"divide_by": 10, "round": "down"}}),
                29,
                200,
            ),
        ];
        for (price, quantity, expected) in table {
            assert_eq!(monthly(&price, quantity), expected, "{price} × {quantity}");
        }
    }

    #[test]
    fn amounts_that_overflow_are_unreadable_and_so_is_division_by_zero() {
        for price in [
            json!({"unit_amount": i64::MAX, "recurring": {"interval": "day"}}),
            json!({"unit_amount": 1, "recurring": {"interval": "day"}, "transform_quantity": {"divide_by": 0}}),
        ] {
            let object =
                json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": price, "quantity": u64::MAX}]}});
            let error = see("customer.subscription.updated", None, &object).expect_err("too large").to_string();
            assert!(error.contains("overflow"), "{error}");
        }
    }

    #[test]
    fn an_invoice_names_its_subscription_in_either_shape() {
        for link in [
            json!({"subscription": "sub_1"}),
            json!({"subscription": {"id": "sub_1", "object": "subscription"}}),
            json!({"subscription": null, "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}}),
            json!({"parent": {"subscription_details": {"subscription": {"id": "sub_1"}}}}),
        ] {
            let mut object = json!({"id": "in_1", "status": "open", "amount_due": 5});
            object.as_object_mut().expect("an object").extend(link.as_object().expect("an object").clone());
            match &see("invoice.finalized", None, &object).expect("readable")[0].news {
                News::Invoice(origin, _) => assert_eq!(origin.subscription.as_deref(), Some("sub_1")),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(see("invoice.upcoming", None, &json!({"status": "draft"})), Ok(Vec::new()));
    }

    #[test]
    fn the_plan_is_found_by_price_product_or_lookup_key() {
        for price in [
            json!({"id": "pro"}),
            json!({"id": "p", "lookup_key": "pro"}),
            json!({"id": "p", "product": {"id": "pro"}}),
        ] {
            let object = json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": price}]}});
            match &see("customer.subscription.created", None, &object).expect("readable")[0].news {
                News::Subscription(_, seen) => assert_eq!(seen.facts.plan, "PRO"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_field_and_never_the_value() {
        let table = [
            (
                "payout.paid",
                json!({"id": "po_1", "status": "paid", "amount": "4242424242424242", "currency": "usd"}),
                "payout.paid: data.object.amount: not of the documented type",
            ),
            (
                "payout.paid",
                json!({"id": "po_1", "amount": 1, "currency": "usd"}),
                "payout.paid: data.object: missing field `status`",
            ),
            (
                "account.updated",
                json!({"id": "acct_1", "charges_enabled": true, "payouts_enabled": true, "requirements": {"past_due": "secret"}}),
                "account.updated: data.object.requirements.past_due: not of the documented type",
            ),
            (
                "customer.subscription.updated",
                json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": {"unit_amount_decimal": "secret"}}]}}),
                "customer.subscription.updated: data.object.items.data[0].price.unit_amount_decimal: not of the documented type",
            ),
            ("invoice.paid", json!({"id": "in_1"}), "invoice.paid: status: missing"),
            (
                "payout.paid",
                json!({"id": "po_1", "status": "paid", "amount": i64::MAX, "currency": "usd"}),
                "payout.paid: data.object.amount: not of the documented type",
            ),
            ("invoice.paid", json!(7), "invoice.paid: data.object: not of the documented type"),
        ];
        for (kind, object, expected) in table {
            assert_eq!(see(kind, None, &object).expect_err("unreadable").to_string(), expected);
        }
    }

    #[test]
    fn any_event_that_bears_an_account_makes_it_known() {
        let observations = see("balance.available", Some("acct_1"), &json!({})).expect("readable");
        assert_eq!(observations.len(), 1);
        let mut entity = Entity::new(&observations[0].key);
        entity.merge(&observations[0]);
        assert_eq!(Entity::decode(&observations[0].key, &entity.encode()), Ok(entity));
        assert_eq!(
            see("account.application.deauthorized", Some("acct_1"), &json!({"id": "ca_1"})).expect("readable").len(),
            2
        );
    }
}
