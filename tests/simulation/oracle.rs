//! What must be true once a run has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use revwatch_alerting::engine::{ALERTS, HISTORY};
use revwatch_core::bucket::{Buckets, hour_of};
use revwatch_core::entity::{Entity, EntityKey};
use revwatch_core::event::{Event, FETCHED, event_id_of};
use revwatch_core::event_settings::REFRESH;
use revwatch_core::observe::{ObserveSettings, observe};
use revwatch_core::recount::{Recount, StoredAggregates, compared};
use revwatch_core::relay::Relay;
use revwatch_storage::memory::Memory;
use revwatch_storage::ports::{
    Aggregates as _, AuditTrail as _, ConditionFeed as _, Documents as _, Entities as _,
    Holding as _, HoldingQueue, ReadSet, Replay as _,
};
use serde_json::Value;

use super::world::{PARTITIONS, START_S, World};
use crate::support::slack::Posted;

/// A broken promise.
pub(super) type Broken = String;

/// The events that the store has applied, in the order of their ids; each that was accepted or that the
/// resolver published, none that was never sent, each counted once.
pub(super) async fn applied(world: &World, events: &[String]) -> Result<Vec<String>, Broken> {
    let (accepted, attempted) = (world.sent.accepted(), world.sent.attempted());
    let resolved = resolved(&world.memory).await;
    let mut applied = BTreeMap::new();
    for body in events.iter().chain(&resolved) {
        let event = Event::parse(body.as_bytes()).expect("an event");
        let id = event.id.clone().into_owned();
        let want = ReadSet {
            dedupe_keys: vec![(event.created_day(), id.clone())],
            entities: Vec::new(),
        };
        let found = world.memory.read(event.partition(PARTITIONS), &want).await;
        if found.expect("read").dedupe_keys[0].is_some() {
            applied.insert(id, body.clone());
        } else if accepted.contains(&id) || event.is_fetched() {
            return Err(format!(
                "{id} was answered 2xx, or published, and is not applied"
            ));
        }
    }
    let is_sent = |id: &&String| attempted.contains(*id) || id.starts_with(FETCHED);
    if let Some(id) = applied.keys().find(|id| !is_sent(id)) {
        return Err(format!("{id} was never sent and is applied"));
    }
    let counted = world
        .memory
        .current_counters(&["events|applied", "events|ignored"]);
    let counted = counted.await.expect("read");
    if usize::try_from(counted) != Ok(applied.len()) {
        return Err(format!(
            "{} events are applied and {counted} counted",
            applied.len()
        ));
    }
    let dead = world.memory.held_count(HoldingQueue::DeadLetters).await;
    match dead.expect("read") {
        0 => Ok(applied.into_values().collect()),
        dead => Err(format!("{dead} dead letters")),
    }
}

/// What the resolver has published.
async fn resolved(memory: &Memory) -> Vec<String> {
    let mut archive = memory.archive(0).await.expect("an archive");
    let mut bodies = Vec::new();
    loop {
        let found = archive.next(1000).await.expect("read");
        if found.is_empty() {
            return bodies;
        }
        let own = found.iter().filter(|delivery| delivery.endpoint == REFRESH);
        bodies.extend(own.map(|delivery| String::from_utf8_lossy(&delivery.body).into_owned()));
    }
}

/// Entities are the observations of the applied events, merged; aggregates are those of the
/// entities.
pub(super) async fn state(memory: &Memory, applied: &[String]) -> Result<(), Broken> {
    let mut model: BTreeMap<(u32, EntityKey), Entity> = BTreeMap::new();
    for body in applied {
        let event = Event::parse(body.as_bytes()).expect("an event");
        for observation in observe(&event, &ObserveSettings::default()).expect("readable") {
            let place = (event.partition(PARTITIONS), observation.key.clone());
            let entity = model
                .entry(place)
                .or_insert_with(|| Entity::new(&observation.key));
            entity.merge(&observation);
        }
    }
    for from in model.values().cloned().collect::<Vec<_>>() {
        for relay in Relay::all_of(&from) {
            let place = (relay.to_partition(PARTITIONS), relay.to.clone());
            let to = model
                .entry(place)
                .or_insert_with_key(|(_, key)| Entity::new(key));
            let observed = relay.observe(Some(&from));
            to.merge(&observed.expect("it is stored"));
        }
    }
    model.retain(|(_, key), entity| *entity != Entity::new(key));
    let mut recount = Recount::new(PARTITIONS);
    for ((partition, key), entity) in &model {
        let want = ReadSet {
            dedupe_keys: Vec::new(),
            entities: vec![key.clone()],
        };
        let found = memory.read(*partition, &want).await.expect("read");
        let stored = found.entities[0].as_ref().map(|stored| &stored.body);
        if stored != Some(&entity.encode()) {
            return Err(format!("{key:?} differs from the model: {entity:?}"));
        }
        recount.add(*partition, key, entity);
    }
    let compared = Buckets {
        minutes_of: (hour_of(START_S)..=hour_of(START_S) + 24).collect(),
        ..compared(START_S)
    };
    let held = StoredAggregates {
        counters: memory.counters(&compared).await.expect("read"),
        conditions: memory.conditions().await.expect("read"),
    };
    let comparison = recount.compare(&held, &held, &compared);
    match comparison.agrees() {
        true => Ok(()),
        false => Err(format!(
            "aggregates differ, or entities are misplaced: {:#?} {:#?}",
            comparison.differences, comparison.misplaced
        )),
    }
}

/// The audit names applied events only.
pub(super) async fn audit(memory: &Memory, applied: &[String]) -> Result<(), Broken> {
    let id = |body: &String| event_id_of(body.as_bytes());
    let applied: BTreeSet<String> = applied.iter().filter_map(id).collect();
    let entries = memory.audit(usize::MAX).await.expect("read");
    match entries
        .iter()
        .find(|entry| !applied.contains(&entry.event_id))
    {
        None => Ok(()),
        Some(entry) => Err(format!(
            "the audit has an event that is not applied: {entry:?}"
        )),
    }
}

/// All alerts, open ones first.
pub(super) async fn alerts(memory: &Memory) -> Vec<Value> {
    let mut alerts = Vec::new();
    for space in [ALERTS, HISTORY] {
        let found = memory.documents(space).await.expect("read");
        alerts.extend(
            found
                .iter()
                .map(|(_, body)| serde_json::from_str::<Value>(body).expect("JSON")),
        );
    }
    alerts
}

/// Rule and subject of each alert that is not resolved. Groups depend on when their members fired.
pub(super) fn firing(alerts: &[Value]) -> BTreeSet<String> {
    alerts
        .iter()
        .filter(|alert| alert["state"] != "resolved" && alert["group"].is_null())
        .map(|alert| format!("{} {}", alert["rule"], alert["subject"]))
        .collect()
}

/// Whether readers have seen the alert as it is now, and its notices. A notice is not changed later,
/// and need not be sent any more once the alert is resolved.
pub(super) fn is_delivered(alert: &Value) -> bool {
    let Some(notifications) = alert["notifications"].as_object() else {
        return true;
    };
    notifications.iter().all(|(way, notification)| {
        let is_notice = way.contains('#');
        let wanted = if is_notice {
            Some(1)
        } else {
            alert["revision"].as_u64()
        };
        let is_seen = notification["attempting_revision"].is_null()
            && notification["delivered_revision"].as_u64() >= wanted;
        is_seen || (is_notice && alert["state"] == "resolved")
    })
}

/// Each alert that is not a member of a group reached Slack as it is now, and once, unless its
/// message says that it may be a duplicate.
pub(super) fn messages(world: &Arc<World>, alerts: &[Value]) -> Result<(), Broken> {
    let posts = world.slack.posts();
    for (id, posts) in &posts {
        let says_so = |post: &&Posted| post.first_text.contains("Possible duplicate");
        if let Some(post) = posts[1..].iter().find(|post| !says_so(post)) {
            return Err(format!("{id} was posted again without saying so: {post:?}"));
        }
    }
    let own = alerts.iter().filter(|alert| alert["part_of"].is_null());
    for alert in own {
        let id = alert["id"].as_str().unwrap_or_default();
        let shown = posts.get(&format!("{id}-0")).into_iter().flatten();
        let newest = shown.filter_map(|post| post.payload()["revision"].as_u64());
        let newest = newest.max();
        if newest != alert["revision"].as_u64() {
            return Err(format!("Slack shows revision {newest:?} of {alert}"));
        }
    }
    Ok(())
}
