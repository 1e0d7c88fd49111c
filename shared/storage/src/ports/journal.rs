//! The journal: what must survive the loss of the store and is not in the archive.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::error::QueueError;

/// One line of the journal: state that must survive the loss of the store and cannot be rebuilt from
/// deliveries. The newest line of a space and key counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// For example `alert`.
    pub space: String,
    /// Unique in its space.
    pub key: String,
    /// The text (JSON); `None` deletes it.
    pub body: Option<String>,
}

/// Reads and writes the journal. [`crate::journal`] has its spaces.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends lines to the journal; returns when they are durable. Safe to repeat.
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError>;

    /// Whether a line that is appended now would become durable. What it writes is no line.
    async fn probe_journal(&self) -> Result<(), QueueError>;

    /// Reads the journal, oldest line first. An adapter may leave out lines that newer ones replace.
    async fn read_journal(
        &self,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError>;

    /// Reads at least the lines written at or after `from_ms` by the clock of the queue's server, oldest first.
    async fn read_journal_since(
        &self,
        from_ms: i64,
        each: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        // For a journal that is short, or keeps only the newest line of each key.
        let _ = from_ms;
        self.read_journal(each).await
    }
}
