//! The handle on the file, which the ports are implemented for.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use revwatch_core::clock::Clock;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Notify, mpsc, oneshot};

use super::error::SqliteError;
use super::file::StoreFile;
use super::thread::JoinOnDrop;
use super::writer::{Job, Task};
use crate::ports::{QueueError, StoreError};

/// Queue, archive and store in one file. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite(pub(super) Arc<Inner>);

/// What all handles share.
///
/// It is dropped in this order, so that the writer's connection is the last, and leaves a single file.
pub(super) struct Inner {
    pub(super) watcher: OnceLock<JoinOnDrop>,
    pub(super) readers: Mutex<Vec<Connection>>,
    pub(super) jobs: mpsc::Sender<Box<dyn Job>>,
    /// Ends when there is no sender of jobs.
    pub(super) _writer: JoinOnDrop,
    pub(super) file: Arc<StoreFile>,
    pub(super) partitions: u32,
    pub(super) clock: Arc<dyn Clock>,
    /// One per partition: something was published.
    pub(super) published: Vec<Notify>,
    /// The queue was closed and accepts nothing.
    pub(super) closed: AtomicBool,
    /// Whether old data is pruned: by `serve`, not by commands.
    pub(super) prunes: bool,
}

impl Sqlite {
    /// Partitions the deployment was created with.
    pub fn partition_count(&self) -> u32 {
        self.0.partitions
    }

    /// Runs `work` in the next transaction; returns once that is on disk. An error undoes this work only.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.begin_write(work)
            .await?
            .await
            .map_err(|_| SqliteError::not_run(WRITER_ENDED))?
    }

    /// The same without waiting for the disk. Work runs in the order of the calls.
    pub(super) async fn begin_write<T, F>(
        &self,
        work: F,
    ) -> Result<oneshot::Receiver<Result<T, SqliteError>>, SqliteError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, result) = oneshot::channel();
        let task = Box::new(Task {
            work,
            result: None,
            sender,
        });
        self.0
            .jobs
            .send(task)
            .await
            .map_err(|_| SqliteError::not_run(WRITER_ENDED))?;
        Ok(result)
    }

    /// Runs `work` on a reader connection, outside the async threads. One transaction gives it one consistent view,
    /// and is far cheaper than one per statement.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let inner = self.0.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let pooled = inner
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => inner.file.connect()?,
            };
            let result = Transaction::new_unchecked(&connection, TransactionBehavior::Deferred)
                .and_then(|transaction| work(&transaction));
            inner
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            let found = result.map_err(|error| inner.file.failure(&error))?;
            inner.file.check()?;
            Ok(found)
        });
        reading
            .await
            .unwrap_or_else(|error| Err(SqliteError::not_run(&error.to_string())))
    }
}

const WRITER_ENDED: &str = "the thread that writes the embedded store has ended";

pub(super) fn store_error(failure: SqliteError) -> StoreError {
    failure.into()
}

pub(super) fn queue_error(failure: SqliteError) -> QueueError {
    failure.into()
}
