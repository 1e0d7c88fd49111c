//! localstripe is a public imitation of Stripe's API. It drives revwatch with its own webhooks, and with its own events
//! by `backfill`; what revwatch shows then agrees with what localstripe answers.
//!
//! localstripe 1.15 makes no event of a payment, of a refund, or when a subscription changes: it has the objects, but
//! its `resources.py` calls `schedule_webhook` only for those in [`business`]. For these the test makes the event of
//! localstripe's object and posts it, as Stripe does.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Deployment;
use crate::support::localstripe::{KEY, Localstripe};
use crate::support::revwatch::{Revwatch, SECRET, Variables, metrics, post, print};
use crate::support::wait::until_or;

const WAIT: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn states_agree_with_localstripe_embedded() {
    states_agree_with_localstripe(&Deployment::embedded(), &Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_agree_with_localstripe_on_servers() {
    states_agree_with_localstripe(&Deployment::servers().await, &Deployment::servers().await).await;
}

async fn states_agree_with_localstripe(by_webhook: &Deployment, by_backfill: &Deployment) {
    let stripe = Localstripe::start();
    let variables = of(by_webhook, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let endpoint = process.url("/webhooks/stripe");
    stripe.add_webhook(&endpoint, SECRET).await;
    let business = business(&stripe).await;
    applied(&variables, &stripe, 0).await;
    same(&variables, &stripe).await;

    // Another deployment has had no webhook.
    let backfilled = of(by_backfill, &stripe);
    let worker = Revwatch::serve(&backfilled, "ingest,worker");
    let args = ["backfill", "--since", "1d", "--rate", "100", "--json"];
    let printed: Value = serde_json::from_str(&print(&backfilled, &args)).expect("JSON");
    let events = stripe.all("/v1/events").await.len();
    assert_eq!(printed["published"], events, "{printed}");
    applied(&backfilled, &stripe, 0).await;
    same(&backfilled, &stripe).await;
    worker.stop();

    // What localstripe changes without an event.
    let made = changes_without_event(&stripe, &business).await;
    let client = reqwest::Client::new();
    for event in &made {
        let status = post(&client, &endpoint, &event.to_string()).await;
        assert_eq!(status.expect("posted"), 200, "{event}");
    }
    applied(&variables, &stripe, made.len()).await;
    same(&variables, &stripe).await;
    for kind in ["payment_intent", "refund"] {
        let objects = stripe.all(&format!("/v1/{kind}s")).await;
        assert!(!objects.is_empty(), "{kind}");
        for object in objects {
            agrees(&variables, kind, &object);
        }
    }
    process.stop();
}

/// A deployment of test mode, as all of localstripe's objects are.
fn of(deployment: &Deployment, stripe: &Localstripe) -> Variables {
    deployment.variables(&[
        ("REVWATCH_MODE", "test"),
        ("STRIPE_SECRET_KEY", KEY),
        ("STRIPE_API_BASE", stripe.url()),
    ])
}

/// The objects that change later.
struct Business {
    /// A subscription whose first payment failed.
    unpaid: Value,
    /// Its customer.
    unpaid_customer: String,
}

/// A small business, as an application would make it by Stripe's API.
async fn business(stripe: &Localstripe) -> Business {
    let product = stripe.post("/v1/products", &[("name", "Bookings")]).await;
    for (id, amount, interval) in [
        ("starter", "900", "month"),
        ("pro", "3000", "month"),
        ("enterprise", "120000", "year"),
    ] {
        let form = [
            ("id", id),
            ("amount", amount),
            ("currency", "eur"),
            ("interval", interval),
            ("product", id_of(&product)),
        ];
        stripe.post("/v1/plans", &form).await;
    }
    let paying = customer(stripe, CARD).await;
    subscribe(stripe, &paying, "pro", "2").await;
    for (means, plan) in [(CARD, "enterprise"), (BANK, "pro"), (DECLINED_BANK, "pro")] {
        subscribe(stripe, &customer(stripe, means).await, plan, "1").await;
    }
    let leaving = subscribe(stripe, &customer(stripe, CARD).await, "starter", "1").await;
    let leaving = format!("/v1/subscriptions/{}", id_of(&leaving));
    stripe.delete(&leaving).await;
    let unpaid_customer = customer(stripe, DECLINED_CARD).await;
    let unpaid = subscribe(stripe, &unpaid_customer, "starter", "3").await;
    let gone = customer(stripe, CARD).await;
    stripe.delete(&format!("/v1/customers/{gone}")).await;
    for (amount, status) in [("70000", "paid"), ("500", "failed"), ("800", "pending")] {
        let form = [("amount", amount), ("currency", "eur"), ("status", status)];
        stripe.post("/v1/payouts", &form).await;
    }
    until_or(WAIT, "the banks answer", || async {
        let payments = stripe.all("/v1/payment_intents").await;
        let mut on_the_way = payments
            .iter()
            .filter(|payment| payment["status"] == "processing");
        on_the_way
            .next()
            .map_or(Ok(()), |payment| Err(payment.to_string()))
    })
    .await;
    Business {
        unpaid,
        unpaid_customer,
    }
}

/// Stripe's test cards and bank accounts: each pays, or is attached and then declined. Debits take a while.
/// <https://docs.stripe.com/testing>
const CARD: (&str, &str) = ("card", "4242424242424242");
const DECLINED_CARD: (&str, &str) = ("card", "4000000000000341");
const BANK: (&str, &str) = ("sepa_debit", "DE89370400440532013000");
const DECLINED_BANK: (&str, &str) = ("sepa_debit", "DE62370400440532013001");

async fn customer(stripe: &Localstripe, means: (&str, &str)) -> String {
    let form = [("email", "ana@example.com")];
    let customer = stripe.post("/v1/customers", &form).await;
    pay_with(stripe, id_of(&customer), means).await;
    id_of(&customer).to_owned()
}

/// The customer pays with this from now on.
async fn pay_with(stripe: &Localstripe, customer: &str, (kind, number): (&str, &str)) {
    let form: &[(&str, &str)] = match kind {
        "card" => &[
            ("type", kind),
            ("card[number]", number),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2099"),
            ("card[cvc]", "123"),
        ],
        _ => &[("type", kind), ("sepa_debit[iban]", number)],
    };
    let method = stripe.post("/v1/payment_methods", form).await;
    let attach = format!("/v1/payment_methods/{}/attach", id_of(&method));
    stripe.post(&attach, &[("customer", customer)]).await;
    let form = [("invoice_settings[default_payment_method]", id_of(&method))];
    stripe
        .post(&format!("/v1/customers/{customer}"), &form)
        .await;
}

async fn subscribe(stripe: &Localstripe, customer: &str, plan: &str, quantity: &str) -> Value {
    let form = [
        ("customer", customer),
        ("items[0][plan]", plan),
        ("items[0][quantity]", quantity),
    ];
    stripe.post("/v1/subscriptions", &form).await
}

/// The unpaid invoice is paid with another card, which makes its subscription active, and a part of it is refunded.
/// Then the next payment fails, which makes it past due. Returns the events that Stripe would send about objects of which
/// localstripe sends none.
async fn changes_without_event(stripe: &Localstripe, business: &Business) -> Vec<Value> {
    let path = format!("/v1/subscriptions/{}", id_of(&business.unpaid));
    let mut events = Vec::new();
    let mut changed = |from: &str, to: &str, subscription: &Value| {
        assert_eq!(subscription["status"], to);
        let mut updated = event("customer.subscription.updated", subscription);
        updated["data"]["previous_attributes"] = json!({"status": from});
        events.push(updated);
    };
    pay_with(stripe, &business.unpaid_customer, CARD).await;
    let invoice = business.unpaid["latest_invoice"].as_str().expect("an id");
    let invoice = stripe
        .post(&format!("/v1/invoices/{invoice}/pay"), &[])
        .await;
    changed("incomplete", "active", &stripe.get(&path).await);
    pay_with(stripe, &business.unpaid_customer, DECLINED_CARD).await;
    let form = [
        ("items[0][plan]", "enterprise"),
        ("items[0][quantity]", "1"),
    ];
    changed("active", "past_due", &stripe.post(&path, &form).await);

    let form = [("charge", id_of(&invoice["charge"])), ("amount", "700")];
    let refund = stripe.post("/v1/refunds", &form).await;
    events.push(event("refund.created", &refund));
    for payment in stripe.all("/v1/payment_intents").await {
        events.push(match payment["status"].as_str() {
            Some("succeeded") => event("payment_intent.succeeded", &payment),
            _ => event("payment_intent.payment_failed", &payment),
        });
    }
    events
}

/// The event that Stripe sends about an object, in the form of localstripe's own.
fn event(kind: &str, object: &Value) -> Value {
    let now_s = jiff::Timestamp::now().as_second();
    json!({"id": format!("evt_{}", uuid::Uuid::now_v7().simple()), "object": "event", "type": kind, "created": now_s,
        "livemode": false, "api_version": "2017-08-15", "data": {"object": object}})
}

/// All of localstripe's events are applied, and so many others.
async fn applied(variables: &Variables, stripe: &Localstripe, others: usize) {
    until_or(WAIT, "all events are applied", || async {
        let events = stripe.all("/v1/events").await.len() + others;
        let shown = metrics(variables);
        let is_done = shown["events_applied"] == events;
        is_done
            .then_some(())
            .ok_or(format!("{events} events, {shown}"))
    })
    .await;
}

/// Objects and sums are as localstripe says.
async fn same(variables: &Variables, stripe: &Localstripe) {
    let subscriptions = stripe.all("/v1/subscriptions?status=all").await;
    let invoices = stripe.all("/v1/invoices").await;
    let payouts = stripe.all("/v1/payouts").await;
    let customers = stripe.all("/v1/customers").await;
    let all = [
        ("subscription", &subscriptions),
        ("invoice", &invoices),
        ("payout", &payouts),
        ("customer", &customers),
    ];
    for (kind, objects) in all {
        assert!(objects.len() >= 3, "{kind}: {objects:?}");
        for object in objects {
            agrees(variables, kind, object);
        }
    }
    let open = invoices
        .iter()
        .filter(|invoice| invoice["status"] == "open");
    let open_minor: i64 = open.map(|invoice| minor(&invoice["amount_due"])).sum();
    let shown = metrics(variables);
    let sums = json!({
        "mrr_minor": {"eur": subscriptions.iter().map(mrr_minor).sum::<i64>()},
        "mrr_incomplete": {},
        "subscriptions": by_status(&subscriptions),
        "invoices": by_status(&invoices),
        "invoices_open_minor": if open_minor == 0 { json!({}) } else { json!({"eur": open_minor}) },
        "own_payouts": by_status(&payouts),
        "customers": {"active": customers.len(), "deleted": 1},
    });
    for (name, expected) in sums.as_object().expect("a table") {
        assert_eq!(&shown[name], expected, "{name}");
    }
}

/// What `state` shows of an object is what localstripe says of it.
fn agrees(variables: &Variables, kind: &str, object: &Value) {
    let args = ["state", kind, id_of(object), "--json"];
    let shown: Value = serde_json::from_str(&print(variables, &args)).expect("JSON");
    let expected = expected(kind, object);
    let seen: Map<String, Value> = expected
        .keys()
        .map(|field| (field.clone(), shown[field].clone()))
        .collect();
    assert_eq!(seen, expected, "{kind} {}: {shown}", id_of(object));
}

/// The fields of `state` with localstripe's values.
fn expected(kind: &str, object: &Value) -> Map<String, Value> {
    let fields = match kind {
        "subscription" => json!({"status": object["status"], "customer": object["customer"],
            "currency": object["plan"]["currency"], "mrr_minor": mrr_minor(object),
            "plan": object["plan"]["id"].as_str().map(str::to_uppercase), "cancel_scheduled": false}),
        "invoice" => json!({"status": object["status"], "customer": object["customer"],
            "subscription": object["subscription"], "currency": object["currency"],
            "amount_due_minor": object["amount_due"], "amount_paid_minor": object["amount_paid"],
            "attempts": object["attempt_count"]}),
        "payout" => json!({"status": object["status"], "currency": object["currency"],
            "amount_minor": object["amount"], "failure_code": object["failure_code"]}),
        "payment_intent" => json!({"status": object["status"], "currency": object["currency"],
            "amount_minor": object["amount"], "customer": object["customer"]}),
        "refund" => json!({"status": object["status"], "currency": object["currency"],
            "amount_minor": object["amount"]}),
        "customer" => json!({"id": object["id"], "current": {"deleted": false}}),
        kind => panic!("{kind}"),
    };
    fields.as_object().expect("a table").clone()
}

/// What a subscription that counts brings in a month.
fn mrr_minor(subscription: &Value) -> i64 {
    let plan = &subscription["plan"];
    let months = if plan["interval"] == "year" { 12 } else { 1 };
    let counts =
        ["active", "past_due"].contains(&subscription["status"].as_str().expect("a status"));
    i64::from(counts) * minor(&plan["amount"]) * minor(&subscription["quantity"]) / months
}

fn by_status(objects: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for object in objects {
        *counts
            .entry(object["status"].as_str().expect("a status"))
            .or_default() += 1;
    }
    counts
}

fn minor(value: &Value) -> i64 {
    value.as_i64().expect("an amount")
}

fn id_of(object: &Value) -> &str {
    object["id"].as_str().expect("an id")
}
