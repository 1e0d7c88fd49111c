//! Counts of the work of ordering: tests count work instead of measuring time.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    /// Searches.
    pub(super) static SEARCHED: Cell<usize> = const { Cell::new(0) };
    /// Pairs of states compared.
    pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    /// States tried as the next of an order.
    pub(super) static TRIED: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn count(what: &'static LocalKey<Cell<usize>>) {
    what.set(what.get() + 1);
}
