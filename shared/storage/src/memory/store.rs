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
    Aggregates, AuditEntry, AuditTrail, ChangeCursor, Changes, Commit, Committed, ConditionChange,
    ConditionFeed, Coordination, Document, DocumentPage, DocumentUpdate, DocumentUpdated,
    DocumentWrite, Documents, DueWindow, Entities, EntityCursor, EntityFilter, EntityPage, Fence,
    Health, KeyRange, MAX_ENTITIES_EXAMINED, ReadResult, ReadSet, Recovery, StoreError,
    StoredEntity,
};

/// Hours are kept for a day longer than they are compared, as the other adapters do.
const DAY_S: i64 = 86_400;

/// All state except the queue's.
pub(super) struct StoreState {
    derived: Derived,
    /// Every commit since the state was last dropped, and whether its partition was complete.
    log: Vec<(Commit, bool)>,
    health: Vec<Health>,
    run: u64,
    /// Sequence number of the newest change. It never goes back.
    sequence: u64,
    /// Rollbacks lost the changes after the first and up to the second sequence number.
    lost: Vec<(u64, u64)>,
    documents: BTreeMap<(&'static str, String), StoredDocument>,
    version: u64,
    leases: HashMap<String, Lease>,
    members: BTreeMap<(String, String), i64>,
}

/// What follows from commits.
#[derive(Default)]
struct Derived {
    dedupe_keys: HashMap<(u32, u32, String), Uuid>,
    /// By kind, id and partition.
    entities: BTreeMap<(EntityKind, String, u32), StoredEntity>,
    counters: BTreeMap<(Option<u32>, String), i64>,
    conditions: BTreeMap<ConditionKey, Condition>,
    changes: BTreeMap<u64, ConditionChange>,
    audit: Vec<AuditEntry>,
}

struct StoredDocument {
    version: u64,
    body: String,
    write_id: Option<Uuid>,
}

struct Lease {
    holder: String,
    fence: u64,
    until_ms: i64,
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

    fn put(&mut self, space: &'static str, key: &str, body: &str, write_id: Option<Uuid>) -> u64 {
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

#[async_trait]
impl ConditionFeed for Memory {
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        Ok(state.derived.conditions.values().cloned().collect())
    }

    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let due = |condition: &&Condition| {
            let due_s = condition.due_s;
            windows
                .iter()
                .any(|w| due_s > w.after_s && due_s <= w.until_s)
        };
        Ok(state
            .derived
            .conditions
            .values()
            .filter(due)
            .cloned()
            .collect())
    }

    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let known = cursor.get(&0).copied();
        let after = known.unwrap_or(0);
        let lost = state
            .lost
            .iter()
            .any(|(from, to)| (from + 1..=*to).contains(&after));
        if known.is_some() && (after > state.sequence || lost) {
            return Ok(Changes {
                cursor: ChangeCursor::from([(0, state.sequence)]),
                gap: true,
                ..Changes::default()
            });
        }
        let mut found = state.derived.changes.range(after + 1..);
        let (mut changes, mut last) = (Vec::new(), after);
        for (number, change) in found.by_ref().take(limit) {
            changes.push(change.clone());
            last = *number;
        }
        Ok(Changes {
            changes,
            cursor: ChangeCursor::from([(0, last)]),
            gap: false,
            more: found.next().is_some(),
        })
    }
}

#[async_trait]
impl AuditTrail for Memory {
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        Ok(state
            .derived
            .audit
            .iter()
            .rev()
            .take(limit)
            .cloned()
            .collect())
    }
}

#[async_trait]
impl Documents for Memory {
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let of_space = state.documents.range((space, String::new())..);
        Ok(of_space
            .take_while(|((found, _), _)| *found == space)
            .map(|((_, key), document)| (key.clone(), document.body.clone()))
            .collect())
    }

    async fn documents_by_key(
        &self,
        space: &'static str,
        keys: &[String],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let one = |key: &String| {
            let found = state.documents.get(&(space, key.clone()))?;
            Some(document(key, found))
        };
        Ok(keys.iter().map(one).collect())
    }

    async fn document_page(
        &self,
        space: &'static str,
        range: &KeyRange,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage, StoreError> {
        self.shared.pass(&self.gate).await;
        let from = match after {
            Some(after) if after >= range.from.as_str() => {
                Bound::Excluded((space, after.to_owned()))
            }
            _ => Bound::Included((space, range.from.clone())),
        };
        let state = lock(&self.shared.store);
        let inside = |key: &str| range.before.as_deref().is_none_or(|before| key < before);
        let found = state
            .documents
            .range((from, Bound::Unbounded))
            .take_while(|((found, key), _)| *found == space && inside(key))
            .map(|((_, key), found)| document(key, found));
        let documents = found.take(DocumentPage::rows_to_read(limit)).collect();
        Ok(DocumentPage::of(documents, limit))
    }

    async fn write_documents_under(
        &self,
        lease: &str,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        if state.leases.get(lease).map(|lease| lease.fence) != Some(fence.0) {
            return Err(StoreError::Fenced);
        }
        for DocumentWrite { space, key, body } in writes {
            match body {
                Some(body) => drop(state.put(space, key, body, None)),
                None => drop(state.documents.remove(&(*space, key.clone()))),
            }
        }
        Ok(())
    }

    async fn update_document(
        &self,
        update: &DocumentUpdate,
    ) -> Result<DocumentUpdated, StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        let key = (update.space, update.key.clone());
        let found = state.documents.get(&key);
        let (version, writer) = found.map_or((0, None), |found| (found.version, found.write_id));
        if let Some(refused) = update.refused(version, writer) {
            return Ok(refused);
        }
        Ok(DocumentUpdated::Applied(match &update.body {
            Some(body) => state.put(update.space, &update.key, body, Some(update.write_id)),
            None => {
                state.documents.remove(&key);
                0
            }
        }))
    }

    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        lock(&self.shared.store).put(space, key, body, None);
        Ok(())
    }
}

#[async_trait]
impl Coordination for Memory {
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        self.shared.pass(&self.gate).await;
        let now_ms = self.shared.clock.now_ms();
        let mut state = lock(&self.shared.store);
        let found = state.leases.get(name);
        let fence = match found {
            Some(lease) if lease.until_ms >= now_ms && lease.holder == holder => lease.fence,
            Some(lease) if lease.until_ms >= now_ms => return Ok(None),
            Some(lease) => lease.fence + 1,
            None => 1,
        };
        let lease = Lease {
            holder: holder.to_owned(),
            fence,
            until_ms: now_ms.saturating_add_unsigned(ttl_ms),
        };
        state.leases.insert(name.to_owned(), lease);
        Ok(Some(Fence(fence)))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        if let Some(lease) = state.leases.get_mut(name).filter(|l| l.holder == holder) {
            lease.until_ms = i64::MIN;
        }
        Ok(())
    }

    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        self.shared.pass(&self.gate).await;
        let now_ms = self.shared.clock.now_ms();
        let mut state = lock(&self.shared.store);
        state.members.retain(|_, until_ms| *until_ms >= now_ms);
        let until_ms = now_ms.saturating_add_unsigned(ttl_ms);
        state
            .members
            .insert((group.to_owned(), member.to_owned()), until_ms);
        let of_group = state.members.keys().filter(|(found, _)| found == group);
        Ok(of_group.map(|(_, member)| member.clone()).collect())
    }

    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let key = (group.to_owned(), member.to_owned());
        lock(&self.shared.store).members.remove(&key);
        Ok(())
    }
}

#[async_trait]
impl Recovery for Memory {
    async fn health(&self) -> Result<Vec<Health>, StoreError> {
        self.shared.pass(&self.gate).await;
        Ok(lock(&self.shared.store).health.clone())
    }

    async fn begin_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let mut state = lock(&self.shared.store);
        let health = &mut state.health[partition as usize];
        let begin = match (&health.complete_in, health.high_watermark_ms) {
            (Some(_), Some(high_watermark_ms)) => (high_watermark_ms - margin_ms).max(0),
            _ => 0,
        };
        let joined = match health.recovery.take() {
            Some((id, from_ms)) => (id, from_ms.min(begin)),
            None => (recovery_id.to_owned(), begin),
        };
        health.recovery = Some(joined.clone());
        Ok(joined)
    }

    async fn end_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        self.shared.pass_to(&self.gate, partition).await;
        let mut state = lock(&self.shared.store);
        let health = &mut state.health[partition as usize];
        let same = health
            .recovery
            .as_ref()
            .is_some_and(|(id, _)| id == recovery_id);
        if !same || health.server_run_id != server_run_id {
            return Ok(false);
        }
        health.complete_in = Some(server_run_id.to_owned());
        health.recovery_id = Some(recovery_id.to_owned());
        health.recovery = None;
        Ok(true)
    }

    async fn drop_state(&self) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        state.derived = Derived::default();
        state.log.clear();
        for health in &mut state.health {
            (health.complete_in, health.high_watermark_ms) = (None, None);
            health.recovery = None;
        }
        Ok(())
    }
}

fn document(key: &str, found: &StoredDocument) -> Document {
    Document {
        key: key.to_owned(),
        version: found.version,
        body: found.body.clone(),
    }
}

fn run_id(run: u64) -> String {
    format!("memory-{run}")
}
