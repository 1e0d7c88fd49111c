use serde_json::{Value, json};

use crate::app_event::TYPES;
use crate::bucket::Bucket;
use crate::entity::{Entity, EntityKey, EntityKind, Observation};
use crate::event::Event;
use crate::observe::{ObserveSettings, observe};
use crate::source::Source;
use crate::view::entity::{header, row};

/// What an event of the application says, of `second` within a minute.
fn observed(kind: &str, second: u32, id: &str, data: &Value) -> Observation {
    observed_at(kind, &format!("{second:02}"), id, data)
}

/// The same, with a fraction of the second.
fn observed_at(kind: &str, second: &str, id: &str, data: &Value) -> Observation {
    let body = json!({
        "specversion": "1.0", "id": id, "source": "/app", "type": kind, "data": data,
        "time": format!("2026-01-31T12:00:{second}Z"),
    });
    let body = body.to_string();
    let event = Event::read(Source::App, body.as_bytes()).expect("an event");
    let mut observations = observe(&event, &ObserveSettings::default()).expect("readable");
    assert_eq!(observations.len(), 1, "{kind}");
    let observation = observations.remove(0);
    assert_eq!(observation.partition(64), event.partition(64), "{kind}");
    observation
}

fn entity(observations: &[Observation]) -> Entity {
    let mut entity = Entity::new(&observations[0].key);
    observations.iter().for_each(|it| entity.merge(it));
    entity
}

/// The columns with their values.
fn shown(entity: &Entity) -> Value {
    let cells = row(entity).expect("a row");
    let columns = header(entity.key().kind).into_iter().zip(cells);
    columns
        .map(|(name, cell)| (name.to_owned(), Value::from(cell)))
        .collect()
}

const NOON_S: i64 = 1_769_860_800;

#[test]
fn every_type_changes_an_object_that_is_stored_and_read_again() {
    for row in TYPES {
        let schema: Value = serde_json::from_str(row.schema).expect("JSON");
        let observation = observed(row.name, 0, "1", &schema["examples"][0]);
        let entity = entity(std::slice::from_ref(&observation));
        let key = entity.key();
        assert_eq!(key, observation.key);
        assert!(
            key.kind == EntityKind::Account || key.kind.is_of_app(),
            "{}",
            row.name
        );
        assert_eq!(Entity::decode(&key, &entity.encode()).as_ref(), Ok(&entity));
        assert_eq!(entity.partition(64), observation.partition(64));
        assert_eq!(entity.events().len(), 1, "{}", row.name);
        assert!(entity.events()[0].event_id.as_str().starts_with("app_"));
        // An event of a ticket that no event opened says little.
        let is_counted = !matches!(row.name, "ticket.responded" | "ticket.closed");
        assert_eq!(
            !entity.contributions().is_empty(),
            is_counted,
            "{}",
            row.name
        );
    }
}

#[test]
fn a_ticket_is_the_same_in_any_order() {
    let opened = json!({"ticket": "T-1", "customer": "cus_1", "topic": "billing"});
    let (ticket, later) = (
        json!({"ticket": "T-1"}),
        json!({"ticket": "T-1", "customer": "cus_2", "topic": "other"}),
    );
    let all = [
        observed("ticket.opened", 0, "1", &opened),
        observed("ticket.responded", 20, "2", &ticket),
        observed("ticket.responded", 10, "3", &ticket),
        observed("ticket.closed", 30, "4", &ticket),
        observed("ticket.opened", 30, "5", &later),
        observed("ticket.closed", 25, "6", &ticket),
    ];
    let expected = entity(&all);
    let mut bytes = expected.encode();
    for (from, to) in (0..all.len()).flat_map(|from| (0..all.len()).map(move |to| (from, to))) {
        let mut order = all.to_vec();
        order.swap(from, to);
        order.extend_from_slice(&all[..from]);
        let merged = entity(&order);
        assert_eq!(merged, expected);
        let halves = (entity(&order[..=from]), entity(&order[from..]));
        let mut union = halves.0;
        union.union(&halves.1);
        assert_eq!(union, expected);
        assert_eq!(merged.encode(), bytes);
        bytes = merged.encode();
    }
    assert_eq!(
        shown(&expected),
        json!({
            "id": "T-1", "customer": "cus_2", "topic": "other", "status": "closed",
            "opened_at": "2026-01-31T12:00:00Z", "responded_at": "2026-01-31T12:00:10Z", "closed_at": "2026-01-31T12:00:30Z",
            "first_response_seconds": "10", "realm": "main",
        })
    );
    let counters = expected.contributions();
    let hour = Bucket::hour_of(NOON_S);
    assert_eq!(counters.get(Bucket::Current, &["tickets", "closed"]), 1);
    assert_eq!(counters.get(hour, &["first_response", "seconds"]), 10);
    assert_eq!(counters.get(hour, &["tickets_opened"]), 1);
}

#[test]
fn a_ticket_that_is_opened_again_is_open() {
    let opened = json!({"ticket": "T-1", "customer": "cus_1", "topic": "billing"});
    let ticket = json!({"ticket": "T-1"});
    let status = |all: &[Observation]| shown(&entity(all))["status"].clone();
    let first = observed("ticket.opened", 0, "1", &opened);
    assert_eq!(status(std::slice::from_ref(&first)), "unanswered");
    let closed = observed("ticket.closed", 10, "2", &ticket);
    assert_eq!(status(&[first.clone(), closed.clone()]), "closed");
    let again = observed("ticket.opened", 11, "3", &opened);
    assert_eq!(
        status(&[first.clone(), closed.clone(), again]),
        "unanswered"
    );
    let responded = observed("ticket.responded", 5, "4", &ticket);
    assert_eq!(status(&[first, responded]), "responded");
    assert_eq!(status(&[closed]), "unknown");
}

/// The earlier fee must not stay in any sum.
#[test]
fn a_later_event_of_a_booking_corrects_its_fee() {
    let fee = |minor: i64| json!({"customer": "cus_1", "amount_minor": minor, "currency": "USD", "source_id": "b_1"});
    let all = [
        observed("usage.booking_fee", 0, "1", &fee(250)),
        observed("usage.booking_fee", 1, "2", &fee(300)),
    ];
    let hour = Bucket::hour_of(NOON_S);
    for order in [[0, 1], [1, 0]] {
        let fee = entity(&order.map(|n| all[n].clone()));
        let counters = fee.contributions();
        assert_eq!(counters.get(hour, &["booking_fees", "usd"]), 1);
        assert_eq!(counters.get(hour, &["booking_fees_minor", "usd"]), 300);
        assert_eq!(shown(&fee)["amount_minor"], "300");
        assert_eq!(shown(&fee)["corrected_at"], "2026-01-31T12:00:01Z");
    }
}

/// The ids of events say nothing of their order.
#[test]
fn within_a_second_the_later_event_counts() {
    for n in 0..20 {
        let fee = |minor: i64| json!({"customer": "c", "amount_minor": minor, "currency": "usd", "source_id": "b"});
        let kind = "usage.booking_fee";
        let fee = entity(&[
            observed_at(kind, "00.9", &format!("x{n}"), &fee(200)),
            observed_at(kind, "00.1", &format!("y{n}"), &fee(100)),
        ]);
        assert_eq!(
            (&shown(&fee)["amount_minor"], &shown(&fee)["corrected_at"]),
            (&json!("200"), &json!("2026-01-31T12:00:00Z"))
        );
        let opened = json!({"ticket": "T-1", "customer": "cus_1", "topic": "billing"});
        let ticket = entity(&[
            observed_at("ticket.opened", "00.9", &format!("x{n}"), &opened),
            observed_at(
                "ticket.closed",
                "00.5",
                &format!("y{n}"),
                &json!({"ticket": "T-1"}),
            ),
        ]);
        assert_eq!(shown(&ticket)["status"], "unanswered");
    }
}

/// Stripe's endpoints say of which of the platform's accounts it is; the application speaks of all at one endpoint.
#[test]
fn what_the_application_says_of_an_account_says_nothing_of_its_realm() {
    let link = json!({"account": "acct_1", "user": "u_1"});
    let observation = observed("account_link.clicked", 0, "1", &link);
    let account = entity(std::slice::from_ref(&observation));
    assert_eq!(account.realm(), None);
    let ticket = observed("ticket.closed", 0, "1", &json!({"ticket": "T-1"}));
    assert!(ticket.says_realm() && !observation.says_realm());
    // Nor does what the account says of its provider.
    let created = observed("account.created_by_user", 1, "2", &link);
    let account = entity(&[observation, created]);
    let relay = crate::relay::Relay::all_of(&account).pop().expect("a user");
    let of_provider = relay.observe(Some(&account)).expect("it is stored");
    assert!(!of_provider.says_realm());
    assert_eq!(of_provider.key, EntityKey::new(EntityKind::Provider, "u_1"));
}

#[test]
fn nothing_is_counted_of_an_object_before_its_first_event() {
    for kind in EntityKind::ALL.into_iter().filter(|kind| kind.is_of_app()) {
        let empty = Entity::new(&EntityKey::new(kind, "x"));
        assert!(
            empty.contributions().is_empty() && row(&empty).is_none(),
            "{kind:?}"
        );
    }
}

#[test]
fn failures_count_in_their_minute_each() {
    let failed = json!({"user": "u_1", "error_code": "country_unsupported", "country": "br"});
    let all = [1, 2, 2].map(|n| observed("account.creation_failed", n, &n.to_string(), &failed));
    let provider = entity(&all);
    let count = |bucket| {
        provider
            .contributions()
            .get(bucket, &["account_creation_failures"])
    };
    assert_eq!(count(Bucket::minute_of(NOON_S)), 2);
    assert_eq!(count(Bucket::hour_of(NOON_S)), 2);
    assert_eq!(shown(&provider)["country"], "BR");
    let link = json!({"account": "acct_1", "user": "u_1"});
    let all = [1, 2].map(|n| observed("account_link.failed", n, &n.to_string(), &link));
    let account = entity(&all);
    assert_eq!(
        account
            .contributions()
            .get(Bucket::minute_of(NOON_S), &["account_link_failures"]),
        2
    );
    assert_eq!(shown(&account)["user_id"], "u_1");
}

#[test]
fn a_paid_job_is_a_first_payment_and_a_clicked_link_a_step() {
    let of = json!({"account": "acct_1", "user": "u_1"});
    let job = json!({"account": "acct_1", "amount_minor": 1e3, "currency": "usd"});
    let account = entity(&[
        observed("account.created_by_user", 0, "1", &of),
        observed("account_link.generated", 1, "2", &of),
        observed("account_link.clicked", 2, "3", &of),
        observed("job.paid", 3, "4", &job),
    ]);
    let counters = account.contributions();
    for step in [
        "account_link_generated",
        "account_link_clicked",
        "first_payment",
    ] {
        assert_eq!(
            counters.get(Bucket::Current, &["funnel", step]),
            1,
            "{step}"
        );
    }
    assert_eq!(
        counters.get(Bucket::minute_of(NOON_S), &["account_creations"]),
        1
    );
}

#[test]
fn a_member_without_a_role_has_left() {
    let of = |role: Value| json!({"organization": "org/1", "user": "u_1", "role": role});
    let joined = observed("member.role_changed", 0, "1", &of(json!("broker")));
    let left = observed("member.role_changed", 1, "2", &of(Value::Null));
    assert_eq!(
        joined.key,
        EntityKey::new(EntityKind::Member, "org%2F1/u_1")
    );
    let member = entity(std::slice::from_ref(&joined));
    assert_eq!(shown(&member)["role"], "broker");
    let member = entity(&[left, joined]);
    assert_eq!(
        (&shown(&member)["role"], &shown(&member)["status"]),
        (&json!(""), &json!("left"))
    );
}
