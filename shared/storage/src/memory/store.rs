//! The store's entities and counters.

use std::ops::Bound;

use async_trait::async_trait;
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::recount;

use super::handle::{Memory, take_one};
use super::lock::lock;
use crate::ports::{
    Aggregates, Commit, Committed, Entities, EntityCursor, EntityFilter, EntityPage,
    MAX_ENTITIES_EXAMINED, ReadResult, ReadSet, StoreError, StoredEntity,
};

/// Hours are kept for a day longer than they are compared, as the other adapters do.
const DAY_S: i64 = 86_400;

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
