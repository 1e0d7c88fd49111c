//! Entities and dedupe keys.

use async_trait::async_trait;
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::event::day_of;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::handle::{Sqlite, store_error};
use crate::ports::{
    Commit, Committed, Entities, EntityCursor, EntityFilter, EntityPage, MAX_ENTITIES_EXAMINED,
    ReadResult, ReadSet, StoreError, StoredEntity,
};

#[async_trait]
impl Entities for Sqlite {
    /// The writer reads: the commit that follows needs the same pages, and a reader's cache is empty after each commit.
    async fn read(&self, partition: u32, read_set: &ReadSet) -> Result<ReadResult, StoreError> {
        let read_set = read_set.clone();
        self.write(move |c| read(c, partition, &read_set))
            .await
            .map_err(store_error)
    }

    /// In one transaction of the writer.
    async fn read_all(&self, wanted: &[(u32, &ReadSet)]) -> Result<Vec<ReadResult>, StoreError> {
        let of = |(partition, want): &(u32, &ReadSet)| (*partition, ReadSet::clone(want));
        let wanted: Vec<_> = wanted.iter().map(of).collect();
        self.write(move |c| {
            let found = wanted
                .iter()
                .map(|(partition, want)| read(c, *partition, want));
            found.collect()
        })
        .await
        .map_err(store_error)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let (commit, clock) = (commit.clone(), self.0.clock.clone());
        self.write(move |c| super::commit::commit(c, &commit, day_of(clock.now_s())))
            .await
            .map_err(store_error)?
    }

    async fn entity(&self, key: &EntityKey) -> Result<Option<StoredEntity>, StoreError> {
        let key = key.clone();
        Sqlite::read(self, move |c| entity(c, &key, None))
            .await
            .map_err(store_error)
    }

    async fn entities(
        &self,
        kind: EntityKind,
        each: &mut (dyn for<'a, 'b> FnMut(u32, &'a str, &'b [u8]) + Send),
    ) -> Result<(), StoreError> {
        let mut after = (String::new(), 0_u32);
        loop {
            let (id, partition) = after.clone();
            let page: Vec<(String, u32, Vec<u8>)> = Sqlite::read(self, move |c| {
                c.prepare_cached(
                    "SELECT id, partition, body FROM entities WHERE kind = ?1 AND (id, partition) > (?2, ?3)
                     ORDER BY id, partition LIMIT 5000",
                )?
                .query_map(params![kind.as_str(), id, partition], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
            })
            .await
            .map_err(store_error)?;
            for (id, partition, body) in &page {
                each(*partition, id, body);
            }
            match page.into_iter().next_back() {
                Some((id, partition, _)) => after = (id, partition),
                None => return Ok(()),
            }
        }
    }

    async fn entity_page(
        &self,
        kind: EntityKind,
        filter: EntityFilter,
        after: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityPage, StoreError> {
        let (partition, id) = after.map_or(Ok((0, String::new())), EntityCursor::parts)?;
        let (after, limit) = ((id, partition), limit.max(1));
        Sqlite::read(self, move |c| entity_page(c, kind, &filter, after, limit))
            .await
            .map_err(store_error)
    }
}

fn read(c: &Connection, partition: u32, read_set: &ReadSet) -> rusqlite::Result<ReadResult> {
    let mut marks = c.prepare_cached(
        "SELECT delivery FROM marks WHERE key = ?1 AND day = ?2 AND partition = ?3",
    )?;
    let marks = read_set.dedupe_keys.iter().map(|(day, key)| {
        let id = marks
            .query_row(params![key, day, partition], |row| row.get(0))
            .optional()?;
        Ok(id.map(Uuid::from_bytes))
    });
    Ok(ReadResult {
        dedupe_keys: marks.collect::<rusqlite::Result<_>>()?,
        entities: read_set
            .entities
            .iter()
            .map(|key| entity(c, key, Some(partition)))
            .collect::<rusqlite::Result<_>>()?,
    })
}

/// Reads after the entity with this id and partition.
fn entity_page(
    c: &Connection,
    kind: EntityKind,
    filter: &EntityFilter,
    (id, partition): (String, u32),
    limit: usize,
) -> rusqlite::Result<EntityPage> {
    let mut statement = c.prepare_cached(
        "SELECT id, partition, version, body FROM entities WHERE kind = ?1 AND (id, partition) > (?2, ?3)
         ORDER BY id, partition LIMIT ?4",
    )?;
    let mut rows = statement.query(params![kind.as_str(), id, partition, MAX_ENTITIES_EXAMINED])?;
    let (mut page, mut examined) = (EntityPage::default(), 0);
    while let Some(row) = rows.next()? {
        examined += 1;
        let id = row.get_ref(0)?.as_str()?;
        let body = row.get_ref(3)?.as_blob()?;
        if filter(id, body) {
            let (version, body) = (row.get(2)?, body.to_vec());
            page.entities
                .push((id.to_owned(), StoredEntity { version, body }));
        }
        if page.entities.len() >= limit || examined >= MAX_ENTITIES_EXAMINED {
            page.next = Some(EntityCursor::new(row.get(1)?, id));
            break;
        }
    }
    Ok(page)
}

/// `None`: in any partition.
fn entity(
    c: &Connection,
    key: &EntityKey,
    partition: Option<u32>,
) -> rusqlite::Result<Option<StoredEntity>> {
    c.prepare_cached(
        "SELECT version, body FROM entities WHERE kind = ?1 AND id = ?2 AND partition = ifnull(?3, partition)",
    )?
    .query_row(params![key.kind.as_str(), key.id, partition], |row| {
        Ok(StoredEntity { version: row.get(0)?, body: row.get(1)? })
    })
    .optional()
}
