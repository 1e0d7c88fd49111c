//! Counters.

use async_trait::async_trait;
use revwatch_core::counters::{Bucket, Counters};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::handle::{Sqlite, store_error};
use crate::ports::{Aggregates, StoreError};

/// The hour of current counters.
pub(super) const CURRENT: i64 = -1;

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

#[cfg(test)]
mod tests {
    use super::*;

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
