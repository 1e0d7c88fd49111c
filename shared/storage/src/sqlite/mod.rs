//! The embedded adapters: queue, archive and store in one SQLite file.
//!
//! WAL with `synchronous=FULL`: a committed transaction survives a crash of process and machine.
//! One thread writes. All requests that wait when it starts a round go into one transaction, so that many
//! webhooks share one fsync. Commands, pages and evaluations read on separate connections and never wait for the
//! writer; a worker's reads before a commit are requests to the writer.
//!
//! Several processes may open the same file (the CLI and a running `serve`).

mod aggregates;
mod audit;
mod backup;
mod checkpoint;
mod commit;
mod conditions;
mod connection;
mod conversion;
mod coordination;
mod creation;
mod documents;
mod entities;
mod error;
mod file;
mod handle;
mod holding;
mod identity;
mod in_use;
mod journal;
mod json;
mod queue;
mod recovery;
mod refusals;
mod schema;
mod thread;
mod watcher;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use revwatch_core::clock::Clock;
use tokio::sync::{Notify, mpsc};

pub use self::backup::{Backup, restore};
use self::checkpoint::Checkpoints;
use self::connection::connect;
use self::error::SqliteError;
use self::file::StoreFile;
use self::handle::Inner;
pub use self::handle::Sqlite;
use self::identity::{note_before_opening, refuse_foreign_log};
pub use self::schema::Open;
use self::schema::{examine, prepare};
use self::thread::{JoinOnDrop, keep_thread};
use self::watcher::{prune, watch};
use self::writer::write_loop;
use crate::ports::StoreError;
use crate::system::SystemClock;

/// The file's name inside the data folder.
pub const FILE_NAME: &str = "revwatch.sqlite3";

impl Sqlite {
    /// Opens the store in folder `data`, with the system's clock.
    pub fn open(data: &Path, how: Open) -> Result<Self, StoreError> {
        Self::open_with(data, how, Arc::new(SystemClock))
    }

    /// The same with another clock for leases, membership and pruning.
    pub fn open_with(data: &Path, how: Open, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let path = match how {
            Open::Create { .. } => file::make(data, how)?,
            Open::Existing => existing(data)?,
        };
        Self::open_file(path, how, clock)
    }

    /// Whether [`Sqlite::open`] would serve from folder `data` with so many partitions. Makes, converts and narrows
    /// nothing.
    pub fn check(data: &Path, partitions: u32) -> Result<(), StoreError> {
        file::refuse_folder(data)?;
        let path = data.join(FILE_NAME);
        file::refuse_unfit(&path)?;
        if !path.exists() {
            return Ok(());
        }
        refusals::refuse_empty(&path)?;
        refuse_foreign_log(&path)?;
        let mut connection = connection::open(&path)
            .map_err(|error| SqliteError::of(&path.display().to_string(), &error))?;
        examine(&mut connection, partitions).map_err(|error| error.of_file(&path))
    }

    fn open_file(path: PathBuf, how: Open, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let cannot_open = |error: &rusqlite::Error| SqliteError::of(&shown, error);
        refuse_foreign_log(&path)?;
        note_before_opening(&path);
        let mut connection = connect(&path).map_err(|e| cannot_open(&e))?;
        // SQLite falls back to reading, and then also to transactions that write nothing.
        if connection
            .is_readonly("main")
            .map_err(|e| cannot_open(&e))?
        {
            return Err(SqliteError::read_only(&shown, &"it was opened for reading only").into());
        }
        let partitions = prepare(&mut connection, how).map_err(|error| error.of_file(&path))?;
        let file = Arc::new(StoreFile::opened(path, &connection)?);
        if how != Open::Existing {
            file.note();
        }
        let mut checkpoints =
            Checkpoints::of(&mut connection, file.clone()).map_err(|e| cannot_open(&e))?;
        let (jobs, mut inbox) = mpsc::channel(4096);
        let own_file = file.clone();
        let writer = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                keep_thread("sqlite-writer", || {
                    write_loop(&mut connection, &own_file, &mut inbox, &mut checkpoints);
                });
                // The last handle was dropped: leave a single file.
                own_file.close(connection);
            })
            .map_err(|e| StoreError::Unavailable(e.into()))?;
        let inner = Arc::new(Inner {
            watcher: OnceLock::new(),
            readers: Mutex::default(),
            jobs,
            _writer: JoinOnDrop::new(writer),
            file,
            partitions,
            clock,
            published: (0..partitions).map(|_| Notify::new()).collect(),
            closed: AtomicBool::new(false),
            prunes: how != Open::Existing,
        });
        let watched = Arc::downgrade(&inner);
        let watcher = std::thread::Builder::new()
            .name("sqlite-watcher".into())
            .spawn(move || keep_thread("sqlite-watcher", || watch(&watched)))
            .map_err(|e| StoreError::Unavailable(e.into()))?;
        let _ = inner.watcher.set(JoinOnDrop::new(watcher));
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

/// The path of a store that a command works on.
fn existing(data: &Path) -> Result<PathBuf, StoreError> {
    let path = data.join(FILE_NAME);
    backup::refuse_interrupted(&path)?;
    // A path that cannot be looked at is opened, which says why not.
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Err(StoreError::Misconfigured(format!(
            "there is no store at {}: start `revwatch serve` there first, or name its folder with REVWATCH_DATA",
            path.display()
        )));
    }
    refusals::refuse_empty(&path)?;
    refusals::refuse_links(&path)?;
    refusals::refuse_shared(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::Connection;

    use super::writer::Job;
    use super::*;

    #[test]
    fn a_store_without_its_number_of_partitions_is_corrupt() {
        for change in [
            "DELETE FROM meta WHERE key = 'partitions'",
            "UPDATE meta SET value = 'x' WHERE key = 'partitions'",
            "UPDATE meta SET value = '0' WHERE key = 'partitions'",
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let create = Open::Create { partitions: 1 };
            drop(Sqlite::open(folder.path(), create).expect("a store"));
            let file = connect(&folder.path().join(FILE_NAME)).expect("the file");
            file.execute(change, []).expect("changed");
            for how in [create, Open::Existing] {
                let error = Sqlite::open(folder.path(), how).err();
                assert!(matches!(error, Some(StoreError::Corrupt(_))), "{error:?}");
            }
        }
    }

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
