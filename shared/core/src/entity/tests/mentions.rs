//! Thin events change no fact of the object that they name: it needs its state until one is known that is at
//! least as new.

use serde_json::{Value, json};

use super::super::{Entity, NEEDING_FETCH, Observation};
use super::{sample, samples};
use crate::condition::ConditionKind;
use crate::counters::Bucket;
use crate::entity::kind::{EntityKind, KindRow, NEVER_MADE};
use crate::event::Event;
use crate::observe::{ObserveSettings, observe};

fn observed(body: &Value) -> Vec<Observation> {
    let body = body.to_string();
    let event = Event::parse(body.as_bytes()).expect("an event");
    let seen = observe(&event, &ObserveSettings::default()).expect("readable");
    for observation in &seen {
        assert_eq!(observation.partition(64), event.partition(64), "{body}");
    }
    seen
}

/// 1970-01-01T00:00:`at_s`.
fn thin(id: &str, kind: &str, at_s: i64, object: &str, named: &str) -> Value {
    json!({"id": id, "object": "v2.core.event", "type": kind, "created": format!("1970-01-01T00:00:{at_s:02}.000Z"),
        "related_object": {"id": named, "type": object, "url": format!("/v1/x/{named}")}})
}

fn after<'a>(observed: impl IntoIterator<Item = &'a Observation>) -> Entity {
    let mut entity: Option<Entity> = None;
    for observation in observed {
        let entity = entity.get_or_insert_with(|| Entity::new(&observation.key));
        entity.merge(observation);
    }
    entity.expect("an observation")
}

/// Kind, since and event of each condition that says that the state is needed.
fn needs(entity: &Entity) -> Vec<(ConditionKind, i64, String)> {
    let kinds = [ConditionKind::StateNeeded, ConditionKind::AccountStale];
    let conditions = entity.conditions().into_iter();
    conditions
        .filter(|c| kinds.contains(&c.key.kind))
        .map(|c| (c.key.kind, c.since_s, c.event_id))
        .collect()
}

/// The kinds of object that thin events of v1 name.
fn kinds() -> impl Iterator<Item = &'static KindRow> {
    let all = EntityKind::ALL.into_iter().map(EntityKind::row);
    all.filter(|row| row.kind.is_known_by_id() && row.kind != EntityKind::MissingEvent)
}

/// Case 16: a type that says what happened changes no fact, whatever the kind.
#[test]
fn an_object_that_a_thin_event_names_needs_its_state_and_nothing_else() {
    for row in kinds() {
        let id = format!("{}1", row.id_prefixes[0]);
        let kind = format!("v1.{}.updated", row.event_families[0]);
        let mut body = thin("evt_1", &kind, 9, row.object, &id);
        body["context"] = json!("acct_1");
        let observed = observed(&body);
        let entity = after(&observed);
        assert_eq!((entity.key().kind, entity.key().id), (row.kind, id));
        let condition = match row.name {
            "account" => ConditionKind::AccountStale,
            _ => ConditionKind::StateNeeded,
        };
        assert_eq!(needs(&entity), [(condition, 9, "evt_1".to_owned())]);
        let counters = entity.contributions();
        let counted = counters.get(Bucket::Current, &[NEEDING_FETCH, row.plural]);
        assert_eq!(counted, i64::from(row.name != "account"), "{}", row.name);
        if row.name != "account" {
            assert_eq!(entity.conditions().len(), 1, "{}", row.name);
            assert_eq!(entity.contributions().iter().count(), 1, "{}", row.name);
            assert!(entity.history().is_empty(), "{}", row.name);
        }
        assert_eq!(entity.events().len(), 1, "`state` shows that it arrived");
        let decoded = Entity::decode(&entity.key(), &entity.encode());
        assert_eq!(decoded.as_ref(), Ok(&entity));
    }
}

#[test]
fn a_state_of_the_same_second_or_later_answers_in_any_order() {
    for (_, event_type, object, _) in samples() {
        let (key, stated) = sample(event_type, &object);
        if !key.kind.is_known_by_id() {
            continue;
        }
        let row = key.kind.row();
        if row.kind == EntityKind::MissingEvent {
            continue;
        }
        let kind = format!("v1.{event_type}");
        for (named_s, is_needed) in [(999, false), (1000, false), (1001, true)] {
            let mut body = thin("evt_2", &kind, 0, row.object, &key.id);
            body["created"] = json!(named_s);
            body["context"] = json!("acct_P/acct_1");
            let mention = observed(&body);
            let account = mention
                .iter()
                .all(|m| m.partition(64) == stated.partition(64));
            assert_eq!(account, row.name == "account", "of its owner");
            body["context"] = match row.name {
                "account" => json!("acct_1"),
                _ => json!(null),
            };
            let mention = observed(&body);
            let mut last = stated.clone();
            mention.iter().for_each(|m| last.merge(m));
            mention.iter().for_each(|m| last.merge(m));
            let mut first = after(&mention);
            first.union(&stated);
            assert_eq!(first.encode(), last.encode(), "{key}");
            assert_eq!(!needs(&last).is_empty(), is_needed, "{key} {named_s}");
            assert_eq!(last.history(), stated.history(), "{key}");
        }
    }
}

#[test]
fn of_many_mentions_the_newest_counts() {
    let named = |id: &str, at_s| observed(&thin(id, "v1.payout.paid", at_s, "payout", "po_1"));
    let all = [named("evt_b", 5), named("evt_a", 5), named("evt_c", 4)].concat();
    let (one, other) = (after(&all), after(all.iter().rev()));
    assert_eq!(one.encode(), other.encode());
    let newest = (ConditionKind::StateNeeded, 5, "evt_b".to_owned());
    assert_eq!(needs(&one), [newest]);
}

/// Before format 4 the newest mention was not stored.
#[test]
fn what_was_stored_without_mentions_is_read() {
    for (kind, event_type, object, _) in samples() {
        let (key, entity) = sample(event_type, &object);
        let is_named = kind.is_known_by_id() && kind != EntityKind::MissingEvent;
        if kind == EntityKind::Account || !is_named {
            continue;
        }
        let mut bytes = entity.encode();
        if kind == EntityKind::Customer {
            // No subscriptions.
            bytes.truncate(bytes.len() - 3);
            bytes[1] -= 1;
        }
        assert_eq!(bytes.pop(), Some(0xc0), "{key}: no mention");
        bytes[1] -= 1;
        assert_eq!(Entity::decode(&key, &bytes), Ok(entity));
    }
}

/// The platform's own account is no connected one.
#[test]
fn an_account_is_a_connected_one_only_if_its_event_says_so() {
    let connected = |context: Value| {
        let mut body = thin("evt_1", "v1.account.updated", 9, "account", "acct_1");
        body["context"] = context;
        observed(&body).len()
    };
    assert_eq!(connected(json!("acct_1")), 1);
    assert_eq!(connected(json!("acct_P/acct_1")), 1);
    assert_eq!(connected(json!("acct_P")), 0);
    assert_eq!(connected(json!(null)), 0);
}

#[test]
fn an_object_of_another_kind_changes_nothing() {
    for (kind, object, id) in [
        (
            "v1.subscription_schedule.updated",
            "subscription_schedule",
            "sub_sched_1",
        ),
        ("v1.charge.updated", "charge", "ch_1"),
        ("v1.customer.subscription.updated", "subscription", "in_1"),
        ("v2.billing.cadence.billed", "subscription", "sub_1"),
    ] {
        assert_eq!(observed(&thin("evt_1", kind, 9, object, id)), []);
    }
}

/// Source: <https://docs.stripe.com/webhooks/handle-irrecoverable-events>.
#[test]
fn an_event_that_stripe_failed_to_make_names_its_object_in_its_data() {
    let body = |kind: &str, context: Value| {
        json!({"id": "evt_1", "object": "v2.core.event", "type": kind, "created": "1970-01-01T00:00:09.000Z",
            "data": {"alert_id": "halert_1", "impact": {"context": context, "event_type": "invoice.paid",
            "related_object": {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"}}}})
    };
    for (context, partition_key) in [(json!(null), "in_1"), (json!("acct_1"), "acct_1")] {
        let entity = after(&observed(&body(NEVER_MADE, context)));
        assert_eq!(entity.state().partition_key(), partition_key);
        let need = (ConditionKind::StateNeeded, 9, "evt_1".to_owned());
        assert_eq!(needs(&entity), [need]);
    }
    // Stripe's webhook has no data: what it is about is asked of the API.
    let mut report = body(NEVER_MADE, json!(null));
    report["data"].take();
    let reported = observed(&report);
    let need = (ConditionKind::StateNeeded, 9, "evt_1".to_owned());
    assert_eq!(needs(&after(&reported)), [need]);
    assert_eq!(reported[0].key.kind, EntityKind::MissingEvent);
    report["related_object"] = json!({"id": "evt_1", "type": "v2.core.event"});
    report["created"] = json!(12);
    assert_eq!(observed(&report), [], "only revwatch answers");
    report["id"] = json!("evt_refresh_1");
    let found = observed(&report);
    let (one, other) = (reported.iter().chain(&found), found.iter().chain(&reported));
    assert_eq!(after(one.clone()).encode(), after(other).encode());
    assert_eq!(needs(&after(one)), []);
    let mut union = after(&reported);
    union.union(&after(&found));
    assert_eq!(needs(&union), []);
    // What the API says may be about an object that revwatch does not keep.
    let mut of_charge = body(NEVER_MADE, json!(null));
    of_charge["data"]["impact"]["related_object"] = json!({"id": "ch_1", "type": "charge"});
    assert_eq!(observed(&of_charge), []);
    let other = body("v2.core.health.api_error.resolved", json!(null));
    assert_eq!(observed(&other), []);
}
