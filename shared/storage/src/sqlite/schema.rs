//! The schema of the file: created in a new one, converted or checked in an old one.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::recovery;

/// How the data folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Creates folder and file when missing.
    Create {
        /// Partitions of a new deployment.
        partitions: u32,
    },
    /// For commands that only read.
    Existing,
}

/// Why a file cannot be used.
pub(super) enum Prepare {
    Sql(rusqlite::Error),
    Wrong(String),
}

impl From<rusqlite::Error> for Prepare {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Creates the schema in a new file; checks version and partitions of an old one.
pub(super) fn prepare(connection: &mut Connection, how: Open) -> Result<u32, Prepare> {
    const SCHEMA_VERSION: u32 = 3;
    // Reading needs no lock and must not wait for a busy writer.
    let behavior = if how == Open::Existing {
        TransactionBehavior::Deferred
    } else {
        TransactionBehavior::Immediate
    };
    let transaction = connection.transaction_with_behavior(behavior)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (version, how) {
        (0, Open::Create { partitions }) => {
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.execute_batch(include_str!("schema_2.sql"))?;
            transaction.execute_batch(include_str!("schema_3.sql"))?;
            recovery::mark_complete(&transaction, partitions)?;
            transaction.execute(
                "INSERT INTO meta VALUES ('partitions', ?1)",
                [partitions.to_string()],
            )?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        (0, Open::Existing) => {
            return Err(Prepare::Wrong(
                "the store is empty: start `revwatch serve` first".into(),
            ));
        }
        (SCHEMA_VERSION, _) => {}
        (1 | 2, Open::Create { partitions }) => {
            if version == 1 {
                transaction.execute_batch(include_str!("schema_2.sql"))?;
                transaction.execute_batch(include_str!("from_1_to_2.sql"))?;
                recovery::mark_complete(&transaction, partitions)?;
            }
            transaction.execute_batch(include_str!("schema_3.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        (1 | 2, Open::Existing) => {
            return Err(Prepare::Wrong(format!(
                "the store has format {version}: start `revwatch serve` of this version once, it converts the file"
            )));
        }
        (other, _) => {
            return Err(Prepare::Wrong(format!(
                "the store has format {other}, this revwatch reads format {SCHEMA_VERSION}: use the version that wrote it"
            )));
        }
    }
    let stored: Option<String> = transaction
        .query_row(
            "SELECT value FROM meta WHERE key = 'partitions'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    let stored: u32 = stored.and_then(|text| text.parse().ok()).unwrap_or(0);
    let Open::Create { partitions } = how else {
        return Ok(stored);
    };
    if partitions != stored {
        return Err(Prepare::Wrong(format!(
            "this store was created with {stored} partitions, and that cannot change: set REVWATCH_PARTITIONS={stored} \
             (or `partitions` in the configuration), or start with a new data folder; {partitions} was requested"
        )));
    }
    transaction.commit()?;
    Ok(stored)
}
