//! Which store a file is: an id in SQLite's header, which is copied with the file. A backup and a restored store have
//! ids of their own.
//!
//! The note next to the file says whose the write-ahead log is. SQLite does not know that: of a process that was killed
//! a log is left, and what is in it would be copied into any file that is put in the place of its own.
//!
//! What cannot be seen: a file that another program made of a copy of this very store, and that is as long and changed as
//! often as this one; and a foreign log next to the right file.

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::file::{log_of, note_of, with_suffix};
use crate::ports::StoreError;
use crate::private;

/// What the file's first bytes say. Source: <https://www.sqlite.org/fileformat.html#the_database_header>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// SQLite's `application_id`; 0 in a file that an earlier version of revwatch made.
    pub(super) id: u32,
    /// "File change counter". A connection counts at least once after each change by another one.
    changes: u32,
    pages: u32,
    page_bytes: u32,
}

/// A file that is only looked at. Never closed: closing would drop SQLite's locks on it for all connections of this
/// process. Source: <https://sqlite.org/howtocorrupt.html>, "Posix advisory locks canceled".
pub(super) type Unclosed = ManuallyDrop<File>;

/// Opens a file that SQLite may have open.
pub(super) fn look_at(path: &Path) -> io::Result<Unclosed> {
    File::open(path).map(ManuallyDrop::new)
}

/// What a write-ahead log begins with; SQLite gives each log that it begins another one. Source:
/// <https://www.sqlite.org/fileformat.html#the_write_ahead_log>.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogHeader([u8; 32]);

impl LogHeader {
    /// Zeros: there is none.
    pub(super) fn of(log: &File) -> io::Result<Self> {
        let mut bytes = [0; 32];
        match log.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Self::default()),
            other => other.map(|()| Self(bytes)),
        }
    }

    /// Whether it is missing in a log of that size: SQLite has it on disk before it writes anything behind it, and reads
    /// nothing of a log without it.
    pub(super) fn is_missing(&self, log_bytes: u64) -> bool {
        const MAGIC: u32 = 0x377f_0682;
        let [a, b, c, d, ..] = self.0;
        // The last bit is the byte order of its checksums.
        let begins = u32::from_be_bytes([a, b, c, d]) & !1 == MAGIC;
        log_bytes > 32 && !begins
    }
}

impl Header {
    /// `None`: it is not SQLite's.
    pub(super) fn of(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; 100];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8; 100]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = bytes[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes)
        };
        let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            bytes => u32::from(bytes),
        };
        let header = Self {
            id: number(68),
            changes: number(24),
            pages: number(28),
            page_bytes,
        };
        let is_sqlites = bytes.starts_with(b"SQLite format 3\0") && header.pages > 0;
        is_sqlites.then_some(header)
    }

    /// Whether this can be a later header of a file that had the header `earlier`: SQLite counts its changes, and makes a
    /// file shorter only with a further one.
    pub(super) fn follows(&self, earlier: &Self) -> bool {
        (self.id == earlier.id || earlier.id == 0)
            && (self.changes, self.pages) >= (earlier.changes, earlier.pages)
    }

    /// The size of a file with all pages that the header counts.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_bytes)
    }
}

/// Gives the store, or a copy of one, an id of its own, within the caller's transaction.
pub(super) fn set_fresh_id(c: &Connection) -> rusqlite::Result<()> {
    let id: u32 = c.query_row("SELECT 1 + abs(random() % 2147483647)", [], |row| {
        row.get(0)
    })?;
    c.pragma_update(None, "application_id", id)
}

/// The id of the store that a connection reads; the header has it once it is copied from the log.
pub(super) fn id_of(c: &Connection) -> rusqlite::Result<u32> {
    c.pragma_query_value(None, "application_id", |row| row.get(0))
}

/// Fails if the log next to the file at `path` is damaged or of another one, before SQLite opens both.
pub(super) fn refuse_foreign_log(path: &Path) -> Result<(), StoreError> {
    let (log, note) = (log_of(path), note_of(path));
    if is_empty(&log) {
        return Ok(());
    }
    if is_damaged(&log) {
        return Err(StoreError::Misconfigured(format!(
            "{} is damaged at its beginning: something emptied or overwrote it while a process had it open (logrotate with \
             copytruncate does that), and what was only in it is lost. To go on without it, move it away and start \
             revwatch; then `revwatch backfill` brings back what Stripe still has",
            log.display(),
        )));
    }
    let is_own = match look_at(path).and_then(|file| Header::of(&file)) {
        Ok(Some(header)) => read_note(&note).is_none_or(|noted| header.follows(&noted)),
        // SQLite would read all that it needs from the log.
        Ok(None) => false,
        // Opening it says why.
        Err(_) => true,
    };
    if is_own {
        return Ok(());
    }
    Err(StoreError::Misconfigured(format!(
        "{} is the write-ahead log of another store than {}: a file was put there while the log of the one before was left, \
         as a killed process leaves it, and the two together are a damaged store. To return to the store before, put its file \
         back. If the file and its log were copied together, only {} is of another store: move it away. To go on with the file \
         alone, move the log away, too, or use `revwatch restore`",
        log.display(),
        path.display(),
        note.display(),
    )))
}

/// Notes whose a log will be that is not begun yet. Without the note nothing is lost but a check.
pub(super) fn note_before_opening(path: &Path) {
    if is_empty(&log_of(path))
        && let Ok(file) = look_at(path)
        && let Ok(Some(header)) = Header::of(&file)
        && read_note(&note_of(path)) != Some(header)
    {
        let _ = write_note(path, &file, &header);
    }
}

fn is_damaged(log: &Path) -> bool {
    let looked = || {
        let log = File::open(log)?;
        let bytes = log.metadata()?.len();
        Ok::<_, io::Error>(LogHeader::of(&log)?.is_missing(bytes))
    };
    // Opening it says why it cannot be looked at.
    looked().unwrap_or(false)
}

fn is_empty(log: &Path) -> bool {
    fs::metadata(log).map_or(0, |log| log.len()) == 0
}

/// Notes next to the file at `path` that the log is of the store with this header, which was read from `file`. The file
/// is on disk before: after a power failure it must not have an earlier header than the note.
pub(super) fn write_note(path: &Path, file: &File, header: &Header) -> io::Result<()> {
    file.sync_data()?;
    let (note, new) = (note_of(path), with_suffix(path, "-log-of.new"));
    let _ = fs::remove_file(&new);
    drop(private::new_file(&new)?);
    let Header {
        id,
        changes,
        pages,
        page_bytes,
    } = header;
    fs::write(&new, format!("{id} {changes} {pages} {page_bytes}\n"))?;
    fs::rename(&new, &note)
}

/// `None`: there is none that can be read.
fn read_note(note: &Path) -> Option<Header> {
    let text = fs::read_to_string(note).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Header {
        id: next()?,
        changes: next()?,
        pages: next()?,
        page_bytes: next()?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::sqlite::connection::connect;
    use crate::sqlite::{FILE_NAME, Open, Sqlite};

    const CREATE: Open = Open::Create { partitions: 1 };

    async fn put(sqlite: &Sqlite, key: &str, bytes: u32) -> Result<(), String> {
        let sql = format!("INSERT INTO meta VALUES ('{key}', printf('%.*c', {bytes}, 'x'))");
        let put = sqlite.write(move |c| c.execute(&sql, [])).await;
        put.map(drop).map_err(|error| error.to_string())
    }

    /// A store in a folder of its own.
    fn store(folder: &Path, name: &str) -> (Sqlite, PathBuf) {
        let data = folder.join(name);
        let sqlite = Sqlite::open(&data, CREATE).expect("a store");
        (sqlite, data.join(FILE_NAME))
    }

    /// Copies all of the log into the file.
    async fn checkpoint(path: &Path) {
        let other = connect(path).expect("opened");
        for _ in 0..3000 {
            let busy: u32 = other
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .expect("a checkpoint");
            if busy == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("others keep the log busy");
    }

    /// Returns once the store's threads have ended.
    async fn ended(sqlite: Sqlite) {
        let file = Arc::downgrade(&sqlite.0.file);
        drop(sqlite);
        for _ in 0..3000 {
            if file.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the store is still open");
    }

    /// As `cp` does it: the file stays the same, whatever is in it.
    #[tokio::test]
    async fn a_file_that_is_overwritten_in_place_is_noticed_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (other, other_path) = store(folder.path(), "other");
        put(&other, "filler", 4_000_000).await.expect("stored");
        checkpoint(&other_path).await;
        let (own, own_path) = store(folder.path(), "own");
        put(&own, "a", 1).await.expect("stored");
        checkpoint(&own_path).await;
        let earlier = fs::read(&own_path).expect("read");
        ended(own).await;
        let larger_store = fs::read(&other_path).expect("read");
        for (case, content) in [
            ("a larger store", larger_store),
            ("anything", vec![b'x'; 9_000_000]),
            ("an earlier copy", earlier),
        ] {
            let (own, own_path) = store(folder.path(), "own");
            let key = |n: u32| format!("{}{n}", case.replace(' ', "_"));
            put(&own, &key(1), 100_000).await.expect("stored");
            checkpoint(&own_path).await;
            put(&own, &key(2), 1).await.expect("stored");
            own.0.file.note();
            let good = fs::read(&own_path).expect("read");
            fs::write(&own_path, &content).expect("overwritten");
            let error = put(&own, "b", 1).await.expect_err(case);
            assert!(
                error.contains("was overwritten or truncated"),
                "{case}: {error}"
            );
            assert!(own.read(|_| Ok(())).await.is_err(), "{case}");
            ended(own).await;
            assert!(
                fs::read(&own_path).expect("read") == content,
                "{case}: it was written"
            );
            let error = Sqlite::open(own_path.parent().expect("a folder"), CREATE);
            let error = error.err().expect(case).to_string();
            assert!(error.contains("log of another store"), "{case}: {error}");
            fs::write(&own_path, good).expect("put back");
        }
        let (own, _) = store(folder.path(), "own");
        let count = "SELECT count(*) FROM meta WHERE key LIKE 'a%'";
        let keys = own.read(move |c| c.query_row(count, [], |row| row.get::<_, u32>(0)));
        assert_eq!(
            keys.await.expect("read"),
            7,
            "nothing that was stored is lost"
        );
    }

    /// As `logrotate` does it with `copytruncate`, and as an overwriting program does.
    #[tokio::test]
    async fn a_log_that_is_emptied_in_place_takes_nothing_more() {
        for harm in ["emptied", "overwritten", "cut"] {
            let folder = tempfile::tempdir().expect("a folder");
            let (own, path) = store(folder.path(), "own");
            put(&own, "a", 1).await.expect("stored");
            checkpoint(&path).await;
            put(&own, "b", 100_000).await.expect("stored");
            let log = fs::OpenOptions::new().write(true).open(log_of(&path));
            let log = log.expect("opened");
            match harm {
                "emptied" => log.set_len(0).expect(harm),
                "overwritten" => log.write_all_at(&[0; 50_000], 0).expect(harm),
                _ => log.set_len(50_000).expect(harm),
            }
            let file = fs::read(&path).expect("read");
            for key in ["c", "d"] {
                let error = put(&own, key, 1).await.expect_err("not stored");
                assert!(error.contains("was emptied, cut or overwritten"), "{error}");
            }
            assert!(own.read(|_| Ok(())).await.is_err());
            ended(own).await;
            assert_eq!(
                fs::read(&path).expect("read"),
                file,
                "nothing of it is copied"
            );
            let data = path.parent().expect("a folder");
            // Of one that was cut, the rest is whole.
            for how in [CREATE, Open::Existing]
                .into_iter()
                .filter(|_| harm != "cut")
            {
                let error = Sqlite::open(data, how).err().expect("refused").to_string();
                for part in ["damaged at its beginning", "move it away", "backfill"] {
                    assert!(error.contains(part), "{error}");
                }
            }
            // As after a restart without the log; this process has the file open until its end.
            let without = folder.path().join("without");
            fs::create_dir(&without).expect("made");
            fs::copy(&path, without.join(FILE_NAME)).expect("copied");
            let again = Sqlite::open(&without, CREATE).expect("a store");
            put(&again, "b", 1).await.expect("it has no such key");
            put(&again, "a", 1).await.expect_err("it has this one");
        }
    }

    /// A process that stops ends right after that.
    #[tokio::test]
    async fn when_the_last_handle_is_gone_so_is_the_log() {
        for _ in 0..5 {
            let folder = tempfile::tempdir().expect("a folder");
            let (own, path) = store(folder.path(), "own");
            put(&own, "a", 1_000_000).await.expect("stored");
            own.read(|_| Ok(())).await.expect("read");
            drop(own);
            assert!(!log_of(&path).exists());
        }
    }

    #[tokio::test]
    async fn a_log_that_another_process_began_again_is_not_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, path) = store(folder.path(), "own");
        put(&own, "a", 100_000).await.expect("stored");
        let other = connect(&path).expect("opened");
        checkpoint(&path).await;
        let sql = "INSERT INTO meta VALUES ('b', 'x')";
        other.execute(sql, []).expect("written by another");
        put(&own, "c", 1).await.expect("stored");
        own.read(|_| Ok(())).await.expect("read");
    }

    #[tokio::test]
    async fn a_log_that_a_killed_process_left_is_not_read_into_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, path) = store(folder.path(), "own");
        let backup = folder.path().join("backup");
        own.back_up(&backup).await.expect("a backup");
        put(&own, "a", 1).await.expect("stored");
        own.0.file.note();
        let killed = folder.path().join("killed");
        fs::create_dir(&killed).expect("made");
        let left = killed.join(FILE_NAME);
        for (from, to) in [
            (path.clone(), left.clone()),
            (log_of(&path), log_of(&left)),
            (note_of(&path), note_of(&left)),
        ] {
            fs::copy(from, to).expect("copied");
        }
        let good = fs::read(&left).expect("read");
        fs::copy(&backup, &left).expect("replaced");
        for how in [CREATE, Open::Existing] {
            let error = Sqlite::open(&killed, how)
                .err()
                .expect("refused")
                .to_string();
            for part in ["log of another store", "-log-of", "revwatch restore"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
        let other = folder.path().join("restored");
        crate::sqlite::restore(&left, &other, false).expect_err("a mixture");
        fs::write(&left, good).expect("put back");
        let again = Sqlite::open(&killed, CREATE).expect("a store");
        let found = again.read(|c| {
            c.query_row("SELECT count(*) FROM meta WHERE key = 'a'", [], |row| {
                row.get::<_, u32>(0)
            })
        });
        assert_eq!(found.await.expect("read"), 1);
    }

    /// The file that was opened gets what its log holds, wherever it is now.
    #[tokio::test]
    async fn after_a_file_was_replaced_a_restart_begins_with_the_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, path) = store(folder.path(), "own");
        let (backup, away) = (folder.path().join("backup"), folder.path().join("away"));
        own.back_up(&backup).await.expect("a backup");
        put(&own, "a", 1).await.expect("stored");
        fs::rename(&path, &away).expect("moved");
        fs::rename(&backup, &path).expect("replaced");
        put(&own, "b", 1).await.expect_err("replaced");
        ended(own).await;
        let (new, _) = store(folder.path(), "own");
        put(&new, "a", 1).await.expect("it has no such key");
        let sql = "SELECT count(*) FROM meta WHERE key = 'a'";
        let count = |c: Connection| c.query_row(sql, [], |row| row.get::<_, u32>(0));
        for _ in 0..3000 {
            // A thread may end before its connection has copied the log.
            if connect(&away).and_then(count) == Ok(1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the log is not in the file that was opened");
    }

    #[tokio::test]
    async fn a_store_of_an_earlier_version_gets_an_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let (earlier, path) = store(folder.path(), "data");
        earlier
            .write(|c| c.pragma_update(None, "application_id", 0))
            .await
            .expect("set");
        ended(earlier).await;
        let _ = fs::remove_file(note_of(&path));
        let (sqlite, _) = store(folder.path(), "data");
        put(&sqlite, "a", 1).await.expect("stored");
        checkpoint(&path).await;
        put(&sqlite, "b", 1).await.expect("stored");
        let header = look_at(&path)
            .and_then(|file| Header::of(&file))
            .expect("read");
        assert_ne!(header.expect("SQLite's").id, 0);
        sqlite.0.file.note();
        assert_eq!(read_note(&note_of(&path)), header);
    }

    #[test]
    fn a_header_is_followed_by_those_of_the_same_store_with_as_many_changes() {
        let header = |id, changes, pages| Header {
            id,
            changes,
            pages,
            page_bytes: 4096,
        };
        let earlier = header(7, 3, 100);
        for (later, expected) in [
            (header(7, 3, 100), true),
            (header(7, 3, 101), true),
            (header(7, 4, 50), true),
            (header(7, 3, 99), false),
            (header(7, 2, 200), false),
            (header(8, 9, 900), false),
            (header(0, 9, 900), false),
        ] {
            assert_eq!(later.follows(&earlier), expected, "{later:?}");
        }
        assert!(earlier.follows(&header(0, 1, 1)), "of an earlier version");
        let mut bytes = [0; 100];
        assert_eq!(Header::parse(&bytes), None);
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        (bytes[16], bytes[31], bytes[71]) = (16, 2, 9);
        assert_eq!(Header::parse(&bytes), Some(header(9, 0, 2)));
    }
}
