//! The thread that writes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpoints;
use super::error::SqliteError;
use super::file::StoreFile;
use crate::failure_log::FailureLog;

/// Work of the writer inside a transaction.
pub(super) trait Job: Send {
    /// May be called again after a rollback.
    fn run(&mut self, connection: &Connection) -> Result<(), SqliteError>;

    /// Called once the transaction is on disk or has failed.
    fn answer(self: Box<Self>, committed: Result<(), SqliteError>);
}

/// A job whose result a caller may await.
pub(super) struct Task<F, T> {
    pub(super) work: F,
    pub(super) result: Option<Result<T, SqliteError>>,
    pub(super) sender: oneshot::Sender<Result<T, SqliteError>>,
}

/// One transaction per round, with all requests that wait when it starts. It can be restarted after a panic: what was
/// not committed is rolled back, and its callers get an error.
pub(super) fn write_loop(
    connection: &mut Connection,
    file: &StoreFile,
    inbox: &mut mpsc::Receiver<Box<dyn Job>>,
    checkpoints: &mut Checkpoints,
) {
    // Under load a round reads and writes more pages than the default 2 MiB. The memory is allocated when needed.
    if let Err(error) = connection.pragma_update(None, "cache_size", -16_384) {
        tracing::warn!(%error, "the embedded store runs with a small cache");
    }
    const MAX_TASKS_PER_TRANSACTION: usize = 1024;
    let mut log = RoundLog::default();
    while let Some(first) = inbox.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < MAX_TASKS_PER_TRANSACTION
            && let Ok(job) = inbox.try_recv()
        {
            jobs.push(job);
        }
        let is_our_file = write_round(connection, file, jobs, &mut log);
        if is_our_file {
            checkpoints.after_round(connection);
        }
    }
}

/// Returns whether the file is still the one that was opened.
fn write_round(
    connection: &mut Connection,
    file: &StoreFile,
    mut jobs: Vec<Box<dyn Job>>,
    log: &mut RoundLog,
) -> bool {
    // Before, so that a file that has gone is not written; after, so that nothing counts as stored in it.
    let check = || file.check().and_then(|()| file.refuse_damaged());
    let committed = check().and_then(|()| commit(connection, file, &mut jobs));
    let checked = check();
    let is_our_file = checked.is_ok();
    let committed = committed.and(checked);
    log.note(&committed);
    for job in jobs {
        job.answer(committed.clone());
    }
    is_our_file
}

/// Says when rounds begin and cease to fail, and more and more rarely that they still do.
#[derive(Default)]
struct RoundLog {
    failures: FailureLog,
    said_that_it_fails: bool,
}

impl RoundLog {
    fn note(&mut self, round: &Result<(), SqliteError>) {
        match round {
            Ok(()) if self.said_that_it_fails => {
                self.said_that_it_fails = false;
                tracing::info!("the embedded store writes again");
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(earlier) = self.failures.admit(error) {
                    self.said_that_it_fails = true;
                    tracing::error!(%error, earlier, "the embedded store cannot write");
                }
            }
        }
    }
}

/// Almost always all jobs succeed. If one fails, they run again, each in a savepoint so that it can be rolled back alone:
/// that costs SQLite a copy of every page it changes.
fn commit(
    connection: &mut Connection,
    file: &StoreFile,
    jobs: &mut [Box<dyn Job>],
) -> Result<(), SqliteError> {
    if !attempt(connection, file, jobs, false)? {
        attempt(connection, file, jobs, true)?;
    }
    Ok(())
}

/// One transaction. `Ok(false)`: a job failed and nothing was written; never with a savepoint per job (`apart`).
fn attempt(
    connection: &mut Connection,
    file: &StoreFile,
    jobs: &mut [Box<dyn Job>],
    apart: bool,
) -> Result<bool, SqliteError> {
    let failure = |error: rusqlite::Error| file.failure(&error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failure)?;
    for job in jobs {
        if !apart {
            if let Err(why) = job.run(&transaction) {
                file.note_damage(&why);
                return Ok(false);
            }
            continue;
        }
        let savepoint = |sql| transaction.prepare_cached(sql)?.execute([]);
        savepoint("SAVEPOINT job").map_err(failure)?;
        if let Err(why) = job.run(&transaction) {
            // A full disk, for example, ends the transaction: nothing of it is left, not even the savepoint.
            if transaction.is_autocommit() {
                return Err(why);
            }
            savepoint("ROLLBACK TO job").map_err(failure)?;
        }
        savepoint("RELEASE job").map_err(failure)?;
    }
    transaction.commit().map(|()| true).map_err(failure)
}

impl<F, T> Job for Task<F, T>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), SqliteError> {
        // A panic of one job undoes that job alone: neither the others of its round nor the thread.
        let done = catch_unwind(AssertUnwindSafe(|| (self.work)(connection)));
        let result = match done {
            Ok(result) => result
                .map_err(|error| SqliteError::of(connection.path().unwrap_or_default(), &error)),
            Err(_) => Err(SqliteError::not_run("the work panicked: see the log")),
        };
        self.result
            .insert(result)
            .as_ref()
            .map(drop)
            .map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, committed: Result<(), SqliteError>) {
        let answer = match (self.result, committed) {
            (Some(Err(failure)), _) => Err(failure),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(failure)) => Err(failure),
            (None, Ok(())) => Err(SqliteError::not_run("it was not run")),
        };
        // A cancelled caller does not undo its request.
        let _ = self.sender.send(answer);
    }
}
