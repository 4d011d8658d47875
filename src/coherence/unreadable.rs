//! The rows that the store holds and that cannot be read.

use std::collections::HashSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::locks::{read, write};
use crate::domain::changes::RowId;

/// Ids of unreadable rows: usually none, so that a look-up costs one atomic read.
#[derive(Default)]
pub(super) struct UnreadableRows {
    ids: RwLock<HashSet<RowId>>,
    len: AtomicUsize,
}

impl UnreadableRows {
    pub(super) fn insert(&self, id: RowId) {
        let mut ids = write(&self.ids);
        ids.insert(id);
        self.len.store(ids.len(), Ordering::Release);
    }

    pub(super) fn remove(&self, id: &RowId) {
        if !self.is_empty() {
            let mut ids = write(&self.ids);
            ids.remove(id);
            self.len.store(ids.len(), Ordering::Release);
        }
    }

    pub(super) fn contains(&self, id: &RowId) -> bool {
        !self.is_empty() && read(&self.ids).contains(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }
}
