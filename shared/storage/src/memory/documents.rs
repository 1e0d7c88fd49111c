//! Documents.

use std::ops::Bound;

use async_trait::async_trait;

use super::handle::Memory;
use super::store_state::StoredDocument;
use crate::lock::lock;
use crate::ports::{
    Document, DocumentPage, DocumentUpdate, DocumentUpdated, DocumentWrite, Documents, Fence,
    KeyRange, StoreError,
};

#[async_trait]
impl Documents for Memory {
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let of_space = state.documents.range((space, String::new())..);
        Ok(of_space
            .take_while(|((found, _), _)| *found == space)
            .map(|((_, key), document)| (key.clone(), document.body.clone()))
            .collect())
    }

    async fn documents_by_key(
        &self,
        space: &'static str,
        keys: &[String],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.shared.pass(&self.gate).await;
        let state = lock(&self.shared.store);
        let one = |key: &String| {
            let found = state.documents.get(&(space, key.clone()))?;
            Some(document(key, found))
        };
        Ok(keys.iter().map(one).collect())
    }

    async fn document_page(
        &self,
        space: &'static str,
        range: &KeyRange,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage, StoreError> {
        self.shared.pass(&self.gate).await;
        let from = match after {
            Some(after) if after >= range.from.as_str() => {
                Bound::Excluded((space, after.to_owned()))
            }
            _ => Bound::Included((space, range.from.clone())),
        };
        let state = lock(&self.shared.store);
        let inside = |key: &str| range.before.as_deref().is_none_or(|before| key < before);
        let found = state
            .documents
            .range((from, Bound::Unbounded))
            .take_while(|((found, key), _)| *found == space && inside(key))
            .map(|((_, key), found)| document(key, found));
        let documents = found.take(DocumentPage::rows_to_read(limit)).collect();
        Ok(DocumentPage::of(documents, limit))
    }

    async fn write_documents_under(
        &self,
        lease: &str,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        if state.leases.get(lease).map(|lease| lease.fence) != Some(fence.0) {
            return Err(StoreError::Fenced);
        }
        for DocumentWrite { space, key, body } in writes {
            match body {
                Some(body) => drop(state.put(space, key, body, None)),
                None => drop(state.documents.remove(&(*space, key.clone()))),
            }
        }
        Ok(())
    }

    async fn update_document(
        &self,
        update: &DocumentUpdate,
    ) -> Result<DocumentUpdated, StoreError> {
        self.shared.pass(&self.gate).await;
        let mut state = lock(&self.shared.store);
        let key = (update.space, update.key.clone());
        let found = state.documents.get(&key);
        let (version, writer) = found.map_or((0, None), |found| (found.version, found.write_id));
        if let Some(refused) = update.refused(version, writer) {
            return Ok(refused);
        }
        Ok(DocumentUpdated::Applied(match &update.body {
            Some(body) => state.put(update.space, &update.key, body, Some(update.write_id)),
            None => {
                state.documents.remove(&key);
                0
            }
        }))
    }

    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError> {
        self.shared.pass(&self.gate).await;
        lock(&self.shared.store).put(space, key, body, None);
        Ok(())
    }
}

fn document(key: &str, found: &StoredDocument) -> Document {
    Document {
        key: key.to_owned(),
        version: found.version,
        body: found.body.clone(),
    }
}
