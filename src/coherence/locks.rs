//! Locking of the cache's tables.
//!
//! Panics if a writer has panicked while it held the lock: the table may be half written and could have lost a
//! revocation, so it must not be read again.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

const NOT_POISONED: &str = "no writer panics while it holds the lock";

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect(NOT_POISONED)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect(NOT_POISONED)
}
