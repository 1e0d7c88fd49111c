//! Errors of SQLite, by what the caller does next.

use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};

use super::file::owner;
use crate::ports::{QueueError, StoreError};

/// A [`StoreError`] or [`QueueError`] that can be cloned for every caller of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SqliteError {
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// An operator has to change something first.
    #[error("{0}")]
    Misconfigured(String),
    /// The file contains something that revwatch never writes.
    #[error("{0}")]
    Corrupt(String),
    /// SQLite cannot read the file: no part of it can be trusted.
    #[error("{0}")]
    Damaged(String),
}

impl SqliteError {
    /// Classifies `error` of the file at `path`.
    pub(super) fn of(path: &str, error: &Error) -> Self {
        let file = format!("{path} (in the folder of REVWATCH_DATA)");
        let (sqlite, error): (_, &dyn std::fmt::Display) = match error {
            Error::SqliteFailure(sqlite, _) => (sqlite, error),
            // The error's own text repeats the complete statement.
            Error::SqlInputError {
                error: sqlite, msg, ..
            } => (sqlite, msg),
            // A value of a type other than its column's.
            _ => {
                return Self::Corrupt(format!(
                    "{file} contains something that revwatch does not write: {error}. {RESTORE}"
                ));
            }
        };
        match sqlite.code {
            ErrorCode::DiskFull => Self::Unavailable(format!(
                "the disk of {file} is full, free space on it: {error}"
            )),
            ErrorCode::SystemIoFailure => Self::Unavailable(format!(
                "the disk does not read or write {file}, check its free space and the system's log: {error}"
            )),
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => Self::Unavailable(format!(
                "another process keeps {file} locked: `fuser {path}` finds it; end it, or wait"
            )),
            ErrorCode::OutOfMemory
            | ErrorCode::OperationAborted
            | ErrorCode::OperationInterrupted
            | ErrorCode::SchemaChanged => {
                Self::Unavailable(format!("{file} cannot be used at present: {error}"))
            }
            ErrorCode::ReadOnly if sqlite.extended_code == ffi::SQLITE_READONLY_DBMOVED => {
                Self::Misconfigured(format!(
                    "{file} was moved or deleted while it was in use, restart revwatch: {error}"
                ))
            }
            ErrorCode::ReadOnly => Self::read_only(path, error),
            ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied => Self::Misconfigured(format!(
                "{file} cannot be opened: {error}. Give this user write permission for the folder and all files in it, on a file \
                 system that is not mounted read-only ({})",
                owner(Path::new(path))
            )),
            ErrorCode::NoLargeFileSupport => {
                Self::Misconfigured(format!("{file} is too large for its file system: {error}"))
            }
            ErrorCode::NotADatabase => Self::Damaged(format!(
                "{file} is not a store of revwatch or is encrypted: {error}. {RESTORE}"
            )),
            ErrorCode::DatabaseCorrupt => {
                Self::Damaged(format!("{file} is damaged: {error}. {RESTORE}"))
            }
            // A missing table, a duplicate row.
            _ => Self::Corrupt(format!(
                "{file} is not as revwatch writes it: {error}. {RESTORE}"
            )),
        }
    }

    /// The file can be read and not written.
    pub(super) fn read_only(path: &str, why: &dyn std::fmt::Display) -> Self {
        Self::Misconfigured(format!(
            "{path} (in the folder of REVWATCH_DATA) cannot be written: {why}. Give this user write permission for the \
             folder and all files in it, on a file system that is not mounted read-only ({})",
            owner(Path::new(path))
        ))
    }

    /// The same for work that did not reach SQLite.
    pub(super) fn not_run(why: &str) -> Self {
        Self::Unavailable(why.to_owned())
    }
}

/// How to proceed with an unreadable file.
pub(super) const RESTORE: &str =
    "Stop revwatch, keep a copy of the file, and restore a backup or name an empty folder";

impl From<SqliteError> for StoreError {
    fn from(error: SqliteError) -> Self {
        match error {
            SqliteError::Unavailable(text) => Self::Unavailable(text.into()),
            SqliteError::Misconfigured(text) => Self::Misconfigured(text),
            SqliteError::Corrupt(text) | SqliteError::Damaged(text) => Self::Corrupt(text),
        }
    }
}

impl From<SqliteError> for QueueError {
    fn from(error: SqliteError) -> Self {
        match error {
            SqliteError::Unavailable(text) => Self::Unavailable(text.into()),
            SqliteError::Misconfigured(text)
            | SqliteError::Corrupt(text)
            | SqliteError::Damaged(text) => Self::Misconfigured(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rusqlite::{Connection, OpenFlags};
    use uuid::Uuid;

    use super::*;
    use crate::ports::{Consume as _, Delivery, Entities as _, Publish as _};
    use crate::sqlite::{FILE_NAME, Open, Sqlite};
    use revwatch_core::entity::EntityKind;

    /// Unavailable, misconfigured, or corrupt.
    fn class(failure: &SqliteError) -> char {
        match failure {
            SqliteError::Unavailable(_) => 'u',
            SqliteError::Misconfigured(_) => 'm',
            SqliteError::Corrupt(_) | SqliteError::Damaged(_) => 'c',
        }
    }

    fn memory() -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        connection
            .execute_batch("CREATE TABLE t (n UNIQUE); INSERT INTO t VALUES ('text')")
            .expect("a table");
        connection
    }

    /// The error of the first statement that fails.
    fn error_of(connection: &Connection, sql: &str) -> Error {
        connection.execute_batch(sql).expect_err(sql)
    }

    #[test]
    fn each_error_of_sqlite_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            Connection::open(path).expect("opened later")
        };
        let mut head = vec![0; 4096];
        head[..16].copy_from_slice(b"SQLite format 3\0");
        let locked = folder.path().join("locked");
        let holder = Connection::open(&locked).expect("a file");
        holder
            .execute_batch("CREATE TABLE t (n); BEGIN EXCLUSIVE")
            .expect("locked");
        let waiting = Connection::open(&locked).expect("a file");
        waiting
            .busy_timeout(std::time::Duration::ZERO)
            .expect("set");
        let read_only =
            Connection::open_with_flags(folder.path().join("r"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        drop(
            Connection::open(folder.path().join("existing"))
                .expect("a file")
                .execute_batch("CREATE TABLE t (n)"),
        );
        let existing = Connection::open_with_flags(
            folder.path().join("existing"),
            OpenFlags::SQLITE_OPEN_READ_ONLY,
        );
        let full = memory();
        full.execute_batch("PRAGMA max_page_count = 3")
            .expect("set");
        let column = |c: Connection| {
            c.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0))
                .expect_err("it holds text")
        };
        let negative = |c: Connection| {
            c.query_row("SELECT -1", [], |row| row.get::<_, u64>(0))
                .expect_err("negative")
        };
        for (error, expected, hint) in [
            (
                error_of(&full, "INSERT INTO t VALUES (zeroblob(100000))"),
                'u',
                "is full, free space",
            ),
            (error_of(&waiting, "SELECT * FROM t"), 'u', "locked"),
            (
                error_of(&existing.expect("a file"), "INSERT INTO t VALUES (1)"),
                'm',
                "write permission",
            ),
            (
                read_only.expect_err("the file does not exist"),
                'm',
                "cannot be opened",
            ),
            (
                Connection::open(folder.path()).expect_err("a folder"),
                'm',
                "cannot be opened",
            ),
            (
                error_of(&file("garbage", &[b'x'; 4096]), "SELECT * FROM t"),
                'c',
                "is not a store of revwatch",
            ),
            (
                error_of(&file("torn", &head), "SELECT * FROM t"),
                'c',
                "restore a backup",
            ),
            (
                error_of(&file("empty", b""), "SELECT * FROM meta"),
                'c',
                "no such table: meta",
            ),
            (
                error_of(&memory(), "INSERT INTO t VALUES ('text')"),
                'c',
                "UNIQUE constraint",
            ),
            (
                column(memory()),
                'c',
                "contains something that revwatch does not write",
            ),
            (
                negative(memory()),
                'c',
                "contains something that revwatch does not write",
            ),
        ] {
            let failure = SqliteError::of("/data/revwatch.sqlite3", &error);
            let text = failure.to_string();
            assert_eq!(class(&failure), expected, "{error:?}: {text}");
            assert!(
                text.contains("/data/revwatch.sqlite3 (in the folder of REVWATCH_DATA)"),
                "{text}"
            );
            assert!(text.contains(hint) && !text.contains("SELECT"), "{text}");
        }
        for (code, expected, hint) in [
            (ffi::SQLITE_IOERR_WRITE, 'u', "the system's log"),
            (ffi::SQLITE_NOMEM, 'u', "at present"),
            (ffi::SQLITE_READONLY_DBMOVED, 'm', "restart revwatch"),
            (ffi::SQLITE_CORRUPT_INDEX, 'c', "is damaged"),
        ] {
            let failure = SqliteError::of("", &Error::SqliteFailure(ffi::Error::new(code), None));
            assert!(
                class(&failure) == expected && failure.to_string().contains(hint),
                "{code}: {failure}"
            );
        }
    }

    fn delivery(bytes: usize) -> Delivery {
        Delivery {
            id: Uuid::now_v7(),
            event_id: "evt_1".into(),
            event_type: "payout.paid".into(),
            partition: 0,
            endpoint: "stripe".into(),
            received_ms: 0,
            traceparent: None,
            body: Bytes::from(vec![b'x'; bytes]),
        }
    }

    /// Requests fail with the cause, and the next ones succeed once there is space.
    #[tokio::test]
    async fn all_requests_of_a_failed_transaction_name_the_full_disk_and_later_ones_succeed() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        let limit = async |pages: i64| {
            let set = sqlite.write(move |c| {
                let now: i64 = c.pragma_query_value(None, "page_count", |row| row.get(0))?;
                c.pragma_update(None, "max_page_count", now + pages)
            });
            set.await.expect("set");
        };
        limit(10).await;
        let publish = |bytes| sqlite.publish(delivery(bytes));
        let (small, large, later) = tokio::join!(publish(10), publish(1 << 20), publish(10));
        let text = large.expect_err("no space").to_string();
        assert!(
            text.starts_with("the queue is unavailable: the disk of ")
                && text.contains("REVWATCH_DATA"),
            "{text}"
        );
        for other in [small, later] {
            // Requests in another transaction than the large one are stored.
            assert!(other.is_ok() || other.is_err_and(|error| error.to_string() == text));
        }
        limit(1000).await;
        publish(1 << 20).await.expect("there is space again");
        assert!(sqlite.depth().await.expect("depth")[0] >= 1);
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_store_is_not_opened() {
        for (content, expected) in [
            (&[b'x'; 4096][..], "is not a store of revwatch"),
            (b"", "is empty, 0 bytes"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join(FILE_NAME), content).expect("written");
            let error = Sqlite::open(folder.path(), Open::Existing)
                .err()
                .expect("refused")
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_damaged_in_use_is_not_unavailable() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
        sqlite.publish(delivery(1)).await.expect("published");
        let other = Connection::open(folder.path().join(FILE_NAME)).expect("opened");
        other
            .execute_batch("UPDATE archive SET received_ms = 'soon'; DROP TABLE entities")
            .expect("damaged");
        let error = sqlite
            .consume(0)
            .await
            .expect("a consumer")
            .next(9)
            .await
            .expect_err("it is text");
        assert!(matches!(error, QueueError::Misconfigured(_)), "{error}");
        let error = sqlite
            .entities(EntityKind::Payout, &mut |_, _, _| {})
            .await
            .expect_err("no such table");
        assert!(
            matches!(&error, StoreError::Corrupt(text) if text.contains("no such table: entities")),
            "{error}"
        );
    }
}
