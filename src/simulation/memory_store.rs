//! The state of a pretended deployment, in memory. What changes it is decided by the worker's own code. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use revwatch_alerting::engine::DELIVERIES;
use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::EntityKey;
use revwatch_core::observe::Plans;
use revwatch_storage::ports::{
    ChangeCursor, Changes, Commit, ConditionChange, Delivery, DueWindow, ReadResult, ReadSet,
    StoredEntity,
};
use revwatch_worker::plan::{Batch, Outcome};
use uuid::Uuid;

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    plans: Plans,
    marks: HashMap<(u32, String), Uuid>,
    entities: HashMap<EntityKey, StoredEntity>,
    counters: Counters,
    /// The hours of `counters`, and perhaps some in which the sum is zero by now.
    hours: BTreeSet<u32>,
    conditions: BTreeMap<ConditionKey, Condition>,
    due: BTreeSet<(i64, ConditionKey)>,
    changes: VecDeque<ConditionChange>,
    /// How many changes are no longer kept.
    forgotten: u64,
}

/// Deliveries merged and committed together, at most.
const BATCH: usize = 256;

impl MemoryStore {
    /// Nothing has happened yet.
    pub fn new(plans: Plans) -> Self {
        Self {
            plans,
            ..Self::default()
        }
    }

    /// Applies deliveries at `now_ms` (Unix milliseconds), as a worker would: what became of each.
    pub fn apply(&mut self, deliveries: &[Delivery], now_ms: i64) -> Result<Vec<Outcome>, String> {
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for part in deliveries.chunks(BATCH) {
            let batch = Batch::read(0, part, &self.plans);
            let decision = batch.decide(&self.find(&batch.read_set), now_ms)?;
            self.commit(decision.commit);
            outcomes.extend(decision.outcomes);
        }
        Ok(outcomes)
    }

    /// Every counter that is still kept.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many deliveries were processed.
    pub fn deliveries(&self) -> i64 {
        let count = |name: &&str| {
            let parts: Vec<_> = name.split('|').collect();
            self.counters.get(Bucket::Current, &parts)
        };
        DELIVERIES.iter().map(count).sum()
    }

    /// Whether nothing was ever applied.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The first hour from `hour` on that has counters.
    pub fn hour_from(&self, hour: u32) -> Option<u32> {
        self.hours.range(hour..).next().copied()
    }

    /// Forgets the counters of hours before `hour`: nothing looks at them any more.
    pub fn forget_hours_before(&mut self, hour: u32) {
        if self.hours.first().is_none_or(|first| *first >= hour) {
            return;
        }
        self.hours = self.hours.split_off(&hour);
        let mut kept = Counters::default();
        for (bucket, name, value) in self.counters.iter() {
            if !matches!(bucket, Bucket::Hour(h) if h < hour) {
                kept.add_named(bucket, name.to_owned(), value);
            }
        }
        self.counters = kept;
    }

    /// Every open condition.
    pub fn conditions(&self) -> Vec<Condition> {
        self.conditions.values().cloned().collect()
    }

    /// Open conditions that fall due in the window.
    pub fn conditions_due(&self, window: DueWindow) -> Vec<Condition> {
        let due = self
            .due
            .range((window.after_s.saturating_add(1), lowest())..);
        let due = due.take_while(|(at_s, _)| *at_s <= window.until_s);
        due.filter_map(|(_, key)| self.conditions.get(key).cloned())
            .collect()
    }

    /// When the next open condition falls due after `after_s`.
    pub fn next_due_s(&self, after_s: i64) -> Option<i64> {
        self.due
            .range((after_s.saturating_add(1), lowest())..)
            .next()
            .map(|(at_s, _)| *at_s)
    }

    /// Changes of conditions since `cursor`, at most `limit`.
    pub fn changes(&self, cursor: &ChangeCursor, limit: usize) -> Changes {
        let seen = cursor.get(&0).copied().unwrap_or(0);
        let newest = self.forgotten + self.changes.len() as u64;
        let Some(skipped) = seen.checked_sub(self.forgotten) else {
            return Changes {
                changes: Vec::new(),
                cursor: ChangeCursor::from([(0, newest)]),
                gap: true,
                more: false,
            };
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let changes: Vec<_> = self
            .changes
            .iter()
            .skip(skipped)
            .take(limit)
            .cloned()
            .collect();
        let read = seen + changes.len() as u64;
        Changes {
            changes,
            cursor: ChangeCursor::from([(0, read)]),
            gap: false,
            more: read < newest,
        }
    }

    /// Forgets the changes so far. Whoever has not seen them must look at all open conditions.
    pub fn forget_changes(&mut self) {
        self.forgotten += self.changes.len() as u64;
        self.changes.clear();
    }

    fn find(&self, want: &ReadSet) -> ReadResult {
        ReadResult {
            dedupe_keys: want
                .dedupe_keys
                .iter()
                .map(|mark| self.marks.get(mark).copied())
                .collect(),
            entities: want
                .entities
                .iter()
                .map(|key| self.entities.get(key).cloned())
                .collect(),
        }
    }

    fn commit(&mut self, commit: Commit) {
        for mark in commit.dedupe_keys {
            self.marks.insert((mark.day, mark.key), mark.delivery);
        }
        for write in commit.entities {
            self.entities.insert(
                write.key,
                StoredEntity {
                    version: write.expected + 1,
                    body: write.body,
                },
            );
        }
        self.hours.extend(
            commit
                .counters
                .iter()
                .filter_map(|(bucket, ..)| match bucket {
                    Bucket::Hour(hour) => Some(hour),
                    Bucket::Current => None,
                }),
        );
        self.counters.merge(commit.counters, 1);
        for change in commit.conditions {
            let key = match &change {
                ConditionChange::Open(condition) => &condition.key,
                ConditionChange::Close(key) => key,
            };
            if let Some(earlier) = self.conditions.remove(key) {
                self.due.remove(&(earlier.due_s, earlier.key));
            }
            if let ConditionChange::Open(condition) = &change {
                self.due.insert((condition.due_s, condition.key.clone()));
                self.conditions
                    .insert(condition.key.clone(), condition.clone());
            }
            self.changes.push_back(change);
        }
    }
}

/// Sorts before every key there is.
fn lowest() -> ConditionKey {
    use revwatch_core::condition::ConditionKind;
    use revwatch_core::entity::EntityKind;
    let kind = ConditionKind::ALL
        .into_iter()
        .min()
        .unwrap_or(ConditionKind::ChargesLost);
    let entity = EntityKind::ALL
        .into_iter()
        .min()
        .unwrap_or(EntityKind::Account);
    ConditionKey {
        kind,
        subject: EntityKey::new(entity, ""),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use revwatch_core::entity::Entity;
    use revwatch_worker::plan::recompute;

    use super::*;
    use crate::simulation::template::{Instance, Template};

    fn deliveries() -> Vec<Delivery> {
        let kinds = [
            "payout.paid",
            "payout.failed",
            "account.updated",
            "customer.subscription.created",
            "invoice.paid",
        ];
        let body = |seq: u64| {
            let event = kinds[usize::try_from(seq).expect("small") % kinds.len()];
            let at_s = i64::try_from(seq).expect("small") * 600;
            let of = Instance {
                n: seq % 9,
                seq,
                start_s: 0,
                at_s,
                created_s: at_s,
            };
            Template::of(event).body(&of)
        };
        let delivery = |seq: u64| Delivery {
            id: Uuid::from_u128(u128::from(seq)),
            event_id: String::new(),
            event_type: String::new(),
            partition: 0,
            endpoint: String::new(),
            received_ms: 0,
            traceparent: None,
            body: Bytes::from(body(seq)),
        };
        (1..600).map(delivery).collect()
    }

    #[test]
    fn its_counters_and_conditions_follow_from_its_entities() {
        let mut ledger = MemoryStore::new(Plans::default());
        let deliveries = deliveries();
        assert!(
            ledger
                .apply(&deliveries, 0)
                .expect("applied")
                .iter()
                .all(|o| *o == Outcome::Applied)
        );
        let again = ledger.apply(&deliveries, 0).expect("applied");
        assert!(again.iter().all(|o| *o == Outcome::Redelivered));
        let entities = |(key, stored): (&EntityKey, &StoredEntity)| {
            Entity::decode(key, &stored.body).expect("readable")
        };
        let entities: Vec<Entity> = ledger.entities.iter().map(entities).collect();
        let mut rest = ledger.counters().clone();
        rest.merge(recompute(&entities), -1);
        assert!(
            rest.iter().all(|(_, name, _)| name.starts_with("events|")),
            "{rest:?}"
        );
        let mut conditions: Vec<_> = entities.iter().flat_map(Entity::conditions).collect();
        conditions.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(ledger.conditions(), conditions);
        assert!(conditions.len() > 100);
        let due = |after_s, until_s| ledger.conditions_due(DueWindow { after_s, until_s }).len();
        assert_eq!(due(0, i64::MAX), conditions.len());
        let first_s = ledger.next_due_s(0).expect("some");
        assert!(due(first_s - 1, first_s) < conditions.len());
        assert_eq!(due(first_s, first_s), 0);
    }

    #[test]
    fn changes_are_read_in_pages_and_what_is_forgotten_is_a_gap() {
        let mut ledger = MemoryStore::new(Plans::default());
        ledger.apply(&deliveries(), 0).expect("applied");
        let first = ledger.changes(&ChangeCursor::new(), 3);
        assert_eq!(
            (first.changes.len(), first.gap, first.more),
            (3, false, true)
        );
        let all = ledger.changes(&ChangeCursor::new(), usize::MAX).changes;
        let (but_one, whole) = (all.len() - 1, all.len());
        assert!(ledger.changes(&ChangeCursor::new(), but_one).more);
        assert!(!ledger.changes(&ChangeCursor::new(), whole).more);
        let next = ledger.changes(&first.cursor, 3);
        assert_ne!(next.changes, first.changes);
        ledger.forget_changes();
        let late = ledger.changes(&next.cursor, 3);
        assert!(late.gap && late.changes.is_empty());
        assert!(!ledger.changes(&late.cursor, 3).gap);
    }

    #[test]
    fn old_hours_are_forgotten_and_what_stands_is_not() {
        let mut ledger = MemoryStore::new(Plans::default());
        ledger.apply(&deliveries(), 0).expect("applied");
        ledger.forget_hours_before(50);
        let counters = ledger.counters();
        assert!(
            counters
                .iter()
                .all(|(bucket, ..)| !matches!(bucket, Bucket::Hour(h) if h < 50))
        );
        assert!(counters.get(Bucket::Current, &["payouts", "paid", "usd"]) > 100);
        assert_eq!(ledger.hour_from(0), Some(50));
    }
}
