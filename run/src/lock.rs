//! Locks of a program whose threads end it when one of them fails.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, though somebody failed who had it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
