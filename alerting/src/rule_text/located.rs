//! A fault with its place. Pure.

use std::ops::Range;

use revwatch_runtime::files::{NamedText, place};

/// File, line and column, then what is wrong there.
pub(super) fn located(file: &NamedText, span: Option<Range<usize>>, what: &str) -> String {
    format!("{}: {what}", place(file, span))
}
