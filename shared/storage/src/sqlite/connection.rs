//! A connection to the file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The timeout for a lock that another process holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// SQLite cuts a log to this size, if it is larger, when it has begun it again.
pub(super) const LOG_LIMIT_BYTES: u64 = 64 << 20;

/// A connection that changes nothing by itself.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        // Never creates: a file that has gone must be missed.
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // For commands that write during `serve`; its own writer uses `Checkpoints`.
    connection.pragma_update(None, "wal_autocheckpoint", 16_000)?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
    // Rollback data is small; by default it goes to a file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
