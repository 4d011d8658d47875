//! The lease protocol: a state machine that decides when this instance may serve from its cache, and when a change is
//! enforced on every instance. It does no I/O and never blocks; [`Coherence`](super::Coherence) drives it.
//!
//! Each instance renews its lease by writing a *probe* to the store: an update of its lease document. When the probe
//! arrives in the instance's own feed, everything committed before the probe is in the cache, so the instance may
//! serve from the cache until `s + L`, where `s` is its clock just before it sent the probe and `L` the length of its
//! leases, which each of them states. A change is *enforced* once every instance that may still serve from a cache
//! without the change has either acknowledged it or lost its lease: see [`Protocol::take_enforced`].
//! `docs/model/lease.pml` is a model of this protocol.
//!
//! An instance receives its own leases from the feed, and reads those of the others in *listings* of all leases. Each
//! probe that renews a lease is a write of it, so a listing as of the change's position in the feed or later contains
//! every lease from before the change, unless it was deleted. A lease is deleted only when no cache is used under it any
//! more: by its own process, which has dropped the cache, or by another, if it has not changed since it ended
//! ([`Protocol::stale_leases`]). So the instances to wait for are those in the first such listing that have not applied
//! the change; later listings are read until all of these have, are gone, or have lost their leases. If the change was
//! not received from the feed, it waits for the longest lease in a listing that began after the commit was acknowledged.
//!
//! A lease that is found unchanged was renewed by no probe since: a probe takes effect at most once, so an earlier one
//! cannot replace a later one and then be found again. So every probe from before a listing was sent before its lease
//! was first found as it is, and the lease ends that much earlier.
//!
//! The driver must keep this order:
//!
//! - The cache is changed *before* [`applied`](Protocol::applied) is called, since the next probe acknowledges the
//!   change to the other instances.
//! - [`start_probe`](Protocol::start_probe) is called *before* the probe is sent.
//! - The clock is read *after* the event that it dates: after a change was received from the feed, after the leases
//!   were read, after a commit was acknowledged. Only for a probe is it read before, as the probe must not be dated
//!   later than it was sent.
//! - [`start_listing`](Protocol::start_listing) is called *before* the leases are read, and the setting that
//!   [`Leases::longest`] comes from is read *after* them.
//! - A lease is deleted *after* its cache was dropped.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;
use crate::domain::ids::AuditEntryId;
use crate::domain::leases::{Incarnation, Lease, LogTime, MAX_LEASE};

/// Probes sent but not yet received from the feed, of which the newest are kept. One is sent at a time, so there is
/// more than one only if the outcome of a write was unknown.
const MAX_OUTSTANDING_PROBES: usize = 64;
/// An instance that has not renewed its lease for this many lease lengths is gone, and its lease is removed.
const STALE_AFTER_LEASES: u32 = 10;
/// A failed probe or listing is retried after the probe interval divided by this. A change that was not received from
/// the feed after the same time makes a listing necessary: usually it is received within some 10 ms. Nor are the leases
/// listed less often than this while a change waits for an instance.
const RETRY_DIVISOR: u32 = 10;
/// While a change waits, no listing follows another sooner than the probe interval divided by this: 2 ms. The first
/// begins when an acknowledgement of this instance is stored, which takes 5 ms in the median. By then most others are. The
/// delay grows by a quarter, or by this if that is more, so that an acknowledgement is found at most a quarter of its time
/// late.
const MIN_LISTING_DIVISOR: u32 = 500;
/// Otherwise the leases are listed after two to four probe intervals, by which an instance that has crashed is noticed
/// before a change waits for it.
const LISTING_PROBE_INTERVALS: u32 = 2;
/// Interval of the probes of a standalone process, sent only while a change waits for one.
pub(super) const STANDALONE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Former incarnations of this instance that are kept, so that their late probes are recognized.
const MAX_FORMER_INCARNATIONS: usize = 64;

/// Whether a test has planted this bug.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        super::planted_bugs::is_planted(super::planted_bugs::Bug::$bug)
    };
}
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// How long the leases of this instance last and how often they are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub lease: Duration,
    pub probe_interval: Duration,
}

/// How long to wait until a lease of this length has expired on every clock: 1 % longer, because the oscillators of two
/// machines differ (by some 100 ppm). Slewing and sleep need no margin: see [`Moment`].
pub fn with_margin(length: Duration) -> Duration {
    if planted!(Drift) {
        return length;
    }
    length + length / 100
}

/// The leases of all instances, as they were read from the store.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    pub leases: Vec<Lease>,
    /// The longest lease that the store's setting states, as it was read after the leases. Leases that state no length
    /// are not longer. Zero if there are none.
    pub longest: Duration,
}

/// A listing of the leases that is to begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It sees every lease that was put before it began.
    Current,
    /// It sees every lease that was put up to this position.
    At(LogTime),
}

/// How a process takes part in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The only process on its store: it may serve from its cache while the feed is intact, and waits for no other instance.
    Standalone,
    /// The only process on its store, without a cache: a commit is enforced immediately.
    Uncached,
    /// One of several instances that serve from a cache. With leases of length zero it never does.
    Member(Timing),
    /// Makes changes but has no cache, such as a command run beside a server.
    Observer(Timing),
}

impl Role {
    /// The timing of this process; `None` where there are no other instances.
    pub fn timing(self) -> Option<Timing> {
        match self {
            Self::Standalone | Self::Uncached => None,
            Self::Member(timing) | Self::Observer(timing) => Some(timing),
        }
    }

    /// Whether this process holds a lease, so that others wait for its acknowledgements.
    fn holds_leases(self) -> bool {
        !self.lease().is_zero()
    }

    /// The length of the leases that this process holds.
    fn lease(self) -> Duration {
        match self {
            Self::Member(timing) => timing.lease,
            Self::Standalone | Self::Uncached | Self::Observer(_) => Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingChangeId(u64);

/// A pending change that has been enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    pub change: PendingChangeId,
    /// Time from the acknowledged commit until the change was known to be enforced.
    pub elapsed: Duration,
    /// Instances that acknowledged the change or no longer hold a lease from before it, including this one.
    pub instances: u32,
}

/// An event of the store's feed, reduced to what the protocol needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// A batch with its audit entry. `requires_ack` if its author may be waiting until it is enforced.
    Entry {
        id: AuditEntryId,
        requires_ack: bool,
    },
    Lease(Lease),
    Other,
}

/// The event of the feed at which a pending change, or the change that it repeats, is known to be applied.
#[derive(Clone, Copy, Debug)]
enum AwaitedEvent {
    /// The change's own audit entry, which is the last write of its batch.
    Entry(AuditEntryId),
    /// Any probe of this instance with a greater sequence number: it was sent after the change was acknowledged.
    /// `None` until the change is acknowledged.
    ProbeAfter(Option<u64>),
}

/// A change that is being committed, or a repeat of one that already has been.
struct PendingChange {
    awaits: AwaitedEvent,
    /// When the commit was acknowledged.
    committed: Option<Moment>,
    earlier: EarlierLeases,
    /// Set once the awaited event was received.
    acks: Option<AckWait>,
}

/// What is known of the leases that instances hold from before a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EarlierLeases {
    Unknown,
    /// A listing is under way that began after the commit was acknowledged.
    BeingListed,
    /// None of them is longer.
    AtMost(Duration),
}

/// The acknowledgements that a pending change waits for.
struct AckWait {
    /// Position of the awaited event. A lease that has applied this acknowledges the change.
    position: LogTime,
    /// Instances that have not acknowledged the change, each with the time when a lease from before the awaited event
    /// has ended. `None` until the leases were listed.
    missing: Option<BTreeMap<Incarnation, Moment>>,
    /// Instances that had to acknowledge the change, including this one.
    instances: u32,
    /// A listing is under way that began after the awaited event was received.
    is_being_listed: bool,
    /// The time before which no listing begins for this change, and the delay of the next one if it is still needed then.
    next_listing: Moment,
    delay: Duration,
}

/// Another instance.
struct Peer {
    lease: Lease,
    /// When the lease was first found as it is.
    found_at: Moment,
    length: Duration,
    /// It came in the feed since the last listing began, which may not contain it.
    is_from_feed: bool,
}

impl Peer {
    /// When the lease has ended on every clock.
    fn end(&self) -> Moment {
        self.found_at.plus(with_margin(self.length))
    }

    /// Whether it may hold a lease from before the position, where it was listed.
    fn may_lack(&self, position: LogTime, now: Moment) -> bool {
        self.lease.applied < position && !is_over(now, self.end())
    }
}

/// Another instance, as far as this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherInstance {
    pub incarnation: Incarnation,
    /// Time since its last lease was found.
    pub renewed: Duration,
    /// Whether it ever serves from a cache.
    pub has_cache: bool,
    /// Whether its last lease may not have ended.
    pub has_lease: bool,
}

/// The state of one incarnation of this instance: from the opening of a feed until the feed is lost.
struct IncarnationState {
    id: Incarnation,
    is_loaded: bool,
    applied: LogTime,
    deadline: Option<Moment>,
    /// Time from sending a probe until it arrived in the feed, of the last one that did.
    round_trip: Option<Duration>,
    /// Sequence number of the last probe sent.
    sequence: u64,
    /// Sequence numbers of the outstanding probes, and when each was sent.
    sent: VecDeque<(u64, Moment)>,
    in_flight: Option<u64>,
    next_probe: Moment,
    /// A probe is to be sent as soon as possible, without waiting for `next_probe`.
    is_probe_requested: bool,
    peers: BTreeMap<Incarnation, Peer>,
    /// When the next listing is due, if no change needs one before.
    next_listing: Moment,
    /// Leases that former incarnations of this instance have left in the store.
    leftovers: Vec<Lease>,
}

/// The protocol state of one process.
pub struct Protocol {
    role: Role,
    /// `None` while there is no feed.
    current: Option<IncarnationState>,
    /// Earlier incarnations of this process, newest first. Their caches no longer exist, so nothing waits for them.
    former: VecDeque<Incarnation>,
    changes: BTreeMap<PendingChangeId, PendingChange>,
    next_change: u64,
    /// The longest lease of the store known to this process. It is kept when the feed is lost.
    longest: Duration,
    is_listing: bool,
    /// The time before which no listing begins for changes that were not received from the feed.
    next_current_listing: Moment,
}

impl Protocol {
    pub fn new(role: Role) -> Self {
        Self {
            role,
            current: None,
            former: VecDeque::new(),
            changes: BTreeMap::new(),
            next_change: 0,
            longest: role.lease(),
            is_listing: false,
            next_current_listing: Moment::START,
        }
    }

    /// A feed was opened, and the loading of the cache begins.
    pub fn opened(&mut self, incarnation: Incarnation, now: Moment) {
        debug_assert!(self.current.is_none(), "`lost` is called before the next feed is opened");
        self.current = Some(IncarnationState {
            id: incarnation,
            is_loaded: false,
            applied: LogTime::default(),
            deadline: None,
            round_trip: None,
            sequence: 0,
            sent: VecDeque::new(),
            in_flight: None,
            next_probe: now,
            is_probe_requested: false,
            peers: BTreeMap::new(),
            next_listing: now,
            leftovers: Vec::new(),
        });
    }

    /// The cache contains everything that was committed up to the position at which this instance joined the feed, and
    /// the leases were listed after that.
    pub fn loaded(&mut self, now: Moment, joined: LogTime, listed: &Leases) {
        let awaits_probe = self.awaits_probe();
        self.take_over(listed, now);
        let Some(current) = &mut self.current else { return };
        current.is_loaded = true;
        current.applied = joined;
        current.is_probe_requested = awaits_probe;
        if self.role == Role::Standalone {
            current.deadline = Some(Moment::NEVER);
        }
    }

    /// Replaces what is known of other instances by what was listed.
    fn take_over(&mut self, listed: &Leases, now: Moment) {
        let lengths = listed.leases.iter().filter_map(|lease| lease.length);
        self.longest = lengths.fold(self.longest.max(listed.longest), Duration::max);
        let Some(current) = &mut self.current else { return };
        let others = listed.leases.iter().filter(|lease| lease.incarnation != current.id);
        let (leftovers, others): (Vec<_>, Vec<_>) = others.partition(|lease| self.former.contains(&lease.incarnation));
        current.leftovers = leftovers;
        let mut known = std::mem::take(&mut current.peers);
        for lease in others {
            let length = length_of(&lease, self.role, self.longest);
            let former = known.remove(&lease.incarnation);
            current.peers.insert(lease.incarnation, Peer::found(lease, length, former, now));
        }
        current.peers.extend(known.into_iter().filter(|(_, peer)| peer.is_from_feed));
        if let Some(timing) = self.role.timing() {
            let interval = timing.probe_interval * LISTING_PROBE_INTERVALS;
            current.next_listing = now.plus(interval + current.id.jitter(interval));
        }
    }

    /// The next event of the feed was applied to the cache.
    pub fn applied(&mut self, now: Moment, position: LogTime, event: LogEvent) {
        let Some(current) = &mut self.current else { return };
        // Events from before the instance joined are applied after it claims to have applied all of them, which is true:
        // the scan included them.
        current.applied = current.applied.max(position);
        match event {
            LogEvent::Entry { id, requires_ack } => {
                current.is_probe_requested |= requires_ack && self.role.holds_leases();
                for change in self.changes.values_mut() {
                    if matches!(change.awaits, AwaitedEvent::Entry(entry) if entry == id) {
                        change.wait_for_acks(position, current, self.role, now);
                    }
                }
            }
            LogEvent::Lease(lease)
                if lease.incarnation == current.id
                    || (planted!(FormerIncarnation) && self.former.contains(&lease.incarnation)) =>
            {
                let found = current.sent.iter().position(|(sequence, _)| *sequence == lease.sequence);
                if let Some(found) = found {
                    current.round_trip = Some(now.since(current.sent[found].1));
                }
                if let (Some(found), Role::Member(timing)) = (found, self.role) {
                    let from = if planted!(TtlStart) { now } else { current.sent[found].1 };
                    let until = from.plus(timing.lease);
                    current.deadline = Some(current.deadline.map_or(until, |deadline| deadline.max(until)));
                }
                for change in self.changes.values_mut() {
                    let is_awaited =
                        matches!(change.awaits, AwaitedEvent::ProbeAfter(Some(after)) if lease.sequence > after);
                    if is_awaited && change.acks.is_none() {
                        change.wait_for_acks(position, current, self.role, now);
                    }
                }
                self.acknowledged(&lease, now);
            }
            LogEvent::Lease(lease) if self.former.contains(&lease.incarnation) => {}
            LogEvent::Lease(lease) => {
                // Until a listing shows how long a lease is that states no length.
                let length = lease.length.unwrap_or(MAX_LEASE);
                let former = current.peers.remove(&lease.incarnation);
                let peer = Peer { is_from_feed: true, ..Peer::found(lease, length, former, now) };
                current.peers.insert(lease.incarnation, peer);
                current.is_probe_requested |= lease.requests_ack && self.role.holds_leases();
                for acks in self.changes.values_mut().filter_map(|change| change.acks.as_mut()) {
                    if let Some(missing) = &mut acks.missing
                        && lease.applied >= acks.position
                    {
                        missing.remove(&lease.incarnation);
                    }
                }
            }
            LogEvent::Other => {}
        }
    }

    /// A lease of this instance is stored. Those of the others that acknowledge the same changes should be as well.
    fn acknowledged(&mut self, lease: &Lease, now: Moment) {
        if !self.role.holds_leases() {
            return;
        }
        for acks in self.changes.values_mut().filter_map(|change| change.acks.as_mut()) {
            if acks.missing.is_none() && lease.applied >= acks.position {
                acks.next_listing = now;
            }
        }
    }

    /// The feed was lost, and the cache was dropped. Pending changes wait for a probe in the next feed, whether or not
    /// their awaited event was already received in this one. Returns true if the cache had been loaded.
    pub fn lost(&mut self) -> bool {
        let lost = self.current.take();
        let was_loaded = lost.as_ref().is_some_and(|lost| lost.is_loaded);
        if let Some(lost) = lost {
            self.former.truncate(MAX_FORMER_INCARNATIONS - 1);
            self.former.push_front(lost.id);
        }
        for change in self.changes.values_mut() {
            change.acks = None;
            // The next incarnation counts its probes from 1 again, and sends all of them after this.
            let is_committed = change.committed.is_some() || planted!(EarlyProbe);
            change.awaits = AwaitedEvent::ProbeAfter(is_committed.then_some(0));
        }
        was_loaded
    }

    /// Until when the cache may be used; `None` if it may not.
    pub fn deadline(&self) -> Option<Moment> {
        self.current.as_ref()?.deadline
    }

    /// A change with this audit entry is about to be committed.
    pub fn begin(&mut self, entry: AuditEntryId) -> PendingChangeId {
        // A feed that is opened later may begin after the entry.
        let awaits = if self.current.is_some() { AwaitedEvent::Entry(entry) } else { AwaitedEvent::ProbeAfter(None) };
        self.add(awaits)
    }

    /// A requested change was found to be committed already, at `now` or earlier.
    pub fn begin_repeat(&mut self, now: Moment) -> PendingChangeId {
        let id = self.add(AwaitedEvent::ProbeAfter(None));
        self.committed(id, now);
        id
    }

    fn add(&mut self, awaits: AwaitedEvent) -> PendingChangeId {
        let id = PendingChangeId(self.next_change);
        self.next_change += 1;
        let change = PendingChange { awaits, committed: None, earlier: EarlierLeases::Unknown, acks: None };
        self.changes.insert(id, change);
        id
    }

    /// The store has acknowledged the commit of the change.
    pub fn committed(&mut self, id: PendingChangeId, now: Moment) {
        let Some(change) = self.changes.get_mut(&id) else { return };
        change.committed = Some(now);
        if matches!(change.awaits, AwaitedEvent::ProbeAfter(None)) {
            let sequence = self.current.as_ref().map_or(0, |current| current.sequence);
            change.awaits = AwaitedEvent::ProbeAfter(Some(sequence));
            if let Some(current) = &mut self.current {
                current.is_probe_requested = true;
            }
        }
    }

    /// The change was not committed, or its caller no longer waits for it.
    pub fn abandon(&mut self, id: PendingChangeId) {
        self.changes.remove(&id);
    }

    /// Removes and returns the pending changes that are enforced.
    pub fn take_enforced(&mut self, now: Moment) -> Vec<Enforced> {
        let (role, longest, current) = (self.role, self.longest, self.current.as_ref());
        let mut enforced = Vec::new();
        self.changes.retain(|id, change| {
            let Some(committed) = change.committed else { return true };
            let Some(instances) = change.enforced_on(committed, now, role, longest, current) else { return true };
            enforced.push(Enforced { change: *id, elapsed: now.since(committed), instances });
            false
        });
        enforced
    }

    /// By when the change is enforced, as far as that is known; `None` if it waits for no lease.
    pub fn enforced_by(&self, id: PendingChangeId, now: Moment) -> Option<Moment> {
        self.role.timing()?;
        let change = self.changes.get(&id)?;
        let last = change.committed?.plus(with_margin(MAX_LEASE));
        change.ends(self.role).chain([last]).min_by_key(|end| now.until(*end))
    }

    /// The listing of the leases of all instances that is to begin now, if one is due. It must begin after this call.
    pub fn start_listing(&mut self, now: Moment) -> Option<Listing> {
        if self.is_listing || !self.listings_due().any(|due| now.has_reached(due)) {
            return None;
        }
        self.is_listing = true;
        let lists_current = self.current_listings_due().any(|due| now.has_reached(due));
        for peer in self.current.iter_mut().flat_map(|current| current.peers.values_mut()) {
            peer.is_from_feed = false;
        }
        for change in self.changes.values_mut() {
            if let Some(acks) = &mut change.acks {
                acks.is_being_listed = true;
            } else if lists_current && change.committed.is_some() && change.earlier == EarlierLeases::Unknown {
                change.earlier = EarlierLeases::BeingListed;
            }
        }
        let current = self.current.as_ref().filter(|_| !lists_current);
        Some(current.map_or(Listing::Current, |current| Listing::At(current.applied)))
    }

    /// The listing has ended; `None` if it failed.
    pub fn listing_ended(&mut self, listed: Option<&Leases>, now: Moment) {
        let Some(timing) = self.role.timing() else { return };
        self.is_listing = false;
        let (min_delay, max_delay) =
            (timing.probe_interval / MIN_LISTING_DIVISOR, timing.probe_interval / RETRY_DIVISOR);
        self.next_current_listing = now.plus(max_delay);
        let earlier = listed.map_or(EarlierLeases::Unknown, |listed| {
            self.take_over(listed, now);
            let lengths = listed.leases.iter().map(|lease| length_of(lease, self.role, self.longest));
            // Its own lease may be missing if others have deleted it, and is over then.
            EarlierLeases::AtMost(lengths.fold(self.role.lease(), Duration::max))
        });
        if listed.is_none()
            && let Some(current) = &mut self.current
        {
            current.next_listing = now.plus(max_delay);
        }
        for change in self.changes.values_mut() {
            if change.earlier == EarlierLeases::BeingListed {
                change.earlier = earlier;
            }
            let Some(acks) = &mut change.acks else { continue };
            if !std::mem::take(&mut acks.is_being_listed) && !planted!(UncoveredListing) {
                continue;
            }
            if let (Some(_), Some(current)) = (listed, &self.current) {
                change.earlier = EarlierLeases::AtMost(acks.listed(&current.peers, now));
            }
            acks.next_listing = now.plus(acks.delay);
            acks.delay = (acks.delay + (acks.delay / 4).max(min_delay)).min(max_delay);
        }
    }

    /// When a listing is due.
    fn listings_due(&self) -> impl Iterator<Item = Moment> {
        let waits = self.changes.values().filter_map(|change| change.acks.as_ref());
        let waits = waits.filter(|acks| acks.missing.as_ref().is_none_or(|missing| !missing.is_empty()));
        let current = self.current.as_ref().filter(|current| current.is_loaded);
        let periodic = current.filter(|_| matches!(self.role, Role::Member(_))).map(|current| current.next_listing);
        let has_others = self.role.timing().is_some();
        waits
            .map(|acks| acks.next_listing)
            .chain(periodic)
            .filter(move |_| has_others)
            .chain(self.current_listings_due())
    }

    /// When a listing is due for each change that was committed but not received from the feed.
    fn current_listings_due(&self) -> impl Iterator<Item = Moment> {
        let delay = self.role.timing().map(|timing| timing.probe_interval / RETRY_DIVISOR);
        let changes = self.changes.values().filter(|change| change.acks.is_none());
        changes.filter(|change| change.earlier == EarlierLeases::Unknown).filter_map(move |change| {
            let due = change.committed?.plus(delay?);
            Some(due.max(self.next_current_listing))
        })
    }

    /// The probe to send now, if one is due. It acknowledges everything that is in the cache at this moment.
    pub fn start_probe(&mut self, now: Moment) -> Option<Lease> {
        let awaits_probe = self.awaits_probe();
        let current = self.current.as_mut().filter(|current| current.is_loaded && current.in_flight.is_none())?;
        let is_periodic = awaits_probe || matches!(self.role, Role::Member(_));
        let is_due = current.is_probe_requested || (is_periodic && now.has_reached(current.next_probe));
        if !is_due {
            return None;
        }
        current.sequence += 1;
        current.sent.push_back((current.sequence, now));
        if current.sent.len() > MAX_OUTSTANDING_PROBES {
            current.sent.pop_front();
        }
        current.in_flight = Some(current.sequence);
        current.is_probe_requested = false;
        // Observers hold no cache, so they never lag.
        let applied = if self.role.holds_leases() { current.applied } else { LogTime::LAST };
        Some(Lease {
            incarnation: current.id,
            sequence: current.sequence,
            applied,
            requests_ack: awaits_probe,
            length: Some(self.role.lease()),
        })
    }

    /// The write of a probe has ended. A probe whose write failed may still arrive in the feed.
    pub fn probe_ended(&mut self, lease: &Lease, succeeded: bool, now: Moment) {
        let interval = self.role.timing().map_or(STANDALONE_PROBE_INTERVAL, |timing| timing.probe_interval);
        let Some(current) = &mut self.current else { return };
        if current.in_flight == Some(lease.sequence) && current.id == lease.incarnation {
            current.in_flight = None;
            if planted!(StampLate) {
                current.sent.iter_mut().filter(|sent| sent.0 == lease.sequence).for_each(|sent| sent.1 = now);
            }
            current.next_probe = now.plus(if succeeded { interval } else { interval / RETRY_DIVISOR });
            if succeeded {
                self.acknowledged(lease, now);
            }
        }
    }

    /// When to call [`take_enforced`](Self::take_enforced), [`start_listing`](Self::start_listing) and
    /// [`start_probe`](Self::start_probe) again, if nothing happens before.
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        let committed = self.changes.values().filter(|change| change.committed.is_some());
        let ends = committed.flat_map(|change| change.ends(self.role));
        let listings = self.listings_due().filter(|_| !self.is_listing);
        let current = self.current.as_ref().filter(|current| current.is_loaded && current.in_flight.is_none());
        let probe = current.and_then(|current| {
            let is_periodic = matches!(self.role, Role::Member(_)) || self.awaits_probe();
            if current.is_probe_requested { Some(Moment::START) } else { is_periodic.then_some(current.next_probe) }
        });
        ends.chain(listings).chain(probe).min_by_key(|at| now.until(*at))
    }

    /// Removes and returns the leases to delete from the store, unless they have changed: those of this process's former
    /// incarnations, and those of instances that have not renewed theirs for 10 lease lengths, their own or this
    /// instance's. What is not deleted is listed again.
    ///
    /// While this instance holds no lease itself it returns none of the others'.
    pub fn stale_leases(&mut self, now: Moment) -> Vec<Lease> {
        let (Some(current), Some(timing)) = (&mut self.current, self.role.timing()) else { return Vec::new() };
        let mut stale = std::mem::take(&mut current.leftovers);
        if current.deadline.is_some_and(|deadline| now.is_before(deadline)) {
            let limit = |peer: &Peer| peer.found_at.plus(peer.length.max(timing.lease) * STALE_AFTER_LEASES);
            let gone = current.peers.extract_if(.., |_, peer| now.has_reached(limit(peer)));
            stale.extend(gone.map(|(_, peer)| peer.lease));
        }
        stale
    }

    /// Time since the probe was sent that last renewed the lease.
    pub fn lease_age(&self, now: Moment) -> Option<Duration> {
        let Role::Member(timing) = self.role else { return None };
        let left = self.deadline()?.since(now);
        // After the lease has expired, its age keeps growing.
        let over = now.since(self.deadline()?);
        Some(timing.lease.saturating_sub(left) + over)
    }

    /// Round trip of the last probe, or, if that is longer, the time since the probe in flight was sent.
    pub fn feed_lag(&self, now: Moment) -> Option<Duration> {
        let current = self.current.as_ref()?;
        let round_trip = current.round_trip?;
        let in_flight = current.in_flight.and(current.sent.back());
        let waiting = in_flight.map_or(Duration::ZERO, |(_, sent)| now.since(*sent));
        Some(round_trip.max(waiting))
    }

    /// Whether an instance of release 0.1 is known, by a lease that does not state its length.
    pub fn knows_first_release(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.peers.values().any(|peer| peer.lease.length.is_none()))
    }

    /// The current incarnation of this instance. `None` while there is no feed.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.current.as_ref().map(|current| current.id)
    }

    /// The other instances that are known.
    pub fn others(&self, now: Moment) -> Vec<OtherInstance> {
        let peers = self.current.iter().flat_map(|current| &current.peers);
        let other = |(incarnation, peer): (&Incarnation, &Peer)| OtherInstance {
            incarnation: *incarnation,
            renewed: now.since(peer.found_at),
            has_cache: !peer.length.is_zero(),
            has_lease: !is_over(now, peer.end()),
        };
        peers.map(other).collect()
    }

    /// Known instances, including this one.
    pub fn instances(&self) -> u32 {
        1 + self.current.as_ref().map_or(0, |current| count(&current.peers))
    }

    /// Whether a change waits for a probe of this instance.
    fn awaits_probe(&self) -> bool {
        self.changes
            .values()
            .any(|change| change.acks.is_none() && matches!(change.awaits, AwaitedEvent::ProbeAfter(Some(_))))
    }
}

/// The length of another instance's lease.
fn length_of(lease: &Lease, role: Role, longest: Duration) -> Duration {
    let own = || role.timing().map_or(Duration::ZERO, |timing| timing.lease);
    match lease.length {
        Some(_) if planted!(OwnLength) => own(),
        Some(length) => length,
        None if planted!(UnstatedOwn) => own(),
        None => longest,
    }
}

impl Peer {
    /// `former` is the instance as it was known before.
    fn found(lease: Lease, length: Duration, former: Option<Self>, now: Moment) -> Self {
        let unchanged = former.filter(|former| former.lease.sequence == lease.sequence || planted!(KeptAge));
        Self { lease, length, found_at: unchanged.map_or(now, |former| former.found_at), is_from_feed: false }
    }
}

impl AckWait {
    /// The leases were listed as of the awaited event or later: these are the other instances. Returns the longest lease
    /// from before the event that an instance may hold which has not acknowledged the change.
    fn listed(&mut self, peers: &BTreeMap<Incarnation, Peer>, now: Moment) -> Duration {
        let mut lacking: BTreeMap<_, _> = peers.iter().filter(|(_, peer)| peer.may_lack(self.position, now)).collect();
        match &mut self.missing {
            None => {
                self.missing = Some(lacking.iter().map(|(incarnation, peer)| (**incarnation, peer.end())).collect());
                let acknowledged = |peer: &&Peer| !peer.length.is_zero() && peer.lease.applied >= self.position;
                let acknowledged = peers.values().filter(acknowledged).count() + lacking.len();
                self.instances = u32::try_from(acknowledged).unwrap_or(u32::MAX).saturating_add(1);
            }
            // An instance that was not listed the first time has joined since, and its lease contains the change. What
            // the others have renewed since contains it as well.
            Some(missing) => missing.retain(|incarnation, _| lacking.contains_key(incarnation)),
        }
        lacking.retain(|incarnation, _| self.missing.as_ref().is_some_and(|missing| missing.contains_key(incarnation)));
        lacking.values().map(|peer| peer.length).max().unwrap_or_default()
    }

    /// When the last of the instances that have not acknowledged the change can no longer hold a lease from before it.
    /// `None` until the leases were listed.
    fn leases_expire_at(&self) -> Option<Moment> {
        let missing = self.missing.as_ref()?;
        Some(missing.values().copied().reduce(Moment::max).unwrap_or(Moment::START))
    }
}

impl PendingChange {
    /// The awaited event was received at `position`: waits for each instance that may hold a lease from before it.
    fn wait_for_acks(&mut self, position: LogTime, current: &IncarnationState, role: Role, now: Moment) {
        let interval = role.timing().map_or(STANDALONE_PROBE_INTERVAL, |timing| timing.probe_interval);
        let (min, max) = (interval / MIN_LISTING_DIVISOR, interval / RETRY_DIVISOR);
        let is_alone = !current.peers.values().any(|peer| peer.may_lack(position, now));
        // About as long as an acknowledgement takes.
        let round_trip = current.round_trip.unwrap_or(min).clamp(min, max);
        let wait = match self.awaits {
            _ if is_alone => Duration::ZERO,
            // Usually ends with the acknowledgement of this instance, see `acknowledged`.
            AwaitedEvent::Entry(_) if role.holds_leases() => max,
            AwaitedEvent::Entry(_) | AwaitedEvent::ProbeAfter(_) => round_trip,
        };
        self.acks = Some(AckWait {
            position,
            missing: None,
            instances: 1,
            is_being_listed: false,
            next_listing: now.plus(wait),
            delay: (round_trip / 2).max(min),
        });
    }

    /// The times from which the change is enforced, of which the first counts. Meaningless while it is not committed.
    fn ends(&self, role: Role) -> impl Iterator<Item = Moment> + use<> {
        let acks = self.acks.as_ref().and_then(AckWait::leases_expire_at);
        let timer = match (self.earlier, self.committed) {
            (EarlierLeases::AtMost(length), Some(committed)) => Some(committed.plus(with_margin(length))),
            _ => None,
        };
        acks.into_iter().chain(timer).filter(move |_| role.timing().is_some())
    }

    /// The number of instances on which the change is enforced; `None` while it is not known to be on all.
    fn enforced_on(
        &self,
        committed: Moment,
        now: Moment,
        role: Role,
        longest: Duration,
        current: Option<&IncarnationState>,
    ) -> Option<u32> {
        let peers = || current.map_or(0, |current| count(&current.peers));
        let listed = self.acks.as_ref().filter(|acks| acks.missing.is_some());
        let known = || listed.map_or_else(|| 1 + peers(), |acks| acks.instances);
        match role {
            Role::Uncached => Some(1),
            Role::Standalone => (current.is_none() || self.acks.is_some()).then_some(1),
            Role::Member(_) | Role::Observer(_) => {
                let is_unlisted = planted!(Unlisted) && is_over(now, committed.plus(with_margin(longest)));
                (is_unlisted || self.ends(role).any(|end| is_over(now, end))).then(known)
            }
        }
    }
}

/// Whether leases of other instances that end at `end` have ended.
fn is_over(now: Moment, end: Moment) -> bool {
    if planted!(FastWaiter) { !now.is_before(end) } else { now.has_reached(end) }
}

fn count<T>(map: &BTreeMap<Incarnation, T>) -> u32 {
    u32::try_from(map.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::time::Timestamp;

    const LEASE: u64 = 10_000;
    const MARGIN: u64 = LEASE + LEASE / 100;
    const PROBE_INTERVAL: u64 = 1_000;
    const DELAY: u64 = PROBE_INTERVAL / 10;

    fn timing(lease: u64) -> Timing {
        Timing { lease: Duration::from_nanos(lease), probe_interval: Duration::from_nanos(PROBE_INTERVAL) }
    }

    fn incarnation(number: u64) -> Incarnation {
        Incarnation::generate(&mut StdRng::seed_from_u64(number))
    }

    fn entry(number: u64) -> AuditEntryId {
        AuditEntryId::new(Timestamp::from_millis(0), &mut StdRng::seed_from_u64(number))
    }

    fn moment(nanos: u64) -> Moment {
        Moment::START.plus(Duration::from_nanos(nanos))
    }

    /// The lease of another instance, which has applied the log up to `applied`.
    fn lease_of(number: u64, applied: u64) -> Lease {
        Lease {
            incarnation: incarnation(number),
            sequence: applied + 1,
            applied: LogTime::new(applied),
            requests_ack: false,
            length: Some(Duration::from_nanos(LEASE)),
        }
    }

    fn listed(leases: &[Lease]) -> Leases {
        Leases { leases: leases.to_vec(), longest: Duration::ZERO }
    }

    /// The lease of another instance, which has applied nothing and is three times as long.
    fn long_lease_of(number: u64) -> Lease {
        Lease { length: Some(Duration::from_nanos(3 * LEASE)), ..lease_of(number, 0) }
    }

    /// An instance with its clock and its position in the feed.
    struct Instance {
        protocol: Protocol,
        now: u64,
        at: u64,
    }

    impl Instance {
        fn new(role: Role) -> Self {
            Self { protocol: Protocol::new(role), now: 1_000_000, at: 0 }
        }

        /// An instance in its first incarnation, loaded with these leases of others.
        fn loaded(role: Role, others: &[Lease]) -> Self {
            let mut instance = Self::new(role);
            instance.load(1, others);
            instance
        }

        fn member(others: &[Lease]) -> Self {
            Self::loaded(Role::Member(timing(LEASE)), others)
        }

        fn now(&self) -> Moment {
            moment(self.now)
        }

        fn load(&mut self, number: u64, others: &[Lease]) {
            self.protocol.opened(incarnation(number), self.now());
            self.protocol.loaded(self.now(), LogTime::new(self.at), &listed(others));
        }

        fn receive(&mut self, event: LogEvent) {
            self.at += 1;
            self.protocol.applied(moment(self.now), LogTime::new(self.at), event);
        }

        fn receive_entry(&mut self, number: u64) {
            self.receive(LogEvent::Entry { id: entry(number), requires_ack: true });
        }

        fn probe(&mut self) -> Option<Lease> {
            self.protocol.start_probe(self.now())
        }

        /// Sends the probe that is due and receives it from the feed immediately.
        fn renew(&mut self) -> Lease {
            let lease = self.probe().expect("a probe is due");
            self.protocol.probe_ended(&lease, true, self.now());
            self.receive(LogEvent::Lease(lease));
            lease
        }

        fn begin(&mut self, number: u64) -> PendingChangeId {
            self.protocol.begin(entry(number))
        }

        fn committed(&mut self, change: PendingChangeId) {
            self.protocol.committed(change, self.now());
        }

        /// Commits a change and receives it from the feed immediately. Then lists these leases.
        fn change(&mut self, number: u64, leases: &[Lease]) -> PendingChangeId {
            let change = self.begin(number);
            self.receive_entry(number);
            self.committed(change);
            self.list_acks(leases);
            change
        }

        /// Lists these leases, which takes no time, as of what was received from the feed.
        fn list_acks(&mut self, leases: &[Lease]) {
            let listing = self.protocol.start_listing(moment(self.now + DELAY));
            assert_eq!(listing, Some(Listing::At(LogTime::new(self.at))));
            self.protocol.listing_ended(Some(&listed(leases)), self.now());
        }

        fn enforced(&mut self) -> Vec<PendingChangeId> {
            self.protocol.take_enforced(self.now()).into_iter().map(|enforced| enforced.change).collect()
        }

        /// Lists these leases `later`, or fails to.
        fn list(&mut self, later: u64, leases: Option<&[Lease]>) {
            if later > 0 {
                assert_eq!(self.protocol.start_listing(moment(self.now + later - 1)), None);
            }
            self.now += later;
            assert_eq!(self.protocol.start_listing(self.now()), Some(Listing::Current));
            assert_eq!(self.protocol.start_listing(self.now()), None, "one at a time");
            self.protocol.listing_ended(leases.map(listed).as_ref(), self.now());
        }

        /// By when the change is enforced.
        fn bound(&self, change: PendingChangeId) -> u64 {
            self.protocol.enforced_by(change, self.now()).expect("a bound").boot_nanos()
        }

        fn is_enforced_at(&mut self, now: u64) -> bool {
            self.now = now;
            !self.enforced().is_empty()
        }
    }

    #[test]
    fn lease_starts_when_its_probe_is_received_and_is_dated_from_before_sending() {
        let mut instance = Instance::member(&[]);
        let sent = instance.now;
        let lease = instance.probe().unwrap();
        instance.now += 100;
        instance.protocol.probe_ended(&lease, true, instance.now());
        assert_eq!(instance.protocol.deadline(), None);
        instance.receive(LogEvent::Lease(lease));
        assert_eq!(instance.protocol.deadline(), Some(moment(sent + LEASE)));
    }

    #[test]
    fn no_probe_is_sent_before_the_cache_is_loaded() {
        let mut instance = Instance::new(Role::Member(timing(LEASE)));
        assert_eq!(instance.probe(), None);
        instance.protocol.opened(incarnation(1), instance.now());
        assert_eq!(instance.probe(), None);
        instance.protocol.loaded(instance.now(), LogTime::default(), &listed(&[]));
        assert!(instance.probe().is_some());
    }

    #[test]
    fn late_or_duplicate_probe_does_not_shorten_the_lease() {
        let mut instance = Instance::member(&[]);
        let late = instance.probe().unwrap();
        instance.protocol.probe_ended(&late, false, instance.now());
        instance.now += PROBE_INTERVAL;
        let (sent, lease) = (instance.now, instance.renew());
        for again in [late, lease, late] {
            instance.receive(LogEvent::Lease(again));
            assert_eq!(instance.protocol.deadline(), Some(moment(sent + LEASE)));
        }
    }

    #[test]
    fn one_probe_is_in_flight_at_a_time_and_a_failed_one_is_retried_soon() {
        let mut instance = Instance::member(&[]);
        let lost = instance.probe().unwrap();
        instance.now += LEASE;
        assert_eq!(instance.probe(), None);
        instance.protocol.probe_ended(&lost, false, instance.now());
        assert_eq!(instance.probe(), None);
        instance.now += PROBE_INTERVAL / 10;
        assert_eq!(instance.probe().unwrap().sequence, lost.sequence + 1);
    }

    #[test]
    fn change_is_enforced_when_all_other_instances_have_applied_it() {
        let mut instance = Instance::member(&[lease_of(2, 0), lease_of(3, 0)]);
        let change = instance.change(7, &[lease_of(2, 0), lease_of(3, 0)]);
        let applied = instance.at;
        assert!(instance.enforced().is_empty());
        instance.list_acks(&[lease_of(2, applied), lease_of(3, applied - 1)]);
        assert!(instance.enforced().is_empty(), "instance 3 has not applied it");
        instance.list_acks(&[lease_of(2, applied), lease_of(3, applied)]);
        instance.now += 5;
        let enforced = instance.protocol.take_enforced(instance.now());
        assert_eq!(enforced, [Enforced { change, elapsed: Duration::from_nanos(5), instances: 3 }]);
        assert!(instance.enforced().is_empty(), "each change is returned once");
    }

    #[test]
    fn acknowledgement_that_comes_in_the_feed_counts() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let change = instance.change(7, &[lease_of(2, 0)]);
        let applied = instance.at;
        instance.receive(LogEvent::Lease(lease_of(2, applied - 1)));
        assert!(instance.enforced().is_empty());
        instance.receive(LogEvent::Lease(lease_of(2, applied)));
        assert_eq!(instance.enforced(), [change]);
    }

    #[test]
    fn leases_are_listed_when_the_own_acknowledgement_is_stored_and_then_more_and_more_rarely() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        instance.renew();
        let change = instance.begin(7);
        instance.receive_entry(7);
        instance.committed(change);
        assert_eq!(instance.protocol.start_listing(instance.now()), None);
        let lease = instance.probe().expect("the acknowledgement");
        instance.now += 5;
        instance.protocol.probe_ended(&lease, true, instance.now());
        let mut waits = Vec::new();
        for _ in 0..20 {
            let due = instance.protocol.wake_at(instance.now()).expect("a listing");
            waits.push(instance.now().until(due).as_nanos());
            instance.now += instance.now().until(due).as_nanos() as u64;
            assert!(instance.protocol.start_listing(instance.now()).is_some());
            instance.protocol.listing_ended(Some(&listed(&[lease_of(2, 0)])), instance.now());
        }
        assert_eq!(waits, [0, 2, 4, 6, 8, 10, 12, 15, 18, 22, 27, 33, 41, 51, 63, 78, 97, 100, 100, 100]);
    }

    #[test]
    fn instance_that_knows_no_other_lists_the_leases_immediately() {
        let mut instance = Instance::member(&[]);
        let change = instance.begin(7);
        instance.receive_entry(7);
        assert_eq!(instance.protocol.start_listing(instance.now()), Some(Listing::At(LogTime::new(instance.at))));
        instance.committed(change);
        assert!(instance.enforced().is_empty(), "there may be others");
        instance.protocol.listing_ended(Some(&listed(&[])), instance.now());
        assert_eq!(instance.enforced(), [change]);
    }

    #[test]
    fn listing_that_began_before_the_change_was_received_does_not_count() {
        let mut instance = Instance::member(&[]);
        instance.now += 4 * PROBE_INTERVAL;
        assert!(instance.protocol.start_listing(instance.now()).is_some());
        let change = instance.begin(7);
        instance.receive_entry(7);
        instance.committed(change);
        instance.protocol.listing_ended(Some(&listed(&[])), instance.now());
        assert!(instance.enforced().is_empty());
        instance.list_acks(&[]);
        assert_eq!(instance.enforced(), [change]);
    }

    #[test]
    fn instance_that_is_not_in_the_first_listing_is_not_waited_for() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let change = instance.change(7, &[lease_of(2, 0)]);
        instance.list_acks(&[lease_of(2, 0), lease_of(3, 0)]);
        assert!(instance.enforced().is_empty());
        instance.list_acks(&[lease_of(3, 0)]);
        assert_eq!(instance.enforced(), [change], "instance 3 has joined since");
    }

    #[test]
    fn lease_ends_that_much_earlier_after_it_was_first_found_unchanged() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let found_at = instance.now;
        instance.now += LEASE / 2;
        instance.change(7, &[lease_of(2, 0)]);
        assert!(!instance.is_enforced_at(found_at + MARGIN - 1));
        assert!(instance.is_enforced_at(found_at + MARGIN));

        let mut instance = Instance::member(&[lease_of(2, 0)]);
        instance.now += LEASE / 2;
        let renewed = Lease { sequence: 2, ..lease_of(2, 0) };
        let committed = instance.now;
        instance.change(7, &[renewed]);
        assert!(!instance.is_enforced_at(committed + MARGIN - 1));
        assert!(instance.is_enforced_at(committed + MARGIN));
    }

    #[test]
    fn leases_are_listed_every_two_to_four_probe_intervals() {
        let mut instance = Instance::member(&[lease_of(2, 0), lease_of(3, 0)]);
        let loaded = instance.now;
        assert_eq!(instance.protocol.start_listing(moment(loaded + 2 * PROBE_INTERVAL - 1)), None);
        instance.now += 4 * PROBE_INTERVAL;
        assert!(instance.protocol.start_listing(instance.now()).is_some());
        instance.receive(LogEvent::Lease(Lease { length: None, ..lease_of(4, 0) }));
        instance.protocol.listing_ended(Some(&listed(&[lease_of(2, 0)])), instance.now());
        let others = instance.protocol.others(instance.now());
        let mut incarnations: Vec<_> = others.iter().map(|other| other.incarnation).collect();
        incarnations.sort_unstable();
        let mut expected = [incarnation(2), incarnation(4)];
        expected.sort_unstable();
        assert_eq!(incarnations, expected, "4 came in the feed meanwhile");
        assert!(instance.protocol.knows_first_release());
    }

    #[test]
    fn change_is_not_enforced_before_its_commit_is_acknowledged() {
        let mut instance = Instance::member(&[]);
        let change = instance.begin(7);
        instance.receive_entry(7);
        instance.list_acks(&[]);
        assert!(!instance.is_enforced_at(instance.now + 100 * MARGIN));
        instance.committed(change);
        assert_eq!(instance.enforced(), [change]);
    }

    #[test]
    fn without_a_feed_a_change_is_enforced_one_lease_plus_margin_after_the_commit() {
        let mut instance = Instance::new(Role::Member(timing(LEASE)));
        let change = instance.begin(7);
        instance.committed(change);
        let committed = instance.now;
        assert_eq!(instance.bound(change), committed + 1010 * MAX_LEASE.as_nanos() as u64 / 1000);
        instance.list(DELAY, Some(&[]));
        assert_eq!(instance.bound(change), committed + MARGIN);
        assert_eq!(instance.protocol.wake_at(instance.now()), Some(moment(committed + MARGIN)));
        assert!(!instance.is_enforced_at(committed + MARGIN - 1));
        assert!(instance.is_enforced_at(committed + MARGIN));
    }

    #[test]
    fn without_a_feed_the_longest_lease_of_a_listing_after_the_commit_is_waited_for() {
        for role in [Role::Member(timing(LEASE)), Role::Observer(timing(LEASE)), Role::Member(timing(0))] {
            let mut instance = Instance::new(role);
            let change = instance.begin(7);
            assert_eq!(instance.protocol.start_listing(moment(instance.now + DELAY)), None, "nothing is committed");
            instance.committed(change);
            let committed = instance.now;
            instance.list(DELAY, None);
            assert!(!instance.is_enforced_at(committed + 100 * MARGIN), "the listing failed");
            instance.now = committed + DELAY;
            instance.list(DELAY, Some(&[long_lease_of(2), lease_of(3, 0)]));
            assert!(!instance.is_enforced_at(committed + 3 * MARGIN - 1));
            assert!(instance.is_enforced_at(committed + 3 * MARGIN));
        }
    }

    #[test]
    fn listing_counts_for_changes_that_were_committed_before_it_began() {
        let mut instance = Instance::new(Role::Member(timing(LEASE)));
        let (before, during) = (instance.begin(7), instance.begin(8));
        instance.committed(before);
        instance.now += DELAY;
        assert_eq!(instance.protocol.start_listing(instance.now()), Some(Listing::Current));
        instance.committed(during);
        instance.protocol.listing_ended(Some(&listed(&[])), instance.now());
        instance.now += MARGIN;
        assert_eq!(instance.enforced(), [before]);
        instance.list(0, Some(&[]));
        assert_eq!(instance.enforced(), [during]);
    }

    #[test]
    fn each_instance_is_waited_for_as_long_as_its_own_lease_lasts() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let committed = instance.now;
        instance.change(7, &[lease_of(2, 0), long_lease_of(3)]);
        assert!(!instance.is_enforced_at(committed + 3 * MARGIN - 1));
        assert!(instance.is_enforced_at(committed + 3 * MARGIN));
    }

    #[test]
    fn lease_without_a_length_is_as_long_as_the_setting_or_the_longest_that_was_known() {
        let unstated = Lease { length: None, ..lease_of(2, 0) };
        let longest = Duration::from_nanos(3 * LEASE);
        let setting = Leases { leases: vec![unstated], longest };
        let seen = listed(&[unstated, long_lease_of(3)]);
        for listed in [setting, seen] {
            let mut instance = Instance::new(Role::Member(timing(LEASE)));
            instance.protocol.opened(incarnation(1), instance.now());
            instance.protocol.loaded(instance.now(), LogTime::default(), &listed);
            let loaded = instance.now;
            instance.change(7, &[unstated]);
            assert!(!instance.is_enforced_at(loaded + 3 * MARGIN - 1));
            assert!(instance.is_enforced_at(loaded + 3 * MARGIN));
        }
    }

    #[test]
    fn dead_instance_delays_changes_for_one_lease_only() {
        let dead = lease_of(2, 0);
        let mut instance = Instance::member(&[]);
        let committed = instance.now;
        instance.change(7, &[dead]);
        assert!(!instance.is_enforced_at(committed + MARGIN - 1));
        assert!(instance.is_enforced_at(committed + MARGIN));
        instance.change(8, &[dead]);
        assert_eq!(instance.enforced().len(), 1);
    }

    #[test]
    fn leases_of_former_incarnations_are_not_waited_for() {
        let mut instance = Instance::member(&[]);
        let own = instance.renew();
        instance.protocol.lost();
        instance.load(2, &[own]);
        instance.change(7, &[own]);
        assert_eq!(instance.enforced().len(), 1);
        let late = Lease { sequence: own.sequence + 1, ..own };
        instance.receive(LogEvent::Lease(late));
        instance.change(8, &[late]);
        assert_eq!(instance.enforced().len(), 1, "a late probe of a former incarnation is not waited for");

        instance.protocol.lost();
        instance.load(3, &[own, lease_of(9, 0)]);
        instance.change(10, &[own, lease_of(9, 0)]);
        assert!(!instance.is_enforced_at(instance.now + MARGIN - 1));
    }

    #[test]
    fn instance_whose_lease_is_gone_is_not_waited_for() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let under_way = instance.change(7, &[lease_of(2, 0)]);
        assert!(instance.enforced().is_empty());
        instance.list_acks(&[]);
        assert_eq!(instance.enforced(), [under_way]);
        let later = instance.change(8, &[]);
        assert_eq!(instance.enforced(), [later]);
    }

    #[test]
    fn repeat_waits_for_a_later_probe_and_for_the_other_instances() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let before = instance.probe().unwrap();
        let repeat = instance.protocol.begin_repeat(instance.now());
        instance.protocol.probe_ended(&before, true, instance.now());
        instance.receive(LogEvent::Lease(before));
        instance.receive(LogEvent::Lease(lease_of(2, instance.at)));
        assert!(instance.enforced().is_empty());
        let after = instance.renew();
        assert!(after.requests_ack);
        instance.list_acks(&[lease_of(2, instance.at - 1)]);
        assert!(instance.enforced().is_empty());
        instance.list_acks(&[lease_of(2, instance.at)]);
        assert_eq!(instance.enforced(), [repeat]);
    }

    #[test]
    fn member_acknowledges_immediately_when_requested() {
        let mut instance = Instance::member(&[]);
        instance.renew();
        assert_eq!(instance.probe(), None);
        instance.receive(LogEvent::Lease(Lease { requests_ack: true, ..lease_of(2, 0) }));
        assert_eq!(instance.renew().applied, LogTime::new(instance.at - 1));
        assert_eq!(instance.probe(), None);
        instance.receive_entry(7);
        assert_eq!(instance.renew().applied, LogTime::new(instance.at - 1));
        instance.receive(LogEvent::Entry { id: entry(8), requires_ack: false });
        assert_eq!(instance.probe(), None);
    }

    #[test]
    fn after_a_feed_lost_before_the_commit_a_change_waits_for_a_probe_sent_after_the_commit() {
        let mut instance = Instance::member(&[]);
        let change = instance.begin(7);
        instance.protocol.lost();
        instance.load(2, &[lease_of(3, 0)]);
        instance.renew();
        instance.receive_entry(7);
        instance.committed(change);
        assert!(instance.enforced().is_empty(), "that probe was sent before the commit");
        instance.renew();
        instance.list_acks(&[lease_of(3, instance.at)]);
        assert_eq!(instance.enforced(), [change]);
    }

    #[test]
    fn after_a_feed_lost_after_the_commit_a_change_is_enforced_by_the_next_incarnation() {
        for is_received in [false, true] {
            let mut instance = Instance::member(&[lease_of(3, 0)]);
            let change = instance.begin(7);
            instance.committed(change);
            if is_received {
                instance.receive_entry(7);
            }
            instance.protocol.lost();
            assert!(instance.enforced().is_empty());
            instance.load(2, &[lease_of(3, 0)]);
            instance.renew();
            instance.list_acks(&[lease_of(3, 0)]);
            assert!(instance.enforced().is_empty());
            instance.list_acks(&[lease_of(3, instance.at)]);
            assert_eq!(instance.enforced(), [change]);
        }
    }

    #[test]
    fn change_begun_without_a_feed_is_enforced_through_a_feed_opened_before_its_commit() {
        for role in [Role::Member(timing(LEASE)), Role::Standalone] {
            let mut instance = Instance::new(role);
            let change = instance.begin(7);
            instance.load(1, &[]);
            instance.committed(change);
            assert!(instance.enforced().is_empty());
            instance.renew();
            if role != Role::Standalone {
                instance.list_acks(&[]);
            }
            assert_eq!(instance.enforced(), [change]);
        }
    }

    #[test]
    fn abandoned_change_is_never_reported_as_enforced() {
        let mut instance = Instance::member(&[]);
        let change = instance.change(7, &[]);
        instance.protocol.abandon(change);
        assert!(!instance.is_enforced_at(instance.now + MARGIN));
    }

    #[test]
    fn probe_of_a_former_incarnation_does_not_renew_the_lease() {
        let mut instance = Instance::member(&[]);
        let former = instance.probe().unwrap();
        instance.protocol.lost();
        assert_eq!(instance.protocol.deadline(), None);
        instance.load(2, &[]);
        let lease = instance.probe().unwrap();
        assert_eq!(lease.sequence, former.sequence);
        instance.protocol.probe_ended(&former, true, instance.now());
        instance.receive(LogEvent::Lease(former));
        assert_eq!(instance.protocol.deadline(), None);
        instance.now += PROBE_INTERVAL;
        assert_eq!(instance.probe(), None, "its own probe is still in flight");
    }

    #[test]
    fn observer_waits_for_members_and_members_do_not_wait_for_it() {
        let mut observer = Instance::loaded(Role::Observer(timing(LEASE)), &[lease_of(2, 0)]);
        assert_eq!(observer.probe(), None);
        let change = observer.change(7, &[lease_of(2, 0)]);
        assert_eq!(observer.probe(), None, "no acknowledgement is expected from an observer");
        assert!(observer.enforced().is_empty());
        observer.list_acks(&[lease_of(2, observer.at)]);
        assert_eq!(observer.enforced(), [change]);
        let repeat = observer.protocol.begin_repeat(observer.now());
        let lease = observer.renew();
        observer.list_acks(&[lease_of(2, observer.at)]);
        assert_eq!(observer.enforced(), [repeat]);
        assert_eq!(observer.protocol.deadline(), None);

        let mut member = Instance::member(&[lease]);
        let change = member.change(8, &[lease]);
        assert_eq!(member.enforced(), [change]);
    }

    #[test]
    fn standalone_process_uses_its_cache_while_the_feed_is_intact_and_waits_only_for_itself() {
        let mut alone = Instance::loaded(Role::Standalone, &[]);
        assert_eq!(alone.protocol.deadline(), Some(Moment::NEVER));
        assert_eq!(alone.probe(), None);
        let change = alone.begin(7);
        alone.committed(change);
        assert!(!alone.is_enforced_at(alone.now + 100 * MARGIN));
        alone.receive_entry(7);
        assert_eq!(alone.enforced(), [change]);
        let change = alone.begin(8);
        alone.committed(change);
        alone.protocol.lost();
        assert_eq!(alone.protocol.deadline(), None);
        assert_eq!(alone.enforced(), [change], "the cache is gone");
    }

    #[test]
    fn without_a_cache_and_other_processes_a_commit_is_enforced_immediately() {
        let mut alone = Instance::new(Role::Uncached);
        let change = alone.begin(7);
        assert!(alone.enforced().is_empty());
        alone.committed(change);
        assert_eq!(alone.enforced(), [change]);
    }

    #[test]
    fn instances_with_leases_of_length_zero_are_not_waited_for_and_wait_for_others() {
        let zero = Lease { length: Some(Duration::ZERO), ..lease_of(2, 0) };
        let mut instance = Instance::loaded(Role::Member(timing(0)), &[zero]);
        assert_eq!(instance.probe().expect("a probe that announces the instance").applied, LogTime::LAST);
        let change = instance.change(7, &[zero]);
        assert_eq!(instance.enforced(), [change]);
        let committed = instance.now;
        instance.change(8, &[zero, lease_of(3, 0)]);
        assert!(!instance.is_enforced_at(committed + MARGIN - 1));
        assert!(instance.is_enforced_at(committed + MARGIN));
    }

    #[test]
    fn stale_leases_are_removed_only_by_an_instance_that_holds_a_lease() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        instance.renew();
        instance.receive(LogEvent::Lease(long_lease_of(3)));
        instance.now += 10 * LEASE;
        assert_eq!(instance.protocol.stale_leases(instance.now()), [], "it has no lease itself");
        instance.renew();
        assert_eq!(instance.protocol.stale_leases(instance.now()), [lease_of(2, 0)]);
        assert_eq!(instance.protocol.stale_leases(instance.now()), [], "each is returned once");
        instance.change(7, &[lease_of(2, 1), long_lease_of(3)]);
        assert_eq!(instance.protocol.stale_leases(instance.now()), [], "it has been renewed");
    }

    /// An event at an instance.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Time(u64),
        Begin,
        BeginRepeat,
        Commit,
        ReceiveEntry,
        EndProbe(bool),
        ReceiveProbe,
        ReceiveLease(u64),
        LoseFeed,
        Load,
        EndListing(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..MARGIN).prop_map(Step::Time),
            Just(Step::Begin),
            Just(Step::BeginRepeat),
            Just(Step::Commit),
            Just(Step::ReceiveEntry),
            any::<bool>().prop_map(Step::EndProbe),
            Just(Step::ReceiveProbe),
            (2u64..5).prop_map(Step::ReceiveLease),
            Just(Step::LoseFeed),
            Just(Step::Load),
            any::<bool>().prop_map(Step::EndListing),
        ];
        proptest::collection::vec(step, 1..40)
    }

    fn roles() -> impl Strategy<Value = Role> {
        prop_oneof![
            Just(Role::Standalone),
            Just(Role::Uncached),
            Just(Role::Member(timing(LEASE))),
            Just(Role::Member(timing(0))),
            Just(Role::Observer(timing(LEASE))),
        ]
    }

    proptest! {
        #[test]
        fn work_is_due_exactly_at_the_wake_up_time(role in roles(), steps in steps()) {
            let mut instance = Instance::new(role);
            let (mut incarnations, mut entries, mut begun, mut probe) = (0, 0, None, None);
            for step in steps {
                match step {
                    Step::Time(passed) => instance.now += passed,
                    Step::Begin => {
                        entries += 1;
                        begun = Some(instance.begin(entries));
                    }
                    Step::BeginRepeat => {
                        instance.protocol.begin_repeat(instance.now());
                    }
                    Step::Commit => begun.take().into_iter().for_each(|change| instance.committed(change)),
                    Step::ReceiveEntry => instance.receive_entry(entries),
                    Step::EndProbe(succeeded) => {
                        if let Some(lease) = &probe {
                            instance.protocol.probe_ended(lease, succeeded, instance.now());
                        }
                    }
                    Step::ReceiveProbe => probe.into_iter().for_each(|lease| instance.receive(LogEvent::Lease(lease))),
                    Step::ReceiveLease(other) => instance.receive(LogEvent::Lease(lease_of(other, instance.at))),
                    Step::LoseFeed => {
                        instance.protocol.lost();
                    }
                    Step::Load => {
                        instance.protocol.lost();
                        incarnations += 100;
                        instance.load(incarnations, &[lease_of(2, 0)]);
                    }
                    Step::EndListing(succeeded) => {
                        if instance.protocol.is_listing {
                            let leases = listed(&[long_lease_of(2)]);
                            instance.protocol.listing_ended(succeeded.then_some(&leases), instance.now());
                        }
                    }
                }
                let due = |instance: &mut Instance| {
                    let enforced = instance.enforced();
                    let sent = instance.probe();
                    let lists = instance.protocol.start_listing(instance.now());
                    (!enforced.is_empty() || sent.is_some() || lists.is_some(), sent)
                };
                let (_, sent) = due(&mut instance);
                probe = sent.or(probe);
                match instance.protocol.wake_at(instance.now()) {
                    None => {
                        instance.now += 100 * LEASE;
                        prop_assert!(!due(&mut instance).0);
                    }
                    Some(at) => {
                        prop_assert!(!instance.now().has_reached(at), "woken with nothing due");
                        instance.now = at.boot_nanos() - 1;
                        prop_assert!(!due(&mut instance).0, "due before the wake-up time");
                        instance.now += 1;
                        let (is_due, sent) = due(&mut instance);
                        prop_assert!(is_due, "woken with nothing due");
                        probe = sent.or(probe);
                    }
                }
            }
        }
    }
}
