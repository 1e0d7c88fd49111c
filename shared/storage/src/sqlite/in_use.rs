//! Whether another process has a store open.
//!
//! The kernel is asked, not SQLite: SQLite deletes the log of a file that was emptied in place, and copies a log into
//! a file that has taken the place of its own.

use std::path::Path;

use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::file::memory_of;
use super::identity::look_at;

/// Who has the store at `path` open, for messages: `process 123`. A file that cannot be opened is in no use.
pub(super) fn user_of(path: &Path) -> Option<String> {
    // Each connection in WAL mode keeps a lock on the file and one on the memory that all share.
    let lock = [path.to_owned(), memory_of(path)]
        .iter()
        .find_map(|file| lock_on(file))?;
    Some(match lock.pid {
        Some(process) => format!("process {}", process.as_raw_pid()),
        None => "a process of another container or machine".to_owned(),
    })
}

/// A lock of another process on any part of the file. The kernel shows a process none of its own.
fn lock_on(file: &Path) -> Option<Flock> {
    let file = look_at(file).ok()?;
    fcntl_getlk(&*file, &Flock::from(FlockType::WriteLock)).ok()?
}
