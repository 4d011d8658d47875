//! Concurrent reads of one key, coalesced.
//!
//! Every request reads its session and operator, and many concurrent requests belong to one session. A caller shares a
//! read only if that read began after the caller's own call, so that it sees every change reported before: callers that
//! arrive while a read is running share the next one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::store::{Result, StoreError};

pub(super) struct Coalesced<K, V>(Mutex<HashMap<K, Arc<Slot<V>>>>);

struct Slot<V> {
    /// Held by the running read.
    reading: tokio::sync::Mutex<()>,
    /// The read that has not started yet.
    next: Mutex<Option<Arc<Reading<V>>>>,
}

/// The result of a read that several callers await.
type Reading<V> = OnceCell<Result<V, Arc<StoreError>>>;

impl<K, V> Default for Coalesced<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Coalesced<K, V> {
    /// Returns the result of `read`, or of another caller's read of `key` that starts after this call.
    pub(super) async fn get(&self, key: K, read: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        let slot = Arc::clone(
            lock(&self.0)
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Slot { reading: tokio::sync::Mutex::default(), next: Mutex::default() })),
        );
        let reading = Arc::clone(lock(&slot.next).get_or_insert_default());
        let found = reading.get_or_init(async || {
            let _running = slot.reading.lock().await;
            // Later callers need a later read: this one may miss changes that were reported to them.
            lock(&slot.next).take();
            read().await.map_err(Arc::new)
        });
        let found = found.await.clone();
        drop(reading);
        self.remove_unused(key, slot);
        found.map_err(|error| copy_of(&error))
    }

    /// Removes the slot of a key that has no callers left.
    fn remove_unused(&self, key: K, slot: Arc<Slot<V>>) {
        let mut slots = lock(&self.0);
        drop(slot);
        if slots.get(&key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies the error of a read for one of the callers that share it.
fn copy_of(error: &StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(cause) => StoreError::Corrupt(cause.to_string().into()),
        error => StoreError::Unavailable(error.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn callers_during_a_read_share_the_next_one() {
        let (coalesced, reads, gate) = (Coalesced::default(), AtomicU32::new(0), Semaphore::new(0));
        let get = |key: u8| {
            coalesced.get(key, async || {
                let number = reads.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.unwrap().forget();
                Ok(number)
            })
        };
        let mut first = Box::pin(get(1));
        assert!(futures::poll!(&mut first).is_pending(), "the first read has started");
        let mut later: Vec<_> = (0..5).map(|_| Box::pin(get(1))).collect();
        for call in &mut later {
            assert!(futures::poll!(call).is_pending());
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        assert_eq!(join_all(later).await.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [2; 5]);
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        assert!(lock(&coalesced.0).is_empty(), "no slot is left");
    }

    #[tokio::test]
    async fn cancelled_caller_leaves_the_read_to_the_others() {
        let (coalesced, gate) = (Coalesced::default(), Semaphore::new(0));
        let get = || {
            coalesced.get(1, async || {
                gate.acquire().await.unwrap().forget();
                Ok(())
            })
        };
        let (mut one, mut other) = (Box::pin(get()), Box::pin(get()));
        assert!(futures::poll!(&mut one).is_pending() && futures::poll!(&mut other).is_pending());
        drop(one);
        gate.add_permits(1);
        other.await.unwrap();
    }

    #[tokio::test]
    async fn failure_reaches_every_caller() {
        let coalesced: Coalesced<u8, ()> = Coalesced::default();
        let get = || coalesced.get(1, async || Err(StoreError::Unavailable("down".into())));
        for answer in join_all([get(), get()]).await {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        }
    }
}
