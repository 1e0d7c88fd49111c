//! Documents: one row each. Versions come from one sequence for the complete file.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::handle::{Sqlite, store_error};
use crate::ports::{
    Document, DocumentPage, DocumentUpdate, DocumentUpdated, DocumentWrite, Documents, Fence,
    KeyRange, StoreError,
};

#[async_trait]
impl Documents for Sqlite {
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        Sqlite::read(self, move |c| {
            c.prepare_cached("SELECT key, body FROM documents WHERE space = ?1 ORDER BY key")?
                .query_map([space], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .await
        .map_err(store_error)
    }

    async fn documents_by_key(
        &self,
        space: &'static str,
        keys: &[String],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        let keys = keys.to_vec();
        Sqlite::read(self, move |c| {
            let mut one = c.prepare_cached(
                "SELECT key, version, body FROM documents WHERE space = ?1 AND key = ?2",
            )?;
            keys.iter()
                .map(|key| one.query_row(params![space, key], document).optional())
                .collect()
        })
        .await
        .map_err(store_error)
    }

    async fn document_page(
        &self,
        space: &'static str,
        range: &KeyRange,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage, StoreError> {
        let (range, after) = (range.clone(), after.map(str::to_owned));
        let rows = DocumentPage::rows_to_read(limit);
        let documents = Sqlite::read(self, move |c| {
            // In SQLite every BLOB sorts after every text.
            c.prepare_cached(
                "SELECT key, version, body FROM documents
                 WHERE space = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) AND key < ifnull(?4, x'')
                 ORDER BY key LIMIT ?5",
            )?
            .query_map(
                params![
                    space,
                    range.from.max(after.clone().unwrap_or_default()),
                    after,
                    range.before,
                    rows
                ],
                document,
            )?
            .collect()
        })
        .await
        .map_err(store_error)?;
        Ok(DocumentPage::of(documents, limit))
    }

    async fn write_documents_under(
        &self,
        lease: &str,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError> {
        let (lease, writes) = (lease.to_owned(), writes.to_vec());
        let written = self.write(move |c| {
            let newest: Option<u64> = c
                .prepare_cached("SELECT fence FROM leases WHERE name = ?1")?
                .query_row([&lease], |row| row.get(0))
                .optional()?;
            if newest != Some(fence.0) {
                return Ok(false);
            }
            for DocumentWrite { space, key, body } in &writes {
                match body {
                    Some(body) => put(c, space, key, body, None).map(drop)?,
                    None => delete(c, space, key)?,
                }
            }
            Ok(true)
        });
        if written.await.map_err(store_error)? {
            Ok(())
        } else {
            Err(StoreError::Fenced)
        }
    }

    async fn update_document(
        &self,
        update: &DocumentUpdate,
    ) -> Result<DocumentUpdated, StoreError> {
        let update = update.clone();
        self.write(move |c| {
            let DocumentUpdate {
                space,
                key,
                body,
                write_id,
                ..
            } = &update;
            let found: Option<(u64, Option<[u8; 16]>)> = c
                .prepare_cached(
                    "SELECT version, write_id FROM documents WHERE space = ?1 AND key = ?2",
                )?
                .query_row(params![space, key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (version, writer) = found.unwrap_or((0, None));
            if let Some(refused) = update.refused(version, writer.map(Uuid::from_bytes)) {
                return Ok(refused);
            }
            Ok(DocumentUpdated::Applied(match body {
                Some(body) => put(c, space, key, body, Some(*write_id))?,
                None => {
                    delete(c, space, key)?;
                    0
                }
            }))
        })
        .await
        .map_err(store_error)
    }

    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError> {
        let (key, body) = (key.to_owned(), body.to_owned());
        self.write(move |c| put(c, space, &key, &body, None))
            .await
            .map(drop)
            .map_err(store_error)
    }
}

/// Returns the new version.
fn put(
    c: &Connection,
    space: &str,
    key: &str,
    body: &str,
    write_id: Option<Uuid>,
) -> rusqlite::Result<u64> {
    let version: u64 = c
        .prepare_cached("UPDATE document_sequence SET last = last + 1 RETURNING last")?
        .query_row([], |row| row.get(0))?;
    c.prepare_cached(
        "INSERT INTO documents (space, key, body, version, write_id) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET body = excluded.body, version = excluded.version, write_id = excluded.write_id",
    )?
    .execute(params![space, key, body, version, write_id.map(Uuid::into_bytes)])?;
    Ok(version)
}

fn delete(c: &Connection, space: &str, key: &str) -> rusqlite::Result<()> {
    c.prepare_cached("DELETE FROM documents WHERE space = ?1 AND key = ?2")?
        .execute(params![space, key])
        .map(drop)
}

fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        key: row.get(0)?,
        version: row.get(1)?,
        body: row.get(2)?,
    })
}
