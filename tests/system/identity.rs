//! One Stripe object is one entity in one partition for life, whatever its events say of `account` and `context`.

use revwatch_core::event::Event;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::Config;
use revwatch_storage::ports::Delivery;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Deployment;
use super::crash::{load, same_exports};
use crate::support::history::History;
use crate::support::revwatch::{Revwatch, Variables, metrics, print};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_context_makes_no_second_entity_embedded() {
    a_context_makes_no_second_entity(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_makes_no_second_entity_on_servers() {
    a_context_makes_no_second_entity(&Deployment::servers().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_in_a_foreign_partition_are_moved_embedded() {
    deliveries_in_a_foreign_partition_are_moved(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_in_a_foreign_partition_are_moved_on_servers() {
    deliveries_in_a_foreign_partition_are_moved(&Deployment::servers().await).await;
}

/// Events have a `context` from API version 2025-04-30 on. Those of the platform itself say nothing new by it.
async fn a_context_makes_no_second_entity(deployment: &Deployment) {
    let variables = deployment.variables(&[]);
    let events = contexts();
    let process = Revwatch::serve(&variables, "ingest,worker");
    load(&process, &events, events.len()).await;
    let shown = until("every event is applied", || async {
        let shown = metrics(&variables);
        (shown["events_applied"] == events.len()).then_some(shown)
    })
    .await;
    assert_eq!(shown["mrr_minor"], json!({}), "all are canceled: {shown}");
    let rows = |kind| {
        let export = print(&variables, &["export", kind]);
        let mut ids: Vec<String> = export
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split(',').next()?.to_owned()))
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(rows("subscriptions"), ["sub_0", "sub_1", "sub_2", "sub_3"]);
    assert_eq!(rows("payouts"), ["po_connected", "po_own"]);
    assert_eq!(
        rows("accounts"),
        ["acct_CONNECTED"],
        "the platform's own account is no connected one"
    );
    print(&variables, &["verify"]);
    process.stop();
}

fn contexts() -> Vec<String> {
    let now_s = jiff::Timestamp::now().as_second();
    let mut events = Vec::new();
    let mut push = |kind: &str, account: Value, context: Value, object: Value| {
        let n = events.len();
        let event = json!({"id": format!("evt_{n}"), "object": "event", "type": kind, "created": now_s - 600 + n as i64,
            "account": account, "context": context, "livemode": true, "data": {"object": object}});
        events.push(event.to_string());
    };
    let price = json!({"id": "price_1", "unit_amount": 2000, "recurring": {"interval": "month", "interval_count": 1}});
    for (kind, status, context) in [
        ("created", "active", Value::Null),
        ("updated", "active", json!("acct_PLATFORM")),
        ("updated", "active", Value::Null),
        ("deleted", "canceled", json!("org_1/acct_PLATFORM")),
    ] {
        for n in 0..4 {
            let object = json!({"id": format!("sub_{n}"), "object": "subscription", "customer": format!("cus_{n}"),
                "status": status, "currency": "usd", "items": {"data": [{"price": price, "quantity": 1}]}});
            push(
                &format!("customer.subscription.{kind}"),
                Value::Null,
                context.clone(),
                object,
            );
        }
    }
    let payout = |id: &str| json!({"id": id, "object": "payout", "status": "paid", "amount": 500, "currency": "usd"});
    let path = json!("acct_PLATFORM/acct_CONNECTED");
    for (account, context) in [
        (json!("acct_CONNECTED"), Value::Null),
        (json!("acct_CONNECTED"), json!("acct_CONNECTED")),
        (json!("acct_CONNECTED"), path.clone()),
        (Value::Null, path),
    ] {
        push("payout.paid", account, context, payout("po_connected"));
    }
    for context in [Value::Null, json!("acct_PLATFORM")] {
        push(
            "payout.paid",
            Value::Null,
            context.clone(),
            payout("po_own"),
        );
        let account = json!({"id": "acct_PLATFORM", "object": "account", "charges_enabled": true, "payouts_enabled": true});
        push("account.updated", Value::Null, context.clone(), account);
        let capability = json!({"id": "transfers", "object": "capability", "account": "acct_PLATFORM", "status": "inactive"});
        push("capability.updated", Value::Null, context, capability);
    }
    events
}

/// A version that computed other partitions had queued and archived them.
async fn deliveries_in_a_foreign_partition_are_moved(deployment: &Deployment) {
    let variables = deployment.variables(&[]);
    let history = History::new(7, 20, jiff::Timestamp::now().as_second());
    let events = history.delivered(3);
    let count = publish_into_foreign_partitions(&variables, &events).await;
    let process = Revwatch::serve(&variables, "worker");
    let applied = || {
        let shown = metrics(&variables);
        let count = |key: &str| shown[key].as_u64().unwrap_or(0);
        count("events_applied") + count("events_duplicate") + count("events_ignored")
    };
    until(
        "every delivery is processed in its own partition",
        || async { (applied() == count).then_some(()) },
    )
    .await;
    let page = process.metrics_page().await.expect("a page");
    let moved: f64 = page
        .lines()
        .filter(|line| line.starts_with("revwatch_worker_events_total") && line.contains("moved"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(moved >= count as f64, "{moved} of {count} were moved");
    same_exports(&variables, &history.events).await;
    print(&variables, &["verify"]);
    process.stop();
    print(&variables, &["rebuild", "--yes", "--by", "test"]);
    assert_eq!(
        applied(),
        count,
        "the archive has both, and each counts once"
    );
    same_exports(&variables, &history.events).await;
    print(&variables, &["verify"]);
}

async fn publish_into_foreign_partitions(variables: &Variables, events: &[String]) -> u64 {
    let lookup = |name: &str| {
        let mut found = variables.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.clone())
    };
    let config = Config::load(None, &lookup).expect("settings");
    let queue = Backend::open(&config).await.expect("a backend").queue;
    let partitions = queue.partitions();
    for body in events {
        let event = Event::parse(body.as_bytes()).expect("an event");
        let delivery = Delivery {
            id: Uuid::now_v7(),
            event_id: event.id.to_string(),
            event_type: event.kind.to_string(),
            partition: (event.partition(partitions) + 1) % partitions,
            endpoint: "stripe".into(),
            received_ms: jiff::Timestamp::now().as_millisecond(),
            traceparent: None,
            body: body.clone().into(),
        };
        queue.publish(delivery).await.expect("published");
    }
    queue.close().await;
    events.len() as u64
}
