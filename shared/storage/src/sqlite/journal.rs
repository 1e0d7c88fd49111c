//! The journal: the newest line of each key.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::handle::{Sqlite, queue_error};
use crate::ports::{Journal, JournalEntry, Publish as _, QueueError};

#[async_trait]
impl Journal for Sqlite {
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
        /// A concurrent publish must not wait for all lines.
        const MAX_LINES_PER_WRITE: usize = 250;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let some: Vec<_> = entries.by_ref().take(MAX_LINES_PER_WRITE).collect();
            self.write(move |c| some.iter().try_for_each(|entry| put_line(c, entry)))
                .await
                .map_err(queue_error)?;
        }
        Ok(())
    }

    async fn probe_journal(&self) -> Result<(), QueueError> {
        // It is in the same file.
        self.probe().await.map(drop)
    }

    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        let entries: Vec<JournalEntry> = self
            .read(|c| {
                c.prepare_cached(
                    "SELECT at_ms, space, key, body FROM journal ORDER BY at_ms, space, key",
                )?
                .query_map([], |row| {
                    Ok(JournalEntry {
                        at_ms: row.get(0)?,
                        space: row.get(1)?,
                        key: row.get(2)?,
                        body: row.get(3)?,
                    })
                })?
                .collect()
            })
            .await
            .map_err(queue_error)?;
        entries.into_iter().for_each(each);
        Ok(())
    }
}

fn put_line(
    c: &Connection,
    JournalEntry {
        at_ms,
        space,
        key,
        body,
    }: &JournalEntry,
) -> rusqlite::Result<()> {
    match body {
        Some(body) => c
            .prepare_cached(
                "INSERT INTO journal VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body",
            )?
            .execute(params![space, key, at_ms, body])?,
        None => c
            .prepare_cached("DELETE FROM journal WHERE space = ?1 AND key = ?2")?
            .execute(params![space, key])?,
    };
    Ok(())
}
