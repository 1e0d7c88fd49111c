//! Money has an owner and a realm: what connected accounts and other Stripe accounts do does not move the
//! platform's figures.

use serde_json::json;

use super::Deployment;
use crate::support::providers::{Settings, alerts, post_all};
use crate::support::revwatch::{Revwatch, SECRET, Variables, cli, metrics, print};
use crate::support::wait::until;

/// What fires for whom.
const RULES: &str = r#"
[[rule]]
name = "platform_past_due"
kind = "condition"
condition = "past_due"
severity = "high"
route = "x"
title = "A customer is past due"
actions = ["Look."]

[[rule]]
name = "connected_past_due"
kind = "condition"
condition = "past_due"
owner = "connected"
severity = "low"
route = "x"
title = "A customer of a provider is past due"
actions = ["Look."]

[[rule]]
name = "mrr_drop"
kind = "drop"
metric = "mrr"
by = "currency"
window = "24h"
above = 0.2
severity = "critical"
route = "x"
title = "MRR has fallen"
actions = ["Look."]

[[rule]]
name = "kernel_mrr"
kind = "gauge"
metric = "mrr"
by = "currency"
realm = "kernel"
above = 0
severity = "low"
route = "x"
title = "The kernel bills"
actions = ["Look."]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn money_has_an_owner_and_a_realm_embedded() {
    figures_go_by_owner_and_realm(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_has_an_owner_and_a_realm_on_servers() {
    figures_go_by_owner_and_realm(&Deployment::servers().await).await;
}

/// Each of the platform's four subscriptions; one is past due.
const PRICE_MINOR: i64 = 5000;

/// One connected account makes subscriptions at a price that no customer pays, and cancels nearly all.
async fn figures_go_by_owner_and_realm(deployment: &Deployment) {
    let settings = Settings::new("", RULES);
    let kernel = [("STRIPE_KERNEL_WEBHOOK_SECRET", SECRET)];
    let variables = settings.variables(deployment.variables(&kernel));
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let (main, kernel) = (
        process.url("/webhooks/stripe"),
        process.url("/webhooks/kernel/stripe"),
    );
    let status = |n: usize| if n == 0 { "past_due" } else { "active" };
    let own: Vec<_> = (0..4)
        .map(|n| subscription("p", n, status(n), PRICE_MINOR))
        .collect();
    post_all(&main, &own).await;
    post_all(&kernel, &[subscription("k", 0, "active", 700), customer()]).await;
    let connected = |n| subscription("c", n, status(n), 99_999_999);
    post_all(&main, &(0..20).map(connected).collect::<Vec<_>>()).await;
    let canceled = |n| subscription("c", n, "canceled", 99_999_999);
    post_all(&main, &(2..20).map(canceled).collect::<Vec<_>>()).await;
    // An event of the main account also comes to the kernel's endpoint.
    post_all(&kernel, &own[..1]).await;

    let shown = until("everything is counted", || async {
        let shown = metrics(&variables);
        (shown["events_applied"] == 44 && shown["events_dead"] == 1).then_some(shown)
    })
    .await;
    let of_platform = json!({"usd": 4 * PRICE_MINOR});
    assert_eq!(shown["mrr_minor"], of_platform, "{shown}");
    assert_eq!(shown["past_due_ratio"], json!(0.25), "{shown}");
    let platform = json!({"active": 3, "past_due": 1});
    assert_eq!(shown["subscriptions"], platform, "{shown}");
    assert_eq!(shown["churn_rate_30d"], json!(0.0), "{shown}");
    let connected = &shown["connected"];
    assert_eq!(connected["mrr_minor"], json!({"usd": 199_999_998}));
    let expected = json!({"active": 1, "canceled": 18, "past_due": 1});
    assert_eq!(connected["subscriptions"], expected, "{connected}");
    let of_kernel = &shown["realms"]["kernel"];
    assert_eq!(of_kernel["mrr_minor"], json!({"usd": 700}), "{shown}");
    assert_eq!(shown["mode"], "live");

    let dead = print(&variables, &["dead", "list", "--json"]);
    assert!(
        dead.contains("realm kernel") && dead.contains("realm main"),
        "{dead}"
    );
    fire_for_their_owner(&process, &variables).await;
    let exported = print(&variables, &["export", "subscriptions", "--by", "ada"]);
    for row in [
        ",connected,main,,,",
        ",platform,kernel,app_1,user_0,",
        ",platform,main,app_1,user_0,",
    ] {
        assert!(
            exported.lines().any(|line| line.contains(row)),
            "{exported}"
        );
    }
    assert!(cli(&variables, &["verify"]).status.success());
    process.stop();
}

/// The rules fire for what they are about, and the metrics page shows each figure apart.
async fn fire_for_their_owner(process: &Revwatch, variables: &Variables) {
    let expected = [
        ("connected_past_due", "sub_c_0"),
        ("kernel_mrr", "usd"),
        ("platform_past_due", "sub_p_0"),
    ];
    until(
        "the rules fire for their owner, and MRR has not fallen",
        || async {
            let mut fired: Vec<_> = alerts(variables)
                .iter()
                .filter(|alert| alert["state"] == "firing")
                .map(|alert| (alert["rule"].to_string(), alert["subject"].to_string()))
                .collect();
            fired.sort();
            assert!(
                fired.iter().all(|(rule, _)| rule != "\"mrr_drop\""),
                "{fired:?}"
            );
            let is_expected =
                |((rule, subject), (expected, of)): (&(String, String), &(&str, &str))| {
                    rule.contains(expected) && subject.contains(of)
                };
            (fired.len() == expected.len() && fired.iter().zip(&expected).all(is_expected))
                .then_some(())
        },
    )
    .await;
    for (series, value) in [
        ("revwatch_mrr_minor{currency=\"usd\"}", 20_000.0),
        (
            "revwatch_connected_mrr_minor{currency=\"usd\"}",
            199_999_998.0,
        ),
        ("kernel_billing_mrr{currency=\"usd\"}", 700.0),
        (
            "revwatch_subscriptions{plan=\"PRO\",status=\"past_due\"}",
            1.0,
        ),
        (
            "revwatch_connected_subscriptions{plan=\"unmapped\",status=\"canceled\"}",
            18.0,
        ),
    ] {
        until(series, || async {
            (process.metric(series).await == Some(value)).then_some(())
        })
        .await;
    }
}

/// A subscription: of connected account `acct_1` if it is one of `c`.
fn subscription(of: &str, n: usize, status: &str, minor: i64) -> String {
    let price = json!({"id": "price_1", "lookup_key": "pro", "unit_amount": minor,
        "recurring": {"interval": "month", "interval_count": 1}});
    let now_s = jiff::Timestamp::now().as_second();
    let created_s = if status == "canceled" {
        now_s
    } else {
        now_s - 60
    };
    let kind = if status == "canceled" {
        "deleted"
    } else {
        "created"
    };
    json!({
        "id": format!("evt_{of}_{n}_{kind}"), "object": "event", "api_version": "2025-03-31.basil",
        "type": format!("customer.subscription.{kind}"), "created": created_s, "livemode": true,
        "account": (of == "c").then_some("acct_1"),
        "data": {"object": {
            "id": format!("sub_{of}_{n}"), "object": "subscription", "customer": format!("cus_{of}_{n}"),
            "status": status, "currency": "usd", "items": {"data": [{"price": price, "quantity": 1}]},
            "metadata": {"app_id": "app_1", "user_id": (of != "k").then(|| format!("user_{n}"))}}}})
    .to_string()
}

/// The customer of the kernel's subscription, which has no `user_id` of its own.
fn customer() -> String {
    json!({"id": "evt_customer", "object": "event", "type": "customer.created", "livemode": true,
        "created": jiff::Timestamp::now().as_second(), "data": {"object": {"id": "cus_k_0", "object": "customer",
        "metadata": {"app_id": "another", "user_id": "user_0"}}}})
    .to_string()
}
