//! What an event does not say of an account is as before it; what no event says is unknown.

use serde_json::{Value, json};

use super::super::Entity;
use crate::condition::ConditionKind;
use crate::counters::Bucket;
use crate::event::Event;
use crate::observe::{ObserveSettings, observe};

fn account(charges: bool, requirements: &Value) -> Value {
    json!({"id": "acct_1", "created": 50, "charges_enabled": charges, "payouts_enabled": charges, "details_submitted": true,
        "requirements": requirements, "external_accounts": {"data": []}})
}

/// The account after these events, which come in any order: each says the same.
fn after(events: &[(i64, Value)]) -> Entity {
    let bodies: Vec<String> = events
        .iter()
        .map(|(created_s, object)| {
            json!({"id": format!("evt_{created_s}"), "type": "account.updated", "created": created_s, "account": "acct_1",
                "data": {"object": object}})
            .to_string()
        })
        .collect();
    let merged = |bodies: &mut dyn Iterator<Item = &String>| {
        let mut entity: Option<Entity> = None;
        for body in bodies {
            let event = Event::parse(body.as_bytes()).expect("an event");
            let seen = observe(&event, &ObserveSettings::default()).expect("readable");
            let entity = entity.get_or_insert_with(|| Entity::new(&seen[0].key));
            seen.iter().for_each(|it| entity.merge(it));
        }
        entity.expect("an event")
    };
    let entity = merged(&mut bodies.iter());
    assert_eq!(merged(&mut bodies.iter().rev()).encode(), entity.encode());
    entity
}

/// What a field says that has none of its documented values; `None` is absence.
fn unknown() -> Vec<Option<Value>> {
    let odd = [json!(null), json!(7), json!("x"), json!(true), json!([7])];
    let mut unknown: Vec<_> = odd.into_iter().map(Some).collect();
    unknown.push(None);
    unknown
}

fn with(object: &Value, place: &[&str], value: Option<&Value>) -> Value {
    let mut object = object.clone();
    let (field, path) = place.split_last().expect("a field");
    let parent = path.iter().fold(&mut object, |at, step| &mut at[*step]);
    match value {
        Some(value) => parent[*field] = value.clone(),
        None => drop(parent.as_object_mut().expect("an object").remove(*field)),
    }
    object
}

/// Kind, since and detail of each condition.
fn conditions(entity: &Entity) -> Vec<(ConditionKind, i64, Option<String>)> {
    let conditions = entity.conditions().into_iter();
    conditions
        .map(|c| (c.key.kind, c.since_s, c.detail))
        .collect()
}

fn risk(entity: &Entity) -> String {
    let counters = entity.contributions();
    let risks: Vec<_> = counters.under(Bucket::Current, "accounts").collect();
    assert_eq!(risks.len(), 1, "{risks:?}");
    risks[0].0[0].to_owned()
}

#[test]
fn requirements_that_an_event_does_not_say_are_as_before_it() {
    let due = json!({"currently_due": ["a"], "past_due": ["b"], "disabled_reason": null});
    let nothing = json!({"currently_due": [], "past_due": [], "disabled_reason": null});
    let expected = [
        (
            ConditionKind::AccountRestricted,
            100,
            Some("; needs b".to_owned()),
        ),
        (
            ConditionKind::RequirementsDue,
            100,
            Some("1 due, 1 overdue; needs a".to_owned()),
        ),
    ];
    let first = (100, account(true, &due));
    for value in unknown() {
        for place in [
            &["requirements"][..],
            &["requirements", "currently_due"],
            &["requirements", "past_due"],
        ] {
            let odd = with(&account(true, &due), place, value.as_ref());
            let seen = after(&[first.clone(), (200, odd.clone())]);
            assert_eq!(conditions(&seen), expected, "{place:?} {value:?}");
            assert_eq!(risk(&seen), "high");
            let over = after(&[
                first.clone(),
                (200, odd.clone()),
                (300, account(true, &nothing)),
            ]);
            assert_eq!((conditions(&over), risk(&over)), (Vec::new(), "low".into()));
            // Something new does not begin with what is not said either.
            let quiet = after(&[
                (100, account(true, &nothing)),
                (200, with(&account(true, &nothing), place, value.as_ref())),
            ]);
            assert_eq!(
                (conditions(&quiet), risk(&quiet)),
                (Vec::new(), "low".into())
            );
        }
    }
}

#[test]
fn an_odd_reason_costs_only_itself() {
    let rejected =
        json!({"currently_due": [], "past_due": [], "disabled_reason": "rejected.fraud"});
    let disabled = account(false, &rejected);
    let was = |entity: &Entity| {
        let mut kinds = conditions(entity).into_iter();
        kinds.find(|(kind, ..)| *kind == ConditionKind::AccountDisabled)
    };
    let expected = Some((
        ConditionKind::AccountDisabled,
        100,
        Some("rejected.fraud".to_owned()),
    ));
    for value in unknown() {
        let is_said = matches!(value, Some(Value::Null | Value::String(_)));
        let odd = with(
            &disabled,
            &["requirements", "disabled_reason"],
            value.as_ref(),
        );
        let seen = after(&[(100, disabled.clone()), (200, odd)]);
        if !is_said {
            assert_eq!(
                (was(&seen), risk(&seen)),
                (expected.clone(), "critical".into()),
                "{value:?}"
            );
        }
        let due = json!({"currently_due": ["a"], "past_due": [], "disabled_reason": value});
        let alone = after(&[(100, account(true, &due))]);
        let mut kinds = conditions(&alone).into_iter().map(|(kind, ..)| kind);
        assert!(
            kinds.any(|kind| kind == ConditionKind::RequirementsDue),
            "{value:?}"
        );
    }
}

#[test]
fn what_no_event_says_is_unknown() {
    for value in unknown() {
        let known = account(
            true,
            &json!({"currently_due": [], "past_due": [], "disabled_reason": null}),
        );
        let of = |place: &[&str]| after(&[(100, with(&known, place, value.as_ref()))]);
        let silent = of(&["requirements"]);
        assert_eq!(
            (conditions(&silent), risk(&silent)),
            (Vec::new(), "unknown".into())
        );
        let Entity::Account(account) = of(&["details_submitted"]) else {
            panic!("an account")
        };
        let is_said = value == Some(json!(true));
        assert_eq!(
            account.current().map(|f| f.details_submitted),
            Some(is_said.then_some(true))
        );
        assert!(
            account
                .unreached
                .keys()
                .all(|m| m.as_str() != "onboarding_started"),
            "{value:?}"
        );
    }
}
