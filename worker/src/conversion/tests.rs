//! Conversions that end anywhere and begin again, on the store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use revwatch_core::counters::Bucket;
use revwatch_core::entity::Observation;
use revwatch_core::event::Event;
use revwatch_core::event_settings::EventSettings;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::realm::{Realm, Realms};
use revwatch_core::recount::{Recount, StoredAggregates};
use revwatch_runtime::reload::Reloadable;
use revwatch_storage::memory::{Memory, VirtualClock};
use revwatch_storage::ports::{
    Aggregates as _, ConditionFeed as _, Delivery, Entities as _, Publish as _, Recovery as _,
    StoreError,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::*;
use crate::maintenance::Maintenance;
use crate::membership::Share;
use crate::test_worker::worker;

const PARTITIONS: u32 = 4;

/// 2026-11-29
const NOW_S: i64 = 1_795_900_000;

/// An endpoint, and its realm.
const KERNEL: &str = "kernel";

/// Enough for several pages, commits and joins.
const OBJECTS: usize = 60;

fn event(n: usize, kind: &str, context: Option<&str>, object: &Value) -> String {
    let created_s = NOW_S - 86_400 + i64::try_from(n).expect("small");
    json!({"id": format!("evt_{n}"), "object": "event", "type": kind, "created": created_s, "account": null,
        "context": context, "livemode": true, "data": {"object": object}})
    .to_string()
}

fn events() -> Vec<String> {
    let mut events = Vec::new();
    for n in 0..OBJECTS {
        let object = |status: &str, paid: usize| {
            json!({"id": format!("in_{n}"), "object": "invoice", "status": status, "customer": format!("cus_{n}"),
                "currency": "usd", "amount_due": 500, "amount_paid": paid, "attempt_count": 1})
        };
        let (failed, paid) = (object("open", 0), object("paid", 500));
        events.push(event(events.len(), "invoice.payment_failed", None, &failed));
        if n % 3 > 0 {
            let context = Some("acct_PLATFORM");
            let changed = if n % 3 == 1 { &failed } else { &paid };
            events.push(event(events.len(), "invoice.updated", context, changed));
        }
    }
    events
}

fn observations(body: &str) -> Vec<Observation> {
    let event = Event::parse(body.as_bytes()).expect("an event");
    observe(&event, &ObserveSettings::default()).expect("readable")
}

/// The entities that this version makes of the events, of which only some are in the archive.
fn expected() -> BTreeMap<EntityKey, Entity> {
    let mut entities = BTreeMap::new();
    for observation in events().iter().flat_map(|body| observations(body)) {
        let key = observation.key.clone();
        let entity = entities
            .entry(key.clone())
            .or_insert_with(|| Entity::new(&key));
        let (endpoint, realm) = endpoint(&key);
        entity.merge(&observation.of(&realm));
        if endpoint.is_none() {
            forget_realm(entity);
        }
    }
    entities
}

/// The endpoint to which the archived events about an object came, if any is in the archive, and its realm.
fn endpoint(key: &EntityKey) -> (Option<&'static str>, Realm) {
    let number: usize = key.id["in_".len()..].parse().expect("a number");
    match number % 5 {
        0 => (Some(KERNEL), kernel()),
        1 => (None, Realm::MAIN),
        _ => (Some("stripe"), Realm::MAIN),
    }
}

fn kernel() -> Realm {
    Realm::named(KERNEL).expect("a name")
}

fn with_kernel() -> Realms {
    Realms::new([(KERNEL.to_owned(), kernel().into())])
}

fn forget_realm(entity: &mut Entity) {
    match entity {
        Entity::Invoice(invoice) => invoice.realm = None,
        other => panic!("{other:?}"),
    }
}

/// A store as format 1 or 2 has it. In format 1, what came with a context belongs to the platform as a
/// connected account.
async fn old_store(memory: &Memory, format: u8) {
    let mut copies: BTreeMap<(u32, EntityKey), Entity> = BTreeMap::new();
    for body in events() {
        let is_foreign = format == 1 && body.contains("acct_PLATFORM");
        for mut observation in observations(&body) {
            if let revwatch_core::entity::Update::Invoice(origin, _) = &mut observation.update {
                origin.account = is_foreign.then(|| "acct_PLATFORM".to_owned());
            }
            let place = (observation.partition(PARTITIONS), observation.key.clone());
            let entity = copies.entry(place);
            let entity = entity.or_insert_with(|| Entity::new(&observation.key));
            entity.merge(&observation);
            forget_realm(entity);
            if let Some(endpoint) = endpoint(&observation.key).0 {
                publish(memory, endpoint, &body).await;
            }
        }
    }
    // One about an object of another endpoint: not the first about it.
    let of_kernel = observations(&events()[0]).remove(0).key;
    assert_eq!(endpoint(&of_kernel).0, Some(KERNEL));
    publish(memory, "stripe", &events()[0]).await;
    for ((partition, key), entity) in copies {
        let mut body = entity.encode();
        body[0] = format;
        let mut counters = entity.contributions();
        counters.add(Bucket::Current, &["gone", "kept"], 1);
        let opened = entity.conditions().into_iter().map(ConditionChange::Open);
        let commit = Commit {
            partition,
            entities: vec![EntityWrite {
                key,
                expected: 0,
                body: Some(body),
            }],
            counters,
            conditions: opened.collect(),
            ..Commit::default()
        };
        memory.commit(&commit).await.expect("committed");
    }
    let mut applied = Commit::default();
    let count = i64::try_from(events().len()).expect("small");
    applied
        .counters
        .add(Bucket::Current, &["events", "applied"], count);
    memory.commit(&applied).await.expect("committed");
    memory.faults().set_state_format(format.into());
}

/// Adds an entity to a store of this format. Returns its partition.
async fn store_as(format: u8, memory: &Memory, key: &EntityKey, entity: &Entity) -> u32 {
    let mut body = entity.encode();
    body[0] = format;
    let commit = Commit {
        partition: entity.partition(PARTITIONS),
        entities: vec![EntityWrite {
            key: key.clone(),
            expected: 0,
            body: Some(body),
        }],
        ..Commit::default()
    };
    memory.faults().set_state_format(STATE_FORMAT);
    memory.commit(&commit).await.expect("committed");
    memory.faults().set_state_format(format.into());
    commit.partition
}

async fn publish(memory: &Memory, endpoint: &str, body: &str) {
    let delivery = Delivery {
        id: Uuid::from_u128(1),
        event_id: "evt".into(),
        event_type: "invoice.updated".into(),
        partition: 0,
        endpoint: endpoint.into(),
        received_ms: NOW_S * 1000,
        traceparent: None,
        body: body.to_owned().into(),
    };
    memory.publish(delivery).await.expect("published");
}

async fn started() -> (Memory, Worker) {
    started_of(1).await
}

async fn started_of(format: u8) -> (Memory, Worker) {
    let (memory, worker) = empty();
    old_store(&memory, format).await;
    (memory, worker)
}

fn empty() -> (Memory, Worker) {
    let start = Timestamp::from_second(NOW_S).expect("a time");
    let clock = Arc::new(VirtualClock::starting_at(start));
    let memory = Memory::new(PARTITIONS, clock.clone());
    let worker = worker(&memory, &clock, with_kernel());
    (memory, worker)
}

async fn convert_once(worker: &Worker) -> Result<(), PartitionError> {
    let health = worker.store.health().await?;
    convert(worker, &health, &mut None).await
}

/// The store is what the events say, and what deliveries counted is as it was.
async fn is_converted(memory: &Memory) {
    let health = memory.health().await.expect("health");
    assert!(health.iter().all(Health::is_complete), "{health:?}");
    let (mut found, mut recount) = (BTreeMap::new(), Recount::new(PARTITIONS));
    for kind in EntityKind::ALL {
        let mut each = |partition: u32, id: &str, body: &[u8]| {
            assert!(!Entity::has_older_encoding(body));
            let key = EntityKey::new(kind, id);
            let entity = Entity::decode(&key, body).expect("readable");
            recount.add(partition, &key, &entity);
            found.insert(key, entity);
        };
        memory.entities(kind, &mut each).await.expect("read");
    }
    assert_eq!(found, expected());
    let compared = compared(NOW_S);
    let stored = StoredAggregates {
        counters: memory.counters(&compared).await.expect("read"),
        conditions: memory.conditions().await.expect("read"),
    };
    let comparison = recount.compare(&stored, &stored, &compared);
    assert!(comparison.agrees(), "{comparison:?}");
    let applied = stored.counters.get(Bucket::Current, &["events", "applied"]);
    assert_eq!(applied, i64::try_from(events().len()).expect("small"));
}

/// Format 3 counted by the hour only.
#[tokio::test(start_paused = true)]
async fn the_minutes_of_what_is_stored_are_counted() {
    let start = Timestamp::from_second(NOW_S).expect("a time");
    let clock = Arc::new(VirtualClock::starting_at(start));
    let memory = Memory::new(PARTITIONS, clock.clone());
    let mut all = Counters::default();
    for (id, age_h) in [("po_1", 1), ("po_2", 47), ("po_3", 50)] {
        let body = json!({"id": format!("evt_{id}"), "type": "payout.failed", "created": NOW_S - age_h * 3600,
            "account": "acct_1", "data": {"object": {"id": id, "object": "payout", "status": "failed",
            "amount": 500, "currency": "usd"}}});
        for observation in observations(&body.to_string()) {
            let mut entity = Entity::new(&observation.key);
            entity.merge(&observation);
            if !matches!(entity, Entity::Payout(_)) {
                continue;
            }
            let mut counters = entity.contributions();
            all.merge(counters.clone(), 1);
            counters.forget_minutes_before(u32::MAX);
            let commit = Commit {
                partition: observation.partition(PARTITIONS),
                entities: vec![EntityWrite {
                    key: observation.key,
                    expected: 0,
                    body: Some(entity.encode()),
                }],
                counters,
                conditions: entity
                    .conditions()
                    .into_iter()
                    .map(ConditionChange::Open)
                    .collect(),
                ..Commit::default()
            };
            memory.commit(&commit).await.expect("committed");
        }
    }
    memory.faults().set_state_format(3);
    convert_once(&worker(&memory, &clock, with_kernel()))
        .await
        .expect("converted");
    let read = compared(NOW_S);
    let stored = memory.counters(&read).await.expect("read");
    let expected = all.iter().filter(|(bucket, ..)| read.contains(*bucket));
    assert!(stored.iter().eq(expected), "{stored:?}");
    let minutes = stored.iter().filter(|it| matches!(it.0, Bucket::Minute(_)));
    assert_eq!(
        minutes.count(),
        4,
        "of two payouts, their number and amount"
    );
}

#[tokio::test(start_paused = true)]
async fn copies_are_joined_and_aggregates_are_what_entities_add_up_to() {
    let (memory, worker) = started().await;
    convert_once(&worker).await.expect("converted");
    is_converted(&memory).await;
    convert_once(&worker).await.expect("converted again");
    is_converted(&memory).await;
}

#[tokio::test(start_paused = true)]
async fn objects_of_format_2_get_their_realms() {
    let (memory, worker) = started_of(2).await;
    convert_once(&worker).await.expect("converted");
    is_converted(&memory).await;
}

/// An account of an organisation may be connected to another of its accounts.
#[tokio::test(start_paused = true)]
async fn an_object_of_format_2_keeps_its_account() {
    let (memory, worker) = started_of(2).await;
    let object =
        json!({"id": "in_connected", "object": "invoice", "status": "open", "currency": "usd"});
    let mut observed = observations(&event(0, "invoice.updated", None, &object)).remove(0);
    if let revwatch_core::entity::Update::Invoice(origin, _) = &mut observed.update {
        origin.account = Some("acct_PLATFORM".to_owned());
    }
    let mut entity = Entity::new(&observed.key);
    entity.merge(&observed);
    let partition = store_as(2, &memory, &observed.key, &entity).await;
    convert_once(&worker).await.expect("converted");
    let read_set = ReadSet {
        entities: vec![observed.key.clone()],
        ..ReadSet::default()
    };
    let read = memory.read(partition, &read_set).await.expect("read");
    let stored = read.entities[0].as_ref().expect("it is there");
    assert_eq!(Entity::decode(&observed.key, &stored.body), Ok(entity));
}

#[tokio::test(start_paused = true)]
async fn an_archive_of_the_main_realm_alone_gives_none() {
    let (memory, mut worker) = started().await;
    worker.events = Reloadable::new(EventSettings::default());
    convert_once(&worker).await.expect("converted");
    let mut count = 0;
    let mut each = |_, id: &str, body: &[u8]| {
        let entity = Entity::decode(&EntityKey::new(EntityKind::Invoice, id), body);
        assert_eq!(entity.expect("readable").realm(), None);
        count += 1;
    };
    let read = memory.entities(EntityKind::Invoice, &mut each).await;
    read.expect("read");
    assert_eq!(count, OBJECTS);
}

/// It is killed after each of its steps, and once more in the next conversion.
#[tokio::test(start_paused = true)]
async fn a_conversion_that_ends_anywhere_begins_again() {
    let began = Instant::now();
    let (memory, worker) = started().await;
    memory.faults().delay(Duration::from_millis(1));
    convert_once(&worker).await.expect("converted");
    let complete = began.elapsed();
    assert!(complete > DURABLE_AFTER + Duration::from_millis(50));
    let mut after = Duration::ZERO;
    while after < complete {
        let (memory, worker) = started().await;
        memory.faults().delay(Duration::from_millis(1));
        for after in [after, after / 2] {
            let killed = tokio::time::timeout(after, convert_once(&worker)).await;
            if killed.is_err() {
                let health = memory.health().await.expect("health");
                assert!(!health.iter().all(Health::is_complete));
            }
        }
        convert_once(&worker).await.expect("converted");
        is_converted(&memory).await;
        // Most of the time it waits.
        let waits = complete - DURABLE_AFTER..complete - Duration::from_millis(300);
        after += Duration::from_millis(if waits.contains(&after) { 500 } else { 7 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_corrected() {
    let (memory, worker) = started().await;
    while convert_once(&worker).await.is_err() {}
    is_converted(&memory).await;
    for count in 1..8 {
        let (memory, worker) = started().await;
        memory.faults().time_out_commits(count);
        let mut failed = 0;
        while convert_once(&worker).await.is_err() {
            failed += 1;
        }
        assert_eq!(failed, count);
        is_converted(&memory).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversion_that_was_overtaken_changes_nothing_more() {
    let (memory, worker) = started().await;
    memory.faults().delay(Duration::from_millis(1));
    let (first, second) = tokio::join!(convert_once(&worker), async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        convert_once(&worker).await
    });
    let Err(PartitionError::Store(StoreError::Fenced)) = first else {
        panic!("{first:?}");
    };
    second.expect("converted");
    is_converted(&memory).await;
}

/// The next conversion may be of another store, with another archive.
#[tokio::test(start_paused = true)]
async fn the_archive_is_read_again_after_another_worker_has_converted() {
    let (memory, worker) = empty();
    memory.faults().set_state_format(1);
    memory.faults().delay(Duration::from_millis(1));
    let share = Share {
        partitions: (0..PARTITIONS).collect(),
        ..Share::default()
    };
    let (_share, share) = watch::channel(share);
    let (known, mut pauses) = watch::channel(None);
    let maintenance = Maintenance::new(worker.clone(), share, known);
    let running = maintenance.run(CancellationToken::new());
    let _running = AbortOnDropHandle::new(tokio::spawn(running));
    while memory.health().await.expect("health")[0]
        .conversion
        .is_none()
    {}
    convert_once(&worker).await.expect("converted");
    // It has seen that.
    pauses.wait_for(Option::is_some).await.expect("it runs");
    old_store(&memory, 1).await;
    pauses.wait_for(Option::is_none).await.expect("it runs");
    pauses.wait_for(Option::is_some).await.expect("it runs");
    is_converted(&memory).await;
}

/// Redis loses what it has confirmed, while the conversion waits whether it does.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_if_its_union_was_lost() {
    let (memory, worker) = started().await;
    let (first, ()) = tokio::join!(convert_once(&worker), async {
        tokio::time::sleep(DURABLE_AFTER / 2).await;
        memory.faults().roll_back_commits(1);
    });
    let Err(PartitionError::ConversionInterrupted) = first else {
        panic!("{first:?}");
    };
    convert_once(&worker).await.expect("converted");
    for partition in 0..PARTITIONS {
        let (id, _) = memory
            .begin_recovery(partition, "r", 0)
            .await
            .expect("begun");
        let run_id = &memory.health().await.expect("health")[0].server_run_id;
        let ended = memory.end_recovery(partition, &id, run_id).await;
        assert!(ended.expect("ended"));
    }
    is_converted(&memory).await;
}

#[tokio::test(start_paused = true)]
async fn an_entity_that_revwatch_fails_on_is_named() {
    let (memory, worker) = started().await;
    let body = |n: usize| {
        let object = json!({"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd",
            "items": {"data": [{"id": "si_1", "quantity": 1, "price": {"id": "price_1", "unit_amount": 900,
                "currency": "usd", "recurring": {"interval": "month", "interval_count": 1}}}]}});
        event(n, "customer.subscription.updated", None, &object)
    };
    let mut observed = observations(&body(0));
    observed.retain(|it| it.key.id == "sub_1");
    let key = observed[0].key.clone();
    if let revwatch_core::entity::Update::Subscription(_, state) = &mut observed[0].update {
        // revwatch panics at the change from it: see `Level::change_to`.
        Arc::make_mut(&mut state.facts).recurring_minor = Some(i64::MIN);
    }
    observed.extend(observations(&body(1)));
    let mut entity = Entity::new(&key);
    let of_it = observed.iter().filter(|it| it.key == key);
    of_it.for_each(|observation| entity.merge(observation));
    store_as(1, &memory, &key, &entity).await;
    let failed = convert_once(&worker).await.expect_err("it cannot be added");
    let named = "subscription sub_1: revwatch failed on it (panic at ";
    assert!(failed.to_string().contains(named), "{failed}");
}
