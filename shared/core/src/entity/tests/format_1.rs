//! Accounts of encodings 1 and 2: what they did not store is read from their states.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::account::{Account, Milestone};
use super::super::timeline::fingerprint;
use super::super::{Entity, EntityKey, EntityKind};
use super::first_sight::{FETCHED_ACCOUNT, HOUR_S, account, after};
use crate::condition::ConditionKind;

const UPDATED: &str = "account.updated";

fn key() -> EntityKey {
    EntityKey::new(EntityKind::Account, "acct_1")
}

fn decoded(mut body: Vec<u8>, encoding: u8) -> Account {
    body[0] = encoding;
    match Entity::decode(&key(), &body).expect("readable") {
        Entity::Account(account) => *account,
        other => panic!("{other:?}"),
    }
}

/// The earliest state in which each milestone was so, whatever its event says of before.
fn milestones_of_format_1(account: &Account) -> BTreeMap<Milestone, i64> {
    let mut milestones = BTreeMap::new();
    for state in account.timeline.in_order() {
        let facts = &state.facts;
        for (is_so, milestone) in [
            (
                facts.details_submitted == Some(true),
                Milestone::OnboardingStarted,
            ),
            (facts.charges_enabled, Milestone::ChargesEnabled),
            (
                facts.charges_enabled && facts.payouts_enabled,
                Milestone::OnboardingCompleted,
            ),
        ] {
            if is_so {
                milestones.entry(milestone).or_insert(state.created_s);
            }
        }
    }
    milestones
}

/// Hour, type, whether it may take charges, and `previous_attributes`.
type Step = (i64, &'static str, bool, Option<Value>);

/// A new build, and the same as an older encoding stored and this version decodes it. Payout destinations are not in
/// the states.
fn fresh_and_converted(events: &[Step], encoding: u8) -> [Account; 2] {
    let object = |(_, _, charges, _): &Step| {
        let mut object = account(*charges);
        object["created"] = json!(HOUR_S);
        object["external_accounts"] = Value::Null;
        object
    };
    let objects: Vec<Value> = events.iter().map(object).collect();
    let events = events.iter().zip(&objects);
    let events: Vec<_> = events
        .map(|((hour, kind, _, previous), object)| (*hour, *kind, object, previous.clone()))
        .collect();
    let Entity::Account(fresh) = after(&events) else {
        panic!("an account");
    };
    let mut fresh = *fresh;
    fresh.unreached.remove(&Milestone::ExternalAccountAdded);
    let old = Account {
        milestones: milestones_of_format_1(&fresh),
        doubts: BTreeMap::new(),
        unreached: BTreeMap::new(),
        ..fresh.clone()
    };
    [
        fresh,
        decoded(Entity::Account(Box::new(old)).encode(), encoding),
    ]
}

/// C1, C11.
#[test]
fn what_was_before_an_event_is_read_from_the_states() {
    let lost = || Some(json!({"charges_enabled": true, "payouts_enabled": true}));
    let back = || Some(json!({"charges_enabled": false, "payouts_enabled": false}));
    let other = || Some(json!({"email": "old"}));
    let table: [&[Step]; 9] = [
        &[(9, UPDATED, false, lost())],
        &[(9, UPDATED, true, other())],
        &[(9, UPDATED, false, other()), (10, UPDATED, true, back())],
        &[(1, UPDATED, false, None), (9, UPDATED, true, back())],
        &[(9, UPDATED, true, other()), (9, UPDATED, true, back())],
        &[(9, UPDATED, true, None), (10, UPDATED, false, lost())],
        &[(9, FETCHED_ACCOUNT, true, None), (8, UPDATED, false, None)],
        &[(9, UPDATED, false, lost()), (10, UPDATED, true, back())],
        &[
            (3000, UPDATED, false, other()),
            (3001, UPDATED, true, back()),
        ],
    ];
    for (events, encoding) in table.iter().flat_map(|events| [(events, 1), (events, 2)]) {
        let [fresh, converted] = fresh_and_converted(events, encoding);
        assert_eq!(converted, fresh, "encoding {encoding}: {events:?}");
    }
}

#[test]
fn a_milestone_that_no_state_explains_stays() {
    let [fresh, _] = fresh_and_converted(&[(9, UPDATED, true, Some(json!({"email": "old"})))], 1);
    let reached_s = 8 * HOUR_S;
    let old = Account {
        milestones: [(Milestone::ChargesEnabled, reached_s)].into(),
        doubts: BTreeMap::new(),
        ..fresh
    };
    let converted = decoded(Entity::Account(Box::new(old)).encode(), 1);
    assert_eq!(
        converted.milestone_s(Milestone::ChargesEnabled),
        Some(reached_s)
    );
}

/// The bytes as format 1 wrote them: an array of states.
#[test]
fn charges_that_an_account_lost_with_its_first_event_are_lost() {
    let at_s = 9 * HOUR_S;
    let none = None::<()>;
    let facts = (false, false, true, none, 0, 0, (0, 0));
    let was = |path| (path, fingerprint("true"), fingerprint("false"));
    let changes = [was("charges_enabled"), was("payouts_enabled")];
    let state = (at_s, "evt_1", 1, facts, changes);
    let milestones = BTreeMap::from([(Milestone::OnboardingStarted, at_s)]);
    let empty = BTreeMap::<(), ()>::new();
    let stored = (
        "DE",
        HOUR_S,
        at_s,
        milestones,
        none,
        none,
        &empty,
        [state],
        &empty,
        none,
    );
    let mut body = vec![1];
    body.extend(rmp_serde::to_vec(&stored).expect("encodes"));
    let account = Entity::Account(Box::new(decoded(body, 1)));
    let conditions = account.conditions();
    let kinds: Vec<_> = conditions.iter().map(|it| it.key.kind).collect();
    assert!(kinds.contains(&ConditionKind::ChargesLost), "{kinds:?}");
    assert!(
        !kinds.contains(&ConditionKind::OnboardingIncomplete),
        "{kinds:?}"
    );
}
