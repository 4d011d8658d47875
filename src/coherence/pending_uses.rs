//! Uses that the counters of the key index do not have: refusals, verifications that read the store, and counts of rows
//! that left the index.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::ids::SystemId;
use crate::domain::keys::Mark;
use crate::domain::usage::{KeyUse, Resolution};

/// Uses by key and hour.
type Uses = HashMap<(SystemId, Mark, u32), KeyUse>;

/// At most one entry for each known key and hour.
#[derive(Default)]
pub struct PendingUses(Mutex<Uses>);

impl PendingUses {
    pub fn add(&self, used: KeyUse) {
        match self.pending().entry((used.system, used.mark, used.bucket(Resolution::Hour))) {
            Entry::Occupied(mut pending) => pending.get_mut().add(&used),
            Entry::Vacant(vacant) => drop(vacant.insert(used)),
        }
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<KeyUse> {
        std::mem::take(&mut *self.pending()).into_values().collect()
    }

    fn pending(&self) -> MutexGuard<'_, Uses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
