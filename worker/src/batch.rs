//! Decides purely what a batch of deliveries changes; other modules carry it out.
//!
//! Invariant: the same batch over the same state at the same time gives the same commit, and a
//! delivery is counted once no matter how often the queue redelivers it.

use std::collections::{BTreeMap, HashSet};

use revwatch_core::condition::Condition;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{Entity, EntityKey, Observation, Transition, transitions};
use revwatch_core::event::{Event, day_of, is_known_kind, kind_label};
use revwatch_core::histogram;
use revwatch_core::mode::{Modes, OTHER_MODE, OtherMode};
use revwatch_core::observe::{Plans, observe};
use revwatch_core::pauses::{PauseHistory, Pauses};
use revwatch_storage::ports::{
    AuditEntry, Commit, ConditionChange, DedupeKey, Delivery, EntityWrite, ReadResult, ReadSet,
    StoredEntity,
};

/// A partition, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub partition: u32,
    /// At least 1.
    pub partitions: u32,
}

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
    /// Its event is of the other mode, for this reason. It changes nothing.
    OtherMode(OtherMode),
    /// It can never be applied, for this reason.
    Dead(String),
    /// The queue redelivered it after it was processed. It is not counted again.
    Redelivered,
    /// An operator's pause holds it back, for this reason. It leaves no state until the pause ends.
    Paused(String),
    /// It belongs to this other partition: another version computed its partition. It leaves no state here.
    Moved(u32),
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
    /// The other partition that it belongs to.
    elsewhere: Option<u32>,
    other_mode: Option<OtherMode>,
    pause_reason: Option<String>,
    content: Result<Content, String>,
}

#[derive(Debug)]
struct Content {
    known: bool,
    created_s: i64,
    observations: Vec<Observation>,
}

/// What happens to each entity that the batch may change.
type Changes<'a> = BTreeMap<&'a EntityKey, Change>;

struct Change {
    /// The stored version.
    expected: u64,
    before: Entity,
    after: Entity,
}

/// What the batch contains so far. Within a batch, as between batches, the first delivery of an
/// event wins, and a delivery that is there twice was delivered again.
#[derive(Default)]
struct Seen<'a> {
    deliveries: HashSet<uuid::Uuid>,
    applied: HashSet<&'a str>,
}

impl Place {
    /// The only partition.
    pub const ONLY: Self = Self {
        partition: 0,
        partitions: 1,
    };
}

impl Batch {
    /// Parses the deliveries of one partition.
    pub fn read(place: Place, deliveries: &[Delivery], modes: &Modes, plans: &Plans) -> Self {
        let pauses = Pauses::default().into();
        Self::read_under(&pauses, place, deliveries, modes, plans)
    }

    /// Parses the deliveries of one partition, some of which may be paused.
    pub fn read_under(
        pauses: &PauseHistory,
        place: Place,
        deliveries: &[Delivery],
        modes: &Modes,
        plans: &Plans,
    ) -> Self {
        let items: Vec<Item> = deliveries
            .iter()
            .map(|d| read_item(d, place, pauses, modes, plans))
            .collect();
        let mut read_set = ReadSet::default();
        let mut seen: HashSet<&EntityKey> = HashSet::new();
        for item in &items {
            read_set.dedupe_keys.push((item.day, item.event_id.clone()));
            read_set
                .dedupe_keys
                .push((item.day, item.delivery_id.simple().to_string()));
            let here = item.content.iter().filter(|_| item.elsewhere.is_none());
            for observation in here.flat_map(|c| &c.observations) {
                if seen.insert(&observation.key) {
                    read_set.entities.push(observation.key.clone());
                }
            }
        }
        Self {
            partition: place.partition,
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
        let now_ms = self.timed.then_some(now_ms);
        let mut entities = self.found_entities(found)?;
        let mut commit = Commit {
            partition: self.partition,
            ..Commit::default()
        };
        let mut seen = Seen::default();
        let mut outcomes = Vec::with_capacity(self.items.len());
        for (item, dedupe_keys) in self.items.iter().zip(found.dedupe_keys.chunks(2)) {
            let outcome = seen.outcome(item, dedupe_keys[0], dedupe_keys[1]);
            if let (Outcome::Applied | Outcome::Ignored, Ok(content)) = (&outcome, &item.content) {
                for observation in &content.observations {
                    if let Some(change) = entities.get_mut(&observation.key) {
                        change.after.merge(observation);
                    }
                }
                count_times(&mut commit.counters, item, content, &outcome, now_ms);
            }
            count(&mut commit, item, &outcome);
            outcomes.push(outcome);
        }
        let transitions = add_changes(&mut commit, entities);
        let created_s = |item: &Item| item.content.as_ref().ok().map(|content| content.created_s);
        Ok(Decision {
            commit,
            outcomes,
            created_s: self.items.iter().map(created_s).collect(),
            transitions,
        })
    }

    /// The entities of the read set, as they are stored.
    fn found_entities(&self, found: &ReadResult) -> Result<Changes<'_>, String> {
        let stored = self.read_set.entities.iter().zip(&found.entities);
        let changes = stored.map(|(key, stored)| Ok((key, Change::of(key, stored.as_ref())?)));
        changes.collect()
    }
}

impl Change {
    /// The entity as it is stored, without a change so far.
    fn of(key: &EntityKey, stored: Option<&StoredEntity>) -> Result<Self, String> {
        let (expected, before) = match stored {
            Some(StoredEntity { version, body }) => (*version, Entity::decode(key, body)?),
            None => (0, Entity::new(key)),
        };
        Ok(Self {
            expected,
            after: before.clone(),
            before,
        })
    }
}

impl<'a> Seen<'a> {
    /// The outcome of the next delivery, given the deliveries that stored the dedupe keys of its event
    /// and of itself.
    fn outcome(
        &mut self,
        item: &'a Item,
        by_event: Option<uuid::Uuid>,
        by_delivery: Option<uuid::Uuid>,
    ) -> Outcome {
        if let Some(partition) = item.elsewhere {
            return Outcome::Moved(partition);
        }
        let was_processed = by_delivery.is_some() || by_event == Some(item.delivery_id);
        if !self.deliveries.insert(item.delivery_id) || was_processed {
            return Outcome::Redelivered;
        }
        let content = match &item.content {
            Ok(content) => content,
            Err(reason) => return Outcome::Dead(reason.clone()),
        };
        if by_event.is_some() || self.applied.contains(item.event_id.as_str()) {
            return Outcome::Duplicate;
        }
        if let Some(reason) = &item.pause_reason {
            return Outcome::Paused(reason.clone());
        }
        let outcome = match (item.other_mode, content.known) {
            (Some(reason), _) => Outcome::OtherMode(reason),
            (None, true) => Outcome::Applied,
            (None, false) => Outcome::Ignored,
        };
        if outcome.decides_event() {
            self.applied.insert(&item.event_id);
        }
        outcome
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
            Self::Moved(_) => "moved",
            other => other.counter().unwrap_or("redelivered"),
        }
    }

    /// Whether later deliveries of the event are duplicates. What one endpoint ignores may be applied
    /// when it comes to another.
    pub fn decides_event(&self) -> bool {
        matches!(
            self,
            Self::Applied | Self::Ignored | Self::OtherMode(OtherMode::OfDeployment)
        )
    }

    /// The label under which it is counted; `None` if it is not counted.
    pub fn counter(&self) -> Option<&'static str> {
        match self {
            Self::Applied => Some("applied"),
            Self::Duplicate => Some("duplicate"),
            Self::Ignored => Some("ignored"),
            Self::OtherMode(_) => Some(OTHER_MODE),
            Self::Dead(_) => Some("dead"),
            Self::Redelivered | Self::Paused(_) | Self::Moved(_) => None,
        }
    }
}

fn read_item(
    delivery: &Delivery,
    place: Place,
    pauses: &PauseHistory,
    modes: &Modes,
    plans: &Plans,
) -> Item {
    let event = match Event::parse(&delivery.body) {
        Ok(event) => event,
        Err(reason) => {
            return Item {
                delivery_id: delivery.id,
                event_id: delivery.event_id.clone(),
                day: day_of(delivery.received_ms.div_euclid(1000)),
                received_ms: delivery.received_ms,
                elsewhere: None,
                other_mode: None,
                pause_reason: None,
                content: Err(reason.to_string()),
            };
        }
    };
    let pause_reason = pauses.hold(&event, delivery.received_ms);
    let other_mode = modes.judge(&delivery.endpoint, event.livemode);
    // What is paused is parked as it was received. If revwatch panics at an event, a pause of its account
    // sets the event aside.
    let observed = match (&pause_reason, other_mode) {
        (None, None) => observe(&event, plans),
        _ => Ok(Vec::new()),
    };
    // To find the key of the object in its JSON costs as much as to parse the object.
    let partition = match observed.as_ref().ok().and_then(|all| all.last()) {
        Some(observation) => observation.partition(place.partitions),
        None => event.partition(place.partitions),
    };
    let elsewhere = (partition != place.partition).then_some(partition);
    let content = match observed {
        Ok(observations) => Ok(Content {
            known: is_known_kind(&event.kind),
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
        elsewhere,
        other_mode,
        pause_reason,
        content,
    }
}

/// Notes that a delivery was processed, unless it is paused or was processed before.
fn count(commit: &mut Commit, item: &Item, outcome: &Outcome) {
    let Some(counter) = outcome.counter() else {
        return;
    };
    let key = if outcome.decides_event() {
        item.event_id.clone()
    } else {
        item.delivery_id.simple().to_string()
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

/// Adds the entities that changed, and what follows from that; returns their transitions.
fn add_changes(commit: &mut Commit, entities: Changes<'_>) -> Vec<(EntityKey, Transition)> {
    let mut changed = Vec::new();
    for (key, change) in entities {
        let Change {
            expected,
            before,
            after,
        } = change;
        if before == after {
            continue;
        }
        commit.entities.push(EntityWrite {
            key: key.clone(),
            expected,
            body: after.encode(),
        });
        commit
            .counters
            .add_difference(&before.tally(), &after.tally());
        commit
            .conditions
            .extend(condition_changes(&before.conditions(), after.conditions()));
        let of_entity = transitions(&before, &after).into_iter();
        changed.extend(of_entity.map(|transition| (key.clone(), transition)));
    }
    let entry = |(subject, transition): &(EntityKey, Transition)| AuditEntry {
        at_s: transition.at_s,
        subject: subject.clone(),
        event_id: transition.event_id.clone(),
        what: match transition.expected {
            true => transition.what.clone(),
            false => format!("{} (unexpected)", transition.what),
        },
    };
    commit.audit.extend(changed.iter().map(entry));
    changed
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
    use revwatch_core::mode::Mode;
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
        let batch = Batch::read(
            Place::ONLY,
            deliveries,
            &Modes::default(),
            &Plans::default(),
        );
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
    fn a_delivery_that_is_in_a_batch_twice_is_processed_once() {
        let counted = |deliveries: &[Delivery]| {
            let Decision {
                commit, outcomes, ..
            } = decide(deliveries, &[]);
            let keys: HashSet<&str> = commit
                .dedupe_keys
                .iter()
                .map(|dedupe| dedupe.key.as_str())
                .collect();
            assert_eq!(keys.len(), commit.dedupe_keys.len(), "each key once");
            let names: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
            names.join(" ")
        };
        let (first, second) = (delivery(1, FAILED), delivery(2, FAILED));
        let broken = delivery(3, "{");
        let repeats = [first.clone(), second.clone(), second, first];
        assert_eq!(
            counted(&repeats),
            "applied duplicate redelivered redelivered"
        );
        assert_eq!(counted(&[broken.clone(), broken]), "dead redelivered");
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
    fn the_object_of_a_paused_delivery_is_not_read() {
        let mut pauses = Pauses::default();
        pauses.set(&Scope::Account("acct_1".into()), true);
        let unreadable = delivery(1, &FAILED.replace("500", "true"));
        for (history, paused) in [(pauses, true), (Pauses::default(), false)] {
            let deliveries = std::slice::from_ref(&unreadable);
            let (modes, plans) = (Modes::default(), Plans::default());
            let batch = Batch::read_under(&history.into(), Place::ONLY, deliveries, &modes, &plans);
            let found = ReadResult {
                dedupe_keys: vec![None; 2],
                entities: vec![None; batch.read_set.entities.len()],
            };
            let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
            assert_eq!(
                matches!(&decision.outcomes[..], [Outcome::Paused(_)]),
                paused,
                "{:?}",
                decision.outcomes
            );
        }
    }

    #[test]
    fn a_paused_delivery_changes_nothing_and_an_applied_one_is_still_recognised() {
        let mut pauses = Pauses::default();
        pauses.set(&Scope::Account("acct_1".into()), true);
        let unreadable = delivery(3, "{");
        let batch = Batch::read_under(
            &pauses.into(),
            Place::ONLY,
            &[delivery(1, FAILED), unreadable],
            &Modes::default(),
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
    fn a_delivery_in_another_partition_than_that_of_its_object_leaves_no_state() {
        let partition = Event::parse(FAILED.as_bytes())
            .expect("an event")
            .partition(8);
        let outcome = |place| {
            let batch = Batch::read(
                place,
                &[delivery(1, FAILED)],
                &Modes::default(),
                &Plans::default(),
            );
            let found = ReadResult {
                // Even if a version that computed another partition has applied it here.
                dedupe_keys: vec![Some(Uuid::from_u128(1)), None],
                entities: vec![None; batch.read_set.entities.len()],
            };
            let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
            assert!(decision.is_empty() && decision.commit.counters.is_empty());
            decision.outcomes
        };
        let place = |partition| Place {
            partition,
            partitions: 8,
        };
        assert_eq!(outcome(place(partition)), [Outcome::Redelivered]);
        let other = (partition + 1) % 8;
        assert_eq!(outcome(place(other)), [Outcome::Moved(partition)]);
    }

    #[test]
    fn deliveries_from_the_archive_are_not_timed() {
        let batch = Batch::read(
            Place::ONLY,
            &[delivery(1, FAILED)],
            &Modes::default(),
            &Plans::default(),
        )
        .untimed();
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

    /// Live and test events of one connected account at one endpoint. The last object is unreadable.
    fn of_both_modes() -> [Delivery; 4] {
        let of = |n: u128, livemode: &str| {
            let body = FAILED
                .replace("evt_1", &format!("evt_{n}"))
                .replace("po_1", &format!("po_{n}"));
            let mode = format!(r#","livemode":{livemode},"data""#);
            body.replace(r#","data""#, &mode)
        };
        [
            delivery(1, &of(1, "true")),
            delivery(2, &of(2, "false")),
            delivery(3, &of(2, "false")),
            delivery(4, &of(4, "false").replace("500", "true")),
        ]
    }

    fn decide_in(modes: &Modes, deliveries: &[Delivery]) -> Decision {
        let batch = Batch::read(Place::ONLY, deliveries, modes, &Plans::default());
        let found = ReadResult {
            dedupe_keys: vec![None; deliveries.len() * 2],
            entities: vec![None; batch.read_set.entities.len()],
        };
        batch.decide(&found, NOW_MS).expect("nothing stored")
    }

    #[test]
    fn events_of_the_other_mode_are_counted_and_change_nothing() {
        let deliveries = of_both_modes();
        let other = Outcome::OtherMode(OtherMode::OfDeployment);
        let decision = decide_in(&Modes::default(), &deliveries);
        // An object that is not read makes no dead letter.
        let expected = [Outcome::Applied, other.clone(), Outcome::Duplicate, other];
        assert_eq!(decision.outcomes, expected);

        let alone = decide_in(&Modes::default(), &deliveries[..1]).commit;
        let mut commit = decision.commit;
        for (outcome, times) in [(OTHER_MODE, 2), ("duplicate", 1)] {
            let name = ["events", outcome];
            assert_eq!(commit.counters.get(Bucket::Current, &name), times);
            commit.counters.add(Bucket::Current, &name, -times);
        }
        assert_eq!(commit.counters, alone.counters, "nothing else is counted");
        assert_eq!(commit.entities, alone.entities);
        assert_eq!(commit.conditions, alone.conditions);
        assert_eq!(commit.audit, alone.audit);
        let keys: Vec<_> = commit.dedupe_keys.iter().map(|k| k.key.as_str()).collect();
        let repeat = Uuid::from_u128(3).simple().to_string();
        assert_eq!(keys, ["evt_1", "evt_2", &repeat, "evt_4"]);
    }

    #[test]
    fn a_deployment_of_test_mode_applies_the_opposite() {
        let [live, test, ..] = of_both_modes();
        let decision = decide_in(&Modes::new(Mode::Test, []), &[live, test]);
        let other = Outcome::OtherMode(OtherMode::OfDeployment);
        assert_eq!(decision.outcomes, [other, Outcome::Applied]);
        let written: Vec<_> = decision.commit.entities.iter().map(|e| &e.key.id).collect();
        assert_eq!(written, ["po_2", "acct_1"]);
    }

    #[test]
    fn what_one_endpoint_ignores_is_applied_when_it_comes_to_another() {
        let modes = Modes::new(Mode::Live, [("narrow".to_owned(), Mode::Test)]);
        let [live, ..] = of_both_modes();
        let narrow = Delivery {
            id: Uuid::from_u128(9),
            endpoint: "narrow".into(),
            ..live.clone()
        };
        let ignored = Outcome::OtherMode(OtherMode::OfEndpoint);
        let decision = decide_in(&modes, &[narrow, live]);
        assert_eq!(decision.outcomes, [ignored, Outcome::Applied]);
    }
}
