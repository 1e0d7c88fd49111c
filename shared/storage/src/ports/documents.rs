//! JSON documents by space and key.

use async_trait::async_trait;

use super::{Fence, StoreError};

/// Requests to the evaluator: a space that every process may [`Documents::submit`] to.
pub const COMMANDS: &str = "command";

/// Pauses that operators set: the other such space.
pub const PAUSES: &str = "pause";

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

/// Reads and writes documents.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Every document of a space, sorted by key.
    async fn documents(&self, space: &'static str) -> Result<Vec<(String, String)>, StoreError>;

    /// Writes all or none, if `fence` is the newest of the lease `alerting`. Safe to repeat.
    async fn write_documents(
        &self,
        fence: Fence,
        writes: &[DocumentWrite],
    ) -> Result<(), StoreError>;

    /// Puts a document without a fence into a space that does not belong to the evaluator alone: [`COMMANDS`],
    /// which the evaluator carries out and deletes, or [`PAUSES`]. Safe to repeat.
    async fn submit(&self, space: &'static str, key: &str, body: &str) -> Result<(), StoreError>;
}
