//! An event that was never delivered ended a condition. The next event says that it did not hold before
//! it: that is since when it holds.

use serde_json::{Value, json};

use super::first_sight::{UPDATED, after, hourly, subscription};
use crate::entity::Entity;

/// Kind, hour since when, and whether it began before that.
fn conditions(entity: &Entity) -> Vec<(&'static str, i64, bool)> {
    let conditions = entity.conditions();
    let mut found: Vec<_> = conditions
        .iter()
        .map(|c| {
            (
                c.key.kind.as_str(),
                c.since_s / 3600,
                c.began_before.is_some(),
            )
        })
        .collect();
    found.sort_unstable();
    found
}

/// Since which hour these conditions hold if an object is so in hours 1 and 60, and the second event
/// says this of the time before it.
fn since(event_type: &str, object: &Value, said: Option<Value>) -> Vec<(&'static str, i64, bool)> {
    let first = (1, event_type, object, Some(json!({"metadata": {}})));
    let second = (60, event_type, object, said);
    let found = conditions(&after(&[first.clone(), second.clone()]));
    assert_eq!(conditions(&after(&[second, first])), found, "in any order");
    found
}

fn trial() -> Value {
    let mut object = subscription("trialing");
    object["trial_end"] = json!(100 * 3600);
    object
}

/// R5, C6, C2: only an explicit "it was otherwise" breaks a run.
#[test]
fn a_condition_holds_since_the_event_that_says_that_it_did_not_hold_before() {
    let dispute = json!({"id": "dp_1", "status": "needs_response", "amount": 5, "currency": "usd"});
    let waiting = json!({"id": "transfers", "status": "inactive"});
    let due = json!({"id": "acct_1", "charges_enabled": true, "payouts_enabled": true,
        "requirements": {"currently_due": ["a"]}});
    let blocked = json!({"id": "acct_1", "charges_enabled": true, "payouts_enabled": false});
    let requirements = |fields: Value| json!({"requirements": fields});
    let table = [
        (
            UPDATED,
            &subscription("past_due"),
            "past_due",
            json!({"status": "active"}),
            true,
        ),
        (
            UPDATED,
            &trial(),
            "trial_ending",
            json!({"status": "paused"}),
            true,
        ),
        (
            UPDATED,
            &trial(),
            "trial_ending",
            json!({"trial_end": 90 * 3600}),
            true,
        ),
        (
            "charge.dispute.updated",
            &dispute,
            "dispute_open",
            json!({"status": "under_review"}),
            true,
        ),
        (
            "capability.updated",
            &waiting,
            "capability_waiting",
            json!({"status": "active"}),
            true,
        ),
        (
            "capability.updated",
            &waiting,
            "capability_waiting",
            json!({"status": "pending"}),
            false,
        ),
        (
            "account.updated",
            &due,
            "requirements_due",
            requirements(json!({"currently_due": []})),
            true,
        ),
        (
            "account.updated",
            &due,
            "requirements_due",
            requirements(json!({"currently_due": ["b"]})),
            false,
        ),
        (
            "account.updated",
            &due,
            "requirements_due",
            requirements(json!({"past_due": ["b"]})),
            false,
        ),
        (
            "account.updated",
            &due,
            "requirements_due",
            json!({"requirements": null}),
            false,
        ),
        (
            "account.updated",
            &blocked,
            "payouts_blocked",
            json!({"payouts_enabled": true}),
            true,
        ),
        (
            "account.updated",
            &blocked,
            "payouts_blocked",
            json!({"charges_enabled": false}),
            true,
        ),
        (
            "account.updated",
            &blocked,
            "payouts_blocked",
            requirements(json!({"past_due": ["b"]})),
            false,
        ),
    ];
    for (event_type, object, kind, said, is_broken) in table {
        let of = |said: Option<Value>| {
            let found = since(event_type, object, said);
            let of_kind = found.into_iter().find(|(found, ..)| *found == kind);
            of_kind.map(|(_, since, began_before)| (since, began_before))
        };
        // When the one of the first sight began is not known.
        let first = Some((1, true));
        let expected = if is_broken { Some((60, false)) } else { first };
        assert_eq!(of(Some(said.clone())), expected, "{kind} with {said}");
        assert_eq!(of(None), first, "{kind}: it is not said");
        assert_eq!(of(Some(json!({"metadata": {}}))), first, "{kind}: the same");
    }
}

/// C2: it had lost charges, got them back, and lost them again.
#[test]
fn charges_are_lost_since_the_event_that_says_that_they_were_enabled_before() {
    let object =
        json!({"id": "acct_1", "created": 0, "charges_enabled": false, "payouts_enabled": true});
    let lost = || Some(json!({"charges_enabled": true}));
    let both = |said| {
        let first = (1, "account.updated", &object, lost());
        let found = conditions(&after(&[first, (60, "account.updated", &object, said)]));
        found
            .into_iter()
            .filter(|(kind, ..)| kind.starts_with("charges_"))
            .collect::<Vec<_>>()
    };
    let from = |hour| {
        [
            ("charges_blocked", hour, false),
            ("charges_lost", hour, false),
        ]
    };
    assert_eq!(both(lost()), from(60));
    assert_eq!(
        both(Some(json!({"payouts_enabled": false}))),
        [("charges_blocked", 60, false), ("charges_lost", 1, false)]
    );
    assert_eq!(both(Some(json!({"email": "a@example.com"}))), from(1));
    assert_eq!(both(None), from(1));
}

/// C9: the rows of the table in which the account was before.
#[test]
fn an_account_is_disabled_since_the_event_that_says_that_it_was_not_before() {
    let object = json!({"id": "acct_1", "charges_enabled": false, "payouts_enabled": false,
        "requirements": {"disabled_reason": "rejected.fraud"}});
    let since_when = |reason: Value| {
        let said = json!({"requirements": {"disabled_reason": reason}});
        let mut found = since("account.updated", &object, Some(said));
        found.retain(|(kind, ..)| *kind == "account_disabled");
        found
    };
    for otherwise in [
        Value::Null,
        json!("requirements.past_due"),
        json!("requirements.pending_verification"),
    ] {
        assert_eq!(since_when(otherwise), [("account_disabled", 60, false)]);
    }
    for so in [
        "rejected.other",
        "under_review",
        "a reason that Stripe adds later",
    ] {
        assert_eq!(
            since_when(json!(so)),
            [("account_disabled", 1, true)],
            "{so}"
        );
    }
}

/// C6: a payout never leaves its outcome: two events are about one change.
#[test]
fn a_payout_failed_once_even_if_two_events_say_so() {
    let payout = json!({"id": "po_1", "status": "failed", "amount": 500, "currency": "usd"});
    let first = (1, "payout.failed", &payout, None);
    let second = (
        2,
        "payout.updated",
        &payout,
        Some(json!({"status": "paid"})),
    );
    let entity = after(&[first, second]);
    assert_eq!(conditions(&entity), [("payout_failed", 1, false)]);
    assert_eq!(hourly(&entity, &["payouts|"]), ["1 payouts|failed|usd 1"]);
}

/// R5: it entered dunning twice. When it recovered in between is not known.
#[test]
fn a_subscription_enters_dunning_again_if_its_event_says_so() {
    let [active, past_due] = ["active", "past_due"].map(subscription);
    let entered = |hour| (hour, UPDATED, &past_due, Some(json!({"status": "active"})));
    let created = (0, "customer.subscription.created", &active, None);
    let recovered = (90, UPDATED, &active, Some(json!({"status": "past_due"})));
    let known = [created, entered(1), entered(60), recovered];
    let twice = [
        "1 dunning|entered 1",
        "60 dunning|entered 1",
        "60 dunning|recovered_7d 1",
    ];
    assert_eq!(hourly(&after(&known), &["dunning|"]), twice);
    let [created, first, second, recovered] = known;
    let late = after(&[recovered.clone(), second.clone(), first.clone(), created]);
    assert_eq!(hourly(&late, &["dunning|"]), twice);
    // Two events of one second are one change.
    let repeated = after(&[first.clone(), first, recovered]);
    let once = ["1 dunning|entered 1", "1 dunning|recovered_7d 1"];
    assert_eq!(hourly(&repeated, &["dunning|"]), once);
}
