//! The store.

use async_trait::async_trait;
use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::counters::{Bucket, Counters};
use revwatch_core::entity::{EntityKey, EntityKind};
use revwatch_core::event::day_of;
use revwatch_core::redact;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Sqlite, health, store_error};
use crate::ports::{
    Aggregates, AuditEntry, AuditTrail, ChangeCursor, Changes, Commit, Committed, ConditionChange,
    ConditionFeed, Coordination, DueWindow, Entities, EntityCursor, EntityFilter, EntityPage,
    Fence, Health, MAX_ENTITIES_EXAMINED, ReadResult, ReadSet, Recovery, StoreError, StoredEntity,
};

#[async_trait]
impl Entities for Sqlite {
    async fn read(&self, partition: u32, read_set: &ReadSet) -> Result<ReadResult, StoreError> {
        let read_set = read_set.clone();
        Sqlite::read(self, move |c| {
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
        })
        .await
        .map_err(store_error)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let (commit, clock) = (commit.clone(), self.0.clock.clone());
        self.write(move |c| {
            match check(c, &commit)? {
                Committed::Applied => apply(c, &commit, day_of(clock.now_s()))?,
                refused => return Ok(refused),
            }
            Ok(Committed::Applied)
        })
        .await
        .map_err(store_error)
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
        each: &mut (dyn for<'a, 'b> FnMut(&'a str, &'b [u8]) + Send),
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
            for (id, _, body) in &page {
                each(id, body);
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
        let (partition, id) = after.map_or(Ok((0, "")), page_position)?;
        let (after, limit) = ((id.to_owned(), partition), limit.max(1));
        Sqlite::read(self, move |c| entity_page(c, kind, &filter, after, limit))
            .await
            .map_err(store_error)
    }
}

#[async_trait]
impl Aggregates for Sqlite {
    async fn counters(&self, from_hour: u32, to_hour: u32) -> Result<Counters, StoreError> {
        Sqlite::read(self, move |c| {
            let mut counters = Counters::default();
            let mut statement = c.prepare_cached(
                "SELECT hour, name, value FROM counters WHERE hour = ?1 UNION ALL
                 SELECT hour, name, value FROM counters WHERE hour BETWEEN ?2 AND ?3",
            )?;
            let mut rows = statement.query(params![CURRENT, from_hour, to_hour])?;
            while let Some(row) = rows.next()? {
                let bucket =
                    u32::try_from(row.get::<_, i64>(0)?).map_or(Bucket::Current, Bucket::Hour);
                counters.add_named(bucket, row.get(1)?, row.get(2)?);
            }
            Ok(counters)
        })
        .await
        .map_err(store_error)
    }

    async fn current_counters(&self, names: &[&str]) -> Result<i64, StoreError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Sqlite::read(self, move |c| {
            let mut one =
                c.prepare_cached("SELECT value FROM counters WHERE hour = ?1 AND name = ?2")?;
            let values = names.iter().map(|name| {
                one.query_row(params![CURRENT, name], |row| row.get(0))
                    .optional()
            });
            values.map(|value| Ok(value?.unwrap_or(0))).sum()
        })
        .await
        .map_err(store_error)
    }
}

#[async_trait]
impl ConditionFeed for Sqlite {
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError> {
        let bodies = Sqlite::read(self, |c| {
            texts(c, "SELECT body FROM conditions ORDER BY due_s", [])
        })
        .await;
        from_json(&bodies.map_err(store_error)?)
    }

    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError> {
        let windows = windows.to_vec();
        let bodies = Sqlite::read(self, move |c| {
            let mut bodies = Vec::new();
            for DueWindow { after_s, until_s } in windows {
                let due =
                    "SELECT body FROM conditions WHERE due_s > ?1 AND due_s <= ?2 ORDER BY due_s";
                bodies.extend(texts(c, due, [after_s, until_s])?);
            }
            Ok(bodies)
        });
        from_json(&bodies.await.map_err(store_error)?)
    }

    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        let known = cursor.get(&0).copied();
        let (gap, more, last, bodies) = Sqlite::read(self, move |c| {
            let (oldest, newest): (u64, u64) = c
                .prepare_cached(
                    "SELECT coalesce((SELECT min(seq) FROM changes), 0),
                            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let after = known.unwrap_or(0);
            if known.is_some() && (after + 1 < oldest || after > newest) {
                return Ok((true, false, newest, Vec::new()));
            }
            // One more than requested shows whether there are more.
            let asked = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let mut rows: Vec<(u64, String)> = c
                .prepare_cached(
                    "SELECT seq, body FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                )?
                .query_map(params![after, asked], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            let last = rows.last().map_or(after, |(seq, _)| *seq);
            Ok((
                false,
                more,
                last,
                rows.into_iter().map(|(_, body)| body).collect(),
            ))
        })
        .await
        .map_err(store_error)?;
        Ok(Changes {
            changes: from_json(&bodies)?,
            cursor: ChangeCursor::from([(0, last)]),
            gap,
            more,
        })
    }
}

#[async_trait]
impl AuditTrail for Sqlite {
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bodies = Sqlite::read(self, move |c| {
            texts(
                c,
                "SELECT body FROM audit ORDER BY seq DESC LIMIT ?1",
                [limit],
            )
        });
        from_json(&bodies.await.map_err(store_error)?)
    }
}

#[async_trait]
impl Coordination for Sqlite {
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let clock = self.0.clock.clone();
        self.write(move |c| {
            let now_ms = clock.now_ms();
            let until_ms = now_ms.saturating_add_unsigned(ttl_ms);
            c.prepare_cached(
                "INSERT INTO leases VALUES (?1, ?2, 1, ?3) ON CONFLICT (name) DO UPDATE SET
                   fence = fence + (holder <> excluded.holder OR until_ms < ?4), holder = excluded.holder,
                   until_ms = excluded.until_ms
                 WHERE holder = excluded.holder OR until_ms < ?4
                 RETURNING fence",
            )?
            .query_row(params![name, holder, until_ms, now_ms], |row| row.get(0).map(Fence))
            .optional()
        })
        .await
        .map_err(store_error)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |c| {
            c.execute(
                "UPDATE leases SET until_ms = 0 WHERE name = ?1 AND holder = ?2",
                [&name, &holder],
            )
        })
        .await
        .map(drop)
        .map_err(store_error)
    }

    async fn heartbeat(
        &self,
        group: &str,
        member: &str,
        ttl_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        let (group, member) = (group.to_owned(), member.to_owned());
        let clock = self.0.clock.clone();
        self.write(move |c| {
            let now_ms = clock.now_ms();
            c.execute("DELETE FROM members WHERE grp = ?1 AND until_ms < ?2", params![group, now_ms])?;
            c.execute(
                "INSERT INTO members VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET until_ms = excluded.until_ms",
                params![group, member, now_ms.saturating_add_unsigned(ttl_ms)],
            )?;
            texts(c, "SELECT member FROM members WHERE grp = ?1 ORDER BY member", [&group])
        })
        .await
        .map_err(store_error)
    }

    async fn leave(&self, group: &str, member: &str) -> Result<(), StoreError> {
        let (group, member) = (group.to_owned(), member.to_owned());
        self.write(move |c| {
            c.execute(
                "DELETE FROM members WHERE grp = ?1 AND member = ?2",
                [&group, &member],
            )
        })
        .await
        .map(drop)
        .map_err(store_error)
    }
}

#[async_trait]
impl Recovery for Sqlite {
    async fn health(&self) -> Result<Vec<Health>, StoreError> {
        self.read_health().await
    }

    async fn begin_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        self.start_recovery(partition, recovery_id, margin_ms).await
    }

    async fn end_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        self.finish_recovery(partition, recovery_id, server_run_id)
            .await
    }

    async fn drop_state(&self) -> Result<(), StoreError> {
        self.drop_events().await
    }
}

/// Checks some dedupe keys after `after`, drops those set before `before_day`, and returns where to continue: at the
/// beginning after the last one.
pub(super) fn prune_dedupe_keys(
    c: &Connection,
    after: &str,
    before_day: u32,
) -> rusqlite::Result<String> {
    const MAX_ROWS_PER_RUN: u32 = 5000;
    let until: Option<String> = c
        .prepare_cached("SELECT key FROM marks WHERE key > ?1 ORDER BY key LIMIT 1 OFFSET ?2")?
        .query_row(params![after, MAX_ROWS_PER_RUN - 1], |row| row.get(0))
        .optional()?;
    // In SQLite every BLOB comes after every text.
    c.prepare_cached(
        "DELETE FROM marks WHERE key > ?1 AND key <= ifnull(?2, x'') AND set_day < ?3",
    )?
    .execute(params![after, until, before_day])?;
    Ok(until.unwrap_or_default())
}

/// Drops the oldest counters of hours before `first_hour`.
pub(super) fn prune_hours(c: &Connection, first_hour: u32) -> rusqlite::Result<()> {
    const MAX_ROWS_PER_RUN: u32 = 5000;
    c.prepare_cached(
        "DELETE FROM counters WHERE (hour, name) IN
           (SELECT hour, name FROM counters WHERE hour > ?1 AND hour < ?2 ORDER BY hour, name LIMIT ?3)",
    )?
    .execute(params![CURRENT, first_hour, MAX_ROWS_PER_RUN])
    .map(drop)
}

/// The hour of current counters.
const CURRENT: i64 = -1;

/// The numbers of condition changes and audit entries that are kept.
const CHANGES_KEPT: i64 = 100_000;
const AUDIT_KEPT: i64 = 1_000_000;

fn check(c: &Connection, commit: &Commit) -> rusqlite::Result<Committed> {
    let mut mark = c.prepare_cached(
        "SELECT delivery FROM marks WHERE key = ?1 AND day = ?2 AND partition = ?3",
    )?;
    let (mut own, mut all) = (0, 0);
    for wanted in &commit.dedupe_keys {
        if let Some(found) = mark
            .query_row(params![wanted.key, wanted.day, commit.partition], |row| {
                row.get(0).map(Uuid::from_bytes)
            })
            .optional()?
        {
            all += 1;
            own += usize::from(found == wanted.delivery);
        }
    }
    if own == commit.dedupe_keys.len() && own > 0 {
        return Ok(Committed::AlreadyApplied);
    }
    if all > 0 {
        return Ok(Committed::Conflict);
    }
    let mut version = c.prepare_cached(
        "SELECT version FROM entities WHERE kind = ?1 AND id = ?2 AND partition = ?3",
    )?;
    for write in &commit.entities {
        let found: Option<u64> = version
            .query_row(
                params![write.key.kind.as_str(), write.key.id, commit.partition],
                |row| row.get(0),
            )
            .optional()?;
        if found.unwrap_or(0) != write.expected {
            return Ok(Committed::Conflict);
        }
    }
    Ok(Committed::Applied)
}

fn apply(c: &Connection, commit: &Commit, today: u32) -> rusqlite::Result<()> {
    let mut mark = c.prepare_cached("INSERT INTO marks VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for m in &commit.dedupe_keys {
        mark.execute(params![
            m.key,
            m.day,
            commit.partition,
            m.delivery.as_bytes(),
            today
        ])?;
    }
    let mut entity = c.prepare_cached(
        "INSERT INTO entities VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET version = excluded.version, body = excluded.body",
    )?;
    for write in &commit.entities {
        entity.execute(params![
            write.key.kind.as_str(),
            write.key.id,
            commit.partition,
            write.expected + 1,
            write.body
        ])?;
    }
    let mut counter = c.prepare_cached(
        "INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = value + excluded.value
         RETURNING value",
    )?;
    let mut zero = c.prepare_cached("DELETE FROM counters WHERE hour = ?1 AND name = ?2")?;
    for (bucket, name, by) in commit.counters.iter() {
        let hour = match bucket {
            Bucket::Current => CURRENT,
            Bucket::Hour(hour) => i64::from(hour),
        };
        let value: i64 = counter.query_row(params![hour, name, by], |row| row.get(0))?;
        if value == 0 {
            zero.execute(params![hour, name])?;
        }
    }
    for change in &commit.conditions {
        apply_condition(c, change)?;
    }
    let mut audit = c.prepare_cached("INSERT INTO audit (body) VALUES (?1)")?;
    for entry in &commit.audit {
        audit.execute([to_json(entry)?])?;
    }
    health::raise_high_watermark(c, commit.partition, commit.high_watermark_ms)?;
    trim(c, "changes", CHANGES_KEPT, !commit.conditions.is_empty())?;
    trim(c, "audit", AUDIT_KEPT, !commit.audit.is_empty())
}

fn apply_condition(c: &Connection, change: &ConditionChange) -> rusqlite::Result<()> {
    let (ConditionChange::Open(Condition { key, .. }) | ConditionChange::Close(key)) = change;
    let ConditionKey { kind, subject } = key;
    match change {
        ConditionChange::Open(condition) => c
            .prepare_cached(
                "INSERT INTO conditions VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET due_s = excluded.due_s, body = excluded.body",
            )?
            .execute(params![
                kind.as_str(),
                subject.kind.as_str(),
                subject.id,
                condition.due_s,
                to_json(condition)?
            ])?,
        ConditionChange::Close(_) => c
            .prepare_cached(
                "DELETE FROM conditions WHERE kind = ?1 AND subject_kind = ?2 AND subject_id = ?3",
            )?
            .execute(params![kind.as_str(), subject.kind.as_str(), subject.id])?,
    };
    c.prepare_cached("INSERT INTO changes (body) VALUES (?1)")?
        .execute([to_json(change)?])?;
    Ok(())
}

fn trim(c: &Connection, table: &str, keep: i64, grew: bool) -> rusqlite::Result<()> {
    if grew {
        c.prepare_cached(&format!(
            "DELETE FROM {table} WHERE seq <= (SELECT max(seq) FROM {table}) - ?1"
        ))?
        .execute([keep])?;
    }
    Ok(())
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
            page.next = Some(EntityCursor(format!("{} {id}", row.get::<_, u32>(1)?)));
            break;
        }
    }
    Ok(page)
}

/// Partition and id.
fn page_position(cursor: &EntityCursor) -> Result<(u32, &str), StoreError> {
    let parts = cursor.0.split_once(' ');
    parts
        .and_then(|(partition, id)| Some((partition.parse().ok()?, id)))
        .ok_or_else(|| StoreError::Misconfigured(format!("{:?} is not an entity cursor", cursor.0)))
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

fn texts(
    c: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<String>> {
    c.prepare_cached(sql)?
        .query_map(params, |row| row.get(0))?
        .collect()
}

fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

fn from_json<T: DeserializeOwned>(bodies: &[String]) -> Result<Vec<T>, StoreError> {
    bodies
        .iter()
        .map(|body| serde_json::from_str(body).map_err(|e| StoreError::Corrupt(redact::place(&e))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_dedupe_keys_are_pruned_some_at_a_time() {
        let c = Connection::open_in_memory().expect("a database");
        c.execute_batch(include_str!("schema.sql"))
            .expect("the schema");
        c.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 7999)
             INSERT INTO marks SELECT printf('evt_%05d', i), 1, 0, x'00', 10 + i % 2 FROM n",
        )
        .expect("marks");
        let left = || -> (u32, u32) {
            let count = "SELECT count(*), sum(set_day < 11) FROM marks";
            c.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("numbers")
        };
        let next = prune_dedupe_keys(&c, "", 11).expect("pruned");
        assert_eq!((next.as_str(), left()), ("evt_04999", (5500, 1500)));
        let next = prune_dedupe_keys(&c, &next, 11).expect("pruned");
        assert_eq!(
            (next.as_str(), left()),
            ("", (4000, 0)),
            "from the beginning again"
        );
    }

    #[test]
    fn old_hours_are_pruned_some_at_a_time_and_current_counters_never() {
        let c = Connection::open_in_memory().expect("a database");
        c.execute_batch(include_str!("schema.sql"))
            .expect("the schema");
        c.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 7999)
             INSERT INTO counters SELECT i / 1000 - 1, printf('mrr|%03d', i % 1000), 1 FROM n",
        )
        .expect("counters");
        let left = || -> Vec<(i64, u32)> {
            let mut count = c
                .prepare("SELECT hour, count(*) FROM counters GROUP BY hour")
                .expect("prepared");
            let rows = count
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("rows");
            rows.map(|row| row.expect("a row")).collect()
        };
        prune_hours(&c, 6).expect("pruned");
        assert_eq!(
            left(),
            [(-1, 1000), (5, 1000), (6, 1000)],
            "the oldest first"
        );
        prune_hours(&c, 6).expect("pruned");
        prune_hours(&c, 6).expect("pruned");
        assert_eq!(left(), [(-1, 1000), (6, 1000)]);
    }
}
