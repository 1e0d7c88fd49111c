//! Columns: the values that tables, exports and JSON show, each with its name and unit.

use serde_json::{Value, json};

use super::text::rfc3339;

/// A column of the things of one type.
pub struct Column<T> {
    /// The header of an export, and the key in JSON. It ends with the unit, if it has one.
    pub name: &'static str,
    /// What the values are.
    pub unit: Unit,
    /// The value; null if it is not known.
    pub value: fn(&T) -> Value,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// An id, or a name.
    Text,
    /// True or false.
    Flag,
    /// A number of occurrences.
    Count,
    /// An amount in the smallest unit of the column `currency`.
    Minor,
    /// A duration.
    Seconds,
    /// A time: RFC 3339 in UTC.
    Time,
}

/// A value as text; what is not known is empty.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(crate) const fn column<T>(name: &'static str, unit: Unit, value: fn(&T) -> Value) -> Column<T> {
    Column { name, unit, value }
}

pub(crate) fn time(unix_s: Option<i64>) -> Value {
    unix_s.map_or(Value::Null, |at_s| json!(rfc3339(Some(at_s))))
}
