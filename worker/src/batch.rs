//! Decides purely what a batch of deliveries changes; other modules carry it out.
//!
//! Invariant: the same batch over the same state at the same time gives the same commit, and a
//! delivery is counted once no matter how often the queue redelivers it.

use std::collections::{BTreeMap, HashMap};

use revwatch_core::condition::Condition;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{Entity, EntityKey, Observation, Transition, transitions};
use revwatch_core::event::{Event, day_of, is_known_kind, kind_label};
use revwatch_core::histogram;
use revwatch_core::observe::{Plans, observe};
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_storage::ports::{
    AuditEntry, Commit, ConditionChange, DedupeKey, Delivery, EntityWrite, ReadResult, ReadSet,
};

/// A parsed batch that has not yet been compared with the stored state.
#[derive(Debug)]
pub struct Batch {
    partition: u32,
    items: Vec<Item>,
    /// Whether processing times are counted.
    timed: bool,
    /// What must be read from the store before [`Batch::decide`].
    pub read_set: ReadSet,
}

/// The result of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its event has a known type and was merged, whether or not that changed state.
    Applied,
    /// Its event was applied before.
    Duplicate,
    /// Stripe does not document its type.
    Ignored,
    /// It can never be applied, for this reason.
    Dead(String),
    /// The queue redelivered it after it was processed. It is not counted again.
    Redelivered,
    /// An operator's pause holds it back, for this reason. It leaves no state until the pause ends.
    Paused(String),
}

/// A decided batch.
#[derive(Debug)]
pub struct Decision {
    /// The commit for the store.
    pub commit: Commit,
    /// In the order of the deliveries.
    pub outcomes: Vec<Outcome>,
    /// When the events were created (Unix seconds), in the same order; `None` if the event cannot
    /// be parsed.
    pub created_s: Vec<Option<i64>>,
    /// State transitions, for the log.
    pub transitions: Vec<(EntityKey, Transition)>,
}

#[derive(Debug)]
struct Item {
    delivery_id: uuid::Uuid,
    event_id: String,
    day: u32,
    received_ms: i64,
    pause_reason: Option<String>,
    content: Result<Content, String>,
}

#[derive(Debug)]
struct Content {
    known: bool,
    created_s: i64,
    observations: Vec<Observation>,
}

impl Batch {
    /// Parses the deliveries of one partition.
    pub fn read(partition: u32, deliveries: &[Delivery], plans: &Plans) -> Self {
        Self::read_under(&Pauses::default().into(), partition, deliveries, plans)
    }

    /// Parses the deliveries of one partition, some of which may be paused.
    pub fn read_under(
        pauses: &PauseHistory,
        partition: u32,
        deliveries: &[Delivery],
        plans: &Plans,
    ) -> Self {
        let items: Vec<Item> = deliveries
            .iter()
            .map(|d| read_item(d, pauses, plans))
            .collect();
        let mut read_set = ReadSet::default();
        let mut seen: HashMap<&EntityKey, ()> = HashMap::new();
        for item in &items {
            read_set.dedupe_keys.push((item.day, item.event_id.clone()));
            read_set
                .dedupe_keys
                .push((item.day, item.delivery_id.simple().to_string()));
            for observation in item.content.iter().flat_map(|c| &c.observations) {
                if seen.insert(&observation.key, ()).is_none() {
                    read_set.entities.push(observation.key.clone());
                }
            }
        }
        Self {
            partition,
            items,
            timed: true,
            read_set,
        }
    }

    /// For deliveries from the archive: how long they originally took is unknown, so it is not
    /// counted.
    pub fn untimed(mut self) -> Self {
        self.timed = false;
        self
    }

    /// Decides, given the store's answer to `read_set`. `now_ms` (Unix milliseconds) is used only
    /// to count processing times. Fails if the store holds data that this version cannot decode.
    pub fn decide(&self, found: &ReadResult, now_ms: i64) -> Result<Decision, String> {
        let mut commit = Commit {
            partition: self.partition,
            ..Commit::default()
        };
        let mut outcomes = Vec::with_capacity(self.items.len());
        let mut entities: BTreeMap<&EntityKey, (u64, Entity, Entity)> = BTreeMap::new();
        for (key, stored) in self.read_set.entities.iter().zip(&found.entities) {
            let (version, entity) = match stored {
                Some(stored) => (stored.version, Entity::decode(key, &stored.body)?),
                None => (0, Entity::new(key)),
            };
            entities.insert(key, (version, entity.clone(), entity));
        }
        // Within a batch, as between batches, the first delivery of an event wins.
        let mut applied_here: HashMap<&str, ()> = HashMap::new();
        for (item, dedupe_keys) in self.items.iter().zip(found.dedupe_keys.chunks(2)) {
            let (by_event, by_delivery) = (dedupe_keys[0], dedupe_keys[1]);
            let outcome = if by_delivery.is_some() || by_event == Some(item.delivery_id) {
                Outcome::Redelivered
            } else {
                match &item.content {
                    Err(reason) => Outcome::Dead(reason.clone()),
                    Ok(_)
                        if by_event.is_some()
                            || applied_here.contains_key(item.event_id.as_str()) =>
                    {
                        Outcome::Duplicate
                    }
                    Ok(_) if let Some(reason) = &item.pause_reason => {
                        Outcome::Paused(reason.clone())
                    }
                    Ok(content) => {
                        applied_here.insert(&item.event_id, ());
                        for observation in &content.observations {
                            if let Some((_, _, entity)) = entities.get_mut(&observation.key) {
                                entity.merge(observation);
                            }
                        }
                        let outcome = if content.known {
                            Outcome::Applied
                        } else {
                            Outcome::Ignored
                        };
                        let now_ms = self.timed.then_some(now_ms);
                        count_times(&mut commit.counters, item, content, &outcome, now_ms);
                        outcome
                    }
                }
            };
            if let Some(counter) = outcome.counter() {
                let key = match outcome {
                    Outcome::Applied | Outcome::Ignored => item.event_id.clone(),
                    _ => item.delivery_id.simple().to_string(),
                };
                commit.high_watermark_ms = commit.high_watermark_ms.max(item.received_ms);
                commit.dedupe_keys.push(DedupeKey {
                    day: item.day,
                    key,
                    delivery: item.delivery_id,
                });
                commit
                    .counters
                    .add(Bucket::Current, &["events", counter], 1);
            }
            outcomes.push(outcome);
        }
        let mut changed = Vec::new();
        for (key, (version, before, after)) in entities {
            if before == after {
                continue;
            }
            commit.entities.push(EntityWrite {
                key: key.clone(),
                expected: version,
                body: after.encode(),
            });
            commit
                .counters
                .add_difference(&before.tally(), &after.tally());
            commit
                .conditions
                .extend(condition_changes(&before.conditions(), after.conditions()));
            changed.extend(
                transitions(&before, &after)
                    .into_iter()
                    .map(|t| (key.clone(), t)),
            );
        }
        commit
            .audit
            .extend(changed.iter().map(|(subject, t)| AuditEntry {
                at_s: t.at_s,
                subject: subject.clone(),
                event_id: t.event_id.clone(),
                what: if t.expected {
                    t.what.clone()
                } else {
                    format!("{} (unexpected)", t.what)
                },
            }));
        let created_s = self
            .items
            .iter()
            .map(|item| item.content.as_ref().ok().map(|c| c.created_s))
            .collect();
        Ok(Decision {
            commit,
            outcomes,
            created_s,
            transitions: changed,
        })
    }
}

impl Decision {
    /// Whether there is nothing to commit because every delivery was processed before.
    pub fn is_empty(&self) -> bool {
        self.commit.dedupe_keys.is_empty()
    }
}

impl Outcome {
    /// The name in logs and traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            other => other.counter().unwrap_or("redelivered"),
        }
    }

    /// The label under which it is counted; `None` if it is not counted.
    pub fn counter(&self) -> Option<&'static str> {
        match self {
            Self::Applied => Some("applied"),
            Self::Duplicate => Some("duplicate"),
            Self::Ignored => Some("ignored"),
            Self::Dead(_) => Some("dead"),
            Self::Redelivered | Self::Paused(_) => None,
        }
    }
}

fn read_item(delivery: &Delivery, pauses: &PauseHistory, plans: &Plans) -> Item {
    let event = match Event::parse(&delivery.body) {
        Ok(event) => event,
        Err(reason) => {
            return Item {
                delivery_id: delivery.id,
                event_id: delivery.event_id.clone(),
                day: day_of(delivery.received_ms.div_euclid(1000)),
                received_ms: delivery.received_ms,
                pause_reason: None,
                content: Err(reason.to_string()),
            };
        }
    };
    let known = is_known_kind(&event.kind);
    let content = match observe(&event, plans) {
        Ok(observations) => Ok(Content {
            known,
            created_s: event.created_s,
            observations,
        }),
        Err(reason) => Err(reason.to_string()),
    };
    Item {
        delivery_id: delivery.id,
        event_id: event.id.clone().into_owned(),
        day: event.created_day(),
        received_ms: delivery.received_ms,
        pause_reason: pauses.hold(&event, delivery.received_ms),
        content,
    }
}

/// Counts an event in the hour of its `created` time (the newest such hour shows how current the
/// events are). For an applied event, also counts the processing time in milliseconds, if known, in
/// the hour of receipt.
fn count_times(
    counters: &mut Counters,
    item: &Item,
    content: &Content,
    outcome: &Outcome,
    now_ms: Option<i64>,
) {
    counters.add(
        Bucket::hour_of(content.created_s),
        &["events", "created"],
        1,
    );
    if let Some(now_ms) = now_ms.filter(|_| *outcome == Outcome::Applied) {
        let took =
            histogram::processing_bound_ms(now_ms.saturating_sub(item.received_ms)).to_string();
        counters.add(
            Bucket::hour_of(item.received_ms.div_euclid(1000)),
            &["events", "processing", &took],
            1,
        );
    }
}

/// The conditions that opened, changed or closed between two versions of one entity.
fn condition_changes(before: &[Condition], after: Vec<Condition>) -> Vec<ConditionChange> {
    let closed = before
        .iter()
        .filter(|b| after.iter().all(|a| a.key != b.key));
    let mut changes: Vec<_> = closed
        .map(|b| ConditionChange::Close(b.key.clone()))
        .collect();
    changes.extend(
        after
            .into_iter()
            .filter(|a| !before.contains(a))
            .map(ConditionChange::Open),
    );
    changes
}

/// The metric label of a delivery's type.
pub fn label(delivery: &Delivery) -> &str {
    kind_label(&delivery.event_type)
}

/// The sum of the contributions of `entities`: the expected values of the current aggregates.
pub fn recompute<'a>(entities: impl IntoIterator<Item = &'a Entity>) -> Counters {
    let mut total = Counters::default();
    for entity in entities {
        total.merge(entity.contributions(), 1);
    }
    total
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use revwatch_core::pauses::Scope;
    use uuid::Uuid;

    use super::*;

    fn delivery(n: u128, body: &str) -> Delivery {
        Delivery {
            id: Uuid::from_u128(n),
            event_id: "evt_1".into(),
            event_type: "payout.failed".into(),
            partition: 0,
            endpoint: "stripe".into(),
            received_ms: 1_000_000,
            traceparent: None,
            body: Bytes::from(body.to_owned()),
        }
    }

    /// 90 ms after the deliveries were received, in hour 0.
    const NOW_MS: i64 = 1_000_090;

    const FAILED: &str = r#"{"id":"evt_1","type":"payout.failed","created":7200,"account":"acct_1","data":{"object":
        {"id":"po_1","object":"payout","status":"failed","amount":500,"currency":"usd","failure_code":"account_closed"}}}"#;

    fn decide(deliveries: &[Delivery], dedupe_keys: &[Option<u128>]) -> Decision {
        let batch = Batch::read(0, deliveries, &Plans::default());
        let mut dedupe_keys: Vec<_> = dedupe_keys.iter().map(|m| m.map(Uuid::from_u128)).collect();
        dedupe_keys.resize(batch.read_set.dedupe_keys.len(), None);
        batch
            .decide(
                &ReadResult {
                    dedupe_keys,
                    entities: vec![None; batch.read_set.entities.len()],
                },
                NOW_MS,
            )
            .expect("nothing stored")
    }

    #[test]
    fn an_event_is_applied_once_and_its_repeats_are_counted_separately() {
        let decision = decide(&[delivery(1, FAILED), delivery(2, FAILED)], &[]);
        assert_eq!(decision.outcomes, [Outcome::Applied, Outcome::Duplicate]);
        let keys: Vec<_> = decision
            .commit
            .dedupe_keys
            .iter()
            .map(|m| m.key.as_str())
            .collect();
        assert_eq!(keys, ["evt_1", "00000000000000000000000000000002"]);
        assert_eq!(
            decision
                .commit
                .counters
                .get(Bucket::Current, &["payouts", "failed", "usd"]),
            1
        );
        assert_eq!(
            decision
                .commit
                .counters
                .get(Bucket::Hour(2), &["payouts_minor", "failed", "usd"]),
            500
        );
        assert_eq!(decision.commit.conditions.len(), 1);
        assert_eq!(
            decision.commit.entities.len(),
            2,
            "the payout and its account"
        );
    }

    #[test]
    fn a_redelivery_is_not_counted_again() {
        assert_eq!(
            decide(&[delivery(1, FAILED)], &[Some(1), None]).outcomes,
            [Outcome::Redelivered]
        );
        assert_eq!(
            decide(&[delivery(2, FAILED)], &[Some(1), Some(2)]).outcomes,
            [Outcome::Redelivered]
        );
        let repeat = decide(&[delivery(2, FAILED)], &[Some(1), None]);
        assert_eq!(repeat.outcomes, [Outcome::Duplicate]);
        assert!(repeat.commit.entities.is_empty());
        assert!(decide(&[delivery(1, FAILED)], &[Some(1), None]).is_empty());
    }

    #[test]
    fn events_are_counted_by_creation_hour_and_processing_time() {
        let unknown = r#"{"id":"evt_9","type":"a.new.type","created":3600}"#;
        let mut late = delivery(4, &FAILED.replace("evt_1", "evt_2"));
        // The clock of the machine that received it is ahead.
        late.received_ms = NOW_MS + 5000;
        let deliveries = [
            delivery(1, FAILED),
            delivery(2, FAILED),
            delivery(3, unknown),
            late,
            delivery(5, "{"),
        ];
        let counters = decide(&deliveries, &[]).commit.counters;
        let event_counters: Vec<_> = counters
            .iter()
            .filter(|(bucket, name, _)| *bucket != Bucket::Current && name.starts_with("events|"))
            .collect();
        let took = |ms| format!("events|processing|{}", histogram::processing_bound_ms(ms));
        let expected = [
            (Bucket::Hour(0), &*took(0), 1),
            (Bucket::Hour(0), &*took(90), 1),
            (Bucket::Hour(1), "events|created", 1),
            (Bucket::Hour(2), "events|created", 2),
        ];
        assert_eq!(
            event_counters, expected,
            "neither repeats nor dead letters are counted"
        );
        let again = decide(&deliveries[..1], &[Some(1), None]).commit.counters;
        assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn a_paused_delivery_changes_nothing_and_an_applied_one_is_still_recognised() {
        let mut pauses = Pauses::default();
        pauses.set(&Scope::Account("acct_1".into()), true);
        let unreadable = delivery(3, "{");
        let batch = Batch::read_under(
            &pauses.into(),
            0,
            &[delivery(1, FAILED), unreadable],
            &Plans::default(),
        );
        let mut found = ReadResult {
            dedupe_keys: vec![None; 4],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert!(
            matches!(&decision.outcomes[..], [Outcome::Paused(reason), Outcome::Dead(_)] if reason.contains("acct_1"))
        );
        assert_eq!(
            (
                decision.commit.dedupe_keys.len(),
                decision.commit.entities.len()
            ),
            (1, 0),
            "the dedupe key of the dead letter"
        );
        found.dedupe_keys[0] = Some(Uuid::from_u128(1));
        assert_eq!(
            batch
                .decide(&found, NOW_MS)
                .expect("nothing stored")
                .outcomes[0],
            Outcome::Redelivered
        );
    }

    #[test]
    fn deliveries_from_the_archive_are_not_timed() {
        let batch = Batch::read(0, &[delivery(1, FAILED)], &Plans::default()).untimed();
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let commit = batch.decide(&found, NOW_MS).expect("nothing stored").commit;
        assert!(
            !commit
                .counters
                .iter()
                .any(|(_, name, _)| name.starts_with("events|processing"))
        );
        assert_eq!(commit.high_watermark_ms, 1_000_000);
    }

    #[test]
    fn unreadable_deliveries_are_dead_and_unknown_types_are_ignored() {
        let dead = decide(
            &[
                delivery(1, "{"),
                delivery(2, &FAILED.replace("500", "true")),
            ],
            &[],
        );
        assert!(
            dead.outcomes.iter().all(|o| matches!(o, Outcome::Dead(_))),
            "{:?}",
            dead.outcomes
        );
        assert_eq!(
            dead.commit
                .counters
                .get(Bucket::Current, &["events", "dead"]),
            2
        );
        let unknown = decide(
            &[delivery(
                1,
                r#"{"id":"evt_9","type":"a.new.type","created":5}"#,
            )],
            &[],
        );
        assert_eq!(unknown.outcomes, [Outcome::Ignored]);
    }
}
