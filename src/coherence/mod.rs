//! What an instance knows by heart, and why it may act on it.
//!
//! The keys, operators and sessions of all tenants are in [`Memory`], loaded once and kept right by the feed. Memory
//! answers under a lease alone: see [`protocol`]. Whoever changes something that memory answers with waits at a
//! [`Barrier`] until no instance answers without it. Names of systems, which nobody waits for, are beside them by a rule
//! of their own: see [`search`].

pub mod identities;
pub mod key_index;
mod metrics;
mod name_index;
pub mod protocol;
pub mod search;
#[cfg(test)]
mod simulation;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::identities::Identities;
use self::key_index::KeyIndex;
use self::metrics::CoherenceMetrics;
use self::protocol::{BarrierId, Enforced, News, Protocol, Role};
use self::search::TenantNames;
use crate::clock::{Environment, Moment, Stopwatch};
use crate::domain::changes::{Change, Row, RowId, Write};
use crate::domain::ids::AuditEntryId;
use crate::domain::leases::{Incarnation, Lease};
use crate::domain::time::Timestamp;
use crate::store::{Feed, Store, StoreError};

/// How long the write of a probe may take. One that is later has not renewed much.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait before a broken feed is followed again, at first and at most.
const RETRY_AFTER: Duration = Duration::from_millis(50);
const RETRY_AT_MOST: Duration = Duration::from_secs(2);

/// One life of what an instance knows: dropped whole as soon as its feed breaks, and never mended.
pub struct Memory {
    /// Until when it may answer, as nanoseconds of the stopwatch; 0: not at all.
    deadline: AtomicU64,
    pub keys: KeyIndex,
    pub identities: Identities,
    pub names: Arc<TenantNames>,
}

impl Memory {
    fn new() -> Self {
        let names = Arc::new(TenantNames::new(search::MOST_BYTES));
        Self { deadline: AtomicU64::new(0), keys: KeyIndex::new(), identities: Identities::new(), names }
    }

    fn put(&self, row: &Row) {
        match row {
            Row::Key(key) => self.keys.put(key),
            Row::Operator(operator) => self.identities.put_operator(operator),
            Row::Session(session) => self.identities.put_session(session),
            Row::System(_) | Row::Lease(_) => {}
        }
    }

    fn apply(&self, change: &Change) {
        for write in &change.writes {
            match write {
                Write::Put(row) => self.put(row),
                Write::Delete(RowId::Key(digest)) => self.keys.remove(digest),
                Write::Delete(RowId::Operator(id)) => self.identities.remove_operator(*id),
                Write::Delete(RowId::Session(id)) => self.identities.remove_session(*id),
                Write::Delete(RowId::System(_) | RowId::Lease(_)) => {}
            }
        }
        self.names.apply(change);
    }
}

/// Whether every instance is known to act on a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// From the durable commit to the proof, or to where the wait was cut short.
    pub elapsed: Duration,
    /// Instances that acknowledged it or are provably not answering from memory.
    pub instances: u32,
    /// Whether the proof is there.
    pub is_proved: bool,
    /// While it is not: no instance acts on the old state after this. `None` where there is no such bound.
    pub pending_until: Option<Timestamp>,
}

/// What a follower hears.
#[derive(Clone)]
pub enum FeedEvent {
    Change(Arc<Change>),
    /// The feed was broken and is whole again: look for what was missed.
    Resumed,
}

/// Keeps memory right, and knows when a change is enforced.
pub struct Coherence {
    store: Arc<dyn Store>,
    environment: Environment,
    stopwatch: Arc<dyn Stopwatch>,
    role: Role,
    memory: ArcSwapOption<Memory>,
    state: Mutex<State>,
    /// The state was changed by somebody else than the one who waits for its next moment.
    changed: Notify,
    loaded: AtomicBool,
    probes: TaskTracker,
    metrics: CoherenceMetrics,
}

struct State {
    protocol: Protocol,
    waiting: HashMap<BarrierId, oneshot::Sender<Enforced>>,
    last_probe: Option<Lease>,
}

impl Coherence {
    pub fn new(
        store: Arc<dyn Store>,
        environment: Environment,
        stopwatch: Arc<dyn Stopwatch>,
        role: Role,
    ) -> Arc<Self> {
        let state = State { protocol: Protocol::new(role), waiting: HashMap::new(), last_probe: None };
        Arc::new(Self {
            store,
            environment,
            stopwatch,
            role,
            memory: ArcSwapOption::empty(),
            state: Mutex::new(state),
            changed: Notify::new(),
            loaded: AtomicBool::new(false),
            probes: TaskTracker::new(),
            metrics: CoherenceMetrics::default(),
        })
    }

    /// What `read` finds in memory; `None` when memory may not answer now, and the store has to be asked.
    ///
    /// The order is what makes it right: the deadline is loaded before the entry is read, so that an entry from
    /// before a pause is not saved by a lease that was renewed in the pause; and the clock is read after the entry,
    /// so that a pause between the two does not go unnoticed.
    pub fn read<T>(&self, read: impl FnOnce(&Memory) -> T) -> Option<T> {
        let memory = self.memory.load();
        let memory = memory.as_ref()?;
        let deadline = memory.deadline.load(Ordering::Acquire);
        let found = read(memory);
        (self.stopwatch.now() < Moment::from_nanos(deadline)).then_some(found)
    }

    /// Whether memory was loaded once, or never is.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Says that a batch with this entry is about to be committed.
    pub fn begin(self: &Arc<Self>, entry: AuditEntryId) -> Barrier {
        self.barrier(|protocol, _| protocol.begin(entry))
    }

    /// A barrier for a change that was found to stand already, made by whomever.
    pub fn begin_repeat(self: &Arc<Self>) -> Barrier {
        self.barrier(Protocol::begin_repeat)
    }

    fn barrier(self: &Arc<Self>, begin: impl FnOnce(&mut Protocol, Moment) -> BarrierId) -> Barrier {
        let (done, enforced) = oneshot::channel();
        let mut state = self.state();
        let id = begin(&mut state.protocol, self.stopwatch.now());
        state.waiting.insert(id, done);
        drop(state);
        Barrier { coherence: Arc::clone(self), id, committed: None, enforced }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this instance ever answers from memory.
    fn remembers(&self) -> bool {
        match self.role {
            Role::Alone => true,
            Role::Member(timing) => !timing.lease.is_zero(),
            Role::Observer(_) => false,
        }
    }

    /// Does what is due: tells who waits that a change is enforced, and sends a probe.
    fn settle(self: &Arc<Self>) {
        let mut state = self.state();
        let now = self.stopwatch.now();
        for enforced in state.protocol.enforced(now) {
            if let Some(done) = state.waiting.remove(&enforced.barrier) {
                // Whoever asked may have gone.
                let _ = done.send(enforced);
            }
        }
        let probe = state.protocol.probe(now);
        state.last_probe = probe.or(state.last_probe);
        drop(state);
        if let Some(lease) = probe {
            let coherence = Arc::clone(self);
            self.probes.spawn(async move { coherence.send(lease).await });
        }
    }

    /// Does what is due, and has the next moment looked up anew.
    fn advance(self: &Arc<Self>) {
        self.settle();
        self.changed.notify_one();
    }

    async fn send(self: Arc<Self>, lease: Lease) {
        let sent = tokio::time::timeout(PROBE_TIMEOUT, self.store.put_lease(&lease)).await;
        let succeeded = matches!(sent, Ok(Ok(())));
        let now = self.stopwatch.now();
        let gone = {
            let mut state = self.state();
            state.protocol.probe_ended(&lease, succeeded, now);
            if succeeded { state.protocol.gone(now) } else { Vec::new() }
        };
        self.advance();
        for lease in &gone {
            self.remove(lease).await;
        }
    }

    /// Removes a lease under which nobody answers any more. One that stays slows others down, and no more.
    async fn remove(&self, lease: &Lease) {
        if let Err(error) = self.store.delete_lease(lease).await {
            tracing::debug!(%error, "a lease could not be removed");
        }
    }

    /// Follows the store's feed until it is told to stop, and says what it hears.
    pub async fn follow(self: &Arc<Self>, stop: CancellationToken, heard: impl Fn(FeedEvent)) {
        let following = async {
            let mut retry_after = RETRY_AFTER;
            loop {
                let error = match self.store.watch(None).await {
                    Ok(feed) => {
                        heard(FeedEvent::Resumed);
                        let followed = self.live(feed, &heard).await;
                        if self.forget() {
                            retry_after = RETRY_AFTER;
                        }
                        followed
                    }
                    Err(error) => error,
                };
                tracing::warn!(%error, "the feed is lost: memory does not answer until it is loaded anew");
                tokio::time::sleep(retry_after).await;
                retry_after = (retry_after * 2).min(RETRY_AT_MOST);
            }
        };
        let _: Option<std::convert::Infallible> = stop
            .run_until_cancelled(async {
                tokio::select! {
                    never = following => never,
                    never = self.keep_time() => never,
                }
            })
            .await;
        self.leave().await;
    }

    /// One life of memory: from its loading to the error that ends it.
    async fn live(self: &Arc<Self>, mut feed: Feed, heard: &impl Fn(FeedEvent)) -> StoreError {
        let incarnation = Incarnation::generate(&mut **self.environment.rng());
        self.state().protocol.opened(incarnation, self.stopwatch.now());
        let mut early = Vec::new();
        let loaded = {
            let mut loading = std::pin::pin!(self.load());
            loop {
                tokio::select! {
                    loaded = &mut loading => break loaded,
                    next = feed.next() => match next {
                        Some(Ok(change)) => early.push(hear(change, heard)),
                        Some(Err(error)) => return error,
                        None => return ended(),
                    },
                }
            }
        };
        let (memory, leases) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return error,
        };
        self.memory.store(memory.clone());
        let memory = memory.as_deref();
        self.state().protocol.loaded(self.stopwatch.now(), &leases);
        for change in early {
            self.apply(memory, &change);
        }
        self.extend(memory);
        self.loaded.store(true, Ordering::Release);
        self.advance();
        loop {
            match feed.next().await {
                Some(Ok(change)) => {
                    self.apply(memory, &change);
                    self.extend(memory);
                    hear(change, heard);
                    self.advance();
                }
                Some(Err(error)) => return error,
                None => return ended(),
            }
        }
    }

    /// Reads everything that memory holds, where there is to be one, and then who else there is.
    async fn load(&self) -> Result<(Option<Arc<Memory>>, Vec<Lease>), StoreError> {
        let memory = self.remembers().then(|| Arc::new(Memory::new()));
        if let Some(memory) = &memory {
            let mut rows = self.store.scan_rows().await?;
            while let Some(row) = rows.try_next().await? {
                memory.put(&row);
            }
        }
        let leases = if self.store.is_shared() { self.store.list_leases().await? } else { Vec::new() };
        Ok((memory, leases))
    }

    /// Changes memory, and only then tells the protocol.
    fn apply(&self, memory: Option<&Memory>, change: &Change) {
        if let Some(memory) = memory {
            memory.apply(change);
        }
        self.state().protocol.applied(self.stopwatch.now(), change.at, news(change));
    }

    /// Lets memory answer for as long as the protocol says: never while a change that was heard is not in it.
    fn extend(&self, memory: Option<&Memory>) {
        let Some(memory) = memory else { return };
        let deadline = self.state().protocol.deadline().map_or(0, Moment::as_nanos);
        memory.deadline.store(deadline, Ordering::Release);
    }

    /// Memory stops to answer, before anything else. Says whether it had been loaded.
    fn forget(self: &Arc<Self>) -> bool {
        let memory = self.memory.swap(None);
        if let Some(memory) = &memory {
            memory.deadline.store(0, Ordering::Release);
        }
        let was_loaded = self.state().protocol.lost();
        self.metrics.losses.inc();
        self.advance();
        was_loaded
    }

    /// Wakes when something is due.
    async fn keep_time(self: &Arc<Self>) -> std::convert::Infallible {
        loop {
            let wake_at = self.state().protocol.wake_at();
            let wait = wake_at.map_or(RETRY_AT_MOST, |at| at.since(self.stopwatch.now()));
            let _ = tokio::time::timeout(wait, self.changed.notified()).await;
            self.settle();
            if let Some(memory) = &*self.memory.load() {
                memory.names.drop_unused(self.stopwatch.now());
            }
        }
    }

    /// Says good-bye, so that nobody waits for this instance.
    async fn leave(self: &Arc<Self>) {
        self.forget();
        self.probes.close();
        self.probes.wait().await;
        let last = self.state().last_probe.take();
        if let Some(lease) = last {
            self.remove(&lease).await;
        }
    }
}

/// A change on its way to be enforced. Dropped, nobody waits for it any more.
pub struct Barrier {
    coherence: Arc<Coherence>,
    id: BarrierId,
    committed: Option<Moment>,
    enforced: oneshot::Receiver<Enforced>,
}

impl Barrier {
    /// Says that the store has acknowledged the change.
    pub fn committed(&mut self) {
        let now = self.coherence.stopwatch.now();
        self.committed = Some(now);
        self.coherence.state().protocol.committed(self.id, now);
        self.coherence.advance();
    }

    /// Waits until the change is enforced, at most for `limit`.
    pub async fn enforced(mut self, limit: Duration) -> Enforcement {
        match tokio::time::timeout(limit, &mut self.enforced).await {
            Ok(Ok(Enforced { elapsed, instances, .. })) => {
                self.coherence.metrics.enforcements.observe(elapsed.as_secs_f64());
                Enforcement { elapsed, instances, is_proved: true, pending_until: None }
            }
            _ => {
                self.coherence.metrics.pending.inc();
                self.pending()
            }
        }
    }

    fn pending(&self) -> Enforcement {
        let Coherence { environment, stopwatch, role, .. } = &*self.coherence;
        let (now, since) = (stopwatch.now(), self.committed.unwrap_or(Moment::NEVER));
        let left = role.timing().map(|timing| since.plus(timing.margin()).since(now));
        Enforcement {
            elapsed: now.since(since),
            instances: self.coherence.state().protocol.instances(),
            is_proved: false,
            pending_until: left.map(|left| environment.now().plus(left)),
        }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        let mut state = self.coherence.state();
        state.protocol.abandon(self.id);
        state.waiting.remove(&self.id);
    }
}

/// Tells of a change. Leases are no news to anybody else.
fn hear(change: Change, heard: &impl Fn(FeedEvent)) -> Arc<Change> {
    let change = Arc::new(change);
    if !matches!(news(&change), News::Lease(_) | News::LeaseGone(_)) {
        heard(FeedEvent::Change(Arc::clone(&change)));
    }
    change
}

/// What a change is to the protocol.
fn news(change: &Change) -> News {
    match (&change.entry, change.writes.first()) {
        (Some(entry), _) => News::Entry { id: entry.event.id, asks: change.writes.iter().any(is_remembered) },
        (None, Some(Write::Put(Row::Lease(lease)))) => News::Lease(*lease),
        (None, Some(Write::Delete(RowId::Lease(incarnation)))) => News::LeaseGone(*incarnation),
        _ => News::Other,
    }
}

/// Whether memory may answer otherwise after this write. A session that was opened is none: one that is not in memory
/// is looked up in the store.
fn is_remembered(write: &Write) -> bool {
    match write {
        Write::Put(Row::Key(_) | Row::Operator(_)) => true,
        Write::Delete(RowId::Operator(_) | RowId::Session(_)) => true,
        Write::Put(_) | Write::Delete(_) => false,
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the feed ended".into())
}
