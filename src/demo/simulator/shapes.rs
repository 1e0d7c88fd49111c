//! Bodies of the objects in Stripe's events, in both shapes where the shapes differ.

use serde_json::{Value, json};

use super::account::{Account, Payout};
use super::event::Shape;
use super::subscription::{Invoice, Subscription};

/// `subscription`
pub fn subscription(s: &Subscription) -> Value {
    let amount = s.plan.amount_minor(s.currency);
    let mut item = json!({
        "id": s.item, "object": "subscription_item", "created": s.created_s, "discounts": [], "metadata": {},
        "quantity": s.quantity, "subscription": s.id, "tax_rates": [],
        "price": {
            "id": format!("price_{}_{}", s.plan.lookup_key, s.currency), "object": "price", "active": true,
            "billing_scheme": "per_unit", "created": 1_700_000_000, "currency": s.currency, "livemode": true,
            "lookup_key": s.plan.lookup_key, "metadata": {}, "nickname": null, "product": s.plan.product,
            "recurring": {
                "interval": s.plan.interval, "interval_count": 1, "usage_type": "licensed", "meter": null,
            },
            "tax_behavior": "unspecified", "tiers_mode": null, "transform_quantity": null, "type": "recurring",
            "unit_amount": amount, "unit_amount_decimal": amount.to_string(),
        },
    });
    let mut object = json!({
        "id": s.id, "object": "subscription", "application": null, "automatic_tax": {"enabled": false},
        "billing_cycle_anchor": s.created_s, "cancel_at": null, "cancel_at_period_end": s.cancelling,
        "canceled_at": null, "collection_method": "charge_automatically", "created": s.created_s,
        "currency": s.currency, "customer": s.customer, "default_payment_method": null, "description": null,
        "ended_at": null, "latest_invoice": s.latest_invoice, "livemode": true, "metadata": {},
        "pause_collection": null, "schedule": null, "start_date": s.created_s, "status": s.status.as_str(),
        "test_clock": null, "trial_end": s.trial_end_s, "trial_start": s.trial_end_s.map(|_| s.created_s),
    });
    let (start_s, end_s) = (s.period_start_s, s.period_end_s());
    let period = match s.shape {
        Shape::Acacia => &mut object,
        Shape::Clover => &mut item,
    };
    period["current_period_start"] = json!(start_s);
    period["current_period_end"] = json!(end_s);
    if s.shape == Shape::Acacia {
        object["discount"] = Value::Null;
        object["plan"] = json!({"id": item["price"]["id"], "object": "plan", "amount": amount, "currency": s.currency,
            "interval": s.plan.interval, "interval_count": 1, "product": s.plan.product, "usage_type": "licensed"});
        object["quantity"] = json!(s.quantity);
    } else {
        object["billing_mode"] = json!({"type": "flexible"});
        object["discounts"] = json!([]);
    }
    let url = format!("/v1/subscription_items?subscription={}", s.id);
    object["items"] =
        json!({"object": "list", "data": [item], "has_more": false, "total_count": 1, "url": url});
    object
}

/// `invoice` of subscription `s`.
pub fn invoice(s: &Subscription, i: &Invoice) -> Value {
    let paid = i.status == "paid";
    let amount_paid = if paid { i.amount_minor } else { 0 };
    let line = json!({"id": format!("il_{}", &i.id[3..]), "object": "line_item", "amount": i.amount_minor,
        "currency": s.currency, "description": format!("{} × {}", s.quantity, s.plan.product), "livemode": true,
        "quantity": s.quantity, "period": {"start": s.period_start_s, "end": s.period_end_s()}});
    let mut object = json!({
        "id": i.id, "object": "invoice", "account_country": "US", "amount_due": i.amount_minor,
        "amount_paid": amount_paid, "amount_remaining": i.amount_minor - amount_paid, "attempt_count": i.attempts,
        "attempted": i.attempts > 0, "auto_advance": !paid, "billing_reason": i.reason,
        "collection_method": "charge_automatically", "created": i.created_s, "currency": s.currency,
        "customer": s.customer, "description": null, "due_date": null, "livemode": true, "metadata": {},
        "next_payment_attempt": i.next_attempt_s.filter(|_| i.status == "open"), "number": i.number,
        "lines": {"object": "list", "data": [line], "has_more": false, "url": format!("/v1/invoices/{}/lines", i.id)},
        "period_end": s.period_start_s, "period_start": s.period_start_s, "status": i.status,
        "subtotal": i.amount_minor, "total": i.amount_minor,
    });
    match s.shape {
        Shape::Acacia => {
            object["subscription"] = json!(s.id);
            object["paid"] = json!(paid);
            object["payment_intent"] = json!(i.payment_intent);
            object["charge"] = Value::Null;
            object["discount"] = Value::Null;
        }
        Shape::Clover => {
            object["parent"] = json!({"type": "subscription_details", "quote_details": null,
                "subscription_details": {"metadata": {}, "subscription": s.id}});
        }
    }
    object
}

/// `payment_intent` that pays invoice `i`.
pub fn payment_intent(s: &Subscription, i: &Invoice) -> Value {
    let mut object = json!({
        "id": i.payment_intent, "object": "payment_intent", "amount": i.amount_minor,
        "amount_received": i.amount_minor, "capture_method": "automatic", "confirmation_method": "automatic",
        "created": i.created_s, "currency": s.currency, "customer": s.customer, "livemode": true, "metadata": {},
        "payment_method_types": ["card"], "status": "succeeded",
    });
    if s.shape == Shape::Acacia {
        object["invoice"] = json!(i.id);
    }
    object
}

/// `account`
pub fn account(a: &Account) -> Value {
    let due: &[&str] = match a.stage {
        0 => &[
            "business_profile.url",
            "external_account",
            "tos_acceptance.date",
            "tos_acceptance.ip",
        ],
        1 => &["external_account"],
        _ => &[],
    };
    let overdue: &[&str] = if a.disabled {
        &["individual.verification.document"]
    } else {
        &[]
    };
    let reason = match (a.disabled, a.charges_enabled()) {
        (true, _) => Some("requirements.past_due"),
        (false, false) => Some("requirements.pending_verification"),
        (false, true) => None,
    };
    let capability = a.capability();
    let banks = if a.stage >= 2 {
        vec![bank_account(a)]
    } else {
        Vec::new()
    };
    json!({
        "id": a.id, "object": "account", "type": "express", "business_type": "company",
        "business_profile": {"mcc": "7299", "name": a.name, "support_email": null, "url": null},
        "capabilities": {"card_payments": capability, "transfers": capability},
        "charges_enabled": a.charges_enabled(), "payouts_enabled": a.payouts_enabled(),
        "details_submitted": a.stage >= 1, "country": a.country, "created": a.created_s,
        "default_currency": a.currency, "metadata": {},
        "external_accounts": {"object": "list", "total_count": banks.len(), "data": banks, "has_more": false,
            "url": format!("/v1/accounts/{}/external_accounts", a.id)},
        "requirements": requirements(a, due, overdue, reason),
    })
}

/// `bank_account`
pub fn bank_account(a: &Account) -> Value {
    json!({"id": a.bank, "object": "bank_account", "account": a.id, "account_holder_type": "company",
        "bank_name": "STRIPE TEST BANK", "country": a.country, "currency": a.currency, "last4": "6789",
        "default_for_currency": true, "metadata": {}, "status": "new"})
}

/// `capability`
pub fn capability(a: &Account) -> Value {
    json!({"id": "card_payments", "object": "capability", "account": a.id, "requested": true,
        "requested_at": a.created_s, "status": a.capability(), "requirements": requirements(a, &[], &[], None)})
}

/// `payout`
pub fn payout(a: &Account, p: &Payout) -> Value {
    let failed = p.status == "failed";
    json!({
        "id": p.id, "object": "payout", "amount": p.amount_minor, "arrival_date": p.created_s + 2 * 86_400,
        "automatic": true, "balance_transaction": format!("txn_{}", &p.id[3..]), "created": p.created_s,
        "currency": a.currency, "description": "STRIPE PAYOUT", "destination": a.bank, "livemode": true,
        "failure_code": failed.then_some("account_closed"),
        "failure_message": failed.then_some("The bank account has been closed."),
        "metadata": {}, "method": "standard", "original_payout": null, "reversed_by": null, "source_type": "card",
        "statement_descriptor": null, "status": p.status, "type": "bank_account",
    })
}

fn requirements(a: &Account, due: &[&str], overdue: &[&str], reason: Option<&str>) -> Value {
    let currently_due = [due, overdue].concat();
    let verifying: &[&str] = if a.stage == 2 {
        &["company.tax_id"]
    } else {
        &[]
    };
    json!({"alternatives": [], "current_deadline": null, "currently_due": currently_due, "disabled_reason": reason,
        "errors": [], "eventually_due": due, "past_due": overdue, "pending_verification": verifying})
}
