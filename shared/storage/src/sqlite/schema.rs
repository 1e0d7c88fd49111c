//! The schema of the file: created in a new one, converted or checked in an old one.

use std::path::Path;

use revwatch_core::entity::STATE_FORMAT;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::error::{RESTORE, SqliteError};
use super::identity::{id_of, set_fresh_id};
use super::recovery;
use crate::ports::StoreError;

/// How the data folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Creates folder and file when missing.
    Create {
        /// Partitions of a new deployment.
        partitions: u32,
    },
    /// For commands: a missing file is a mistake in the settings.
    Existing,
}

/// Why a file cannot be used.
pub(super) enum PrepareError {
    Sql(rusqlite::Error),
    Misconfigured(String),
    Corrupt(String),
}

impl PrepareError {
    /// Says it of the file at `path`.
    pub(super) fn of_file(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => SqliteError::of(&path.display().to_string(), &error).into(),
            Self::Misconfigured(text) => StoreError::Misconfigured(text),
            Self::Corrupt(text) => StoreError::Corrupt(text),
        }
    }
}

impl From<rusqlite::Error> for PrepareError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Of the tables. The state in them has a format of its own, which workers convert: see
/// [`revwatch_core::entity::STATE_FORMAT`].
pub(super) const SCHEMA_VERSION: u32 = 4;

/// Creates the schema in a new file, or converts an old one; returns the number of partitions.
pub(super) fn prepare(connection: &mut Connection, how: Open) -> Result<u32, PrepareError> {
    // Reading needs no lock and must not wait for a busy writer.
    let behavior = if how == Open::Existing {
        TransactionBehavior::Deferred
    } else {
        TransactionBehavior::Immediate
    };
    let transaction = connection.transaction_with_behavior(behavior)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (version, how) {
        (0, Open::Create { .. }) if has_tables(&transaction)? => {
            return Err(PrepareError::Misconfigured(
                "the file is another program's: move it away, or name another folder".into(),
            ));
        }
        (0, Open::Create { partitions }) => create(&transaction, partitions)?,
        (0, Open::Existing) => return Err(is_empty()),
        (SCHEMA_VERSION, _) => {}
        (1..SCHEMA_VERSION, Open::Create { partitions }) => {
            convert(&transaction, version, partitions)?;
        }
        (1..SCHEMA_VERSION, Open::Existing) => {
            return Err(PrepareError::Misconfigured(format!(
                "the store has format {version}: start `revwatch serve` of this version once, it converts the file"
            )));
        }
        (other, _) => return Err(is_foreign(other)),
    }
    let stored = stored_partitions(&transaction)?;
    let Open::Create { partitions } = how else {
        return Ok(stored);
    };
    refuse_other_number(stored, partitions)?;
    if id_of(&transaction)? == 0 {
        set_fresh_id(&transaction)?;
    }
    transaction.commit()?;
    Ok(stored)
}

/// Whether [`prepare`] would serve from the file with so many partitions. Changes nothing.
pub(super) fn examine(connection: &mut Connection, partitions: u32) -> Result<(), PrepareError> {
    let transaction = connection.transaction()?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => Err(is_empty()),
        1..=SCHEMA_VERSION => refuse_other_number(stored_partitions(&transaction)?, partitions),
        other => Err(is_foreign(other)),
    }
}

fn has_tables(c: &Connection) -> rusqlite::Result<bool> {
    c.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

fn is_empty() -> PrepareError {
    PrepareError::Misconfigured("the store is empty: start `revwatch serve` first".into())
}

fn is_foreign(version: u32) -> PrepareError {
    PrepareError::Misconfigured(format!(
        "the store has format {version}, this revwatch reads format {SCHEMA_VERSION}: use the version that wrote it"
    ))
}

fn refuse_other_number(stored: u32, requested: u32) -> Result<(), PrepareError> {
    if requested == stored {
        return Ok(());
    }
    Err(PrepareError::Misconfigured(format!(
        "this store was created with {stored} partitions, and that cannot change: set REVWATCH_PARTITIONS={stored} \
         (or `partitions` in the configuration), or start with a new data folder; {requested} was requested"
    )))
}

fn create(c: &Connection, partitions: u32) -> rusqlite::Result<()> {
    c.execute_batch(include_str!("schema.sql"))?;
    c.execute_batch(include_str!("schema_2.sql"))?;
    c.execute_batch(include_str!("schema_3.sql"))?;
    c.execute_batch(include_str!("schema_4.sql"))?;
    recovery::mark_complete(c, partitions, STATE_FORMAT)?;
    c.execute(
        "INSERT INTO meta VALUES ('partitions', ?1)",
        [partitions.to_string()],
    )?;
    c.pragma_update(None, "user_version", SCHEMA_VERSION)
}

fn convert(c: &Connection, version: u32, partitions: u32) -> rusqlite::Result<()> {
    if version == 1 {
        c.execute_batch(include_str!("schema_2.sql"))?;
        c.execute_batch(include_str!("from_1_to_2.sql"))?;
    }
    if version < 3 {
        c.execute_batch(include_str!("schema_3.sql"))?;
    }
    c.execute_batch(include_str!("schema_4.sql"))?;
    if version == 1 {
        recovery::mark_complete(c, partitions, 1)?;
    }
    c.pragma_update(None, "user_version", SCHEMA_VERSION)
}

pub(super) fn stored_partitions(c: &Connection) -> Result<u32, PrepareError> {
    let stored: Option<String> = c
        .query_row(
            "SELECT value FROM meta WHERE key = 'partitions'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    stored
        .and_then(|text| text.parse().ok())
        .filter(|partitions| *partitions > 0)
        .ok_or_else(|| {
            PrepareError::Corrupt(format!(
                "the store does not say how many partitions it has. {RESTORE}"
            ))
        })
}
