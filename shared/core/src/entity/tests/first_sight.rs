//! The first event about an object is not its beginning: what was before it is taken from
//! `created` and `previous_attributes`, and what they do not say is unknown.

use serde_json::{Value, json};

use super::super::timeline::HORIZON_S;
use super::super::{Entity, Observation};
use crate::condition::{BeganBefore, ConditionKind};
use crate::counters::Bucket;
use crate::event::{Event, FETCHED};
use crate::observe::{ObserveSettings, observe};
use crate::relay::Relay;

pub(super) const HOUR_S: i64 = 3600;
/// The state of an account as Stripe's API gave it: no event says what happened.
pub(super) const FETCHED_ACCOUNT: &str = "fetched account.updated";

/// The entity after these events: hour, type, object and `previous_attributes`.
pub(super) fn after(events: &[(i64, &str, &Value, Option<Value>)]) -> Entity {
    let mut entity: Option<Entity> = None;
    for (n, (hour, event_type, object, previous)) in events.iter().enumerate() {
        let id = match *event_type {
            FETCHED_ACCOUNT => format!("{FETCHED}{n}"),
            _ => format!("evt_{n}"),
        };
        let event_type = event_type.trim_start_matches("fetched ");
        let mut body = json!({"id": id, "type": event_type, "created": hour * HOUR_S,
            "data": {"object": object}});
        if event_type.starts_with("account") || event_type.starts_with("capability") {
            body["account"] = json!("acct_1");
        }
        if let Some(previous) = previous {
            body["data"]["previous_attributes"] = previous.clone();
        }
        let body = body.to_string();
        let event = Event::parse(body.as_bytes()).expect("an event");
        let observations: Vec<Observation> =
            observe(&event, &ObserveSettings::default()).expect("readable");
        let observation = observations.first().expect("an observation");
        let entity = entity.get_or_insert_with(|| Entity::new(&observation.key));
        let of_entity = observations.iter().filter(|o| o.key == observation.key);
        of_entity.for_each(|observation| entity.merge(observation));
    }
    entity.expect("an event")
}

/// The counters of hours whose name begins so, as `hour name by`: of the entity, and of its customer because of it.
pub(super) fn hourly(entity: &Entity, families: &[&str]) -> Vec<String> {
    let mut counters = entity.contributions();
    if let Some(relay) = Relay::all_of(entity).pop() {
        let mut customer = Entity::new(&relay.to);
        let observed = relay.observe(Some(entity));
        customer.merge(&observed.expect("it is stored"));
        counters.merge(customer.contributions(), 1);
    }
    let mut found: Vec<String> = counters
        .iter()
        .filter(|(_, name, _)| families.iter().any(|family| name.starts_with(family)))
        .filter_map(|(bucket, name, by)| match bucket {
            Bucket::Hour(hour) => Some(format!("{hour} {name} {by}")),
            Bucket::Current | Bucket::Minute(_) => None,
        })
        .collect();
    found.sort();
    found
}

pub(super) const UPDATED: &str = "customer.subscription.updated";
const OF_SUBSCRIPTIONS: [&str; 6] = [
    "base|",
    "churn|",
    "mrr_change|",
    "dunning|",
    "trial|",
    "plan|",
];

pub(super) fn subscription(status: &str) -> Value {
    json!({"id": "sub_1", "status": status, "customer": "cus_1", "currency": "usd", "cancel_at_period_end": false,
        "items": {"data": [{"quantity": 1, "price": {"unit_amount": 1000, "recurring": {"interval": "month", "interval_count": 1}}}]}})
}

/// R1, R2, R5.
#[test]
fn a_subscription_that_was_so_before_is_neither_gained_nor_lost() {
    let unrelated = || Some(json!({"metadata": {"a": "1"}}));
    for status in ["active", "past_due", "trialing", "canceled"] {
        let seen = after(&[(1, UPDATED, &subscription(status), unrelated())]);
        assert_eq!(hourly(&seen, &OF_SUBSCRIPTIONS), [""; 0], "{status}");
    }
    let counters = after(&[(1, UPDATED, &subscription("past_due"), unrelated())]).contributions();
    let now = |name: &[&str]| counters.get(Bucket::Current, name);
    assert_eq!((now(&["base", "all"]), now(&["mrr", "usd"])), (1, 1000));
}

/// R2, R5: the status before is found by its fingerprint.
#[test]
fn a_subscription_counts_what_its_first_event_changed() {
    let from = |status: &str, was: Value| {
        let seen = after(&[(1, UPDATED, &subscription(status), Some(was))]);
        hourly(&seen, &OF_SUBSCRIPTIONS)
    };
    assert_eq!(
        from("past_due", json!({"status": "active"})),
        ["1 base|past_due 1", "1 dunning|entered 1"]
    );
    assert_eq!(
        from("active", json!({"status": "past_due"})),
        ["1 base|past_due -1"]
    );
    assert_eq!(
        from("active", json!({"status": "trialing"})),
        [
            "1 base|all 1",
            "1 base|paying 1",
            "1 base|subscribers 1",
            "1 mrr_change|usd 1000"
        ],
        "it may have paid before the trial"
    );
    assert_eq!(
        from("canceled", json!({"status": "active"})),
        [
            "1 base|all -1",
            "1 base|paying -1",
            "1 base|subscribers -1",
            "1 churn|lost 1",
            "1 mrr_change|usd -1000"
        ]
    );
    assert_eq!(
        from("active", json!({"cancel_at_period_end": true})),
        [
            "1 base|paying 1",
            "1 base|subscribers 1",
            "1 mrr_change|usd 1000"
        ],
        "a cancellation that was withdrawn"
    );
    assert_eq!(
        from("active", json!({"items": {"data": []}})),
        [""; 0],
        "the amount before is unknown"
    );
    assert_eq!(
        from(
            "active",
            json!({"status": "a status that Stripe adds later"})
        ),
        [""; 0]
    );
}

/// R5: without previous values, what the event shows happened with it.
#[test]
fn a_subscription_without_previous_values_is_new() {
    for event_type in ["customer.subscription.created", UPDATED] {
        let seen = after(&[(1, event_type, &subscription("active"), None)]);
        assert_eq!(
            hourly(&seen, &["base|all", "churn|"]),
            ["1 base|all 1", "1 churn|gained 1"],
            "{event_type}"
        );
    }
}

/// It began at this hour.
fn subscription_since(hour: i64, status: &str) -> Value {
    let mut object = subscription(status);
    object["start_date"] = json!(hour * HOUR_S);
    object
}

/// What Stripe sends without `previous_attributes`, and what another sender may.
const SILENT: [&str; 5] = [
    "customer.subscription.pending_update_applied",
    "customer.subscription.resumed",
    "customer.subscription.paused",
    "customer.subscription.trial_will_end",
    UPDATED,
];

/// R1, R2, R5: of a subscription of two days, such an event does not say what was before it.
#[test]
fn an_old_subscription_is_not_gained_by_an_event_that_does_not_say_what_it_changed() {
    for event_type in SILENT {
        for status in ["active", "past_due", "trialing", "canceled"] {
            let old = after(&[(50, event_type, &subscription_since(2, status), None)]);
            assert_eq!(hourly(&old, &OF_SUBSCRIPTIONS), [""; 0], "{event_type}");
            let began = ("status (first seen) → ".to_owned() + status, true);
            let first = old.history().into_iter().next().expect("a transition");
            assert_eq!((first.what, first.expected), began, "{event_type}");
        }
        let seen = after(&[(50, event_type, &subscription_since(2, "past_due"), None)]);
        let now = |name: &[&str]| seen.contributions().get(Bucket::Current, name);
        assert_eq!((now(&["base", "all"]), now(&["mrr", "usd"])), (1, 1000));
        let conditions = seen.conditions();
        let since: Vec<_> = conditions
            .iter()
            .map(|c| (c.since_s / HOUR_S, c.began_before))
            .collect();
        assert_eq!(since, [(50, Some(BeganBefore::FirstSeen))], "at least");

        let new = after(&[(50, event_type, &subscription_since(49, "active"), None)]);
        assert_eq!(hourly(&new, &["churn|"]), ["50 churn|gained 1"]);
        let mut undated = subscription_since(49, "past_due");
        undated["start_date"] = Value::Null;
        let unknown = after(&[(50, event_type, &undated, None)]);
        assert!(unknown.conditions()[0].began_before.is_none());
        undated["created"] = json!(2 * HOUR_S);
        let old = after(&[(50, event_type, &undated, None)]);
        assert!(old.conditions()[0].began_before.is_some());
    }
}

/// R5: what the next event changed is known, and so is what an earlier one says that arrives late.
#[test]
fn an_old_subscription_counts_what_changed_after_it_was_first_seen() {
    let [active, past_due] = ["active", "past_due"].map(|status| subscription_since(2, status));
    let silent = (50, SILENT[0], &active, None);
    let left = (51, UPDATED, &past_due, None);
    let found = |events: &[_]| hourly(&after(events), &OF_SUBSCRIPTIONS);
    let entered = ["51 base|past_due 1", "51 dunning|entered 1"];
    assert_eq!(found(&[silent.clone(), left.clone()]), entered);
    assert_eq!(found(&[left, silent.clone()]), entered);

    let created = (2, "customer.subscription.created", &active, None);
    let gained = ["2 base|all 1", "2 churn|gained 1"];
    let late = after(&[silent.clone(), created]);
    assert_eq!(hourly(&late, &["base|all", "churn|"]), gained);

    // Another event says when it began, in any order.
    let undated = subscription("active");
    let undated = (49, UPDATED, &undated, None);
    assert_eq!(found(&[undated.clone(), silent.clone()]), [""; 0]);
    assert_eq!(found(&[silent, undated]), [""; 0]);
}

pub(super) fn account(charges: bool) -> Value {
    json!({"id": "acct_1", "created": HOUR_S, "charges_enabled": charges, "payouts_enabled": true,
        "details_submitted": true, "external_accounts": {"data": [{}]}})
}

const OF_ACCOUNTS: [&str; 5] = [
    "milestone|",
    "stage|",
    "onboarded|",
    "charging_change",
    "deauthorized",
];

/// C1, C11, C14, C16.
#[test]
fn an_account_that_has_charged_for_long_is_not_onboarded_now() {
    let updated = "account.updated";
    let created = "1 milestone|account_created 1";
    let unrelated = Some(json!({"email": "old@example.com"}));
    let seen = after(&[(9, updated, &account(true), unrelated)]);
    assert_eq!(hourly(&seen, &OF_ACCOUNTS), [created]);
    let counters = seen.contributions();
    let now = |name: &[&str]| counters.get(Bucket::Current, name);
    assert_eq!(now(&["funnel", "onboarding_completed"]), 1, "but it is");
    assert!(
        counters
            .iter()
            .all(|(_, name, _)| !name.starts_with("onboarding|"))
    );

    // One that says when it was reached wins, whichever arrives first.
    let reached = Some(json!({"charges_enabled": false}));
    let now = after(&[(9, updated, &account(true), reached)]);
    let expected = [
        "9 charging_change 1",
        created,
        "9 milestone|charges_enabled 1",
        "9 milestone|onboarding_completed 1",
        "9 onboarded|count 1",
        &format!("9 onboarded|seconds {}", 8 * HOUR_S),
        "9 stage|onboarding_completed|count 1",
    ];
    let mut expected: Vec<_> = expected.map(str::to_owned).into();
    expected.sort();
    let mut found = hourly(&now, &OF_ACCOUNTS);
    found.retain(|counter| !counter.ends_with("onboarding_completed|seconds 0"));
    assert_eq!(found, expected);
}

/// C1, C11: an account of years gets its charges back. It was not onboarded then.
#[test]
fn an_old_account_whose_charges_are_enabled_again_is_not_onboarded() {
    let updated = "account.updated";
    let of_onboarding = ["milestone|charges_enabled", "onboarded|count", "charging"];
    let found = |age_h: i64, submitted: bool, events: &[(i64, bool)]| {
        let objects: Vec<_> = events
            .iter()
            .map(|(at_h, charges)| {
                let mut object = account(*charges);
                object["created"] = json!((2000 - age_h) * HOUR_S);
                object["details_submitted"] = json!(submitted || *charges);
                let said = Some(json!({"charges_enabled": !charges}));
                let said = said.filter(|_| *charges).or(Some(json!({"email": "a"})));
                (*at_h, object, said)
            })
            .collect();
        let events: Vec<_> = objects
            .iter()
            .map(|(at_h, object, said)| (*at_h, updated, object, said.clone()))
            .collect();
        let entity = after(&events);
        let funnel = entity
            .contributions()
            .get(Bucket::Current, &["funnel", "charges_enabled"]);
        (hourly(&entity, &of_onboarding), funnel)
    };
    let charging = "2000 charging_change 1".to_owned();
    let onboarded = vec![
        charging.clone(),
        "2000 milestone|charges_enabled 1".to_owned(),
        "2000 onboarded|count 1".to_owned(),
    ];
    let horizon_h = HORIZON_S / HOUR_S;
    let enabled = (2000, true);
    let table = [
        ("young", horizon_h, true, vec![enabled], true),
        ("first sight", horizon_h + 1, true, vec![enabled], false),
        (
            "first seen without charges",
            horizon_h + 11,
            true,
            vec![(1990, false), enabled],
            false,
        ),
        (
            "seen without charges when young",
            horizon_h + 10,
            true,
            vec![(1990, false), enabled],
            true,
        ),
        (
            "had never submitted its details",
            horizon_h + 11,
            false,
            vec![(1990, false), enabled],
            true,
        ),
    ];
    for (case, age_h, submitted, mut events, is_known) in table {
        let expected = if is_known {
            &onboarded
        } else {
            &vec![charging.clone()]
        };
        assert_eq!(
            found(age_h, submitted, &events),
            (expected.clone(), 1),
            "{case}"
        );
        events.reverse();
        assert_eq!(
            found(age_h, submitted, &events),
            (expected.clone(), 1),
            "{case}, late"
        );
    }
}

/// C1, C11: a thin event named an account of two years, and it was fetched.
#[test]
fn a_fetched_account_was_onboarded_at_an_unknown_time_unless_an_earlier_state_lacks_it() {
    let created = "1 milestone|account_created 1";
    let seen = after(&[(9, FETCHED_ACCOUNT, &account(true), None)]);
    assert_eq!(hourly(&seen, &OF_ACCOUNTS), [created]);
    let both = [
        (8, FETCHED_ACCOUNT, &account(false), None),
        (9, FETCHED_ACCOUNT, &account(true), None),
    ];
    let expected = [
        created,
        "9 charging_change 1",
        "9 milestone|charges_enabled 1",
        "9 milestone|onboarding_completed 1",
        "9 onboarded|count 1",
    ];
    for order in [[0, 1], [1, 0]] {
        let events = order.map(|n: usize| both[n].clone());
        let mut found = hourly(&after(&events), &OF_ACCOUNTS);
        found.retain(|counter| !counter.contains("seconds") && !counter.contains("stage|"));
        assert_eq!(found, expected);
    }
}

/// C2: `previous_attributes` say that it could take charges.
#[test]
fn an_account_loses_charges_with_the_first_event_about_it() {
    let was = Some(json!({"charges_enabled": true}));
    let lost = after(&[(9, "account.updated", &account(false), was)]);
    let kinds: Vec<_> = lost.conditions().iter().map(|c| c.key.kind).collect();
    assert!(kinds.contains(&ConditionKind::ChargesLost), "{kinds:?}");
    assert_eq!(
        hourly(&lost, &OF_ACCOUNTS),
        ["1 milestone|account_created 1", "9 charging_change -1"]
    );
}

/// C1: no event says when its onboarding began.
#[test]
fn an_account_whose_beginning_no_event_says_is_in_no_cohort() {
    let bank = json!({"id": "ba_1", "last4": "6789"});
    let capability = json!({"id": "transfers", "status": "active"});
    let of_onboarding = ["milestone|", "cohort|", "stage|"];
    for (event_type, object) in [
        ("account.application.deauthorized", &json!({"id": "ca_1"})),
        ("account.external_account.updated", &bank),
        ("capability.updated", &capability),
    ] {
        let seen = after(&[(9, event_type, object, None)]);
        assert_eq!(hourly(&seen, &of_onboarding), [""; 0], "{event_type}");
    }
    let connected = after(&[
        (
            8,
            "account.application.authorized",
            &json!({"id": "ca_1"}),
            None,
        ),
        (9, "account.external_account.created", &bank, None),
    ]);
    assert_eq!(
        hourly(
            &connected,
            &["milestone|", "stage|external_account_added|seconds"]
        ),
        [
            "8 milestone|account_created 1".to_owned(),
            "9 milestone|external_account_added 1".to_owned(),
            format!("9 stage|external_account_added|seconds {HOUR_S}"),
        ]
    );
}

/// C2, C5, C6, C9, K2, R5.
#[test]
fn a_condition_of_the_first_event_began_before_it_if_the_event_says_so() {
    let payout = json!({"id": "po_1", "status": "failed", "amount": 500, "currency": "usd"});
    let invoice = json!({"id": "in_1", "status": "open", "amount_due": 500, "amount_paid": 0, "attempt_count": 2});
    let blocked = json!({"id": "acct_1", "charges_enabled": false, "payouts_enabled": true,
        "requirements": {"currently_due": ["a"]}});
    let waiting = json!({"id": "transfers", "status": "pending"});
    let other = json!({"metadata": {}});
    let table = [
        (UPDATED, &subscription("past_due"), other.clone(), true),
        (
            UPDATED,
            &subscription("past_due"),
            json!({"status": "active"}),
            false,
        ),
        ("payout.updated", &payout, other.clone(), true),
        ("payout.updated", &payout, json!({"status": "paid"}), false),
        ("invoice.updated", &invoice, other.clone(), true),
        (
            "invoice.updated",
            &invoice,
            json!({"attempt_count": 1}),
            true,
        ),
        (
            "invoice.updated",
            &invoice,
            json!({"attempt_count": 0}),
            false,
        ),
        ("account.updated", &blocked, other.clone(), true),
        (
            "account.updated",
            &blocked,
            json!({"charges_enabled": true, "requirements": {"currently_due": []}}),
            false,
        ),
        ("capability.updated", &waiting, other, true),
        (
            "capability.updated",
            &waiting,
            json!({"status": "active"}),
            false,
        ),
    ];
    for (event_type, object, previous, began_before) in table {
        let expected = began_before.then_some(BeganBefore::FirstSeen);
        let said = Some(previous);
        let seen = after(&[(1, event_type, object, said.clone())]);
        let mut conditions = seen.conditions();
        // Its attempt began with the event.
        let others = [ConditionKind::ChargesLost, ConditionKind::AttemptUnreported];
        conditions.retain(|c| !others.contains(&c.key.kind));
        assert!(!conditions.is_empty(), "{event_type}");
        for condition in conditions {
            assert_eq!(
                condition.began_before, expected,
                "{condition:?} with {said:?}"
            );
        }
        let silent = after(&[(1, event_type, object, None)]);
        assert!(silent.conditions().iter().all(|c| c.began_before.is_none()));
    }
}

/// R4: that a trial ends was so before the first event about it, unless that began or dated it.
#[test]
fn a_trial_of_the_first_event_began_before_it_if_the_event_says_so() {
    let end_s = |hours: i64| json!(1_000_000_000 + hours * HOUR_S);
    let trial = |event_type: &'static str, hours, previous: Option<Value>| {
        let mut object = subscription_since(2, "trialing");
        object["trial_end"] = end_s(hours);
        (event_type, object, previous)
    };
    let conditions = |events: &[(&'static str, Value, Option<Value>)]| {
        let events: Vec<_> = (50..)
            .zip(events)
            .map(|(hour, (event_type, object, previous))| {
                (hour, *event_type, object, previous.clone())
            })
            .collect();
        let conditions = after(&events).conditions();
        let [condition] = conditions.as_slice() else {
            panic!("{conditions:?}");
        };
        let due_s = condition.due_s + 3 * 24 * HOUR_S;
        assert!(due_s > 1_000_000_000, "{due_s}");
        (condition.since_s / HOUR_S, condition.began_before)
    };
    let seen = Some(BeganBefore::FirstSeen);
    let other = Some(json!({"metadata": {}}));
    let of_first = |previous| conditions(&[trial(UPDATED, 1, previous)]);
    assert_eq!(of_first(other.clone()), (50, seen));
    assert_eq!(of_first(Some(json!({"status": "active"}))), (50, None));
    assert_eq!(of_first(Some(json!({"trial_end": end_s(9)}))), (50, None));
    assert_eq!(
        of_first(None),
        (50, seen),
        "it does not say what it changed"
    );
    let will_end = "customer.subscription.trial_will_end";
    assert_eq!(conditions(&[trial(will_end, 1, None)]), (50, seen));
    let created = "customer.subscription.created";
    assert_eq!(conditions(&[trial(created, 1, None)]), (50, None));
    // It has its end since the second event: what was known of the earlier end does not say so.
    let moved = [
        trial(UPDATED, 9, other.clone()),
        trial(UPDATED, 1, Some(json!({"trial_end": end_s(9)}))),
        trial(UPDATED, 1, other),
    ];
    assert_eq!(conditions(&moved), (51, None));
}

/// K3: what was so before is no transition that the lifecycle forbids.
#[test]
fn the_history_says_what_was_seen_first() {
    let first = |event_type: &str, object: &Value, previous: Value| {
        let entity = after(&[(1, event_type, object, Some(previous))]);
        let first = entity.history().into_iter().next().expect("a transition");
        (first.what, first.expected)
    };
    let (past_due, other) = (subscription("past_due"), json!({"metadata": {}}));
    assert_eq!(
        first(UPDATED, &past_due, other.clone()),
        ("status (first seen) → past_due".to_owned(), true)
    );
    assert_eq!(
        first(UPDATED, &past_due, json!({"status": "active"})),
        ("status active → past_due".to_owned(), true)
    );
    let payout = json!({"id": "po_1", "status": "failed", "amount": 500, "currency": "usd"});
    assert_eq!(
        first("payout.updated", &payout, other).0,
        "status (first seen) → failed"
    );
    assert_eq!(
        first(
            "account.updated",
            &account(false),
            json!({"charges_enabled": true})
        ),
        ("charges_enabled true → false".to_owned(), false)
    );
}

/// C6: a payout that failed before the first event about it failed in no hour.
#[test]
fn a_payout_counts_in_the_hour_of_its_outcome_only_if_that_is_known() {
    let payout = json!({"id": "po_1", "status": "failed", "amount": 500, "currency": "usd"});
    let late = Some(json!({"metadata": {}}));
    let seen = after(&[(1, "payout.updated", &payout, late.clone())]);
    assert_eq!(hourly(&seen, &["payouts"]), [""; 0]);
    let (failed, updated) = ("payout.failed", "payout.updated");
    let both = after(&[(2, updated, &payout, late), (1, failed, &payout, None)]);
    assert_eq!(
        hourly(&both, &["payouts|"]),
        ["1 payouts|failed|usd 1"],
        "it arrived late"
    );
}

/// Case 14: an account of two days, first seen by an event that does not say what it changed.
#[test]
fn an_event_that_does_not_say_what_it_changed_is_no_onboarding_of_an_older_account() {
    let onboarded = |created_h: i64| {
        let mut object = account(true);
        object["created"] = json!(created_h * HOUR_S);
        let entity = after(&[(50, "account.updated", &object, None)]);
        let counters = entity.contributions();
        let count = |name: &str| counters.get(Bucket::hour_of(50 * HOUR_S), &["milestone", name]);
        let funnel = counters.get(Bucket::Current, &["funnel", "charges_enabled"]);
        (count("charges_enabled"), funnel)
    };
    assert_eq!(onboarded(2), (0, 1), "reached at an unknown time");
    assert_eq!(onboarded(50), (1, 1), "it is new");
}

/// It may have charged, and lost that: whether its onboarding was completed is unknown.
#[test]
fn an_account_that_had_submitted_its_form_before_has_no_condition_of_onboarding() {
    let incomplete_at = |hour: i64, event_type: &str, previous: Option<Value>| {
        let mut object = account(false);
        object["details_submitted"] = json!(true);
        let entity = after(&[(hour, event_type, &object, previous)]);
        let mut conditions = entity.conditions().into_iter();
        conditions.any(|c| c.key.kind == ConditionKind::OnboardingIncomplete)
    };
    let incomplete = |previous| incomplete_at(50, "account.updated", previous);
    assert!(!incomplete(Some(json!({"email": "old@example.com"}))));
    assert!(
        incomplete(Some(json!({"details_submitted": false}))),
        "it has just begun"
    );
    assert!(incomplete(None));
    let old_h = HORIZON_S / HOUR_S + 2;
    for silent in ["account.updated", FETCHED_ACCOUNT] {
        assert!(
            !incomplete_at(old_h, silent, None),
            "{silent} of an old account"
        );
    }
}

/// Of very many events only hashes of ids are kept: which were fetched is kept as well.
#[test]
fn a_fetched_state_stays_one_when_its_id_is_forgotten() {
    let object = account(true);
    let mut events = vec![(9, FETCHED_ACCOUNT, &object, None)];
    events.extend((10..700).map(|hour| {
        (
            hour,
            "account.updated",
            &object,
            Some(json!({"charges_enabled": false})),
        )
    }));
    let entity = after(&events);
    let oldest = |entity: &Entity| {
        let Entity::Account(account) = entity else {
            panic!("{entity:?}");
        };
        let states = account.timeline.in_order();
        (
            states[0].event_id.text().is_none(),
            states[0].is_fetched(),
            states[1].is_fetched(),
        )
    };
    assert_eq!(oldest(&entity), (true, true, false));
    let key = crate::entity::EntityKey::new(crate::entity::EntityKind::Account, "acct_1");
    let stored = Entity::decode(&key, &entity.encode()).expect("decodes");
    assert_eq!(oldest(&stored), (true, true, false));
}
