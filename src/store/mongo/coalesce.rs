//! Concurrent reads of different keys, coalesced into one read of all of them.
//!
//! Every request reads its session and operator, and every verification a key. A caller shares a read only if that read
//! began after the caller's own call, so that it sees every change reported before: callers that arrive while a read is
//! running share the next one. So however many callers there are, one read is running, and the database is not asked
//! for more than it can do.
//!
//! Lists are shared in the same way by callers that request the same one, as all clients of a tenant do after a change.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::errors::{TimedOut, corrupt};
use crate::store::{Result, StoreError};

/// Maximum number of keys of one batch. Further callers wait for a batch of their own.
const MAX_BATCH_KEYS: usize = 1_000;
/// Maximum number of callers that wait for a read or its result. Further ones are refused immediately. So a caller waits
/// for four full batches at most.
pub(super) const MAX_WAITING_CALLERS: usize = 4 * MAX_BATCH_KEYS;

/// Reads the keys of all callers that wait at the same time in one batch. One batch is read at a time.
pub(super) struct Batched<K, V>(Arc<Batches<K, V>>);

impl<K, V> Clone for Batched<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Batches<K, V> {
    read: Box<Read<K, V>>,
    /// Time for a batch to wait for the one before.
    max_wait: Duration,
    places: Semaphore,
    /// Held by the running read.
    reading: tokio::sync::Mutex<()>,
    /// The batch that has not started yet. Its callers own it.
    next: Mutex<Option<Next<K, V>>>,
}

type Read<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>>> + Send + Sync;

/// The result of a batch, for all of its callers.
type Found<K, V> = Arc<Result<HashMap<K, V>>>;

struct Next<K, V> {
    keys: Weak<Mutex<HashSet<K>>>,
    found: WeakShared<BoxFuture<'static, Found<K, V>>>,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Batched<K, V> {
    /// `read` returns the values of the keys that exist, within a bounded time. A batch that cannot start within
    /// `max_wait` fails.
    pub(super) fn new(
        max_wait: Duration,
        read: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Batches {
            read: Box::new(read),
            max_wait,
            places: Semaphore::new(MAX_WAITING_CALLERS),
            reading: tokio::sync::Mutex::default(),
            next: Mutex::default(),
        }))
    }

    /// Returns the values of those of the keys that exist, in their order, from one read that starts after this call.
    ///
    /// # Errors
    ///
    /// The read failed, or [`StoreError::Overloaded`] if too many callers wait.
    pub(super) async fn get(&self, keys: &[K]) -> Result<Vec<V>> {
        let _place = self.0.places.try_acquire().map_err(|_| StoreError::Overloaded)?;
        match &*self.0.join(keys).await {
            Ok(values) => Ok(keys.iter().filter_map(|key| values.get(key).cloned()).collect()),
            Err(error) => Err(copy_of(error)),
        }
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static, V: Send + Sync + 'static> Batches<K, V> {
    /// Adds the keys to the next batch, or to a new one if that is full.
    fn join(self: &Arc<Self>, keys: &[K]) -> Shared<BoxFuture<'static, Found<K, V>>> {
        let mut next = lock(&self.next);
        if let Some(Next { keys: others, found }) = &*next
            && let (Some(others), Some(found)) = (others.upgrade(), found.upgrade())
        {
            let mut others = lock(&others);
            if others.len() + keys.len() <= MAX_BATCH_KEYS {
                others.extend(keys.iter().cloned());
                return found;
            }
        }
        let keys = Arc::new(Mutex::new(keys.iter().cloned().collect()));
        let weak = Arc::downgrade(&keys);
        // In a task, so that a caller that is cancelled does not interrupt the read for the others.
        let read = AbortOnDropHandle::new(tokio::spawn(Arc::clone(self).read(keys)));
        let found = async { read.await.unwrap_or_else(|error| Arc::new(Err(StoreError::Unavailable(error.into())))) };
        let found = found.boxed().shared();
        *next = found.downgrade().map(|found| Next { keys: weak, found });
        found
    }

    async fn read(self: Arc<Self>, keys: Arc<Mutex<HashSet<K>>>) -> Found<K, V> {
        let reading = timeout(self.max_wait, self.reading.lock()).await;
        self.close(&keys);
        let Ok(_reading) = reading else { return Arc::new(Err(TimedOut::new("the read before").into())) };
        let keys = lock(&keys).iter().cloned().collect();
        Arc::new((self.read)(keys).await)
    }

    /// Makes later callers wait for another batch: this one may miss changes that were reported to them.
    fn close(&self, keys: &Arc<Mutex<HashSet<K>>>) {
        let mut next = lock(&self.next);
        if next.as_ref().is_some_and(|next| std::ptr::eq(next.keys.as_ptr(), Arc::as_ptr(keys))) {
            *next = None;
        }
    }
}

/// Coalesces reads that return the same. Different ones run concurrently.
pub(super) struct SharedReads<Q, V> {
    read: Arc<SharedRead<Q, V>>,
    max_wait: Duration,
    open: Mutex<OpenReads<Q, V>>,
}

/// The reads that have callers, and how many.
type OpenReads<Q, V> = HashMap<Q, (usize, Batched<(), V>)>;

type SharedRead<Q, V> = dyn Fn(Q) -> BoxFuture<'static, Result<V>> + Send + Sync;

impl<Q, V> SharedReads<Q, V>
where
    Q: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `read` ends within a bounded time. A read that cannot start within `max_wait`, because of an equal one, fails.
    pub(super) fn new(
        max_wait: Duration,
        read: impl Fn(Q) -> BoxFuture<'static, Result<V>> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Arc::new(read), max_wait, open: Mutex::default() }
    }

    /// Returns the result of a read that starts after this call.
    ///
    /// # Errors
    ///
    /// Those of [`Batched::get`].
    pub(super) async fn get(&self, query: Q) -> Result<V> {
        let caller = self.enter(query);
        let mut found = caller.batched.get(&[()]).await?;
        found.pop().ok_or_else(|| corrupt("a read without a result"))
    }

    fn enter(&self, query: Q) -> Caller<'_, Q, V> {
        let mut open = lock(&self.open);
        let (callers, batched) = open.entry(query.clone()).or_insert_with(|| (0, self.reads_of(query.clone())));
        *callers += 1;
        Caller { batched: batched.clone(), query, reads: self }
    }

    fn reads_of(&self, query: Q) -> Batched<(), V> {
        let read = Arc::clone(&self.read);
        Batched::new(self.max_wait, move |_| {
            let read = read(query.clone());
            async { Ok(HashMap::from([((), read.await?)])) }.boxed()
        })
    }
}

/// One of the callers of a read.
struct Caller<'a, Q: Eq + Hash, V> {
    batched: Batched<(), V>,
    query: Q,
    reads: &'a SharedReads<Q, V>,
}

impl<Q: Eq + Hash, V> Drop for Caller<'_, Q, V> {
    fn drop(&mut self) {
        let mut open = lock(&self.reads.open);
        if let Some((callers, _)) = open.get_mut(&self.query) {
            *callers -= 1;
            if *callers == 0 {
                open.remove(&self.query);
            }
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
        &StoreError::NewerFormat { found, known } => StoreError::NewerFormat { found, known },
        error => StoreError::Unavailable(error.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    /// The keys of each read, in order.
    type Reads = Arc<Mutex<Vec<Vec<usize>>>>;

    /// Reads that take place when the gate has a permit. The value of a key is the number of its read; keys of 10,000
    /// and more do not exist.
    fn gated() -> (Batched<usize, usize>, Reads, Arc<Semaphore>) {
        let (reads, gate) = (Reads::default(), Arc::new(Semaphore::new(0)));
        let (recorded, opened) = (Arc::clone(&reads), Arc::clone(&gate));
        let batched = Batched::new(LIMIT, move |mut keys: Vec<usize>| {
            keys.sort_unstable();
            let number = {
                let mut reads = lock(&recorded);
                reads.push(keys.clone());
                reads.len()
            };
            let opened = Arc::clone(&opened);
            let read = async move {
                opened.acquire().await.unwrap().forget();
                Ok(keys.into_iter().filter(|key| *key < 10_000).map(|key| (key, number)).collect())
            };
            read.boxed()
        });
        (batched, reads, gate)
    }

    /// Begins one call for each list of keys, and lets a batch start if none is running.
    async fn begin<'a>(
        batched: &'a Batched<usize, usize>,
        calls: &'a [Vec<usize>],
    ) -> Vec<BoxFuture<'a, Result<Vec<usize>>>> {
        let mut begun: Vec<_> = calls.iter().map(|keys| batched.get(keys).boxed()).collect();
        for call in &mut begun {
            assert!(futures::poll!(call).is_pending());
        }
        tokio::task::yield_now().await;
        begun
    }

    #[tokio::test]
    async fn callers_during_a_read_share_the_next_one() {
        let (batched, reads, gate) = gated();
        let calls = [vec![1]];
        let first = begin(&batched, &calls).await;
        assert_eq!(*lock(&reads), [vec![1]], "the first read has started");
        let calls = [vec![1], vec![2], vec![2, 3], vec![10_000]];
        let later = begin(&batched, &calls).await;
        gate.add_permits(2);
        assert_eq!(join_all(first).await.remove(0).unwrap(), [1]);
        let later: Vec<_> = join_all(later).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(later, [vec![2], vec![2], vec![2, 2], vec![]]);
        assert_eq!(*lock(&reads), [vec![1], vec![1, 2, 3, 10_000]]);
        assert!(lock(&batched.0.next).is_none(), "no batch is left");
    }

    #[tokio::test]
    async fn keys_beyond_the_limit_of_a_batch_are_read_in_another() {
        let (batched, reads, gate) = gated();
        let calls: Vec<_> = (0..2 * MAX_BATCH_KEYS + 1).map(|key| vec![key]).collect();
        let calls = begin(&batched, &calls).await;
        gate.add_permits(3);
        assert!(join_all(calls).await.into_iter().all(|found| found.unwrap().len() == 1));
        let sizes: Vec<_> = lock(&reads).iter().map(Vec::len).collect();
        assert_eq!(sizes, [MAX_BATCH_KEYS, MAX_BATCH_KEYS, 1]);
    }

    #[tokio::test]
    async fn caller_beyond_the_limit_is_refused_immediately_until_others_have_their_result() {
        let (batched, _, gate) = gated();
        let calls = vec![vec![1]; MAX_WAITING_CALLERS];
        let calls = begin(&batched, &calls).await;
        assert!(matches!(batched.get(&[2]).now_or_never(), Some(Err(StoreError::Overloaded))));
        gate.add_permits(2);
        assert!(join_all(calls).await.into_iter().all(|found| found.is_ok()));
        assert_eq!(batched.get(&[2]).await.unwrap(), [2]);
    }

    #[tokio::test]
    async fn cancelled_caller_leaves_the_running_read_to_the_others() {
        let (batched, reads, gate) = gated();
        let calls = [vec![1], vec![2]];
        let mut calls = begin(&batched, &calls).await;
        drop(calls.remove(0));
        gate.add_permits(1);
        assert_eq!(calls.remove(0).await.unwrap(), [1]);
        assert_eq!(lock(&reads).len(), 1);
    }

    #[tokio::test]
    async fn batch_without_callers_is_dropped() {
        let (batched, reads, gate) = gated();
        let calls = [vec![1]];
        drop(begin(&batched, &calls).await);
        gate.add_permits(1);
        assert_eq!(batched.get(&[2]).await.unwrap(), [2]);
        assert_eq!(*lock(&reads), [vec![1], vec![2]]);
        assert_eq!(Arc::strong_count(&batched.0), 1, "no task is left");
    }

    #[tokio::test]
    async fn failure_reaches_every_caller_of_the_batch() {
        let fails = |_| async { Err(StoreError::Unavailable("down".into())) }.boxed();
        let batched = Batched::<u8, u8>::new(LIMIT, fails);
        for answer in join_all([batched.get(&[1]), batched.get(&[2])]).await {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn batch_that_waits_too_long_for_the_one_before_fails() {
        let (batched, reads, _gate) = gated();
        let calls = [vec![1]];
        let _first = begin(&batched, &calls).await;
        assert!(matches!(batched.get(&[2]).await, Err(StoreError::Unavailable(_))));
        assert_eq!(lock(&reads).len(), 1);
    }

    /// Reads of one of two lists that take place when its gate has a permit. The result is the number of the read.
    fn gated_lists() -> (SharedReads<usize, usize>, Reads, [Arc<Semaphore>; 2]) {
        let (reads, gates) = (Reads::default(), [0, 0].map(|permits| Arc::new(Semaphore::new(permits))));
        let (recorded, opened) = (Arc::clone(&reads), gates.clone());
        let shared = SharedReads::new(LIMIT, move |list: usize| {
            let number = {
                let mut reads = lock(&recorded);
                reads.push(vec![list]);
                reads.len()
            };
            let opened = Arc::clone(&opened[list]);
            async move {
                opened.acquire().await.unwrap().forget();
                Ok(number)
            }
            .boxed()
        });
        (shared, reads, gates)
    }

    #[tokio::test]
    async fn equal_reads_are_one_that_begins_after_its_callers_and_others_do_not_wait_for_it() {
        let (shared, reads, [gate, other_gate]) = gated_lists();
        let mut first = shared.get(0).boxed();
        assert!(futures::poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
        assert_eq!(*lock(&reads), [vec![0]], "the first read has started");
        let mut later: Vec<_> = (0..3).map(|_| shared.get(0).boxed()).collect();
        for call in &mut later {
            assert!(futures::poll!(call).is_pending());
        }
        other_gate.add_permits(1);
        assert_eq!(shared.get(1).await.unwrap(), 2, "another list is read meanwhile");
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        let later: Vec<_> = join_all(later).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(later, [3, 3, 3]);
        assert!(lock(&shared.open).is_empty(), "no read is left");
    }

    #[tokio::test]
    async fn read_ends_with_its_last_caller() {
        let (shared, reads, [gate, _]) = gated_lists();
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let mut call = shared.get(0).boxed();
                assert!(futures::FutureExt::now_or_never(&mut call).is_none());
                call
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(lock(&reads).len(), 1);
        drop(calls);
        assert!(lock(&shared.open).is_empty());
        tokio::task::yield_now().await;
        gate.add_permits(1);
        assert_eq!(shared.get(0).await.unwrap(), 2, "the permit is left for this read");
    }
}
