//! Locks, also after a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic of another holder leaves the value as it was between two changes.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
