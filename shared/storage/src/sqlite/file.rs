//! The file on disk: made for its owner alone, and watched while it is open.
//!
//! A file that is removed or replaced while it is open stays usable for those who have it open: SQLite commits to it as
//! before, and all of that is gone with the process. So every transaction is followed by a look at what is there.
//!
//! Invariant: nothing counts as stored, and nothing as read, unless the path still leads to the file, the
//! write-ahead log and the shared memory that were opened, and the file still has the content of this store.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rustix::fs::{Access, access};

use super::FILE_NAME;
use super::backup::refuse_interrupted;
use super::connection::{LOG_LIMIT_BYTES, connect};
use super::creation::create;
use super::error::SqliteError;
use super::identity::{Header, LogHeader, Unclosed, id_of, look_at, write_note};
use super::refusals::{refuse_empty, refuse_links, refuse_shared};
use super::schema::Open;
use crate::ports::StoreError;
use crate::private;

/// The file that was opened, its write-ahead log, and the memory that all who have it open share.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    log: PathBuf,
    memory: PathBuf,
    opened: FileId,
    opened_log: FileId,
    opened_memory: FileId,
    /// To look at the file's header, which SQLite reads once.
    content: Unclosed,
    log_content: File,
    /// The log as it was seen last, with its size in bytes. `None`: it was cut.
    seen_log: Mutex<Option<(LogHeader, u64)>>,
    /// Which store it is.
    id: u32,
    /// The last that was seen.
    header: Mutex<Header>,
    /// The last that was noted.
    noted: Mutex<Option<Header>>,
    /// Why no part of the file can be trusted any more.
    damage: OnceLock<SqliteError>,
    /// The file becomes shorter if it is compacted (`VACUUM`) or overwritten.
    opened_bytes: u64,
}

/// Two paths with the same id lead to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl StoreFile {
    /// What is at `path`. The connection must have it open and must have read it: until then there is no log.
    pub(super) fn opened(path: PathBuf, connection: &Connection) -> Result<Self, SqliteError> {
        let log = log_of(&path);
        let id = id_of(connection)
            .map_err(|error| SqliteError::of(&path.display().to_string(), &error))?;
        let content = look_at(&path).map_err(|error| gone(&path, &error))?;
        let header = header_of(&path, &content)?;
        let file = fs::metadata(&path).map_err(|error| gone(&path, &error))?;
        let memory = memory_of(&path);
        let opened_memory = fs::metadata(&memory).map_err(|error| memory_gone(&memory, &error))?;
        let log_content = File::open(&log).map_err(|error| gone(&log, &error))?;
        let opened_log = log_content.metadata().map_err(|error| gone(&log, &error))?;
        Ok(Self {
            opened: FileId::of(&file),
            opened_log: FileId::of(&opened_log),
            opened_memory: FileId::of(&opened_memory),
            log_content,
            seen_log: Mutex::new(Some(Default::default())),
            opened_bytes: file.len(),
            content,
            id,
            header: Mutex::new(header),
            noted: Mutex::default(),
            damage: OnceLock::new(),
            path,
            log,
            memory,
        })
    }

    /// Fails if the file or its log was removed, moved, replaced, overwritten or truncated since it was opened.
    pub(super) fn check(&self) -> Result<(), SqliteError> {
        same(&self.path, self.opened)?;
        self.check_content()?;
        self.check_memory()?;
        self.check_log()
    }

    /// Fails if the shared memory is another one. Who opens the file then makes one of his own, sees no lock of this
    /// process, and ends the log, or writes into it at the same time.
    fn check_memory(&self) -> Result<(), SqliteError> {
        let found = fs::symlink_metadata(&self.memory);
        let found = found.map_err(|error| memory_gone(&self.memory, &error))?;
        if FileId::of(&found) == self.opened_memory {
            return Ok(());
        }
        Err(memory_changed(&self.memory, "was replaced by another file"))
    }

    /// Fails if the log is another one, or was emptied, cut or overwritten in place: SQLite writes on behind what is
    /// missing, and reads nothing behind it after a restart.
    fn check_log(&self) -> Result<(), SqliteError> {
        same(&self.log, self.opened_log)?;
        match self.is_log_cut() {
            Ok(false) => Ok(()),
            Ok(true) => Err(SqliteError::Misconfigured(format!(
                "{} was emptied, cut or overwritten while revwatch has it open (logrotate with copytruncate does that): nothing \
                 more is accepted, and what was only in it is lost. Stop revwatch, move the log away and start it again; \
                 then `revwatch backfill` brings back what Stripe still has ({})",
                self.log.display(),
                owner(&self.log),
            ))),
            Err(error) => Err(gone(&self.log, &error)),
        }
    }

    /// Once it is cut, it stays so: what is written later makes it longer again.
    fn is_log_cut(&self) -> io::Result<bool> {
        // Read under the lock: another thread may have seen a later size.
        let mut seen = self.seen_log.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((header, bytes)) = *seen else {
            return Ok(true);
        };
        let mut header_now = LogHeader::of(&self.log_content)?;
        // Another process may be emptying it, having copied all of it. What is there before and after is of one log.
        let bytes_now = loop {
            let bytes_now = self.log_content.metadata()?.len();
            let again = LogHeader::of(&self.log_content)?;
            if again == header_now {
                break bytes_now;
            }
            header_now = again;
        };
        // One that is begun again has another header. SQLite cuts it to the limit just after that.
        let is_shorter = header_now == header && bytes_now < bytes && bytes_now != LOG_LIMIT_BYTES;
        let is_cut = is_shorter || header_now.is_missing(bytes_now);
        let now = (header_now, bytes_now);
        *seen = (!is_cut).then_some(now);
        Ok(is_cut)
    }

    /// Fails if the file that was opened, wherever it is now, was overwritten or truncated.
    fn check_content(&self) -> Result<(), SqliteError> {
        let header = self.check_header()?;
        let found = self.content.metadata();
        let bytes = found.map_err(|error| gone(&self.path, &error))?.len();
        if bytes < self.opened_bytes && bytes < header.bytes() {
            return Err(changed(&self.path, OVERWRITTEN));
        }
        Ok(())
    }

    /// The file's header now, if it is this store's.
    fn check_header(&self) -> Result<Header, SqliteError> {
        let mut last = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = header_of(&self.path, &self.content)?;
        if found == *last {
            return Ok(found);
        }
        // A checkpoint may be writing it. What is there twice is complete.
        loop {
            let again = header_of(&self.path, &self.content)?;
            if again == found {
                break;
            }
            found = again;
        }
        // The store that an earlier version made gets its id with the first checkpoint.
        let is_known = found.id == last.id || found.id == self.id || self.id == 0;
        if !is_known || !found.follows(&last) {
            return Err(changed(&self.path, OVERWRITTEN));
        }
        *last = found;
        Ok(found)
    }

    /// Notes that the log is of this store, if that is not noted yet. Without the note nothing is lost but a check.
    pub(super) fn note(&self) {
        let header = *self.header.lock().unwrap_or_else(PoisonError::into_inner);
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is made in the place of what has gone.
        if *noted != Some(header) && self.check().is_ok() {
            let _ = write_note(&self.path, &self.content, &header);
            *noted = Some(header);
        }
    }

    /// Ends the last connection. SQLite copies the log into the file that was opened then, whatever is in it by now, and
    /// deletes what has the log's name. If the file has not the content of this store any more, or the log or the shared
    /// memory is another one, the connection stays open until the process ends.
    pub(super) fn close(&self, connection: Connection) {
        let is_ours = self.check_content().is_ok() && self.check_memory().is_ok();
        // Of a log that was removed, this process has the only copy. The file is still at its place to take it.
        let is_only_copy = !self.log.exists() && same(&self.path, self.opened).is_ok();
        let is_log_ours = self.check_log().is_ok();
        if is_ours && (is_log_ours || is_only_copy) {
            // Another process that has the file open ends the log itself, and must not wait for this one.
            let _ = connection.busy_timeout(Duration::ZERO);
            let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
        }
        if !is_ours || !is_log_ours {
            std::mem::forget(connection);
        }
    }

    /// Another connection to the same file: never to another one at its path.
    pub(super) fn connect(&self) -> Result<Connection, SqliteError> {
        self.check()?;
        let connection = connect(&self.path).map_err(|error| self.failure(&error))?;
        self.check()?;
        Ok(connection)
    }

    /// Says what an error of SQLite means for this file.
    pub(super) fn failure(&self, error: &rusqlite::Error) -> SqliteError {
        let failure = SqliteError::of(&self.path.display().to_string(), error);
        self.note_damage(&failure);
        failure
    }

    /// Remembers that SQLite cannot read the file.
    pub(super) fn note_damage(&self, failure: &SqliteError) {
        if matches!(failure, SqliteError::Damaged(_)) {
            let _ = self.damage.set(failure.clone());
        }
    }

    /// Fails if any part of the file could not be read: what is written to it may never be read either, and goes when a
    /// backup takes its place.
    pub(super) fn refuse_damaged(&self) -> Result<(), SqliteError> {
        self.damage.get().cloned().map_or(Ok(()), Err)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

fn same(path: &Path, opened: FileId) -> Result<(), SqliteError> {
    // Not through a link: SQLite would look for the log next to its target.
    let found = fs::symlink_metadata(path).map_err(|error| gone(path, &error))?;
    if FileId::of(&found) != opened {
        return Err(changed(path, "was replaced by another file"));
    }
    Ok(())
}

fn gone(path: &Path, error: &io::Error) -> SqliteError {
    match error.kind() {
        ErrorKind::NotFound => changed(path, "was removed or moved away"),
        _ => changed(path, &format!("cannot be looked at any more ({error})")),
    }
}

fn memory_gone(path: &Path, error: &io::Error) -> SqliteError {
    match error.kind() {
        ErrorKind::NotFound => memory_changed(path, "was removed or moved away"),
        _ => memory_changed(path, &format!("cannot be looked at any more ({error})")),
    }
}

fn memory_changed(path: &Path, what: &str) -> SqliteError {
    SqliteError::Misconfigured(format!(
        "{} (in the folder of REVWATCH_DATA) {what} while revwatch has it open: another process that opened the store now \
         would damage it, so nothing more is accepted. Stop revwatch and start it again, and delete none of the store's \
         files. Stripe sends again what was not accepted ({})",
        path.display(),
        owner(path),
    ))
}

fn changed(path: &Path, what: &str) -> SqliteError {
    SqliteError::Misconfigured(format!(
        "{} (in the folder of REVWATCH_DATA) {what} while revwatch has it open ({}): nothing is accepted until the same \
         file is back. To go on with another one, stop revwatch and use `revwatch restore`. Stripe sends again what was \
         not accepted",
        path.display(),
        owner(path),
    ))
}

const OVERWRITTEN: &str = "was overwritten or truncated";

fn header_of(path: &Path, content: &Unclosed) -> Result<Header, SqliteError> {
    Header::of(content)
        .map_err(|error| gone(path, &error))?
        .ok_or_else(|| changed(path, OVERWRITTEN))
}

/// Whose `path` is, or the nearest folder above it that exists, and who asks: for messages about permissions.
pub(super) fn owner(path: &Path) -> String {
    let process = rustix::process::geteuid().as_raw();
    match nearest(path) {
        Some((found_at, found)) => format!(
            "{} belongs to user {} and group {}, mode {:04o}; revwatch runs as user {process}",
            found_at.display(),
            found.uid(),
            found.gid(),
            found.mode() & 0o7777,
        ),
        None => format!("revwatch runs as user {process}"),
    }
}

/// `path`, or the nearest folder above it that exists.
fn nearest(path: &Path) -> Option<(&Path, Metadata)> {
    path.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        fs::metadata(path).ok().map(|found| (path, found))
    })
}

/// Makes the folder and the store if they are missing, for their owner alone, and returns the file's path. What is wider
/// is narrowed. An empty file is not begun with: something else has emptied it.
pub(super) fn make(data: &Path, how: Open) -> Result<PathBuf, StoreError> {
    make_folder(data)?;
    let path = data.join(FILE_NAME);
    refuse_unfit(&path)?;
    create(&path, how)?;
    refuse_empty(&path)?;
    for file in of_store(&path).iter().chain([&note_of(&path)]) {
        narrow(file);
    }
    Ok(path)
}

/// Fails if no store may be opened or begun at `path`, because of what is there.
pub(super) fn refuse_unfit(path: &Path) -> Result<(), StoreError> {
    refuse_interrupted(path)?;
    refuse_links(path)?;
    refuse_shared(path)?;
    if path.is_dir() {
        return Err(StoreError::Misconfigured(format!(
            "{} (in the folder of REVWATCH_DATA) is a folder, and must be a file: move it away, or name another folder",
            path.display()
        )));
    }
    if !path.exists() && fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0) {
        return Err(StoreError::Misconfigured(format!(
            "{} is there without its file {FILE_NAME}: put that file back, or move the log away to begin with an empty \
             store",
            log_of(path).display()
        )));
    }
    Ok(())
}

/// Fails if this user cannot make or use the folder.
pub(super) fn refuse_folder(data: &Path) -> Result<(), StoreError> {
    let nearest = nearest(data).map_or(Path::new("/"), |(path, _)| path);
    let what = if nearest == data {
        "write to"
    } else {
        "create"
    };
    let needed = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let found =
        fs::read_dir(nearest).and_then(|_| access(nearest, needed).map_err(io::Error::from));
    found.map_err(|error| unusable(what, "folder", data, &error))
}

/// Makes the folder for its owner alone; narrows one that is there.
pub(super) fn make_folder(data: &Path) -> Result<(), StoreError> {
    if data.is_dir() {
        narrow_folder(data);
        return Ok(());
    }
    private::make_folder(data).map_err(|error| cannot_create("folder", data, &error))
}

pub(super) fn cannot_create(what: &str, path: &Path, error: &io::Error) -> StoreError {
    unusable("create", what, path, error)
}

fn unusable(verb: &str, what: &str, path: &Path, error: &io::Error) -> StoreError {
    let fix = match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "A file has that name, or that of a folder above it: name a folder"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "Free space there, or name another folder"
        }
        // The folders above it were made, or are there.
        ErrorKind::NotFound => {
            "That file system takes no new files and folders: name a folder on a disk"
        }
        _ => {
            "Give this user write permission there, on a file system that is not mounted read-only"
        }
    };
    StoreError::Misconfigured(format!(
        "cannot {verb} the {what} {} (REVWATCH_DATA): {error}. {fix} ({})",
        path.display(),
        owner(path),
    ))
}

/// The file, and those that SQLite keeps next to it.
pub(super) fn of_store(path: &Path) -> [PathBuf; 3] {
    [path.to_owned(), log_of(path), memory_of(path)]
}

/// The locks and the index of the log, which all who have the file open share.
pub(super) fn memory_of(path: &Path) -> PathBuf {
    with_suffix(path, "-shm")
}

pub(super) fn log_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Of which store the log is: see [`identity`](super::identity).
pub(super) fn note_of(path: &Path) -> PathBuf {
    with_suffix(path, "-log-of")
}

/// The path with more at its end.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Only a folder of this user that holds a store and nothing else is narrowed: another one, such as `/tmp`, has other
/// users.
fn narrow_folder(data: &Path) {
    const STICKY: u32 = 0o1000;
    // The store, and how far a backfill got.
    let is_ours = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with(FILE_NAME) || name.starts_with("backfill")
    };
    let Ok(found) = fs::metadata(data) else {
        return;
    };
    let is_own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & STICKY == 0;
    let holds_only_ours = || {
        fs::read_dir(data).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| is_ours(&entry.file_name())))
        })
    };
    if is_own && data.join(FILE_NAME).exists() && holds_only_ours() {
        narrow(data);
    } else if found.mode() & 0o022 != 0 {
        warn_of_width(data, &found);
    }
}

/// Takes the permissions of group and others from a file or folder.
fn narrow(path: &Path) {
    let Ok(found) = fs::metadata(path) else {
        return;
    };
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return;
    }
    match fs::set_permissions(path, Permissions::from_mode(mode & !0o077)) {
        Ok(()) => {
            tracing::info!(path = %path.display(), from = format!("{mode:04o}"), "other users of this machine can no longer read the store");
        }
        Err(_) => warn_of_width(path, &found),
    }
}

fn warn_of_width(path: &Path, found: &Metadata) {
    tracing::warn!(
        path = %path.display(),
        mode = format!("{:04o}", found.mode() & 0o7777),
        user = found.uid(),
        "other users of this machine can read or replace the store, which holds personal data: give it to revwatch's \
         user, with mode 0700 for the folder and 0600 for its files"
    );
}

#[cfg(test)]
mod tests;
