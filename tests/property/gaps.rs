//! Histories of which events are never delivered. The model knows every state of the object, and which
//! events were delivered and say what they changed; revwatch has only `previous_attributes`.

use fastrand::Rng;
use revwatch_core::condition::ConditionKind;
use revwatch_core::entity::Entity;
use revwatch_core::event::Event;
use revwatch_core::observe::{ObserveSettings, observe};
use serde_json::{Value, json};

use super::first_sight::{changed, merged};

const START_S: i64 = 1_699_999_200;
const EVENTS: usize = 12;

/// Whether a state fulfils a condition.
type Holds = fn(&Value) -> bool;

/// An object, the patches that may happen to it, and which conditions a state of it fulfils.
struct Life {
    updated: &'static str,
    object: Value,
    patches: Vec<Value>,
    conditions: &'static [(ConditionKind, Holds)],
}

/// One event: the states before and after it, and whether it has `previous_attributes`.
struct Happened {
    at_s: i64,
    before: Value,
    now: Value,
    is_silent: bool,
    body: String,
}

fn subscription() -> Life {
    let mut patches: Vec<Value> = ["active", "past_due", "past_due", "trialing", "unpaid"]
        .map(|status| json!({"status": status}))
        .into();
    patches.extend([
        json!({"metadata": {"a": "1"}}),
        json!({"cancel_at_period_end": true}),
    ]);
    Life {
        updated: "customer.subscription.updated",
        object: json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "currency": "usd",
            "status": "active", "trial_end": START_S * 2, "cancel_at_period_end": false, "metadata": {}}),
        patches,
        conditions: &[
            (ConditionKind::PastDue, |s| s["status"] == "past_due"),
            (ConditionKind::TrialEnding, |s| s["status"] == "trialing"),
        ],
    }
}

fn account() -> Life {
    let flags = |charges, payouts| json!({"charges_enabled": charges, "payouts_enabled": payouts});
    let requirements = |reason: Value, currently_due: &[&str], past_due: &[&str]| json!({"requirements": {"disabled_reason": reason, "currently_due": currently_due, "past_due": past_due}});
    Life {
        updated: "account.updated",
        object: json!({"id": "acct_1", "object": "account", "charges_enabled": true, "payouts_enabled": true,
            "details_submitted": true, "email": "a",
            "requirements": {"disabled_reason": null, "currently_due": [], "past_due": []}}),
        patches: vec![
            flags(true, true),
            flags(true, false),
            flags(false, true),
            flags(false, false),
            json!({"charges_enabled": false}),
            requirements(Value::Null, &[], &[]),
            requirements(Value::Null, &["a"], &[]),
            requirements(json!("requirements.past_due"), &["a", "b"], &["a"]),
            requirements(json!("rejected.fraud"), &["b"], &[]),
            json!({"email": "b"}),
            json!({"email": "c"}),
        ],
        conditions: &[
            (ConditionKind::PayoutsBlocked, |a| {
                enabled(a) == (true, false)
            }),
            (ConditionKind::BalanceBlocked, |a| {
                enabled(a) == (true, false)
            }),
            (ConditionKind::ChargesBlocked, |a| {
                enabled(a) == (false, true)
            }),
            (ConditionKind::ChargesLost, |a| {
                a["charges_enabled"] == false
            }),
            (ConditionKind::AccountDisabled, |a| {
                enabled(a) == (false, false) && reason(a) == "rejected.fraud"
            }),
            (ConditionKind::AccountRestricted, |a| match enabled(a) {
                (true, true) => reason(a) != Value::Null,
                enabled => enabled == (false, false) && reason(a) == "requirements.past_due",
            }),
            (ConditionKind::RequirementsDue, |a| {
                a["requirements"]["currently_due"] != json!([])
            }),
        ],
    }
}

fn enabled(account: &Value) -> (bool, bool) {
    (
        account["charges_enabled"] == true,
        account["payouts_enabled"] == true,
    )
}

fn reason(account: &Value) -> Value {
    account["requirements"]["disabled_reason"].clone()
}

fn capability() -> Life {
    Life {
        updated: "capability.updated",
        object: json!({"id": "transfers", "object": "capability", "account": "acct_1", "status": "unrequested",
            "requested": true, "requirements": {"disabled_reason": null}}),
        patches: ["active", "pending", "inactive", "disabled"]
            .map(|status| json!({"status": status}))
            .into_iter()
            .chain([
                json!({"requested": false}),
                json!({"requested": true}),
                json!({"requirements": {"disabled_reason": "rejected.other"}}),
                json!({"requirements": {"disabled_reason": "requirements.fields_needed"}}),
            ])
            .collect(),
        conditions: &[
            (ConditionKind::CapabilityWaiting, |c| {
                let waits = c["status"] == "pending" || c["status"] == "inactive";
                waits && c["requested"] == true && !is_rejected(c)
            }),
            (ConditionKind::CapabilityDisabled, |c| {
                let may_be = c["status"] != "active" && c["status"] != "unrequested";
                c["status"] == "disabled" || may_be && is_rejected(c)
            }),
        ],
    }
}

fn is_rejected(capability: &Value) -> bool {
    capability["requirements"]["disabled_reason"] == "rejected.other"
}

fn dispute() -> Life {
    Life {
        updated: "charge.dispute.updated",
        object: json!({"id": "dp_1", "object": "dispute", "amount": 500, "currency": "usd", "metadata": {},
            "status": "needs_response"}),
        patches: vec![
            json!({"status": "needs_response"}),
            json!({"status": "under_review"}),
            json!({"metadata": {"a": "1"}}),
        ],
        // It is about the status as it is now.
        conditions: &[
            (ConditionKind::DisputeOpen, |d| {
                d["status"] == "needs_response"
            }),
            (ConditionKind::DisputeOpen, |d| {
                d["status"] == "under_review"
            }),
        ],
    }
}

impl Life {
    fn history(&self, rng: &mut Rng) -> Vec<Happened> {
        let mut now = self.object.clone();
        let mut at_s = START_S;
        let mut history = Vec::new();
        for n in 0..EVENTS {
            at_s += rng.i64(1..40_000);
            let before = now.clone();
            let mut data = json!({});
            if let Some(patch) = rng.choice(&self.patches) {
                data["previous_attributes"] = changed(&mut now, patch);
            }
            let is_silent = rng.u8(..8) == 0;
            if is_silent {
                data["previous_attributes"].take();
            }
            data["object"] = now.clone();
            let is_about_account =
                ["account.updated", "capability.updated"].contains(&self.updated);
            let body = json!({"id": format!("evt_{n}"), "type": self.updated, "created": at_s,
                "account": is_about_account.then_some("acct_1"), "data": data});
            history.push(Happened {
                at_s,
                before,
                now: now.clone(),
                is_silent,
                body: body.to_string(),
            });
        }
        history
    }
}

/// Since when it holds, as these events show: it did not hold before, or the first of them shows it.
fn since_s(known: &[&Happened], holds: impl Fn(&Value) -> bool) -> Option<i64> {
    let mut since_s = None;
    for event in known.iter().rev().take_while(|e| holds(&e.now)) {
        since_s = Some(event.at_s);
        if !event.is_silent && !holds(&event.before) {
            break;
        }
    }
    since_s
}

fn entity_of(known: &[&Happened]) -> Entity {
    let observed: Vec<_> = known
        .iter()
        .map(|happened| {
            let event = Event::parse(happened.body.as_bytes()).expect("an event");
            observe(&event, &ObserveSettings::default()).expect("readable")
        })
        .collect();
    merged(observed.iter())
}

#[test]
fn a_condition_holds_since_the_last_event_that_shows_its_start() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    let mut proven = 0;
    for seed in first..first + 1_000 {
        let mut rng = Rng::with_seed(seed);
        for life in [subscription(), account(), capability(), dispute()] {
            let history = life.history(&mut rng);
            let lost = rng.f64();
            let known: Vec<_> = history.iter().filter(|_| rng.f64() > lost).collect();
            if known.is_empty() {
                continue;
            }
            let mut delivered = known.clone();
            rng.shuffle(&mut delivered);
            let entity = entity_of(&delivered);
            for condition in entity.conditions() {
                let since: Vec<_> = life
                    .conditions
                    .iter()
                    .filter(|(kind, _)| *kind == condition.key.kind)
                    .filter_map(|(_, holds)| Some((since_s(&known, holds)?, holds)))
                    .collect();
                let Some((expected_s, holds)) = since.first() else {
                    let kind = condition.key.kind;
                    // The subscriptions of these lives have no items.
                    let others = [
                        ConditionKind::OnboardingIncomplete,
                        ConditionKind::MrrIncomplete,
                    ];
                    assert!(others.contains(&kind), "seed {seed}: {kind:?}");
                    continue;
                };
                assert_eq!(
                    condition.since_s, *expected_s,
                    "seed {seed}: {condition:?} of {entity:#?}"
                );
                let complete: Vec<_> = history
                    .iter()
                    .filter(|e| e.at_s <= known[known.len() - 1].at_s)
                    .collect();
                let is_true = since_s(&complete, holds) == Some(*expected_s);
                proven += usize::from(is_true && known.len() < complete.len());
            }
        }
    }
    assert!(
        proven > 500,
        "events are missing, and the rest says since when: {proven}"
    );
}
