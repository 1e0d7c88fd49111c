//! Applies a commit: the writes of the worker.

use revwatch_core::condition::{Condition, ConditionKey};
use revwatch_core::counters;
use revwatch_core::entity::STATE_FORMAT;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::aggregates::column_of;
use super::json::to_json;
use super::recovery;
use crate::ports::{Commit, Committed, ConditionChange, StoreError};

/// The numbers of condition changes and audit entries that are kept.
const CHANGES_KEPT: i64 = 100_000;

const AUDIT_KEPT: i64 = 1_000_000;

/// Applies the commit, unless it was applied before, conflicts or is refused. `today` in days since 1970.
pub(super) fn commit(
    c: &Connection,
    commit: &Commit,
    today: u32,
) -> rusqlite::Result<Result<Committed, StoreError>> {
    if let Some(refused) = refused(c, commit)? {
        return Ok(Err(refused));
    }
    let checked = check(c, commit)?;
    if checked == Committed::Applied {
        apply(c, commit, today)?;
    }
    Ok(Ok(checked))
}

/// Why the partition's format refuses the commit.
fn refused(c: &Connection, commit: &Commit) -> rusqlite::Result<Option<StoreError>> {
    let (format, conversion): (u32, Option<String>) = c
        .prepare_cached("SELECT state_format, conversion FROM health WHERE partition = ?1")?
        .query_row([commit.partition], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(match &commit.conversion {
        None if format != STATE_FORMAT || conversion.is_some() => Some(StoreError::Unconverted),
        Some(_) if commit.conversion != conversion => Some(StoreError::Fenced),
        _ => None,
    })
}

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
    let mut deleted =
        c.prepare_cached("DELETE FROM entities WHERE kind = ?1 AND id = ?2 AND partition = ?3")?;
    for write in &commit.entities {
        let Some(body) = &write.body else {
            deleted.execute(params![
                write.key.kind.as_str(),
                write.key.id,
                commit.partition
            ])?;
            continue;
        };
        entity.execute(params![
            write.key.kind.as_str(),
            write.key.id,
            commit.partition,
            write.expected + 1,
            body
        ])?;
    }
    for (bucket, name, by) in commit.counters.iter() {
        add(c, column_of(bucket), name, by)?;
    }
    for change in &commit.conditions {
        apply_condition(c, change)?;
    }
    let mut audit = c.prepare_cached("INSERT INTO audit (body) VALUES (?1)")?;
    for entry in &commit.audit {
        audit.execute([to_json(entry)?])?;
    }
    recovery::raise_high_watermark(c, commit.partition, commit.high_watermark_ms)?;
    trim(c, "changes", CHANGES_KEPT, !commit.conditions.is_empty())?;
    trim(c, "audit", AUDIT_KEPT, !commit.audit.is_empty())
}

/// Adds to a counter, as [`counters::add`] does. One of zero is not kept.
fn add(c: &Connection, hour: i64, name: &str, by: i64) -> rusqlite::Result<()> {
    let before: Option<i64> = c
        .prepare_cached("SELECT value FROM counters WHERE hour = ?1 AND name = ?2")?
        .query_row(params![hour, name], |row| row.get(0))
        .optional()?;
    match counters::add(before.unwrap_or(0), by) {
        0 => c
            .prepare_cached("DELETE FROM counters WHERE hour = ?1 AND name = ?2")?
            .execute(params![hour, name])?,
        sum => c
            .prepare_cached(
                "INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value",
            )?
            .execute(params![hour, name, sum])?,
    };
    Ok(())
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

#[cfg(test)]
mod tests {
    use revwatch_core::counters::LARGEST_SUM;

    use super::*;

    #[test]
    fn a_counter_is_a_sum_of_integers_and_none_of_zero_is_kept() {
        let c = Connection::open_in_memory().expect("a database");
        c.execute_batch(include_str!("schema.sql"))
            .expect("the schema");
        let value = || -> Option<i64> {
            c.query_row("SELECT value FROM counters", [], |row| row.get(0))
                .optional()
                .expect("an integer")
        };
        add(&c, 1, "mrr:eur", LARGEST_SUM).expect("added");
        assert_eq!(value(), Some(LARGEST_SUM));
        add(&c, 1, "mrr:eur", -LARGEST_SUM).expect("added");
        assert_eq!(value(), None);
        add(&c, 1, "mrr:eur", 0).expect("added");
        assert_eq!(value(), None);
        add(&c, 1, "mrr:eur", -3).expect("added");
        assert_eq!(value(), Some(-3));
        add(&c, 1, "mrr:eur", -LARGEST_SUM).expect("added");
        add(&c, 1, "mrr:eur", LARGEST_SUM).expect("added");
        assert_eq!(value(), Some(-i64::MAX), "a sum that is not known");
    }

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
}
