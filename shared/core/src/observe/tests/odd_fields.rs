//! No event costs more than the field it lacks.

use super::*;
use crate::amounts::Amounts;
use crate::counters::{Bucket, Counters};
use crate::entity::EntityKey;
use crate::entity::timeline::KEPT_CHANGES;
use crate::relay::Relay;
use crate::view::entity::describe;

/// An event type, a complete object, and the fields without which nothing can be said of it.
pub(super) fn samples() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let status: &[&str] = &["id", "status"];
    let account: &[&str] = &["id", "charges_enabled", "payouts_enabled"];
    vec![
        (
            "customer.subscription.updated",
            json!({"id": "sub_1", "object": "subscription", "status": "active", "customer": "cus_1", "currency": "usd",
                "metadata": {"app_id": "app_1", "user_id": "7"},
                "cancel_at_period_end": false, "cancel_at": null, "trial_end": 1000, "items": {"data": [item()]},
                "discount": discount(), "discounts": [discount()]}),
            status,
        ),
        (
            "invoice.payment_failed",
            json!({"id": "in_1", "object": "invoice", "status": "open", "paid": false, "customer": "cus_1",
                "subscription": "sub_1", "parent": {"subscription_details": {"subscription": "sub_1"}},
                "currency": "usd", "amount_due": 500, "amount_paid": 20, "attempt_count": 1, "next_payment_attempt": null,
                "collection_method": "charge_automatically", "billing_reason": "subscription_cycle"}),
            status,
        ),
        (
            "invoice_payment.paid",
            json!({"id": "inpay_1", "object": "invoice_payment", "status": "paid", "invoice": "in_1", "amount_paid": 500,
                "currency": "usd", "status_transitions": {"paid_at": 900}}),
            &["id", "status", "invoice"],
        ),
        (
            "payout.failed",
            json!({"id": "po_1", "object": "payout", "status": "failed", "amount": 500, "currency": "usd",
                "failure_code": "account_closed", "failure_message": "Closed.", "original_payout": "po_2",
                "reversed_by": "po_3"}),
            status,
        ),
        (
            "account.updated",
            json!({"id": "acct_1", "object": "account", "country": "DE", "created": 500, "charges_enabled": true,
                "payouts_enabled": false, "details_submitted": true, "metadata": {"user_id": "7"},
                "requirements": {"currently_due": ["x"], "past_due": ["x"], "disabled_reason": "requirements.past_due"},
                "external_accounts": {"data": [{}], "total_count": 1}}),
            account,
        ),
        (
            "payment_intent.payment_failed",
            json!({"id": "pi_1", "object": "payment_intent", "status": "requires_payment_method", "customer": "cus_1",
                "amount": 500, "currency": "usd", "invoice": "in_1", "latest_charge": "ch_1",
                "last_payment_error": {"type": "card_error", "code": "card_declined"}}),
            status,
        ),
        (
            "checkout.session.completed",
            json!({"id": "cs_1", "object": "checkout.session", "status": "complete", "payment_status": "unpaid",
                "amount_total": 500, "currency": "usd", "customer": "cus_1", "subscription": "sub_1"}),
            &["id"],
        ),
        (
            "charge.dispute.created",
            json!({"id": "du_1", "object": "dispute", "status": "needs_response", "amount": 500, "currency": "usd",
                "reason": "fraudulent", "charge": "ch_1", "evidence_details": {"due_by": 900_000}}),
            status,
        ),
        (
            "refund.failed",
            json!({"id": "re_1", "object": "refund", "status": "failed", "amount": 500, "currency": "usd",
                "failure_reason": "lost", "charge": "ch_1"}),
            status,
        ),
        (
            "transfer.reversed",
            json!({"id": "tr_1", "object": "transfer", "reversed": true, "amount_reversed": 500, "amount": 500,
                "currency": "usd", "destination": "acct_1"}),
            &["id", "reversed"],
        ),
        (
            "capability.updated",
            json!({"id": "transfers", "object": "capability", "status": "inactive", "account": "acct_1",
                "requested": true, "requirements": {"disabled_reason": "rejected.other"}}),
            status,
        ),
        (
            "balance.available",
            json!({"object": "balance", "available": [{"amount": 500, "currency": "usd"}]}),
            &[],
        ),
        (
            "account.external_account.created",
            json!({"id": "ba_1", "object": "bank_account", "last4": "6789", "country": "DE", "currency": "eur"}),
            &["id"],
        ),
        (
            "customer.updated",
            json!({"id": "cus_1", "object": "customer", "created": 500, "deleted": false, "metadata": {"user_id": "7"}}),
            &["id"],
        ),
        (
            "coupon.created",
            json!({"id": "SUMMER", "object": "coupon", "duration": "forever", "percent_off": null, "amount_off": 500,
                "currency": "usd", "currency_options": {"jpy": {"amount_off": 700}},
                "applies_to": {"products": ["prod_1"]}}),
            &["id"],
        ),
    ]
}

fn item() -> Value {
    json!({"quantity": 2, "discounts": [], "price": {"id": "pro", "unit_amount": 2000, "unit_amount_decimal": "2000",
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}})
}

fn discount() -> Value {
    json!({"coupon": {"duration": "forever", "percent_off": 50}})
}

/// What a field may have instead of its value; `None` is absence.
pub(super) fn odd_values() -> Vec<Option<Value>> {
    let long_list = vec![json!({"id": "x"}); 1000];
    vec![
        None,
        Some(json!(null)),
        Some(json!("odd | text")),
        Some(json!("x".repeat(10_000))),
        Some(json!(7)),
        Some(json!(-1.5)),
        Some(json!(1e300)),
        Some(json!(true)),
        Some(json!([])),
        Some(json!(["x", 7])),
        Some(json!(long_list)),
        Some(json!({})),
        Some(json!({"id": 7, "data": "x"})),
        Some(json!({"id": "x", "data": [7, null]})),
    ]
}

pub(super) fn body(kind: &str, object: &Value, previous: &Value) -> String {
    let about_account = ["account", "capability", "balance"].iter();
    let account = about_account.clone().any(|start| kind.starts_with(start));
    let account = account.then_some("acct_1");
    json!({"id": "evt_1", "type": kind, "created": 1000, "account": account,
        "data": {"object": object, "previous_attributes": previous}})
    .to_string()
}

/// The entity after one event about it.
pub(super) fn applied(body: &str) -> Result<(EntityKey, Entity), ObserveError> {
    let event = Event::parse(body.as_bytes()).expect("an event");
    let observations = observe(&event, &ObserveSettings::default())?;
    let key = observations.last().expect("an observation").key.clone();
    let mut entity = Entity::new(&key);
    for observation in &observations {
        entity.merge(observation);
    }
    assert_eq!(
        Entity::decode(&key, &entity.encode()).as_ref(),
        Ok(&entity),
        "{body}"
    );
    Ok((key, entity))
}

fn status((key, entity): &(EntityKey, Entity)) -> Value {
    describe(key, entity)["status"].clone()
}

#[test]
fn every_field_but_the_id_and_the_status_may_be_odd() {
    for (kind, object, required) in samples() {
        let whole = applied(&body(kind, &object, &json!(null))).expect("readable");
        for field in object.as_object().expect("an object").keys() {
            for value in odd_values() {
                let mut odd = object.clone();
                match &value {
                    None => drop(odd.as_object_mut().expect("an object").remove(field)),
                    Some(value) => odd[field] = value.clone(),
                }
                let body = body(kind, &odd, &json!({"status": 7}));
                let found = match applied(&body) {
                    Ok(found) => found,
                    Err(error) => {
                        assert!(required.contains(&&**field), "{kind} {field}: {error}");
                        continue;
                    }
                };
                if required.contains(&&**field) {
                    continue;
                }
                assert_eq!(found.0, whole.0, "{body}");
                // These are documented values that say another status.
                let says_status = [
                    ("checkout.session.completed", "status"),
                    ("customer.updated", "deleted"),
                ];
                if !says_status.contains(&(kind, field.as_str())) {
                    assert_eq!(status(&found), status(&whole), "{body}");
                }
                let event = Event::parse(body.as_bytes()).expect("an event");
                assert_eq!(found.1.partition(64), event.partition(64), "{body}");
                let head = Event::parse_head(body.as_bytes()).expect("an event");
                assert_eq!(head.partition(64), event.partition(64), "{body}");
            }
        }
    }
}

#[test]
fn an_amount_within_the_bound_is_applied_and_one_beyond_it_names_the_field() {
    let amounts = ["amount", "amount_due", "amount_paid", "amount_total"];
    let mut tried = 0;
    for (kind, object, _) in samples() {
        for field in amounts.iter().filter(|field| object.get(field).is_some()) {
            tried += 1;
            for (minor, is_applied) in [
                ("15000000000000", true),
                ("-1000000000000000", true),
                ("1000000000000001", false),
                ("99999999999999999999999999999999999999999999", false),
            ] {
                let mut odd = object.clone();
                odd[field] = json!("here");
                let body = body(kind, &odd, &json!(null)).replace(r#""here""#, minor);
                match applied(&body) {
                    Ok(_) => assert!(is_applied, "{kind} {field} {minor}"),
                    Err(error) => {
                        let expected = format!("{kind}: data.object.{field}: larger than any");
                        assert!(error.to_string().starts_with(&expected), "{error}");
                        assert!(!is_applied, "{error}");
                    }
                }
            }
        }
    }
    assert_eq!(tried, 9);
}

#[test]
fn previous_attributes_that_cannot_be_read_change_nothing() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let large = json!({"status": "paid", "metadata": "x".repeat(300_000)}).to_string();
    for (kind, object, _) in samples() {
        let plain = applied(&body(kind, &object, &json!(null)));
        for previous in ["7", "[]", r#""x""#, "true", &deep, &large] {
            let body = body(kind, &object, &json!("here")).replace(r#""here""#, previous);
            assert_eq!(applied(&body), plain, "{kind}");
        }
    }
}

/// `what` is a JSON pointer into the subscription, and its value.
fn incomplete(what: &str, value: Value) -> Counters {
    let mut samples = samples();
    let (kind, object, _) = &mut samples[0];
    *object.pointer_mut(what).expect("a field") = value;
    let (_, entity) = applied(&body(kind, object, &json!(null))).expect("readable");
    entity.contributions()
}

#[test]
fn an_unknown_amount_is_not_in_mrr_and_is_counted_with_the_reason() {
    let script = json!({"id": "co_1", "duration": "forever", "script": {"id": "s"}});
    let table = [
        ("/items", json!(null), "items"),
        ("/items/data", json!("x"), "items"),
        ("/items/data/0", json!({"id": "si_1"}), "price"),
        ("/items/data/0", json!(7), "price"),
        ("/items/data/0/price", json!("x"), "price"),
        ("/items/data/0/price", json!({"unit_amount": 5}), "price"),
        ("/items/data/0/price/recurring", json!(7), "price"),
        (
            "/items/data/0/price/recurring/interval",
            json!("fortnight"),
            "price",
        ),
        ("/items/data/0/quantity", json!("x"), "quantity"),
        ("/discount/coupon", script.clone(), ""),
        ("/discounts/0/coupon", script, "coupon"),
        ("/discounts/0", json!({"id": "di_1"}), "coupon"),
        ("/discounts", json!({}), "coupon"),
        ("/cancel_at", json!("x"), "cancellation"),
        ("/cancel_at_period_end", json!("x"), "cancellation"),
        ("/currency", json!(7), "currency"),
    ];
    for (what, value, reason) in table {
        let counters = incomplete(what, value.clone());
        let found: Vec<_> = counters.under(Bucket::Current, "mrr_incomplete").collect();
        let expected: &[_] = if reason.is_empty() {
            &[]
        } else {
            &[(vec![reason], 1)]
        };
        assert_eq!(found, expected, "{what} {value}");
        let mrr = if reason.is_empty() { 2000 } else { 0 };
        assert_eq!(counters.get(Bucket::Current, &["mrr", "usd"]), mrr);
        assert_eq!(counters.get(Bucket::Current, &["base", "all"]), 1);
    }
    let mut amount = item();
    amount["price"]["unit_amount_decimal"] = json!(null);
    amount["price"]["unit_amount"] = json!("2000");
    let counters = incomplete("/items/data/0", amount);
    assert_eq!(
        counters.get(Bucket::Current, &["mrr_incomplete", "amount"]),
        1
    );
}

/// Money of a condition that is not exactly known is not silently nothing, and no bound is taken for it.
#[test]
fn a_condition_says_what_is_known_of_its_money() {
    let discount = "a discount is named only by its id";
    let not_readable = "the event has no readable amount or currency";
    let page = "events have only the first page of its items";
    let table = [
        (0, "", json!(null), "USD 40.00".to_owned()),
        (
            0,
            "/discounts",
            json!(["di_9"]),
            format!("USD 0.00 to USD 40.00: {discount}"),
        ),
        (
            0,
            "/items",
            json!({"data": [item()], "has_more": true}),
            format!("at least USD 40.00: {page}"),
        ),
        (
            0,
            "/currency",
            json!(7),
            "unknown: its currency, or what a price costs in it, is not known".to_owned(),
        ),
        (1, "", json!(null), "USD 4.80".to_owned()),
        (
            1,
            "/amount_paid",
            json!("x"),
            format!("USD 0.00 to USD 5.00: {not_readable}"),
        ),
        (
            1,
            "/amount_due",
            json!("x"),
            format!("unknown: {not_readable}"),
        ),
        (1, "/currency", json!(7), format!("unknown: {not_readable}")),
        (3, "", json!(null), "USD 5.00".to_owned()),
        (3, "/amount", json!("x"), format!("unknown: {not_readable}")),
        (5, "/amount", json!("x"), format!("unknown: {not_readable}")),
    ];
    for (sample, what, value, expected) in table {
        let (kind, mut object, _) = samples().swap_remove(sample);
        if sample == 0 {
            object["status"] = json!("past_due");
            object["discount"] = json!(null);
            object["discounts"] = json!([]);
        }
        if !what.is_empty() {
            *object.pointer_mut(what).expect("a field") = value;
        }
        let (_, entity) = applied(&body(kind, &object, &json!(null))).expect("readable");
        let conditions = entity.conditions();
        let condition = conditions.first().expect("a condition");
        let shown = Amounts::from(condition).to_string();
        assert_eq!(shown, expected, "{kind} {what}");
        let is_exact = !expected.contains(": ");
        assert_eq!(condition.money.is_some(), is_exact, "{kind} {what}");
    }
}

#[test]
fn past_due_mrr_has_bounds_and_reasons() {
    let (kind, mut object, _) = samples().swap_remove(0);
    object["discount"] = json!(null);
    object["discounts"] = json!(["di_9"]);
    let contributions = |object: &Value| {
        let (_, entity) = applied(&body(kind, object, &json!(null))).expect("readable");
        entity.contributions()
    };
    let names = [
        "mrr_past_due_extra|usd",
        "mrr_past_due_unbounded|usd",
        "mrr_past_due_unbounded|unknown",
        "mrr_past_due_incomplete|discount",
        "mrr_past_due_incomplete|items",
    ];
    let found = |object: &Value| {
        let counters = contributions(object);
        let parts = names.map(|name| name.split('|').collect::<Vec<_>>());
        parts.map(|parts| counters.get(Bucket::Current, &parts))
    };
    assert_eq!(found(&object), [0; 5], "it is not past due");
    object["status"] = json!("past_due");
    assert_eq!(found(&object), [4000, 0, 0, 1, 0]);
    object["items"]["has_more"] = json!(true);
    assert_eq!(found(&object), [0, 1, 0, 0, 1]);
    object["currency"] = json!(7);
    assert_eq!(found(&object), [0, 0, 1, 0, 1]);
}

/// What does not count in MRR is not missing in it.
#[test]
fn a_subscription_outside_of_mrr_is_not_incomplete() {
    for (what, value) in [
        ("/status", json!("canceled")),
        ("/status", json!("trialing")),
        ("/cancel_at_period_end", json!(true)),
    ] {
        let mut samples = samples();
        let (kind, object, _) = &mut samples[0];
        object["items"] = json!(7);
        *object.pointer_mut(what).expect("a field") = value;
        let (_, entity) = applied(&body(kind, object, &json!(null))).expect("readable");
        let counters = entity.contributions();
        let incomplete = counters.under(Bucket::Current, "mrr_incomplete");
        assert_eq!(incomplete.count(), 0, "{what}");
    }
}

#[test]
fn an_unknown_amount_is_no_gain_where_older_states_were_dropped() {
    let (kind, object, _) = samples().swap_remove(0);
    let mut odd = object.clone();
    odd["items"] = json!(7);
    let mut entity = Entity::new(&EntityKey::new(EntityKind::Subscription, "sub_1"));
    let first_kept = 300 - KEPT_CHANGES;
    for n in 0..300 {
        let object = if n == first_kept { &odd } else { &object };
        let mut body: Value =
            serde_json::from_str(&body(kind, object, &json!(null))).expect("JSON");
        body["id"] = json!(format!("evt_{n}"));
        body["created"] = json!(n * 86_400);
        let body = body.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        let observations = observe(&event, &ObserveSettings::default()).expect("readable");
        observations.iter().for_each(|it| entity.merge(it));
    }
    let relay = Relay::all_of(&entity).pop().expect("a customer");
    let mut customer = Entity::new(&relay.to);
    let observed = relay.observe(Some(&entity));
    customer.merge(&observed.expect("it is stored"));
    let mut counters = entity.contributions();
    counters.merge(customer.contributions(), 1);
    for day in 0..300 {
        let hour = Bucket::Hour(day * 24);
        assert_eq!(counters.get(hour, &["churn", "gained"]), 0);
        assert_eq!(counters.get(hour, &["mrr_change", "usd"]), 0);
    }
    for now in ["paying", "subscribers"] {
        assert_eq!(counters.get(Bucket::Current, &["base", now]), 1);
    }
}

#[test]
fn an_item_with_only_a_plan_has_its_price() {
    let plan = json!({"id": "pro", "object": "plan", "amount": 700, "amount_decimal": "700", "currency": "usd",
        "interval": "week", "interval_count": 1, "product": "prod_1", "usage_type": "licensed"});
    let mut half = plan.clone();
    half["transform_usage"] = json!({"divide_by": 2, "round": "up"});
    let mut metered = plan.clone();
    metered["usage_type"] = json!("metered");
    let mut no_interval = plan.clone();
    no_interval["interval"] = json!(null);
    let table = [
        (json!({"plan": plan, "quantity": 2}), Some(6083)),
        (
            json!({"plan": plan, "price": null, "quantity": 1}),
            Some(3042),
        ),
        (json!({"plan": half, "quantity": 3}), Some(6083)),
        (json!({"plan": metered}), Some(0)),
        (json!({"plan": no_interval, "quantity": 1}), None),
        (json!({"plan": [plan], "quantity": 1}), None),
        (json!({"plan": plan, "price": 7, "quantity": 1}), None),
    ];
    for (item, expected) in table {
        let object = json!({"id": "sub_1", "status": "active", "items": {"data": [item]}});
        let observed = observe_object("customer.subscription.updated", None, &object);
        match &observed.expect("readable")[0].update {
            Update::Subscription(_, state) => {
                assert_eq!(state.facts.recurring_minor, expected, "{item}");
                let plan = if item["plan"].is_object() && item["price"].is_null() {
                    "PRO"
                } else {
                    UNMAPPED_PLAN
                };
                assert_eq!(state.facts.plan, plan, "{item}");
            }
            other => panic!("{other:?}"),
        }
    }
}
