//! Subscriptions and invoices.

use revwatch_core::entity::EntityKind;
use serde_json::{Value, json};

use super::{REPEAT, START_S, Scenario};

/// One item with this many seats at 10.00 a month.
fn subscription(name: &'static str, status: &str) -> Scenario {
    Scenario::of(
        name,
        EntityKind::Subscription,
        json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "currency": "usd", "status": status,
            "cancel_at_period_end": false, "cancel_at": null, "trial_end": null, "discount": null, "discounts": [],
            "latest_invoice": "in_0", "metadata": {}, "items": seats(1)}),
    )
}

fn seats(quantity: u64) -> Value {
    json!({"object": "list", "data": [{"id": "si_1", "quantity": quantity, "price": {
        "id": "price_1", "unit_amount": 1000, "unit_amount_decimal": "1000", "product": "prod_1",
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}}]})
}

const CREATED: &str = "customer.subscription.created";
const UPDATED: &str = "customer.subscription.updated";
const DELETED: &str = "customer.subscription.deleted";
const TRIAL: &str = "customer.subscription.trial_will_end";

#[test]
fn subscriptions_created_updated_and_deleted_in_one_second() {
    subscription("all in one second", "incomplete").check(
        &[
            (5, CREATED, json!({})),
            (5, UPDATED, json!({"status": "active"})),
            (5, UPDATED, json!({"items": seats(3)})),
            (5, UPDATED, json!({"cancel_at_period_end": true})),
            (5, UPDATED, json!({"cancel_at_period_end": false})),
            (5, UPDATED, json!({"status": "past_due"})),
            (5, DELETED, json!({"status": "canceled"})),
        ],
        &[
            ("subscriptions|canceled|unmapped", 1),
            ("mrr|usd", 0),
            ("base|all", 0),
        ],
        &[],
    );
    subscription("a triple at the end", "active").check(
        &[
            (0, CREATED, json!({})),
            (0, UPDATED, json!({"items": seats(2)})),
            (4, UPDATED, json!({"status": "past_due"})),
            (4, UPDATED, json!({"status": "unpaid"})),
            (9, UPDATED, json!({"status": "active"})),
            (9, UPDATED, json!({"cancel_at": 1_800_000_000})),
            (9, DELETED, json!({"status": "canceled"})),
        ],
        &[("subscriptions|canceled|unmapped", 1), ("base|paying", 0)],
        &[],
    );
}

#[test]
fn a_status_toggles_in_one_second() {
    subscription("ends past due", "active").check(
        &[
            (0, CREATED, json!({})),
            (7, UPDATED, json!({"status": "past_due"})),
            (7, UPDATED, json!({"status": "active"})),
            (7, UPDATED, json!({"status": "past_due"})),
            (7, UPDATED, json!({"items": seats(4)})),
            (7, UPDATED, json!({"status": "active"})),
            (7, UPDATED, json!({"status": "past_due"})),
        ],
        &[
            ("subscriptions|past_due|unmapped", 1),
            ("mrr|usd", 4000),
            ("mrr_past_due|usd", 4000),
        ],
        &[("past_due", 7)],
    );
    subscription("among other fields, ends active", "trialing").check(
        &[
            (0, CREATED, json!({})),
            (
                1,
                UPDATED,
                json!({"status": "active", "latest_invoice": "in_1"}),
            ),
            (
                1,
                UPDATED,
                json!({"latest_invoice": "in_2", "items": seats(2)}),
            ),
            (1, UPDATED, json!({"status": "past_due"})),
            (1, UPDATED, json!({"metadata": {"seat": "x"}})),
            (
                1,
                UPDATED,
                json!({"status": "active", "metadata": {"seat": "y"}}),
            ),
            (2, UPDATED, json!({"items": seats(5)})),
        ],
        &[
            ("subscriptions|active|unmapped", 1),
            ("mrr|usd", 5000),
            ("mrr_past_due|usd", 0),
        ],
        &[],
    );
}

/// `trial_will_end` contains the object but no previous values.
#[test]
fn snapshots_without_previous_attributes_are_put_in_order() {
    subscription("a trial that ends immediately", "trialing").check(
        &[
            (0, CREATED, json!({"trial_end": 1_700_300_000})),
            (3, UPDATED, json!({"items": seats(2)})),
            (3, TRIAL, json!({})),
            (3, UPDATED, json!({"trial_end": 1_700_000_002})),
            (3, TRIAL, json!({})),
            (3, UPDATED, json!({"status": "active"})),
            (3, UPDATED, json!({"items": seats(3)})),
        ],
        &[("subscriptions|active|unmapped", 1), ("mrr|usd", 3000)],
        &[],
    );
}

#[test]
fn discounts_come_and_go_in_one_second() {
    let coupon = |percent: u32| json!({"id": "di_1", "object": "discount", "coupon": {"id": "co_1", "duration": "forever", "percent_off": percent}});
    subscription("the single discount of old API versions", "active").check(
        &[
            (0, CREATED, json!({})),
            (2, UPDATED, json!({"discount": coupon(50)})),
            (2, UPDATED, json!({"discount": null})),
            (2, UPDATED, json!({"items": seats(2)})),
            (2, UPDATED, json!({"discount": coupon(25)})),
            (2, UPDATED, json!({"metadata": {"a": "b"}})),
            (2, UPDATED, json!({"discount": null})),
        ],
        &[("mrr|usd", 2000)],
        &[],
    );
    subscription("the list of discounts", "active").check(
        &[
            (0, CREATED, json!({})),
            (2, UPDATED, json!({"discounts": [coupon(50)]})),
            (2, UPDATED, json!({"discounts": []})),
            (2, UPDATED, json!({"discounts": [coupon(10)]})),
            (2, UPDATED, json!({"discounts": [coupon(10), coupon(50)]})),
            (2, UPDATED, json!({"discounts": [coupon(20)]})),
            (2, UPDATED, json!({"discounts": [coupon(30)]})),
        ],
        &[("mrr|usd", 700)],
        &[],
    );
}

#[test]
fn one_change_under_two_event_ids_counts_as_one() {
    subscription("repeated between others", "active").check(
        &[
            (0, CREATED, json!({})),
            (3, UPDATED, json!({"status": "past_due"})),
            (3, REPEAT, json!({})),
            (3, UPDATED, json!({"status": "unpaid"})),
            (3, UPDATED, json!({"items": seats(2)})),
            (3, REPEAT, json!({})),
            (3, UPDATED, json!({"status": "active"})),
        ],
        &[("subscriptions|active|unmapped", 1), ("mrr|usd", 2000)],
        &[],
    );
}

/// A plan change repeats the complete legacy `plan`, whose fields sort before `status`.
#[test]
fn an_update_of_very_many_fields_keeps_its_status() {
    let plan = |n: u32| {
        let fields = "active amount amount_decimal billing_scheme created id interval meter nickname object product usage";
        let plan = fields
            .split(' ')
            .map(|field| (field.to_owned(), format!("{field} {n}").into()));
        Value::Object(plan.collect())
    };
    subscription("plan and status in one update", "trialing").check(
        &[
            (0, CREATED, json!({"plan": plan(0)})),
            (
                4,
                UPDATED,
                json!({"status": "active", "plan": plan(1), "items": seats(2)}),
            ),
            (
                4,
                UPDATED,
                json!({"status": "past_due", "plan": plan(2), "items": seats(3)}),
            ),
            (4, UPDATED, json!({"status": "active", "plan": plan(3)})),
            (4, UPDATED, json!({"status": "past_due", "plan": plan(4)})),
            (4, UPDATED, json!({"status": "unpaid", "plan": plan(5)})),
            (4, UPDATED, json!({"status": "active", "plan": plan(6)})),
        ],
        &[("subscriptions|active|unmapped", 1), ("mrr|usd", 3000)],
        &[],
    );
}

fn invoice(name: &'static str) -> Scenario {
    Scenario::of(
        name,
        EntityKind::Invoice,
        json!({"id": "in_1", "object": "invoice", "customer": "cus_1", "currency": "eur", "status": "draft",
            "amount_due": 4900, "amount_paid": 0, "attempt_count": 0, "attempted": false, "subscription": "sub_1",
            "collection_method": "charge_automatically", "next_payment_attempt": null}),
    )
}

/// A payment of the invoice.
fn part(id: &str, minor: i64, after_s: i64) -> Value {
    json!({"!object": {"id": id, "object": "invoice_payment", "invoice": "in_1", "status": "paid", "amount_paid": minor,
        "currency": "eur", "status_transitions": {"paid_at": START_S + after_s}}})
}

#[test]
fn paid_invoices_in_any_order() {
    invoice("all in one second").check(
        &[
            (0, "invoice.created", json!({})),
            (0, "invoice.updated", json!({"amount_due": 5000})),
            (0, "invoice.finalized", json!({"status": "open"})),
            (
                0,
                "invoice.updated",
                json!({"status": "paid", "amount_paid": 5000, "attempt_count": 1, "attempted": true}),
            ),
            (0, "invoice.paid", json!({})),
            (0, "invoice.payment_succeeded", json!({})),
            (0, REPEAT, json!({})),
        ],
        &[("invoices|paid", 1), ("invoices_open_minor|eur", 0)],
        &[],
    );
    invoice("written off, and paid after all in the same second").check(
        &[
            (0, "invoice.created", json!({})),
            (1, "invoice.finalized", json!({"status": "open"})),
            (1, "invoice.payment_failed", json!({"attempt_count": 1})),
            (
                6,
                "invoice.marked_uncollectible",
                json!({"status": "uncollectible"}),
            ),
            (
                6,
                "invoice.updated",
                json!({"status": "paid", "amount_paid": 4900}),
            ),
            (6, "invoice.paid", json!({})),
            (6, "invoice.payment_succeeded", json!({})),
        ],
        &[("invoices|paid", 1), ("invoices_open_minor|eur", 0)],
        &[],
    );
}

#[test]
fn unpaid_invoices_in_any_order() {
    invoice("refused twice, waits for its customer").check(
        &[
            (0, "invoice.created", json!({})),
            (9, "invoice.finalized", json!({"status": "open"})),
            (
                9,
                "invoice.payment_failed",
                json!({"attempt_count": 1, "attempted": true, "next_payment_attempt": START_S + 20}),
            ),
            (9, "invoice.payment_action_required", json!({})),
            (
                20,
                "invoice.updated",
                json!({"attempt_count": 2, "next_payment_attempt": START_S + 40}),
            ),
            (20, "invoice.payment_failed", json!({})),
            (20, "invoice.updated", json!({"amount_paid": 900})),
        ],
        &[
            ("invoices|open", 1),
            ("invoices_open_minor|eur", 4000),
            ("invoices_retrying", 1),
            ("invoices_retrying_minor|eur", 4000),
            ("invoices_uncollected", 0),
        ],
        &[
            ("attempt_unreported", 20),
            ("invoice_payment_failed", 9),
            ("payment_action_required", 9),
        ],
    );
    invoice("refused four times, and Stripe does not try again").check(
        &[
            (0, "invoice.finalized", json!({"status": "open"})),
            (
                2,
                "invoice.payment_failed",
                json!({"attempt_count": 1, "attempted": true, "next_payment_attempt": START_S + 4}),
            ),
            (4, "invoice.payment_failed", json!({"attempt_count": 2})),
            (6, "invoice.payment_failed", json!({"attempt_count": 3})),
            (
                8,
                "invoice.updated",
                json!({"attempt_count": 4, "next_payment_attempt": null}),
            ),
            (8, "invoice.payment_failed", json!({})),
            (8, REPEAT, json!({})),
        ],
        &[
            ("invoices|open", 1),
            ("invoices_open_minor|eur", 4900),
            ("invoices_retrying", 0),
            ("invoices_uncollected", 1),
            ("invoices_uncollected_minor|eur", 4900),
        ],
        &[("retries_exhausted", 8)],
    );
    invoice("a bank debit is under way, fails, and the next one is under way").check(
        &[
            (0, "invoice.finalized", json!({"status": "open"})),
            (
                1,
                "invoice.updated",
                json!({"attempt_count": 1, "attempted": true}),
            ),
            (2, "invoice.updated", json!({"metadata": {"a": "1"}})),
            (
                300,
                "invoice.payment_failed",
                json!({"next_payment_attempt": START_S + 600}),
            ),
            (300, REPEAT, json!({})),
            (
                600,
                "invoice.updated",
                json!({"attempt_count": 2, "next_payment_attempt": null}),
            ),
            (601, "invoice.updated", json!({"metadata": {"a": "2"}})),
        ],
        &[
            ("invoices|open", 1),
            ("invoices_retrying", 0),
            ("invoices_uncollected", 0),
        ],
        &[("attempt_unreported", 600), ("invoice_payment_failed", 300)],
    );
    invoice("paid in parts, of which some are in no state of the invoice").check(
        &[
            (0, "invoice.finalized", json!({"status": "open"})),
            (2, "invoice_payment.paid", part("inpay_1", 900, 2)),
            (
                4,
                "invoice.payment_failed",
                json!({"attempt_count": 1, "amount_paid": 900}),
            ),
            (8, "invoice_payment.paid", part("inpay_2", 1000, 8)),
            (9, "invoice.updated", json!({"amount_paid": 2400})),
            (12, "invoice_payment.paid", part("inpay_3", 500, 12)),
            (12, REPEAT, json!({})),
        ],
        &[
            ("invoices_open_minor|eur", 2000),
            ("invoices_uncollected_minor|eur", 2000),
        ],
        &[("retries_exhausted", 4)],
    );
    invoice("paid in parts to the end, and its own events are missing").check(
        &[
            (0, "invoice.finalized", json!({"status": "open"})),
            (2, "invoice.payment_failed", json!({"attempt_count": 1})),
            (2, "invoice.payment_action_required", json!({})),
            (3, "invoice_payment.paid", part("inpay_1", 900, 3)),
            (3, REPEAT, json!({})),
            (8, "invoice_payment.paid", part("inpay_2", 4000, 8)),
            (8, REPEAT, json!({})),
        ],
        &[("invoices_open_minor|eur", 0), ("invoices_uncollected", 0)],
        &[],
    );
    invoice("refused three times and then paid").check(
        &[
            (0, "invoice.finalized", json!({"status": "open"})),
            (
                2,
                "invoice.payment_failed",
                json!({"attempt_count": 1, "attempted": true}),
            ),
            (4, "invoice.payment_failed", json!({"attempt_count": 2})),
            (6, "invoice.payment_failed", json!({"attempt_count": 3})),
            (
                8,
                "invoice.updated",
                json!({"status": "paid", "attempt_count": 4, "amount_paid": 4900}),
            ),
            (8, "invoice.paid", json!({})),
            (8, "invoice.payment_succeeded", json!({})),
        ],
        &[("invoices|paid", 1), ("invoices_retrying", 0)],
        &[],
    );
    invoice("a draft that changes to and fro and is deleted").check(
        &[
            (0, "invoice.created", json!({})),
            (0, "invoice.updated", json!({"amount_due": 1})),
            (0, "invoice.updated", json!({"amount_due": 4900})),
            (0, "invoice.updated", json!({"amount_due": 2})),
            (0, "invoice.updated", json!({"amount_due": 4900})),
            (0, "invoice.updated", json!({"amount_due": 3})),
            (0, "invoice.deleted", json!({})),
        ],
        &[("invoices|deleted", 1)],
        &[],
    );
    invoice("amounts settle within a second").check(
        &[
            (0, "invoice.finalized", json!({"status": "open"})),
            (5, "invoice.updated", json!({"amount_paid": 100})),
            (5, "invoice.updated", json!({"amount_paid": 200})),
            (5, "invoice.sent", json!({})),
            (5, "invoice.updated", json!({"amount_paid": 300})),
            (5, "invoice.updated", json!({"amount_paid": 100})),
            (5, "invoice.updated", json!({"amount_paid": 900})),
        ],
        &[
            ("invoices|open", 1),
            ("invoices_open_minor|eur", 4000),
            ("invoices_retrying", 0),
        ],
        &[],
    );
}

#[test]
fn fields_that_cannot_be_read_in_any_order() {
    subscription("unknown amounts are neither gained nor lost", "active").check(
        &[
            (0, CREATED, json!({})),
            (3, UPDATED, json!({"items": 7, "!previous": "odd"})),
            (3, UPDATED, json!({"status": "past_due"})),
            (3, UPDATED, json!({"items": seats(2), "status": "active"})),
            (5, UPDATED, json!({"trial_end": "soon"})),
            (5, UPDATED, json!({"discounts": {"no": "list"}})),
            (7, UPDATED, json!({"status": "past_due", "!previous": []})),
        ],
        &[
            ("subscriptions|past_due|unmapped", 1),
            ("mrr|usd", 0),
            ("mrr_past_due|usd", 0),
            ("mrr_incomplete|coupon", 1),
            ("base|all", 1),
            ("base|paying", 1),
        ],
        &[("past_due", 7), ("mrr_incomplete", 5)],
    );
    subscription("an amount that is known in the end", "active").check(
        &[
            (0, CREATED, json!({"items": null})),
            (1, UPDATED, json!({"cancel_at": "soon"})),
            (1, UPDATED, json!({"cancel_at": null})),
            (1, UPDATED, json!({"currency": 7})),
            (2, UPDATED, json!({"items": seats(2)})),
            (2, UPDATED, json!({"currency": "usd"})),
            (2, UPDATED, json!({"items": seats(3)})),
        ],
        &[
            ("mrr|usd", 3000),
            ("mrr_incomplete|items", 0),
            ("base|paying", 1),
        ],
        &[],
    );
    invoice("attempts that cannot be read do not end a problem").check(
        &[
            (0, "invoice.created", json!({})),
            (1, "invoice.finalized", json!({"status": "open"})),
            (
                2,
                "invoice.payment_failed",
                json!({"attempt_count": 1, "next_payment_attempt": START_S + 4}),
            ),
            (3, "invoice.updated", json!({"attempt_count": "two"})),
            (3, "invoice.updated", json!({"amount_paid": null})),
            (4, "invoice.payment_failed", json!({"attempt_count": 3})),
            (5, "invoice.updated", json!({"attempt_count": [4]})),
        ],
        &[
            ("invoices|open", 1),
            ("invoices_open_minor|eur", 0),
            ("amount_unknown|invoices_open_minor", 1),
            ("invoices_retrying", 1),
        ],
        &[
            ("attempt_unreported", 2),
            ("invoice_payment_failed", 2),
            ("dunning_escalation", 4),
        ],
    );
}
