//! Every kind of entity can be exported and shown, with the documented columns and its events.

use serde_json::{Value, json};

use super::Deployment;
use crate::support::revwatch::{Revwatch, metrics, post, print};
use crate::support::wait::until;

/// Kind, its export, the first columns of the header, the types of the events, the object, and the
/// expected row.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    Value,
    &'static str,
);

fn cases() -> Vec<Case> {
    let movement = "id,account,customer,status,currency,amount_minor,reason,of";
    let price = json!({"id": "price_1", "unit_amount": 900, "recurring": {"interval": "month", "interval_count": 1}});
    vec![
        (
            "subscription",
            "subscriptions",
            "id,customer,account,status,plan,currency,mrr_minor,cancel_scheduled,past_due_since,updated_at",
            &[
                "customer.subscription.created",
                "customer.subscription.updated",
            ],
            json!({"id": "sub_1", "customer": "cus_1", "status": "active", "currency": "usd",
                "items": {"data": [{"price": price, "quantity": 2}]}}),
            "sub_1,cus_1,acct_1,active,unmapped,usd,1800,false,,",
        ),
        (
            "invoice",
            "invoices",
            "id,customer,subscription,status,currency,amount_due_minor,amount_paid_minor,attempts",
            &["invoice.created", "invoice.finalized", "invoice.updated"],
            json!({"id": "in_1", "customer": "cus_1", "subscription": "sub_1", "status": "open", "currency": "usd",
                "amount_due": 1800, "amount_paid": 0, "attempt_count": 1}),
            "in_1,cus_1,sub_1,open,usd,1800,0,1,acct_1",
        ),
        (
            "payout",
            "payouts",
            "id,account,status,currency,amount_minor,failure_code",
            &["payout.failed", "payout.updated"],
            json!({"id": "po_1", "status": "failed", "currency": "usd", "amount": 500, "failure_code": "account_closed"}),
            "po_1,acct_1,failed,usd,500,account_closed",
        ),
        (
            "account",
            "accounts",
            "id,country,charges_enabled,payouts_enabled,connected,risk,stage,onboarding_seconds",
            &[
                "account.updated",
                "account.updated",
                "account.application.authorized",
            ],
            json!({"id": "acct_1", "country": "DE", "created": 1_000, "charges_enabled": true, "payouts_enabled": false,
                "details_submitted": true}),
            "acct_1,DE,true,false,true,high,charges_enabled,",
        ),
        (
            "payment_intent",
            "payment-intents",
            movement,
            &["payment_intent.created", "payment_intent.payment_failed"],
            json!({"id": "pi_1", "status": "requires_payment_method", "currency": "usd", "amount": 700, "customer": "cus_1",
                "invoice": "in_1", "last_payment_error": {"code": "card_declined", "decline_code": "lost_card"}}),
            "pi_1,acct_1,cus_1,requires_payment_method,usd,700,lost_card,in_1,",
        ),
        (
            "checkout_session",
            "checkout-sessions",
            movement,
            &["checkout.session.completed"],
            json!({"id": "cs_1", "status": "complete", "payment_status": "paid", "amount_total": 700, "currency": "usd",
                "customer": "cus_1", "subscription": "sub_1"}),
            "cs_1,acct_1,cus_1,complete,usd,700,,sub_1,",
        ),
        (
            "dispute",
            "disputes",
            movement,
            &["charge.dispute.created", "charge.dispute.funds_withdrawn"],
            json!({"id": "dp_1", "status": "needs_response", "currency": "usd", "amount": 700, "reason": "fraudulent", "charge": "ch_1"}),
            "dp_1,acct_1,,needs_response,usd,700,fraudulent,ch_1,",
        ),
        (
            "refund",
            "refunds",
            movement,
            &["refund.created", "refund.failed"],
            json!({"id": "re_1", "status": "failed", "currency": "usd", "amount": 70, "failure_reason": "declined", "charge": "ch_1"}),
            "re_1,acct_1,,failed,usd,70,declined,ch_1,",
        ),
        (
            "transfer",
            "transfers",
            movement,
            &["transfer.created", "transfer.reversed"],
            json!({"id": "tr_1", "currency": "usd", "amount": 70, "amount_reversed": 70, "reversed": true, "destination": "acct_2"}),
            "tr_1,acct_1,,reversed,usd,70,,acct_2,",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_can_be_exported_and_shown_with_its_events() {
    let deployment = Deployment::embedded();
    let variables = deployment.variables(&[]);
    let process = Revwatch::serve(&variables, "ingest,worker");
    let (client, url) = (reqwest::Client::new(), process.url("/webhooks/stripe"));
    let mut posted = 0;
    for (kind, _, _, types, object, _) in cases() {
        for (n, event_type) in types.iter().enumerate() {
            let event = json!({"id": format!("evt_{kind}_{n}"), "object": "event", "type": event_type, "account": "acct_1",
                "created": 1_700_000_000 + n, "data": {"object": object}});
            assert_eq!(
                post(&client, &url, &event.to_string())
                    .await
                    .expect("answered"),
                200
            );
            posted += 1;
        }
    }
    until("all are applied", || async {
        (metrics(&variables)["events_applied"] == posted).then_some(())
    })
    .await;
    process.stop();
    for (kind, export, header, types, object, row) in cases() {
        let csv = print(&variables, &["export", export]);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with(header), "{export}: {}", lines[0]);
        let id = object["id"].as_str().expect("an id");
        let found = lines
            .iter()
            .find(|line| line.starts_with(id))
            .unwrap_or_else(|| panic!("{export}: {csv}"));
        assert!(found.starts_with(row), "{export}: {found}");
        assert_eq!(
            lines[0].split(',').count(),
            found.split(',').count(),
            "{export}"
        );

        let shown: Value =
            serde_json::from_str(&print(&variables, &["state", kind, id])).expect("JSON");
        assert_eq!((&shown["id"], &shown["kind"]), (&id.into(), &kind.into()));
        let listed: Vec<&str> = shown["events"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|e| e["event"].as_str())
            .collect();
        let expected: Vec<String> = (0..types.len())
            .map(|n| format!("evt_{kind}_{n}"))
            .collect();
        assert_eq!(listed, expected, "also those that changed nothing");
        assert!(
            !shown["history"].as_array().expect("a list").is_empty(),
            "{shown}"
        );
    }
    // K10: the audit trail names each state change and the event that caused it.
    let audit: Value =
        serde_json::from_str(&print(&variables, &["audit", "--changes", "--json"])).expect("JSON");
    for (kind, _, _, _, object, _) in cases() {
        let of_it = |change: &&Value| change["kind"] == kind && change["id"] == object["id"];
        let change = audit
            .as_array()
            .expect("a list")
            .iter()
            .find(of_it)
            .unwrap_or_else(|| panic!("{kind}: {audit}"));
        assert!(
            change["event"]
                .as_str()
                .is_some_and(|event| event.starts_with("evt_")),
            "{change}"
        );
        assert!(
            !change["change"].as_str().expect("words").is_empty(),
            "{change}"
        );
    }
    assert!(print(&variables, &["audit", "--changes", "--limit", "1000"]).contains("failed"));
    let shown: Value =
        serde_json::from_str(&print(&variables, &["state", "subscription", "sub_1"]))
            .expect("JSON");
    assert_eq!(
        shown["events"][1],
        json!({"event": "evt_subscription_1", "created": "2023-11-14T22:13:21Z", "stage": "updated", "about": null})
    );
    assert_eq!(shown["current"]["status"], "active", "words, not numbers");
    let shown: Value =
        serde_json::from_str(&print(&variables, &["state", "account", "acct_1"])).expect("JSON");
    // The account is older, and no event says since when.
    let milestones = &shown["milestones"];
    assert_eq!(milestones.get("charges_enabled"), Some(&Value::Null));
    let alerts = print(&variables, &["export", "alerts"]);
    assert!(
        alerts.starts_with("id,rule,severity,state,subject,since,acknowledged_at,resolved_at"),
        "{alerts}"
    );
}
