//! What Stripe does not send: `revwatch config check --connect` reads its endpoints, and without a key the state
//! shows it.

use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::stripe::{Fault, Stripe, account};
use crate::support::wait::until;

const KEY: &str = "rk_live_never_shown";
const WEBHOOK_ENDPOINTS: &str = "/v1/webhook_endpoints";
const DESTINATIONS: &str = "/v2/core/event_destinations";

/// Exit status, and JSON of `config check --connect`.
fn checked(variables: &Variables) -> (Option<i32>, Value) {
    let output = cli(variables, &["config", "check", "--connect", "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains(KEY) && !text.contains("hidden"), "{text}");
    let shown = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text:?}"));
    (output.status.code(), shown)
}

fn variables(deployment: &Deployment, stripe: &Stripe) -> Variables {
    deployment.variables(&[
        ("STRIPE_SECRET_KEY", KEY),
        ("STRIPE_API_BASE", &stripe.url()),
    ])
}

fn webhook_endpoint(id: &str, status: &str, types: &[&str]) -> Value {
    json!({"id": id, "object": "webhook_endpoint", "api_version": null, "application": null, "status": status,
        "enabled_events": types, "url": format!("https://example.com/{id}?token=hidden")})
}

fn destination(types: &[&str], senders: &[&str]) -> Value {
    json!({"data": [{"id": "ed_1", "object": "v2.core.event_destination", "type": "webhook_endpoint",
        "status": "enabled", "enabled_events": types, "event_payload": "snapshot", "events_from": senders,
        "snapshot_api_version": "2099-01-01.zebra", "webhook_endpoint": {"url": "https://example.com/ed_1"}}],
        "next_page_url": null, "previous_page_url": null})
}

fn has(shown: &Value, which: &str, text: &str) -> bool {
    let found = shown[which].as_array().into_iter().flatten();
    let mut found = found.filter_map(Value::as_str);
    found.any(|it| it.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_endpoints_are_judged_together() {
    let (deployment, stripe) = (Deployment::embedded(), Stripe::start(&[]).await);
    let variables = variables(&deployment, &stripe);
    stripe.set_account(account("acct_1", true));
    let first = webhook_endpoint("we_1", "enabled", &["invoice.paid"]);
    let second = webhook_endpoint("we_2", "disabled", &["*"]);
    let page = |object: Value, more: bool| json!({"object": "list", "url": WEBHOOK_ENDPOINTS, "has_more": more, "data": [object]});
    stripe.set_object("", WEBHOOK_ENDPOINTS, page(first, true));
    let next = format!("{WEBHOOK_ENDPOINTS} we_1");
    stripe.set_object("", &next, page(second, false));
    stripe.set_object(
        "",
        DESTINATIONS,
        destination(&["account.updated"], &["@accounts"]),
    );

    let (status, shown) = checked(&variables);
    assert_eq!((status, &shown["ok"]), (Some(1), &json!(false)), "{shown}");
    assert!(
        has(
            &shown,
            "faults",
            "no enabled endpoint gets customer.subscription.*"
        ),
        "{shown}"
    );
    assert!(
        has(
            &shown,
            "faults",
            "no enabled endpoint gets capability.updated"
        ),
        "{shown}"
    );
    assert!(!has(&shown, "faults", "account.updated"), "{shown}");
    for warning in [
        "we_2 (https://example.com/we_2) is disabled",
        "API version 2099-01-01.zebra",
        "types of invoice.*: invoice.created",
    ] {
        assert!(has(&shown, "warnings", warning), "{warning}: {shown}");
    }
    let listed = shown["stripe_endpoints"].as_array().map(Vec::len);
    assert_eq!(listed, Some(3), "{shown}");

    stripe.set_object(
        "",
        &next,
        page(webhook_endpoint("we_2", "enabled", &["*"]), false),
    );
    let text = print(&variables, &["config", "check", "--connect"]);
    for line in [
        "we_2 https://example.com/we_2 (enabled, all types)",
        "ed_1 https://example.com/ed_1 (enabled, 1 types, API version 2099-01-01.zebra, connected accounts)",
        "The configuration is valid.",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // Without the option, the command sends no request.
    let asked = stripe.calls().len();
    print(&variables, &["config", "check"]);
    assert_eq!(stripe.calls().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named_with_the_fix() {
    let deployment = Deployment::embedded();
    let (status, shown) = checked(&deployment.variables(&[]));
    assert_eq!(status, Some(0), "a key is not required");
    assert!(has(&shown, "warnings", "set STRIPE_SECRET_KEY"), "{shown}");

    let stripe = Stripe::start(&[]).await;
    let mut of_other_mode = variables(&deployment, &stripe);
    of_other_mode.push(("STRIPE_SECRET_KEY".into(), "sk_test_never_shown".into()));
    let (status, shown) = checked(&of_other_mode);
    assert_eq!(status, Some(1));
    assert!(has(&shown, "faults", "not read"), "{shown}");
    assert!(stripe.calls().is_empty());

    let stripe = Stripe::start(&[Fault::Status(403)]).await;
    let (status, shown) = checked(&variables(&deployment, &stripe));
    assert_eq!(status, Some(1));
    let permission = "the permission to read webhook endpoints";
    assert!(has(&shown, "faults", permission), "{shown}");

    // Webhook endpoints may be read, destinations may not.
    let stripe = Stripe::start(&[]).await;
    let list = json!({"object": "list", "has_more": false, "data": [webhook_endpoint("we_1", "enabled", &["*"])]});
    stripe.set_object("", WEBHOOK_ENDPOINTS, list);
    let (status, shown) = checked(&variables(&deployment, &stripe));
    assert_eq!((status, &shown["ok"]), (Some(0), &json!(true)), "{shown}");
    assert!(
        has(&shown, "warnings", "cannot read the event destinations"),
        "{shown}"
    );

    let unreachable = deployment.variables(&[
        ("STRIPE_SECRET_KEY", KEY),
        ("STRIPE_API_BASE", "http://127.0.0.1:1"),
    ]);
    let (status, shown) = checked(&unreachable);
    assert_eq!(status, Some(1));
    assert!(
        has(&shown, "faults", "no answer of Stripe's API"),
        "{shown}"
    );
}

fn event(id: &str, kind: &str, created_s: i64, object: &Value) -> String {
    json!({"id": id, "object": "event", "api_version": "2025-09-30.clover", "type": kind, "created": created_s,
        "livemode": true, "data": {"object": object}})
    .to_string()
}

/// Posts it, and returns the metrics once it is applied.
async fn applied(process: &Revwatch, variables: &Variables, body: &str, events: u64) -> Value {
    let url = process.url("/webhooks/stripe");
    let answer = post(&reqwest::Client::new(), &url, body).await;
    assert_eq!(answer.expect("posted"), 200);
    until("it is applied", || async {
        let shown = metrics(variables);
        (shown["events_applied"] == events).then_some(shown)
    })
    .await
}

/// The first webhook came a day and more ago: the test moves the hour in which it is counted.
fn received_earlier(deployment: &Deployment) {
    let Deployment::Embedded(folder) = deployment else {
        panic!("embedded");
    };
    let path = folder.path().join(revwatch_storage::sqlite::FILE_NAME);
    let file = rusqlite::Connection::open(path).expect("a file");
    let earlier = "UPDATE counters SET hour = hour - 30 WHERE name = 'events|received' AND hour BETWEEN 0 AND 4294967295";
    assert_eq!(file.execute(earlier, []).expect("updated"), 1);
}

/// K12: an empty retry queue is no good news if Stripe sends no invoices.
#[tokio::test(flavor = "multi_thread")]
async fn figures_of_a_family_that_never_came_are_unknown_until_it_comes() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let two_days_ago = jiff::Timestamp::now().as_second() - 2 * 86_400;
    let price = json!({"id": "price_1", "object": "price", "currency": "usd", "unit_amount": 500,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}});
    let item = json!({"id": "si_1", "object": "subscription_item", "price": price, "quantity": 1});
    let subscription = json!({"id": "sub_1", "object": "subscription", "status": "active", "customer": "cus_1",
        "currency": "usd", "start_date": two_days_ago, "items": {"object": "list", "data": [item], "has_more": false}});
    let created = event(
        "evt_1",
        "customer.subscription.created",
        two_days_ago,
        &subscription,
    );
    let process = Revwatch::serve(&variables, "ingest,worker");
    let shown = applied(&process, &variables, &created, 1).await;
    assert_eq!(
        (&shown["events_not_sent"], &shown["retry_queue"]),
        (&json!([]), &json!(0)),
        "it may still come: {shown}"
    );

    received_earlier(&deployment);
    let shown = metrics(&variables);
    let types: Vec<_> = shown["events_not_sent"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let types: Vec<_> = types.iter().map(|it| &it["types"]).collect();
    assert_eq!(types, ["invoice.*", "payment_intent.*"], "{shown}");
    assert_eq!(
        [
            &shown["retry_queue"],
            &shown["invoices"],
            &shown["payment_failure_ratio_24h"]
        ],
        [&Value::Null; 3]
    );
    assert_eq!(shown["mrr_minor"], json!({"usd": 500}));
    let table = print(&variables, &["metrics"]);
    assert!(
        table.contains("no invoice.* event has ever come"),
        "{table}"
    );

    let invoice = json!({"id": "in_1", "object": "invoice", "status": "paid", "customer": "cus_1", "currency": "usd",
        "amount_due": 500, "amount_paid": 500, "amount_remaining": 0, "attempt_count": 1});
    let paid = event("evt_2", "invoice.paid", two_days_ago + 60, &invoice);
    let shown = applied(&process, &variables, &paid, 2).await;
    assert_eq!(
        (&shown["retry_queue"], &shown["invoices"]),
        (&json!(0), &json!({"paid": 1}))
    );
    assert_eq!(
        shown["events_not_sent"].as_array().map(Vec::len),
        Some(1),
        "{shown}"
    );
    process.stop();
}
