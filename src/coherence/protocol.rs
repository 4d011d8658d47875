//! How revocation is exact on many instances: a state machine, without waiting, input or output.
//!
//! An instance may answer from memory until `s + L`, where `s` is its clock before it sent the latest probe that it
//! has met in its own feed: what was committed before that probe is in its memory. A change is *enforced* once every
//! instance that may still answer without it has either said that it applied it, or cannot answer from memory any
//! more: see [`Protocol::enforced`]. `docs/model/lease.pml` is the model of it.
//!
//! Whoever drives it keeps two orders: memory is changed *before* [`applied`](Protocol::applied) is called, and
//! [`probe`](Protocol::probe) is called *before* its write is sent.

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
const ALONE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Former lives of this instance that are remembered.
const LIVES_REMEMBERED: usize = 64;

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
        self.lease + self.lease / 100
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one process over its store: memory may answer while the feed is whole, and there is nobody to wait for.
    Alone,
    /// One of several instances that answer from memory.
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
    /// Of the last probe that was sent.
    sequence: u64,
    sent: VecDeque<(u64, Moment)>,
    in_flight: Option<u64>,
    next_probe: Moment,
    /// A probe is wanted before its time.
    wanted: bool,
    peers: BTreeMap<Incarnation, Peer>,
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
        self.life = Some(Life {
            incarnation,
            loaded: false,
            applied: LogTime::default(),
            deadline: None,
            sequence: 0,
            sent: VecDeque::new(),
            in_flight: None,
            next_probe: now,
            wanted: false,
            peers: BTreeMap::new(),
        });
    }

    /// Memory holds everything committed before the feed was opened, and these leases were read since. Each counts
    /// as heard of now, so that no instance is unknown.
    pub fn loaded(&mut self, now: Moment, leases: &[Lease]) {
        let (waiting, former) = (self.asks(), &self.former);
        let Some(life) = &mut self.life else { return };
        life.loaded = true;
        life.wanted = waiting;
        life.peers = leases
            .iter()
            .filter(|lease| lease.incarnation != life.incarnation && !former.contains(&lease.incarnation))
            .map(|lease| (lease.incarnation, Peer { last: *lease, seen: now }))
            .collect();
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
                life.wanted |= asks && matches!(self.role, Role::Member(_));
                for barrier in self.barriers.values_mut() {
                    if matches!(barrier.marker, Marker::Entry(marker) if marker == id) {
                        barrier.pass(at, life, now, self.role);
                    }
                }
            }
            News::Lease(lease) if lease.incarnation == life.incarnation => {
                let found = life.sent.iter().position(|(sequence, _)| *sequence == lease.sequence);
                if let (Some(found), Role::Member(timing)) = (found, self.role) {
                    let until = life.sent[found].1.plus(timing.lease);
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
                life.wanted |= lease.asks && matches!(self.role, Role::Member(_));
                for passed in self.barriers.values_mut().filter_map(|barrier| barrier.passed.as_mut()) {
                    if lease.applied >= passed.at {
                        passed.awaited.remove(&lease.incarnation);
                    }
                }
            }
            News::LeaseGone(incarnation) => {
                life.peers.remove(&incarnation);
                for passed in self.barriers.values_mut().filter_map(|barrier| barrier.passed.as_mut()) {
                    passed.awaited.remove(&incarnation);
                }
            }
            News::Other => {}
        }
    }

    /// The feed is lost: memory is gone. Changes whose place was met or not met in it find another one in the next.
    pub fn lost(&mut self) {
        if let Some(life) = self.life.take() {
            self.former.truncate(LIVES_REMEMBERED - 1);
            self.former.push_front(life.incarnation);
        }
        for barrier in self.barriers.values_mut() {
            barrier.passed = None;
            barrier.marker = Marker::ProbeAfter(barrier.committed.map(|_| 0));
        }
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
        let applied = if matches!(self.role, Role::Observer(_)) { LogTime::LAST } else { life.applied };
        Some(Lease { incarnation: life.incarnation, sequence: life.sequence, applied, asks })
    }

    /// The write of a probe has ended. One that failed may arrive yet.
    pub fn probe_ended(&mut self, lease: &Lease, succeeded: bool, now: Moment) {
        let interval = self.role.timing().map_or(ALONE_PROBE_INTERVAL, |timing| timing.probe_interval);
        let Some(life) = &mut self.life else { return };
        if life.in_flight == Some(lease.sequence) && life.incarnation == lease.incarnation {
            life.in_flight = None;
            life.next_probe = now.plus(if succeeded { interval } else { interval / RETRY_PART });
        }
    }

    /// When to look again for [`enforced`](Self::enforced) barriers and a [`probe`](Self::probe), if nothing happens
    /// before.
    pub fn wake_at(&self) -> Option<Moment> {
        let margin = self.role.timing().map(|timing| timing.margin());
        let ends = self.barriers.values().filter_map(|barrier| {
            let (committed, margin) = (barrier.committed?, margin?);
            let silent = barrier.passed.as_ref().and_then(|passed| passed.awaited.values().max());
            Some(silent.map_or(committed, |seen| committed.min(*seen)).plus(margin))
        });
        let probe = self.life.as_ref().filter(|life| life.loaded && life.in_flight.is_none()).and_then(|life| {
            let periodic = matches!(self.role, Role::Member(_)) || self.asks();
            if life.wanted { Some(Moment::START) } else { periodic.then_some(life.next_probe) }
        });
        ends.chain(probe).min()
    }

    /// Leases of instances that were not heard of for so long that they are gone: to be removed.
    pub fn gone(&self, now: Moment) -> Vec<Lease> {
        let (Some(life), Some(timing)) = (&self.life, self.role.timing()) else { return Vec::new() };
        let silent = life.peers.values().filter(|peer| now >= peer.seen.plus(timing.lease * GONE_AFTER_LEASES));
        silent.map(|peer| peer.last).collect()
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
                let silent = |seen: &Moment| now >= seen.plus(timing.margin());
                passed.awaited.values().all(silent).then_some(passed.instances)
            }
        }
    }
}

fn count<T>(map: &BTreeMap<Incarnation, T>) -> u32 {
    u32::try_from(map.len()).unwrap_or(u32::MAX)
}
