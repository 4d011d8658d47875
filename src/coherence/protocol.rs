//! How revocation is exact on many instances: a state machine, without waiting, input or output.
//!
//! An instance may answer from memory until `s + L`, where `s` is its clock before it sent the latest probe that it
//! has met in its own feed: what was committed before that probe is in its memory. A change is *enforced* once every
//! instance that may still answer without it has either said that it applied it, or cannot answer from memory any
//! more: see [`Protocol::enforced`]. `docs/model/lease.pml` is the model of it.
//!
//! Whoever drives it keeps these orders: memory is changed *before* [`applied`](Protocol::applied) is called, and
//! [`probe`](Protocol::probe) is called *before* its write is sent. The clock is read *after* what it is to tell the
//! time of has happened: after a change has come out of the feed, after the leases were read, after a commit was
//! acknowledged; and before a probe is sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;
use crate::domain::ids::AuditEntryId;
use crate::domain::leases::{Incarnation, Lease, LogTime};

/// Probes that were sent and not met yet, of which the newest are remembered: one is sent at a time, so that more are
/// only those whose answer was lost.
const PROBES_REMEMBERED: usize = 64;
/// A lease that was not renewed for this many lengths is an instance that is gone.
const GONE_AFTER_LEASES: u32 = 10;
/// After a probe that failed, the next one follows after this part of the usual interval.
const RETRY_PART: u32 = 10;
/// How often a process that is alone asks its store again for a place in the feed.
pub(super) const ALONE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Former lives of this instance that are remembered.
const LIVES_REMEMBERED: usize = 64;

/// Whether a test has planted this bug: see the simulation.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        super::simulation::is_planted(super::simulation::Bug::$bug)
    };
}
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// How long leases last, and how often they are renewed. The same on every instance of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub lease: Duration,
    pub probe_interval: Duration,
}

impl Timing {
    /// How long to wait until a lease has ended on every clock: a hundredth more than it lasts, since two clocks may
    /// run apart (time synchronisation slews them by at most 1/2000).
    pub fn margin(&self) -> Duration {
        if planted!(Drift) {
            return self.lease;
        }
        self.lease + self.lease / 100
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one process over its store: memory may answer while the feed is whole, and there is nobody to wait for.
    Alone,
    /// One of several instances that answer from memory; under leases of no length it never does.
    Member(Timing),
    /// Changes things, and never answers from memory.
    Observer(Timing),
}

impl Role {
    /// `None`: there is nobody else.
    pub fn timing(self) -> Option<Timing> {
        match self {
            Self::Alone => None,
            Self::Member(timing) | Self::Observer(timing) => Some(timing),
        }
    }

    /// Whether it holds leases: others wait for it, and it tells them how far it has come.
    fn holds_leases(self) -> bool {
        matches!(self, Self::Member(timing) if !timing.lease.is_zero())
    }
}

/// A change that is being made, or a repeat of one that stands already: what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarrierId(u64);

/// How a barrier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    pub barrier: BarrierId,
    /// From the acknowledged commit to the proof.
    pub elapsed: Duration,
    /// Instances that acknowledged the change or cannot answer from memory any more; this one among them.
    pub instances: u32,
}

/// What a change of the feed is to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A batch; `asks` when somebody may wait for it to be enforced.
    Entry {
        id: AuditEntryId,
        asks: bool,
    },
    Lease(Lease),
    LeaseGone(Incarnation),
    /// Anything else.
    Other,
}

/// How a barrier finds its place in the feed.
#[derive(Clone, Copy, Debug)]
enum Marker {
    /// The entry of the change itself, which is the last thing of its batch.
    Entry(AuditEntryId),
    /// Any probe of this instance with a greater sequence: it was sent after the change was acknowledged. `None`
    /// until that has happened.
    ProbeAfter(Option<u64>),
}

struct Barrier {
    marker: Marker,
    /// When the change was acknowledged.
    committed: Option<Moment>,
    passed: Option<Passed>,
}

/// The marker was met in the feed.
struct Passed {
    at: LogTime,
    /// Those whose acknowledgement is awaited, and when they were last heard of before the marker.
    awaited: BTreeMap<Incarnation, Moment>,
    instances: u32,
}

struct Peer {
    last: Lease,
    /// When that was heard.
    seen: Moment,
}

/// One life of the memory: from the opening of a feed to its loss.
struct Life {
    incarnation: Incarnation,
    loaded: bool,
    applied: LogTime,
    deadline: Option<Moment>,
    /// How long the last probe that was met took.
    round_trip: Option<Duration>,
    /// Of the last probe that was sent.
    sequence: u64,
    sent: VecDeque<(u64, Moment)>,
    in_flight: Option<u64>,
    next_probe: Moment,
    /// A probe is wanted before its time.
    wanted: bool,
    peers: BTreeMap<Incarnation, Peer>,
    /// What this instance's former lives have left in the store.
    left: Vec<Lease>,
}

/// The state of one instance.
pub struct Protocol {
    role: Role,
    life: Option<Life>,
    /// What became of this instance's earlier lives is known: their memory is gone.
    former: VecDeque<Incarnation>,
    barriers: BTreeMap<BarrierId, Barrier>,
    next_barrier: u64,
}

impl Protocol {
    pub fn new(role: Role) -> Self {
        Self { role, life: None, former: VecDeque::new(), barriers: BTreeMap::new(), next_barrier: 0 }
    }

    /// A feed was opened: what it brings is followed from here on. Memory is loaded after this.
    pub fn opened(&mut self, incarnation: Incarnation, now: Moment) {
        debug_assert!(self.life.is_none(), "the feed before this one was not said to be lost");
        self.life = Some(Life {
            incarnation,
            loaded: false,
            applied: LogTime::default(),
            deadline: None,
            round_trip: None,
            sequence: 0,
            sent: VecDeque::new(),
            in_flight: None,
            next_probe: now,
            wanted: false,
            peers: BTreeMap::new(),
            left: Vec::new(),
        });
    }

    /// Memory holds everything committed before the feed was opened, and these leases were read since. Each counts
    /// as heard of now, so that no instance is unknown.
    pub fn loaded(&mut self, now: Moment, leases: &[Lease]) {
        let (waiting, former) = (self.asks(), &self.former);
        let Some(life) = &mut self.life else { return };
        life.loaded = true;
        life.wanted = waiting;
        let others = leases.iter().filter(|lease| lease.incarnation != life.incarnation);
        let (left, peers) = others.partition(|lease| former.contains(&lease.incarnation));
        life.left = left;
        let peers: Vec<Lease> = peers;
        life.peers = peers.into_iter().map(|lease| (lease.incarnation, Peer { last: lease, seen: now })).collect();
        if self.role == Role::Alone {
            life.deadline = Some(Moment::NEVER);
        }
    }

    /// The next change of the feed has been applied to memory.
    pub fn applied(&mut self, now: Moment, at: LogTime, news: News) {
        let Some(life) = &mut self.life else { return };
        life.applied = at;
        match news {
            News::Entry { id, asks } => {
                life.wanted |= asks && self.role.holds_leases();
                for barrier in self.barriers.values_mut() {
                    if matches!(barrier.marker, Marker::Entry(marker) if marker == id) {
                        barrier.pass(at, life, now, self.role);
                    }
                }
            }
            News::Lease(lease)
                if lease.incarnation == life.incarnation
                    || (planted!(FormerLife) && self.former.contains(&lease.incarnation)) =>
            {
                let found = life.sent.iter().position(|(sequence, _)| *sequence == lease.sequence);
                if let Some(found) = found {
                    life.round_trip = Some(now.since(life.sent[found].1));
                }
                if let (Some(found), Role::Member(timing)) = (found, self.role) {
                    let from = if planted!(TtlStart) { now } else { life.sent[found].1 };
                    let until = from.plus(timing.lease);
                    life.deadline = life.deadline.max(Some(until));
                }
                for barrier in self.barriers.values_mut() {
                    let passes = matches!(barrier.marker, Marker::ProbeAfter(Some(after)) if lease.sequence > after);
                    if passes && barrier.passed.is_none() {
                        barrier.pass(at, life, now, self.role);
                    }
                }
            }
            News::Lease(lease) if self.former.contains(&lease.incarnation) => {}
            News::Lease(lease) => {
                life.peers.insert(lease.incarnation, Peer { last: lease, seen: now });
                life.wanted |= lease.asks && self.role.holds_leases();
                for passed in self.barriers.values_mut().filter_map(|barrier| barrier.passed.as_mut()) {
                    if lease.applied >= passed.at {
                        passed.awaited.remove(&lease.incarnation);
                    }
                }
            }
            News::LeaseGone(incarnation) => {
                life.peers.remove(&incarnation);
                life.left.retain(|lease| lease.incarnation != incarnation);
                for passed in self.barriers.values_mut().filter_map(|barrier| barrier.passed.as_mut()) {
                    passed.awaited.remove(&incarnation);
                }
            }
            News::Other => {}
        }
    }

    /// The feed is lost: memory is gone. Changes whose place was met or not met in it find another one in the next.
    /// Says whether memory had been loaded.
    pub fn lost(&mut self) -> bool {
        let life = self.life.take();
        let was_loaded = life.as_ref().is_some_and(|life| life.loaded);
        if let Some(life) = life {
            self.former.truncate(LIVES_REMEMBERED - 1);
            self.former.push_front(life.incarnation);
        }
        for barrier in self.barriers.values_mut() {
            barrier.passed = None;
            // The next life counts its probes anew, and sends all of them after this.
            let is_committed = barrier.committed.is_some() || planted!(EarlyMarker);
            barrier.marker = Marker::ProbeAfter(is_committed.then_some(0));
        }
        was_loaded
    }

    /// Until when memory may answer; `None`: not at all.
    pub fn deadline(&self) -> Option<Moment> {
        self.life.as_ref()?.deadline
    }

    /// A change is about to be committed, with this entry.
    pub fn begin(&mut self, entry: AuditEntryId) -> BarrierId {
        // Without a feed that is open already the entry may never be met.
        let marker = if self.life.is_some() { Marker::Entry(entry) } else { Marker::ProbeAfter(None) };
        self.add(Barrier { marker, committed: None, passed: None })
    }

    /// A change was found that stands already, `now` or earlier.
    pub fn begin_repeat(&mut self, now: Moment) -> BarrierId {
        let id = self.add(Barrier { marker: Marker::ProbeAfter(None), committed: None, passed: None });
        self.committed(id, now);
        id
    }

    fn add(&mut self, barrier: Barrier) -> BarrierId {
        let id = BarrierId(self.next_barrier);
        self.next_barrier += 1;
        self.barriers.insert(id, barrier);
        id
    }

    /// The store has acknowledged the change.
    pub fn committed(&mut self, id: BarrierId, now: Moment) {
        let Some(barrier) = self.barriers.get_mut(&id) else { return };
        barrier.committed = Some(now);
        if matches!(barrier.marker, Marker::ProbeAfter(None)) {
            barrier.marker = Marker::ProbeAfter(Some(self.life.as_ref().map_or(0, |life| life.sequence)));
            if let Some(life) = &mut self.life {
                life.wanted = true;
            }
        }
    }

    /// The change was not made, or nobody waits for it.
    pub fn abandon(&mut self, id: BarrierId) {
        self.barriers.remove(&id);
    }

    /// The barriers that are done, each given once.
    pub fn enforced(&mut self, now: Moment) -> Vec<Enforced> {
        let (role, life) = (self.role, self.life.as_ref());
        let mut enforced = Vec::new();
        self.barriers.retain(|id, barrier| {
            let Some(committed) = barrier.committed else { return true };
            let Some(instances) = barrier.enforced_on(committed, now, role, life) else { return true };
            enforced.push(Enforced { barrier: *id, elapsed: now.since(committed), instances });
            false
        });
        enforced
    }

    /// The probe to send now, if it is time for one. It claims what is in memory at this moment.
    pub fn probe(&mut self, now: Moment) -> Option<Lease> {
        let asks = self.asks();
        let life = self.life.as_mut().filter(|life| life.loaded && life.in_flight.is_none())?;
        let periodic = asks || matches!(self.role, Role::Member(_));
        let is_due = life.wanted || (periodic && now >= life.next_probe);
        if !is_due {
            return None;
        }
        life.sequence += 1;
        life.sent.push_back((life.sequence, now));
        if life.sent.len() > PROBES_REMEMBERED {
            life.sent.pop_front();
        }
        life.in_flight = Some(life.sequence);
        life.wanted = false;
        // Who never answers from memory is behind in nothing.
        let applied = if self.role.holds_leases() { life.applied } else { LogTime::LAST };
        Some(Lease { incarnation: life.incarnation, sequence: life.sequence, applied, asks })
    }

    /// The write of a probe has ended. One that failed may arrive yet.
    pub fn probe_ended(&mut self, lease: &Lease, succeeded: bool, now: Moment) {
        let interval = self.role.timing().map_or(ALONE_PROBE_INTERVAL, |timing| timing.probe_interval);
        let Some(life) = &mut self.life else { return };
        if life.in_flight == Some(lease.sequence) && life.incarnation == lease.incarnation {
            life.in_flight = None;
            if planted!(StampLate) {
                life.sent.iter_mut().filter(|sent| sent.0 == lease.sequence).for_each(|sent| sent.1 = now);
            }
            life.next_probe = now.plus(if succeeded { interval } else { interval / RETRY_PART });
        }
    }

    /// When to look again for [`enforced`](Self::enforced) barriers and a [`probe`](Self::probe), if nothing happens
    /// before.
    pub fn wake_at(&self) -> Option<Moment> {
        let margin = self.role.timing().map(|timing| timing.margin());
        let ends = self.barriers.values().filter_map(|barrier| {
            let (committed, margin) = (barrier.committed?, margin?);
            let end = committed.plus(margin);
            Some(barrier.passed.as_ref().map_or(end, |passed| passed.silent_at(margin).min(end)))
        });
        let probe = self.life.as_ref().filter(|life| life.loaded && life.in_flight.is_none()).and_then(|life| {
            let periodic = matches!(self.role, Role::Member(_)) || self.asks();
            if life.wanted { Some(Moment::START) } else { periodic.then_some(life.next_probe) }
        });
        ends.chain(probe).min()
    }

    /// Leases to be removed: of this instance's former lives, and of instances that were not heard of for so long that
    /// they are gone.
    ///
    /// None of others while this instance holds no lease itself: what it has not heard may be waiting in its feed.
    pub fn gone(&self, now: Moment) -> Vec<Lease> {
        let (Some(life), Some(timing)) = (&self.life, self.role.timing()) else { return Vec::new() };
        let mut gone = life.left.clone();
        if life.deadline.is_some_and(|deadline| now < deadline) {
            let silent = life.peers.values().filter(|peer| now >= peer.seen.plus(timing.lease * GONE_AFTER_LEASES));
            gone.extend(silent.map(|peer| peer.last));
        }
        gone
    }

    /// How long ago the probe was sent that renewed the lease last.
    pub fn lease_age(&self, now: Moment) -> Option<Duration> {
        let Role::Member(timing) = self.role else { return None };
        let left = self.deadline()?.since(now);
        // Past its end the age is told from there.
        let over = now.since(self.deadline()?);
        Some(timing.lease.saturating_sub(left) + over)
    }

    /// How long the last probe took to come back, or, where that is longer, how long the newest has been under way.
    pub fn feed_lag(&self, now: Moment) -> Option<Duration> {
        let life = self.life.as_ref()?;
        let met = life.round_trip?;
        let under_way = life.in_flight.and(life.sent.back()).map_or(Duration::ZERO, |(_, sent)| now.since(*sent));
        Some(met.max(under_way))
    }

    /// Instances known to take part, this one among them.
    pub fn instances(&self) -> u32 {
        1 + self.life.as_ref().map_or(0, |life| count(&life.peers))
    }

    /// Whether a change waits for a probe of this instance.
    fn asks(&self) -> bool {
        self.barriers
            .values()
            .any(|barrier| barrier.passed.is_none() && matches!(barrier.marker, Marker::ProbeAfter(Some(_))))
    }
}

impl Passed {
    /// When the last of those that have not acknowledged it cannot answer from memory any more.
    fn silent_at(&self, margin: Duration) -> Moment {
        self.awaited.values().max().map_or(Moment::START, |seen| seen.plus(margin))
    }
}

impl Barrier {
    fn pass(&mut self, at: LogTime, life: &Life, now: Moment, role: Role) {
        let awaited: BTreeMap<_, _> = match role.timing() {
            None => BTreeMap::new(),
            Some(timing) => life
                .peers
                .iter()
                .filter(|(_, peer)| peer.last.applied < at && now < peer.seen.plus(timing.margin()))
                .map(|(incarnation, peer)| (*incarnation, peer.seen))
                .collect(),
        };
        self.passed = Some(Passed { at, instances: 1 + count(&awaited), awaited });
    }

    /// On how many instances it is enforced; `None` while it is not known to be.
    fn enforced_on(&self, committed: Moment, now: Moment, role: Role, life: Option<&Life>) -> Option<u32> {
        let known = || self.passed.as_ref().map_or(1 + life.map_or(0, |life| count(&life.peers)), |p| p.instances);
        match role.timing() {
            None => (life.is_none() || self.passed.is_some()).then_some(1),
            // No lease that began before the commit is left.
            Some(timing) if now >= committed.plus(timing.margin()) => Some(known()),
            Some(timing) => {
                let passed = self.passed.as_ref()?;
                (now >= passed.silent_at(timing.margin())).then_some(passed.instances)
            }
        }
    }
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
        Moment::from_nanos(nanos)
    }

    /// A lease of another instance, which has applied this much.
    fn lease_of(number: u64, applied: u64) -> Lease {
        Lease { incarnation: incarnation(number), sequence: applied + 1, applied: LogTime::new(applied), asks: false }
    }

    /// An instance, its clock and its feed, in which everything that is told comes next.
    struct Instance {
        protocol: Protocol,
        now: u64,
        at: u64,
    }

    impl Instance {
        fn new(role: Role) -> Self {
            Self { protocol: Protocol::new(role), now: 1_000_000, at: 0 }
        }

        /// As life 1, among these others.
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

        fn load(&mut self, life: u64, others: &[Lease]) {
            self.protocol.opened(incarnation(life), self.now());
            self.protocol.loaded(self.now(), others);
        }

        fn tell(&mut self, news: News) {
            self.at += 1;
            self.protocol.applied(moment(self.now), LogTime::new(self.at), news);
        }

        fn tell_entry(&mut self, number: u64) {
            self.tell(News::Entry { id: entry(number), asks: true });
        }

        fn probe(&mut self) -> Option<Lease> {
            self.protocol.probe(self.now())
        }

        /// Sends a probe that is due, which arrives and is met at once.
        fn renew(&mut self) -> Lease {
            let lease = self.probe().expect("a probe is due");
            self.protocol.probe_ended(&lease, true, self.now());
            self.tell(News::Lease(lease));
            lease
        }

        fn begin(&mut self, number: u64) -> BarrierId {
            self.protocol.begin(entry(number))
        }

        fn committed(&mut self, barrier: BarrierId) {
            self.protocol.committed(barrier, self.now());
        }

        /// A change that is committed and met at once.
        fn change(&mut self, number: u64) -> BarrierId {
            let barrier = self.begin(number);
            self.tell_entry(number);
            self.committed(barrier);
            barrier
        }

        fn enforced(&mut self) -> Vec<BarrierId> {
            self.protocol.enforced(self.now()).into_iter().map(|enforced| enforced.barrier).collect()
        }

        fn is_enforced_at(&mut self, now: u64) -> bool {
            self.now = now;
            !self.enforced().is_empty()
        }
    }

    #[test]
    fn a_lease_lasts_from_before_its_probe_was_sent_and_begins_when_it_is_met() {
        let mut instance = Instance::member(&[]);
        let sent = instance.now;
        let lease = instance.probe().unwrap();
        instance.now += 100;
        instance.protocol.probe_ended(&lease, true, instance.now());
        assert_eq!(instance.protocol.deadline(), None);
        instance.tell(News::Lease(lease));
        assert_eq!(instance.protocol.deadline(), Some(moment(sent + LEASE)));
    }

    #[test]
    fn no_probe_is_sent_before_memory_is_loaded() {
        let mut instance = Instance::new(Role::Member(timing(LEASE)));
        assert_eq!(instance.probe(), None);
        instance.protocol.opened(incarnation(1), instance.now());
        assert_eq!(instance.probe(), None);
        instance.protocol.loaded(instance.now(), &[]);
        assert!(instance.probe().is_some());
    }

    #[test]
    fn a_probe_that_is_late_or_told_twice_shortens_no_lease() {
        let mut instance = Instance::member(&[]);
        let late = instance.probe().unwrap();
        instance.protocol.probe_ended(&late, false, instance.now());
        instance.now += PROBE_INTERVAL;
        let (sent, lease) = (instance.now, instance.renew());
        for again in [late, lease, late] {
            instance.tell(News::Lease(again));
            assert_eq!(instance.protocol.deadline(), Some(moment(sent + LEASE)));
        }
    }

    #[test]
    fn one_probe_is_under_way_at_a_time_and_a_failed_one_is_soon_sent_again() {
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
    fn a_change_is_enforced_when_everybody_else_has_applied_it() {
        let mut instance = Instance::member(&[lease_of(2, 0), lease_of(3, 0)]);
        let barrier = instance.change(7);
        let applied = instance.at;
        assert!(instance.enforced().is_empty());
        instance.tell(News::Lease(lease_of(2, applied)));
        instance.tell(News::Lease(lease_of(3, applied - 1)));
        assert!(instance.enforced().is_empty(), "the third has not come so far");
        instance.tell(News::Lease(lease_of(3, applied)));
        instance.now += 5;
        let enforced = instance.protocol.enforced(instance.now());
        assert_eq!(enforced, [Enforced { barrier, elapsed: Duration::from_nanos(5), instances: 3 }]);
        assert!(instance.enforced().is_empty(), "each is given once");
    }

    #[test]
    fn nothing_is_enforced_before_it_was_acknowledged() {
        let mut instance = Instance::member(&[]);
        let barrier = instance.begin(7);
        instance.tell_entry(7);
        assert!(!instance.is_enforced_at(instance.now + 100 * MARGIN));
        instance.committed(barrier);
        assert_eq!(instance.enforced(), [barrier]);
    }

    #[test]
    fn without_a_feed_a_change_is_enforced_one_lease_and_its_margin_after_the_commit() {
        let mut instance = Instance::new(Role::Member(timing(LEASE)));
        let barrier = instance.begin(7);
        instance.committed(barrier);
        let end = instance.now + MARGIN;
        assert_eq!(instance.protocol.wake_at(), Some(moment(end)));
        assert!(!instance.is_enforced_at(end - 1));
        assert!(instance.is_enforced_at(end));
    }

    #[test]
    fn a_dead_instance_costs_one_lease_and_then_nothing() {
        let mut instance = Instance::member(&[]);
        instance.tell(News::Lease(lease_of(2, 0)));
        let silent = instance.now + MARGIN;
        instance.now += LEASE / 2;
        instance.change(7);
        assert!(!instance.is_enforced_at(silent - 1));
        assert!(instance.is_enforced_at(silent));
        instance.change(8);
        assert_eq!(instance.enforced().len(), 1);
    }

    #[test]
    fn leases_found_at_load_are_waited_for_and_the_own_former_lives_are_not() {
        let mut instance = Instance::member(&[]);
        let own = instance.renew();
        instance.protocol.lost();
        instance.load(2, &[own]);
        instance.change(7);
        assert_eq!(instance.enforced().len(), 1);
        instance.tell(News::Lease(Lease { sequence: own.sequence + 1, ..own }));
        instance.change(8);
        assert_eq!(instance.enforced().len(), 1, "a late probe of a former life makes nobody wait");

        instance.protocol.lost();
        instance.load(3, &[own, lease_of(9, 0)]);
        instance.change(10);
        assert!(!instance.is_enforced_at(instance.now + MARGIN - 1));
    }

    #[test]
    fn an_instance_that_leaves_is_waited_for_no_longer() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let under_way = instance.change(7);
        assert!(instance.enforced().is_empty());
        instance.tell(News::LeaseGone(incarnation(2)));
        assert_eq!(instance.enforced(), [under_way]);
        let later = instance.change(8);
        assert_eq!(instance.enforced(), [later]);
    }

    #[test]
    fn a_repeat_waits_for_a_probe_sent_after_it_and_for_the_others() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        let before = instance.probe().unwrap();
        let repeat = instance.protocol.begin_repeat(instance.now());
        instance.protocol.probe_ended(&before, true, instance.now());
        instance.tell(News::Lease(before));
        instance.tell(News::Lease(lease_of(2, instance.at)));
        assert!(instance.enforced().is_empty());
        let after = instance.renew();
        assert!(after.asks);
        instance.tell(News::Lease(lease_of(2, instance.at - 1)));
        assert!(instance.enforced().is_empty());
        instance.tell(News::Lease(lease_of(2, instance.at - 1)));
        assert_eq!(instance.enforced(), [repeat]);
    }

    #[test]
    fn a_member_answers_at_once_whoever_asks() {
        let mut instance = Instance::member(&[]);
        instance.renew();
        assert_eq!(instance.probe(), None);
        instance.tell(News::Lease(Lease { asks: true, ..lease_of(2, 0) }));
        assert_eq!(instance.renew().applied, LogTime::new(instance.at - 1));
        assert_eq!(instance.probe(), None);
        instance.tell_entry(7);
        assert_eq!(instance.renew().applied, LogTime::new(instance.at - 1));
        instance.tell(News::Entry { id: entry(8), asks: false });
        assert_eq!(instance.probe(), None);
    }

    #[test]
    fn a_feed_lost_before_the_commit_leaves_a_change_to_a_probe_after_the_commit() {
        let mut instance = Instance::member(&[]);
        let barrier = instance.begin(7);
        instance.protocol.lost();
        instance.load(2, &[lease_of(3, 0)]);
        instance.renew();
        instance.tell_entry(7);
        instance.committed(barrier);
        assert!(instance.enforced().is_empty(), "that probe was sent before the commit");
        instance.renew();
        instance.tell(News::Lease(lease_of(3, instance.at)));
        assert_eq!(instance.enforced(), [barrier]);
    }

    #[test]
    fn a_feed_lost_after_the_commit_leaves_a_change_to_the_next_life() {
        for is_met in [false, true] {
            let mut instance = Instance::member(&[lease_of(3, 0)]);
            let barrier = instance.begin(7);
            instance.committed(barrier);
            if is_met {
                instance.tell_entry(7);
            }
            instance.protocol.lost();
            assert!(instance.enforced().is_empty());
            instance.load(2, &[lease_of(3, 0)]);
            instance.renew();
            assert!(instance.enforced().is_empty());
            instance.tell(News::Lease(lease_of(3, instance.at)));
            assert_eq!(instance.enforced(), [barrier]);
        }
    }

    #[test]
    fn a_change_begun_without_a_feed_finds_its_place_in_one_opened_before_its_commit() {
        for role in [Role::Member(timing(LEASE)), Role::Alone] {
            let mut instance = Instance::new(role);
            let barrier = instance.begin(7);
            instance.load(1, &[]);
            instance.committed(barrier);
            assert!(instance.enforced().is_empty());
            instance.renew();
            assert_eq!(instance.enforced(), [barrier]);
        }
    }

    #[test]
    fn an_abandoned_change_is_waited_for_by_nobody() {
        let mut instance = Instance::member(&[]);
        let barrier = instance.change(7);
        instance.protocol.abandon(barrier);
        assert!(!instance.is_enforced_at(instance.now + MARGIN));
    }

    #[test]
    fn the_answer_to_a_probe_of_a_former_life_is_not_taken_for_this_one() {
        let mut instance = Instance::member(&[]);
        let former = instance.probe().unwrap();
        instance.protocol.lost();
        assert_eq!(instance.protocol.deadline(), None);
        instance.load(2, &[]);
        let lease = instance.probe().unwrap();
        assert_eq!(lease.sequence, former.sequence);
        instance.protocol.probe_ended(&former, true, instance.now());
        instance.tell(News::Lease(former));
        assert_eq!(instance.protocol.deadline(), None);
        instance.now += PROBE_INTERVAL;
        assert_eq!(instance.probe(), None, "its own is under way still");
    }

    #[test]
    fn an_observer_waits_for_the_members_and_makes_nobody_wait() {
        let mut observer = Instance::loaded(Role::Observer(timing(LEASE)), &[lease_of(2, 0)]);
        assert_eq!(observer.probe(), None);
        let change = observer.change(7);
        assert_eq!(observer.probe(), None, "nobody waits for what it has applied");
        assert!(observer.enforced().is_empty());
        observer.tell(News::Lease(lease_of(2, observer.at)));
        assert_eq!(observer.enforced(), [change]);
        let repeat = observer.protocol.begin_repeat(observer.now());
        let lease = observer.renew();
        observer.tell(News::Lease(lease_of(2, observer.at)));
        assert_eq!(observer.enforced(), [repeat]);
        assert_eq!(observer.protocol.deadline(), None);

        let mut member = Instance::member(&[lease]);
        let change = member.change(8);
        assert_eq!(member.enforced(), [change]);
    }

    #[test]
    fn who_is_alone_answers_while_its_feed_is_whole_and_waits_for_itself() {
        let mut alone = Instance::loaded(Role::Alone, &[]);
        assert_eq!(alone.protocol.deadline(), Some(Moment::NEVER));
        assert_eq!(alone.probe(), None);
        let change = alone.begin(7);
        alone.committed(change);
        assert!(!alone.is_enforced_at(alone.now + 100 * MARGIN));
        alone.tell_entry(7);
        assert_eq!(alone.enforced(), [change]);
        let change = alone.begin(8);
        alone.committed(change);
        alone.protocol.lost();
        assert_eq!(alone.protocol.deadline(), None);
        assert_eq!(alone.enforced(), [change], "nobody answers from memory");
    }

    #[test]
    fn under_leases_of_no_length_a_commit_is_enough_and_nobody_is_behind() {
        let mut instance = Instance::loaded(Role::Member(timing(0)), &[]);
        assert_eq!(instance.probe().expect("it says that it is there").applied, LogTime::LAST);
        instance.tell_entry(6);
        assert_eq!(instance.probe(), None);
        let barrier = instance.begin(7);
        instance.committed(barrier);
        assert_eq!(instance.enforced(), [barrier]);
    }

    #[test]
    fn leases_are_removed_by_an_instance_that_would_have_heard_of_them() {
        let mut instance = Instance::member(&[lease_of(2, 0)]);
        instance.renew();
        instance.now += 10 * LEASE;
        assert_eq!(instance.protocol.gone(instance.now()), [], "its own feed may be behind as far");
        instance.renew();
        assert_eq!(instance.protocol.gone(instance.now()), [lease_of(2, 0)]);
        instance.tell(News::Lease(lease_of(2, 1)));
        assert_eq!(instance.protocol.gone(instance.now()), []);
    }

    /// Something that happens to an instance.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Time(u64),
        Begin,
        BeginRepeat,
        Commit,
        MeetEntry,
        EndProbe(bool),
        MeetProbe,
        Hear(u64),
        Leave(u64),
        Lose,
        Load,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..MARGIN).prop_map(Step::Time),
            Just(Step::Begin),
            Just(Step::BeginRepeat),
            Just(Step::Commit),
            Just(Step::MeetEntry),
            any::<bool>().prop_map(Step::EndProbe),
            Just(Step::MeetProbe),
            (2u64..5).prop_map(Step::Hear),
            (2u64..5).prop_map(Step::Leave),
            Just(Step::Lose),
            Just(Step::Load),
        ];
        proptest::collection::vec(step, 1..40)
    }

    fn roles() -> impl Strategy<Value = Role> {
        prop_oneof![
            Just(Role::Alone),
            Just(Role::Member(timing(LEASE))),
            Just(Role::Member(timing(0))),
            Just(Role::Observer(timing(LEASE))),
        ]
    }

    proptest! {
        /// Neither overslept nor woken for nothing.
        #[test]
        fn something_is_due_at_the_moment_to_wake_at_and_nothing_before(role in roles(), steps in steps()) {
            let mut instance = Instance::new(role);
            let (mut lives, mut entries, mut begun, mut probe) = (0, 0, None, None);
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
                    Step::Commit => begun.take().into_iter().for_each(|barrier| instance.committed(barrier)),
                    Step::MeetEntry => instance.tell_entry(entries),
                    Step::EndProbe(succeeded) => {
                        if let Some(lease) = &probe {
                            instance.protocol.probe_ended(lease, succeeded, instance.now());
                        }
                    }
                    Step::MeetProbe => probe.into_iter().for_each(|lease| instance.tell(News::Lease(lease))),
                    Step::Hear(other) => instance.tell(News::Lease(lease_of(other, instance.at))),
                    Step::Leave(other) => instance.tell(News::LeaseGone(incarnation(other))),
                    Step::Lose => {
                        instance.protocol.lost();
                    }
                    Step::Load => {
                        instance.protocol.lost();
                        lives += 100;
                        instance.load(lives, &[lease_of(2, 0)]);
                    }
                }
                let due = |instance: &mut Instance| {
                    let enforced = instance.enforced();
                    let sent = instance.probe();
                    (!enforced.is_empty() || sent.is_some(), sent)
                };
                let (_, sent) = due(&mut instance);
                probe = sent.or(probe);
                match instance.protocol.wake_at() {
                    None => {
                        instance.now += 100 * LEASE;
                        prop_assert!(!due(&mut instance).0);
                    }
                    Some(at) => {
                        prop_assert!(at > instance.now(), "woken for nothing");
                        instance.now = at.as_nanos() - 1;
                        prop_assert!(!due(&mut instance).0, "overslept");
                        instance.now += 1;
                        let (is_due, sent) = due(&mut instance);
                        prop_assert!(is_due, "woken for nothing");
                        probe = sent.or(probe);
                    }
                }
            }
        }
    }
}
