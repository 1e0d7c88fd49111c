//! What each field costs: the event, or only what it says.

use super::odd_fields::{applied, body, odd_values, samples};
use super::*;
use crate::event::MAX_ID_BYTES;
use crate::view::entity::describe;

/// What is shown differently of each sample if a field is absent or odd: without its id or status, nothing.
const COSTS: &str = "
    customer.subscription.updated cancel_at: cancel_scheduled, conditions, current.cancel_at_s, current.mrr_unknown, mrr_complete, mrr_high_minor, mrr_minor, mrr_reason
    customer.subscription.updated cancel_at_period_end: cancel_scheduled, conditions, current.cancel_at_period_end, current.mrr_unknown, mrr_complete, mrr_high_minor, mrr_minor, mrr_reason
    customer.subscription.updated currency: conditions, currency, mrr_complete, mrr_reason
    customer.subscription.updated customer: customer
    customer.subscription.updated discount:
    customer.subscription.updated discount.coupon:
    customer.subscription.updated discount.coupon.duration:
    customer.subscription.updated discount.coupon.percent_off:
    customer.subscription.updated discounts: conditions, current.charges, current.recurring_minor, mrr_complete, mrr_high_minor, mrr_minor, mrr_reason, recurring
    customer.subscription.updated id: the event
    customer.subscription.updated items: conditions, current.charges, current.mrr_unknown, current.recurring_minor, mrr_complete, mrr_high_minor, mrr_minor, mrr_reason, recurring
    customer.subscription.updated items.data: conditions, current.charges, current.mrr_unknown, current.recurring_minor, mrr_complete, mrr_high_minor, mrr_minor, mrr_reason, recurring
    customer.subscription.updated metadata: app_id, user_id
    customer.subscription.updated metadata.app_id: app_id
    customer.subscription.updated metadata.user_id: user_id
    customer.subscription.updated status: the event
    customer.subscription.updated trial_end: current.trial_end_s
    invoice.payment_failed amount_due: amount_due_minor, amount_remaining_minor, conditions, current.amount_due_minor
    invoice.payment_failed amount_paid: amount_paid_minor, amount_remaining_minor, current.amount_paid_minor
    invoice.payment_failed attempt_count: attempts, conditions, current.attempts
    invoice.payment_failed billing_reason:
    invoice.payment_failed collection_method: collection_method, conditions, current.collection_method
    invoice.payment_failed currency: currency
    invoice.payment_failed customer: customer
    invoice.payment_failed id: the event
    invoice.payment_failed next_payment_attempt: conditions, current.next_attempt, next_attempt_at
    invoice.payment_failed paid:
    invoice.payment_failed parent:
    invoice.payment_failed parent.subscription_details:
    invoice.payment_failed parent.subscription_details.subscription:
    invoice.payment_failed status: the event
    invoice.payment_failed subscription: subscription
    invoice_payment.paid amount_paid: history, payments
    invoice_payment.paid currency: currency
    invoice_payment.paid id: the event
    invoice_payment.paid invoice: the event
    invoice_payment.paid status: the event
    invoice_payment.paid status_transitions: payments
    invoice_payment.paid status_transitions.paid_at: payments
    payout.failed amount: amount_minor
    payout.failed currency: currency
    payout.failed failure_code: conditions, current.failure_code, failure_code
    payout.failed failure_message: conditions, current.failure_message
    payout.failed id: the event
    payout.failed original_payout: conditions, original_payout
    payout.failed reversed_by: current.reversed_by, reversed_by
    payout.failed status: the event
    account.updated charges_enabled: the event
    account.updated country: country
    account.updated created: onboarding_seconds
    account.updated details_submitted: current.details_submitted, milestones
    account.updated external_accounts: milestones
    account.updated external_accounts.data:
    account.updated external_accounts.total_count:
    account.updated id: the event
    account.updated metadata: user_id
    account.updated metadata.user_id: user_id
    account.updated payouts_enabled: the event
    account.updated requirements: conditions, current.currently_due, current.disabled_reason, current.past_due, current.reason_is_unknown
    account.updated requirements.currently_due: conditions, current.currently_due
    account.updated requirements.disabled_reason: conditions, current.disabled_reason, current.reason_is_unknown
    account.updated requirements.past_due: conditions, current.past_due
    payment_intent.payment_failed amount: amount_minor, current.amount_minor
    payment_intent.payment_failed currency: currency
    payment_intent.payment_failed customer: customer
    payment_intent.payment_failed id: the event
    payment_intent.payment_failed invoice: of
    payment_intent.payment_failed last_payment_error: conditions, current.reason, reason
    payment_intent.payment_failed last_payment_error.code: conditions, current.reason, reason
    payment_intent.payment_failed last_payment_error.type:
    payment_intent.payment_failed latest_charge: current.charge
    payment_intent.payment_failed status: the event
    checkout.session.completed amount_total: amount_minor, current.amount_minor
    checkout.session.completed currency: currency
    checkout.session.completed customer: customer
    checkout.session.completed id: the event
    checkout.session.completed payment_status: current.reason, reason
    checkout.session.completed status: current.status, history, status
    checkout.session.completed subscription: of
    charge.dispute.created amount: amount_minor, current.amount_minor
    charge.dispute.created charge: of
    charge.dispute.created currency: currency
    charge.dispute.created evidence_details: conditions, current.evidence_due_s, evidence_due_at
    charge.dispute.created evidence_details.due_by: conditions, current.evidence_due_s, evidence_due_at
    charge.dispute.created id: the event
    charge.dispute.created reason: conditions, current.reason, reason
    charge.dispute.created status: the event
    refund.failed amount: amount_minor, current.amount_minor
    refund.failed charge: of
    refund.failed currency: currency
    refund.failed failure_reason: conditions, current.reason, reason
    refund.failed id: the event
    refund.failed status: the event
    transfer.reversed amount: amount_minor, conditions, current.amount_minor
    transfer.reversed amount_reversed: conditions, current.reversed_minor, reversed_minor
    transfer.reversed currency: conditions, currency
    transfer.reversed destination: account, of
    transfer.reversed id: the event
    transfer.reversed reversed: the event
    capability.updated account: capabilities, capability_disabled_reasons, conditions, events
    capability.updated id: the event
    capability.updated requested:
    capability.updated requirements: capability_disabled_reasons, conditions
    capability.updated requirements.disabled_reason: capability_disabled_reasons, conditions
    capability.updated status: the event
    balance.available available: balance, events
    account.external_account.created country: external_accounts
    account.external_account.created currency: external_accounts
    account.external_account.created id: the event
    account.external_account.created last4: external_accounts
    customer.updated created: created_at
    customer.updated deleted: current.deleted, history, status
    customer.updated id: the event
    customer.updated metadata: user_id
    customer.updated metadata.user_id: user_id
    coupon.created amount_off: amount_off_minor, currency, current.terms
    coupon.created applies_to: amount_off_minor, currency, current.terms
    coupon.created applies_to.products: amount_off_minor, currency, current.terms
    coupon.created currency: amount_off_minor, currency, current.terms
    coupon.created currency_options: amount_off_minor, currency, current.terms
    coupon.created currency_options.jpy: amount_off_minor, currency, current.terms
    coupon.created currency_options.jpy.amount_off: amount_off_minor, currency, current.terms
    coupon.created duration: amount_off_minor, currency, current.terms
    coupon.created id: the event
    coupon.created percent_off: amount_off_minor, currency, current.terms, percent_off
";

#[test]
fn a_field_costs_what_it_says_and_the_event_only_if_that_is_its_id_or_status() {
    let mut found = Vec::new();
    for (kind, object, required) in samples() {
        let whole = shown(&body(kind, &object, &json!(null))).expect("readable");
        let paths = paths(&object).into_iter();
        for path in paths.filter(|path| path != "/object") {
            let field = path[1..].replace('/', ".");
            let is_required = required.contains(&field.as_str());
            let cost = |value: Option<&Value>| {
                let seen = shown(&body(kind, &with(&object, &path, value), &json!(null)));
                let seen = match seen {
                    Ok(seen) => seen,
                    Err(_) if is_required => return Vec::new(),
                    Err(error) => panic!("{kind} {field} {value:?}: {error}"),
                };
                let names = whole.keys().chain(seen.keys());
                let differ = names.filter(|name| whole.get(*name) != seen.get(*name));
                differ
                    .cloned()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect()
            };
            let costs = odd_values().into_iter().map(|value| cost(value.as_ref()));
            let costs: BTreeSet<String> = costs.flatten().collect();
            let costs: Vec<String> = costs.into_iter().collect();
            let costs = if is_required {
                "the event".to_owned()
            } else {
                costs.join(", ")
            };
            found.push(format!("{kind} {field}: {costs}"));
        }
    }
    let found: Vec<&str> = found.iter().map(|line| line.trim()).collect();
    let expected: Vec<&str> = COSTS
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(found, expected, "\n{}", found.join("\n"));
}

fn with(object: &Value, path: &str, value: Option<&Value>) -> Value {
    let mut object = object.clone();
    let (parent, field) = path.rsplit_once('/').expect("a path");
    let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
    let parent = parent.expect("an object");
    match value {
        Some(value) => drop(parent.insert(field.to_owned(), value.clone())),
        None => drop(parent.remove(field)),
    }
    object
}

/// JSON pointers to all fields, also those of objects in it.
fn paths(value: &Value) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten();
    let paths = fields.flat_map(|(name, value)| {
        let inner = paths(value).into_iter();
        let inner = inner.map(move |rest| format!("/{name}{rest}"));
        std::iter::once(format!("/{name}")).chain(inner)
    });
    paths.collect()
}

/// What is shown of the entity, without fingerprints.
fn shown(body: &str) -> Result<BTreeMap<String, Value>, ObserveError> {
    let (key, entity) = applied(body)?;
    let described = describe(&key, &entity);
    let mut shown = BTreeMap::new();
    for (name, value) in described.as_object().expect("an object") {
        match value {
            Value::Object(inner) if name == "current" => {
                let inner = inner
                    .iter()
                    .filter(|(name, _)| !name.contains("fingerprint"));
                shown.extend(inner.map(|(name, value)| (format!("current.{name}"), value.clone())));
            }
            value => drop(shown.insert(name.clone(), value.clone())),
        }
    }
    Ok(shown)
}

/// A thin event carries no object: what it does not say, nothing needs.
#[test]
fn a_thin_event_is_never_unreadable() {
    let thin = json!({"id": "evt_1", "object": "v2.core.event", "type": "v2.core.account.updated",
        "created": "2026-09-30T10:00:00Z", "context": "acct_P/acct_1", "livemode": true, "data": null,
        "related_object": {"id": "acct_1", "type": "v2.core.account", "url": "/v2/x"}});
    for path in paths(&thin) {
        if ["/id", "/type", "/created"].contains(&path.as_str()) {
            continue;
        }
        for value in odd_values() {
            let body = with(&thin, &path, value.as_ref()).to_string();
            let text = value.as_ref().and_then(Value::as_str);
            if path == "/related_object/id" && text.is_some_and(|it| it.len() > MAX_ID_BYTES) {
                assert!(
                    Event::parse(body.as_bytes()).is_err(),
                    "no such id can be kept"
                );
                continue;
            }
            let event = Event::parse(body.as_bytes()).expect("an event");
            let seen = observe(&event, &ObserveSettings::default()).expect("readable");
            // The account that the context names is known without the related object.
            let ids = seen.into_iter().map(|it| it.key.id);
            assert!(ids.into_iter().all(|id| id == "acct_1"), "{body}");
        }
    }
}
