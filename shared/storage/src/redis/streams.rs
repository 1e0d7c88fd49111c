//! Entries of streams: their ids and their text.

use redis::Value;
use revwatch_core::redact;

use super::keys;
use crate::ports::StoreError;

/// Both parts of a stream's id.
pub(super) fn stream_id(id: &str) -> Result<(u64, u64), StoreError> {
    id.split_once('-')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| StoreError::Corrupt(format!("{id:?} is not the id of a stream entry")))
}

/// The value of a stream entry.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    entry: &std::collections::HashMap<String, Value>,
    what: &str,
) -> Result<T, StoreError> {
    let text = match entry.get(keys::STREAM_FIELD) {
        Some(Value::BulkString(bytes)) => bytes.as_slice(),
        _ => return Err(StoreError::Corrupt(format!("{what} without a text"))),
    };
    serde_json::from_slice(text)
        .map_err(|err| StoreError::Corrupt(format!("{what}, {}", redact::place(&err))))
}
