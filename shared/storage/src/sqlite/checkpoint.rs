//! Moving pages from the write-ahead log to their place in the file, beside the writer.
//!
//! SQLite would have the writer do that in the middle of a commit, and everybody whose event is in it wait for two
//! syncs and thousands of pages. Here a thread does most of it while the writer goes on, and the writer the little that
//! is left, between two rounds; only then can it begin the log anew, which nobody else can do for it.
//!
//! Invariant: what is moved, and when, changes nothing of what is stored: a log that is never moved only grows.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;

use super::thread::keep_thread;
use super::{BUSY_TIMEOUT, connect};
use crate::ports::BoxError;

/// The log is moved once it has so many pages (of 4 KiB). A page that changes again and again until then is moved once;
/// but while many are moved at once, the disk has less time for commits.
const START_PAGES: u32 = 8_000;
/// Moving goes on while the writer writes, until so few were moved at once: the writer gets about as many.
const REMAINING_PAGES: u32 = 100;
/// After so many times it leaves more than that.
const MAX_PASSES: u32 = 10;
/// The writer moves all of it, whoever waits, rather than let the log grow further.
const MAX_LOG_PAGES: u32 = 8 * START_PAGES;
/// The writer waits for those who read from the log at that moment: so often, so long. Reads are short; but whoever
/// exports everything must not hold up those who write.
const READER_CHECKS: i32 = 250;
const CHECK_INTERVAL: Duration = Duration::from_micros(100);

/// The writer's side.
pub(super) struct Checkpoints {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicU32>,
    begin: SyncSender<()>,
    is_under_way: bool,
    /// Little is left.
    is_nearly_done: Arc<AtomicBool>,
    /// With so many pages something is to be done.
    next: u32,
}

impl Checkpoints {
    /// Takes over from SQLite, for commits of `writer`. The thread ends with what this returns.
    pub(super) fn of(writer: &mut Connection, path: PathBuf) -> rusqlite::Result<Self> {
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
            path,
            begins,
            is_nearly_done: is_nearly_done.clone(),
        };
        // Without the thread the writer does all of it, in time.
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

    /// To be called between two rounds.
    pub(super) fn after_round(&mut self, writer: &mut Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if self.is_nearly_done.swap(false, Ordering::AcqRel)
            || pages >= self.next.max(MAX_LOG_PAGES)
        {
            self.is_under_way = false;
            let began = Instant::now();
            let is_new = begin_anew(writer).unwrap_or_else(|error| {
                tracing::warn!(%error, "the log of the embedded store cannot begin anew; trying again");
                false
            });
            tracing::debug!(pages, is_new, took = ?began.elapsed(), "moved the log of the embedded store to its file");
            if is_new {
                self.pages.store(0, Ordering::Relaxed);
                self.next = START_PAGES;
            } else {
                // Somebody reads from the log: it has to grow a little before the next try.
                self.next = pages.max(START_PAGES) + START_PAGES / 16;
            }
        } else if pages >= self.next && !self.is_under_way {
            self.is_under_way = self.begin.try_send(()).is_ok();
        }
    }
}

/// Moves what is left, so that the next commit is at the beginning of the log. Whether that was possible.
fn begin_anew(writer: &mut Connection) -> rusqlite::Result<bool> {
    writer.busy_handler(Some(|looks| {
        std::thread::sleep(CHECK_INTERVAL);
        looks < READER_CHECKS
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
    path: PathBuf,
    begins: Receiver<()>,
    is_nearly_done: Arc<AtomicBool>,
}

impl Moves {
    fn run(&self) {
        let mut open = None;
        while let Ok(()) = self.begins.recv() {
            // However it ends, the writer has to know that it did.
            let _done = Done(&self.is_nearly_done);
            if let Err(error) = self.make_room(&mut open) {
                tracing::warn!(%error, "the log of the embedded store is not moved to its file; trying again");
            }
        }
    }

    fn make_room(&self, open: &mut Option<(Connection, Unclosed)>) -> Result<(), BoxError> {
        let (connection, file) = match open {
            Some(open) => open,
            None => open.insert((
                connect(&self.path)?,
                ManuallyDrop::new(File::open(&self.path)?),
            )),
        };
        let mut before = 0;
        for _ in 0..MAX_PASSES {
            let (_, moved) = connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)?;
            // SQLite leaves this to whoever reaches the end of the log: that would be the writer.
            file.sync_data()?;
            // Each time there is what was written meanwhile, which is less, as it takes less time.
            if u32::try_from(moved - before).unwrap_or(0) <= REMAINING_PAGES {
                break;
            }
            before = moved;
        }
        Ok(())
    }
}

/// Says when it is dropped that the writer may do the rest.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// To close it would take away the locks that SQLite has on the same file, from all connections of the process. Source:
/// <https://sqlite.org/howtocorrupt.html>, "Posix advisory locks canceled".
type Unclosed = ManuallyDrop<File>;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::ports::{Delivery, Publish as _};
    use crate::sqlite::{FILE_NAME, Open, Sqlite};

    /// How often the log of the store in `folder` was begun anew. Source:
    /// <https://sqlite.org/fileformat2.html#walformat>, "Checkpoint sequence number".
    fn times_begun(folder: &Path) -> u32 {
        let mut log = File::open(folder.join(format!("{FILE_NAME}-wal"))).expect("a log");
        let mut head = [0; 16];
        log.read_exact(&mut head).expect("its head");
        u32::from_be_bytes(head[12..].try_into().expect("four bytes"))
    }

    /// Publishes until `enough`; 16 pages each time, and not so often that the writer would have to move all of it.
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
    async fn the_log_begins_anew_once_nobody_reads_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        publish_until(&sqlite, |count| count == 1).await;
        let reader = connect(&folder.path().join(FILE_NAME)).expect("a reader");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM archive")
            .expect("it reads");
        let first = times_begun(folder.path());
        publish_until(&sqlite, |count| {
            count > (START_PAGES + START_PAGES / 4) / 16
        })
        .await;
        assert_eq!(times_begun(folder.path()), first, "somebody reads from it");
        reader.execute_batch("COMMIT").expect("it has read");
        publish_until(&sqlite, |_| times_begun(folder.path()) > first).await;
        let again = times_begun(folder.path());
        publish_until(&sqlite, |_| times_begun(folder.path()) > again).await;
    }
}
