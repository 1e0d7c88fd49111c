//! Reads dedupe keys and entities.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::Cmd;
use revwatch_core::entity::{EntityKey, EntityKind};
use uuid::Uuid;

use super::handle::RedisStore;
use super::keys;
use super::scan::{SCAN, Scan};
use crate::ports::{
    Commit, Committed, Entities, EntityCursor, EntityFilter, EntityPage, MAX_ENTITIES_EXAMINED,
    ReadResult, ReadSet, StoreError, StoredEntity,
};

#[async_trait]
impl Entities for RedisStore {
    async fn read(&self, partition: u32, read_set: &ReadSet) -> Result<ReadResult, StoreError> {
        let marks = positions(
            read_set
                .dedupe_keys
                .iter()
                .map(|(day, key)| (*day, key.as_str())),
        );
        let entities = positions(
            read_set
                .entities
                .iter()
                .map(|key| (key.kind, key.id.as_str())),
        );
        let mut found = ReadResult {
            dedupe_keys: vec![None; read_set.dedupe_keys.len()],
            entities: vec![None; read_set.entities.len()],
        };
        if marks.is_empty() && entities.is_empty() {
            return Ok(found);
        }
        let mut pipeline = redis::pipe();
        for (day, wanted) in &marks {
            pipeline.add_command(hmget(keys::marks(partition, *day), wanted));
        }
        for (kind, wanted) in &entities {
            pipeline.add_command(hmget(keys::entities(partition, *kind), wanted));
        }
        let mut answers = self
            .link
            .pipeline::<Vec<Vec<Option<Vec<u8>>>>>(&pipeline)
            .await?
            .into_iter();
        for wanted in marks.values() {
            for ((at, _), value) in wanted.iter().zip(answers.next().unwrap_or_default()) {
                found.dedupe_keys[*at] = value.map(|bytes| delivery(&bytes)).transpose()?;
            }
        }
        for wanted in entities.values() {
            for ((at, _), value) in wanted.iter().zip(answers.next().unwrap_or_default()) {
                found.entities[*at] = value
                    .map(|bytes| {
                        let key = &read_set.entities[*at];
                        stored(key.kind, &key.id, &bytes)
                    })
                    .transpose()?;
            }
        }
        Ok(found)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.commit_batch(commit).await
    }

    /// The partition of an entity follows from its event, not from its id: all are read.
    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError> {
        let answers = self
            .each_partition(|partition| async move {
                let mut cmd = redis::cmd("HGET");
                cmd.arg(keys::entities(partition, key.kind)).arg(&key.id);
                self.link.run::<Option<Vec<u8>>>(&cmd).await
            })
            .await?;
        answers
            .into_iter()
            .flatten()
            .next()
            .map(|bytes| stored(key.kind, &key.id, &bytes))
            .transpose()
    }

    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(u32, &'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError> {
        for partition in 0..self.partitions {
            let mut scan = Scan::new(keys::entities(partition, kind));
            while let Some(page) = self.next_page(&mut scan).await? {
                for (id, value) in page {
                    each(partition, &id, &stored(kind, &id, &value)?.body);
                }
            }
        }
        Ok(())
    }

    /// Complete steps of HSCAN: resuming within a step could miss entities when the hash shrinks.
    async fn entity_page(
        &self,
        kind: EntityKind,
        filter: EntityFilter,
        after: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityPage, StoreError> {
        let (mut partition, mut cursor) = after.map_or(Ok((0, 0)), EntityCursor::parts)?;
        let (mut page, mut examined) = (EntityPage::default(), 0);
        let step = limit.clamp(1, SCAN);
        while partition < self.partitions {
            if page.entities.len() >= limit.max(1) || examined >= MAX_ENTITIES_EXAMINED {
                page.next = Some(EntityCursor::new(partition, cursor));
                break;
            }
            let mut cmd = redis::cmd("HSCAN");
            cmd.arg(keys::entities(partition, kind)).arg(cursor);
            cmd.arg("COUNT").arg(step);
            let (next, found): (u64, Vec<(String, Vec<u8>)>) = self.link.run(&cmd).await?;
            examined += found.len().max(1);
            for (id, value) in found {
                let entity = stored(kind, &id, &value)?;
                if filter(&id, &entity.body) {
                    page.entities.push((id, entity));
                }
            }
            cursor = next;
            partition += u32::from(next == 0);
        }
        Ok(page)
    }
}

/// Groups requested fields by hash, and records the position of each in the result.
fn positions<'a, K: Ord>(
    wanted: impl Iterator<Item = (K, &'a str)>,
) -> BTreeMap<K, Vec<(usize, &'a str)>> {
    let mut groups: BTreeMap<K, Vec<(usize, &str)>> = BTreeMap::new();
    for (at, (group, field)) in wanted.enumerate() {
        groups.entry(group).or_default().push((at, field));
    }
    groups
}

fn hmget(key: String, wanted: &[(usize, &str)]) -> Cmd {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(key);
    for (_, field) in wanted {
        cmd.arg(*field);
    }
    cmd
}

fn delivery(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|err| {
        StoreError::Corrupt(format!("a dedupe key's value is not a delivery id: {err}"))
    })
}

pub(super) fn stored(kind: EntityKind, id: &str, bytes: &[u8]) -> Result<StoredEntity, StoreError> {
    let (version, body) = bytes.split_first_chunk::<8>().ok_or_else(|| {
        StoreError::Corrupt(format!(
            "{} {id} has {} bytes, too few for a version",
            kind.as_str(),
            bytes.len()
        ))
    })?;
    Ok(StoredEntity {
        version: u64::from_be_bytes(*version),
        body: body.to_vec(),
    })
}
