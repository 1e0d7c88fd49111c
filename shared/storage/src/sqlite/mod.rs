//! The embedded adapters: queue, archive and store in one SQLite file.
//!
//! WAL with `synchronous=FULL`: a committed transaction survives a crash of process and machine.
//! One thread writes. All requests that wait when it starts a round go into one transaction, so that many
//! webhooks share one fsync. Readers use separate connections and never wait for the writer.
//!
//! Several processes may open the same file (the CLI and a running `serve`).

mod aggregates;
mod checkpoint;
mod commit;
mod conditions;
mod connection;
mod coordination;
mod documents;
mod entities;
mod error;
mod handle;
mod holding;
mod journal;
mod json;
mod queue;
mod recovery;
mod thread;
mod writer;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use revwatch_core::clock::Clock;
use revwatch_core::recount;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use tokio::sync::{Notify, mpsc, oneshot};

use self::checkpoint::Checkpoints;
use self::connection::connect;
use self::error::SqliteError;
use self::handle::Inner;
pub use self::handle::Sqlite;
use self::thread::keep_thread;
use self::writer::{Task, write_loop};
use crate::ports::StoreError;
use crate::system::SystemClock;

/// The file's name inside the data folder.
pub const FILE_NAME: &str = "revwatch.sqlite3";

/// How the data folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Creates folder and file when missing.
    Create {
        /// Partitions of a new deployment.
        partitions: u32,
    },
    /// For commands that only read.
    Existing,
}

impl Sqlite {
    /// Opens the store in folder `data`, with the system's clock.
    pub fn open(data: &Path, how: Open) -> Result<Self, StoreError> {
        Self::open_with(data, how, Arc::new(SystemClock))
    }

    /// The same with another clock for leases, membership and pruning.
    pub fn open_with(data: &Path, how: Open, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let path = data.join(FILE_NAME);
        match how {
            Open::Create { .. } => std::fs::create_dir_all(data).map_err(|e| {
                StoreError::Misconfigured(format!(
                    "cannot create the folder {} (REVWATCH_DATA): {e}",
                    data.display()
                ))
            })?,
            Open::Existing if !path.exists() => {
                return Err(StoreError::Misconfigured(format!(
                    "there is no store at {}: start `revwatch serve` there first, or name its folder with REVWATCH_DATA",
                    path.display()
                )));
            }
            Open::Existing => {}
        }
        let cannot_open =
            |error: &rusqlite::Error| SqliteError::of(&path.display().to_string(), error);
        let mut connection = connect(&path).map_err(|e| cannot_open(&e))?;
        let partitions = prepare(&mut connection, how).map_err(|e| match e {
            Prepare::Sql(e) => cannot_open(&e).into(),
            Prepare::Wrong(text) => StoreError::Misconfigured(text),
        })?;
        let mut checkpoints =
            Checkpoints::of(&mut connection, path.clone()).map_err(|e| cannot_open(&e))?;
        let (jobs, mut inbox) = mpsc::channel(4096);
        let inner = Arc::new(Inner {
            path,
            partitions,
            clock,
            jobs,
            readers: Mutex::default(),
            published: (0..partitions).map(|_| Notify::new()).collect(),
            closed: AtomicBool::new(false),
            prunes: how != Open::Existing,
        });
        std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                keep_thread("sqlite-writer", || {
                    write_loop(&mut connection, &mut inbox, &mut checkpoints);
                });
            })
            .map_err(|e| StoreError::Unavailable(e.into()))?;
        let watcher = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("sqlite-watcher".into())
            .spawn(move || keep_thread("sqlite-watcher", || watch(&watcher)))
            .map_err(|e| StoreError::Unavailable(e.into()))?;
        Ok(Self(inner))
    }

    /// Prunes some of the data that is too old at `now_s` (Unix seconds), as a serving process does periodically.
    /// Public for tests, which move the clock.
    #[doc(hidden)]
    pub async fn forget_old(&self, now_s: i64) -> Result<(), StoreError> {
        let partitions = self.0.partitions;
        Ok(self
            .write(move |c| prune(c, partitions, "", now_s).map(drop))
            .await?)
    }
}

enum Prepare {
    Sql(rusqlite::Error),
    Wrong(String),
}

impl From<rusqlite::Error> for Prepare {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Creates the schema in a new file; checks version and partitions of an old one.
fn prepare(connection: &mut Connection, how: Open) -> Result<u32, Prepare> {
    const SCHEMA_VERSION: u32 = 3;
    // Reading needs no lock and must not wait for a busy writer.
    let behavior = if how == Open::Existing {
        TransactionBehavior::Deferred
    } else {
        TransactionBehavior::Immediate
    };
    let transaction = connection.transaction_with_behavior(behavior)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (version, how) {
        (0, Open::Create { partitions }) => {
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.execute_batch(include_str!("schema_2.sql"))?;
            transaction.execute_batch(include_str!("schema_3.sql"))?;
            recovery::mark_complete(&transaction, partitions)?;
            transaction.execute(
                "INSERT INTO meta VALUES ('partitions', ?1)",
                [partitions.to_string()],
            )?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        (0, Open::Existing) => {
            return Err(Prepare::Wrong(
                "the store is empty: start `revwatch serve` first".into(),
            ));
        }
        (SCHEMA_VERSION, _) => {}
        (1 | 2, Open::Create { partitions }) => {
            if version == 1 {
                transaction.execute_batch(include_str!("schema_2.sql"))?;
                transaction.execute_batch(include_str!("from_1_to_2.sql"))?;
                recovery::mark_complete(&transaction, partitions)?;
            }
            transaction.execute_batch(include_str!("schema_3.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        (1 | 2, Open::Existing) => {
            return Err(Prepare::Wrong(format!(
                "the store has format {version}: start `revwatch serve` of this version once, it converts the file"
            )));
        }
        (other, _) => {
            return Err(Prepare::Wrong(format!(
                "the store has format {other}, this revwatch reads format {SCHEMA_VERSION}: use the version that wrote it"
            )));
        }
    }
    let stored: Option<String> = transaction
        .query_row(
            "SELECT value FROM meta WHERE key = 'partitions'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    let stored: u32 = stored.and_then(|text| text.parse().ok()).unwrap_or(0);
    let Open::Create { partitions } = how else {
        return Ok(stored);
    };
    if partitions != stored {
        return Err(Prepare::Wrong(format!(
            "this store was created with {stored} partitions, and that cannot change: set REVWATCH_PARTITIONS={stored} \
             (or `partitions` in the configuration), or start with a new data folder; {partitions} was requested"
        )));
    }
    transaction.commit()?;
    Ok(stored)
}

/// Wakes consumers when another process wrote to the file (this process wakes its own at once), and has
/// the archive pruned from time to time.
fn watch(inner: &std::sync::Weak<Inner>) {
    const CHECK_INTERVAL: Duration = Duration::from_millis(100);
    const CHECKS_PER_PRUNING: u32 = 100;
    let mut connection = None;
    let mut last = 0;
    let mut checks = 0_u32;
    // The last dedupe key that pruning checked.
    let pruned_until = Arc::<Mutex<String>>::default();
    while let Some(inner) = inner.upgrade() {
        let version = match &connection {
            None => connect(&inner.path).ok().and_then(|c| {
                let version = data_version(&c);
                connection = Some(c);
                version
            }),
            Some(c) => data_version(c),
        };
        if let Some(version) = version.filter(|v| *v != last) {
            last = version;
            inner.published.iter().for_each(Notify::notify_waiters);
        }
        checks = checks.wrapping_add(1);
        if inner.prunes && checks.is_multiple_of(CHECKS_PER_PRUNING) {
            let partitions = inner.partitions;
            let pruned_until = pruned_until.clone();
            let now_s = inner.clock.now_s();
            let work = move |c: &Connection| {
                let mut until = pruned_until.lock().unwrap_or_else(PoisonError::into_inner);
                *until = prune(c, partitions, &until, now_s).inspect_err(|error| {
                    tracing::warn!(%error, "cannot prune old data");
                })?;
                Ok(())
            };
            // A writer with a full inbox has more urgent work.
            let _ = inner.jobs.try_send(Box::new(Task {
                work,
                result: None,
                sender: oneshot::channel().0,
            }));
        }
        drop(inner);
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Prunes old data, some rows at a time, so that the writer is not blocked for long.
fn prune(
    connection: &Connection,
    partitions: u32,
    until: &str,
    now_s: i64,
) -> rusqlite::Result<String> {
    queue::prune(connection, partitions, now_s * 1000 - ARCHIVE_KEPT_MS)?;
    aggregates::prune_hours(connection, recount::first_hour(now_s - DAY_S))?;
    commit::prune_dedupe_keys(
        connection,
        until,
        revwatch_core::event::day_of(now_s).saturating_sub(DEDUPE_KEYS_KEPT_DAYS),
    )
}

/// Stripe resends for 30 days at most; the archive keeps five days more, as RabbitMQ's does.
const ARCHIVE_KEPT_MS: i64 = 35 * 86_400_000;

/// Hours are kept for a day longer than they are compared: a comparison may run past midnight.
const DAY_S: i64 = 86_400;

/// Ten days longer than Stripe resends.
const DEDUPE_KEYS_KEPT_DAYS: u32 = 40;

fn data_version(connection: &Connection) -> Option<i64> {
    connection
        .pragma_query_value(None, "data_version", |row| row.get(0))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::writer::Job;
    use super::*;

    /// Other jobs of the same round and later jobs are not affected.
    #[tokio::test]
    async fn a_panicking_job_is_rolled_back_alone_and_the_writer_continues() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        let put = |key: &'static str, panics: bool| {
            sqlite.write(move |c| {
                c.execute("INSERT INTO meta VALUES (?1, 'x')", [key])?;
                assert!(!panics, "the intended panic");
                Ok(())
            })
        };
        let (first, panicking, second) =
            tokio::join!(put("a", false), put("b", true), put("c", false));
        assert!(first.is_ok() && second.is_ok());
        assert!(
            panicking
                .expect_err("it panicked")
                .to_string()
                .contains("panicked")
        );
        put("d", false).await.expect("the writer continues");
        let keys = sqlite.read(|c| {
            c.query_row(
                "SELECT group_concat(key, '') FROM meta WHERE value = 'x'",
                [],
                |row| row.get::<_, String>(0),
            )
        });
        assert_eq!(keys.await.expect("read"), "acd");
    }

    #[tokio::test]
    async fn a_writer_that_panics_between_jobs_continues_and_every_caller_gets_a_result() {
        struct Faulty;
        impl Job for Faulty {
            fn run(&mut self, _: &Connection) -> Result<(), SqliteError> {
                panic!("the intended panic")
            }

            fn answer(self: Box<Self>, _: Result<(), SqliteError>) {}
        }
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        assert!(sqlite.0.jobs.send(Box::new(Faulty)).await.is_ok());
        // This one may be in the same round and fail; the next one cannot be.
        let put =
            || sqlite.write(|c| c.execute("INSERT OR REPLACE INTO meta VALUES ('a', 'x')", []));
        let deadline = Duration::from_secs(30);
        let _ = tokio::time::timeout(deadline, put())
            .await
            .expect("answered");
        tokio::time::timeout(deadline, put())
            .await
            .expect("answered")
            .expect("the writer continues");
    }
}
