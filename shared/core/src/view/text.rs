//! How single values are shown.

use jiff::Timestamp;

/// What is shown for a value that is not known.
pub const NOT_KNOWN: &str = "–";

/// RFC 3339 in UTC; empty for `None`.
pub fn rfc3339(unix_s: Option<i64>) -> String {
    let time = unix_s.and_then(|s| Timestamp::from_second(s).ok());
    time.map_or_else(String::new, |t| t.to_string())
}
