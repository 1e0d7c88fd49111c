//! Copies of the file: one made while it is used, and one put in its place.
//!
//! Invariant: a file under the name of a backup, or of the store, is complete, was checked and is on disk. Nothing is
//! overwritten: a store that is replaced is kept under another name.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::error::{RESTORE, SqliteError};
use super::file::{self, note_of, of_store, owner, with_suffix};
use super::handle::Sqlite;
use super::identity::{refuse_foreign_log, set_fresh_id};
use super::in_use::user_of;
use super::schema::{SCHEMA_VERSION, stored_partitions};
use super::{FILE_NAME, queue};
use crate::ports::StoreError;
use crate::private;

/// What is between the name of a store that was replaced and its number.
const REPLACED: &str = ".replaced-";

/// What the name of a copy that is to become the store ends with.
const RESTORING: &str = ".restoring";

/// A copy that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its size.
    pub bytes: u64,
    /// When the last delivery in it was received, in Unix milliseconds.
    pub newest_ms: Option<i64>,
    /// Where the store that it replaces was moved to.
    pub replaced: Option<PathBuf>,
}

impl Sqlite {
    /// Writes a copy to the new file `to`, readable for its owner alone, while the store is used.
    pub async fn back_up(&self, to: &Path) -> Result<Backup, StoreError> {
        let (store, to) = (self.0.clone(), to.to_owned());
        let copying = tokio::task::spawn_blocking(move || {
            let partial = with_suffix(&to, ".partial");
            if to.exists() {
                return Err(unusable(&to, "exists already: name a new file"));
            }
            // Of another backup that is being written, or was interrupted: it is not ours to remove.
            new_file(&partial)?;
            let copied = copy(&store.file.connect()?, &partial).and_then(|backup| {
                put(&partial, &to)?;
                Ok(backup)
            });
            if copied.is_err() {
                let _ = fs::remove_file(&partial);
            }
            copied
        });
        copying
            .await
            .map_err(|error| StoreError::Unavailable(error.into()))?
    }
}

/// Puts the backup `from` in the place of the store in folder `data`, which no process may have open. A store that is
/// there is moved aside if `replace`, else that is an error.
pub fn restore(from: &Path, data: &Path, replace: bool) -> Result<Backup, StoreError> {
    let path = data.join(FILE_NAME);
    let is_there = of_store(&path)
        .iter()
        .any(|file| fs::metadata(file).is_ok_and(|found| found.len() > 0));
    if is_there && !replace {
        return Err(unusable(
            &path,
            "is there: --force moves it aside and puts the backup in its place",
        ));
    }
    file::make_folder(data)?;
    // Also of a file that was removed: its shared memory may be left.
    if let Some(user) = user_of(&path) {
        return Err(unusable(
            &path,
            &format!("is in use ({user}): stop revwatch first"),
        ));
    }
    let partial = with_suffix(&path, RESTORING);
    if fs::canonicalize(from)
        .is_ok_and(|from| fs::canonicalize(&partial).is_ok_and(|it| it == from))
    {
        return Err(unusable(
            from,
            "is what an interrupted restore left: name the backup itself, or copy this file to another place",
        ));
    }
    let taken = take_in(from, &partial).map_err(|error| of_backup(error, &partial, from));
    let restored = taken.and_then(|backup| {
        belong_to_owner_of(data, &partial)?;
        let replaced = if is_there {
            Some(move_aside(&path)?)
        } else {
            None
        };
        match (put(&partial, &path), replaced) {
            (Ok(()), replaced) => Ok(Backup { replaced, ..backup }),
            (Err(error), Some(replaced)) => {
                move_to(&replaced, &path)?;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    });
    if restored.is_err() {
        for file in of_store(&partial) {
            let _ = fs::remove_file(file);
        }
    }
    restored
}

/// Says of the backup what was found in its copy.
fn of_backup(error: StoreError, copy: &Path, backup: &Path) -> StoreError {
    let said = |text: String| {
        text.replace(&copy.display().to_string(), &backup.display().to_string())
            .replace(RESTORE, "Name another backup")
    };
    match error {
        StoreError::Misconfigured(text) => StoreError::Misconfigured(said(text)),
        StoreError::Corrupt(text) => StoreError::Corrupt(said(text)),
        error => error,
    }
}

/// Fails if there is no store because a restore was interrupted: an empty one would be begun with in its place.
pub(super) fn refuse_interrupted(path: &Path) -> Result<(), StoreError> {
    let copy = with_suffix(path, RESTORING);
    if path.exists() || !copy.exists() {
        return Ok(());
    }
    Err(unusable(
        path,
        &format!(
            "is missing, and {} is there: a restore was interrupted. Run `revwatch restore` again; what was there before \
             is kept under a name that ends with {REPLACED}1 or a higher number",
            copy.display()
        ),
    ))
}

/// A copy of what the connection sees, in one transaction. In WAL mode it stops no writer.
fn copy(store: &Connection, partial: &Path) -> Result<Backup, StoreError> {
    let name = partial
        .to_str()
        .ok_or_else(|| unusable(partial, "is not a name in UTF-8"))?;
    store
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| sql(partial, &error))?;
    examine(partial)
}

/// A copy of the backup, as one file. A copy made by other means may have a write-ahead log. Of a store in use, file and
/// log change between the two copies.
fn take_in(from: &Path, partial: &Path) -> Result<Backup, StoreError> {
    if let Some(user) = user_of(from) {
        return Err(unusable(
            from,
            &format!(
                "is in use ({user}), so a copy of it may be torn: make one with `revwatch backup`, and restore that"
            ),
        ));
    }
    refuse_foreign_log(from)?;
    let [_, from_log, _] = of_store(from);
    let [_, log, shared] = of_store(partial);
    for left in [partial, &log, &shared] {
        let _ = fs::remove_file(left);
    }
    copy_file(from, partial)?;
    if from_log.exists() {
        copy_file(&from_log, &log)?;
    }
    examine(partial)
}

/// Checks a copy and makes it one file.
fn examine(path: &Path) -> Result<Backup, StoreError> {
    let failure = |error: rusqlite::Error| sql(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(path, flags).map_err(failure)?;
    let version: u32 = copy
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failure)?;
    if !(1..=SCHEMA_VERSION).contains(&version) {
        return Err(StoreError::Misconfigured(format!(
            "the backup has format {version}, this revwatch reads formats 1 to {SCHEMA_VERSION}: it is no store of \
             revwatch, or one of a later version"
        )));
    }
    let verdict: String = copy
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .map_err(failure)?;
    if verdict != "ok" {
        return Err(StoreError::Corrupt(format!(
            "{} is damaged: {}. {RESTORE}",
            path.display(),
            verdict.lines().next().unwrap_or_default()
        )));
    }
    let partitions = stored_partitions(&copy).map_err(|error| error.of_file(path))?;
    let newest_ms = queue::newest_ms(&copy, partitions).map_err(failure)?;
    // It goes its own way from now on.
    set_fresh_id(&copy).map_err(failure)?;
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |row| {
        row.get::<_, String>(0)
    })
    .map_err(failure)?;
    drop(copy);
    let synced = File::open(path).and_then(|file| {
        file.sync_all()?;
        file.metadata()
    });
    let bytes = synced.map_err(|error| io_error(path, &error))?.len();
    Ok(Backup {
        bytes,
        newest_ms,
        replaced: None,
    })
}

/// Returns where the file is now.
fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = (1_u32..)
        .map(|n| with_suffix(path, &format!("{REPLACED}{n}")))
        .find(|aside| !of_store(aside).iter().any(|file| file.exists()))
        .expect("some number is free");
    move_to(path, &aside)?;
    Ok(aside)
}

fn move_to(path: &Path, to: &Path) -> Result<(), StoreError> {
    let with_note = |path: &Path| of_store(path).into_iter().chain([note_of(path)]);
    for (from, to) in with_note(path).zip(with_note(to)) {
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&from, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What root restores, the user who serves must be able to write.
fn belong_to_owner_of(data: &Path, path: &Path) -> Result<(), StoreError> {
    let give = || {
        let (folder, file) = (fs::metadata(data)?, fs::metadata(path)?);
        if rustix::process::geteuid().is_root() && folder.uid() != file.uid() {
            chown(path, Some(folder.uid()), Some(folder.gid()))?;
        }
        Ok(())
    };
    give().map_err(|error: io::Error| io_error(path, &error))
}

/// Gives a complete file its name, on disk.
fn put(partial: &Path, path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::rename(partial, path)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| io_error(path, &error))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(|error| io_error(from, &error))?;
    let mut copy = new_file(to)?;
    io::copy(&mut source, &mut copy)
        .and_then(|_| copy.sync_all())
        .map_err(|error| io_error(to, &error))
}

fn new_file(path: &Path) -> Result<File, StoreError> {
    private::new_file(path).map_err(|error| io_error(path, &error))
}

fn sql(path: &Path, error: &rusqlite::Error) -> StoreError {
    SqliteError::of(&path.display().to_string(), error).into()
}

fn io_error(path: &Path, error: &io::Error) -> StoreError {
    unusable(path, &error.to_string())
}

fn unusable(path: &Path, why: &str) -> StoreError {
    StoreError::Misconfigured(format!("{}: {why} ({})", path.display(), owner(path)))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::sqlite::Open;

    const CREATE: Open = Open::Create { partitions: 2 };

    async fn put_key(sqlite: &Sqlite, key: &'static str) {
        let put = sqlite.write(move |c| c.execute("INSERT INTO meta VALUES (?1, 'x')", [key]));
        put.await.expect("stored");
    }

    async fn keys(data: &Path) -> String {
        let sqlite = Sqlite::open(data, CREATE).expect("a store");
        let sql = "SELECT group_concat(key, '') FROM meta WHERE value = 'x'";
        let read = sqlite.read(|c| c.query_row(sql, [], |row| row.get::<_, Option<String>>(0)));
        read.await.expect("read").unwrap_or_default()
    }

    /// A store with the key `a`, its backup, and `b` added since.
    async fn backed_up() -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, to) = (folder.path().join("data"), folder.path().join("backup"));
        let sqlite = Sqlite::open(&data, CREATE).expect("a store");
        put_key(&sqlite, "a").await;
        let backup = sqlite.back_up(&to).await.expect("a backup");
        assert_eq!(backup.bytes, fs::metadata(&to).expect("a file").len());
        assert_eq!(fs::metadata(&to).expect("a file").mode() & 0o777, 0o600);
        assert!(sqlite.back_up(&to).await.is_err(), "nothing is overwritten");
        put_key(&sqlite, "b").await;
        close(sqlite).await;
        (folder, data, to)
    }

    /// Returns once nothing has the file open.
    async fn close(sqlite: Sqlite) {
        let log = with_suffix(sqlite.0.file.path(), "-wal");
        drop(sqlite);
        for _ in 0..6000 {
            // The last connection removes it.
            if !log.exists() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the store is still open");
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_backup_replaces_a_store_that_is_kept_under_another_name() {
        let (folder, data, to) = backed_up().await;
        let error = restore(&to, &data, false).expect_err("a store").to_string();
        assert!(error.contains("--force"), "{error}");
        let restored = restore(&to, &data, true).expect("restored");
        assert_eq!(keys(&data).await, "a");
        let replaced = restored.replaced.expect("a store");
        let other = folder.path().join("other");
        restore(&replaced, &other, false).expect("restored");
        assert_eq!(keys(&other).await, "ab");
        assert_eq!(names(folder.path()), ["backup", "data", "other"]);
    }

    /// Such as a plain copy of a store in use, with its log.
    #[tokio::test]
    async fn a_copy_with_a_log_is_restored_with_it() {
        let (folder, data, to) = backed_up().await;
        let sqlite = Sqlite::open(&data, CREATE).expect("a store");
        put_key(&sqlite, "c").await;
        for (from, to) in of_store(&data.join(FILE_NAME)).iter().zip(of_store(&to)) {
            fs::copy(from, to).expect("copied");
        }
        let other = folder.path().join("other");
        restore(&to, &other, false).expect("restored");
        assert_eq!(names(&other), [FILE_NAME]);
        assert_eq!(keys(&other).await, "abc");
    }

    #[tokio::test]
    async fn what_is_no_good_backup_replaces_nothing() {
        let (folder, data, to) = backed_up().await;
        let damaged = folder.path().join("damaged");
        let mut bytes = fs::read(&to).expect("read");
        let half = bytes.len() / 2;
        bytes[4096..half].fill(0x5a);
        fs::write(&damaged, bytes).expect("written");
        let later = folder.path().join("later");
        fs::copy(&to, &later).expect("copied");
        let file = Connection::open(&later).expect("opened");
        file.pragma_update(None, "user_version", SCHEMA_VERSION + 1)
            .expect("set");
        drop(file);
        for name in ["empty", "text"] {
            fs::write(
                folder.path().join(name),
                name.repeat(usize::from(name == "text") * 999),
            )
            .expect("written");
        }
        for name in ["damaged", "later", "empty", "text", "missing"] {
            let error = restore(&folder.path().join(name), &data, true);
            assert!(error.is_err(), "{name}");
            let note = format!("{FILE_NAME}-log-of");
            assert_eq!(names(&data), [FILE_NAME, &note], "{name}");
        }
        assert_eq!(keys(&data).await, "ab");
    }

    #[tokio::test]
    async fn an_empty_store_does_not_take_the_place_of_one_whose_restore_was_interrupted() {
        let (_folder, data, to) = backed_up().await;
        let path = data.join(FILE_NAME);
        move_aside(&path).expect("moved");
        fs::copy(&to, with_suffix(&path, RESTORING)).expect("copied");
        for how in [CREATE, Open::Existing] {
            let error = Sqlite::open(&data, how).err().expect("refused").to_string();
            assert!(error.contains("restore was interrupted"), "{error}");
        }
        let left = with_suffix(&path, RESTORING);
        restore(&left, &data, false).expect_err("it would remove its own source");
        assert!(left.exists());
        restore(&to, &data, false).expect("restored");
        assert_eq!(keys(&data).await, "a");
    }

    #[tokio::test]
    async fn a_backup_removes_nothing_that_was_there() {
        let (folder, data, _) = backed_up().await;
        let sqlite = Sqlite::open(&data, CREATE).expect("a store");
        let to = folder.path().join("new");
        let partial = with_suffix(&to, ".partial");
        fs::write(&partial, "of another").expect("written");
        sqlite.back_up(&to).await.expect_err("it is there");
        assert_eq!(fs::read_to_string(&partial).expect("kept"), "of another");
        fs::remove_file(&partial).expect("removed");
        sqlite.back_up(&to).await.expect("a backup");
    }

    #[test]
    fn a_file_that_is_no_store_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "x".repeat(5000)).expect("written");
        assert_eq!(user_of(&path), None);
        let aside = move_aside(&path).expect("moved");
        assert!(!path.exists() && aside.exists());
    }
}
