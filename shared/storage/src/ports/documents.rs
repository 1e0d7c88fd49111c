//! JSON documents by space and key.
//!
//! Every document has a version. A key never has the same version twice, not even if it is deleted and
//! written again, so a compare-and-set cannot mistake a new document for an old one.

use async_trait::async_trait;
use uuid::Uuid;

use super::coordination::Fence;
use super::error::StoreError;

/// Requests to the evaluator: a space that every process may [`Documents::submit`] to.
pub const COMMANDS: &str = "command";

/// Pauses that operators set: the other such space.
pub const PAUSES: &str = "pause";

/// The lease of the evaluator.
pub const ALERTING_LEASE: &str = "alerting";

/// The most documents that one page holds.
pub const MAX_DOCUMENTS_PER_PAGE: usize = 1_000;

/// A document as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Unique in its space.
    pub key: String,
    /// Grows with each write, not necessarily by one; never 0, which means absent.
    pub version: u64,
    /// The text (JSON).
    pub body: String,
}

/// One write under a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentWrite {
    /// For example `alert`.
    pub space: &'static str,
    /// Unique in its space.
    pub key: String,
    /// The new text (JSON), or `None` to delete.
    pub body: Option<String>,
}

/// A write that succeeds only if the document still has the expected version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentUpdate {
    /// For example `alert`.
    pub space: &'static str,
    /// Unique in its space.
    pub key: String,
    /// The version that was read; 0 if absent.
    pub expected: u64,
    /// The new text (JSON), or `None` to delete.
    pub body: Option<String>,
    /// Identifies this write: keep it when the call is repeated after an error, and choose another one for every
    /// other write.
    pub write_id: Uuid,
}

/// The outcome of a [`DocumentUpdate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentUpdated {
    /// It was written now, with this version; 0 if it was deleted.
    Applied(u64),
    /// The same write had been applied before, with this version, and nothing was written since.
    AlreadyApplied(u64),
    /// The document has this version instead; 0 if absent. A repeat of a delete also gets 0: whether the
    /// first attempt or another process deleted the document is unknown.
    Conflict(u64),
}

/// A range of keys in byte order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// Inclusive; empty for the first key.
    pub from: String,
    /// Exclusive; `None` for no end.
    pub before: Option<String>,
}

/// Some documents of a space, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentPage {
    /// At most [`MAX_DOCUMENTS_PER_PAGE`].
    pub documents: Vec<Document>,
    /// Pass it as `after` to read the next page; `None` at the end of the range.
    pub next: Option<String>,
}

impl DocumentUpdate {
    /// The outcome without a write: `None` if the document has the expected version. `version` is 0 if it is
    /// absent, and `last_write_id` that of its last compare-and-set, unless another kind of write came after it.
    #[cfg(any(feature = "memory", feature = "sqlite"))]
    pub(crate) fn refused(
        &self,
        version: u64,
        last_write_id: Option<Uuid>,
    ) -> Option<DocumentUpdated> {
        if version == self.expected {
            None
        } else if last_write_id == Some(self.write_id) {
            Some(DocumentUpdated::AlreadyApplied(version))
        } else {
            Some(DocumentUpdated::Conflict(version))
        }
    }
}

impl DocumentPage {
    /// The number of documents to read for a page of `limit`: one more shows whether there is a next page.
    #[cfg(any(feature = "memory", feature = "redis", feature = "sqlite"))]
    pub(crate) fn rows_to_read(limit: usize) -> usize {
        limit.clamp(1, MAX_DOCUMENTS_PER_PAGE) + 1
    }

    /// A page of `limit` from the [`DocumentPage::rows_to_read`] first documents.
    #[cfg(any(feature = "memory", feature = "redis", feature = "sqlite"))]
    pub(crate) fn of(mut documents: Vec<Document>, limit: usize) -> Self {
        let size = Self::rows_to_read(limit) - 1;
        let more = documents.len() > size;
        documents.truncate(size);
        let last = documents.last().filter(|_| more);
        let next = last.map(|last| last.key.clone());
        Self { documents, next }
    }
}

/// Reads and writes documents.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Every document of a space, sorted by key. For spaces that are known to be small.
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError>;

    /// The documents with these keys, in the same order, as of one moment.
    async fn documents_by_key(
        &self,
        space: &'static str,
        keys: &[String],
    ) -> Result<Vec<Option<Document>>, StoreError>;

    /// The first documents of a range whose keys are greater than `after`: at most `limit`, at least 1, and at most
    /// [`MAX_DOCUMENTS_PER_PAGE`]. A document that exists throughout is on one of the pages; each page is of one moment.
    async fn document_page(
        &self,
        space: &'static str,
        range: &KeyRange,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage, StoreError>;

    /// Writes all or none, if `fence` is the newest of `lease`. Safe to repeat.
    async fn write_documents_under(
        &self,
        lease: &str,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError>;

    /// [`Documents::write_documents_under`] the lease [`ALERTING_LEASE`].
    async fn write_documents(
        &self,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError> {
        self.write_documents_under(ALERTING_LEASE, fence, writes)
            .await
    }

    /// Writes the document if it has the expected version. Safe to repeat with the same
    /// [`DocumentUpdate::write_id`].
    async fn update_document(&self, update: &DocumentUpdate)
    -> Result<DocumentUpdated, StoreError>;

    /// Puts a document without a fence into a space that does not belong to the evaluator alone: [`COMMANDS`],
    /// which the evaluator carries out and deletes, or [`PAUSES`]. Safe to repeat.
    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError>;
}
