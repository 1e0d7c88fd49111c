//! MRR as far as it is known: bounds and reasons are shown, and what the store or Stripe's API has is fetched.

use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Revwatch, SECRET, Variables, metrics, post, print};
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

/// A subscription of 119.00 including tax that only its newest invoice says, and that invoice: 19 %.
fn taxed(invoice: &str) -> (Value, Value) {
    let mut price = price(11_900, "eur");
    price["tax_behavior"] = json!("inclusive");
    let more = json!({"automatic_tax": {"enabled": true}, "latest_invoice": invoice});
    let line = json!({"id": "il_1", "object": "line_item", "amount": 11_900, "discount_amounts": [],
        "parent": {"type": "subscription_item_details", "subscription_item_details": {"subscription": "sub_taxed",
            "subscription_item": "si_sub_taxed", "proration": false}},
        "pricing": {"type": "price_details", "price_details": {"price": "price_eur", "product": "prod_1"}},
        "taxes": [{"amount": 1900, "tax_behavior": "inclusive", "taxable_amount": 10_000}]});
    let object = json!({"id": invoice, "object": "invoice", "created": now_s() - 200, "status": "paid",
        "currency": "eur", "amount_due": 11_900, "amount_paid": 11_900, "attempt_count": 1,
        "next_payment_attempt": null, "automatic_tax": {"enabled": true, "status": "complete"},
        "lines": {"object": "list", "data": [line], "has_more": false}});
    (subscription("sub_taxed", "eur", &price, &more), object)
}

async fn post_all(process: &Revwatch, bodies: &[String]) {
    post_all_to(process, "/webhooks/stripe", bodies).await;
}

async fn post_all_to(process: &Revwatch, path: &str, bodies: &[String]) {
    let client = reqwest::Client::new();
    for body in bodies {
        let url = process.url(path);
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

/// K11: the kernel's subscriptions are of a realm of which there is no key.
#[tokio::test]
async fn a_discount_of_another_realm_is_known_from_its_coupon_in_the_store() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[("STRIPE_KERNEL_WEBHOOK_SECRET", SECRET)]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all_to(&process, "/webhooks/kernel/stripe", &discounted()).await;
    shown(&variables, "MRR of the kernel is known", |shown| {
        let kernel = &shown["realms"]["kernel"];
        kernel["mrr_minor"] == json!({"usd": 5000})
            && kernel["mrr_high_minor"] == json!({"usd": 5000})
            && kernel["mrr_incomplete"] == json!({})
    })
    .await;
    assert_eq!(metrics(&variables)["events_dead"], 0);
    print(&variables, &["verify"]);
    process.stop();
}

/// B1, K11: the invoice is another object, in another partition, too.
#[tokio::test]
async fn inclusive_tax_is_known_from_the_invoice_in_the_store() {
    let unpaid =
        |next: Value| json!({"status": "open", "amount_paid": 0, "next_payment_attempt": next});
    let table = [
        ("invoice.paid", json!({}), true),
        ("invoice.paid", json!({}), false),
        // A retry is planned, or a bank debit is under way.
        (
            "invoice.payment_failed",
            unpaid(json!(now_s() + 9999)),
            true,
        ),
        (
            "invoice.payment_failed",
            unpaid(json!(now_s() + 9999)),
            false,
        ),
        ("invoice.updated", unpaid(json!(null)), false),
    ];
    for (kind, changes, is_first) in table {
        let deployment = Deployment::embedded();
        let variables = deployment.variables(&[]);
        let process = Revwatch::serve(&variables, "ingest,worker");
        let (subscription, mut invoice) = taxed("in_1");
        let changes = changes.as_object().expect("an object").clone();
        invoice.as_object_mut().expect("an object").extend(changes);
        let mut events = vec![
            event("evt_1", "customer.subscription.created", &subscription),
            event("evt_2", kind, &invoice),
        ];
        if is_first {
            events.reverse();
        }
        post_all(&process, &events).await;
        shown(&variables, "tax is known", |shown| {
            shown["mrr_minor"] == json!({"eur": 10_000})
                && shown["mrr_high_minor"] == json!({"eur": 10_000})
                && shown["mrr_incomplete"] == json!({})
        })
        .await;
        let state = print(&variables, &["state", "subscription", "sub_taxed"]);
        assert!(!state.contains("invoice_needed"), "{state}");
        print(&variables, &["verify"]);
        process.stop();
    }
}

/// Without a key, and without an event of the invoice, it says what is missing.
#[tokio::test]
async fn inclusive_tax_is_fetched_with_a_key() {
    let (stripe, deployment) = (Stripe::start(&[]).await, Deployment::embedded());
    let variables = deployment.variables(&[]);
    let (subscription, _) = taxed("in_1");
    let process = Revwatch::serve(&variables, "ingest,worker");
    let created = event("evt_1", "customer.subscription.created", &subscription);
    post_all(&process, &[created]).await;
    shown(&variables, "tax is missing", |shown| {
        shown["mrr_incomplete"] == json!({"tax": 1})
    })
    .await;
    assert_eq!(exported(&variables, "sub_taxed", "mrr_high_minor"), "11900");
    let state = print(&variables, &["state", "subscription", "sub_taxed"]);
    assert!(state.contains("invoice_needed"), "{state}");
    process.stop();
    let variables = deployment.variables(&[
        ("STRIPE_SECRET_KEY", "sk_live_never_shown"),
        ("STRIPE_API_BASE", &stripe.url()),
    ]);
    // Of a newer invoice, the tax is fetched, too, although that of an older one is known.
    for (id, tax_minor, mrr_minor) in [("in_1", 1900, 10_000), ("in_2", 2065, 9835)] {
        let (_, mut invoice) = taxed(id);
        invoice["created"] = json!(now_s() - 50);
        invoice["lines"]["data"][0]["taxes"][0]["amount"] = json!(tax_minor);
        // The first page has a proration only.
        let line = invoice["lines"]["data"][0].take();
        let mut proration = line.clone();
        proration["id"] = json!("il_0");
        proration["parent"]["subscription_item_details"]["proration"] = json!(true);
        let page = |line: &Value, has_more| json!({"object": "list", "data": [line], "has_more": has_more});
        invoice["lines"] = page(&proration, true);
        stripe.set_object("", &format!("/v1/invoices/{id}"), invoice);
        let rest = format!("/v1/invoices/{id}/lines il_0");
        stripe.set_object("", &rest, page(&line, false));
        let process = Revwatch::serve(&variables, "ingest,worker");
        let (subscription, _) = taxed(id);
        let kind = "customer.subscription.updated";
        post_all(
            &process,
            &[event(&format!("evt_{id}"), kind, &subscription)],
        )
        .await;
        shown(&variables, "tax is known", |shown| {
            shown["mrr_minor"] == json!({"eur": mrr_minor}) && shown["mrr_incomplete"] == json!({})
        })
        .await;
        process.stop();
    }
    print(&variables, &["verify"]);
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

/// B1: of two products, the coupon applies to one, and only the API says which.
#[tokio::test]
async fn to_which_products_a_coupon_applies_is_fetched_with_a_key() {
    let (stripe, deployment) = (Stripe::start(&[]).await, Deployment::embedded());
    let coupon = |more: Value| json!({"id": "half", "duration": "forever", "percent_off": 50, "applies_to": more});
    let discount = |more| json!({"id": "di_1", "object": "discount", "subscription": "sub_two", "coupon": coupon(more)});
    let item = |product: &str| {
        let mut price = price(2000, "usd");
        (price["id"], price["product"]) = (json!(product), json!(product));
        json!({"id": format!("si_{product}"), "price": price, "quantity": 1})
    };
    let two = |discount: Value| {
        let items = json!({"data": [item("prod_1"), item("prod_2")], "has_more": false});
        let more = json!({"discounts": [discount], "items": items});
        subscription("sub_two", "usd", &price(2000, "usd"), &more)
    };
    let events = [
        event("evt_1", "customer.discount.created", &discount(json!(null))),
        event(
            "evt_2",
            "customer.subscription.created",
            &two(json!("di_1")),
        ),
    ];
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    post_all(&process, &events).await;
    shown(
        &variables,
        "it is not known to which products it applies",
        |shown| {
            shown["mrr_incomplete"] == json!({"products": 1})
                && shown["mrr_minor"] == json!({"usd": 2000})
                && shown["mrr_high_minor"] == json!({"usd": 4000})
        },
    )
    .await;
    process.stop();
    let fetched = two(discount(json!({"products": ["prod_2"]})));
    stripe.set_object("", "/v1/subscriptions/sub_two", fetched);
    let variables = deployment.variables(&[
        ("STRIPE_SECRET_KEY", "sk_live_never_shown"),
        ("STRIPE_API_BASE", &stripe.url()),
    ]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    shown(&variables, "it is known", |shown| {
        shown["mrr_incomplete"] == json!({}) && shown["mrr_minor"] == json!({"usd": 3000})
    })
    .await;
    process.stop();
    print(&variables, &["verify"]);
}
