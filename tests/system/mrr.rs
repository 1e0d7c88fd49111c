//! MRR as far as it is known: bounds and reasons are shown, and what the store or Stripe's API has is fetched.

use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Revwatch, Variables, metrics, post, print};
use crate::support::stripe::Stripe;
use crate::support::wait::until;

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn price(unit_amount: i64, currency: &str) -> Value {
    json!({"id": format!("price_{currency}"), "object": "price", "currency": currency, "unit_amount": unit_amount,
        "unit_amount_decimal": unit_amount.to_string(), "product": "prod_1",
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}})
}

fn subscription(id: &str, currency: &str, price: &Value, more: &Value) -> Value {
    let item = json!({"id": format!("si_{id}"), "object": "subscription_item", "price": price, "quantity": 1, "discounts": []});
    let mut object = json!({"id": id, "object": "subscription", "status": "active", "customer": "cus_1",
        "currency": currency, "start_date": now_s() - 1000, "discounts": [],
        "items": {"object": "list", "data": [item], "has_more": false}});
    let fields = more.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(fields);
    object
}

fn event(id: &str, kind: &str, object: &Value) -> String {
    json!({"id": id, "object": "event", "api_version": "2025-09-30.clover", "type": kind, "created": now_s() - 100,
        "livemode": true, "pending_webhooks": 1, "request": null, "data": {"object": object}})
    .to_string()
}

/// The discount `di_1` of `sub_half` is half of it, but no event says that at once.
fn discounted() -> [String; 3] {
    let coupon = json!({"id": "half", "object": "coupon", "duration": "forever", "percent_off": 50, "livemode": true});
    let discount = json!({"id": "di_1", "object": "discount", "subscription": "sub_half", "end": null,
        "source": {"type": "coupon", "coupon": "half"}});
    let object = subscription(
        "sub_half",
        "usd",
        &price(10_000, "usd"),
        &json!({"discounts": ["di_1"]}),
    );
    [
        event("evt_1", "customer.subscription.created", &object),
        event("evt_2", "customer.discount.created", &discount),
        event("evt_3", "coupon.created", &coupon),
    ]
}

async fn post_all(process: &Revwatch, bodies: &[String]) {
    let client = reqwest::Client::new();
    for body in bodies {
        let url = process.url("/webhooks/stripe");
        assert_eq!(post(&client, &url, body).await.expect("posted"), 200);
    }
}

async fn shown(variables: &Variables, what: &str, is_so: impl Fn(&Value) -> bool) {
    until(what, || async { is_so(&metrics(variables)).then_some(()) }).await;
}

/// The value of one column of the export of subscriptions.
fn exported(variables: &Variables, id: &str, column: &str) -> String {
    let csv = print(variables, &["export", "subscriptions"]);
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().expect("a header").split(',').collect();
    let at = header.iter().position(|name| *name == column);
    let row = lines.find(|line| line.starts_with(&format!("{id},")));
    let cells: Vec<_> = row.expect("exported").split(',').collect();
    cells[at.expect("a column")].to_owned()
}

/// B1, K11: the coupon is another object, in another partition. No key is needed.
#[tokio::test]
async fn a_discount_by_its_id_is_known_from_its_coupon_in_the_store() {
    for order in [[0, 1, 2], [2, 1, 0]] {
        from_the_store(&Deployment::embedded(), order).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discount_by_its_id_is_known_on_rabbitmq_and_redis_too() {
    from_the_store(&Deployment::servers().await, [0, 2, 1]).await;
}

async fn from_the_store(deployment: &Deployment, order: [usize; 3]) {
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let events = discounted();
    post_all(&process, &order.map(|i| events[i].clone())).await;
    shown(&variables, "MRR is known", |shown| {
        shown["mrr_minor"] == json!({"usd": 5000})
            && shown["mrr_high_minor"] == json!({"usd": 5000})
            && shown["mrr_incomplete"] == json!({})
    })
    .await;
    assert_eq!(exported(&variables, "sub_half", "mrr_complete"), "true");
    print(&variables, &["verify"]);
    process.stop();
}

/// What only Stripe has stays a bound without a key, and says why.
#[tokio::test]
async fn what_no_event_says_is_a_bound_with_its_reason() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let usd = price(10_000, "usd");
    let more = json!({"items": {"object": "list", "has_more": true,
        "data": [{"id": "si_1", "object": "subscription_item", "price": usd, "quantity": 1}]}});
    let [half, ..] = discounted();
    let events = [
        event(
            "evt_a",
            "customer.subscription.created",
            &subscription("sub_page", "usd", &usd, &more),
        ),
        event(
            "evt_b",
            "customer.subscription.created",
            &subscription("sub_eur", "eur", &usd, &json!({})),
        ),
        half,
    ];
    post_all(&process, &events).await;
    shown(&variables, "all three are incomplete", |shown| {
        shown["mrr_incomplete"] == json!({"items": 1, "currency": 1, "discount": 1})
    })
    .await;
    let shown = metrics(&variables);
    assert_eq!(shown["mrr_minor"], json!({"eur": 0, "usd": 10_000}));
    assert_eq!(shown["mrr_high_minor"], json!({"eur": null, "usd": null}));
    assert_eq!(exported(&variables, "sub_half", "mrr_minor"), "0");
    assert_eq!(exported(&variables, "sub_half", "mrr_high_minor"), "10000");
    assert_eq!(exported(&variables, "sub_page", "mrr_high_minor"), "");
    assert_eq!(exported(&variables, "sub_page", "mrr_reason"), "items");
    let table = print(&variables, &["metrics"]);
    assert!(table.contains("at least USD 100.00"), "{table}");
    process.stop();
}

/// With a key, the complete list of items and the amounts in other currencies are fetched.
#[tokio::test]
async fn what_only_stripe_has_is_fetched_with_a_key() {
    let (stripe, deployment) = (Stripe::start(&[]).await, Deployment::embedded());
    let variables = deployment.variables(&[
        ("STRIPE_SECRET_KEY", "sk_live_never_shown"),
        ("STRIPE_API_BASE", &stripe.url()),
    ]);
    let usd = price(10_000, "usd");
    let mut priced = usd.clone();
    priced["currency_options"] =
        json!({"eur": {"unit_amount": 9000, "unit_amount_decimal": "9000"}});
    stripe.set_object(
        "",
        "/v1/subscriptions/sub_eur",
        subscription("sub_eur", "eur", &priced, &json!({})),
    );
    let process = Revwatch::serve(&variables, "ingest,worker");
    let object = subscription("sub_eur", "eur", &usd, &json!({}));
    post_all(
        &process,
        &[event("evt_b", "customer.subscription.created", &object)],
    )
    .await;
    shown(&variables, "MRR is known", |shown| {
        shown["mrr_minor"] == json!({"eur": 9000}) && shown["mrr_incomplete"] == json!({})
    })
    .await;
    process.stop();
}
