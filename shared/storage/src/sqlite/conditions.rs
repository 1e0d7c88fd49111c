//! Open conditions and their changes.

use async_trait::async_trait;
use revwatch_core::condition::Condition;
use rusqlite::params;

use super::handle::{Sqlite, store_error};
use super::json::{from_json, texts};
use crate::ports::{ChangeCursor, Changes, ConditionFeed, DueWindow, StoreError};

#[async_trait]
impl ConditionFeed for Sqlite {
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError> {
        let bodies = Sqlite::read(self, |c| {
            texts(c, "SELECT body FROM conditions ORDER BY due_s", [])
        })
        .await;
        from_json(&bodies.map_err(store_error)?, "an open condition")
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
        from_json(&bodies.await.map_err(store_error)?, "an open condition")
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
                    "SELECT coalesce(oldest, newest + 1), newest FROM
                       (SELECT (SELECT min(seq) FROM changes) AS oldest,
                               coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0) AS newest)",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let after = known.unwrap_or(0);
            if known.is_some() && (after + 1 < oldest || after > newest) {
                return Ok((true, false, newest, Vec::new()));
            }
            // One more than requested shows whether there are more.
            let count = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let mut rows: Vec<(u64, String)> = c
                .prepare_cached(
                    "SELECT seq, body FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                )?
                .query_map(params![after, count], |row| Ok((row.get(0)?, row.get(1)?)))?
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
            changes: from_json(&bodies, "a change of a condition")?,
            cursor: ChangeCursor::from([(0, last)]),
            gap,
            more,
        })
    }
}
