//! What a batch of deliveries changes: decided here, purely; done elsewhere.
//!
//! Invariant: the same batch over the same state at the same time gives the same commit, and one delivery
//! is counted once however often the queue hands it out.

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

/// A batch that has been read, but not yet compared with what the store knows.
#[derive(Debug)]
pub struct Batch {
    partition: u32,
    items: Vec<Item>,
    /// Whether it counts how long the deliveries took.
    timed: bool,
    /// What must be read before [`Batch::decide`].
    pub want: ReadSet,
}

/// What became of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It changed state, or could have: its type is known.
    Applied,
    /// Its event was applied before.
    Duplicate,
    /// Stripe documents no such type.
    Ignored,
    /// It can never be applied, for this reason.
    Dead(String),
    /// The queue hands it out again after it was dealt with; it is not counted again.
    Redelivered,
    /// An operator holds it back, for this reason; nothing is known of it until that is over.
    Paused(String),
}

/// A decided batch.
#[derive(Debug)]
pub struct Decision {
    /// To be committed.
    pub commit: Commit,
    /// In the order of the deliveries.
    pub outcomes: Vec<Outcome>,
    /// When what they tell of happened (Unix seconds), in the same order; `None` where that cannot be read.
    pub created_s: Vec<Option<i64>>,
    /// For the log.
    pub transitions: Vec<(EntityKey, Transition)>,
}

#[derive(Debug)]
struct Item {
    delivery_id: uuid::Uuid,
    event_id: String,
    day: u32,
    received_ms: i64,
    held: Option<String>,
    content: Result<Content, String>,
}

#[derive(Debug)]
struct Content {
    known: bool,
    created_s: i64,
    observations: Vec<Observation>,
}

impl Batch {
    /// Reads the deliveries of one partition.
    pub fn read(partition: u32, deliveries: &[Delivery], plans: &Plans) -> Self {
        Self::read_under(&Pauses::default().into(), partition, deliveries, plans)
    }

    /// Reads the deliveries of one partition, some of which are held back.
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
        let mut want = ReadSet::default();
        let mut seen: HashMap<&EntityKey, ()> = HashMap::new();
        for item in &items {
            want.dedupe_keys.push((item.day, item.event_id.clone()));
            want.dedupe_keys
                .push((item.day, item.delivery_id.simple().to_string()));
            for observation in item.content.iter().flat_map(|c| &c.observations) {
                if seen.insert(&observation.key, ()).is_none() {
                    want.entities.push(observation.key.clone());
                }
            }
        }
        Self {
            partition,
            items,
            timed: true,
            want,
        }
    }

    /// They come from the archive: how long they took when they came first is not known.
    pub fn untimed(mut self) -> Self {
        self.timed = false;
        self
    }

    /// Decides with what the store answered to `want`, at `now_ms` (Unix milliseconds), which serves to
    /// count how long deliveries took and for nothing else. Fails when the store holds what this version
    /// cannot read.
    pub fn decide(&self, found: &ReadResult, now_ms: i64) -> Result<Decision, String> {
        let mut commit = Commit {
            partition: self.partition,
            ..Commit::default()
        };
        let mut outcomes = Vec::with_capacity(self.items.len());
        let mut entities: BTreeMap<&EntityKey, (u64, Entity, Entity)> = BTreeMap::new();
        for (key, stored) in self.want.entities.iter().zip(&found.entities) {
            let (version, entity) = match stored {
                Some(stored) => (stored.version, Entity::decode(key, &stored.body)?),
                None => (0, Entity::new(key)),
            };
            entities.insert(key, (version, entity.clone(), entity));
        }
        // Within the batch, the first delivery of an event wins, as it does between batches.
        let mut applied_here: HashMap<&str, ()> = HashMap::new();
        for (item, marks) in self.items.iter().zip(found.dedupe_keys.chunks(2)) {
            let (by_event, by_delivery) = (marks[0], marks[1]);
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
                    Ok(_) if let Some(reason) = &item.held => Outcome::Paused(reason.clone()),
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
    /// Whether there is nothing to commit: every delivery had been dealt with before.
    pub fn is_empty(&self) -> bool {
        self.commit.dedupe_keys.is_empty()
    }
}

impl Outcome {
    /// The word for it in logs and traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            other => other.counter().unwrap_or("redelivered"),
        }
    }

    /// The word under which it is counted.
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
                held: None,
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
        held: pauses.hold(&event, delivery.received_ms),
        content,
    }
}

/// Counts an event in the hour in which Stripe says it happened (the newest such hour tells how far the
/// events have come), and of one that was applied, in the hour in which it was received, how many
/// milliseconds it has taken since, if that is known.
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

/// What opened, changed or closed between two views of one entity.
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

/// The sum of what `entities` contribute: what the standing aggregates must be.
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

    /// 90 ms after every delivery was received, which is in hour 0.
    const NOW_MS: i64 = 1_000_090;

    const FAILED: &str = r#"{"id":"evt_1","type":"payout.failed","created":7200,"account":"acct_1","data":{"object":
        {"id":"po_1","object":"payout","status":"failed","amount":500,"currency":"usd","failure_code":"account_closed"}}}"#;

    fn decide(deliveries: &[Delivery], marks: &[Option<u128>]) -> Decision {
        let batch = Batch::read(0, deliveries, &Plans::default());
        let mut marks: Vec<_> = marks.iter().map(|m| m.map(Uuid::from_u128)).collect();
        marks.resize(batch.want.dedupe_keys.len(), None);
        batch
            .decide(
                &ReadResult {
                    dedupe_keys: marks,
                    entities: vec![None; batch.want.entities.len()],
                },
                NOW_MS,
            )
            .expect("nothing stored")
    }

    #[test]
    fn an_event_is_applied_once_and_its_repeats_are_counted_apart() {
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
    fn what_the_queue_hands_out_again_is_not_counted_again() {
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
    fn events_are_counted_by_when_they_happened_and_how_long_they_took() {
        let unknown = r#"{"id":"evt_9","type":"a.new.type","created":3600}"#;
        let mut late = delivery(4, &FAILED.replace("evt_1", "evt_2"));
        // By another machine's clock it was received in the future.
        late.received_ms = NOW_MS + 5000;
        let told = [
            delivery(1, FAILED),
            delivery(2, FAILED),
            delivery(3, unknown),
            late,
            delivery(5, "{"),
        ];
        let counters = decide(&told, &[]).commit.counters;
        let of_deliveries: Vec<_> = counters
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
        assert_eq!(of_deliveries, expected, "neither repeats nor dead letters");
        let again = decide(&told[..1], &[Some(1), None]).commit.counters;
        assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn what_is_held_back_leaves_no_trace_and_what_was_applied_before_is_still_known() {
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
            entities: vec![None; batch.want.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert!(
            matches!(&decision.outcomes[..], [Outcome::Paused(why), Outcome::Dead(_)] if why.contains("acct_1"))
        );
        assert_eq!(
            (
                decision.commit.dedupe_keys.len(),
                decision.commit.entities.len()
            ),
            (1, 0),
            "the dead one's mark"
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
    fn what_comes_from_the_archive_is_not_timed() {
        let batch = Batch::read(0, &[delivery(1, FAILED)], &Plans::default()).untimed();
        let found = ReadResult {
            dedupe_keys: vec![None; 2],
            entities: vec![None; batch.want.entities.len()],
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
    fn what_cannot_be_read_is_dead_and_what_is_unknown_is_ignored() {
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
