//! A fault with its place. Pure.

use std::ops::Range;

use revwatch_runtime::config::Fault;
use revwatch_runtime::files::{NamedText, place};

/// What is wrong at a place of `file`.
pub(super) fn located(file: &NamedText, span: Option<Range<usize>>, what: &str) -> Fault {
    Fault::at(place(file, span), what)
}
