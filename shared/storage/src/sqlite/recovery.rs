//! Whether the file has everything that was committed to it. It cannot lose data by itself: only
//! `revwatch rebuild` empties it.

use async_trait::async_trait;
use revwatch_core::entity::STATE_FORMAT;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::handle::{Sqlite, store_error};
use crate::ports::{Health, NEVER_RECOVERED, Recovery, StoreError};

/// The file never changes its run id.
pub(super) const RUN_ID: &str = "file";

/// Marks every partition as complete, in a new file or one without recorded health.
pub(super) fn mark_complete(
    c: &Connection,
    partitions: u32,
    state_format: u32,
) -> rusqlite::Result<()> {
    for partition in 0..partitions {
        c.execute(
            "INSERT INTO health (partition, complete_in, recovery_id, state_format) VALUES (?1, ?2, ?3, ?4)",
            params![partition, RUN_ID, NEVER_RECOVERED, state_format],
        )?;
    }
    Ok(())
}

/// Raises the high watermark; part of a commit.
pub(super) fn raise_high_watermark(
    c: &Connection,
    partition: u32,
    high_watermark_ms: i64,
) -> rusqlite::Result<()> {
    c.prepare_cached(
        "UPDATE health SET high_watermark_ms = ?2
         WHERE partition = ?1 AND complete_in IS NOT NULL AND ifnull(high_watermark_ms, ?2 - 1) < ?2",
    )?
    .execute(params![partition, high_watermark_ms])
    .map(drop)
}

#[async_trait]
impl Recovery for Sqlite {
    async fn health(&self) -> Result<Vec<Health>, StoreError> {
        Sqlite::read(self, |c| {
            c.prepare_cached(
                "SELECT complete_in, recovery_id, high_watermark_ms, recovery, from_ms, state_format, conversion
                 FROM health ORDER BY partition",
            )?
            .query_map([], health)?
            .collect()
        })
        .await
        .map_err(store_error)
    }

    async fn begin_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        margin_ms: i64,
    ) -> Result<(String, i64), StoreError> {
        let recovery_id = recovery_id.to_owned();
        self.write(move |c| {
            c.query_row(
                "UPDATE health SET recovery = ifnull(recovery, ?2), from_ms = min(ifnull(from_ms, begin), begin)
                 FROM (SELECT iif(complete_in IS NULL, 0, max(0, ifnull(high_watermark_ms - ?3, 0))) AS begin
                       FROM health WHERE partition = ?1)
                 WHERE partition = ?1 RETURNING recovery, from_ms",
                params![partition, recovery_id, margin_ms],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
        .await
        .map_err(store_error)
    }

    async fn end_recovery(
        &self,
        partition: u32,
        recovery_id: &str,
        server_run_id: &str,
    ) -> Result<bool, StoreError> {
        let (recovery_id, server_run_id) = (recovery_id.to_owned(), server_run_id.to_owned());
        self.write(move |c| {
            let done = c
                .query_row(
                    "UPDATE health SET complete_in = ?3, recovery_id = recovery, recovery = NULL, from_ms = NULL
                     WHERE partition = ?1 AND recovery = ?2 AND ?3 = ?4 RETURNING 1",
                    params![partition, recovery_id, server_run_id, RUN_ID],
                    |_| Ok(()),
                )
                .optional()?;
            Ok(done.is_some())
        })
        .await
        .map_err(store_error)
    }

    async fn drop_state(&self) -> Result<(), StoreError> {
        self.write(|c| {
            c.execute(
                "UPDATE health SET complete_in = NULL, high_watermark_ms = NULL, recovery = NULL, from_ms = NULL,
                   state_format = ?1, conversion = NULL",
                [STATE_FORMAT],
            )?;
            for table in ["marks", "entities", "counters", "conditions", "changes", "audit"] {
                c.execute(&format!("DELETE FROM {table}"), [])?;
            }
            Ok(())
        })
        .await
        .map_err(store_error)
    }
}

fn health(row: &Row<'_>) -> rusqlite::Result<Health> {
    let recovery_id: Option<String> = row.get(3)?;
    Ok(Health {
        server_run_id: RUN_ID.to_owned(),
        complete_in: row.get(0)?,
        recovery_id: row.get(1)?,
        high_watermark_ms: row.get(2)?,
        recovery: recovery_id.zip(row.get(4)?),
        state_format: row.get(5)?,
        conversion: row.get(6)?,
    })
}
