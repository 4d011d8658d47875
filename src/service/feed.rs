//! Subscribers of the store's feed: one follower per process, and a stream for each subscriber.
//!
//! Each tenant has its own channels, so that a change wakes only subscribers whom it may concern.
//!
//! A stream of audit entries is assembled from the log and the feed by the entries' numbers: whatever the feed has not
//! delivered is read from the log. So no entry is lost or repeated, even if the feed is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, stream};
use rand::RngExt;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::callers::Identity;
use super::error::Error;
use super::metrics::Subscriber;
use super::{Caller, Service};
use crate::coherence::FeedEvent;
use crate::domain::audit::{AuditEntry, AuditFilter};
use crate::domain::changes::{Change, Row, RowId, Write};
use crate::domain::cursors::AuditPosition;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::PageRequest;
use crate::domain::permissions::Permissions;
use crate::domain::refusal::Refusal;
use crate::store::{StoreError, SystemState};

/// Changes that a tenant's channel keeps for slow subscribers. One that is further behind reads the log.
const MAX_BUFFERED_CHANGES: usize = 128;
/// The same for changes of identities. A subscriber that misses one refreshes its caller.
const MAX_BUFFERED_IDENTITY_CHANGES: usize = 8;
/// Entries that a subscriber who is behind reads from the log at a time, and so the most that it holds.
const MAX_ENTRIES_PER_READ: usize = 32;
/// How long subscribers wait for the cache after the feed was lost, before they read the store.
const MAX_CACHE_WAIT: Duration = Duration::from_secs(5);
/// Time over which the subscribers of an instance spread what they do after the feed was lost.
const RESUMPTION_SPREAD: Duration = Duration::from_secs(1);
/// Delay before a request to an unavailable store is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// All changes of the tenant.
    Changes(TenantId),
    /// Changes of its operators and sessions. Every socket subscribes to them, and they are rare.
    Identities(TenantId),
}

/// Broadcasts the feed, with a channel for each topic that has subscribers. Every change has an audit entry.
#[derive(Default)]
pub struct FeedChannels(Mutex<HashMap<Topic, broadcast::Sender<FeedEvent>>>);

impl FeedChannels {
    pub(super) fn subscribe(&self, topic: Topic) -> broadcast::Receiver<FeedEvent> {
        let mut channels = self.channels();
        if let Some(channel) = channels.get(&topic) {
            return channel.subscribe();
        }
        if channels.len() == channels.capacity() {
            channels.retain(|_, channel| channel.receiver_count() > 0);
        }
        let (channel, events) = broadcast::channel(match topic {
            Topic::Changes(_) => MAX_BUFFERED_CHANGES,
            Topic::Identities(_) => MAX_BUFFERED_IDENTITY_CHANGES,
        });
        channels.insert(topic, channel);
        events
    }

    fn publish(&self, event: &FeedEvent) {
        let channels: Vec<broadcast::Sender<FeedEvent>> = match event {
            FeedEvent::Change(change) => {
                let Some(entry) = &change.entry else {
                    // A purge concerns no subscriber; another client's write of an operator or session may.
                    if change.foreign.iter().any(|row| row.id().is_identity()) {
                        self.publish(&FeedEvent::Resumed);
                    }
                    return;
                };
                let affects_identity = change.writes.iter().any(|write| write.id().is_identity());
                let identities = affects_identity.then(|| Topic::Identities(entry.tenant.clone()));
                let topics = identities.into_iter().chain([Topic::Changes(entry.tenant.clone())]);
                let channels = self.channels();
                topics.filter_map(|topic| channels.get(&topic).cloned()).collect()
            }
            FeedEvent::Resumed => self.channels().values().cloned().collect(),
        };
        // Without the lock, since waking thousands of subscribers takes time.
        for channel in channels {
            // Fails if there is no subscriber any more.
            let _ = channel.send(event.clone());
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Topic, broadcast::Sender<FeedEvent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Follows the store's feed until `stop` is cancelled.
    pub async fn follow_feed(&self, stop: CancellationToken) {
        let follow = |event| {
            self.note_foreign_change(&event);
            self.feed.publish(&event);
        };
        self.coherence.follow(stop, follow).await;
    }

    /// The tenant's audit entries that match, as they are written: those after the entry at `after` first, or, if it is
    /// `None`, those written from now on. They are not filtered by `subject`.
    ///
    /// Ends with an error as soon as the caller's session ends or the caller loses one of `permissions`; with
    /// `CURSOR_INVALID` if the log does not contain the entry at `after`; and with `NOT_FOUND` if the tenant has no
    /// system `subject` and had none at `after`.
    pub fn entries(
        self: &Arc<Self>,
        caller: &Caller,
        permissions: Permissions,
        subject: Subject,
        after: Option<AuditPosition>,
        matches: impl Fn(&AuditEntry) -> bool + Send + Sync + 'static,
    ) -> impl Stream<Item = Result<Arc<AuditEntry>, Error>> + Send + 'static {
        let subscription = CallerSubscription::new(self, caller, Topic::Changes, Some(permissions));
        let entries = EntryStream {
            _subscriber: self.metrics.subscriber(),
            subscription,
            matches,
            is_behind: after.is_some(),
            place: Place::Start(Box::new((subject, after))),
            ready: VecDeque::new(),
            has_failed: false,
        };
        // `try_unfold` would have room for the state twice, in each subscriber.
        stream::unfold(entries, |mut entries| async move {
            if entries.has_failed {
                return None;
            }
            let entry = entries.next().await;
            entries.has_failed = entry.is_err();
            Some((entry, entries))
        })
    }

    /// Refuses a subscription to a system that the tenant does not have and that was not deleted after the entry with
    /// this number.
    async fn require_subject(&self, tenant: &TenantId, subject: Subject, after: u64) -> Result<(), Error> {
        let id = match subject {
            Subject::Tenant => return Ok(()),
            Subject::System(id) => id,
            Subject::Nothing => return Err(Refusal::SystemNotFound.into()),
        };
        if self.find_system(tenant, id).await?.is_some() {
            return Ok(());
        }
        match self.store.recheck_system(tenant, id).await? {
            SystemState::Present(_) => Ok(()),
            SystemState::Deleted if self.is_deleted_after(tenant, id, after).await? => Ok(()),
            SystemState::Deleted | SystemState::Unknown => Err(Refusal::SystemNotFound.into()),
        }
    }

    /// Whether a deleted system was deleted after the entry with this number.
    async fn is_deleted_after(&self, tenant: &TenantId, system: SystemId, number: u64) -> Result<bool, Error> {
        let deletions = AuditFilter::deletion_of(system);
        let last = self.store.list_audit(tenant, &deletions, &PageRequest::first(1)).await?.items.pop();
        // Through a failover this read may lack the entry, which the subscription then receives later.
        Ok(last.is_none_or(|deletion| deletion.number > number))
    }

    /// The caller, and again after each change of the caller's permission codes.
    pub fn caller_changes(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> impl Stream<Item = Result<Caller, Error>> + Send + use<> {
        let subscription = CallerSubscription::new(self, caller, Topic::Identities, None);
        stream::try_unfold((true, subscription), |(is_first, mut subscription)| async move {
            let before = (!is_first).then_some(subscription.caller.permissions());
            while before == Some(subscription.caller.permissions()) {
                subscription.next().await?;
            }
            Ok(Some((subscription.caller.clone(), (false, subscription))))
        })
    }

    /// Waits until the caller's session or token ends: it expires, is revoked or idle for too long, the caller signs out, the
    /// operator is removed, suspended or gets another password, or a tenant is suspended or deleted.
    ///
    /// Sets `is_checked` while it looks up whether a change has ended it.
    pub fn session_ended(
        self: &Arc<Self>,
        caller: &Caller,
        is_checked: Arc<AtomicBool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let now = self.environment.now();
        let left = caller.signed_in().map_or(Duration::MAX, |(_, session)| session.expires_at.since(now));
        let expires_at = Instant::now().checked_add(left);
        let left = move || expires_at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let mut subscription = CallerSubscription::new(self, caller, Topic::Identities, None);
        async move {
            loop {
                // One timer for both, since every socket has it.
                let wait = subscription.service.active_for(&subscription.caller).unwrap_or(Duration::MAX).min(left());
                let received = tokio::time::timeout(wait, subscription.receive()).await;
                if left().is_zero() {
                    return;
                }
                let event = received.unwrap_or(FeedEvent::Resumed);
                if !subscription.may_concern_caller(&event) {
                    continue;
                }
                is_checked.store(matches!(event, FeedEvent::Change(_)), Ordering::Relaxed);
                let refreshed = Box::pin(tokio::time::timeout(left(), subscription.refresh())).await;
                is_checked.store(false, Ordering::Relaxed);
                match refreshed {
                    Ok(Ok(())) => {}
                    Ok(Err(Error::Refused(_))) | Err(_) => return,
                    // An internal error does not end a session.
                    Ok(Err(_)) => tokio::time::sleep(RETRY_DELAY.min(left())).await,
                }
            }
        }
    }

    /// Waits until the cache can be used again after the feed was lost, or for [`MAX_CACHE_WAIT`], and then for a random
    /// time. Otherwise thousands of subscribers would read the store at the same time, and delay the load of the cache.
    /// Returns immediately if the cache can be used.
    async fn wait_for_cache(&self) {
        let is_used = || self.coherence.read(|_| ()).is_some();
        if is_used() {
            return;
        }
        if self.coherence.has_cache() {
            let mut changes = self.coherence.changes();
            let used = async { while !is_used() && changes.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(MAX_CACHE_WAIT, used).await;
        }
        let delay = self.environment.rng().random_range(Duration::ZERO..RESUMPTION_SPREAD);
        tokio::time::sleep(delay).await;
    }
}

/// Repeats a request while the store is unavailable, which ends no session and no subscription.
pub(super) async fn retry_while_unavailable<T, E: Into<Error>, F: Future<Output = Result<T, E>>>(
    request: impl Fn() -> F,
) -> Result<T, Error> {
    loop {
        match request().await.map_err(Into::into) {
            Err(Error::Unavailable(cause)) => tracing::debug!(%cause, "store unavailable; subscriber retries"),
            result => return result,
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// What a subscription to audit entries is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The whole tenant.
    Tenant,
    System(SystemId),
    /// A system whose id is malformed.
    Nothing,
}

/// One subscriber's events, which end with the caller's session.
pub(super) struct CallerSubscription {
    pub service: Arc<Service>,
    events: broadcast::Receiver<FeedEvent>,
    /// Changes of identities in the caller's own tenant, for one who acts in another.
    home: Option<Box<broadcast::Receiver<FeedEvent>>>,
    /// As of the last refresh.
    pub caller: Caller,
    permissions: Option<Permissions>,
    /// Whether events may have been missed since the refresh. True at first, since the caller was looked up before
    /// the subscription began.
    needs_refresh: bool,
}

impl CallerSubscription {
    pub(super) fn new(
        service: &Arc<Service>,
        caller: &Caller,
        topic: fn(TenantId) -> Topic,
        permissions: Option<Permissions>,
    ) -> Self {
        let events = service.feed.subscribe(topic(caller.tenant.clone()));
        let is_away = caller.tenant != *caller.home();
        let home = is_away.then(|| Box::new(service.feed.subscribe(Topic::Identities(caller.home().clone()))));
        Self { service: Arc::clone(service), events, home, caller: caller.clone(), permissions, needs_refresh: true }
    }

    /// The next event. [`FeedEvent::Resumed`] whenever changes may have been missed.
    pub(super) async fn next(&mut self) -> Result<FeedEvent, Error> {
        let event = self.receive().await;
        if self.may_concern_caller(&event) {
            Box::pin(self.refresh()).await?;
        }
        Ok(event)
    }

    fn may_concern_caller(&self, event: &FeedEvent) -> bool {
        match event {
            FeedEvent::Change(change) => concerns(&self.caller, change),
            FeedEvent::Resumed => true,
        }
    }

    async fn receive(&mut self) -> FeedEvent {
        if self.needs_refresh {
            FeedEvent::Resumed
        } else {
            let received = match &mut self.home {
                None => self.events.recv().await,
                // Boxed, since few callers act in another tenant than their own.
                Some(home) => {
                    Box::pin(async {
                        loop {
                            tokio::select! {
                                event = self.events.recv() => break event,
                                change = home.recv() => match &change {
                                    Ok(FeedEvent::Change(change)) if !concerns(&self.caller, change) => {}
                                    // Missed events are found out about by refreshing the caller.
                                    _ => break Ok(FeedEvent::Resumed),
                                },
                            }
                        }
                    })
                    .await
                }
            };
            // Never closed: the subscription keeps the service, which keeps the sender.
            let event = received.unwrap_or(FeedEvent::Resumed);
            if let FeedEvent::Resumed = event {
                // Set before the wait, which may be cancelled.
                self.needs_refresh = true;
                // Boxed, since it is rarely needed.
                Box::pin(self.service.wait_for_cache()).await;
            }
            event
        }
    }

    /// Reads the entries after this number, in turn with the operator's heavy reads: a client may have thousands of
    /// subscriptions that begin at the first entry. In a task, since a subscriber that does not read its events is not
    /// polled, and would keep its turn.
    async fn read_in_turn(&self, after: u64) -> Result<Vec<AuditEntry>, StoreError> {
        let (service, caller) = (Arc::clone(&self.service), self.caller.clone());
        let read = tokio::spawn(async move {
            let _turn = service.concurrency.wait_for_turn(&caller).await;
            service.store.list_audit_after(&caller.tenant, after, MAX_ENTRIES_PER_READ).await
        });
        AbortOnDropHandle::new(read).await.map_err(|error| StoreError::Unavailable(error.into()))?
    }

    /// Takes the next event if it has arrived, and returns its entry.
    fn take_entry(&mut self) -> Option<Arc<AuditEntry>> {
        match self.try_receive()? {
            FeedEvent::Change(change) => change.entry.clone(),
            FeedEvent::Resumed => None,
        }
    }

    /// Drops the events that have arrived.
    fn skip(&mut self) {
        while self.try_receive().is_some() {}
    }

    /// The next event if it has arrived. If it may concern the caller, the next call of [`next`](Self::next) refreshes them.
    fn try_receive(&mut self) -> Option<FeedEvent> {
        let event = match self.events.try_recv() {
            Ok(event) => event,
            Err(TryRecvError::Lagged(_)) => FeedEvent::Resumed,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
        };
        self.needs_refresh |= self.may_concern_caller(&event);
        Some(event)
    }

    /// Looks the caller up again. Returns an error unless the session is valid and has the permissions. Its future is large:
    /// box it where it would be a part of each subscriber.
    pub(super) async fn refresh(&mut self) -> Result<(), Error> {
        // Stays set if this fails.
        self.needs_refresh = true;
        self.caller = retry_while_unavailable(|| self.service.refresh_caller(&self.caller)).await?;
        self.needs_refresh = false;
        let mut permissions = self.permissions.iter().flat_map(|permissions| permissions.iter());
        Ok(permissions.try_for_each(|permission| self.caller.check(permission))?)
    }
}

/// Whether the change may end the caller's session or token, or what the caller may do.
fn concerns(caller: &Caller, change: &Change) -> bool {
    let is_callers = |write: &Write| match (write, &caller.identity) {
        (Write::Put(Row::Operator(row)), Identity::Operator { operator, .. }) => row.id == operator.id,
        (Write::Put(Row::Token(row)), Identity::Token { token, .. }) => row.id == token.id,
        (Write::Put(Row::Tenant(_)) | Write::Delete(RowId::Tenant(_)), _) => true,
        (Write::Delete(RowId::Operator(id)), Identity::Operator { operator, .. }) => *id == operator.id,
        (Write::Delete(RowId::Session(id)), Identity::Operator { session, .. }) => *id == session.id,
        (Write::Delete(RowId::Token(id)), Identity::Token { token, .. }) => *id == token.id,
        _ => false,
    };
    change.writes.iter().any(is_callers)
}

/// Where a stream of entries is in the log.
enum Place {
    /// It has not begun: what it is about, and the entry after which it begins.
    Start(Box<(Subject, Option<AuditPosition>)>),
    /// After the last entry that was returned or did not match, which has this number.
    After(u64),
}

struct EntryStream<M> {
    _subscriber: Subscriber,
    subscription: CallerSubscription,
    matches: M,
    place: Place,
    /// Entries that were received and not returned yet.
    ready: VecDeque<Arc<AuditEntry>>,
    /// Whether the log may have more entries after `ready`.
    is_behind: bool,
    /// Whether an error was returned, which ends the stream.
    has_failed: bool,
}

impl<M: Fn(&AuditEntry) -> bool> EntryStream<M> {
    async fn next(&mut self) -> Result<Arc<AuditEntry>, Error> {
        let mut last = match &self.place {
            Place::After(number) => *number,
            // Boxed, since it is needed once.
            Place::Start(start) => Box::pin(self.find_start(start)).await?,
        };
        self.place = Place::After(last);
        loop {
            if self.is_behind {
                // The log has whatever is dropped here, and is read afterwards.
                self.subscription.skip();
                if self.ready.is_empty() {
                    let read = || self.subscription.read_in_turn(last);
                    // Boxed, since it is rarely needed.
                    self.ready = Box::pin(retry_while_unavailable(read)).await?.into_iter().map(Arc::new).collect();
                    if self.ready.front().is_some_and(|next| next.number > last + 1) {
                        // The entries in between were archived.
                        return Err(Refusal::CursorInvalid.into());
                    }
                    self.is_behind = !self.ready.is_empty();
                }
            }
            if let Some(entry) = self.ready.pop_front() {
                last = entry.number;
                self.place = Place::After(last);
                if !(self.matches)(&entry) {
                    continue;
                }
                // Before each entry: none is delivered to a session that has ended, however late the client reads.
                Box::pin(self.subscription.refresh()).await?;
                return Ok(entry);
            }
            match self.subscription.next().await? {
                FeedEvent::Resumed => {
                    // All subscribers share reads of the log's end, and most find that they have missed nothing.
                    let head = || self.subscription.service.store.audit_head(self.tenant());
                    // Boxed, since it is rarely needed.
                    if Box::pin(retry_while_unavailable(head)).await?.number > last {
                        // What was written after the feed was opened may have arrived already.
                        match self.subscription.take_entry() {
                            Some(entry) if entry.number == last + 1 => self.ready.push_back(entry),
                            _ => self.is_behind = true,
                        }
                    }
                }
                FeedEvent::Change(change) => match &change.entry {
                    Some(entry) if entry.number == last + 1 => self.ready.push_back(Arc::clone(entry)),
                    Some(entry) => self.is_behind = entry.number > last,
                    None => {}
                },
            }
        }
    }

    /// The number of the entry after which the stream begins.
    async fn find_start(&self, (subject, after): &(Subject, Option<AuditPosition>)) -> Result<u64, Error> {
        let service = &self.subscription.service;
        let number = match after {
            Some(after) => retry_while_unavailable(|| service.find_position(self.tenant(), after)).await?,
            None => service.store.audit_head(self.tenant()).await?.number,
        };
        retry_while_unavailable(|| service.require_subject(self.tenant(), *subject, number)).await?;
        Ok(number)
    }

    fn tenant(&self) -> &TenantId {
        &self.subscription.caller.tenant
    }
}
