//! Single events as Stripe sends them, padded to a wanted body size.

use bytes::Bytes;
use revwatch_storage::ports::Delivery;
use serde_json::{Value, json};

use crate::business::Histories;

/// A description, the entity, and the event.
pub(crate) const ABOUT: [&str; 5] = ["subscription", "invoice", "payout", "account", "nothing"];

/// The size of a typical body, in bytes.
pub(crate) const USUAL: usize = 2650;

/// One of [`ABOUT`], at the typical size.
pub(crate) fn about(what: &str) -> Bytes {
    match what {
        "subscription" => nth(&Histories::subscriptions_of_a_year(1), 1),
        // The eighth event: the account can take charges from now on.
        "account" => nth(&Histories::accounts(1), 7),
        "invoice" => padded(&invoice().to_string(), USUAL),
        "payout" => padded(&payout(Some("acct_1MvYkQ2eZvKYlo2C")).to_string(), USUAL),
        _ => padded(
            &event(
                "product.updated",
                None,
                &json!({"id": "prod_NWjs8kKbJWmuuc"}),
            )
            .to_string(),
            USUAL,
        ),
    }
}

/// An event of a payout with at least its natural size, padded to `bytes`; without an account it is
/// the platform's.
pub(crate) fn payout_of(bytes: usize, account: Option<&str>) -> Bytes {
    padded(&payout(account).to_string(), bytes)
}

/// The delivery with a body of typical size.
pub(crate) fn usual(delivery: Delivery) -> Delivery {
    let text = std::str::from_utf8(&delivery.body).expect("JSON");
    Delivery {
        body: padded(text, USUAL),
        ..delivery
    }
}

fn nth(histories: &Histories, n: usize) -> Bytes {
    usual(
        histories
            .deliveries(1)
            .nth(n)
            .expect("the history has that many events"),
    )
    .body
}

/// Pads the object's `metadata` until the body has about `bytes`; a larger body gets none.
fn padded(body: &str, bytes: usize) -> Bytes {
    const ENTRY: usize = r#""filler_000":"","#.len();
    const LONGEST: usize = 40;
    let mut event: Value = serde_json::from_str(body).expect("JSON");
    let mut missing = bytes.saturating_sub(body.len() + r#""metadata":{},"#.len());
    let mut metadata = serde_json::Map::new();
    while missing > ENTRY {
        let length = LONGEST.min(missing - ENTRY);
        metadata.insert(
            format!("filler_{:03}", metadata.len()),
            "f".repeat(length).into(),
        );
        missing -= ENTRY + length;
    }
    event["data"]["object"]["metadata"] = metadata.into();
    Bytes::from(event.to_string())
}

fn event(kind: &str, account: Option<&str>, object: &Value) -> Value {
    let mut event = json!({"id": "evt_1PqzvT2eZvKYlo2CmU3jWk9x", "object": "event", "api_version": "2026-09-30.endive",
        "created": 1_760_000_000, "livemode": true, "pending_webhooks": 1, "type": kind, "data": {"object": object},
        "request": {"id": null, "idempotency_key": null}});
    if let Some(account) = account {
        event["account"] = account.into();
    }
    event
}

fn payout(account: Option<&str>) -> Value {
    let object = json!({"id": "po_1MvYkQ2eZvKYlo2C", "object": "payout", "amount": 125_000, "currency": "eur",
        "status": "failed", "failure_code": "account_closed"});
    event("payout.failed", account, &object)
}

fn invoice() -> Value {
    let line = json!({"id": "il_1MvYkQ2eZvKYlo2C", "object": "line_item", "amount": 4900, "currency": "usd",
        "period": {"start": 1_757_408_000, "end": 1_760_000_000}, "quantity": 1});
    let object = json!({"id": "in_1MvYkQ2eZvKYlo2CwZ8q3Lr7", "object": "invoice", "customer": "cus_NffrFeUfNV2Hib",
        "status": "paid", "currency": "usd", "amount_due": 4900, "amount_paid": 4900, "amount_remaining": 0,
        "attempt_count": 1, "attempted": true, "billing_reason": "subscription_cycle",
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1MowQVLkdIwHu7ixeRlqHVzs"}},
        "lines": {"object": "list", "data": [line], "has_more": false}});
    let mut event = event("invoice.paid", Some("acct_1MvYkQ2eZvKYlo2C"), &object);
    event["data"]["previous_attributes"] =
        json!({"status": "open", "amount_paid": 0, "attempted": false});
    event
}
