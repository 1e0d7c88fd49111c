//! The state of a pretended deployment, in memory. What changes it is decided by the worker's own code. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use revwatch_shared::condition::{Condition, ConditionKey};
use revwatch_shared::counters::{Bucket, Counters};
use revwatch_shared::entity::EntityKey;
use revwatch_shared::observe::Plans;
use revwatch_shared::ports::{ChangeCursor, Changes, Commit, ConditionChange, Delivery, Found, Stored, Want};
use revwatch_worker::plan::{Batch, Outcome};
use uuid::Uuid;

/// See the module.
#[derive(Default)]
pub struct Ledger {
    plans: Plans,
    marks: HashMap<(u32, String), Uuid>,
    entities: HashMap<EntityKey, Stored>,
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

impl Ledger {
    /// Nothing has happened yet.
    pub fn new(plans: Plans) -> Self {
        Self { plans, ..Self::default() }
    }

    /// Applies deliveries at `now_ms` (Unix milliseconds), as a worker would: what became of each.
    pub fn apply(&mut self, deliveries: &[Delivery], now_ms: i64) -> Result<Vec<Outcome>, String> {
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for part in deliveries.chunks(BATCH) {
            let batch = Batch::read(0, part, &self.plans);
            let decision = batch.decide(&self.find(&batch.want), now_ms)?;
            self.commit(decision.commit);
            outcomes.extend(decision.outcomes);
        }
        Ok(outcomes)
    }

    /// Every counter that is still kept.
    pub fn counters(&self) -> &Counters {
        &self.counters
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

    /// Open conditions that fall due after `after_s` and up to `until_s` (Unix seconds).
    pub fn conditions_due(&self, after_s: i64, until_s: i64) -> Vec<Condition> {
        let due = self.due.range((after_s.saturating_add(1), lowest())..);
        let due = due.take_while(|(at_s, _)| *at_s <= until_s);
        due.filter_map(|(_, key)| self.conditions.get(key).cloned()).collect()
    }

    /// When the next open condition falls due after `after_s`.
    pub fn next_due_s(&self, after_s: i64) -> Option<i64> {
        self.due.range((after_s.saturating_add(1), lowest())..).next().map(|(at_s, _)| *at_s)
    }

    /// Changes of conditions since `cursor`, at most `limit`.
    pub fn changes(&self, cursor: &ChangeCursor, limit: usize) -> Changes {
        let seen = cursor.get(&0).copied().unwrap_or(0);
        let newest = self.forgotten + self.changes.len() as u64;
        let Some(skipped) = seen.checked_sub(self.forgotten) else {
            return Changes { changes: Vec::new(), cursor: ChangeCursor::from([(0, newest)]), gap: true };
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let changes: Vec<_> = self.changes.iter().skip(skipped).take(limit).cloned().collect();
        let read = seen + changes.len() as u64;
        Changes { changes, cursor: ChangeCursor::from([(0, read)]), gap: false }
    }

    /// Forgets the changes so far. Whoever has not seen them must look at all open conditions.
    pub fn forget_changes(&mut self) {
        self.forgotten += self.changes.len() as u64;
        self.changes.clear();
    }

    fn find(&self, want: &Want) -> Found {
        Found {
            marks: want.marks.iter().map(|mark| self.marks.get(mark).copied()).collect(),
            entities: want.entities.iter().map(|key| self.entities.get(key).cloned()).collect(),
        }
    }

    fn commit(&mut self, commit: Commit) {
        for mark in commit.marks {
            self.marks.insert((mark.day, mark.key), mark.delivery);
        }
        for write in commit.entities {
            self.entities.insert(write.key, Stored { version: write.expected + 1, body: write.body });
        }
        self.hours.extend(commit.counters.iter().filter_map(|(bucket, ..)| match bucket {
            Bucket::Hour(hour) => Some(hour),
            Bucket::Standing => None,
        }));
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
                self.conditions.insert(condition.key.clone(), condition.clone());
            }
            self.changes.push_back(change);
        }
    }
}

/// Sorts before every key there is.
fn lowest() -> ConditionKey {
    use revwatch_shared::condition::ConditionKind;
    use revwatch_shared::entity::EntityKind;
    let kind = ConditionKind::ALL.into_iter().min().unwrap_or(ConditionKind::ChargesLost);
    let entity = EntityKind::ALL.into_iter().min().unwrap_or(EntityKind::Account);
    ConditionKey { kind, subject: EntityKey::new(entity, "") }
}
