//! Checkpoints: copies pages from the write-ahead log into the file, concurrently with the writer.
//!
//! By default SQLite makes the writer do this within a commit, and every event of that commit waits for two syncs and
//! thousands of pages. Here a thread copies most pages while the writer continues. The writer copies the few that are
//! left, between two rounds, and restarts the log, which only it can do.
//!
//! Invariant: a checkpoint does not change what is stored; a log without checkpoints only grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;

use super::connection::BUSY_TIMEOUT;
use super::file::StoreFile;
use super::identity::{Unclosed, look_at};
use super::thread::keep_thread;
use crate::ports::BoxError;

/// A checkpoint starts at this many pages (of 4 KiB) in the log. A page that changes repeatedly until then is copied
/// once, but a longer checkpoint leaves the disk less time for commits.
const START_PAGES: u32 = 8_000;
/// The thread repeats its passes until one copies at most this many pages; about as many are left for the writer.
const REMAINING_PAGES: u32 = 100;
/// After this many passes it leaves more.
const MAX_PASSES: u32 = 10;
/// At this size the writer copies all pages itself, although callers wait, so that the log does not grow further.
const MAX_LOG_PAGES: u32 = 8 * START_PAGES;
/// The writer waits this often, this long, for readers of the log. Reads are short, but a long export must not block
/// the writer.
const READER_CHECKS: i32 = 250;
const CHECK_INTERVAL: Duration = Duration::from_micros(100);

/// The writer's side.
pub(super) struct Checkpoints {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicU32>,
    begin: SyncSender<()>,
    is_under_way: bool,
    /// Few pages are left.
    is_nearly_done: Arc<AtomicBool>,
    /// The number of pages at which to act next.
    next: u32,
}

impl Checkpoints {
    /// Replaces SQLite's checkpoints for commits of `writer`. The thread ends when the returned value is dropped.
    pub(super) fn of(writer: &mut Connection, file: Arc<StoreFile>) -> rusqlite::Result<Self> {
        let (pages, is_nearly_done) = (
            Arc::new(AtomicU32::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (begin, begins) = sync_channel(1);
        let shown = pages.clone();
        writer.wal_hook(Some(move |_: &mut Wal, pages| {
            shown.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let moves = Moves {
            file,
            begins,
            is_nearly_done: is_nearly_done.clone(),
        };
        // Without the thread the writer copies all pages itself.
        let _ = std::thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || keep_thread("sqlite-checkpoint", || moves.run()));
        Ok(Self {
            pages,
            begin,
            is_under_way: false,
            is_nearly_done,
            next: START_PAGES,
        })
    }

    /// Must be called between two rounds.
    pub(super) fn after_round(&mut self, writer: &mut Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if self.is_nearly_done.swap(false, Ordering::AcqRel)
            || pages >= self.next.max(MAX_LOG_PAGES)
        {
            self.is_under_way = false;
            let began = Instant::now();
            let restarted = restart_log(writer).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot restart the log of the embedded store; trying again");
                false
            });
            tracing::debug!(pages, restarted, took = ?began.elapsed(), "copied the log of the embedded store to its file");
            if restarted {
                self.pages.store(0, Ordering::Relaxed);
                self.next = START_PAGES;
            } else {
                // The log has readers: it has to grow a little before the next attempt.
                self.next = pages.max(START_PAGES) + START_PAGES / 16;
            }
        } else if pages >= self.next && !self.is_under_way {
            self.is_under_way = self.begin.try_send(()).is_ok();
        }
    }
}

/// Copies the remaining pages, so that the next commit is at the beginning of the log. Returns whether that was
/// possible.
fn restart_log(writer: &mut Connection) -> rusqlite::Result<bool> {
    writer.busy_handler(Some(|checks| {
        std::thread::sleep(CHECK_INTERVAL);
        checks < READER_CHECKS
    }))?;
    let moved = writer.wal_checkpoint_v2(None::<&str>, CheckpointMode::RESTART);
    writer.busy_timeout(BUSY_TIMEOUT)?;
    match moved {
        Ok(_) => Ok(true),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The thread's side.
struct Moves {
    file: Arc<StoreFile>,
    begins: Receiver<()>,
    is_nearly_done: Arc<AtomicBool>,
}

impl Moves {
    fn run(&self) {
        let mut open = None;
        while let Ok(()) = self.begins.recv() {
            // The writer must learn about the end, however it ends.
            let _done = Done(&self.is_nearly_done);
            if let Err(error) = self.make_room(&mut open) {
                tracing::warn!(%error, "cannot copy the log of the embedded store to its file; trying again");
            }
        }
    }

    fn make_room(&self, open: &mut Option<(Connection, Unclosed)>) -> Result<(), BoxError> {
        let (connection, file) = match open {
            Some(open) => open,
            None => open.insert((self.file.connect()?, look_at(self.file.path())?)),
        };
        // Else these pages would be copied into whatever has taken the place of the store.
        self.file.check()?;
        let mut before = 0;
        for _ in 0..MAX_PASSES {
            let (_, moved) = connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)?;
            // SQLite leaves this sync to the connection that reaches the end of the log: the writer.
            file.sync_data()?;
            // Each pass copies what was written during the previous one, which is less each time.
            if u32::try_from(moved - before).unwrap_or(0) <= REMAINING_PAGES {
                break;
            }
            before = moved;
        }
        Ok(())
    }
}

/// When dropped, signals that the writer may copy the rest.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::path::Path;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::ports::{Delivery, Publish as _};
    use crate::sqlite::connection::connect;
    use crate::sqlite::{FILE_NAME, Open, Sqlite};

    /// How often the log of the store in `folder` was restarted. Source:
    /// <https://sqlite.org/fileformat2.html#walformat>, "Checkpoint sequence number".
    fn restarts(folder: &Path) -> u32 {
        let mut log = File::open(folder.join(format!("{FILE_NAME}-wal"))).expect("a log");
        let mut head = [0; 16];
        log.read_exact(&mut head).expect("its head");
        u32::from_be_bytes(head[12..].try_into().expect("four bytes"))
    }

    /// Publishes until `enough`, 16 pages each time, but not so often that the writer would have to copy all pages.
    async fn publish_until(sqlite: &Sqlite, mut enough: impl FnMut(u32) -> bool) {
        let mut count = 0;
        while !enough(count) {
            assert!(
                count < (MAX_LOG_PAGES - 2 * START_PAGES) / 16,
                "{count} deliveries are not enough"
            );
            let delivery = Delivery {
                id: Uuid::now_v7(),
                event_id: format!("evt_{count}"),
                event_type: "payout.paid".into(),
                partition: 0,
                endpoint: "stripe".into(),
                received_ms: 0,
                traceparent: None,
                body: Bytes::from(vec![b'x'; 16 * 4096]),
            };
            sqlite.publish(delivery).await.expect("stored");
            count += 1;
        }
    }

    #[tokio::test]
    async fn the_log_restarts_once_it_has_no_readers() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        publish_until(&sqlite, |count| count == 1).await;
        let reader = connect(&folder.path().join(FILE_NAME)).expect("a reader");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM archive")
            .expect("it reads");
        let first = restarts(folder.path());
        publish_until(&sqlite, |count| {
            count > (START_PAGES + START_PAGES / 4) / 16
        })
        .await;
        assert_eq!(restarts(folder.path()), first, "the log has a reader");
        reader.execute_batch("COMMIT").expect("it has read");
        publish_until(&sqlite, |_| restarts(folder.path()) > first).await;
        let again = restarts(folder.path());
        publish_until(&sqlite, |_| restarts(folder.path()) > again).await;
    }
}
