//! Attempts to collect invoices that webhooks do not report: the invoice is fetched from Stripe's API.

use serde_json::{Value, json};

use super::Deployment;
use super::resolver::{applied, asking, post_all, thin_v1};
use crate::support::revwatch::{Revwatch, Variables, metrics, print};
use crate::support::stripe::{Fault, Stripe};
use crate::support::wait::until;

/// An invoice whose one attempt to collect it was made, with the payment intent of that attempt.
fn attempted(id: &str, intent: &str) -> Value {
    let payment =
        json!({"type": "payment_intent", "payment_intent": {"id": "pi_1", "status": intent}});
    json!({"id": id, "object": "invoice", "status": "open", "amount_due": 2000, "amount_paid": 0, "currency": "usd",
        "attempt_count": 1, "next_payment_attempt": null, "collection_method": "charge_automatically",
        "payments": {"object": "list", "has_more": false, "data": [{"status": "open", "payment": payment}]}})
}

fn uncollected(variables: &Variables) -> Value {
    metrics(variables)["invoices_uncollected"].clone()
}

/// A thin event says that an attempt failed, but the invoice alone does not: it could be under way.
#[tokio::test]
async fn an_invoice_is_fetched_with_what_became_of_its_last_attempt() {
    let stripe = Stripe::start(&[]).await;
    for (id, intent) in [("in_1", "requires_payment_method"), ("in_2", "processing")] {
        stripe.set_object("", &format!("/v1/invoices/{id}"), attempted(id, intent));
    }
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let kind = "v1.invoice.payment_failed";
    let events = [
        thin_v1("evt_1", kind, ("invoice", "in_1"), None),
        thin_v1("evt_2", "v1.invoice.updated", ("invoice", "in_2"), None),
    ];
    post_all(&process, &events).await;
    applied(&variables, 4).await;
    assert_eq!(uncollected(&variables), 1);
    process.stop();
    print(&variables, &["verify"]);
}

#[tokio::test]
async fn an_invoice_is_fetched_with_a_key_that_may_not_read_its_payments() {
    let stripe = Stripe::start(&[Fault::Status(403)]).await;
    let mut invoice = attempted("in_1", "requires_payment_method");
    invoice
        .as_object_mut()
        .expect("an object")
        .remove("payments");
    stripe.set_object("", "/v1/invoices/in_1", invoice);
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let failed = thin_v1(
        "evt_1",
        "v1.invoice.payment_failed",
        ("invoice", "in_1"),
        None,
    );
    post_all(&process, &[failed]).await;
    applied(&variables, 2).await;
    assert_eq!(uncollected(&variables), 0, "the attempt may be under way");
    let queries: Vec<_> = stripe.calls().iter().map(|call| call.query.len()).collect();
    assert_eq!(queries, [1, 0]);
    process.stop();
    print(&variables, &["verify"]);
}

/// K12: the event of the last attempt was lost. Without a key, its invoice waits for a retry, and that is shown.
#[tokio::test]
async fn an_invoice_whose_planned_attempt_was_not_reported_is_fetched_with_a_key() {
    let now_s = jiff::Timestamp::now().as_second();
    let mut invoice = attempted("in_1", "requires_payment_method");
    let mut failed = invoice.clone();
    failed["next_payment_attempt"] = json!(now_s - 2 * 24 * 3600);
    let event = json!({"id": "evt_1", "object": "event", "type": "invoice.payment_failed",
        "created": now_s - 5 * 24 * 3600, "livemode": true, "data": {"object": failed}});
    let (stripe, deployment) = (Stripe::start(&[]).await, Deployment::embedded());
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[event.to_string()]).await;
    applied(&variables, 1).await;
    assert_eq!(metrics(&variables)["retry_queue"], 1);
    let state = print(&variables, &["state", "invoice", "in_1"]);
    let state: Value = serde_json::from_str(&state).expect("JSON");
    let shown = state["conditions"].as_array().expect("a list");
    let unreported = shown.iter().find(|it| it["kind"] == "attempt_unreported");
    let due = jiff::Timestamp::from_second(now_s - 24 * 3600).expect("a time");
    assert_eq!(
        unreported.expect("shown")["due"],
        due.to_string(),
        "{state}"
    );
    process.stop();
    invoice["attempt_count"] = json!(4);
    stripe.set_object("", "/v1/invoices/in_1", invoice);
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    until("the invoice is fetched", || async {
        (uncollected(&variables) == 1).then_some(())
    })
    .await;
    assert_eq!(metrics(&variables)["retry_queue"], 0);
    let state = print(&variables, &["state", "invoice", "in_1"]);
    assert!(!state.contains("attempt_unreported"), "{state}");
    process.stop();
    print(&variables, &["verify"]);
}
