//! Changes as they happen: one follower of the store's feed, and the streams that subscribers are given of it.
//!
//! Each tenant's subscribers have a channel of their own: a change wakes those whom it may concern, and no others.
//!
//! A stream of entries is put together from the audit log and the feed by the entries' numbers: what the feed has
//! not brought is read from the log. So nothing is lost and nothing comes twice, whatever happens to the feed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::figures::Subscriber;
use super::{Caller, Service};
use crate::auth::tokens::Named;
use crate::coherence::Heard;
use crate::domain::audit::AuditEntry;
use crate::domain::changes::{Change, RowId, Write};
use crate::domain::ids::TenantId;
use crate::domain::permissions::Permission;
use crate::domain::refusal::Refusal;

/// Changes that a slow subscriber may be behind before it has to read the log; each tenant with subscribers keeps them.
const CHANGES_KEPT: usize = 128;
/// Entries that a subscriber who is behind reads at once, and so holds at most.
const ENTRIES_A_READ: usize = 32;
/// How long to wait before a store that could not be reached is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What subscribers are told of the feed.
#[derive(Clone)]
enum News {
    /// A change, and its entry as all of them share it.
    Change(Arc<Change>, Option<Arc<AuditEntry>>),
    /// Changes may have been missed.
    Resumed,
}

/// Hands the feed to subscribers: a channel for each tenant that has any.
#[derive(Default)]
pub struct Changes(Mutex<HashMap<TenantId, broadcast::Sender<News>>>);

impl Changes {
    fn subscribe(&self, tenant: &TenantId) -> broadcast::Receiver<News> {
        let mut channels = self.channels();
        match channels.get(tenant) {
            Some(channel) => channel.subscribe(),
            None => {
                let (channel, news) = broadcast::channel(CHANGES_KEPT);
                channels.insert(tenant.clone(), channel);
                news
            }
        }
    }

    /// A change with an entry is one of the entry's tenant; one without may be of several.
    fn tell(&self, heard: Heard) {
        let news = match heard {
            Heard::Change(change) => {
                let entry = change.entry.clone().map(Arc::new);
                News::Change(change, entry)
            }
            Heard::Resumed => News::Resumed,
        };
        let mut channels = self.channels();
        let News::Change(_, Some(entry)) = &news else {
            channels.retain(|_, channel| channel.send(news.clone()).is_ok());
            return;
        };
        // Sent without the lock: to wake thousands takes its time.
        let Some(channel) = channels.get(&entry.tenant).cloned() else { return };
        drop(channels);
        let tenant = entry.tenant.clone();
        if channel.send(news).is_err() {
            // Somebody may have come meanwhile.
            let mut channels = self.channels();
            if channels.get(&tenant).is_some_and(|channel| channel.receiver_count() == 0) {
                channels.remove(&tenant);
            }
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<TenantId, broadcast::Sender<News>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Follows the store's feed until it is told to stop.
    pub async fn follow_feed(&self, stop: CancellationToken) {
        self.coherence.follow(stop, |heard| self.changes.tell(heard)).await;
    }

    /// The tenant's entries as they are written: those after number `after` first, or, without one, those written
    /// from now on. Ends with an error as soon as the caller's session ends or lacks `permission`.
    pub fn entries(
        self: &Arc<Self>,
        caller: &Caller,
        permission: Permission,
        after: Option<u64>,
    ) -> impl Stream<Item = Result<Arc<AuditEntry>, Error>> + Send + use<> {
        let watch = Watch::new(self, caller, Some(permission));
        let subscriber = self.figures.subscriber();
        let start =
            Entries { _subscriber: subscriber, watch, last: after, ready: VecDeque::new(), behind: after.is_some() };
        stream::unfold(Some(start), |entries| async {
            let mut entries = entries?;
            match entries.next().await {
                Ok(entry) => Some((Ok(entry), Some(entries))),
                Err(Ended::Failed(error)) => Some((Err(error), None)),
                Err(Ended::Closed) => None,
            }
        })
    }

    /// The caller, and again after each change of their permission codes.
    pub fn caller_changes(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> impl Stream<Item = Result<Caller, Error>> + Send + use<> {
        let watch = Watch::new(self, caller, None);
        stream::unfold((true, Some(watch)), |(first, watch)| async move {
            let mut watch = watch?;
            if first {
                return Some((Ok(watch.caller.clone()), (false, Some(watch))));
            }
            loop {
                let before = watch.caller.operator.permissions;
                match watch.next().await {
                    Ok(_) if watch.caller.operator.permissions == before => {}
                    Ok(_) => return Some((Ok(watch.caller.clone()), (false, Some(watch)))),
                    Err(Ended::Failed(error)) => return Some((Err(error), (false, None))),
                    Err(Ended::Closed) => return None,
                }
            }
        })
    }

    /// Waits until the caller's session is over: signed out, its operator removed or given another password, or
    /// past its end.
    pub async fn session_ended(self: Arc<Self>, caller: Caller) {
        let left = caller.session.expires_at.since(self.environment.now());
        let mut watch = Watch::new(&self, &caller, None);
        let ended = async {
            loop {
                match watch.next().await {
                    Ok(_) => {}
                    Err(Ended::Closed | Ended::Failed(Error::Refused(_))) => return,
                    // A store that cannot be reached does not end a session.
                    Err(Ended::Failed(_)) => tokio::time::sleep(RETRY_AFTER).await,
                }
            }
        };
        let _ = tokio::time::timeout(left, ended).await;
    }
}

/// Why a watch ends.
enum Ended {
    Failed(Error),
    /// Keymark is going away.
    Closed,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
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
    Change(Arc<Change>, Option<Arc<AuditEntry>>),
    /// Changes were missed.
    Gap,
}

impl Watch {
    fn new(service: &Arc<Service>, caller: &Caller, permission: Option<Permission>) -> Self {
        let news = service.changes.subscribe(&caller.operator.tenant);
        Self { service: Arc::clone(service), news, caller: caller.clone(), permission, stale: true }
    }

    async fn next(&mut self) -> Result<Step, Ended> {
        let step = if self.stale {
            Step::Gap
        } else {
            match self.news.recv().await {
                Ok(News::Change(change, entry)) => Step::Change(change, entry),
                Ok(News::Resumed) | Err(RecvError::Lagged(_)) => Step::Gap,
                Err(RecvError::Closed) => return Err(Ended::Closed),
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
    fn skip(&mut self) -> Result<(), Ended> {
        loop {
            match self.news.try_recv() {
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(Ended::Closed),
            }
        }
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
        let named = Named { session: self.caller.session.id, operator: self.caller.operator.id };
        self.caller = self.service.find_caller(named).await?.ok_or(Refusal::Unauthenticated)?;
        self.stale = false;
        match self.permission {
            Some(permission) if !self.caller.operator.permissions.contains(permission) => {
                Err(Refusal::Forbidden(permission).into())
            }
            _ => Ok(()),
        }
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
    async fn next(&mut self) -> Result<Arc<AuditEntry>, Ended> {
        let last = match self.last {
            Some(number) => number,
            None => self.watch.service.store.audit_head(self.tenant()).await.map_err(Error::from)?.number,
        };
        self.last = Some(last);
        loop {
            if self.behind {
                // Whatever this takes from the feed is in the log, which is read afterwards.
                self.watch.skip()?;
                if self.ready.is_empty() {
                    let store = &self.watch.service.store;
                    let read =
                        store.list_audit_after(self.tenant(), last, ENTRIES_A_READ).await.map_err(Error::from)?;
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
                Step::Change(_, entry) => match entry {
                    Some(entry) if entry.number == last + 1 => self.ready.push_back(entry),
                    Some(entry) => self.behind = entry.number > last,
                    None => {}
                },
            }
        }
    }

    fn tenant(&self) -> &TenantId {
        &self.watch.caller.operator.tenant
    }
}
