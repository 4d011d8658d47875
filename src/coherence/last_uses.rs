//! When the systems of a tenant were last used, for lists that are filtered or sorted by it.
//!
//! Use is not in the feed. So a list reads it from the store: all of it at first, and later only what was flushed since,
//! at most every [`MAX_AGE`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Moment;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::{Store, StoreError};

/// Age at which the uses are refreshed. The interval of flushes, which delays use in any case, is longer.
const MAX_AGE: Duration = Duration::from_secs(2);
/// How much before the last refresh a flush may be dated that the refresh did not find: the difference of two instances'
/// clocks, and the time that a flush takes.
const REFRESH_OVERLAP: Duration = Duration::from_mins(1);
/// All uses, however long ago.
const EVER: Timestamp = Timestamp::from_millis(i64::MIN);

/// The last use of each system that was ever used, sorted by id: 24 bytes each.
#[derive(Clone, Debug, Default)]
pub(super) struct LastUses(Vec<(SystemId, Timestamp)>);

/// Looks systems up in the order of their ids.
pub(super) struct Walk<'a>(Option<&'a [(SystemId, Timestamp)]>, &'a [(SystemId, Timestamp)]);

impl LastUses {
    pub(super) async fn load(store: &dyn Store, tenant: &TenantId) -> Result<Self, StoreError> {
        store.list_last_uses(tenant, EVER).await.map(Self::new)
    }

    pub(super) fn new(mut uses: Vec<(SystemId, Timestamp)>) -> Self {
        uses.sort_unstable();
        // Of several uses of a system, the last one.
        uses.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1 = later.1;
            }
            is_same
        });
        Self(uses)
    }

    fn updated(&self, newer: Vec<(SystemId, Timestamp)>) -> Self {
        if newer.is_empty() { self.clone() } else { Self::new([self.0.as_slice(), &newer].concat()) }
    }

    pub(super) fn find(&self, id: SystemId) -> Option<Timestamp> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| self.0[at].1)
    }

    /// Begins look-ups of systems in ascending order of their ids.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk(None, &self.0)
    }
}

impl Walk<'_> {
    /// The id must not be below that of the call before.
    pub(super) fn find(&mut self, id: SystemId) -> Option<Timestamp> {
        let Self(rest, all) = self;
        // The first id may be far from the beginning, and the others are close to each other.
        let rest = rest.get_or_insert_with(|| &all[all.partition_point(|(other, _)| *other < id)..]);
        while let [(other, _), others @ ..] = *rest
            && *other < id
        {
            *rest = others;
        }
        rest.first().filter(|(other, _)| *other == id).map(|(_, at)| *at)
    }
}

/// The uses of one tenant, refreshed when they are needed.
#[derive(Default)]
pub(super) struct CachedLastUses {
    /// Locked during a refresh, so that lists at the same time wait for one.
    refreshed: Mutex<Option<Refreshed>>,
    bytes: AtomicUsize,
}

struct Refreshed {
    uses: Arc<LastUses>,
    /// When the refresh began, by the machine's clock and by the wall clock.
    began: Moment,
    began_at: Timestamp,
}

impl CachedLastUses {
    pub(super) async fn get(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        (now, time): (Moment, Timestamp),
    ) -> Result<Arc<LastUses>, StoreError> {
        let mut refreshed = self.refreshed.lock().await;
        let uses = match &*refreshed {
            Some(last) if now.since(last.began) < MAX_AGE => return Ok(Arc::clone(&last.uses)),
            Some(last) => last.uses.updated(store.list_last_uses(tenant, last.began_at.minus(REFRESH_OVERLAP)).await?),
            None => LastUses::load(store, tenant).await?,
        };
        let uses = Arc::new(uses);
        self.bytes.store(uses.0.capacity() * size_of::<(SystemId, Timestamp)>(), Ordering::Relaxed);
        *refreshed = Some(Refreshed { uses: Arc::clone(&uses), began: now, began_at: time });
        Ok(uses)
    }

    /// Bytes of memory used.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(n: u8) -> SystemId {
        SystemId::from_bytes([n; 16])
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn later_use_replaces_an_earlier_one_in_any_order() {
        let uses = LastUses::new(vec![(system(3), at(5)), (system(1), at(9))]);
        let uses = uses.updated(vec![(system(1), at(7)), (system(2), at(1)), (system(3), at(6)), (system(3), at(2))]);
        assert_eq!([1, 2, 3, 4].map(|n| uses.find(system(n))), [Some(at(9)), Some(at(1)), Some(at(6)), None]);
    }

    #[test]
    fn walk_finds_systems_in_ascending_order_from_anywhere() {
        let uses = LastUses::new((0..100).step_by(3).map(|n| (system(n), at(n.into()))).collect());
        for first in [0, 1, 50, 98, 99, 200] {
            let mut walk = uses.walk();
            for n in (first..=255).filter(|n| n % 2 == first % 2) {
                assert_eq!(walk.find(system(n)), uses.find(system(n)), "{n} from {first}");
            }
        }
    }
}
