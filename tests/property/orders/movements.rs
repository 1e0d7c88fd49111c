//! Payouts, payments, checkouts, disputes, refunds and transfers.

use revwatch_core::entity::EntityKind;
use serde_json::{Value, json};

use super::{REPEAT, Scenario};

fn of(name: &'static str, kind: EntityKind, id: &str, more: &Value) -> Scenario {
    let mut object = json!({"id": id, "amount": 7000, "currency": "usd"});
    super::apply(&mut object, more);
    Scenario::of(name, kind, object).on("acct_1")
}

#[test]
fn payouts_in_any_order() {
    let payout = |name| {
        of(
            name,
            EntityKind::Payout,
            "po_1",
            &json!({"status": "pending", "failure_code": null}),
        )
    };
    payout("paid, then failed after all").check(
        &[
            (0, "payout.created", json!({})),
            (0, "payout.updated", json!({"status": "in_transit"})),
            (5, "payout.paid", json!({"status": "paid"})),
            (5, "payout.reconciliation_completed", json!({})),
            (5, "payout.updated", json!({"arrival_date": 1_700_000_000})),
            (
                8,
                "payout.failed",
                json!({"status": "failed", "failure_code": "account_closed"}),
            ),
            (
                8,
                "payout.updated",
                json!({"failure_balance_transaction": "txn_1"}),
            ),
        ],
        &[("payouts|failed|usd", 1), ("payouts|paid|usd", 0)],
        &[("payout_failed", 8)],
    );
    payout("thin events, some of them newer than the last state").check(
        &[
            (0, "payout.created", json!({})),
            (1, "v1.payout.created", json!({})),
            (2, "payout.updated", json!({"status": "in_transit"})),
            (2, "v1.payout.updated", json!({})),
            (4, "payout.paid", json!({"status": "paid"})),
            (5, "v1.payout.failed", json!({})),
            (5, "v1.payout.updated", json!({})),
        ],
        &[
            ("payouts|paid|usd", 1),
            ("payouts|failed|usd", 0),
            ("objects_needing_fetch|payouts", 1),
        ],
        &[("state_needed", 5)],
    );
    payout("created, paid and failed in one second, delivered twice").check(
        &[
            (1, "payout.created", json!({})),
            (1, "payout.updated", json!({"status": "in_transit"})),
            (1, "payout.paid", json!({"status": "paid"})),
            (1, REPEAT, json!({})),
            (
                1,
                "payout.failed",
                json!({"status": "failed", "failure_code": "no_account"}),
            ),
            (1, REPEAT, json!({})),
            (1, "payout.updated", json!({"trace_id": "x"})),
        ],
        &[("payouts|failed|usd", 1)],
        &[("payout_failed", 1)],
    );
    payout("called off").check(
        &[
            (0, "payout.created", json!({})),
            (0, "payout.updated", json!({"arrival_date": 1})),
            (0, "payout.updated", json!({"arrival_date": 2})),
            (0, "payout.updated", json!({"arrival_date": 1})),
            (0, "payout.updated", json!({"arrival_date": 3})),
            (0, "payout.canceled", json!({"status": "canceled"})),
            (1, "payout.updated", json!({"trace_id": "x"})),
        ],
        &[("payouts|canceled|usd", 1)],
        &[],
    );
}

#[test]
fn payments_in_any_order() {
    let payment = |name| {
        let more = json!({"status": "requires_payment_method", "last_payment_error": null, "latest_charge": null});
        of(name, EntityKind::Payment, "pi_1", &more)
    };
    let refused = |charge: &str| {
        json!({"status": "requires_payment_method", "latest_charge": charge,
            "last_payment_error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds", "charge": charge}})
    };
    let now = |status: &str| json!({"status": status, "last_payment_error": null});
    payment("refused twice, then good").check(
        &[
            (0, "payment_intent.created", json!({})),
            (0, "payment_intent.processing", now("processing")),
            (0, "payment_intent.payment_failed", refused("ch_1")),
            (0, "payment_intent.requires_action", now("requires_action")),
            (9, "payment_intent.payment_failed", refused("ch_2")),
            (
                12,
                "payment_intent.amount_capturable_updated",
                now("requires_capture"),
            ),
            (12, "payment_intent.succeeded", now("succeeded")),
        ],
        &[
            ("payment_intents|succeeded", 1),
            ("payment_attempts|failed", 2),
            ("payment_attempts|succeeded", 1),
        ],
        &[],
    );
    payment("still refused; one failure under two ids").check(
        &[
            (0, "payment_intent.created", json!({})),
            (2, "payment_intent.requires_action", now("requires_action")),
            (8, "payment_intent.processing", now("processing")),
            (8, "payment_intent.payment_failed", refused("ch_1")),
            (8, REPEAT, json!({})),
            (20, "payment_intent.processing", now("processing")),
            (20, "payment_intent.payment_failed", refused("ch_2")),
        ],
        &[
            ("payment_intents|requires_payment_method", 1),
            ("payment_attempts|failed", 2),
        ],
        &[("payment_failed", 20)],
    );
    payment("called off in the second of its failure").check(
        &[
            (0, "payment_intent.created", json!({})),
            (3, "payment_intent.processing", now("processing")),
            (3, "payment_intent.payment_failed", refused("ch_1")),
            (3, REPEAT, json!({})),
            (3, "payment_intent.canceled", json!({"status": "canceled"})),
            (3, REPEAT, json!({})),
            (3, REPEAT, json!({})),
        ],
        &[
            ("payment_intents|canceled", 1),
            ("payment_attempts|failed", 1),
        ],
        &[],
    );
}

#[test]
fn checkouts_in_any_order() {
    let checkout = |name, payment: &str| {
        let more = json!({"status": "complete", "payment_status": payment, "amount_total": 7000, "subscription": "sub_1"});
        of(name, EntityKind::Checkout, "cs_1", &more)
    };
    checkout("paid by a slow method", "unpaid").check(
        &[
            (0, "checkout.session.completed", json!({})),
            (0, REPEAT, json!({})),
            (0, REPEAT, json!({})),
            (9, "checkout.session.async_payment_failed", json!({})),
            (9, REPEAT, json!({})),
            (
                12,
                "checkout.session.async_payment_succeeded",
                json!({"payment_status": "paid"}),
            ),
            (12, REPEAT, json!({})),
        ],
        &[("checkout_sessions|complete", 1)],
        &[],
    );
    checkout("expired, of an API version without a status", "unpaid").check(
        &[
            (4, "checkout.session.expired", json!({"status": null})),
            (4, REPEAT, json!({})),
            (4, REPEAT, json!({})),
            (5, "checkout.session.expired", json!({})),
            (5, REPEAT, json!({})),
            (6, "checkout.session.expired", json!({})),
            (6, REPEAT, json!({})),
        ],
        &[("checkout_sessions|expired", 1)],
        &[],
    );
}

#[test]
fn disputes_in_any_order() {
    let dispute = |name, status| {
        of(
            name,
            EntityKind::Dispute,
            "dp_1",
            &json!({"status": status, "reason": "fraudulent", "charge": "ch_1"}),
        )
    };
    dispute("fought and won", "needs_response").check(
        &[
            (0, "charge.dispute.created", json!({})),
            (0, "charge.dispute.funds_withdrawn", json!({})),
            (
                0,
                "charge.dispute.updated",
                json!({"status": "under_review"}),
            ),
            (
                0,
                "charge.dispute.updated",
                json!({"status": "needs_response"}),
            ),
            (
                3,
                "charge.dispute.updated",
                json!({"status": "under_review"}),
            ),
            (9, "charge.dispute.closed", json!({"status": "won"})),
            (9, "charge.dispute.funds_reinstated", json!({})),
        ],
        &[("disputes|won", 1), ("disputed_minor|usd", 0)],
        &[],
    );
    let due =
        |status: &str, at_s: i64| json!({"status": status, "evidence_details": {"due_by": at_s}});
    dispute(
        "a deadline that moves, and comes back after an answer",
        "warning_needs_response",
    )
    .check(
        &[
            (
                0,
                "charge.dispute.created",
                due("warning_needs_response", 1_800_000_000),
            ),
            (
                1,
                "charge.dispute.updated",
                due("warning_under_review", 1_800_000_000),
            ),
            (
                2,
                "charge.dispute.updated",
                due("needs_response", 1_900_000_000),
            ),
            (2, "charge.dispute.funds_withdrawn", json!({})),
            (
                3,
                "charge.dispute.updated",
                due("needs_response", 1_950_000_000),
            ),
            (
                3,
                "charge.dispute.updated",
                json!({"evidence": {"receipt": null}}),
            ),
            (
                4,
                "charge.dispute.updated",
                json!({"evidence": {"receipt": "file_1"}}),
            ),
        ],
        &[("disputes|needs_response", 1)],
        &[("dispute_open", 2), ("dispute_evidence_due", 2)],
    );
    dispute(
        "an inquiry that becomes a dispute within a second",
        "warning_needs_response",
    )
    .check(
        &[
            (0, "charge.dispute.created", json!({})),
            (
                1,
                "charge.dispute.updated",
                json!({"status": "warning_under_review"}),
            ),
            (
                1,
                "charge.dispute.updated",
                json!({"status": "warning_needs_response"}),
            ),
            (
                1,
                "charge.dispute.updated",
                json!({"status": "needs_response", "amount": 6500}),
            ),
            (1, "charge.dispute.funds_withdrawn", json!({})),
            (
                1,
                "charge.dispute.updated",
                json!({"status": "under_review"}),
            ),
            (
                1,
                "charge.dispute.updated",
                json!({"status": "needs_response"}),
            ),
        ],
        &[("disputes|needs_response", 1), ("disputed_minor|usd", 6500)],
        &[("dispute_open", 1)],
    );
}

#[test]
fn refunds_in_any_order() {
    let refund = |name| {
        of(
            name,
            EntityKind::Refund,
            "re_1",
            &json!({"status": "pending", "charge": "ch_1"}),
        )
    };
    let failed = json!({"status": "failed", "failure_reason": "lost_or_stolen_card"});
    refund("good at first, then it bounced").check(
        &[
            (0, "refund.created", json!({})),
            (0, "refund.updated", json!({"status": "succeeded"})),
            (0, "charge.refund.updated", json!({})),
            (6, "refund.updated", json!({"description": "x"})),
            (6, "refund.updated", failed.clone()),
            (6, "charge.refund.updated", json!({})),
            (6, "refund.failed", json!({})),
        ],
        &[("refunds|failed", 1), ("refunds|succeeded", 0)],
        &[("refund_failed", 6)],
    );
    refund("all in one second").check(
        &[
            (0, "refund.created", json!({})),
            (0, "refund.updated", json!({"status": "requires_action"})),
            (0, "refund.updated", json!({"status": "pending"})),
            (0, "refund.updated", json!({"status": "succeeded"})),
            (0, "refund.updated", failed),
            (0, "refund.failed", json!({})),
            (0, REPEAT, json!({})),
        ],
        &[("refunds|failed", 1)],
        &[("refund_failed", 0)],
    );
}

#[test]
fn a_payout_reversal_in_any_order() {
    let more = json!({"status": "pending", "amount": -7000, "original_payout": "po_1"});
    of("paid, then failed", EntityKind::Payout, "po_2", &more).check(
        &[
            (0, "payout.created", json!({})),
            (1, "payout.updated", json!({"status": "in_transit"})),
            (2, "payout.paid", json!({"status": "paid"})),
            (2, "payout.updated", json!({"arrival_date": 1_700_000_000})),
            (
                4,
                "payout.failed",
                json!({"status": "failed", "failure_code": "debit_not_authorized"}),
            ),
            (4, REPEAT, json!({})),
            (
                5,
                "payout.updated",
                json!({"failure_balance_transaction": "txn_1"}),
            ),
        ],
        &[
            ("payouts|failed|usd", 0),
            ("payouts_reached|failed|usd", 0),
            ("payout_reversals|failed|usd", 1),
        ],
        &[("payout_reversal_failed", 4)],
    );
}

#[test]
fn transfers_in_any_order() {
    let transfer = |name| {
        let more = json!({"amount_reversed": 0, "reversed": false, "destination": "acct_2"});
        of(name, EntityKind::Transfer, "tr_1", &more)
    };
    transfer("reversed in parts within a second").check(
        &[
            (2, "transfer.created", json!({})),
            (2, "transfer.updated", json!({"description": "x"})),
            (2, "transfer.reversed", json!({"amount_reversed": 1000})),
            (2, "transfer.updated", json!({"description": "y"})),
            (2, "transfer.reversed", json!({"amount_reversed": 2000})),
            (
                2,
                "transfer.reversed",
                json!({"amount_reversed": 7000, "reversed": true}),
            ),
            (2, REPEAT, json!({})),
        ],
        &[("transfers|reversed", 1)],
        &[("transfer_reversed", 2)],
    );
    transfer("reversed in parts, one after the other").check(
        &[
            (0, "transfer.created", json!({})),
            (1, "transfer.reversed", json!({"amount_reversed": 1000})),
            (2, "transfer.updated", json!({"description": "x"})),
            (3, "transfer.reversed", json!({"amount_reversed": 2000})),
            (3, REPEAT, json!({})),
            (4, "transfer.updated", json!({"description": "y"})),
            (5, "transfer.updated", json!({"description": "z"})),
        ],
        &[("transfers|partially_reversed", 1)],
        &[("transfer_reversed", 3)],
    );
    transfer("a part stays back").check(
        &[
            (0, "transfer.created", json!({})),
            (0, "transfer.updated", json!({"description": "x"})),
            (0, "transfer.updated", json!({"description": "y"})),
            (4, "transfer.reversed", json!({"amount_reversed": 10})),
            (4, REPEAT, json!({})),
            (5, "transfer.updated", json!({"description": "z"})),
            (5, "transfer.updated", json!({"description": "x"})),
        ],
        &[("transfers|partially_reversed", 1)],
        &[("transfer_reversed", 4)],
    );
}

#[test]
fn fields_that_cannot_be_read_in_any_order() {
    let (payout, dispute) = (EntityKind::Payout, EntityKind::Dispute);
    let more = json!({"status": "pending", "amount": "7000", "currency": null});
    of("an amount that one event has", payout, "po_1", &more).check(
        &[
            (0, "payout.created", json!({})),
            (1, "payout.updated", json!({"status": "in_transit"})),
            (1, "payout.updated", json!({"amount": 7000})),
            (1, "payout.updated", json!({"amount": {}})),
            (1, "payout.updated", json!({"currency": "usd"})),
            (1, "payout.updated", json!({"currency": 7})),
            (
                5,
                "payout.failed",
                json!({"status": "failed", "failure_code": 7}),
            ),
        ],
        &[
            ("payouts|failed|usd", 1),
            ("payouts_reached|failed|usd", 1),
            ("payouts_reached|failed|unknown", 0),
        ],
        &[("payout_failed", 5)],
    );
    let more = json!({"status": "needs_response", "reason": null});
    of("a dispute without its amount", dispute, "du_1", &more).check(
        &[
            (0, "charge.dispute.created", json!({})),
            (1, "charge.dispute.updated", json!({"amount": null})),
            (1, "charge.dispute.updated", json!({"amount": 7000})),
            (1, "charge.dispute.updated", json!({"reason": 7})),
            (1, "charge.dispute.updated", json!({"amount": "7000"})),
            (1, "charge.dispute.updated", json!({"charge": ["ch_1"]})),
            (
                2,
                "charge.dispute.updated",
                json!({"status": "under_review"}),
            ),
        ],
        &[
            ("disputes|under_review", 1),
            ("disputed_minor|usd", 0),
            ("amount_unknown|disputed_minor", 1),
        ],
        &[("dispute_open", 2)],
    );
}
