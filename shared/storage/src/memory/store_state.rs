//! What the store holds: maps, and the log of commits from which a rollback rebuilds them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use revwatch_core::bucket::{Bucket, Buckets};
use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::counters::{Counters, add};
use revwatch_core::entity::EntityKind;
use uuid::Uuid;

use crate::ports::{
    AuditEntry, Commit, Committed, ConditionChange, Health, NEVER_RECOVERED, StoreError,
    StoredEntity,
};

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
    pub(super) counters: BTreeMap<(Bucket, String), i64>,
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
            recovery_id: Some(NEVER_RECOVERED.to_owned()),
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

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Committed, StoreError> {
        let health = &self.health[commit.partition as usize];
        match &commit.conversion {
            None if !health.is_converted() => return Err(StoreError::Unconverted),
            Some(_) if commit.conversion != health.conversion => return Err(StoreError::Fenced),
            _ => {}
        }
        match self.derived.check(commit) {
            Committed::Applied => {}
            refused => return Ok(refused),
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
        Ok(Committed::Applied)
    }

    /// Readers that have read any of the changes so far get a gap.
    pub(super) fn lose_changes(&mut self) {
        self.lost.push((0, self.sequence));
        self.sequence += 1;
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
            let key = (write.key.kind, write.key.id.clone(), commit.partition);
            let version = write.expected + 1;
            match write.body.clone() {
                Some(body) => drop(self.entities.insert(key, StoredEntity { version, body })),
                None => drop(self.entities.remove(&key)),
            }
        }
        for (bucket, name, by) in commit.counters.iter() {
            self.add((bucket, name.to_string()), by);
        }
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

    /// Those of `buckets` that are `kept`.
    pub(super) fn counters(&self, buckets: &Buckets, kept: impl Fn(Bucket) -> bool) -> Counters {
        let mut counters = Counters::default();
        for ((bucket, name), value) in &self.counters {
            if buckets.contains(*bucket) && kept(*bucket) {
                counters.add_named(*bucket, name.clone(), *value);
            }
        }
        counters
    }

    /// A counter that is 0 is not kept.
    fn add(&mut self, counter: (Bucket, String), by: i64) {
        match self.counters.entry(counter) {
            Entry::Occupied(mut counter) => {
                *counter.get_mut() = add(*counter.get(), by);
                if *counter.get() == 0 {
                    counter.remove();
                }
            }
            Entry::Vacant(counter) if by != 0 => drop(counter.insert(by)),
            Entry::Vacant(_) => {}
        }
    }
}

fn run_id(run: u64) -> String {
    format!("memory-{run}")
}
