//! Columns that hold JSON.

use revwatch_core::redact;
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ports::StoreError;

/// The texts of a one-column query.
pub(super) fn texts(
    c: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<String>> {
    c.prepare_cached(sql)?
        .query_map(params, |row| row.get(0))?
        .collect()
}

pub(super) fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

/// The values of `bodies`; `what` names one of them in an error.
pub(super) fn from_json<T: DeserializeOwned>(
    bodies: &[String],
    what: &str,
) -> Result<Vec<T>, StoreError> {
    let corrupt =
        |e: serde_json::Error| StoreError::Corrupt(format!("{what}, {}", redact::place(&e)));
    bodies
        .iter()
        .map(|body| serde_json::from_str(body).map_err(corrupt))
        .collect()
}
