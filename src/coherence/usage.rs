//! Taking the uses that the cache has counted.
//!
//! A use is counted in the row of its key, while the row cannot change. Whatever removes the row, or drops the cache, takes
//! its counts along to the [`PendingUses`](super::pending_uses::PendingUses), so that each use is taken once.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::key_index::{KeyIndex, SHARDS};
use super::{Cache, Coherence};
use crate::domain::ids::SystemId;
use crate::domain::keys::KeyDigest;
use crate::domain::usage::KeyUse;

/// The keys of the systems in rotation.
#[derive(Default)]
pub(super) struct Rotations {
    systems: HashSet<SystemId>,
    digests: Vec<KeyDigest>,
}

impl Coherence {
    /// Parts of the cache, for [`take_uses`](Self::take_uses).
    pub const USE_PARTS: usize = SHARDS;

    /// Adds a use that was not counted in the cache.
    pub fn add_use(&self, used: KeyUse) {
        self.pending_uses.add(used);
    }

    /// Takes the uses counted in one part of the cache.
    pub fn take_uses(&self, part: usize) -> Vec<KeyUse> {
        self.cache.load().as_ref().map(|cache| cache.keys.take_uses(part)).unwrap_or_default()
    }

    /// Takes the uses that are not counted in the cache, and those counted in caches that were dropped.
    pub fn take_pending_uses(&self) -> Vec<KeyUse> {
        // The keys of a system in rotation may have changed.
        *self.rotations() = Rotations::default();
        // A reader that began before the cache was dropped may count after it was drained.
        self.dropped_caches().retain(|cache| {
            let is_read = Arc::strong_count(cache) > 1;
            self.drain(&cache.keys);
            is_read
        });
        self.pending_uses.take()
    }

    /// Takes the uses of keys whose systems have a retiring key.
    pub fn take_uses_in_rotation(&self) -> Vec<KeyUse> {
        let cache = self.cache.load();
        let Some(cache) = cache.as_ref() else { return Vec::new() };
        let systems = cache.keys.systems_in_rotation();
        let mut rotations = self.rotations();
        if rotations.systems != systems {
            // Reads all rows, and is needed for each rotation, and again after each sweep.
            let digests = cache.keys.digests_of(&systems);
            *rotations = Rotations { systems, digests };
        }
        cache.keys.take_uses_of(&rotations.digests)
    }

    /// Keeps the counts of a cache that is dropped.
    pub(super) fn take_over_uses(&self, cache: Arc<Cache>) {
        let is_read = Arc::strong_count(&cache) > 1;
        self.drain(&cache.keys);
        if is_read {
            self.dropped_caches().push(cache);
        }
    }

    fn drain(&self, keys: &KeyIndex) {
        (0..SHARDS).flat_map(|part| keys.take_uses(part)).for_each(|used| self.pending_uses.add(used));
    }

    fn rotations(&self) -> MutexGuard<'_, Rotations> {
        self.rotations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped_caches(&self) -> MutexGuard<'_, Vec<Arc<Cache>>> {
        self.dropped_caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
