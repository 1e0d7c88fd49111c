//! A thin event reports that an object changed; its current state is fetched from Stripe's API.

use revwatch_core::bucket::Buckets;
use revwatch_storage::ports::Aggregates as _;
use revwatch_storage::sqlite::{Open, Sqlite};
use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Revwatch, Variables, metrics, post, print};
use crate::support::stripe::{Fault, Stripe, account};
use crate::support::wait::until;

const KEY: &str = "sk_live_never_shown";

/// A deployment that uses `stripe` as the API.
pub(super) fn asking(deployment: &Deployment, stripe: &Stripe) -> Variables {
    deployment.variables(&[
        ("STRIPE_SECRET_KEY", KEY),
        ("STRIPE_API_BASE", &stripe.url()),
    ])
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn thin(event: &str, account: &str, created_s: i64) -> String {
    let created = jiff::Timestamp::from_second(created_s)
        .expect("a time")
        .to_string();
    json!({
        "id": event, "object": "v2.core.event", "type": "v2.core.account[requirements].updated", "created": created,
        "livemode": true, "context": null, "reason": null,
        "related_object": {"id": account, "type": "v2.core.account", "url": format!("/v2/core/accounts/{account}")},
    })
    .to_string()
}

fn snapshot(event: &str, account: &Value, created_s: i64) -> String {
    json!({
        "id": event, "object": "event", "api_version": "2025-03-31.basil", "type": "account.updated",
        "created": created_s, "account": account["id"], "livemode": true, "pending_webhooks": 1, "request": null,
        "data": {"object": account},
    })
    .to_string()
}

pub(super) async fn post_all(process: &Revwatch, bodies: &[String]) {
    let client = reqwest::Client::new();
    for body in bodies {
        assert_eq!(
            post(&client, &process.url("/webhooks/stripe"), body)
                .await
                .expect("posted"),
            200
        );
    }
}

pub(super) async fn applied(variables: &Variables, events: usize) {
    until("all events are applied", || async {
        (metrics(variables)["events_applied"] == events).then_some(())
    })
    .await;
}

async fn none_needs_refresh(variables: &Variables) {
    let done = |shown: &Value| shown["accounts_needing_refresh"] == 0;
    until("no account needs a refresh", || async {
        done(&metrics(variables)).then_some(())
    })
    .await;
}

/// The row of the export for this account.
fn exported(variables: &Variables, account: &str) -> String {
    let csv = print(variables, &["export", "accounts"]);
    csv.lines()
        .find(|line| line.starts_with(&format!("{account},")))
        .expect("exported")
        .to_owned()
}

/// The number of requests counted as failed.
async fn api_errors(deployment: &Deployment) -> i64 {
    let Deployment::Embedded(folder) = deployment else {
        panic!("an embedded deployment")
    };
    let store = Sqlite::open(folder.path(), Open::Existing).expect("the store");
    let counters = store
        .counters(&Buckets::of_hours(0, u32::MAX))
        .await
        .expect("counters");
    counters
        .iter()
        .filter(|(_, name, _)| *name == "events|api_error")
        .map(|(_, _, count)| count)
        .sum()
}

#[tokio::test]
async fn accounts_that_cannot_be_fetched_without_a_key_are_counted() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
    applied(&variables, 1).await;
    assert_eq!(metrics(&variables)["accounts_needing_refresh"], 1);
    process.stop();
}

#[tokio::test]
async fn an_account_is_fetched_and_its_state_applied() {
    fetched_and_applied(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_fetched_on_rabbitmq_and_redis_too() {
    fetched_and_applied(&Deployment::servers().await).await;
}

async fn fetched_and_applied(deployment: &Deployment) {
    let stripe = Stripe::start(&[]).await;
    stripe.set_account(account("acct_1", true));
    let variables = asking(deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
    applied(&variables, 2).await;
    none_needs_refresh(&variables).await;
    assert!(exported(&variables, "acct_1").starts_with("acct_1,PT,true,true,true,"));
    let calls = stripe.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].account.as_str(), calls[0].version.as_str()),
        ("acct_1", "2025-03-31.basil")
    );
    assert_eq!(calls[0].authorization, format!("Bearer {KEY}"));
    let page = process.metrics_page().await.expect("a page");
    assert!(
        page.contains("revwatch_refreshes_total{outcome=\"refreshed\"} 1"),
        "{page}"
    );
    let log = format!("{:?}", process.log());
    assert!(
        !log.contains(KEY) && !log.contains("charges_enabled\":"),
        "{log}"
    );
    process.stop();
}

/// A thin event of v1 about an object, in this context.
pub(super) fn thin_v1(
    event: &str,
    kind: &str,
    (object, id): (&str, &str),
    context: Option<&str>,
) -> String {
    let created = jiff::Timestamp::now().to_string();
    json!({
        "id": event, "object": "v2.core.event", "type": kind, "created": created, "livemode": true,
        "context": context, "related_object": {"id": id, "type": object, "url": format!("/v1/x/{id}")},
    })
    .to_string()
}

fn exported_row(variables: &Variables, kind: &str, id: &str) -> Option<String> {
    let csv = print(variables, &["export", kind]);
    let mut rows = csv.lines();
    rows.find(|line| line.starts_with(&format!("{id},")))
        .map(str::to_owned)
}

/// Case 16.
#[tokio::test]
async fn what_thin_events_of_v1_name_is_needed_without_a_key() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let events = [
        thin_v1(
            "evt_1",
            "v1.customer.subscription.past_due",
            ("subscription", "sub_1"),
            None,
        ),
        thin_v1(
            "evt_2",
            "v1.payout.failed",
            ("payout", "po_1"),
            Some("acct_P/acct_1"),
        ),
        thin_v1(
            "evt_3",
            "v1.invoice.payment_failed",
            ("invoice", "in_1"),
            None,
        ),
        thin_v1(
            "evt_4",
            "v1.account.updated",
            ("account", "acct_1"),
            Some("acct_1"),
        ),
    ];
    post_all(&process, &events).await;
    applied(&variables, 4).await;
    let shown = metrics(&variables);
    assert_eq!(
        shown["objects_needing_fetch"],
        json!({"accounts": 1, "invoices": 1, "payouts": 1, "subscriptions": 1})
    );
    assert_eq!(
        (&shown["events_ignored"], &shown["accounts_needing_refresh"]),
        (&json!(0), &json!(1))
    );
    let text = print(&variables, &["metrics"]);
    assert!(text.contains("needs STRIPE_SECRET_KEY"), "{text}");
    assert_eq!(exported_row(&variables, "subscriptions", "sub_1"), None);
    let state = print(&variables, &["state", "payout", "po_1"]);
    assert!(
        state.contains("state_needed") && state.contains("evt_2"),
        "{state}"
    );
    process.stop();
    print(&variables, &["verify"]);
}

#[tokio::test]
async fn what_thin_events_of_v1_name_is_fetched_with_a_key() {
    let stripe = Stripe::start(&[]).await;
    let price = json!({"id": "price_1", "unit_amount": 500, "currency": "usd", "recurring": {"interval": "month", "interval_count": 1}});
    let items = |ids: &[&str], has_more: bool| {
        let data: Vec<_> = ids
            .iter()
            .map(|id| json!({"id": id, "quantity": 1, "price": price}))
            .collect();
        json!({"object": "list", "data": data, "has_more": has_more})
    };
    let subscription = json!({"id": "sub_1", "object": "subscription", "status": "past_due", "currency": "usd",
        "customer": "cus_1", "items": items(&["si_1"], true)});
    stripe.set_object("", "/v1/subscriptions/sub_1", subscription);
    stripe.set_object(
        "",
        "/v1/subscription_items si_1",
        items(&["si_2", "si_3"], true),
    );
    stripe.set_object("", "/v1/subscription_items si_3", items(&["si_4"], false));
    let payout = json!({"id": "po_1", "object": "payout", "status": "failed", "amount": 700, "currency": "eur"});
    stripe.set_object("acct_1", "/v1/payouts/po_1", payout);
    let payment = json!({"id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": 900, "currency": "usd"});
    stripe.set_object("", "/v1/payment_intents/pi_1", payment);
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let events = [
        thin_v1(
            "evt_1",
            "v1.customer.subscription.past_due",
            ("subscription", "sub_1"),
            None,
        ),
        thin_v1(
            "evt_2",
            "v1.payout.failed",
            ("payout", "po_1"),
            Some("acct_P/acct_1"),
        ),
        thin_v1(
            "evt_3",
            "v1.payment_intent.succeeded",
            ("payment_intent", "pi_1"),
            None,
        ),
    ];
    post_all(&process, &events).await;
    applied(&variables, 6).await;
    until("nothing is needed", || async {
        (metrics(&variables)["objects_needing_fetch"] == json!({})).then_some(())
    })
    .await;
    let shown = metrics(&variables);
    assert_eq!(shown["mrr_minor"], json!({"usd": 2000}), "of all pages");
    assert_eq!(shown["payouts"], json!({"failed": 1}));
    assert_eq!(shown["events_ignored"], 0);
    let row = exported_row(&variables, "payment-intents", "pi_1").expect("a row");
    assert!(row.contains("succeeded"), "{row}");
    let calls = stripe.calls();
    let of = |path: &str| {
        calls
            .iter()
            .find(|call| call.account == path)
            .expect("a request")
    };
    assert_eq!(of("/v1/payouts/po_1").owner, "acct_1");
    assert_eq!(of("/v1/subscriptions/sub_1").owner, "");
    for (path, expanded) in [
        ("/v1/subscriptions/sub_1", "items.data.price.tiers"),
        (
            "/v1/subscriptions/sub_1",
            "discounts.coupon.currency_options",
        ),
        (
            "/v1/subscription_items",
            "data.discounts.coupon.currency_options",
        ),
    ] {
        let expand = ("expand[]".to_owned(), expanded.to_owned());
        assert!(of(path).query.contains(&expand), "{path}: {expanded}");
    }
    assert_eq!(calls.len(), 5, "{calls:?}");
    process.stop();
    print(&variables, &["verify"]);
}

/// Source: <https://docs.stripe.com/webhooks/handle-irrecoverable-events>.
#[tokio::test]
async fn what_an_event_was_about_that_stripe_failed_to_make_is_fetched() {
    let stripe = Stripe::start(&[]).await;
    let kind = "v2.core.health.event_generation_failure.resolved";
    let report = |data: Value| {
        let created = jiff::Timestamp::now().to_string();
        json!({"id": "evt_h", "object": "v2.core.event", "type": kind, "created": created, "livemode": true,
            "context": null, "data": data})
    };
    let impact = json!({"impact": {"event_type": "payout.failed", "context": "acct_1",
        "related_object": {"id": "po_1", "type": "payout", "url": "/v1/payouts/po_1"}}});
    stripe.set_object("", "/v2/core/events/evt_h", report(impact));
    let payout = json!({"id": "po_1", "object": "payout", "status": "failed", "amount": 700, "currency": "eur"});
    stripe.set_object("acct_1", "/v1/payouts/po_1", payout);
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[report(json!(null)).to_string()]).await;
    applied(&variables, 4).await;
    let shown = metrics(&variables);
    assert_eq!(shown["objects_needing_fetch"], json!({}));
    assert_eq!(shown["payouts"], json!({"failed": 1}));
    let paths: Vec<_> = stripe
        .calls()
        .into_iter()
        .map(|call| call.account)
        .collect();
    assert_eq!(paths, ["/v2/core/events/evt_h", "/v1/payouts/po_1"]);
    assert!(exported_row(&variables, "missing-events", "evt_h").is_some());
    process.stop();
    print(&variables, &["verify"]);
}

#[tokio::test]
async fn a_change_after_the_fetch_is_fetched_too() {
    let stripe = Stripe::start(&[]).await;
    stripe.set_account(account("acct_1", false));
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
    until("it was requested", || async {
        (!stripe.calls().is_empty()).then_some(())
    })
    .await;
    // Probably within the second of the response, where a clock with a resolution of seconds could miss the
    // change.
    stripe.set_account(account("acct_1", true));
    post_all(&process, &[thin("evt_2", "acct_1", now_s())]).await;
    until("the new state is applied", || async {
        exported(&variables, "acct_1")
            .starts_with("acct_1,PT,true,true,true,")
            .then_some(())
    })
    .await;
    none_needs_refresh(&variables).await;
    process.stop();
}

#[tokio::test]
async fn errors_of_stripes_api_are_retried() {
    let stripe = Stripe::start(&[Fault::TooMany, Fault::Status(500)]).await;
    stripe.set_account(account("acct_1", true));
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
    applied(&variables, 2).await;
    none_needs_refresh(&variables).await;
    assert_eq!(stripe.statuses(), [429, 500, 200]);
    assert_eq!(
        api_errors(&deployment).await,
        1,
        "a rate limit is not an error"
    );
    process.stop();
    print(&variables, &["verify"]);
}

#[tokio::test]
async fn a_deleted_account_is_fetched_only_after_another_event() {
    let stripe = Stripe::start(&[Fault::Status(403)]).await;
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let named_s = now_s();
    post_all(&process, &[thin("evt_1", "acct_1", named_s)]).await;
    until("it is deleted", || async {
        (process.logged("object not fetched").len() == 1).then_some(())
    })
    .await;
    // Another account is fetched after several reads of the open requests.
    stripe.set_account(account("acct_2", true));
    post_all(&process, &[thin("evt_2", "acct_2", now_s())]).await;
    applied(&variables, 3).await;
    assert_eq!(stripe.statuses(), [403, 200]);
    assert_eq!(metrics(&variables)["accounts_needing_refresh"], 1);
    stripe.set_account(account("acct_1", true));
    post_all(&process, &[thin("evt_3", "acct_1", named_s + 1)]).await;
    none_needs_refresh(&variables).await;
    assert_eq!(stripe.statuses(), [403, 200, 200]);
    assert_eq!(api_errors(&deployment).await, 0, "nor is a deleted account");
    process.stop();
}

#[tokio::test]
async fn the_key_is_not_sent_to_redirects_and_a_refused_key_is_not_retried_immediately() {
    for (fault, status, advice) in [
        (Fault::Redirect, 302, "STRIPE_API_BASE"),
        (Fault::Status(401), 401, "STRIPE_SECRET_KEY"),
    ] {
        let stripe = Stripe::start(&[fault]).await;
        let deployment = Deployment::embedded();
        let process = Revwatch::serve(&asking(&deployment, &stripe), "ingest,worker");
        post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
        let line = until("it is refused", || async {
            process.logged("object not fetched").pop()
        })
        .await;
        assert!(
            line["outcome"] == "refused" && line["reason"].as_str().expect("text").contains(advice),
            "{line}"
        );
        assert_eq!(stripe.statuses(), [status]);
        assert_eq!(api_errors(&deployment).await, 1);
        process.stop();
    }
}

/// A proxy set in the environment must not see the key.
#[tokio::test]
async fn the_key_is_not_sent_through_a_proxy_of_the_environment() {
    let stripe = Stripe::start(&[]).await;
    stripe.set_account(account("acct_1", true));
    let deployment = Deployment::embedded();
    let (proxy, addr) = revwatch_test_servers::listen().await;
    let address = format!("http://{addr}");
    let proxies = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    let mut variables = asking(&deployment, &stripe);
    variables.extend(proxies.map(|name| (name.to_owned(), address.clone())));
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
    let refreshed = until("it was requested", || async {
        process.logged("object fetched").pop()
    });
    tokio::select! {
        _ = refreshed => {}
        _ = proxy.accept() => panic!("the proxy was used"),
    }
    assert_eq!(stripe.statuses(), [200]);
    process.stop();
}

#[tokio::test]
async fn a_burst_of_events_about_one_account_causes_few_fetches() {
    let stripe = Stripe::start(&[]).await;
    stripe.set_account(account("acct_1", true));
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let burst: Vec<_> = (0..20)
        .map(|n| thin(&format!("evt_{n}"), "acct_1", now_s() - 19 + n))
        .collect();
    post_all(&process, &burst).await;
    until("all events and a refresh are applied", || async {
        (metrics(&variables)["events_applied"].as_u64() > Some(20)).then_some(())
    })
    .await;
    none_needs_refresh(&variables).await;
    assert!(stripe.calls().len() <= 3, "{:?}", stripe.calls());
    process.stop();
}

#[tokio::test]
async fn a_process_killed_during_a_fetch_repeats_it() {
    let stripe = Stripe::start(&[Fault::NoResponse]).await;
    stripe.set_account(account("acct_1", true));
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &[thin("evt_1", "acct_1", now_s())]).await;
    until("it was requested", || async {
        (!stripe.calls().is_empty()).then_some(())
    })
    .await;
    process.kill9();
    assert_eq!(metrics(&variables)["accounts_needing_refresh"], 1);
    let process = Revwatch::serve(&variables, "worker");
    none_needs_refresh(&variables).await;
    assert_eq!(stripe.statuses(), [0, 200]);
    process.stop();
}

#[tokio::test]
async fn an_account_with_a_later_snapshot_is_not_fetched() {
    let stripe = Stripe::start(&[]).await;
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let named_s = now_s() - 10;
    stripe.set_account(account("acct_2", true));
    let events = [
        snapshot("evt_1", &account("acct_1", true), named_s + 1),
        thin("evt_2", "acct_1", named_s),
        thin("evt_3", "acct_2", named_s),
    ];
    post_all(&process, &events).await;
    // The other account shows that the open requests have been read.
    applied(&variables, 4).await;
    none_needs_refresh(&variables).await;
    let asked: Vec<_> = stripe
        .calls()
        .into_iter()
        .map(|call| call.account)
        .collect();
    assert_eq!(asked, ["acct_2"]);
    process.stop();
}
