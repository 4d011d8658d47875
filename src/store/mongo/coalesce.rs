//! Concurrent reads, coalesced: those of one key ([`Coalesced`]), and those of different keys ([`Batched`]).
//!
//! Every request reads its session and operator, and many concurrent requests belong to one session. A caller shares a
//! read only if that read began after the caller's own call, so that it sees every change reported before: callers that
//! arrive while a read is running share the next one.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

/// Maximum number of keys of one batch. Further callers wait for a batch of their own.
const MAX_BATCH_KEYS: usize = 1000;

/// Reads the keys of all callers that wait at the same time in one batch. One batch is read at a time.
pub(super) struct Batched<K, V> {
    /// Held by the running read.
    reading: tokio::sync::Mutex<()>,
    /// The batch that has not started yet. Its callers own it.
    next: Mutex<Weak<Batch<K, V>>>,
}

struct Batch<K, V> {
    /// Complete once this is not the next batch any more.
    keys: Mutex<HashSet<K>>,
    found: OnceCell<Result<HashMap<K, Result<V>>>>,
}

impl<K, V> Default for Batched<K, V> {
    fn default() -> Self {
        Self { reading: tokio::sync::Mutex::default(), next: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Batched<K, V> {
    /// Returns the value that `read`, or another caller's read that starts after this call, finds for the key.
    ///
    /// # Errors
    ///
    /// The read of the batch failed, or the value of this key is not readable.
    pub(super) async fn get(
        &self,
        key: K,
        read: impl AsyncFnOnce(Vec<K>) -> Result<HashMap<K, Result<V>>>,
    ) -> Result<Option<V>> {
        let batch = self.join(&key);
        let found = batch.found.get_or_init(async || {
            let _running = self.reading.lock().await;
            // Later callers need a later read: this one may miss changes that were reported to them.
            self.close(&batch);
            let keys = lock(&batch.keys).iter().cloned().collect();
            read(keys).await
        });
        match found.await {
            Ok(values) => values.get(&key).map(|value| value.as_ref().map(V::clone).map_err(copy_of)).transpose(),
            Err(error) => Err(copy_of(error)),
        }
    }

    /// Makes later callers wait for another batch.
    fn close(&self, batch: &Arc<Batch<K, V>>) {
        let mut next = lock(&self.next);
        if std::ptr::eq(next.as_ptr(), Arc::as_ptr(batch)) {
            *next = Weak::new();
        }
    }

    /// Adds the key to the next batch, or to a new one if that is full.
    fn join(&self, key: &K) -> Arc<Batch<K, V>> {
        let mut next = lock(&self.next);
        if let Some(batch) = next.upgrade() {
            let mut keys = lock(&batch.keys);
            if keys.len() < MAX_BATCH_KEYS || keys.contains(key) {
                keys.insert(key.clone());
                drop(keys);
                return batch;
            }
        }
        let batch = Arc::new(Batch { keys: Mutex::new(HashSet::from([key.clone()])), found: OnceCell::new() });
        *next = Arc::downgrade(&batch);
        batch
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies the error of a read for one of the callers that share it.
fn copy_of(error: &StoreError) -> StoreError {
    match error {
        StoreError::NewerFormat { found, known } => StoreError::NewerFormat { found: *found, known: *known },
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
    /// Reads batches that are recorded in `reads`, each when the gate has a permit; a key's value is the number of its
    /// batch.
    async fn get_number(
        batched: &Batched<u32, usize>,
        reads: &Mutex<Vec<Vec<u32>>>,
        gate: &Semaphore,
        key: u32,
    ) -> Result<Option<usize>> {
        let read = async |mut keys: Vec<u32>| {
            keys.sort_unstable();
            let number = {
                let mut reads = lock(reads);
                reads.push(keys.clone());
                reads.len()
            };
            gate.acquire().await.unwrap().forget();
            Ok(keys.into_iter().map(|key| (key, Ok(number))).collect())
        };
        batched.get(key, read).await
    }

    #[tokio::test]
    async fn callers_of_different_keys_during_a_read_share_the_next_one() {
        let (batched, reads, gate) = (Batched::default(), Mutex::default(), Semaphore::new(0));
        let get = |key| get_number(&batched, &reads, &gate, key);
        let mut first = Box::pin(get(1));
        assert!(futures::poll!(&mut first).is_pending(), "the first read has started");
        let mut later: Vec<_> = [1, 2, 2, 3].map(|key| Box::pin(get(key))).into();
        for call in &mut later {
            assert!(futures::poll!(call).is_pending());
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some(1));
        assert_eq!(join_all(later).await.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [Some(2); 4]);
        assert_eq!(*lock(&reads), [vec![1], vec![1, 2, 3]]);
        assert!(lock(&batched.next).upgrade().is_none(), "no batch is left");
    }

    #[tokio::test]
    async fn keys_beyond_the_limit_of_a_batch_are_read_in_another() {
        let (batched, reads, gate) = (Batched::default(), Mutex::default(), Semaphore::new(0));
        let keys = 0..2 * MAX_BATCH_KEYS as u32 + 1;
        let mut calls: Vec<_> = keys.map(|key| Box::pin(get_number(&batched, &reads, &gate, key))).collect();
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending());
        }
        gate.add_permits(3);
        assert!(join_all(calls).await.into_iter().all(|number| number.unwrap().is_some()));
        let sizes: Vec<_> = lock(&reads).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, MAX_BATCH_KEYS, MAX_BATCH_KEYS]);
    }

    #[tokio::test]
    async fn key_without_a_value_is_not_found_and_unreadable_value_fails_for_its_callers_only() {
        let batched = Batched::<u8, u8>::default();
        let read =
            async |_: Vec<u8>| Ok(HashMap::from([(1, Ok(10)), (2, Err(StoreError::Corrupt("unreadable".into())))]));
        let (one, two, three) = tokio::join!(batched.get(1, read), batched.get(2, read), batched.get(3, read));
        assert_eq!(one.unwrap(), Some(10));
        assert!(matches!(two, Err(StoreError::Corrupt(_))));
        assert_eq!(three.unwrap(), None);
    }

    #[tokio::test]
    async fn cancelled_caller_leaves_the_batch_to_the_others() {
        let (batched, reads, gate) = (Batched::default(), Mutex::default(), Semaphore::new(0));
        let get = |key| get_number(&batched, &reads, &gate, key);
        let (mut one, mut other) = (Box::pin(get(1)), Box::pin(get(2)));
        assert!(futures::poll!(&mut one).is_pending() && futures::poll!(&mut other).is_pending());
        drop(one);
        gate.add_permits(1);
        assert!(other.await.unwrap().is_some());
        let mut cancelled = Box::pin(get(3));
        assert!(futures::poll!(&mut cancelled).is_pending());
        drop(cancelled);
        assert!(lock(&batched.next).upgrade().is_none(), "no batch is left");
    }

    #[tokio::test]
    async fn failure_reaches_every_caller_of_the_batch() {
        let batched = Batched::<u8, u8>::default();
        let get = |key| batched.get(key, async |_| Err(StoreError::Unavailable("down".into())));
        for answer in join_all([get(1), get(2)]).await {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        }
    }
}
