//! Entities and dedupe keys.

use std::ops::Bound;

use async_trait::async_trait;
use revwatch_core::entity::{EntityKey, EntityKind};

use super::handle::{Memory, take_one};
use crate::lock::lock;
use crate::ports::{
    Commit, Committed, Entities, EntityCursor, EntityFilter, EntityPage, MAX_ENTITIES_EXAMINED,
    ReadResult, ReadSet, StoreError, StoredEntity,
};

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
        let committed = lock(&self.shared.store).commit(commit)?;
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
        each: &mut (dyn for<'a, 'b> FnMut(u32, &'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let found = state.derived.entities.range((kind, String::new(), 0)..);
        for ((_, id, partition), entity) in found.take_while(|((found, ..), _)| *found == kind) {
            each(*partition, id, &entity.body);
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
