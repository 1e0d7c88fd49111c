//! What an event says about an invoice.

use serde::Deserialize;

use super::fields::{Currency, Expandable, Minor, Reference, Seconds};
use super::invoice_lines::{InvoiceAutomaticTax, LineTaxes, Lines};
use super::lenient::Lenient;
use super::object::{ObserveError, read, unreadable};
use super::record::{observation, recorded_state};
use super::settings::ObserveSettings;
use crate::entity::invoice::{InvoiceFacts, InvoiceOrigin, InvoicePayment, NextAttempt};
use crate::entity::recurring::{InvoiceTaxes, KnownTaxes};
use crate::entity::stripe_enums::InvoiceStatus;
use crate::entity::subscription::SubscriptionOrigin;
use crate::entity::{EntityKind, Observation, Update};
use crate::event::{Event, PartOf};

/// The invoice of an `invoice.*` or `invoice_payment.*` event.
pub(super) fn observe(
    event: &Event<'_>,
    _: &ObserveSettings,
) -> Result<Option<Observation>, ObserveError> {
    if event.part_of() == PartOf::Invoice {
        return payment(event);
    }
    // A preview of a future invoice has no id and no invoice behind it.
    if event.kind == "invoice.upcoming" {
        return Ok(None);
    }
    let object: InvoiceObject = read(event)?;
    let taxes = object.taxes(|lines| lines.has_inclusive);
    let shown = object
        .payments
        .as_known()
        .map_or(LastAttempt::NotShown, InvoicePayments::last_attempt);
    let is_attempted = object
        .attempt_count
        .as_known()
        .is_some_and(|count| *count > 0);
    let facts = InvoiceFacts {
        status: status(event, object.status, &object.paid)?,
        amount_due_minor: object.amount_due.amount(event, "amount_due")?,
        amount_paid_minor: object.amount_paid.amount(event, "amount_paid")?,
        attempts: object.attempt_count.known(),
        action_required: event.kind == "invoice.payment_action_required"
            || shown == LastAttempt::NeedsCustomer,
        attempt_failed: Some(
            event.kind == "invoice.payment_failed" || is_attempted && shown == LastAttempt::Failed,
        ),
        next_attempt: match object.next_payment_attempt {
            Lenient::Known(Seconds(at_s)) => NextAttempt::At(at_s),
            Lenient::Absent => NextAttempt::Never,
            Lenient::Odd => NextAttempt::Unknown,
        },
        collection_method: object.collection_method.known().map(Into::into),
    };
    let parent = object
        .parent
        .known()
        .and_then(|parent| parent.subscription_details.known())
        .and_then(|details| details.subscription.into_id());
    let origin = InvoiceOrigin {
        account: event.account.as_deref().map(str::to_owned),
        customer: object.customer.into_id(),
        subscription: object.subscription.into_id().or(parent),
        currency: object.currency.into_code(),
        starts_subscription: object
            .billing_reason
            .known()
            .is_some_and(|reason| reason == "subscription_create"),
        taxes: taxes.map(Box::new),
    };
    let id = object.id.id(event)?;
    let update = Update::Invoice(origin, recorded_state(event, facts));
    Ok(Some(observation(event, EntityKind::Invoice, id, update)))
}

/// What an invoice that was fetched for a subscription shows of the tax of its items. A draft shows nothing: its
/// tax is calculated when it is finalized.
/// Source: <https://docs.stripe.com/tax/invoicing>.
pub(super) fn for_subscription(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: InvoiceObject = read(event)?;
    let taxes = object.taxes(|_| true);
    let id = object.id.id(event)?;
    let (Some(subscription), Some(taxes)) = (event.related_id.as_deref(), taxes) else {
        return Ok(None);
    };
    let origin = SubscriptionOrigin {
        account: event.account.as_deref().map(str::to_owned),
        taxes: KnownTaxes::of_invoice(&id, taxes),
        ..SubscriptionOrigin::default()
    };
    let update = Update::SubscriptionOrigin(origin);
    let kind = EntityKind::Subscription;
    Ok(Some(observation(event, kind, subscription, update)))
}

/// What one payment paid of its invoice.
fn payment(event: &Event<'_>) -> Result<Option<Observation>, ObserveError> {
    let object: InvoicePaymentObject = read(event)?;
    let status = object.status.required(event, "status")?;
    let (id, invoice) = (object.id.id(event)?, object.invoice.map(Reference::into_id));
    let invoice = invoice.required(event, "invoice")?;
    let paid_minor = object.amount_paid.amount(event, "amount_paid")?;
    let transitions = object.status_transitions.known();
    let paid_at = transitions.and_then(|transitions| transitions.paid_at.known());
    let payment = InvoicePayment {
        paid_minor: paid_minor.filter(|_| status == "paid"),
        paid_s: paid_at.map(|Seconds(at_s)| at_s),
        created_s: event.created_s,
        event_id: event.id.clone().into_owned(),
    };
    let origin = InvoiceOrigin {
        account: event.account.as_deref().map(str::to_owned),
        currency: object.currency.into_code(),
        ..InvoiceOrigin::default()
    };
    let update = Update::InvoicePayment(origin, id, payment);
    Ok(Some(observation(
        event,
        EntityKind::Invoice,
        invoice,
        update,
    )))
}

fn status(
    event: &Event<'_>,
    status: Lenient<String>,
    paid: &Lenient<bool>,
) -> Result<InvoiceStatus, ObserveError> {
    if event.kind == "invoice.deleted" {
        return Ok(InvoiceStatus::Deleted);
    }
    match status.readable(event, "status")? {
        Some(status) => Ok(status.into()),
        // The oldest API versions have no status, only `paid`.
        None if *paid == Lenient::Known(true) => Ok(InvoiceStatus::Paid),
        None => Err(unreadable(event, "data.object.status: missing")),
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct InvoiceObject {
    id: Lenient<String>,
    status: Lenient<String>,
    paid: Lenient<bool>,
    customer: Lenient<Reference>,
    /// Up to acacia; later versions have it under `parent`.
    subscription: Lenient<Reference>,
    parent: Lenient<InvoiceParent>,
    currency: Lenient<Currency>,
    amount_due: Lenient<Minor>,
    amount_paid: Lenient<Minor>,
    attempt_count: Lenient<u32>,
    /// `null` means that no attempt is scheduled, so that a missing one must not.
    #[serde(default = "Lenient::odd")]
    next_payment_attempt: Lenient<Seconds>,
    collection_method: Lenient<String>,
    billing_reason: Lenient<String>,
    created: Lenient<Seconds>,
    automatic_tax: Lenient<InvoiceAutomaticTax>,
    lines: Lenient<Lines>,
    /// Only in an invoice that revwatch fetched; from basil on.
    payments: Lenient<InvoicePayments>,
}

impl InvoiceObject {
    /// The taxes of its lines if these are as they will stay, and `is_wanted`.
    fn taxes(&self, is_wanted: impl FnOnce(&LineTaxes) -> bool) -> Option<InvoiceTaxes> {
        let status = self.status.as_known().filter(|status| *status != "draft");
        let created_s = self.created.as_known().filter(|_| status.is_some())?.0;
        let lines = LineTaxes::of(&self.lines, &self.automatic_tax);
        is_wanted(&lines).then_some(InvoiceTaxes {
            created_s,
            items: lines.items,
        })
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct InvoiceParent {
    subscription_details: Lenient<SubscriptionDetails>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct SubscriptionDetails {
    subscription: Lenient<Reference>,
}

/// What an invoice shows of the newest attempt to collect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastAttempt {
    /// Its payment failed: it waits for another payment method.
    Failed,
    /// Its payment waits for the customer, for example to authenticate it.
    NeedsCustomer,
    /// Its payment is under way, or something else.
    Other,
    /// The payments are not there, not all of them, or only as ids.
    NotShown,
}

/// The payments of an invoice.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct InvoicePayments {
    data: Lenient<Vec<Lenient<PaymentOfInvoice>>>,
    has_more: Lenient<bool>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PaymentOfInvoice {
    status: Lenient<String>,
    payment: Lenient<PaymentMeans>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PaymentMeans {
    payment_intent: Lenient<Expandable<PaymentIntent>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PaymentIntent {
    status: Lenient<String>,
}

impl InvoicePayments {
    /// By the payment intents of its open payments. Source: <https://docs.stripe.com/payments/paymentintents/lifecycle>.
    fn last_attempt(&self) -> LastAttempt {
        if self.has_more != Lenient::Known(false) {
            return LastAttempt::NotShown;
        }
        let payments = self.data.as_known().into_iter().flatten();
        let open = payments.filter(|payment| {
            let status = payment.as_known().and_then(|it| it.status.as_known());
            status.is_none_or(|status| status == "open")
        });
        let intents: Option<Vec<&str>> = open
            .map(|payment| payment.as_known()?.intent_status())
            .collect();
        match intents.as_deref() {
            None | Some([]) => LastAttempt::NotShown,
            Some(all) if all.contains(&"requires_action") => LastAttempt::NeedsCustomer,
            Some(all)
                if all
                    .iter()
                    .all(|status| *status == "requires_payment_method") =>
            {
                LastAttempt::Failed
            }
            Some(_) => LastAttempt::Other,
        }
    }
}

impl PaymentOfInvoice {
    fn intent_status(&self) -> Option<&str> {
        match self.payment.as_known()?.payment_intent.as_known()? {
            Expandable::Object(intent) => intent.status.as_known().map(String::as_str),
            Expandable::Id(_) => None,
        }
    }
}

/// From basil on. Source: <https://docs.stripe.com/api/invoice-payment/object>.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct InvoicePaymentObject {
    id: Lenient<String>,
    invoice: Lenient<Reference>,
    status: Lenient<String>,
    amount_paid: Lenient<Minor>,
    currency: Lenient<Currency>,
    status_transitions: Lenient<StatusTransitions>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct StatusTransitions {
    paid_at: Lenient<Seconds>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::ways;
    use super::*;

    fn payment(status: &str, intent: &Value) -> Value {
        json!({"status": status, "payment": {"type": "payment_intent", "payment_intent": intent}})
    }

    #[test]
    fn the_payment_intents_say_what_became_of_the_last_attempt() {
        let of = |status: &str| payment("open", &json!({"id": "pi_1", "status": status}));
        let paid = payment("paid", &json!({"id": "pi_2", "status": "succeeded"}));
        let failed = of("requires_payment_method");
        let table = [
            (json!([failed]), LastAttempt::Failed),
            (json!([failed, failed]), LastAttempt::Failed),
            (json!([paid, failed]), LastAttempt::Failed),
            (json!([of("processing")]), LastAttempt::Other),
            (json!([failed, of("processing")]), LastAttempt::Other),
            (
                json!([failed, of("requires_action")]),
                LastAttempt::NeedsCustomer,
            ),
            (
                json!([payment("open", &json!("pi_1"))]),
                LastAttempt::NotShown,
            ),
            (
                json!([failed, payment("open", &json!("pi_1"))]),
                LastAttempt::NotShown,
            ),
            (json!([failed, 7]), LastAttempt::NotShown),
            (json!([paid]), LastAttempt::NotShown),
            (json!([]), LastAttempt::NotShown),
            (Value::Null, LastAttempt::NotShown),
        ];
        for (data, expected) in table {
            let list = |has_more: bool| json!({"data": data, "has_more": has_more}).to_string();
            let read = |json: &str| {
                ways::read::<InvoicePayments>(json)
                    .expect("a list")
                    .last_attempt()
            };
            assert_eq!(read(&list(false)), expected, "{data}");
            assert_eq!(read(&list(true)), LastAttempt::NotShown, "{data}");
        }
    }

    #[test]
    fn without_an_attempt_none_has_failed() {
        let observed = |attempt_count: u32, intent: &str| {
            let object = json!({"id": "in_1", "status": "open", "attempt_count": attempt_count, "next_payment_attempt": null,
                "payments": {"data": [payment("open", &json!({"id": "pi_1", "status": intent}))], "has_more": false}});
            let body = json!({"id": "evt_1", "type": "invoice.updated", "created": 1, "data": {"object": object}});
            let body = body.to_string();
            let event = Event::parse(body.as_bytes()).expect("an event");
            let observation = observe(&event, &ObserveSettings::default());
            match observation.expect("readable").expect("one").update {
                Update::Invoice(_, state) => {
                    (state.facts.attempt_failed, state.facts.action_required)
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(observed(0, "requires_payment_method"), (Some(false), false));
        assert_eq!(observed(1, "requires_payment_method"), (Some(true), false));
        assert_eq!(observed(1, "requires_action"), (Some(false), true));
    }
}
