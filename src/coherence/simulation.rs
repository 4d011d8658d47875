//! Random schedules of real [`Protocol`]s over one simulated log, and a checker of what clients were told.
//!
//! Simulated: one to four processes, each with a protocol, a memory and a driver that takes the steps of the real one
//! in the same order; one log, in which everything is committed in one order, and its rows and lease documents. Every
//! request to the store and every answer travels for itself: it may be slow, overtaken, lost, or arrive after its
//! sender gave up, and a probe may arrive twice. Feeds lag. Processes pause between any two steps while their clocks
//! go on, crash, leave and come back; feeds break while rows are scanned and written. Clocks start anywhere and run
//! apart as far as the margin allows. For some time no primary may be there. Clients generate, revoke (one key or
//! several at once), repeat both, and verify.
//!
//! Not simulated: the database (the log *is* what a majority has committed), threads below the steps named here, the
//! formats of what is sent, sessions and operators (they are rows as keys are), and a clock that stands still. Keymark
//! has no mode in which a refusal too is exact, hence no bug that would break it.
//!
//! Checked: no verification that was begun after a revocation was said to be enforced accepts the key; none that ended
//! before anybody revoked, and was begun after the key was said to be known everywhere, misses it in memory; and
//! everybody who waits is answered in time once the faults have stopped, without any timer where there were none.
//!
//! A schedule follows from its seed alone. The seed of one that fails is printed with its trace.

use std::cell::Cell;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::protocol::{ALONE_PROBE_INTERVAL, BarrierId, News, Protocol, Role, Timing};
use crate::clock::Moment;
use crate::domain::ids::AuditEntryId;
use crate::domain::leases::{Incarnation, Lease, LogTime};
use crate::domain::time::Timestamp;

/// Schedules of the ordinary run; the environment may ask for another number.
const SCHEDULES: u64 = 100_000;
const SCHEDULES_VARIABLE: &str = "KEYMARK_SIMULATION_SCHEDULES";
/// A planted bug has to be found within so many.
const SCHEDULES_FOR_A_BUG: u64 = 100_000;
const STEPS: u32 = 300;
/// One schedule of this many is followed until nobody waits any more.
const SETTLED_ONE_IN: u64 = 8;

/// In the simulation's unit of time.
const LEASE: u64 = 10_000;
const PROBE_INTERVAL: u64 = 1_000;
/// A clock runs fast or slow by at most 1/202: then one hundredth makes up for two that run apart, as
/// (1 + 1/202) / (1 - 1/202) < 1.01.
const TICKS: u64 = 20_200;
const SKEW_AT_MOST: u64 = 100;
const KEYS: usize = 3;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// What may be wrong, in the protocol or in what drives it. Each has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A change is said to be enforced when it is committed.
    NoWait,
    /// A lease counts from when its probe was met.
    TtlStart,
    /// A lease counts from when the write of its probe was answered.
    StampLate,
    /// The deadline is loaded after the entry was read.
    LoadLate,
    /// The deadline is that of whatever memory there is by then, not of the one that is read.
    DeadlineApart,
    /// The clock's reading is older than the verification.
    ClockEarly,
    /// Who else there is is not read when memory is loaded.
    Forget,
    /// A change counts as heard of when the one before it was.
    HeardEarly,
    /// A broken feed goes on at its end, with the memory there is.
    Skip,
    /// Memory is built anew, and what was heard of the others before is kept.
    KeptLife,
    /// Memory is built anew, and may answer meanwhile for as long as the old one might.
    KeptDeadline,
    /// Probes of a former life count for this one.
    FormerLife,
    /// A probe of the next life counts as sent after a commit that it was sent before.
    EarlyMarker,
    /// A change is told to the protocol before memory is changed.
    AckEarly,
    /// Rows that were scanned overwrite what was followed meanwhile.
    Fill,
    /// Rows are scanned as they were before the feed was opened.
    StaleRead,
    /// A repeat is answered at once.
    Idempotent,
    /// A repeat waits for a probe sent before it was found to be one.
    RepeatEarly,
    /// Waits for as long as a lease lasts, whatever the clocks do.
    Drift,
}

pub(super) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// What a key is, in the store or in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Absent,
    Active,
    Revoked,
}

/// Keys, by bits.
type Keys = u8;

#[derive(Clone, Copy, Debug)]
struct Batch {
    id: AuditEntryId,
    keys: Keys,
    was: Row,
    becomes: Row,
}

/// What is committed at once.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Batch(Batch),
    Lease(Lease),
    LeaseGone(Incarnation),
}

/// An instance from one start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    instance: usize,
    start: u32,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Put {
        from: Process,
        lease: Lease,
        /// Whether the sender was told how it ended, or has given up.
        answered: bool,
    },
    PutEnded {
        to: Process,
        lease: Lease,
        succeeded: bool,
    },
    Delete(Lease),
    Commit {
        operation: usize,
        batch: Batch,
        answered: bool,
    },
    CommitEnded {
        operation: usize,
        outcome: Outcome,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Committed,
    Conflict,
    Unknown,
}

/// Where a process is in its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Without a feed.
    Closed,
    /// The next row to scan, and what was read of it.
    Scanning(usize, Option<Row>),
    Listing,
    Listed,
    /// Ready for the next change.
    Following,
    /// The first half of it is done: memory is changed.
    Applied,
    /// The protocol knows it; the deadline was not passed on yet.
    Told,
}

struct Memory {
    rows: [Row; KEYS],
    deadline: u64,
}

struct Instance {
    role: Role,
    start: u32,
    phase: Phase,
    protocol: Protocol,
    /// What verifications read.
    memory: Option<usize>,
    /// What the driver builds and follows into.
    building: usize,
    /// Of the next change in the log.
    position: usize,
    listed: Vec<Lease>,
    last_probe: Option<Lease>,
    paused_until: u32,
    clock_start: u64,
    /// Ticks while [`TICKS`] units of time pass.
    clock_rate: u64,
    /// A reading of some time ago.
    old_reading: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Reading,
    /// Found to be a repeat.
    Found,
    Committing,
    Waiting,
    Ended,
}

/// A change that a client has asked for.
struct Operation {
    process: Process,
    keys: Keys,
    becomes: Row,
    progress: Progress,
    barrier: Option<BarrierId>,
    /// The keys that are so when it is enforced.
    covers: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Memory,
    Deadline,
    Entry,
    Clock,
}

struct Verification {
    process: Process,
    key: usize,
    next: Look,
    memory: usize,
    deadline: Moment,
    row: Row,
    reading: Moment,
    /// When it was begun, the revocation of the key was enforced.
    is_revoked: bool,
    /// When it was begun, the key was known everywhere.
    is_known: bool,
}

/// How much happened, to see that something did.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    read_through: u64,
    fast: u64,
    by_timer: u64,
    repeats: u64,
    unknown: u64,
    rebuilds: u64,
    crashes: u64,
    leaves: u64,
    pauses: u64,
    failovers: u64,
    late_probes: u64,
    double_probes: u64,
    removed_leases: u64,
    settled: u64,
}

/// What a schedule is allowed to do.
#[derive(Clone, Copy, Debug)]
enum Faults {
    Any,
    None,
}

struct World {
    chance: Chance,
    faults: Faults,
    now: u64,
    step: u32,
    log: Vec<Entry>,
    rows: [Row; KEYS],
    leases: Vec<Lease>,
    has_primary: bool,
    messages: Vec<Message>,
    memories: Vec<Memory>,
    instances: Vec<Instance>,
    operations: Vec<Operation>,
    verifications: Vec<Verification>,
    /// An instance that follows seldom.
    laggard: usize,
    /// One step of so many takes time.
    haste: usize,
    /// One fault of so many that might happen does.
    luck: usize,
    known: Keys,
    revoking: Keys,
    revoked: Keys,
    counts: Counts,
    trace: Option<Vec<String>>,
    violation: Option<&'static str>,
}

macro_rules! trace {
    ($world:expr, $($argument:tt)+) => {
        if let Some(trace) = &mut $world.trace {
            trace.push(format!("{:>4} {:>6}  {}", $world.step, $world.now, format_args!($($argument)+)));
        }
    };
}

struct Chance(StdRng);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        let drawn = (u64::from(self.0.next_u32()) * bound as u64) >> 32;
        usize::try_from(drawn).expect("below the bound")
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

fn timing() -> Timing {
    Timing { lease: Duration::from_nanos(LEASE), probe_interval: Duration::from_nanos(PROBE_INTERVAL) }
}

fn margin() -> Duration {
    timing().lease + timing().lease / 100
}

impl Instance {
    fn clock(&self, now: u64) -> Moment {
        Moment::from_nanos(self.clock_start + now * self.clock_rate / TICKS)
    }

    /// When its clock will show this.
    fn when(&self, reading: Moment) -> u64 {
        (reading.as_nanos().saturating_sub(self.clock_start) * TICKS).div_ceil(self.clock_rate)
    }

    fn answers(&self) -> bool {
        !matches!(self.role, Role::Observer(_))
    }
}

impl World {
    fn new(seed: u64, faults: Faults, is_traced: bool) -> Self {
        let mut chance = Chance(StdRng::seed_from_u64(seed));
        let instances = [1, 2, 2, 2, 3, 3, 4][chance.below(7)];
        let is_alone = instances == 1 && chance.one_in(2);
        let mut world = Self {
            faults,
            now: 0,
            step: 0,
            log: Vec::with_capacity(64),
            rows: [Row::Active, Row::Active, Row::Absent],
            leases: Vec::new(),
            has_primary: true,
            messages: Vec::with_capacity(16),
            memories: Vec::with_capacity(8),
            instances: Vec::with_capacity(instances),
            operations: Vec::with_capacity(8),
            verifications: Vec::with_capacity(8),
            laggard: chance.below(2 * instances),
            haste: [2, 8, 32][chance.below(3)],
            luck: [1, 3, 9][chance.below(3)],
            known: 0b011,
            revoking: 0,
            revoked: 0,
            counts: Counts::default(),
            trace: is_traced.then(Vec::new),
            violation: None,
            chance,
        };
        for instance in 0..instances {
            let role = match is_alone {
                true => Role::Alone,
                false if instance > 0 && world.chance.one_in(8) => Role::Observer(timing()),
                false => Role::Member(timing()),
            };
            let skew = [0, SKEW_AT_MOST, 2 * SKEW_AT_MOST][world.chance.below(3)];
            world.instances.push(Instance {
                role,
                start: 0,
                phase: Phase::Closed,
                protocol: Protocol::new(role),
                memory: None,
                building: 0,
                position: 0,
                listed: Vec::new(),
                last_probe: None,
                paused_until: 0,
                clock_start: world.chance.below(100_000) as u64,
                clock_rate: TICKS - SKEW_AT_MOST + skew,
                old_reading: Moment::START,
            });
        }
        world
    }

    fn process(&self, instance: usize) -> Process {
        Process { instance, start: self.instances[instance].start }
    }

    fn is_alive(&self, process: Process) -> bool {
        let instance = &self.instances[process.instance];
        instance.start == process.start && instance.phase != Phase::Down
    }

    fn runs(&self, instance: usize) -> bool {
        let instance = &self.instances[instance];
        instance.phase != Phase::Down && instance.paused_until <= self.step
    }

    fn run(&mut self) {
        for instance in 0..self.instances.len() {
            if !self.chance.one_in(4) || matches!(self.faults, Faults::None) {
                while self.instances[instance].phase != Phase::Following {
                    self.drive(instance);
                }
                self.settle(instance);
            }
        }
        while self.step < STEPS && self.violation.is_none() {
            self.step += 1;
            if self.chance.one_in(self.haste) {
                self.now += 1 + self.chance.below(4) as u64;
            }
            self.take_a_step();
        }
    }

    fn take_a_step(&mut self) {
        let count = self.instances.len();
        match self.chance.below(64) {
            0..20 => {
                let instance = self.chance.below(count);
                if self.runs(instance) && (instance != self.laggard || self.chance.one_in(8)) {
                    self.drive(instance);
                    while self.runs(instance) && !self.chance.one_in(4) && self.drive(instance) {}
                }
            }
            20..32 if !self.messages.is_empty() => {
                let message = self.chance.below(self.messages.len());
                self.deliver(message);
            }
            32..42 => {
                let instance = self.chance.below(count);
                if self.runs(instance) {
                    self.settle(instance);
                }
            }
            42..50 => {
                if self.verifications.len() < 4 && self.chance.one_in(2) {
                    let (instance, key) = (self.chance.below(count), self.chance.below(KEYS));
                    self.verify(instance, key);
                } else if !self.verifications.is_empty() {
                    let verification = self.chance.below(self.verifications.len());
                    self.look(verification);
                }
            }
            50..53 if self.operations.len() < 6 => self.ask(),
            50..58 if !self.operations.is_empty() => {
                let operation = self.chance.below(self.operations.len());
                self.operate(operation);
            }
            58..60 if matches!(self.faults, Faults::Any) => self.jump(),
            60..64 if matches!(self.faults, Faults::Any) && self.chance.one_in(self.luck) => self.fault(),
            _ => {}
        }
    }

    /// Time goes on: to the moment somebody waits for, most often.
    fn jump(&mut self) {
        let instance = &self.instances[self.chance.below(self.instances.len())];
        match self.chance.below(16) {
            0..11 => {
                if let Some(at) = instance.protocol.wake_at() {
                    self.now = self.now.max(instance.when(at));
                }
            }
            11..15 => self.now += self.chance.below(LEASE as usize / 2) as u64,
            _ => self.now += 11 * LEASE,
        }
        trace!(self, "time has passed");
    }

    fn fault(&mut self) {
        let instance = self.chance.below(self.instances.len());
        if self.instances[instance].phase == Phase::Down {
            let role = self.instances[instance].role;
            let restarted = &mut self.instances[instance];
            (restarted.phase, restarted.protocol, restarted.last_probe) = (Phase::Closed, Protocol::new(role), None);
            trace!(self, "{instance} starts again");
            return;
        }
        match self.chance.below(16) {
            0..5 => {
                let length = 5 + self.chance.below(40);
                self.instances[instance].paused_until = self.step + u32::try_from(length).expect("small");
                self.counts.pauses += 1;
                trace!(self, "{instance} pauses");
            }
            5..10 if self.runs(instance) => self.lose_feed(instance),
            10..12 => {
                self.counts.crashes += 1;
                trace!(self, "{instance} crashes");
                self.stop(instance);
                self.verifications.retain(|verification| verification.process.instance != instance);
            }
            12..14 if self.runs(instance) => {
                self.counts.leaves += 1;
                trace!(self, "{instance} leaves");
                self.forget(instance);
                if let Some(lease) = self.instances[instance].last_probe.take() {
                    self.messages.push(Message::Delete(lease));
                }
                self.stop(instance);
            }
            14.. => {
                self.has_primary = !self.has_primary;
                self.counts.failovers += u64::from(!self.has_primary);
                trace!(self, "there is a primary: {}", self.has_primary);
            }
            _ => {}
        }
    }

    fn stop(&mut self, instance: usize) {
        let stopped = &mut self.instances[instance];
        stopped.phase = Phase::Down;
        stopped.memory = None;
        stopped.start += 1;
        for operation in self.operations.iter_mut().filter(|operation| operation.process.instance == instance) {
            operation.progress = Progress::Ended;
        }
    }

    // The driver.

    fn forget(&mut self, instance: usize) {
        let forgetful = &mut self.instances[instance];
        if let Some(memory) = forgetful.memory.take()
            && !is_planted(Bug::KeptDeadline)
        {
            self.memories[memory].deadline = 0;
        }
        forgetful.protocol.lost();
        forgetful.phase = Phase::Closed;
    }

    fn lose_feed(&mut self, instance: usize) {
        if self.instances[instance].phase == Phase::Closed {
            return;
        }
        trace!(self, "{instance} loses its feed");
        self.counts.rebuilds += 1;
        let loses = &mut self.instances[instance];
        let has_followed = matches!(loses.phase, Phase::Following | Phase::Applied | Phase::Told);
        if is_planted(Bug::Skip) && has_followed {
            (loses.position, loses.phase) = (self.log.len(), Phase::Following);
        } else if is_planted(Bug::KeptLife) && has_followed {
            loses.memory = None;
            (loses.position, loses.phase) = (self.log.len(), Phase::Scanning(0, None));
        } else {
            self.forget(instance);
            // It may tell the others at once that nobody has to wait for that life.
            let last = self.instances[instance].last_probe.filter(|_| self.chance.one_in(2));
            self.messages.extend(last.map(Message::Delete));
        }
        // Often the next one is whole while much is under way from before.
        if self.chance.one_in(2) {
            while self.instances[instance].phase != Phase::Following && self.drive(instance) {}
            self.settle(instance);
        }
    }

    /// One step of an instance's follower; says whether there was one to take.
    fn drive(&mut self, instance: usize) -> bool {
        let clock = self.instances[instance].clock(self.now);
        match self.instances[instance].phase {
            Phase::Down => return false,
            Phase::Closed => {
                if !self.has_primary {
                    return false;
                }
                let incarnation = Incarnation::generate(&mut self.chance.0);
                let driven = &mut self.instances[instance];
                driven.protocol.opened(incarnation, clock);
                driven.position = self.log.len();
                let kept = driven.last_probe.is_some() && is_planted(Bug::KeptDeadline);
                let deadline = if kept { self.memories[driven.building].deadline } else { 0 };
                driven.building = self.memories.len();
                driven.memory = kept.then_some(driven.building);
                driven.phase = if driven.answers() { Phase::Scanning(0, None) } else { Phase::Listing };
                self.memories.push(Memory { rows: [Row::Absent; KEYS], deadline });
                trace!(self, "{instance} opens a feed as {incarnation}");
            }
            Phase::Scanning(key, None) => {
                if !self.has_primary {
                    return false;
                }
                let mut row = self.rows[key];
                if is_planted(Bug::StaleRead) {
                    let position = self.chance.below(self.instances[instance].position + 1);
                    row = self.row_at(key, position);
                }
                self.instances[instance].phase = Phase::Scanning(key, Some(row));
            }
            Phase::Scanning(key, Some(row)) => {
                if is_planted(Bug::Fill) && self.chance.one_in(2) && self.follow_early(instance) {
                    return true;
                }
                let driven = &mut self.instances[instance];
                self.memories[driven.building].rows[key] = row;
                driven.phase = if key + 1 < KEYS { Phase::Scanning(key + 1, None) } else { Phase::Listing };
                trace!(self, "{instance} has scanned key {key}: {row:?}");
            }
            Phase::Listing => {
                if !self.has_primary {
                    return false;
                }
                let driven = &mut self.instances[instance];
                driven.listed.clear();
                if !is_planted(Bug::Forget) && driven.role != Role::Alone {
                    driven.listed.extend_from_slice(&self.leases);
                }
                driven.phase = Phase::Listed;
            }
            Phase::Listed => {
                let driven = &mut self.instances[instance];
                driven.memory = driven.answers().then_some(driven.building);
                if !(is_planted(Bug::KeptLife) && driven.protocol.deadline().is_some()) {
                    driven.protocol.loaded(clock, &driven.listed);
                }
                (driven.phase, driven.old_reading) = (Phase::Told, clock);
                trace!(self, "{instance} has loaded, and knows {} leases", self.instances[instance].listed.len());
            }
            Phase::Following => {
                if self.instances[instance].position == self.log.len() {
                    self.instances[instance].old_reading = clock;
                    return false;
                }
                match is_planted(Bug::AckEarly) {
                    false => self.change_memory(instance),
                    true => self.tell(instance, clock),
                }
                self.instances[instance].phase = Phase::Applied;
            }
            Phase::Applied => {
                match is_planted(Bug::AckEarly) {
                    false => self.tell(instance, clock),
                    true => self.change_memory(instance),
                }
                let driven = &mut self.instances[instance];
                (driven.position, driven.phase) = (driven.position + 1, Phase::Told);
                driven.old_reading = clock;
            }
            Phase::Told => {
                let driven = &mut self.instances[instance];
                self.memories[driven.building].deadline = driven.protocol.deadline().map_or(0, Moment::as_nanos);
                driven.phase = Phase::Following;
            }
        }
        true
    }

    fn change_memory(&mut self, instance: usize) {
        let driven = &self.instances[instance];
        if let Entry::Batch(batch) = &self.log[driven.position] {
            let memory = &mut self.memories[driven.building];
            (0..KEYS).filter(|key| batch.keys & 1 << key != 0).for_each(|key| memory.rows[key] = batch.becomes);
        }
    }

    fn tell(&mut self, instance: usize, clock: Moment) {
        let driven = &mut self.instances[instance];
        let news = match self.log[driven.position] {
            Entry::Batch(batch) => News::Entry { id: batch.id, asks: true },
            Entry::Lease(lease) => News::Lease(lease),
            Entry::LeaseGone(incarnation) => News::LeaseGone(incarnation),
        };
        let clock = if is_planted(Bug::HeardEarly) { driven.old_reading } else { clock };
        driven.protocol.applied(clock, log_time(driven.position), news);
        trace!(self, "{instance} has applied {}: {news:?}", self.instances[instance].position + 1);
    }

    /// The bug of following while rows are scanned.
    fn follow_early(&mut self, instance: usize) -> bool {
        if self.instances[instance].position == self.log.len() {
            return false;
        }
        self.change_memory(instance);
        self.tell(instance, self.instances[instance].clock(self.now));
        self.instances[instance].position += 1;
        true
    }

    /// The row before the log's `position`.
    fn row_at(&self, key: usize, position: usize) -> Row {
        let first = if key < 2 { Row::Active } else { Row::Absent };
        self.log[..position].iter().fold(first, |row, entry| match entry {
            Entry::Batch(batch) if batch.keys & 1 << key != 0 => batch.becomes,
            _ => row,
        })
    }

    /// Answers whoever needs to wait no longer, and sends a probe if it is time for one.
    fn settle(&mut self, instance: usize) {
        let process = self.process(instance);
        let settled = &mut self.instances[instance];
        let clock = settled.clock(self.now);
        for enforced in settled.protocol.enforced(clock) {
            let by_timer = enforced.elapsed >= margin();
            self.counts.by_timer += u64::from(by_timer);
            self.counts.fast += u64::from(!by_timer);
            let operation = self.operations.iter().position(|operation| {
                operation.process == process
                    && operation.progress == Progress::Waiting
                    && operation.barrier == Some(enforced.barrier)
            });
            if let Some(operation) = operation {
                self.answer(operation);
            }
        }
        let settled = &mut self.instances[instance];
        if let Some(lease) = settled.protocol.probe(clock) {
            settled.last_probe = Some(lease);
            self.messages.push(Message::Put { from: process, lease, answered: false });
            trace!(self, "{instance} sends {lease:?}");
        }
        if self.chance.one_in(4) {
            let gone = self.instances[instance].protocol.gone(clock);
            self.messages.extend(gone.into_iter().map(Message::Delete));
        }
    }

    // The store.

    fn deliver(&mut self, index: usize) {
        let faults = matches!(self.faults, Faults::Any);
        match self.messages[index] {
            Message::Put { from, lease, answered } => {
                let fate = if faults { self.chance.below(16) } else { 15 };
                let ended = |succeeded| Message::PutEnded { to: from, lease, succeeded };
                match fate {
                    // Lost on the way, or the sender waits no longer and it arrives later.
                    0 => self.messages[index] = ended(false),
                    1 | 2 if !answered => {
                        self.counts.late_probes += 1;
                        self.messages[index] = Message::Put { from, lease, answered: true };
                        self.messages.push(ended(false));
                    }
                    _ if !self.has_primary => {}
                    // Arrives now and once more.
                    3 if !answered => {
                        self.counts.double_probes += 1;
                        self.put(lease);
                        self.messages[index] = Message::Put { from, lease, answered: true };
                        self.messages.push(ended(true));
                    }
                    _ => {
                        self.put(lease);
                        self.messages[index] = ended(fate != 4);
                        if answered {
                            self.messages.swap_remove(index);
                        }
                    }
                }
            }
            Message::PutEnded { to, lease, succeeded } => {
                if self.is_alive(to) {
                    if !self.runs(to.instance) {
                        return;
                    }
                    let instance = &mut self.instances[to.instance];
                    let clock = instance.clock(self.now);
                    instance.protocol.probe_ended(&lease, succeeded, clock);
                }
                self.messages.swap_remove(index);
            }
            Message::Delete(lease) => {
                if !self.has_primary {
                    return;
                }
                self.messages.swap_remove(index);
                let found = self
                    .leases
                    .iter()
                    .position(|found| found.incarnation == lease.incarnation && found.sequence == lease.sequence);
                if let Some(found) = found {
                    self.leases.swap_remove(found);
                    self.log.push(Entry::LeaseGone(lease.incarnation));
                    self.counts.removed_leases += 1;
                    trace!(self, "{}: the lease of {} is removed", self.log.len(), lease.incarnation);
                }
            }
            Message::Commit { operation, batch, answered } => {
                let fate = if faults { self.chance.below(16) } else { 15 };
                let ended = |outcome| Message::CommitEnded { operation, outcome };
                match fate {
                    0 if !answered => self.messages[index] = ended(Outcome::Unknown),
                    1 if !answered => {
                        self.messages[index] = Message::Commit { operation, batch, answered: true };
                        self.messages.push(ended(Outcome::Unknown));
                    }
                    _ if !self.has_primary => {}
                    _ => {
                        let outcome = self.commit(batch);
                        self.messages[index] = ended(if fate == 2 { Outcome::Unknown } else { outcome });
                        if answered {
                            self.messages.swap_remove(index);
                        }
                    }
                }
            }
            Message::CommitEnded { operation, outcome } => {
                let process = self.operations[operation].process;
                if self.is_alive(process) {
                    if !self.runs(process.instance) {
                        return;
                    }
                    self.committed(operation, outcome);
                }
                self.messages.swap_remove(index);
            }
        }
    }

    fn put(&mut self, lease: Lease) {
        match self.leases.iter_mut().find(|found| found.incarnation == lease.incarnation) {
            Some(found) => *found = lease,
            None => self.leases.push(lease),
        }
        self.log.push(Entry::Lease(lease));
        trace!(self, "{}: put {} {}", self.log.len(), lease.incarnation, lease.sequence);
    }

    fn commit(&mut self, batch: Batch) -> Outcome {
        let mut keys = (0..KEYS).filter(|key| batch.keys & 1 << key != 0);
        if !keys.all(|key| self.rows[key] == batch.was) {
            return Outcome::Conflict;
        }
        (0..KEYS).filter(|key| batch.keys & 1 << key != 0).for_each(|key| self.rows[key] = batch.becomes);
        self.log.push(Entry::Batch(batch));
        trace!(self, "{}: keys {:03b} are {:?}", self.log.len(), batch.keys, batch.becomes);
        Outcome::Committed
    }

    // Clients.

    /// A client asks for a change.
    fn ask(&mut self) {
        let instance = self.chance.below(self.instances.len());
        if !self.runs(instance) {
            return;
        }
        let (keys, becomes) = match self.chance.below(8) {
            0 | 1 => (0b100, Row::Active),
            2 => (0b111, Row::Revoked),
            _ => (1 << self.chance.below(KEYS), Row::Revoked),
        };
        if becomes == Row::Revoked {
            self.revoking |= keys;
        }
        trace!(self, "operation {} at {instance}: {keys:03b} to be {becomes:?}", self.operations.len());
        self.operations.push(Operation {
            process: self.process(instance),
            keys,
            becomes,
            progress: Progress::Reading,
            barrier: None,
            covers: 0,
        });
    }

    fn operate(&mut self, index: usize) {
        let operation = &self.operations[index];
        let (process, becomes) = (operation.process, operation.becomes);
        if !self.is_alive(process) || !self.runs(process.instance) {
            return;
        }
        match operation.progress {
            Progress::Reading if self.has_primary => {
                let was = if becomes == Row::Active { Row::Absent } else { Row::Active };
                let are = |row: Row| -> Keys {
                    let keys = (0..KEYS).filter(|key| operation.keys & 1 << key != 0 && self.rows[*key] == row);
                    keys.map(|key| 1u8 << key).sum()
                };
                let (changes, stands) = (are(was), are(becomes));
                if is_planted(Bug::RepeatEarly) && operation.barrier.is_none() {
                    return self.begin_repeat(index, Progress::Reading);
                }
                let operation = &mut self.operations[index];
                operation.covers = changes | stands;
                if changes != 0 {
                    let id = AuditEntryId::new(Timestamp::from_millis(0), &mut self.chance.0);
                    let batch = Batch { id, keys: changes, was, becomes };
                    operation.barrier = Some(self.instances[process.instance].protocol.begin(id));
                    operation.progress = Progress::Committing;
                    self.messages.push(Message::Commit { operation: index, batch, answered: false });
                } else if stands == 0 {
                    operation.progress = Progress::Ended;
                } else if is_planted(Bug::Idempotent) {
                    self.answer(index);
                } else if is_planted(Bug::RepeatEarly) {
                    operation.progress = Progress::Waiting;
                } else {
                    operation.progress = Progress::Found;
                }
            }
            Progress::Found => {
                self.counts.repeats += 1;
                self.begin_repeat(index, Progress::Waiting);
            }
            Progress::Reading | Progress::Committing | Progress::Waiting | Progress::Ended => {}
        }
    }

    fn begin_repeat(&mut self, index: usize, progress: Progress) {
        let operation = &mut self.operations[index];
        let instance = &mut self.instances[operation.process.instance];
        let clock = instance.clock(self.now);
        operation.barrier = Some(instance.protocol.begin_repeat(clock));
        operation.progress = progress;
    }

    fn committed(&mut self, index: usize, outcome: Outcome) {
        let operation = &mut self.operations[index];
        let instance = &mut self.instances[operation.process.instance];
        let clock = instance.clock(self.now);
        let barrier = operation.barrier.expect("begun before the commit");
        trace!(self, "operation {index}: {outcome:?}");
        match outcome {
            Outcome::Committed if is_planted(Bug::NoWait) => self.answer(index),
            Outcome::Committed => {
                instance.protocol.committed(barrier, clock);
                operation.progress = Progress::Waiting;
            }
            Outcome::Conflict => {
                instance.protocol.abandon(barrier);
                operation.progress = Progress::Reading;
            }
            Outcome::Unknown => {
                instance.protocol.abandon(barrier);
                operation.progress = Progress::Ended;
                self.counts.unknown += 1;
            }
        }
    }

    /// The client is told that the change is enforced, and looks whether it is.
    fn answer(&mut self, index: usize) {
        let operation = &mut self.operations[index];
        operation.progress = Progress::Ended;
        let covers = operation.covers;
        match operation.becomes {
            Row::Revoked => self.revoked |= covers,
            _ => self.known |= covers,
        }
        trace!(self, "operation {index} is enforced: {covers:03b}");
        for instance in 0..self.instances.len() {
            if covers != 0 && self.runs(instance) && self.chance.one_in(2) {
                let key = (0..KEYS).find(|key| covers & 1 << key != 0).expect("one at least");
                self.verify(instance, key);
            }
        }
    }

    fn verify(&mut self, instance: usize, key: usize) {
        if !self.runs(instance) || !self.instances[instance].answers() {
            return;
        }
        self.verifications.push(Verification {
            process: self.process(instance),
            key,
            next: Look::Memory,
            memory: 0,
            deadline: Moment::START,
            row: Row::Absent,
            reading: self.instances[instance].old_reading,
            is_revoked: self.revoked & 1 << key != 0,
            is_known: self.known & 1 << key != 0,
        });
        trace!(self, "{instance} begins to verify key {key}");
        self.look(self.verifications.len() - 1);
    }

    /// Some steps of a verification, in the one order that is right.
    fn look(&mut self, index: usize) {
        loop {
            let verification = &mut self.verifications[index];
            let instance = &self.instances[verification.process.instance];
            // A process that leaves ends what it has begun.
            if instance.paused_until > self.step {
                return;
            }
            verification.next = match verification.next {
                Look::Memory => match instance.memory {
                    Some(memory) => {
                        verification.memory = memory;
                        if is_planted(Bug::LoadLate) { Look::Entry } else { Look::Deadline }
                    }
                    None => return self.read_through(index),
                },
                Look::Deadline => {
                    let current = instance.memory.filter(|_| is_planted(Bug::DeadlineApart));
                    let memory = current.unwrap_or(verification.memory);
                    verification.deadline = Moment::from_nanos(self.memories[memory].deadline);
                    if is_planted(Bug::LoadLate) { Look::Clock } else { Look::Entry }
                }
                Look::Entry => {
                    verification.row = self.memories[verification.memory].rows[verification.key];
                    if is_planted(Bug::LoadLate) { Look::Deadline } else { Look::Clock }
                }
                Look::Clock => {
                    if !is_planted(Bug::ClockEarly) {
                        verification.reading = instance.clock(self.now);
                    }
                    if verification.reading >= verification.deadline {
                        return self.read_through(index);
                    }
                    return self.verified(index);
                }
            };
            if self.chance.one_in(4) {
                return;
            }
        }
    }

    fn read_through(&mut self, index: usize) {
        // The store's rows are right by definition.
        self.counts.read_through += 1;
        self.verifications.swap_remove(index);
    }

    fn verified(&mut self, index: usize) {
        let Verification { process, key, row, is_revoked, is_known, .. } = self.verifications.swap_remove(index);
        trace!(self, "{} finds key {key} in memory: {row:?}", process.instance);
        match row {
            Row::Active => self.counts.accepted += 1,
            Row::Revoked | Row::Absent => self.counts.refused += 1,
        }
        if row == Row::Active && is_revoked {
            self.violation = Some("a key was accepted after its revocation was enforced");
        }
        if row != Row::Active && is_known && self.revoking & 1 << key == 0 {
            self.violation = Some("a key was refused that is known everywhere and that nobody revoked");
        }
    }

    /// The faults stop: everybody who waits has to be answered within one lease, and the time to send a probe once
    /// more; or, where `by_timer` does not allow that, before any time has passed.
    fn calm_down(&mut self, by_timer: bool) {
        self.faults = Faults::None;
        self.has_primary = true;
        self.step = u32::MAX;
        let slowest = TICKS - SKEW_AT_MOST;
        let lease = (LEASE + LEASE / 100) * TICKS / slowest;
        let probe_interval = match self.instances[0].role {
            Role::Alone => u64::try_from(ALONE_PROBE_INTERVAL.as_nanos()).expect("a second"),
            Role::Member(_) | Role::Observer(_) => PROBE_INTERVAL,
        };
        let limit = self.now + if by_timer { lease + probe_interval } else { 0 };
        loop {
            let before = self.log.len();
            while let Some(last) = self.messages.len().checked_sub(1) {
                self.deliver(last);
            }
            for operation in 0..self.operations.len() {
                self.operate(operation);
            }
            for instance in 0..self.instances.len() {
                while self.drive(instance) {}
                self.settle(instance);
            }
            let progress = |progress| self.operations.iter().any(|operation| operation.progress == progress);
            if self.violation.is_some() || self.operations.iter().all(|one| one.progress == Progress::Ended) {
                return;
            }
            let is_busy = !self.messages.is_empty() || self.log.len() != before || progress(Progress::Found);
            if self.now > limit {
                self.violation = Some("somebody was not answered in time");
                return;
            }
            if !is_busy {
                let wake = self.instances.iter().filter_map(|instance| {
                    let up = instance.phase != Phase::Down;
                    up.then(|| instance.protocol.wake_at().map(|at| instance.when(at))).flatten()
                });
                self.now = wake.min().unwrap_or(limit).clamp(self.now + 1, limit + 1);
                trace!(self, "time has passed");
            }
        }
    }
}

fn log_time(position: usize) -> LogTime {
    LogTime::new(position as u64 + 1)
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let Self { accepted, refused, read_through, fast, by_timer, repeats, unknown, rebuilds, .. } = other;
        self.accepted += accepted;
        self.refused += refused;
        self.read_through += read_through;
        self.fast += fast;
        self.by_timer += by_timer;
        self.repeats += repeats;
        self.unknown += unknown;
        self.rebuilds += rebuilds;
        let Self { crashes, leaves, pauses, failovers, late_probes, double_probes, removed_leases, settled, .. } =
            other;
        self.crashes += crashes;
        self.leaves += leaves;
        self.pauses += pauses;
        self.failovers += failovers;
        self.late_probes += late_probes;
        self.double_probes += double_probes;
        self.removed_leases += removed_leases;
        self.settled += settled;
    }
}

/// Runs the schedule of one seed.
fn schedule(seed: u64, faults: Faults, is_traced: bool) -> World {
    let mut world = World::new(seed, faults, is_traced);
    world.run();
    let by_timer = matches!(faults, Faults::Any);
    if world.violation.is_none() && (!by_timer || seed.is_multiple_of(SETTLED_ONE_IN)) {
        world.counts.settled += 1;
        world.calm_down(by_timer);
    }
    world
}

/// Runs many, and fails with the trace of the first one that breaks the promise.
fn all_hold(schedules: u64, faults: Faults) -> Counts {
    let mut counts = Counts::default();
    for seed in 0..schedules {
        let world = schedule(seed, faults, false);
        counts.add(&world.counts);
        if let Some(violation) = world.violation {
            let trace = schedule(seed, faults, true).trace.unwrap_or_default().join("\n");
            panic!("seed {seed}, {faults:?}: {violation}\n{trace}");
        }
    }
    counts
}

#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn schedules() -> u64 {
    let asked = std::env::var(SCHEDULES_VARIABLE).ok();
    asked.map_or(SCHEDULES, |number| number.parse().expect("a number of schedules"))
}

#[test]
fn no_schedule_breaks_the_promise() {
    let schedules = schedules();
    let counts = all_hold(schedules, Faults::Any);
    println!("{schedules} schedules: {counts:?}");
    // Enough of everything has happened for that to mean something.
    assert!(counts.accepted > schedules / 4, "{counts:?}");
    assert!(counts.refused > schedules / 4, "{counts:?}");
    assert!(counts.read_through > schedules / 4, "{counts:?}");
    for common in [counts.fast, counts.rebuilds, counts.crashes, counts.leaves, counts.pauses, counts.failovers] {
        assert!(common > schedules / 10, "{counts:?}");
    }
    for rarer in [counts.by_timer, counts.repeats, counts.unknown, counts.late_probes, counts.double_probes] {
        assert!(rarer > schedules / 40, "{counts:?}");
    }
    assert!(counts.removed_leases > schedules / 40, "{counts:?}");
    assert!(counts.settled > schedules / 10, "{counts:?}");
}

#[test]
fn without_faults_nobody_waits_for_a_timer() {
    let counts = all_hold(schedules() / 20, Faults::None);
    assert_eq!(counts.by_timer, 0);
    assert!(counts.fast > 0 && counts.repeats > 0, "{counts:?}");
}

fn is_found(bug: Bug) {
    PLANTED.set(Some(bug));
    let found = (0..SCHEDULES_FOR_A_BUG).find(|seed| schedule(*seed, Faults::Any, false).violation.is_some());
    PLANTED.set(None);
    let seed = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
    println!("{bug:?} is found by seed {seed}");
}

macro_rules! is_found {
    ($($name:ident: $bug:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            is_found(Bug::$bug);
        })+
    };
}

is_found! {
    an_answer_without_a_barrier_is_found: NoWait,
    a_lease_that_counts_from_the_meeting_of_its_probe_is_found: TtlStart,
    a_lease_that_counts_from_the_answer_to_its_probe_is_found: StampLate,
    a_deadline_loaded_after_the_entry_is_found: LoadLate,
    a_deadline_of_another_memory_is_found: DeadlineApart,
    a_clock_read_before_the_verification_is_found: ClockEarly,
    leases_not_read_at_load_are_found: Forget,
    a_clock_read_before_a_change_came_is_found: HeardEarly,
    a_feed_that_skips_is_found: Skip,
    a_fleet_remembered_from_a_former_life_is_found: KeptLife,
    a_deadline_kept_through_a_rebuild_is_found: KeptDeadline,
    probes_counted_for_another_life_are_found: FormerLife,
    a_marker_from_before_the_commit_is_found: EarlyMarker,
    an_acknowledgement_before_memory_is_changed_is_found: AckEarly,
    a_scan_that_overwrites_what_is_newer_is_found: Fill,
    a_scan_older_than_the_feed_is_found: StaleRead,
    a_repeat_answered_at_once_is_found: Idempotent,
    a_repeat_that_waits_for_too_early_a_probe_is_found: RepeatEarly,
    a_wait_without_a_margin_is_found: Drift,
}
