//! How the collection of an invoice goes on: attempts that fail or are under way, retries, and payments.

use serde_json::{Value, json};

use super::first_sight::after;
use crate::condition::{BeganBefore, Condition, ConditionKind};
use crate::counters::Bucket;
use crate::entity::Entity;

/// An open invoice after so many attempts; `next` is in hours.
fn open(attempts: u32, next: Option<i64>) -> Value {
    json!({"id": "in_1", "object": "invoice", "status": "open", "currency": "usd", "amount_due": 2000, "amount_paid": 0,
        "attempt_count": attempts, "attempted": attempts > 0, "collection_method": "charge_automatically",
        "billing_reason": "subscription_cycle", "next_payment_attempt": next.map(|hour| hour * 3600)})
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

/// Kind, hour since when, and what is said of it; without attempts that are not reported yet.
fn conditions(entity: &Entity) -> Vec<(&'static str, i64, String)> {
    let conditions = entity.conditions();
    let is_reported = |c: &&Condition| c.key.kind != ConditionKind::AttemptUnreported;
    let shown = conditions.iter().filter(is_reported).map(|c| {
        let detail = c.detail.clone().unwrap_or_default();
        (c.key.kind.as_str(), c.since_s / 3600, detail)
    });
    shown.collect()
}

/// How many wait for a retry, and how many are given up.
fn counted(entity: &Entity) -> [i64; 2] {
    let counters = entity.contributions();
    ["invoices_retrying", "invoices_uncollected"].map(|name| counters.get(Bucket::Current, &[name]))
}

const FAILED: &str = "invoice.payment_failed";
const UPDATED: &str = "invoice.updated";

/// K4, B6, K12.
#[test]
fn an_invoice_waits_for_a_retry_until_stripe_does_not_try_again() {
    let (first, third) = (open(1, Some(72)), open(3, Some(200)));
    let waiting = after(&[(1, FAILED, &first, None), (9, FAILED, &third, None)]);
    let said = |attempts: u32| format!("{attempts} attempt(s)");
    assert_eq!(
        conditions(&waiting),
        [
            ("invoice_payment_failed", 1, said(3)),
            ("dunning_escalation", 9, said(3))
        ]
    );
    assert_eq!(counted(&waiting), [1, 0]);
    let last = open(4, None);
    let events = [
        (1, FAILED, &first, None),
        (9, FAILED, &third, None),
        (20, FAILED, &last, None),
        (30, UPDATED, &last, Some(json!({"metadata": {}}))),
    ];
    let exhausted = after(&events);
    assert_eq!(conditions(&exhausted), [("retries_exhausted", 20, said(4))]);
    assert_eq!(counted(&exhausted), [0, 1]);
    let money = exhausted.conditions()[0].money.clone();
    assert_eq!(money.expect("known").to_string(), "USD 20.00");
    for status in ["paid", "void", "uncollectible"] {
        let end = with(last.clone(), "status", json!(status));
        let ended = after(&[events.to_vec(), vec![(40, UPDATED, &end, None)]].concat());
        assert_eq!((conditions(&ended), counted(&ended)), (vec![], [0, 0]));
    }
    // Someone makes Stripe try again.
    let again = open(4, Some(90));
    let waiting = after(&[events.to_vec(), vec![(40, UPDATED, &again, None)]].concat());
    assert_eq!(
        conditions(&waiting)[0],
        ("invoice_payment_failed", 1, said(4))
    );
    assert_eq!(counted(&waiting), [1, 0]);
}

/// Since which hour no event says how an attempt ended, and when one should have.
fn unreported(entity: &Entity) -> Option<(i64, i64)> {
    let conditions = entity.conditions().into_iter();
    let mut unreported = conditions.filter(|c| c.key.kind == ConditionKind::AttemptUnreported);
    unreported
        .next()
        .map(|c| (c.since_s / 3600, c.due_s / 3600))
}

#[test]
fn an_attempt_should_be_reported_a_day_after_it_was_planned_and_three_weeks_after_it_began() {
    let planned = (1, FAILED, &open(1, Some(72)), None);
    let touched = (
        5,
        UPDATED,
        &open(1, Some(72)),
        Some(json!({"metadata": {}})),
    );
    assert_eq!(
        unreported(&after(std::slice::from_ref(&planned))),
        Some((1, 96))
    );
    assert_eq!(
        unreported(&after(&[planned.clone(), touched])),
        Some((1, 96))
    );
    let later = (
        50,
        UPDATED,
        &open(1, Some(100)),
        Some(json!({"next_payment_attempt": 72 * 3600})),
    );
    assert_eq!(
        unreported(&after(&[planned.clone(), later])),
        Some((50, 124))
    );
    // Stripe has said since then how it is.
    let read = (96, UPDATED, &open(1, Some(72)), None);
    let due_later = Some((1, 96 + 24));
    assert_eq!(unreported(&after(&[planned.clone(), read])), due_later);
    // The second attempt is under way, or its failure was lost.
    let begun = (73, UPDATED, &open(2, None), None);
    let seen_again = (80, UPDATED, &open(2, None), None);
    let both = [planned.clone(), begun.clone(), seen_again];
    assert_eq!(unreported(&after(&both)), Some((73, 73 + 21 * 24)));
    let ended = (99, FAILED, &open(2, None), None);
    assert_eq!(unreported(&after(&[planned.clone(), begun, ended])), None);
    let paid = (
        74,
        UPDATED,
        &with(open(2, None), "status", json!("paid")),
        None,
    );
    assert_eq!(unreported(&after(&[planned, paid])), None);
}

#[test]
fn retries_are_exhausted_only_where_stripe_makes_them() {
    let failed = |field: &str, value: Value| {
        let seen = after(&[(1, FAILED, &with(open(4, None), field, value), None)]);
        (conditions(&seen)[0].0, counted(&seen))
    };
    let goes_on = ("invoice_payment_failed", [0, 0]);
    assert_eq!(
        failed("amount_paid", json!(0)),
        ("retries_exhausted", [0, 1])
    );
    assert_eq!(failed("collection_method", json!("send_invoice")), goes_on);
    assert_eq!(failed("collection_method", json!(null)), goes_on, "unknown");
    assert_eq!(
        failed("billing_reason", json!("subscription_create")),
        goes_on
    );
    assert_eq!(
        failed("next_payment_attempt", json!("soon")),
        goes_on,
        "unknown"
    );
    let mut silent = open(4, None);
    silent
        .as_object_mut()
        .expect("an object")
        .remove("next_payment_attempt");
    let seen = after(&[(1, FAILED, &silent, None)]);
    assert_eq!(conditions(&seen)[0].0, "invoice_payment_failed", "unknown");
    let nothing_owed = with(open(4, None), "amount_paid", json!(2000));
    let seen = after(&[(1, FAILED, &nothing_owed, None)]);
    assert_eq!((conditions(&seen), counted(&seen)), (vec![], [0, 0]));
}

#[test]
fn a_payment_that_is_processing_has_not_failed() {
    let under_way = open(1, None);
    let seen = after(&[(1, UPDATED, &under_way, Some(json!({"attempt_count": 0})))]);
    assert_eq!((conditions(&seen), counted(&seen)), (vec![], [0, 0]));
    let failed_before = [
        (1, FAILED, &open(1, Some(72)), None),
        (
            72,
            UPDATED,
            &open(2, None),
            Some(json!({"attempt_count": 1})),
        ),
    ];
    let seen = after(&failed_before);
    assert_eq!(
        conditions(&seen),
        [("invoice_payment_failed", 1, "1 attempt(s)".into())]
    );
    assert_eq!(counted(&seen), [0, 0]);
    let pending = with(open(2, None), "status", json!("open_payment_pending"));
    let seen = after(&[
        (1, FAILED, &open(2, None), None),
        (2, UPDATED, &pending, None),
    ]);
    assert_eq!(conditions(&seen)[0].0, "invoice_payment_failed");
    assert_eq!(counted(&seen), [0, 0]);
    let counters = seen.contributions();
    let open = counters.get(Bucket::Current, &["invoices_open_minor", "usd"]);
    assert_eq!(open, 2000);
}

#[test]
fn exhausted_retries_that_the_first_event_finds_began_before() {
    let unrelated = Some(json!({"metadata": {}}));
    let failed = open(4, None);
    let seen = after(&[(8, FAILED, &failed, None)]);
    assert_eq!(
        seen.conditions()[0].began_before,
        None,
        "it reports the failure"
    );
    let seen = after(&[
        (7, UPDATED, &open(5, None), unrelated),
        (8, FAILED, &failed, None),
    ]);
    assert_eq!(
        conditions(&seen)[0].0,
        "invoice_payment_failed",
        "one may be under way"
    );
    assert_eq!(
        seen.conditions()[0].began_before,
        Some(BeganBefore::FirstSeen)
    );
}
