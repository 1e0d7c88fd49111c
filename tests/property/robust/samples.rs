//! One complete object of every kind that is read, in Stripe's shape with invented values.

use serde_json::{Value, json};

/// The objects of an event type: more than one if Stripe has had several shapes.
pub(super) fn of(kind: &str) -> Vec<Value> {
    let family = kind.rsplit_once('.').map_or(kind, |(family, _)| family);
    match family {
        "account" => vec![account()],
        "account.application" => {
            vec![json!({"id": "ca_1", "object": "application", "name": "Example platform"})]
        }
        "account.external_account" => vec![bank_account(), card()],
        "balance" => vec![balance()],
        "capability" => vec![capability()],
        "charge" => vec![charge()],
        "charge.dispute" => vec![dispute()],
        "charge.refund" | "refund" => vec![refund()],
        "checkout.session" => vec![checkout_session()],
        "credit_note" => vec![credit_note()],
        "customer" => vec![customer()],
        "customer.subscription" => vec![subscription(), old_subscription()],
        "invoice" if kind == "invoice.upcoming" => {
            let mut upcoming = invoice();
            upcoming.as_object_mut().expect("an object").remove("id");
            vec![upcoming]
        }
        "invoice" => vec![invoice(), old_invoice()],
        "invoice_payment" => vec![invoice_payment()],
        "payment_intent" => vec![payment_intent()],
        "payout" => vec![payout()],
        "person" => vec![person()],
        "price" => vec![price()],
        "product" => vec![product()],
        "transfer" => vec![transfer()],
        other => {
            vec![
                json!({"id": "obj_1", "object": other, "created": 1_700_000_000, "livemode": true, "metadata": {}}),
            ]
        }
    }
}

fn account() -> Value {
    json!({
        "id": "acct_1", "object": "account", "business_type": "company", "country": "DE", "created": 1_699_000_000,
        "capabilities": {"card_payments": "active", "transfers": "pending"}, "default_currency": "eur",
        "charges_enabled": true, "payouts_enabled": false, "details_submitted": true, "email": "shop@example.com",
        "controller": {"type": "application", "is_controller": true, "losses": {"payments": "application"}},
        "external_accounts": {"object": "list", "data": [bank_account()], "has_more": false, "total_count": 1, "url": "/v1/accounts/acct_1/external_accounts"},
        "future_requirements": requirements(&[], &[]), "requirements": requirements(&["company.tax_id", "representative.dob.day"], &["company.tax_id"]),
        "metadata": {"tenant": "7"}, "tos_acceptance": {"date": 1_699_000_100}, "type": "express",
        "settings": {"payouts": {"debit_negative_balances": true, "schedule": {"delay_days": 2, "interval": "daily"}}},
    })
}

fn requirements(currently_due: &[&str], past_due: &[&str]) -> Value {
    json!({"alternatives": [], "current_deadline": 1_700_600_000, "currently_due": currently_due, "eventually_due": currently_due,
        "disabled_reason": (!past_due.is_empty()).then_some("requirements.past_due"), "errors": [], "past_due": past_due, "pending_verification": []})
}

fn bank_account() -> Value {
    json!({"id": "ba_1", "object": "bank_account", "account": "acct_1", "account_holder_name": "Shop GmbH", "account_holder_type": "company",
        "bank_name": "EXAMPLE BANK", "country": "DE", "currency": "eur", "fingerprint": "fp_1", "last4": "3000",
        "metadata": {}, "routing_number": null, "status": "new", "available_payout_methods": ["standard"]})
}

fn card() -> Value {
    json!({"id": "card_1", "object": "card", "account": "acct_1", "brand": "Visa", "country": "US", "currency": "usd",
        "exp_month": 8, "exp_year": 2031, "funding": "debit", "last4": "5556", "metadata": {}, "name": null})
}

fn balance() -> Value {
    let amounts = json!([{"amount": 12_300, "currency": "eur", "source_types": {"card": 12_300}}]);
    json!({"object": "balance", "available": amounts, "connect_reserved": [], "livemode": true, "pending": amounts})
}

fn capability() -> Value {
    json!({"id": "card_payments", "object": "capability", "account": "acct_1", "requested": true, "requested_at": 1_699_000_000,
        "status": "inactive", "requirements": requirements(&["company.tax_id"], &[]), "future_requirements": requirements(&[], &[])})
}

fn charge() -> Value {
    json!({"id": "ch_1", "object": "charge", "amount": 4900, "amount_captured": 4900, "amount_refunded": 0, "captured": true,
        "currency": "eur", "customer": "cus_1", "created": 1_700_000_000, "disputed": false, "failure_code": null, "paid": true,
        "payment_intent": "pi_1", "payment_method": "pm_1", "refunded": false, "status": "succeeded", "livemode": true,
        "billing_details": {"address": {"country": "DE"}, "email": null}, "outcome": {"type": "authorized", "network_status": "approved_by_network"}})
}

fn dispute() -> Value {
    json!({"id": "dp_1", "object": "dispute", "amount": 4900, "balance_transactions": [], "charge": "ch_1", "created": 1_700_000_000,
        "currency": "eur", "evidence": {"product_description": null}, "evidence_details": {"due_by": 1_701_000_000, "has_evidence": false,
        "past_due": false, "submission_count": 0}, "is_charge_refundable": false, "livemode": true, "metadata": {},
        "payment_intent": "pi_1", "reason": "fraudulent", "status": "needs_response"})
}

fn refund() -> Value {
    json!({"id": "re_1", "object": "refund", "amount": 900, "charge": "ch_1", "created": 1_700_000_000, "currency": "eur", "metadata": {},
        "destination_details": {"type": "card", "card": {"type": "refund"}}, "failure_reason": "lost_or_stolen_card", "payment_intent": "pi_1",
        "reason": "requested_by_customer", "receipt_number": null, "status": "failed", "transfer_reversal": null})
}

fn checkout_session() -> Value {
    json!({"id": "cs_1", "object": "checkout.session", "amount_subtotal": 4900, "amount_total": 4900, "currency": "eur", "created": 1_700_000_000,
        "customer": "cus_1", "customer_details": {"email": "a@example.com"}, "expires_at": 1_700_086_400, "livemode": true, "metadata": {},
        "mode": "subscription", "payment_intent": null, "payment_status": "unpaid", "status": "complete", "subscription": "sub_1",
        "total_details": {"amount_discount": 0, "amount_tax": 0}})
}

fn credit_note() -> Value {
    json!({"id": "cn_1", "object": "credit_note", "amount": 900, "currency": "eur", "customer": "cus_1", "invoice": "in_1", "status": "issued",
        "lines": {"object": "list", "data": [{"id": "cnli_1", "amount": 900, "quantity": 1}]}, "number": "A-CN-01", "total": 900, "type": "pre_payment"})
}

fn customer() -> Value {
    json!({"id": "cus_1", "object": "customer", "balance": 0, "created": 1_690_000_000, "currency": "eur", "delinquent": false,
        "discount": null, "email": "a@example.com", "invoice_prefix": "ABC", "invoice_settings": {"footer": null}, "metadata": {}, "tax_exempt": "none"})
}

fn invoice_payment() -> Value {
    json!({"id": "inpay_1", "object": "invoice_payment", "amount_paid": 4900, "amount_requested": 4900, "currency": "eur", "invoice": "in_1",
        "is_default": true, "payment": {"type": "payment_intent", "payment_intent": "pi_1"}, "status": "paid", "status_transitions": {"paid_at": 1_700_000_000}})
}

fn payment_intent() -> Value {
    json!({"id": "pi_1", "object": "payment_intent", "amount": 4900, "amount_capturable": 0, "amount_received": 0, "currency": "eur",
        "customer": "cus_1", "created": 1_700_000_000, "invoice": "in_1", "latest_charge": "ch_1", "livemode": true, "metadata": {},
        "last_payment_error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds", "charge": "ch_1",
            "payment_method": {"id": "pm_1", "object": "payment_method", "type": "card"}},
        "next_action": null, "payment_method_types": ["card"], "status": "requires_payment_method"})
}

fn payout() -> Value {
    json!({"id": "po_1", "object": "payout", "amount": 120_000, "arrival_date": 1_700_200_000, "automatic": true, "created": 1_700_000_000,
        "balance_transaction": "txn_1", "currency": "eur", "destination": "ba_1", "failure_code": "account_closed", "failure_message": "closed",
        "failure_balance_transaction": "txn_2", "livemode": true, "metadata": {}, "method": "standard", "status": "failed", "type": "bank_account",
        "trace_id": {"status": "pending", "value": null}})
}

fn person() -> Value {
    json!({"id": "person_1", "object": "person", "account": "acct_1", "created": 1_699_000_000, "first_name": null, "metadata": {},
        "relationship": {"director": false, "owner": true, "percent_ownership": null}, "requirements": requirements(&[], &[]), "verification": {"status": "unverified"}})
}

fn price() -> Value {
    json!({"id": "price_1", "object": "price", "active": true, "billing_scheme": "per_unit", "currency": "eur", "lookup_key": "pro",
        "product": "prod_1", "recurring": {"interval": "year", "interval_count": 1, "usage_type": "licensed", "meter": null}, "tiers_mode": null,
        "transform_quantity": {"divide_by": 5, "round": "up"}, "type": "recurring", "unit_amount": 120_000, "unit_amount_decimal": "120000"})
}

fn product() -> Value {
    json!({"id": "prod_1", "object": "product", "active": true, "default_price": "price_1", "images": [], "metadata": {}, "name": "Pro"})
}

fn transfer() -> Value {
    json!({"id": "tr_1", "object": "transfer", "amount": 5000, "amount_reversed": 1000, "balance_transaction": "txn_3", "created": 1_700_000_000,
        "currency": "eur", "destination": "acct_2", "destination_payment": "py_1", "livemode": true, "metadata": {}, "reversed": false,
        "reversals": {"object": "list", "data": [{"id": "trr_1", "amount": 1000}], "has_more": false}, "source_type": "card"})
}

fn coupon() -> Value {
    json!({"id": "co_1", "object": "coupon", "amount_off": null, "currency": null, "duration": "forever", "name": "Friends",
        "percent_off": 12.5, "valid": true})
}

/// From 2025-03-31.basil on: periods in the items, a list of discounts whose coupon is below
/// `source`.
fn subscription() -> Value {
    let discount = |id: &str| json!({"id": id, "object": "discount", "customer": "cus_1", "end": null, "start": 1_699_000_000, "source": {"type": "coupon", "coupon": coupon()}});
    json!({
        "id": "sub_1", "object": "subscription", "automatic_tax": {"enabled": false}, "billing_cycle_anchor": 1_699_000_000, "cancel_at": null,
        "cancel_at_period_end": false, "canceled_at": null, "collection_method": "charge_automatically", "created": 1_699_000_000, "currency": "eur",
        "customer": "cus_1", "discounts": [discount("di_1")], "latest_invoice": "in_1", "livemode": true, "metadata": {}, "status": "past_due",
        "trial_end": null, "trial_start": null, "billing_mode": {"type": "flexible"},
        "items": {"object": "list", "has_more": false, "total_count": 1, "url": "/v1/subscription_items", "data": [{
            "id": "si_1", "object": "subscription_item", "created": 1_699_000_000, "current_period_start": 1_699_000_000, "current_period_end": 1_730_536_000,
            "discounts": [discount("di_2")], "metadata": {}, "quantity": 12, "subscription": "sub_1", "price": price()}]},
    })
}

/// Up to acacia: one `discount`, periods next to the status; two items, a scheduled cancellation
/// that was undone.
fn old_subscription() -> Value {
    let mut monthly = price();
    monthly["recurring"] = json!({"interval": "month", "interval_count": 3, "usage_type": "licensed", "aggregate_usage": null, "trial_period_days": null});
    monthly["transform_quantity"] = Value::Null;
    let mut object = subscription();
    object["discount"] = json!({"id": "di_1", "object": "discount", "coupon": coupon(), "customer": "cus_1", "start": 1_699_000_000, "end": null});
    object["discounts"] = json!(["di_1"]);
    object["current_period_start"] = 1_699_000_000.into();
    object["current_period_end"] = 1_701_600_000.into();
    object["items"]["data"] = json!([
        {"id": "si_1", "object": "subscription_item", "quantity": 2, "price": price(), "plan": {"id": "price_1", "amount": 120_000}, "discounts": []},
        {"id": "si_2", "object": "subscription_item", "quantity": 3, "price": monthly, "discounts": []},
    ]);
    object
}

/// From 2025-03-31.basil on: its subscription is below `parent`; there is neither `paid` nor
/// `charge`.
fn invoice() -> Value {
    json!({
        "id": "in_1", "object": "invoice", "amount_due": 4900, "amount_paid": 900, "amount_remaining": 4000, "amount_shipping": 0, "attempt_count": 1,
        "attempted": true, "auto_advance": true, "billing_reason": "subscription_cycle", "collection_method": "charge_automatically",
        "created": 1_700_000_000, "currency": "eur", "customer": "cus_1", "customer_email": "a@example.com", "discounts": [], "due_date": null,
        "lines": {"object": "list", "data": [{"id": "il_1", "amount": 4900, "currency": "eur", "quantity": 1, "period": {"start": 1, "end": 2},
            "parent": {"type": "subscription_item_details", "subscription_item_details": {"subscription": "sub_1", "subscription_item": "si_1"}}}]},
        "livemode": true, "metadata": {}, "next_payment_attempt": 1_700_259_200, "number": "A-1", "period_start": 1, "period_end": 2,
        "parent": {"type": "subscription_details", "quote_details": null, "subscription_details": {"metadata": {}, "subscription": "sub_1"}},
        "status": "open", "status_transitions": {"finalized_at": 1_700_000_000, "paid_at": null}, "subtotal": 4900, "total": 4900,
    })
}

/// Up to acacia.
fn old_invoice() -> Value {
    let mut object = invoice();
    object.as_object_mut().expect("an object").remove("parent");
    object["subscription"] = "sub_1".into();
    object["paid"] = false.into();
    object["charge"] = "ch_1".into();
    object["payment_intent"] = "pi_1".into();
    object["discount"] = Value::Null;
    object
}
