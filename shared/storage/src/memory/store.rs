//! The store: maps, and the log of commits from which a rollback rebuilds them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use async_trait::async_trait;
use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::recount;
use uuid::Uuid;

use super::{Memory, lock, take_one};
use crate::ports::{
    Aggregates, AuditEntry, Commit, Committed, ConditionChange, Entities, EntityCursor,
    EntityFilter, EntityPage, Health, MAX_ENTITIES_EXAMINED, ReadResult, ReadSet, StoreError,
    StoredEntity,
};

/// Hours are kept for a day longer than they are compared, as the other adapters do.
const DAY_S: i64 = 86_400;

/// All state except the queue's.
pub(super) struct StoreState {
    pub(super) derived: Derived,
    /// Every commit since the state was last dropped, and whether its partition was complete.
    pub(super) log: Vec<(Commit, bool)>,
    pub(super) health: Vec<Health>,
    pub(super) run: u64,
    /// Sequence number of the newest change. It never goes back.
    pub(super) sequence: u64,
    /// Rollbacks lost the changes after the first and up to the second sequence number.
    pub(super) lost: Vec<(u64, u64)>,
    pub(super) documents: BTreeMap<(&'static str, String), StoredDocument>,
    pub(super) version: u64,
    pub(super) leases: HashMap<String, Lease>,
    pub(super) members: BTreeMap<(String, String), i64>,
}

/// What follows from commits.
#[derive(Default)]
pub(super) struct Derived {
    pub(super) dedupe_keys: HashMap<(u32, u32, String), Uuid>,
    /// By kind, id and partition.
    pub(super) entities: BTreeMap<(EntityKind, String, u32), StoredEntity>,
    pub(super) counters: BTreeMap<(Option<u32>, String), i64>,
    pub(super) conditions: BTreeMap<ConditionKey, Condition>,
    pub(super) changes: BTreeMap<u64, ConditionChange>,
    pub(super) audit: Vec<AuditEntry>,
}

pub(super) struct StoredDocument {
    pub(super) version: u64,
    pub(super) body: String,
    pub(super) write_id: Option<Uuid>,
}

pub(super) struct Lease {
    pub(super) holder: String,
    pub(super) fence: u64,
    pub(super) until_ms: i64,
}

impl StoreState {
    pub(super) fn new(partitions: u32) -> Self {
        let complete = Health {
            server_run_id: run_id(1),
            complete_in: Some(run_id(1)),
            recovery_id: Some("new".to_owned()),
            ..Health::default()
        };
        Self {
            derived: Derived::default(),
            log: Vec::new(),
            health: vec![complete; partitions as usize],
            run: 1,
            sequence: 0,
            lost: Vec::new(),
            documents: BTreeMap::new(),
            version: 0,
            leases: HashMap::new(),
            members: BTreeMap::new(),
        }
    }

    pub(super) fn roll_back(&mut self, count: usize) {
        let newest = self.sequence;
        self.log.truncate(self.log.len().saturating_sub(count));
        self.run += 1;
        for health in &mut self.health {
            health.server_run_id = run_id(self.run);
            health.high_watermark_ms = None;
        }
        let kept: u64 = self
            .log
            .iter()
            .map(|(commit, _)| commit.conditions.len() as u64)
            .sum();
        let first = self.derived.changes.keys().next().copied();
        // The changes that remain keep their numbers.
        let numbers: Vec<u64> = self
            .derived
            .changes
            .keys()
            .copied()
            .take(usize::try_from(kept).unwrap_or(usize::MAX))
            .collect();
        let last = numbers
            .last()
            .copied()
            .or(first.map(|first| first - 1))
            .unwrap_or(newest);
        self.derived = Derived::default();
        let mut numbers = numbers.into_iter();
        for (commit, complete) in &self.log {
            self.derived.apply(commit, &mut numbers);
            if *complete {
                let health = &mut self.health[commit.partition as usize];
                health.high_watermark_ms =
                    health.high_watermark_ms.max(Some(commit.high_watermark_ms));
            }
        }
        if last < newest {
            self.lost.push((last, newest));
            // A reader that has learned of the gap continues from here.
            self.sequence += 1;
        }
    }

    fn commit(&mut self, commit: &Commit) -> Committed {
        match self.derived.check(commit) {
            Committed::Applied => {}
            refused => return refused,
        }
        let first = self.sequence + 1;
        self.sequence += commit.conditions.len() as u64;
        self.derived.apply(commit, &mut (first..));
        let health = &mut self.health[commit.partition as usize];
        let complete = health.complete_in.as_ref() == Some(&health.server_run_id);
        if complete {
            health.high_watermark_ms = health.high_watermark_ms.max(Some(commit.high_watermark_ms));
        }
        self.log.push((commit.clone(), complete));
        Committed::Applied
    }

    pub(super) fn put(
        &mut self,
        space: &'static str,
        key: &str,
        body: &str,
        write_id: Option<Uuid>,
    ) -> u64 {
        self.version += 1;
        let document = StoredDocument {
            version: self.version,
            body: body.to_owned(),
            write_id,
        };
        self.documents.insert((space, key.to_owned()), document);
        self.version
    }
}

impl Derived {
    fn check(&self, commit: &Commit) -> Committed {
        let (mut own, mut all) = (0, 0);
        for wanted in &commit.dedupe_keys {
            let key = (commit.partition, wanted.day, wanted.key.clone());
            if let Some(found) = self.dedupe_keys.get(&key) {
                all += 1;
                own += usize::from(*found == wanted.delivery);
            }
        }
        if own == commit.dedupe_keys.len() && own > 0 {
            return Committed::AlreadyApplied;
        }
        let stale = commit.entities.iter().any(|write| {
            let key = (write.key.kind, write.key.id.clone(), commit.partition);
            self.entities.get(&key).map_or(0, |found| found.version) != write.expected
        });
        if all > 0 || stale {
            return Committed::Conflict;
        }
        Committed::Applied
    }

    fn apply(&mut self, commit: &Commit, numbers: &mut dyn Iterator<Item = u64>) {
        for set in &commit.dedupe_keys {
            let key = (commit.partition, set.day, set.key.clone());
            self.dedupe_keys.insert(key, set.delivery);
        }
        for write in &commit.entities {
            let stored = StoredEntity {
                version: write.expected + 1,
                body: write.body.clone(),
            };
            let key = (write.key.kind, write.key.id.clone(), commit.partition);
            self.entities.insert(key, stored);
        }
        for (bucket, name, by) in commit.counters.iter() {
            let hour = match bucket {
                Bucket::Current => None,
                Bucket::Hour(hour) => Some(hour),
            };
            let value = self.counters.entry((hour, name.to_string())).or_default();
            *value += by;
        }
        self.counters.retain(|_, value| *value != 0);
        for (change, number) in commit.conditions.iter().zip(numbers) {
            match change {
                ConditionChange::Open(condition) => {
                    let key = condition.key.clone();
                    self.conditions.insert(key, condition.clone());
                }
                ConditionChange::Close(key) => drop(self.conditions.remove(key)),
            }
            self.changes.insert(number, change.clone());
        }
        self.audit.extend(commit.audit.iter().cloned());
    }
}

#[async_trait]
impl Entities for Memory {
    async fn read(&self, partition: u32, want: &ReadSet) -> Result<ReadResult, StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let state = lock(&self.shared.store);
        let dedupe_keys = want.dedupe_keys.iter().map(|(day, key)| {
            let key = (partition, *day, key.clone());
            state.derived.dedupe_keys.get(&key).copied()
        });
        let entities = want.entities.iter().map(|key| {
            let key = (key.kind, key.id.clone(), partition);
            state.derived.entities.get(&key).cloned()
        });
        Ok(ReadResult {
            dedupe_keys: dedupe_keys.collect(),
            entities: entities.collect(),
        })
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.shared.pass_to(&self.gate, commit.partition).await;
        if take_one(&mut lock(&self.shared.plan).commits_to_refuse) {
            return Err(StoreError::Unavailable("the connection failed".into()));
        }
        let committed = lock(&self.shared.store).commit(commit);
        if take_one(&mut lock(&self.shared.plan).commits_to_time_out) {
            return Err(StoreError::Unavailable("the commit timed out".into()));
        }
        Ok(committed)
    }

    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError> {
        self.shared.pass(&self.gate).await;
        let from = (key.kind, key.id.clone(), 0);
        let to = (key.kind, key.id.clone(), u32::MAX);
        let state = lock(&self.shared.store);
        let found = state.derived.entities.range(from..=to).next();
        Ok(found.map(|(_, entity)| entity.clone()))
    }

    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(&'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let found = state.derived.entities.range((kind, String::new(), 0)..);
        for ((_, id, _), entity) in found.take_while(|((found, ..), _)| *found == kind) {
            each(id, &entity.body);
        }
        Ok(())
    }

    async fn entity_page(
        &self,
        kind: EntityKind,
        filter: EntityFilter,
        after: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityPage, StoreError> {
        self.shared.pass(&self.gate).await;
        let from = match after {
            None => Bound::Included((kind, String::new(), 0)),
            Some(cursor) => {
                let (partition, id) = cursor.parts()?;
                Bound::Excluded((kind, id, partition))
            }
        };
        let state = lock(&self.shared.store);
        let found = state.derived.entities.range((from, Bound::Unbounded));
        let mut page = EntityPage::default();
        let of_kind = found.take_while(|((found, ..), _)| *found == kind);
        for (examined, ((_, id, partition), entity)) in of_kind.enumerate() {
            if filter(id, &entity.body) {
                page.entities.push((id.clone(), entity.clone()));
            }
            if page.entities.len() >= limit.max(1) || examined + 1 >= MAX_ENTITIES_EXAMINED {
                page.next = Some(EntityCursor::new(*partition, id));
                break;
            }
        }
        Ok(page)
    }
}

#[async_trait]
impl Aggregates for Memory {
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError> {
        self.shared.pass(&self.gate).await;
        let first_hour = recount::first_hour(self.shared.clock.now_ms() / 1000 - DAY_S);
        let state = lock(&self.shared.store);
        let mut counters = Counters::default();
        for ((hour, name), value) in &state.derived.counters {
            let bucket = match hour {
                None => Bucket::Current,
                Some(hour) if *hour < first_hour || *hour < from_hour || *hour > to_hour => {
                    continue;
                }
                Some(hour) => Bucket::Hour(*hour),
            };
            counters.add_named(bucket, name.clone(), *value);
        }
        Ok(counters)
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let value = |name: &&str| state.derived.counters.get(&(None, (*name).to_owned()));
        Ok(names.iter().filter_map(value).sum())
    }
}

fn run_id(run: u64) -> String {
    format!("memory-{run}")
}
