//! Counters.

use async_trait::async_trait;
use revwatch_core::bucket::{Bucket, Buckets, first_minute, last_minute};
use revwatch_core::counters::{Counters, sum};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::handle::{Sqlite, store_error};
use crate::ports::{Aggregates, StoreError};

/// The column `hour` of current counters.
pub(super) const CURRENT: i64 = -1;

/// The column `hour` of the first minute: after every hour.
const FIRST_MINUTE: i64 = 1 << 32;

/// The column `hour` of a bucket.
pub(super) fn column_of(bucket: Bucket) -> i64 {
    match bucket {
        Bucket::Current => CURRENT,
        Bucket::Hour(hour) => hour.into(),
        Bucket::Minute(minute) => FIRST_MINUTE + i64::from(minute),
    }
}

fn bucket_of(column: i64) -> Bucket {
    match u32::try_from(column) {
        Ok(hour) => Bucket::Hour(hour),
        Err(_) => u32::try_from(column - FIRST_MINUTE).map_or(Bucket::Current, Bucket::Minute),
    }
}

#[async_trait]
impl Aggregates for Sqlite {
    async fn counters(&self, buckets: &Buckets) -> Result<Counters, StoreError> {
        let ranges = ranges(buckets);
        Sqlite::read(self, move |c| {
            let mut counters = Counters::default();
            let mut statement = c.prepare_cached(
                "SELECT hour, name, value FROM counters WHERE hour BETWEEN ?1 AND ?2",
            )?;
            for (first, last) in ranges {
                let mut rows = statement.query([first, last])?;
                while let Some(row) = rows.next()? {
                    counters.add_named(bucket_of(row.get(0)?), row.get(1)?, row.get(2)?);
                }
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
            let values = values.map(|value| Ok(value?.unwrap_or(0)));
            Ok(sum(values.collect::<rusqlite::Result<Vec<i64>>>()?))
        })
        .await
        .map_err(store_error)
    }
}

/// The columns `hour` to read, first and last.
fn ranges(buckets: &Buckets) -> Vec<(i64, i64)> {
    let column = |hour: &u32| column_of(Bucket::Hour(*hour));
    let hours = (column(buckets.hours.start()), column(buckets.hours.end()));
    let minutes = buckets.minutes_of.iter().map(|hour| {
        let [first, last] = [first_minute(*hour), last_minute(*hour)];
        (
            column_of(Bucket::Minute(first)),
            column_of(Bucket::Minute(last)),
        )
    });
    let hours_and_current = [(CURRENT, CURRENT), hours].into_iter();
    hours_and_current.chain(minutes).collect()
}

/// Drops the oldest counters of hours before `first_hour`, and of minutes before `first_minute`.
pub(super) fn prune(c: &Connection, first_hour: u32, first_minute: u32) -> rusqlite::Result<()> {
    prune_between(c, CURRENT + 1, column_of(Bucket::Hour(first_hour)))?;
    prune_between(c, FIRST_MINUTE, column_of(Bucket::Minute(first_minute)))
}

fn prune_between(c: &Connection, first: i64, end: i64) -> rusqlite::Result<()> {
    const MAX_ROWS_PER_RUN: u32 = 5000;
    c.prepare_cached(
        "DELETE FROM counters WHERE (hour, name) IN
           (SELECT hour, name FROM counters WHERE hour >= ?1 AND hour < ?2 ORDER BY hour, name LIMIT ?3)",
    )?
    .execute(params![first, end, MAX_ROWS_PER_RUN])
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
        prune(&c, 6, 0).expect("pruned");
        assert_eq!(
            left(),
            [(-1, 1000), (5, 1000), (6, 1000)],
            "the oldest first"
        );
        prune(&c, 6, 0).expect("pruned");
        prune(&c, 6, 0).expect("pruned");
        assert_eq!(left(), [(-1, 1000), (6, 1000)]);
    }

    #[test]
    fn minutes_are_pruned_by_themselves() {
        let c = Connection::open_in_memory().expect("a database");
        c.execute_batch(include_str!("schema.sql"))
            .expect("the schema");
        let buckets = [
            Bucket::Current,
            Bucket::Hour(0),
            Bucket::Hour(u32::MAX),
            Bucket::Minute(0),
            Bucket::Minute(59),
            Bucket::Minute(60),
        ];
        for bucket in buckets {
            let column = column_of(bucket);
            assert_eq!(bucket_of(column), bucket);
            c.execute("INSERT INTO counters VALUES (?1, 'mrr', 1)", [column])
                .expect("a counter");
        }
        prune(&c, 0, 60).expect("pruned");
        let mut left = c
            .prepare("SELECT hour FROM counters ORDER BY hour")
            .expect("prepared");
        let left = left.query_map([], |row| row.get(0)).expect("rows");
        let left: Vec<Bucket> = left.map(|row| bucket_of(row.expect("a row"))).collect();
        assert_eq!(left, [&buckets[..3], &buckets[5..]].concat());
    }
}
