//! Derives from an event what it says about which entities. Both forms of Stripe's objects (up to
//! acacia, and from 2025-03-31.basil on) are parsed here and nowhere else.
//!
//! A field that is absent or null is unknown. A field that has another type than Stripe documents
//! makes the complete event unreadable, because a guess about money is worse than a dead letter.

mod movements;
mod mrr;
mod objects;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::objects::{
    AccountObject, CapabilityObject, ExternalAccountObject, Fingerprinted, INSIDE, InvoiceObject,
    PayoutObject, Price, Reference, SubscriptionObject,
};
use crate::entity::account::{AccountFacts, AccountUpdate, CapabilityFacts, ExternalAccount};
use crate::entity::invoice::{InvoiceFacts, InvoiceOrigin};
use crate::entity::payout::{PayoutFacts, PayoutOrigin};
use crate::entity::stripe_enums::InvoiceStatus;
use crate::entity::subscription::{SubscriptionFacts, SubscriptionOrigin};
use crate::entity::timeline::{Change, Facts, RecordedState, Stage, changes};
use crate::entity::{EntityKey, EntityKind, Observation, Update};
use crate::event::{Event, Text};

/// An event whose object cannot be parsed. The text names the field and never quotes its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind}: {what}")]
pub struct ObserveError {
    kind: String,
    what: String,
}

/// Plan names by price id, product id or lookup key (R1).
#[derive(Debug, Clone, Default)]
pub struct Plans(BTreeMap<String, String>);

impl Plans {
    /// The names configured under `[plans]`.
    pub fn new(names: BTreeMap<String, String>) -> Self {
        Self(names)
    }

    fn name(&self, price: &Price) -> Option<&str> {
        let product = price.product.as_ref().map(Reference::id);
        let keys = [price.id.as_deref(), price.lookup_key.as_deref(), product];
        keys.into_iter()
            .flatten()
            .find_map(|key| self.0.get(key))
            .map(String::as_str)
    }
}

/// The plan of a subscription whose prices are not configured.
pub const UNMAPPED_PLAN: &str = "unmapped";

/// The observations of `event`, one per entity. Types that change no entity give none.
pub fn observe(event: &Event<'_>, plans: &Plans) -> Result<Vec<Observation>, ObserveError> {
    let kind = event.kind.as_ref();
    let mut observations = Vec::new();
    if let Some(account) = event
        .account
        .as_deref()
        .filter(|id| id.starts_with("acct_"))
    {
        observations.push(about_account(event, account, AccountUpdate::Seen));
    }
    let family = kind.rsplit_once('.').map_or(kind, |(family, _)| family);
    match family {
        "customer.subscription" => observations.push(subscription(event, plans)?),
        // A preview of a future invoice has no id and no invoice behind it.
        "invoice" if kind != "invoice.upcoming" => observations.push(invoice(event)?),
        "payout" => observations.push(payout(event)?),
        "account" if kind == "account.updated" => observations.push(account(event)?),
        "account.application" => observations.extend(connection(event)),
        "account.external_account" => observations.extend(external_account(event)?),
        "capability" => observations.extend(capability(event)?),
        "payment_intent" => observations.push(movements::payment(event)?),
        "checkout.session" => observations.push(movements::checkout(event)?),
        "charge.dispute" => observations.push(movements::dispute(event)?),
        "refund" | "charge.refund" => observations.push(movements::refund(event)?),
        "transfer" => observations.push(movements::transfer(event)?),
        _ if kind.starts_with("v2.core.account") => observations.extend(thin(event)),
        _ => {}
    }
    Ok(observations)
}

fn subscription(event: &Event<'_>, plans: &Plans) -> Result<Observation, ObserveError> {
    let object: SubscriptionObject = read(event)?;
    let recurring = mrr::recurring_minor(&object)
        .map_err(|reason| unreadable(event, &format!("items: {reason}")))?;
    let plan = object
        .items
        .data
        .0
        .iter()
        .find_map(|item| plans.name(&item.price));
    let facts = SubscriptionFacts {
        status: object.status.into(),
        plan: plan.unwrap_or(UNMAPPED_PLAN).to_owned(),
        recurring_minor: recurring,
        cancel_at_period_end: object.cancel_at_period_end.unwrap_or(false),
        cancel_at_s: object.cancel_at.map(|s| s.0),
        trial_end_s: object.trial_end.map(|s| s.0),
        items_fingerprint: object.items.data.1,
        discount_fingerprints: (object.discount.1, object.discounts.1),
    };
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.map(Reference::into_id),
        currency: object.currency.map(|c| c.to_ascii_lowercase()),
    };
    let update = Update::Subscription(origin, recorded_state(event, facts)?);
    Ok(Observation {
        key: EntityKey::new(EntityKind::Subscription, object.id),
        created_s: event.created_s,
        update,
    })
}

fn invoice(event: &Event<'_>) -> Result<Observation, ObserveError> {
    let object: InvoiceObject = read(event)?;
    let status = match (event.kind.as_ref(), object.status) {
        ("invoice.deleted", _) => InvoiceStatus::Deleted,
        (_, Some(status)) => status.into(),
        // The oldest API versions have no status, only `paid`.
        (_, None) if object.paid == Some(true) => InvoiceStatus::Paid,
        (_, None) => return Err(unreadable(event, "status: missing")),
    };
    let parent = object
        .parent
        .and_then(|p| p.subscription_details)
        .and_then(|d| d.subscription);
    let facts = InvoiceFacts {
        status,
        amount_due_minor: object.amount_due.0,
        amount_paid_minor: object.amount_paid.0,
        attempts: object.attempt_count,
        action_required: event.kind == "invoice.payment_action_required",
    };
    let origin = InvoiceOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.map(Reference::into_id),
        subscription: object.subscription.or(parent).map(Reference::into_id),
        currency: object.currency.map(|c| c.to_ascii_lowercase()),
    };
    let update = Update::Invoice(origin, recorded_state(event, facts)?);
    Ok(Observation {
        key: EntityKey::new(EntityKind::Invoice, object.id),
        created_s: event.created_s,
        update,
    })
}

fn payout(event: &Event<'_>) -> Result<Observation, ObserveError> {
    let object: PayoutObject = read(event)?;
    let facts = PayoutFacts {
        status: object.status.into(),
        failure_code: object.failure_code,
        failure_message: object.failure_message,
    };
    let origin = PayoutOrigin {
        account: event.account.as_deref().map(str::to_owned),
        amount_minor: Some(object.amount.0),
        currency: Some(object.currency.to_ascii_lowercase()),
    };
    let update = Update::Payout(origin, recorded_state(event, facts)?);
    Ok(Observation {
        key: EntityKey::new(EntityKind::Payout, object.id),
        created_s: event.created_s,
        update,
    })
}

fn account(event: &Event<'_>) -> Result<Observation, ObserveError> {
    let object: AccountObject = read(event)?;
    let requirements = object.requirements.unwrap_or_default();
    let count = |list: &Fingerprinted<String>| u32::try_from(list.0.len()).unwrap_or(u32::MAX);
    let facts = AccountFacts {
        charges_enabled: object.charges_enabled,
        payouts_enabled: object.payouts_enabled,
        details_submitted: object.details_submitted.unwrap_or(false),
        disabled_reason: requirements.disabled_reason,
        currently_due: count(&requirements.currently_due),
        past_due: count(&requirements.past_due),
        due_fingerprints: (requirements.currently_due.1, requirements.past_due.1),
    };
    let external = object.external_accounts.unwrap_or_default();
    let update = AccountUpdate::Snapshot {
        country: object.country,
        created_s: object.created.map(|s| s.0),
        state: recorded_state(event, facts)?,
        has_external_account: !external.data.unwrap_or_default().is_empty()
            || external.total_count.unwrap_or(0) > 0,
    };
    Ok(about_account(event, &object.id, update))
}

/// The object of `account.application.*` is the application; only the envelope has the account.
fn connection(event: &Event<'_>) -> Option<Observation> {
    let connected = match event.kind.as_ref() {
        "account.application.authorized" => true,
        "account.application.deauthorized" => false,
        _ => return None,
    };
    let update = AccountUpdate::Connection {
        connected,
        event_id: event.id.clone().into_owned(),
    };
    Some(about_account(event, event.account.as_deref()?, update))
}

fn external_account(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let Some(account) = event.account.as_deref() else {
        return Ok(None);
    };
    let object: ExternalAccountObject = read(event)?;
    let view = ExternalAccount {
        last_event: (event.created_s, event.id.clone().into_owned()),
        removed: event.kind == "account.external_account.deleted",
        last4: object.last4,
        country: object.country,
        currency: object.currency,
    };
    Ok(Some(about_account(
        event,
        account,
        AccountUpdate::ExternalAccount {
            id: object.id,
            view,
        },
    )))
}

/// A thin event says that an account changed, but not its new state.
fn thin(event: &Event<'_>) -> Option<Observation> {
    let id = event
        .related_id
        .as_deref()
        .or(event.account.as_deref())
        .filter(|id| id.starts_with("acct_"))?;
    Some(about_account(
        event,
        id,
        AccountUpdate::Thin {
            event_id: event.id.clone().into_owned(),
        },
    ))
}

fn capability(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: CapabilityObject = read(event)?;
    let facts = CapabilityFacts {
        status: object.status.into(),
    };
    let Some(account) = event
        .account
        .as_deref()
        .or(object.account.as_ref().map(Reference::id))
    else {
        return Ok(None);
    };
    let update = AccountUpdate::Capability {
        name: object.id,
        state: recorded_state(event, facts)?,
    };
    Ok(Some(about_account(event, account, update)))
}

fn about_account(event: &Event<'_>, id: &str, update: AccountUpdate) -> Observation {
    Observation {
        key: EntityKey::new(EntityKind::Account, id),
        created_s: event.created_s,
        update: Update::Account(update),
    }
}

fn recorded_state<F: Facts>(event: &Event<'_>, facts: F) -> Result<RecordedState<F>, ObserveError> {
    let stage = match event.kind.rsplit_once('.').map(|(_, last)| last) {
        Some("created") => Stage::Created,
        Some("deleted") => Stage::Deleted,
        _ => Stage::Updated,
    };
    let changes = changed(event, &facts)?;
    Ok(RecordedState {
        created_s: event.created_s,
        event_id: event.id.clone().into_owned(),
        stage,
        facts,
        changes,
    })
}

fn changed(event: &Event<'_>, facts: &impl Facts) -> Result<Vec<Change>, ObserveError> {
    let (Some(previous), Some(object)) = (event.previous, event.object) else {
        return Ok(Vec::new());
    };
    let not_an_object = |_| unreadable(event, "data.previous_attributes: not an object");
    match serde_json::from_str(previous.get()).map_err(not_an_object)? {
        Value::Object(previous) => {
            let object = named_fields(&previous, object).map_err(not_an_object)?;
            Ok(changes(&Value::Object(previous), &object, &facts.fields()))
        }
        Value::Null => Ok(Vec::new()),
        _ => Err(unreadable(event, "data.previous_attributes: not an object")),
    }
}

/// The object, reduced to the fields that `previous` names. The rest, which is most of it, is
/// skipped.
fn named_fields(previous: &Map<String, Value>, object: &RawValue) -> serde_json::Result<Value> {
    struct NamedFields<'a>(&'a Map<String, Value>);

    impl<'de> Visitor<'de> for NamedFields<'_> {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
            let mut found = Map::new();
            while let Some(Text(name)) = fields.next_key()? {
                if self.0.contains_key(name.as_ref()) {
                    found.insert(name.into_owned(), fields.next_value()?);
                } else {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    // If `previous` is empty or the object has no fields, the complete object is compared.
    if previous.is_empty() || !object.get().starts_with('{') {
        return serde_json::from_str(object.get());
    }
    serde_json::Deserializer::from_str(object.get())
        .deserialize_map(NamedFields(previous))
        .map(Value::Object)
}

/// The failing path is located only after an error: that costs several times as much as parsing.
fn read<T: DeserializeOwned>(event: &Event<'_>) -> Result<T, ObserveError> {
    let object = event
        .object
        .ok_or_else(|| unreadable(event, "data.object: missing"))?;
    serde_json::from_str(object.get()).or_else(|_| locate(event, object))
}

/// Parses the object again, to name the field that cannot be parsed.
fn locate<T: DeserializeOwned>(event: &Event<'_>, object: &RawValue) -> Result<T, ObserveError> {
    let mut reader = serde_json::Deserializer::from_str(object.get());
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path_text = if path == "." {
            "data.object".to_owned()
        } else {
            format!("data.object.{path}")
        };
        // serde's messages quote values, except those about a missing field.
        let cause = error.inner().to_string();
        let missing = cause
            .strip_prefix("missing field ")
            .and_then(|rest| rest.split(' ').next());
        // `Fingerprinted` reports the path inside its list after this prefix.
        let inside = cause
            .strip_prefix(INSIDE)
            .and_then(|rest| rest.split(" at line ").next());
        let inside = inside.map_or("", |path| path.trim_end_matches('.'));
        match missing {
            Some(field) => unreadable(event, &format!("{path_text}: missing field {field}")),
            None => unreadable(
                event,
                &format!("{path_text}{inside}: does not have the documented type"),
            ),
        }
    })
}

fn unreadable(event: &Event<'_>, what: &str) -> ObserveError {
    ObserveError {
        kind: event.kind_label().to_owned(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::Entity;

    fn observe_object(
        kind: &str,
        account: Option<&str>,
        object: &Value,
    ) -> Result<Vec<Observation>, ObserveError> {
        let body = json!({"id": "evt_1", "type": kind, "created": 1000, "account": account, "data": {"object": object}});
        let body = body.to_string();
        let plans = Plans::new(BTreeMap::from([("pro".to_owned(), "PRO".to_owned())]));
        observe(&Event::parse(body.as_bytes()).expect("an event"), &plans)
    }

    fn monthly(price: &Value, quantity: u64) -> i64 {
        let object = json!({"id": "sub_1", "status": "active", "currency": "usd",
            "items": {"data": [{"price": price, "quantity": quantity}]}});
        match &observe_object("customer.subscription.updated", None, &object).expect("readable")[0]
            .update
        {
            Update::Subscription(_, state) => state.facts.recurring_minor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn recurring_amounts_are_normalised_to_a_month() {
        let every = |interval: &str, n: u32| json!({"interval": interval, "interval_count": n, "usage_type": "licensed"});
        let table = [
            (
                json!({"unit_amount": 2000, "recurring": every("month", 1)}),
                3,
                6000,
            ),
            (
                json!({"unit_amount_decimal": "0.5", "unit_amount": null, "recurring": every("month", 1)}),
                3,
                2,
            ),
            (
                json!({"unit_amount": 12_000, "recurring": every("year", 1)}),
                1,
                1000,
            ),
            (
                json!({"unit_amount": 3000, "recurring": every("month", 3)}),
                1,
                1000,
            ),
            (
                json!({"unit_amount": 700, "recurring": every("week", 1)}),
                1,
                3042,
            ),
            (
                json!({"unit_amount": 100, "recurring": every("day", 1)}),
                1,
                3042,
            ),
            (
                json!({"unit_amount": 100, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"}}),
                9,
                0,
            ),
            (
                json!({"unit_amount": null, "recurring": every("month", 1)}),
                9,
                0,
            ),
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
    fn only_permanent_discounts_count_items_first_then_the_subscription() {
        let price =
            json!({"unit_amount": 1000, "recurring": {"interval": "month", "interval_count": 2}});
        let percent = |p: f64, d: &str| json!({"id": "di_1", "coupon": {"id": "c", "duration": d, "percent_off": p}});
        let off = json!({"id": "di_2", "source": {"type": "coupon", "coupon": {"id": "c", "duration": "forever", "amount_off": 300}}});
        let table: [(Value, Value, i64); 9] = [
            (json!([]), json!({}), 1000),
            (json!([percent(25.5, "forever")]), json!({}), 745),
            (json!([percent(50.0, "once")]), json!({}), 1000),
            (
                json!([percent(50.0, "repeating")]),
                json!({"discounts": ["di_9"]}),
                1000,
            ),
            // 20.00 per two months, less 3.00 per two months.
            (json!([]), json!({"discounts": [off]}), 850),
            (
                json!([percent(50.0, "forever")]),
                json!({"discounts": [percent(50.0, "forever")]}),
                250,
            ),
            // Old versions: one discount next to the ids of all.
            (
                json!(null),
                json!({"discount": percent(10.0, "forever"), "discounts": ["di_1"]}),
                900,
            ),
            (
                json!(null),
                json!({"discount": percent(10.0, "forever"), "discounts": [percent(10.0, "forever")]}),
                900,
            ),
            (
                json!([]),
                json!({"discounts": [json!({"id": "d", "coupon": {"duration": "forever", "amount_off": 9_999_999}})]}),
                0,
            ),
        ];
        for (of_item, of_subscription, expected) in table {
            let mut object = json!({"id": "sub_1", "status": "active", "currency": "usd",
                "items": {"data": [{"price": price, "quantity": 2, "discounts": of_item}]}});
            object
                .as_object_mut()
                .expect("an object")
                .extend(of_subscription.as_object().expect("an object").clone());
            match &observe_object("customer.subscription.updated", None, &object).expect("readable")
                [0]
            .update
            {
                Update::Subscription(_, state) => {
                    assert_eq!(state.facts.recurring_minor, expected, "{object}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn payments_disputes_refunds_and_transfers_become_movements() {
        let amount = json!({"amount": 500, "currency": "USD"});
        let table = [
            (
                "payment_intent.payment_failed",
                json!({"id": "pi_1", "status": "requires_payment_method", "last_payment_error": {"code": "card_declined", "decline_code": "do_not_honor", "message": "Maria"}}),
                "payment_intent pi_1 requires_payment_method Some(\"do_not_honor\") true",
            ),
            (
                "payment_intent.succeeded",
                json!({"id": "pi_1", "status": "succeeded", "last_payment_error": null}),
                "payment_intent pi_1 succeeded None false",
            ),
            (
                "charge.dispute.created",
                json!({"id": "du_1", "status": "needs_response", "reason": "fraudulent", "charge": "ch_1"}),
                "dispute du_1 needs_response Some(\"fraudulent\") false",
            ),
            (
                "refund.failed",
                json!({"id": "re_1", "status": "failed", "failure_reason": "expired_or_canceled_card"}),
                "refund re_1 failed Some(\"expired_or_canceled_card\") false",
            ),
            (
                "charge.refund.updated",
                json!({"id": "re_1"}),
                "refund re_1 succeeded None false",
            ),
            (
                "transfer.created",
                json!({"id": "tr_1", "reversed": false, "amount_reversed": 0, "destination": "acct_1"}),
                "transfer tr_1 created None false",
            ),
            (
                "transfer.reversed",
                json!({"id": "tr_1", "reversed": false, "amount_reversed": 20}),
                "transfer tr_1 partially_reversed None false",
            ),
            (
                "checkout.session.expired",
                json!({"id": "cs_1", "status": null}),
                "checkout_session cs_1 expired None false",
            ),
        ];
        for (kind, mut object, expected) in table {
            object
                .as_object_mut()
                .expect("an object")
                .extend(amount.as_object().expect("an object").clone());
            let observation = observe_object(kind, None, &object)
                .expect("readable")
                .remove(0);
            let Update::Movement(_, state) = &observation.update else {
                panic!("{observation:?}")
            };
            let facts = &state.facts;
            let got = format!(
                "{} {} {:?} {}",
                observation.key, facts.status, facts.reason, facts.attempt_failed
            );
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn overflow_and_division_by_zero_are_unreadable() {
        for price in [
            json!({"unit_amount": i64::MAX, "recurring": {"interval": "day", "interval_count": 1}}),
            json!({"unit_amount": 1, "recurring": {"interval": "day", "interval_count": 1}, "transform_quantity": {"divide_by": 0, "round": "up"}}),
        ] {
            let object = json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": price, "quantity": u64::MAX}]}});
            let error = observe_object("customer.subscription.updated", None, &object)
                .expect_err("too large")
                .to_string();
            assert!(error.contains("overflow"), "{error}");
        }
    }

    #[test]
    fn an_invoice_names_its_subscription_in_either_form() {
        for link in [
            json!({"subscription": "sub_1"}),
            json!({"subscription": {"id": "sub_1", "object": "subscription"}}),
            json!({"subscription": null, "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}}),
            json!({"parent": {"subscription_details": {"subscription": {"id": "sub_1"}}}}),
        ] {
            let mut object = json!({"id": "in_1", "status": "open", "amount_due": 5, "amount_paid": 0, "attempt_count": 0});
            object
                .as_object_mut()
                .expect("an object")
                .extend(link.as_object().expect("an object").clone());
            match &observe_object("invoice.finalized", None, &object).expect("readable")[0].update {
                Update::Invoice(origin, _) => {
                    assert_eq!(origin.subscription.as_deref(), Some("sub_1"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            observe_object("invoice.upcoming", None, &json!({"status": "draft"})),
            Ok(Vec::new())
        );
    }

    #[test]
    fn the_plan_is_found_by_price_product_or_lookup_key() {
        for price in [
            json!({"id": "pro", "recurring": null}),
            json!({"id": "p", "lookup_key": "pro", "recurring": null}),
            json!({"id": "p", "product": {"id": "pro"}, "recurring": null}),
        ] {
            let object =
                json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": price}]}});
            match &observe_object("customer.subscription.created", None, &object).expect("readable")
                [0]
            .update
            {
                Update::Subscription(_, state) => assert_eq!(state.facts.plan, "PRO"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn errors_name_the_field_and_never_the_value() {
        let table = [
            (
                "payout.paid",
                json!({"id": "po_1", "status": "paid", "amount": "4242424242424242", "currency": "usd"}),
                "payout.paid: data.object.amount: does not have the documented type",
            ),
            (
                "payout.paid",
                json!({"id": "po_1", "amount": 1, "currency": "usd"}),
                "payout.paid: data.object: missing field `status`",
            ),
            (
                "account.updated",
                json!({"id": "acct_1", "charges_enabled": true, "payouts_enabled": true, "requirements": {"past_due": "secret"}}),
                "account.updated: data.object.requirements.past_due: does not have the documented type",
            ),
            (
                "customer.subscription.updated",
                json!({"id": "sub_1", "status": "active", "items": {"data": [{"price": {"unit_amount_decimal": "secret"}}]}}),
                "customer.subscription.updated: data.object.items.data[0].price.unit_amount_decimal: does not have the documented type",
            ),
            (
                "invoice.paid",
                json!({"id": "in_1", "amount_due": 5, "amount_paid": 0, "attempt_count": 0}),
                "invoice.paid: status: missing",
            ),
            (
                "customer.subscription.updated",
                json!({"id": "sub_1", "status": "active", "items": []}),
                "customer.subscription.updated: data.object.items: does not have the documented type",
            ),
            (
                "payout.paid",
                json!({"id": "po_1", "status": "paid", "amount": i64::MAX, "currency": "usd"}),
                "payout.paid: data.object.amount: does not have the documented type",
            ),
            (
                "invoice.paid",
                json!(7),
                "invoice.paid: data.object: does not have the documented type",
            ),
        ];
        for (kind, object, expected) in table {
            assert_eq!(
                observe_object(kind, None, &object)
                    .expect_err("unreadable")
                    .to_string(),
                expected
            );
        }
    }

    #[test]
    fn any_event_with_an_account_makes_it_known() {
        let observations =
            observe_object("balance.available", Some("acct_1"), &json!({})).expect("readable");
        assert_eq!(observations.len(), 1);
        let mut entity = Entity::new(&observations[0].key);
        entity.merge(&observations[0]);
        assert_eq!(
            Entity::decode(&observations[0].key, &entity.encode()),
            Ok(entity)
        );
        assert_eq!(
            observe_object(
                "account.application.deauthorized",
                Some("acct_1"),
                &json!({"id": "ca_1"})
            )
            .expect("readable")
            .len(),
            2
        );
    }
}
