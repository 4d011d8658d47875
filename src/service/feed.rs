//! Changes as they happen: one follower of the store's feed, and the streams that subscribers are given of it.
//!
//! Each tenant's subscribers have channels of their own: a change wakes those whom it may concern, and no others.
//!
//! A stream of entries is put together from the audit log and the feed by the entries' numbers: what the feed has
//! not brought is read from the log. So nothing is lost and nothing comes twice, whatever happens to the feed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, Stream, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::metrics::Subscriber;
use super::{Caller, Service};
use crate::coherence::FeedEvent;
use crate::domain::audit::AuditEntry;
use crate::domain::changes::{Change, RowId, Write};
use crate::domain::ids::TenantId;
use crate::domain::permissions::Permission;

/// Changes that a slow subscriber may be behind before it has to read the log; each tenant with subscribers keeps them.
const CHANGES_KEPT: usize = 128;
/// Those of people, who are looked up anew by whoever missed one.
const IDENTITY_CHANGES_KEPT: usize = 8;
/// Entries that a subscriber who is behind reads at once, and so holds at most.
const ENTRIES_A_READ: usize = 32;
/// How long to wait before a store that could not be reached is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What subscribers are told of the feed.
#[derive(Clone)]
enum News {
    /// A change, and its entry as all of them share it.
    Change(Arc<Change>, Arc<AuditEntry>),
    /// Changes may have been missed.
    Resumed,
}

/// What a channel tells of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Topic {
    /// All changes of the tenant.
    Changes(TenantId),
    /// Those of its operators and sessions: every socket listens to them, and they are rare.
    Identities(TenantId),
}

/// Hands the feed to subscribers: a channel for each topic that somebody listens to.
#[derive(Default)]
pub struct FeedChannels(Mutex<HashMap<Topic, broadcast::Sender<News>>>);

impl FeedChannels {
    fn subscribe(&self, topic: Topic) -> broadcast::Receiver<News> {
        let mut channels = self.channels();
        match channels.get(&topic) {
            Some(channel) => channel.subscribe(),
            None => {
                if channels.len() == channels.capacity() {
                    channels.retain(|_, channel| channel.receiver_count() > 0);
                }
                let (channel, news) = broadcast::channel(match topic {
                    Topic::Changes(_) => CHANGES_KEPT,
                    Topic::Identities(_) => IDENTITY_CHANGES_KEPT,
                });
                channels.insert(topic, channel);
                news
            }
        }
    }

    fn tell(&self, heard: FeedEvent) {
        // Sent without the lock: to wake thousands takes its time.
        let (news, channels): (News, Vec<broadcast::Sender<News>>) = match heard {
            FeedEvent::Change(change) => {
                // One without an entry removes what is past its time, and is no news to anybody.
                let Some(entry) = change.entry.clone().map(Arc::new) else { return };
                let affects_identity = change.writes.iter().any(Write::affects_identity);
                let identities = affects_identity.then(|| Topic::Identities(entry.tenant.clone()));
                let topics = identities.into_iter().chain([Topic::Changes(entry.tenant.clone())]);
                let channels = self.channels();
                (News::Change(change, entry), topics.filter_map(|topic| channels.get(&topic).cloned()).collect())
            }
            FeedEvent::Resumed => (News::Resumed, self.channels().values().cloned().collect()),
        };
        for channel in channels {
            // Where nobody listens any more, nobody hears it.
            let _ = channel.send(news.clone());
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Topic, broadcast::Sender<News>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Follows the store's feed until it is told to stop.
    pub async fn follow_feed(&self, stop: CancellationToken) {
        self.coherence.follow(stop, |heard| self.feed.tell(heard)).await;
    }

    /// The tenant's entries as they are written: those after number `after` first, or, without one, those written
    /// from now on. Ends with an error as soon as the caller's session ends or lacks `permission`.
    pub fn entries(
        self: &Arc<Self>,
        caller: &Caller,
        permission: Permission,
        after: Option<u64>,
    ) -> impl Stream<Item = Result<Arc<AuditEntry>, Error>> + Send + use<> {
        let watch = Watch::new(self, caller, Topic::Changes, Some(permission));
        let subscriber = self.metrics.subscriber();
        let start =
            Entries { _subscriber: subscriber, watch, last: after, ready: VecDeque::new(), behind: after.is_some() };
        stream::try_unfold(start, |mut entries| async move {
            let entry = entries.next().await?;
            Ok(Some((entry, entries)))
        })
    }

    /// The caller, and again after each change of their permission codes.
    pub fn caller_changes(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> impl Stream<Item = Result<Caller, Error>> + Send + use<> {
        let watch = Watch::new(self, caller, Topic::Identities, None);
        stream::try_unfold((true, watch), |(first, mut watch)| async move {
            let before = (!first).then_some(watch.caller.operator.permissions);
            while before == Some(watch.caller.operator.permissions) {
                watch.next().await?;
            }
            Ok(Some((watch.caller.clone(), (false, watch))))
        })
    }

    /// Waits until the caller's session is over: signed out, its operator removed or given another password, or
    /// past its end.
    pub fn session_ended(self: &Arc<Self>, caller: &Caller) -> impl Future<Output = ()> + Send + use<> {
        let left = caller.session.expires_at.since(self.environment.now());
        let mut watch = Watch::new(self, caller, Topic::Identities, None);
        let ended = async move {
            loop {
                match watch.next().await {
                    Ok(_) => {}
                    Err(Error::Refused(_)) => return,
                    // A fault of ours does not end a session.
                    Err(_) => tokio::time::sleep(RETRY_AFTER).await,
                }
            }
        };
        tokio::time::timeout(left, ended).map(drop)
    }
}

/// What the store answers, once it does: one that cannot be reached ends no session and no subscription.
async fn in_time<T, E: Into<Error>, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    loop {
        match ask().await.map_err(Into::into) {
            Err(Error::Unavailable(cause)) => tracing::debug!(%cause, "a subscriber waits for the store"),
            answered => return answered,
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// One subscriber's view of the feed, which ends with the caller's session.
struct Watch {
    service: Arc<Service>,
    news: broadcast::Receiver<News>,
    /// As they were when they were looked up last.
    caller: Caller,
    permission: Option<Permission>,
    /// Whether something may have happened that was not heard: as at the start, since `caller` was looked up before
    /// the feed was listened to.
    stale: bool,
}

/// What a watch gives.
enum Step {
    Change(Arc<Change>, Arc<AuditEntry>),
    /// Changes were missed.
    Gap,
}

impl Watch {
    fn new(
        service: &Arc<Service>,
        caller: &Caller,
        topic: fn(TenantId) -> Topic,
        permission: Option<Permission>,
    ) -> Self {
        let news = service.feed.subscribe(topic(caller.operator.tenant.clone()));
        Self { service: Arc::clone(service), news, caller: caller.clone(), permission, stale: true }
    }

    async fn next(&mut self) -> Result<Step, Error> {
        let step = if self.stale {
            Step::Gap
        } else {
            match self.news.recv().await {
                Ok(News::Change(change, entry)) => Step::Change(change, entry),
                // The service that keeps the sender is kept by this very watch.
                Ok(News::Resumed) | Err(RecvError::Lagged(_) | RecvError::Closed) => Step::Gap,
            }
        };
        let concerned = match &step {
            Step::Change(change, _) => change.writes.iter().any(|write| self.concerns_caller(write)),
            Step::Gap => true,
        };
        if concerned {
            self.check().await?;
        }
        Ok(step)
    }

    /// Takes what the feed has brought meanwhile, without waiting for more.
    fn skip(&mut self) {
        while let Ok(_) | Err(TryRecvError::Lagged(_)) = self.news.try_recv() {}
    }

    fn concerns_caller(&self, write: &Write) -> bool {
        let Caller { operator, session } = &self.caller;
        match write {
            Write::Put(row) => row.id() == RowId::Operator(operator.id),
            Write::Delete(id) => *id == RowId::Operator(operator.id) || *id == RowId::Session(session.id),
        }
    }

    /// Ends the watch unless the caller's session stands, with the permission. Whoever was answered that it does not
    /// was answered before a later check.
    async fn check(&mut self) -> Result<(), Error> {
        self.stale = true;
        self.caller = in_time(|| self.service.refresh_caller(&self.caller)).await?;
        self.stale = false;
        self.permission.map_or(Ok(()), |permission| Ok(self.caller.check(permission)?))
    }
}

/// A stream of entries: the number of the last one given, those read and not given yet, and whether the log may
/// hold more.
struct Entries {
    _subscriber: Subscriber,
    watch: Watch,
    last: Option<u64>,
    ready: VecDeque<Arc<AuditEntry>>,
    behind: bool,
}

impl Entries {
    async fn next(&mut self) -> Result<Arc<AuditEntry>, Error> {
        let last = match self.last {
            Some(number) => number,
            None => self.watch.service.store.audit_head(self.tenant()).await?.number,
        };
        self.last = Some(last);
        loop {
            if self.behind {
                // Whatever this takes from the feed is in the log, which is read afterwards.
                self.watch.skip();
                if self.ready.is_empty() {
                    let store = &self.watch.service.store;
                    let read = in_time(|| store.list_audit_after(self.tenant(), last, ENTRIES_A_READ)).await?;
                    self.ready = read.into_iter().map(Arc::new).collect();
                    self.behind = !self.ready.is_empty();
                }
            }
            if let Some(entry) = self.ready.pop_front() {
                // Once more for each: nothing is told to a session that has ended by then, however late this is.
                self.watch.check().await?;
                self.last = Some(entry.number);
                return Ok(entry);
            }
            match self.watch.next().await? {
                Step::Gap => self.behind = true,
                Step::Change(_, entry) if entry.number == last + 1 => self.ready.push_back(entry),
                Step::Change(_, entry) => self.behind = entry.number > last,
            }
        }
    }

    fn tenant(&self) -> &TenantId {
        &self.watch.caller.operator.tenant
    }
}
