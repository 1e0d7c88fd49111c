//! What tests of several parts of the shell use: an embedded store, and a journal that is out of order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use revwatch_storage::ports::{Coordination as _, Fence, Journal, JournalEntry, QueueError};
use revwatch_storage::sqlite::{Open, Sqlite};
use tempfile::TempDir;

use crate::evaluator::lease::LEASE;

/// A test fails when something takes longer.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A new queue and store in one file.
pub(crate) fn open_sqlite(folder: &TempDir) -> Arc<Sqlite> {
    Arc::new(Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store"))
}

/// Takes the lease for `holder`.
pub(crate) async fn lease(sqlite: &Sqlite, holder: &str) -> Fence {
    let taken = sqlite.lease(LEASE, holder, 60_000).await;
    taken.expect("answered").expect("free")
}

/// A journal that fails, or never responds.
#[derive(Default)]
pub(crate) struct BrokenJournal {
    fails: bool,
    requests: Mutex<Vec<Vec<JournalEntry>>>,
    /// A caller stopped waiting.
    is_cancelled: AtomicBool,
}

struct Waiting<'a>(&'a BrokenJournal);

impl BrokenJournal {
    pub(crate) fn failing() -> Self {
        Self {
            fails: true,
            ..Self::default()
        }
    }

    /// What it was given to write, request by request.
    pub(crate) fn requests(&self) -> Vec<Vec<JournalEntry>> {
        self.requests.lock().expect("no panic").clone()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Journal for BrokenJournal {
    async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
        self.requests.lock().expect("no panic").push(entries);
        if self.fails {
            return Err(QueueError::Misconfigured("out of order".into()));
        }
        let _waiting = Waiting(self);
        std::future::pending().await
    }

    async fn probe_journal(&self) -> Result<(), QueueError> {
        self.append_journal(Vec::new()).await
    }

    async fn read_journal(
        &self,
        _: &mut (dyn FnMut(JournalEntry) + Send),
    ) -> Result<(), QueueError> {
        Ok(())
    }
}
