//! `revwatch config check --connect`: what the endpoints at Stripe do not send.

use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Variables, cli, print};
use crate::support::stripe::{Fault, Stripe, account};

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
    // Without the option, nobody is asked.
    let asked = stripe.calls().len();
    print(&variables, &["config", "check"]);
    assert_eq!(stripe.calls().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named_with_the_fix() {
    let deployment = Deployment::embedded();
    let (status, shown) = checked(&deployment.variables(&[]));
    assert_eq!(status, Some(1));
    assert!(has(&shown, "faults", "set STRIPE_SECRET_KEY"), "{shown}");

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
        has(&shown, "faults", "no connection to Stripe's API"),
        "{shown}"
    );
}
