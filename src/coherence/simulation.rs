//! Random schedules of real [`Protocol`]s over a simulated log, and a checker of the responses that clients get.
//!
//! Simulated: one to four processes, each with a protocol, a cache and a driver that takes the same steps in the same
//! order as the real one; one log, in which all commits have one order, with its rows and lease documents. Each request
//! to the store and each response is a separate message: it may be delayed, overtaken or lost, or arrive after its
//! sender gave up. Feeds lag, and deliver the leases that the real ones do. Leases are listed as of any time that the
//! listing allows. Processes pause between any two steps while their clocks
//! run on, crash, shut down and restart; feeds are lost while rows are scanned and written. Clocks start at any time;
//! oscillators differ as far as the margin allows, the boot clocks are slewed by up to 1/10, and machines sleep. There
//! may be no primary for some time, and a feed may start on a branch that is rolled back. The leases of instances differ
//! in length, and change with a restart; those of release 0.1 state none. Clients generate keys, revoke one or several,
//! repeat both, and verify.
//!
//! Not simulated: the database (the log is what a majority has committed), threads below the steps named here, the
//! formats of messages, sessions and operators (they are rows like keys), a put of a lease that takes effect twice, which
//! the store rules out, and a clock that stops. The check of audit
//! numbers is not simulated either: what a feed misses that starts on another branch comes before the first change that
//! it delivers, where this check finds nothing. Keymark has no mode in which refusals are linearizable too, so there is
//! no bug that would break it.
//!
//! Checked: no verification that begins after a revocation was reported as enforced accepts the key; no verification
//! misses a key in the cache if it began after the key's generation was reported as enforced and ended before any
//! revocation of it began; and every waiting client gets its response in time once the faults have stopped, without a
//! timer where there were no faults.
//!
//! A schedule is determined by its seed. When one fails, its seed is printed with its trace.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::planted_bugs::{Bug, is_planted, with_planted};
use super::protocol::{
    Leases, Listing, LogEvent, PendingChangeId, Protocol, Role, STANDALONE_PROBE_INTERVAL, Timing, with_margin,
};
use crate::clock::Moment;
use crate::domain::ids::AuditEntryId;
use crate::domain::leases::{Incarnation, Lease, LogTime};
use crate::domain::time::Timestamp;

/// Number of schedules, unless the environment variable sets another.
const SCHEDULES: u64 = 100_000;
const SCHEDULES_VARIABLE: &str = "KEYMARK_SIMULATION_SCHEDULES";
/// A planted bug must be found within this many schedules.
const MAX_SCHEDULES_PER_BUG: u64 = 1_000_000;
/// The last so many schedules of a search are also run without the bug.
const MAX_RECHECKED: usize = 1_000;
const STEPS: u32 = 300;
/// One schedule in this many continues, without faults, until no client waits any more.
const DRAINED_ONE_IN: u64 = 8;

/// In nanoseconds, the simulation's unit of time.
const LEASE: u64 = 10_000;
const LONGEST_LEASE: u64 = 3 * LEASE;
const PROBE_INTERVAL: u64 = 1_000;
/// An oscillator runs fast or slow by at most 1/202 (`MAX_SKEW` of so many ticks). A margin of 1 % then covers two of
/// them, as (1 + 1/202) / (1 - 1/202) < 1.01.
const TICKS_PER_PERIOD: u64 = 20_200;
const MAX_SKEW: u64 = 100;
/// Time synchronization makes the boot clock fast or slow by at most 1/10, the limit of the Linux kernel.
const MAX_SLEW: u64 = TICKS_PER_PERIOD / 10;
const KEYS: usize = 3;

/// State of a key, in the store or in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Absent,
    Active,
    Revoked,
}

/// A set of keys: bit `n` is key `n`.
type Keys = u8;

#[derive(Clone, Copy, Debug)]
struct Batch {
    id: AuditEntryId,
    keys: Keys,
    was: Row,
    becomes: Row,
}

/// A commit in the log.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Batch(Batch),
    Lease(Lease),
    LeaseRemoved(Incarnation),
}

/// One run of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    instance: usize,
    start: u32,
}

#[derive(Clone, Debug)]
enum Message {
    Put {
        from: Process,
        lease: Lease,
        /// The sender has its response or has given up: the message still arrives, but without a response.
        is_detached: bool,
    },
    PutEnded {
        to: Process,
        lease: Lease,
        succeeded: bool,
    },
    Delete(Lease),
    List {
        from: Process,
        listing: Listing,
    },
    Listed {
        to: Process,
        leases: Vec<Lease>,
        /// The setting is read after the leases.
        setting: Option<u64>,
        succeeded: bool,
    },
    Commit {
        operation: usize,
        batch: Batch,
        is_detached: bool,
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

/// The next step of a process's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Without a feed.
    Closed,
    /// Waiting until the feed delivers this join lease.
    Joining(Lease),
    /// The next row to scan, and its state if it was read.
    Scanning(usize, Option<Row>),
    Listing,
    ReadingSetting,
    Listed,
    /// Ready for the next change.
    Following,
    /// The change is applied to the cache but not to the protocol.
    Applied,
    /// The change is applied to both; the deadline is not yet published.
    Unpublished,
    /// The deadline of one clock is published.
    HalfPublished,
}

struct Cache {
    rows: [Row; KEYS],
    boot_deadline: u64,
    raw_deadline: u64,
}

/// The clocks of the machine that an instance runs on.
struct Clocks {
    /// What they showed at the start of the simulation.
    start: u64,
    /// How long the machine has slept.
    asleep: u64,
    /// Ticks in [`TICKS_PER_PERIOD`] units of time awake.
    boot_rate: u64,
    raw_rate: u64,
}

struct Instance {
    role: Role,
    /// An instance of release 0.1, whose leases state no length.
    is_old: bool,
    start: u32,
    phase: Phase,
    protocol: Protocol,
    /// The cache that verifications read.
    cache: Option<usize>,
    /// The cache that the driver loads and keeps current.
    building: usize,
    /// Index of the next change in the log. May be beyond its end, if the feed started on a branch that was rolled back.
    position: usize,
    /// Where the feed delivered the join lease.
    joined: LogTime,
    listed: Leases,
    last_probe: Option<Lease>,
    paused_until: u32,
    clocks: Clocks,
    /// An earlier reading of the clocks.
    old_reading: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Reading,
    /// The change is already committed.
    Repeat,
    Committing,
    Waiting,
    Ended,
}

/// A change requested by a client.
struct Operation {
    process: Process,
    keys: Keys,
    becomes: Row,
    progress: Progress,
    barrier: Option<PendingChangeId>,
    /// The keys that are known to be in the new state when the change is enforced.
    covers: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Cache,
    BootDeadline,
    RawDeadline,
    Entry,
    Clock,
}

struct Verification {
    process: Process,
    key: usize,
    next: Read,
    cache: usize,
    boot_deadline: u64,
    deadline: Moment,
    row: Row,
    reading: Moment,
    /// The key's revocation was enforced when the verification began.
    is_revoked: bool,
    /// The key's generation was enforced when the verification began.
    is_generated: bool,
}

/// Counts of events, to check that enough of each happened.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    read_through: u64,
    fast: u64,
    by_timer: u64,
    repeats: u64,
    unknown: u64,
    reloads: u64,
    crashes: u64,
    shutdowns: u64,
    pauses: u64,
    sleeps: u64,
    failovers: u64,
    branches: u64,
    late_probes: u64,
    puts: u64,
    deliveries: u64,
    removed_leases: u64,
    listings: u64,
    drained: u64,
}

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
    /// The store's setting with the longest lease.
    setting: u64,
    /// Whether instances have leases of different lengths.
    is_mixed: bool,
    has_primary: bool,
    messages: Vec<Message>,
    caches: Vec<Cache>,
    instances: Vec<Instance>,
    operations: Vec<Operation>,
    verifications: Vec<Verification>,
    /// An instance that rarely reads its feed.
    lagging: usize,
    /// One step in so many takes time.
    time_one_in: usize,
    /// One in so many possible faults happens.
    fault_one_in: usize,
    generated: Keys,
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

fn timing(lease: u64) -> Timing {
    Timing { lease: Duration::from_nanos(lease), probe_interval: Duration::from_nanos(PROBE_INTERVAL) }
}

impl Clocks {
    fn new(chance: &mut Chance) -> Self {
        let skew = [0, MAX_SKEW, 2 * MAX_SKEW][chance.below(3)];
        let raw_rate = TICKS_PER_PERIOD - MAX_SKEW + skew;
        let boot_rate = [TICKS_PER_PERIOD - MAX_SLEW, raw_rate, TICKS_PER_PERIOD + MAX_SLEW][chance.below(3)];
        Self { start: chance.below(100_000) as u64, asleep: 0, boot_rate, raw_rate }
    }

    fn read(&self, now: u64) -> Moment {
        let awake = now - self.asleep;
        let ticks = |rate| self.start + awake * rate / TICKS_PER_PERIOD;
        let (boot, raw) = (ticks(self.boot_rate) + self.asleep, ticks(self.raw_rate));
        if is_planted(Bug::BootClockAlone) {
            Moment::new(boot, boot, boot)
        } else if is_planted(Bug::RawClockAlone) {
            Moment::new(raw, raw, raw)
        } else if is_planted(Bug::RawWithoutSleep) {
            Moment::new(boot, raw, raw)
        } else {
            Moment::new(boot, raw, raw + self.asleep)
        }
    }

    /// The first time, `now` or later, at which the reading will have reached `end`.
    fn when(&self, end: Moment, now: u64) -> u64 {
        let ticks = u64::try_from(self.read(now).until(end).as_nanos()).expect("not too far in the future");
        let longest = ticks * TICKS_PER_PERIOD / (TICKS_PER_PERIOD - MAX_SLEW) + 2;
        let (mut before, mut found) = (now, now + longest);
        if self.read(now).has_reached(end) {
            return now;
        }
        while found - before > 1 {
            let middle = before + (found - before) / 2;
            if self.read(middle).has_reached(end) { found = middle } else { before = middle }
        }
        found
    }
}

impl Instance {
    fn clock(&self, now: u64) -> Moment {
        self.clocks.read(now)
    }

    /// The time at which it is to be woken.
    fn wake_at(&self, now: u64) -> Option<u64> {
        self.protocol.wake_at(self.clock(now)).map(|at| self.clocks.when(at, now))
    }

    fn has_cache(&self) -> bool {
        match self.role {
            Role::Standalone => true,
            Role::Member(timing) => !timing.lease.is_zero(),
            Role::Observer(_) | Role::Uncached => false,
        }
    }
}

impl World {
    fn new(seed: u64, faults: Faults, is_traced: bool) -> Self {
        let mut chance = Chance(StdRng::seed_from_u64(seed));
        let instances = [1, 2, 2, 2, 3, 3, 4][chance.below(7)];
        Self::of_size(instances, chance, faults, is_traced)
    }

    fn of_size(instances: usize, mut chance: Chance, faults: Faults, is_traced: bool) -> Self {
        let is_standalone = instances == 1 && chance.one_in(2);
        let mut world = Self {
            faults,
            now: 0,
            step: 0,
            log: Vec::with_capacity(64),
            rows: [Row::Active, Row::Active, Row::Absent],
            leases: Vec::new(),
            setting: LEASE,
            is_mixed: chance.one_in(2),
            has_primary: true,
            messages: Vec::with_capacity(16),
            caches: Vec::with_capacity(8),
            instances: Vec::with_capacity(instances),
            operations: Vec::with_capacity(8),
            verifications: Vec::with_capacity(8),
            lagging: chance.below(2 * instances),
            time_one_in: [2, 8, 32][chance.below(3)],
            fault_one_in: [1, 3, 9][chance.below(3)],
            generated: 0b011,
            revoking: 0,
            revoked: 0,
            counts: Counts::default(),
            trace: is_traced.then(Vec::new),
            violation: None,
            chance,
        };
        for instance in 0..instances {
            let role = match is_standalone {
                true => Role::Standalone,
                false if instance > 0 && world.chance.one_in(8) => Role::Observer(timing(world.length())),
                false => Role::Member(timing(world.length())),
            };
            let is_old = world.is_mixed && world.chance.one_in(2);
            let clocks = Clocks::new(&mut world.chance);
            world.instances.push(Instance {
                role,
                is_old,
                start: 0,
                phase: Phase::Closed,
                protocol: Protocol::new(role),
                cache: None,
                building: 0,
                position: 0,
                joined: LogTime::default(),
                listed: Leases::default(),
                last_probe: None,
                paused_until: 0,
                clocks,
                old_reading: Moment::START,
            });
        }
        world
    }

    /// The length of an instance's leases. Raises the setting if it is longer.
    fn length(&mut self) -> u64 {
        let length = match self.is_mixed {
            false => LEASE,
            true if self.step == 0 => [LEASE / 2, LEASE][self.chance.below(2)],
            true => [LEASE / 2, LEASE, LONGEST_LEASE, LONGEST_LEASE, LONGEST_LEASE, 0][self.chance.below(6)],
        };
        if length > self.setting {
            // Deleted at some time after the setting was raised.
            let announcement = Lease {
                incarnation: Incarnation::generate(&mut self.chance.0),
                sequence: 1,
                applied: LogTime::LAST,
                requests_ack: false,
                length: Some(Duration::from_nanos(length)),
            };
            self.put(announcement);
            self.messages.push(Message::Delete(announcement));
            self.setting = length;
        }
        length
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
                self.run_due(instance);
            }
        }
        while self.step < STEPS && self.violation.is_none() {
            self.step += 1;
            if self.chance.one_in(self.time_one_in) {
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
                if self.runs(instance) && (instance != self.lagging || self.chance.one_in(8)) {
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
                    self.run_due(instance);
                }
            }
            42..50 => {
                if self.verifications.len() < 4 && self.chance.one_in(2) {
                    let (instance, key) = (self.chance.below(count), self.chance.below(KEYS));
                    self.verify(instance, key);
                } else if !self.verifications.is_empty() {
                    let verification = self.chance.below(self.verifications.len());
                    self.step_verification(verification);
                }
            }
            50..53 if self.operations.len() < 6 => self.begin_operation(),
            50..58 if !self.operations.is_empty() => {
                let operation = self.chance.below(self.operations.len());
                self.step_operation(operation);
            }
            58..60 if matches!(self.faults, Faults::Any) => self.advance_time(),
            60..64 if matches!(self.faults, Faults::Any) && self.chance.one_in(self.fault_one_in) => {
                self.inject_fault()
            }
            _ => {}
        }
    }

    /// Advances time, usually to the next wake-up of an instance.
    fn advance_time(&mut self) {
        let instance = &self.instances[self.chance.below(self.instances.len())];
        match self.chance.below(16) {
            0..11 => {
                if let Some(at) = instance.wake_at(self.now) {
                    self.now = at;
                }
            }
            11..15 => self.now += self.chance.below(LEASE as usize / 2) as u64,
            _ => self.now += 11 * LEASE,
        }
        trace!(self, "time has passed");
    }

    fn inject_fault(&mut self) {
        let instance = self.chance.below(self.instances.len());
        if self.instances[instance].phase == Phase::Down {
            if !self.has_primary {
                return;
            }
            let role = match self.instances[instance].role {
                Role::Member(_) => Role::Member(timing(self.length())),
                other => other,
            };
            let restarted = &mut self.instances[instance];
            restarted.role = role;
            (restarted.phase, restarted.protocol, restarted.last_probe) = (Phase::Closed, Protocol::new(role), None);
            trace!(self, "{instance} starts again");
            if self.chance.one_in(2) {
                self.load_immediately(instance);
            }
            return;
        }
        match self.chance.below(18) {
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
                self.counts.shutdowns += 1;
                trace!(self, "{instance} shuts down");
                if is_planted(Bug::ReleasedEarly) {
                    // It has yet to drop its cache.
                    self.messages.extend(self.instances[instance].last_probe.map(Message::Delete));
                    return;
                }
                self.drop_cache(instance);
                if let Some(lease) = self.instances[instance].last_probe.take() {
                    self.messages.push(Message::Delete(lease));
                }
                self.stop(instance);
            }
            14..16 => {
                let length = [LEASE / 16, LEASE / 12, LEASE / 8, LEASE][self.chance.below(4)];
                self.now += length;
                self.instances[instance].clocks.asleep += length;
                self.counts.sleeps += 1;
                trace!(self, "the machine of {instance} has slept");
            }
            16.. => {
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
        stopped.cache = None;
        stopped.start += 1;
        for operation in self.operations.iter_mut().filter(|operation| operation.process.instance == instance) {
            operation.progress = Progress::Ended;
        }
    }

    // The driver.

    fn drop_cache(&mut self, instance: usize) {
        let dropping = &mut self.instances[instance];
        if let Some(cache) = dropping.cache.take()
            && !is_planted(Bug::KeptDeadline)
        {
            (self.caches[cache].boot_deadline, self.caches[cache].raw_deadline) = (0, 0);
        }
        dropping.protocol.lost();
        dropping.phase = Phase::Closed;
    }

    fn lose_feed(&mut self, instance: usize) {
        if self.instances[instance].phase == Phase::Closed {
            return;
        }
        trace!(self, "{instance} loses its feed");
        self.counts.reloads += 1;
        let losing = &mut self.instances[instance];
        let has_followed =
            matches!(losing.phase, Phase::Following | Phase::Applied | Phase::Unpublished | Phase::HalfPublished);
        if is_planted(Bug::Skip) && has_followed {
            (losing.position, losing.phase) = (self.log.len(), Phase::Following);
        } else {
            self.drop_cache(instance);
            // It may delete its lease immediately, so that no instance waits for the former incarnation.
            let last = self.instances[instance].last_probe.filter(|_| self.chance.one_in(2));
            self.messages.extend(last.map(Message::Delete));
        }
        // Often the next feed is loaded while messages from before are still in flight.
        if self.chance.one_in(2) {
            self.load_immediately(instance);
        }
    }

    fn load_immediately(&mut self, instance: usize) {
        while self.instances[instance].phase != Phase::Following && self.drive(instance) {}
        self.run_due(instance);
    }

    /// Takes one step of an instance's driver. Returns false if there is none to take.
    fn drive(&mut self, instance: usize) -> bool {
        let clock = self.instances[instance].clock(self.now);
        match self.instances[instance].phase {
            Phase::Down => return false,
            Phase::Closed => {
                if !self.has_primary {
                    return false;
                }
                let incarnation = Incarnation::generate(&mut self.chance.0);
                // The first feeds are opened before there are any faults.
                let joins = self.instances[instance].role != Role::Standalone && self.step > 0;
                let branch = if joins { self.start_of_feed() } else { 0 };
                let driver = &mut self.instances[instance];
                driver.protocol.opened(incarnation, clock);
                driver.position = self.log.len() + branch;
                let kept = driver.last_probe.is_some() && is_planted(Bug::KeptDeadline);
                let mut cache = Cache { rows: [Row::Absent; KEYS], boot_deadline: 0, raw_deadline: 0 };
                if kept {
                    let former = &self.caches[driver.building];
                    (cache.boot_deadline, cache.raw_deadline) = (former.boot_deadline, former.raw_deadline);
                }
                driver.building = self.caches.len();
                driver.cache = kept.then_some(driver.building);
                self.caches.push(cache);
                trace!(self, "{instance} opens a feed as {incarnation}, {branch} changes ahead of the log");
                if joins && !is_planted(Bug::Unjoined) {
                    self.send_join_lease(instance, incarnation);
                } else {
                    self.begin_load(instance);
                }
            }
            Phase::Joining(lease) => {
                let position = if is_planted(Bug::JoinUnreceived) { 0 } else { self.instances[instance].position };
                let mut delivered = self.log.iter().enumerate().skip(position);
                let joined = delivered.find(|(_, entry)| matches!(entry, Entry::Lease(put) if *put == lease));
                if let Some((position, _)) = joined {
                    self.instances[instance].joined = log_time(position);
                    trace!(self, "{instance} has received its join lease");
                    if self.has_primary && !self.chance.one_in(8) {
                        self.delete(lease);
                    } else {
                        self.messages.push(Message::Delete(lease));
                    }
                    self.begin_load(instance);
                } else if self.chance.one_in(8) {
                    trace!(self, "{instance} gives up waiting for its join lease");
                    self.drop_cache(instance);
                } else {
                    return false;
                }
            }
            Phase::Scanning(key, None) => {
                if !self.has_primary {
                    return false;
                }
                let mut row = self.rows[key];
                if is_planted(Bug::StaleRead) {
                    let position = self.chance.below(self.instances[instance].position.min(self.log.len()) + 1);
                    row = self.row_at(key, position);
                }
                self.instances[instance].phase = Phase::Scanning(key, Some(row));
            }
            Phase::Scanning(key, Some(row)) => {
                if is_planted(Bug::Fill) && self.chance.one_in(2) && self.apply_early(instance) {
                    return true;
                }
                let driver = &mut self.instances[instance];
                self.caches[driver.building].rows[key] = row;
                driver.phase = if key + 1 < KEYS { Phase::Scanning(key + 1, None) } else { Phase::Listing };
                trace!(self, "{instance} has scanned key {key}: {row:?}");
            }
            Phase::Listing => {
                let driver = &self.instances[instance];
                let leases = match driver.role {
                    Role::Standalone => Vec::new(),
                    _ => self.leases_at(driver.joined),
                };
                let driver = &mut self.instances[instance];
                let is_unstated = leases.iter().any(|lease| lease.length.is_none());
                driver.listed = Leases { leases, longest: Duration::ZERO };
                driver.phase = if is_unstated { Phase::ReadingSetting } else { Phase::Listed };
            }
            Phase::ReadingSetting => {
                if !self.has_primary {
                    return false;
                }
                let driver = &mut self.instances[instance];
                driver.listed.longest = Duration::from_nanos(self.setting);
                driver.phase = Phase::Listed;
            }
            Phase::Listed => {
                let driver = &mut self.instances[instance];
                driver.cache = driver.has_cache().then_some(driver.building);
                driver.protocol.loaded(clock, driver.joined, &driver.listed);
                (driver.phase, driver.old_reading) = (Phase::Unpublished, clock);
                trace!(
                    self,
                    "{instance} has loaded its cache and {} leases",
                    self.instances[instance].listed.leases.len()
                );
            }
            Phase::Following => {
                self.skip_undelivered(instance);
                if self.instances[instance].position >= self.log.len() {
                    self.instances[instance].old_reading = clock;
                    return false;
                }
                match is_planted(Bug::AckEarly) {
                    false => self.change_memory(instance),
                    true => self.apply_to_protocol(instance, clock),
                }
                self.instances[instance].phase = Phase::Applied;
            }
            Phase::Applied => {
                match is_planted(Bug::AckEarly) {
                    false => self.apply_to_protocol(instance, clock),
                    true => self.change_memory(instance),
                }
                let driver = &mut self.instances[instance];
                (driver.position, driver.phase) = (driver.position + 1, Phase::Unpublished);
                driver.old_reading = clock;
            }
            Phase::Unpublished => {
                let driver = &mut self.instances[instance];
                let deadline = driver.protocol.deadline().map_or(0, Moment::boot_nanos);
                self.caches[driver.building].boot_deadline = deadline;
                driver.phase = Phase::HalfPublished;
            }
            Phase::HalfPublished => {
                let driver = &mut self.instances[instance];
                let deadline = driver.protocol.deadline().map_or(0, Moment::raw_nanos);
                self.caches[driver.building].raw_deadline = deadline;
                driver.phase = Phase::Following;
            }
        }
        true
    }

    /// How far ahead of the log a feed starts. It starts after the last entry of one member's log: if that is rolled back
    /// in a failover, the feed misses as many changes on the other branch.
    fn start_of_feed(&mut self) -> usize {
        if matches!(self.faults, Faults::None) || !self.chance.one_in(8) {
            return 0;
        }
        self.counts.branches += 1;
        1 + self.chance.below(4)
    }

    fn send_join_lease(&mut self, instance: usize, incarnation: Incarnation) {
        let (incarnation, sequence) = match is_planted(Bug::JoinAsItself) {
            true => (incarnation, 0),
            false => (Incarnation::generate(&mut self.chance.0), 1),
        };
        let length = Some(Duration::ZERO);
        let lease = Lease { incarnation, sequence, applied: LogTime::LAST, requests_ack: false, length };
        self.instances[instance].phase = Phase::Joining(lease);
        let has_faults = matches!(self.faults, Faults::Any);
        // Usually it arrives immediately, and perhaps once more later.
        let is_delayed = has_faults && self.chance.one_in(8);
        if !is_delayed {
            self.put(lease);
        }
        if is_delayed || (has_faults && self.chance.one_in(8)) {
            self.messages.push(Message::Put { from: self.process(instance), lease, is_detached: !is_delayed });
        }
    }

    fn begin_load(&mut self, instance: usize) {
        let driver = &mut self.instances[instance];
        driver.phase = if driver.has_cache() { Phase::Scanning(0, None) } else { Phase::Listing };
    }

    fn change_memory(&mut self, instance: usize) {
        let driver = &self.instances[instance];
        if let Entry::Batch(batch) = &self.log[driver.position] {
            let cache = &mut self.caches[driver.building];
            (0..KEYS).filter(|key| batch.keys & 1 << key != 0).for_each(|key| cache.rows[key] = batch.becomes);
        }
    }

    fn apply_to_protocol(&mut self, instance: usize, clock: Moment) {
        let driver = &mut self.instances[instance];
        let event = match self.log[driver.position] {
            Entry::Batch(batch) => LogEvent::Entry { id: batch.id, requires_ack: true },
            Entry::Lease(lease) => LogEvent::Lease(lease),
            Entry::LeaseRemoved(_) => LogEvent::Other,
        };
        let clock = if is_planted(Bug::ReceivedEarly) { driver.old_reading } else { clock };
        driver.protocol.applied(clock, log_time(driver.position), event);
        self.counts.deliveries += 1;
        trace!(self, "{instance} has applied {}: {event:?}", self.instances[instance].position + 1);
    }

    /// Skips the changes that the feed leaves out.
    fn skip_undelivered(&mut self, instance: usize) {
        let driver = &mut self.instances[instance];
        let is_delivered = |entry: &Entry| match entry {
            Entry::Batch(_) => true,
            Entry::Lease(lease) => {
                let is_own = Some(lease.incarnation) == driver.protocol.incarnation();
                is_own || lease.requests_ack || lease.length.is_none() || is_planted(Bug::FormerIncarnation)
            }
            Entry::LeaseRemoved(_) => false,
        };
        let skipped = self.log.iter().skip(driver.position).take_while(|entry| !is_delivered(entry)).count();
        driver.position += skipped;
    }

    /// Applies the next change while rows are scanned, which is a bug.
    fn apply_early(&mut self, instance: usize) -> bool {
        self.skip_undelivered(instance);
        if self.instances[instance].position >= self.log.len() {
            return false;
        }
        self.change_memory(instance);
        self.apply_to_protocol(instance, self.instances[instance].clock(self.now));
        self.instances[instance].position += 1;
        true
    }

    /// The state of a key before the log's `position`.
    fn row_at(&self, key: usize, position: usize) -> Row {
        let first = if key < 2 { Row::Active } else { Row::Absent };
        self.log[..position].iter().fold(first, |row, entry| match entry {
            Entry::Batch(batch) if batch.keys & 1 << key != 0 => batch.becomes,
            _ => row,
        })
    }

    /// Responds to the clients whose change is enforced, and sends a probe if one is due.
    fn run_due(&mut self, instance: usize) {
        let process = self.process(instance);
        let state = &mut self.instances[instance];
        let clock = state.clock(self.now);
        for enforced in state.protocol.take_enforced(clock) {
            let by_timer = enforced.elapsed >= with_margin(Duration::from_nanos(LEASE / 2));
            self.counts.by_timer += u64::from(by_timer);
            self.counts.fast += u64::from(!by_timer);
            let operation = self.operations.iter().position(|operation| {
                operation.process == process
                    && operation.progress == Progress::Waiting
                    && operation.barrier == Some(enforced.change)
            });
            if let Some(operation) = operation {
                self.respond(operation);
            }
        }
        let state = &mut self.instances[instance];
        if let Some(listing) = state.protocol.start_listing(clock) {
            self.counts.listings += 1;
            self.messages.push(Message::List { from: process, listing });
            trace!(self, "{instance} lists the leases: {listing:?}");
        }
        if let Some(mut lease) = state.protocol.start_probe(clock) {
            lease.length = lease.length.filter(|_| !state.is_old);
            state.last_probe = Some(lease);
            self.messages.push(Message::Put { from: process, lease, is_detached: false });
            trace!(self, "{instance} sends {lease:?}");
        }
        if self.chance.one_in(4) {
            let stale = self.instances[instance].protocol.stale_leases(clock);
            self.messages.extend(stale.into_iter().map(Message::Delete));
        }
    }

    // The store.

    fn deliver(&mut self, index: usize) {
        let faults = matches!(self.faults, Faults::Any);
        match self.messages[index].clone() {
            Message::List { from, listing } => {
                let listed = |leases: Vec<Lease>, succeeded| {
                    // Read after the leases, and only if one states no length.
                    let is_stated = leases.iter().all(|lease| lease.length.is_some());
                    Message::Listed { to: from, leases, setting: is_stated.then_some(0), succeeded }
                };
                if faults && self.chance.one_in(16) {
                    self.messages[index] = listed(Vec::new(), false);
                } else if let Listing::At(position) = listing {
                    let leases = self.leases_at(position);
                    self.messages[index] = listed(leases, true);
                } else if self.has_primary {
                    self.messages[index] = listed(self.leases.clone(), true);
                }
            }
            Message::Listed { to, leases, setting: None, succeeded: true } => {
                if self.has_primary {
                    let setting = Some(self.setting);
                    self.messages[index] = Message::Listed { to, leases, setting, succeeded: true };
                }
            }
            Message::Listed { to, leases, setting, succeeded } => {
                if self.is_alive(to) {
                    if !self.runs(to.instance) {
                        return;
                    }
                    let instance = &mut self.instances[to.instance];
                    let clock = instance.clock(self.now);
                    let setting = setting.filter(|_| succeeded);
                    let listed = setting.map(|setting| Leases { leases, longest: Duration::from_nanos(setting) });
                    instance.protocol.listing_ended(listed.as_ref(), clock);
                    trace!(self, "{} has listed {listed:?}", to.instance);
                }
                self.messages.swap_remove(index);
            }
            Message::Put { from, lease, is_detached } => {
                let fate = if faults { self.chance.below(16) } else { 15 };
                let ended = |succeeded| Message::PutEnded { to: from, lease, succeeded };
                match fate {
                    // 0: lost. 1, 2: the sender gives up, and the probe arrives later.
                    0 => self.messages[index] = ended(false),
                    1 | 2 if !is_detached => {
                        self.counts.late_probes += 1;
                        self.messages[index] = Message::Put { from, lease, is_detached: true };
                        self.messages.push(ended(false));
                    }
                    _ if !self.has_primary => {}
                    _ => {
                        self.put(lease);
                        self.messages[index] = ended(fate != 4);
                        if is_detached {
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
                self.delete(lease);
            }
            Message::Commit { operation, batch, is_detached } => {
                let fate = if faults { self.chance.below(16) } else { 15 };
                let ended = |outcome| Message::CommitEnded { operation, outcome };
                match fate {
                    0 if !is_detached => self.messages[index] = ended(Outcome::Unknown),
                    1 if !is_detached => {
                        self.messages[index] = Message::Commit { operation, batch, is_detached: true };
                        self.messages.push(ended(Outcome::Unknown));
                    }
                    _ if !self.has_primary => {}
                    _ => {
                        let outcome = self.commit(batch);
                        self.messages[index] = ended(if fate == 2 { Outcome::Unknown } else { outcome });
                        if is_detached {
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

    /// Lists the leases as of this position or, with faults, any later one.
    fn leases_at(&mut self, position: LogTime) -> Vec<Lease> {
        let first = usize::try_from(position.get()).unwrap_or(usize::MAX).min(self.log.len());
        let first = if is_planted(Bug::StaleListing) { 0 } else { first };
        let end = match self.faults {
            Faults::Any => first + self.chance.below(self.log.len() - first + 1),
            Faults::None => self.log.len(),
        };
        if end == self.log.len() {
            return self.leases.clone();
        }
        let mut leases: BTreeMap<Incarnation, Lease> = BTreeMap::new();
        for entry in &self.log[..end] {
            match entry {
                Entry::Lease(lease) => leases.insert(lease.incarnation, *lease),
                Entry::LeaseRemoved(incarnation) => leases.remove(incarnation),
                Entry::Batch(_) => None,
            };
        }
        leases.into_values().collect()
    }

    fn put(&mut self, lease: Lease) {
        self.counts.puts += 1;
        match self.leases.iter_mut().find(|found| found.incarnation == lease.incarnation) {
            Some(found) => *found = lease,
            None => self.leases.push(lease),
        }
        self.log.push(Entry::Lease(lease));
        trace!(self, "{}: put {} {}", self.log.len(), lease.incarnation, lease.sequence);
    }

    fn delete(&mut self, lease: Lease) {
        let is_same = |found: &Lease| {
            found.incarnation == lease.incarnation
                && (found.sequence == lease.sequence || is_planted(Bug::DeletedRenewed))
        };
        if let Some(found) = self.leases.iter().position(is_same) {
            self.leases.swap_remove(found);
            self.log.push(Entry::LeaseRemoved(lease.incarnation));
            self.counts.removed_leases += 1;
            trace!(self, "{}: the lease of {} is removed", self.log.len(), lease.incarnation);
        }
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

    /// A client requests a change.
    fn begin_operation(&mut self) {
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

    fn step_operation(&mut self, index: usize) {
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
                let (changes, repeated) = (are(was), are(becomes));
                if is_planted(Bug::RepeatEarly) && operation.barrier.is_none() {
                    return self.begin_repeat(index, Progress::Reading);
                }
                let operation = &mut self.operations[index];
                operation.covers = changes | repeated;
                if changes != 0 {
                    let id = AuditEntryId::new(Timestamp::from_millis(0), &mut self.chance.0);
                    let batch = Batch { id, keys: changes, was, becomes };
                    operation.barrier = Some(self.instances[process.instance].protocol.begin(id));
                    operation.progress = Progress::Committing;
                    self.messages.push(Message::Commit { operation: index, batch, is_detached: false });
                } else if repeated == 0 {
                    operation.progress = Progress::Ended;
                } else if is_planted(Bug::Idempotent) {
                    self.respond(index);
                } else if is_planted(Bug::RepeatEarly) {
                    operation.progress = Progress::Waiting;
                } else {
                    operation.progress = Progress::Repeat;
                }
            }
            Progress::Repeat => {
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
            Outcome::Committed if is_planted(Bug::NoWait) => self.respond(index),
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

    /// Reports the change to the client as enforced. Some clients verify a changed key then.
    fn respond(&mut self, index: usize) {
        let operation = &mut self.operations[index];
        operation.progress = Progress::Ended;
        let covers = operation.covers;
        match operation.becomes {
            Row::Revoked => self.revoked |= covers,
            _ => self.generated |= covers,
        }
        trace!(self, "operation {index} is enforced: {covers:03b}");
        for instance in 0..self.instances.len() {
            if covers != 0 && self.runs(instance) && self.chance.one_in(2) {
                let key = (0..KEYS).find(|key| covers & 1 << key != 0).expect("at least one key");
                self.verify(instance, key);
            }
        }
    }

    fn verify(&mut self, instance: usize, key: usize) {
        if !self.runs(instance) || !self.instances[instance].has_cache() {
            return;
        }
        self.verifications.push(Verification {
            process: self.process(instance),
            key,
            next: Read::Cache,
            cache: 0,
            boot_deadline: 0,
            deadline: Moment::START,
            row: Row::Absent,
            reading: self.instances[instance].old_reading,
            is_revoked: self.revoked & 1 << key != 0,
            is_generated: self.generated & 1 << key != 0,
        });
        trace!(self, "{instance} begins to verify key {key}");
        self.step_verification(self.verifications.len() - 1);
    }

    /// Takes some steps of a verification, in the order of `Coherence::read`.
    fn step_verification(&mut self, index: usize) {
        loop {
            let verification = &mut self.verifications[index];
            let instance = &self.instances[verification.process.instance];
            // A process that shuts down finishes the verifications that it has begun.
            if instance.paused_until > self.step {
                return;
            }
            verification.next = match verification.next {
                Read::Cache => match instance.cache {
                    Some(cache) => {
                        verification.cache = cache;
                        if is_planted(Bug::LoadLate) { Read::Entry } else { Read::BootDeadline }
                    }
                    None => return self.read_through(index),
                },
                Read::BootDeadline => {
                    let current = instance.cache.filter(|_| is_planted(Bug::OtherDeadline));
                    let cache = current.unwrap_or(verification.cache);
                    verification.boot_deadline = self.caches[cache].boot_deadline;
                    Read::RawDeadline
                }
                Read::RawDeadline => {
                    let current = instance.cache.filter(|_| is_planted(Bug::OtherDeadline));
                    let cache = current.unwrap_or(verification.cache);
                    let raw_deadline = self.caches[cache].raw_deadline;
                    verification.deadline = Moment::new(verification.boot_deadline, raw_deadline, raw_deadline);
                    if is_planted(Bug::LoadLate) { Read::Clock } else { Read::Entry }
                }
                Read::Entry => {
                    verification.row = self.caches[verification.cache].rows[verification.key];
                    if is_planted(Bug::LoadLate) { Read::BootDeadline } else { Read::Clock }
                }
                Read::Clock => {
                    if !is_planted(Bug::ClockEarly) {
                        verification.reading = instance.clock(self.now);
                    }
                    let is_valid = match is_planted(Bug::SlowHolder) {
                        false => verification.reading.is_before(verification.deadline),
                        true => !verification.reading.has_reached(verification.deadline),
                    };
                    if !is_valid {
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
        // The store's rows are correct by definition.
        self.counts.read_through += 1;
        self.verifications.swap_remove(index);
    }

    fn verified(&mut self, index: usize) {
        let Verification { process, key, row, is_revoked, is_generated, .. } = self.verifications.swap_remove(index);
        trace!(self, "{} finds key {key} in cache: {row:?}", process.instance);
        match row {
            Row::Active => self.counts.accepted += 1,
            Row::Revoked | Row::Absent => self.counts.refused += 1,
        }
        if row == Row::Active && is_revoked {
            self.violation = Some("a key was accepted after its revocation was enforced");
        }
        if row != Row::Active && is_generated && self.revoking & 1 << key == 0 {
            self.violation = Some("a key was refused although its generation was enforced and it was not revoked");
        }
    }

    /// Takes each step that is possible now. Returns true if something was committed.
    fn take_all_steps(&mut self) -> bool {
        let before = self.log.len();
        while let Some(last) = self.messages.len().checked_sub(1) {
            self.deliver(last);
        }
        for operation in 0..self.operations.len() {
            self.step_operation(operation);
        }
        for instance in 0..self.instances.len() {
            while self.drive(instance) {}
            self.run_due(instance);
        }
        self.log.len() != before
    }

    /// Takes steps until none is left to take now.
    fn settle(&mut self) {
        while self.take_all_steps() || !self.messages.is_empty() {}
    }

    /// Stops the faults. All waiting clients must get a response within one lease plus one probe interval or, unless
    /// `by_timer`, within one probe interval, since there is some time between two listings.
    fn drain(&mut self, by_timer: bool) {
        self.faults = Faults::None;
        self.has_primary = true;
        self.step = u32::MAX;
        let slowest = TICKS_PER_PERIOD - MAX_SLEW;
        let lease = (LONGEST_LEASE + LONGEST_LEASE / 100) * TICKS_PER_PERIOD / slowest;
        let probe_interval = match self.instances[0].role {
            Role::Standalone | Role::Uncached => u64::try_from(STANDALONE_PROBE_INTERVAL.as_nanos()).expect("a second"),
            Role::Member(_) | Role::Observer(_) => PROBE_INTERVAL,
        };
        let probe_interval = probe_interval * TICKS_PER_PERIOD / slowest;
        let limit = self.now + if by_timer { lease + probe_interval } else { probe_interval };
        loop {
            let has_progressed = self.take_all_steps();
            let progress = |progress| self.operations.iter().any(|operation| operation.progress == progress);
            if self.violation.is_some() || self.operations.iter().all(|one| one.progress == Progress::Ended) {
                return;
            }
            let is_busy = !self.messages.is_empty() || has_progressed || progress(Progress::Repeat);
            if self.now > limit {
                self.violation = Some("a client did not get its response in time");
                return;
            }
            if !is_busy {
                let wake = self.instances.iter().filter_map(|instance| {
                    let is_up = instance.phase != Phase::Down;
                    is_up.then(|| instance.wake_at(self.now)).flatten()
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
        let Self { accepted, refused, read_through, fast, by_timer, repeats, unknown, reloads, .. } = other;
        self.accepted += accepted;
        self.refused += refused;
        self.read_through += read_through;
        self.fast += fast;
        self.by_timer += by_timer;
        self.repeats += repeats;
        self.unknown += unknown;
        self.reloads += reloads;
        let Self { crashes, shutdowns, pauses, sleeps, failovers, branches, late_probes, .. } = other;
        self.crashes += crashes;
        self.shutdowns += shutdowns;
        self.pauses += pauses;
        self.sleeps += sleeps;
        self.failovers += failovers;
        self.branches += branches;
        self.late_probes += late_probes;
        let Self { puts, deliveries, removed_leases, listings, drained, .. } = other;
        self.puts += puts;
        self.deliveries += deliveries;
        self.removed_leases += removed_leases;
        self.listings += listings;
        self.drained += drained;
    }
}

/// Runs the schedule of one seed.
fn schedule(seed: u64, faults: Faults, is_traced: bool) -> World {
    let mut world = World::new(seed, faults, is_traced);
    world.run();
    let by_timer = matches!(faults, Faults::Any);
    if world.violation.is_none() && (!by_timer || seed.is_multiple_of(DRAINED_ONE_IN)) {
        world.counts.drained += 1;
        world.drain(by_timer);
    }
    world
}

/// Runs schedules of many seeds, on all processors. Panics with the trace of one that fails the check.
fn check_all(schedules: u64, faults: Faults) -> Counts {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut counts = Counts::default();
    thread::scope(|scope| {
        let seeds_of = |thread| (thread as u64..schedules).step_by(threads);
        let start = |thread| scope.spawn(move || check(seeds_of(thread), faults));
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().for_each(|thread| counts.add(&thread.join().expect("it has printed the trace")));
    });
    counts
}

fn check(seeds: impl Iterator<Item = u64>, faults: Faults) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let world = schedule(seed, faults, false);
        counts.add(&world.counts);
        if let Some(violation) = world.violation {
            let trace = schedule(seed, faults, true).trace.unwrap_or_default().join("\n");
            panic!("seed {seed}, {faults:?}: {violation}\n{trace}");
        }
    }
    counts
}

#[expect(clippy::disallowed_methods, reason = "a setting of the test alone")]
fn schedules() -> u64 {
    let set = std::env::var(SCHEDULES_VARIABLE).ok();
    set.map_or(SCHEDULES, |number| number.parse().expect("a number of schedules"))
}

#[test]
fn no_schedule_violates_the_guarantee() {
    let schedules = schedules();
    let counts = check_all(schedules, Faults::Any);
    println!("{schedules} schedules: {counts:?}");
    // Enough of each kind of event happened for the result to mean something.
    assert!(counts.accepted > schedules / 4, "{counts:?}");
    assert!(counts.refused > schedules / 4, "{counts:?}");
    assert!(counts.read_through > schedules / 4, "{counts:?}");
    for common in [counts.fast, counts.reloads, counts.crashes, counts.shutdowns, counts.pauses, counts.failovers] {
        assert!(common > schedules / 10, "{counts:?}");
    }
    for rarer in [counts.by_timer, counts.repeats, counts.unknown, counts.late_probes, counts.sleeps] {
        assert!(rarer > schedules / 40, "{counts:?}");
    }
    assert!(counts.branches > schedules / 10, "{counts:?}");
    assert!(counts.removed_leases > schedules / 40, "{counts:?}");
    assert!(counts.listings > schedules / 10, "{counts:?}");
    assert!(counts.drained > schedules / 10, "{counts:?}");
}

/// What a change costs in messages, and what a probe interval without changes does.
#[test]
fn change_at_a_hundred_instances_takes_a_write_of_each_and_a_few_reads() {
    const INSTANCES: usize = 100;
    let mut world = World::of_size(INSTANCES, Chance(StdRng::seed_from_u64(1)), Faults::None, false);
    (world.is_mixed, world.time_one_in) = (false, usize::MAX);
    for instance in 0..INSTANCES {
        let role = Role::Member(timing(LEASE));
        (world.instances[instance].role, world.instances[instance].protocol) = (role, Protocol::new(role));
        world.load_immediately(instance);
    }
    let spend = |world: &mut World, revokes: bool| {
        let (before, from) = (world.counts, world.log.len());
        if revokes {
            world.operations.push(Operation {
                process: world.process(0),
                keys: 1,
                becomes: Row::Revoked,
                progress: Progress::Reading,
                barrier: None,
                covers: 0,
            });
        } else {
            world.now += PROBE_INTERVAL * TICKS_PER_PERIOD / (TICKS_PER_PERIOD - MAX_SLEW) + 1;
        }
        world.settle();
        let Counts { puts, listings, deliveries, .. } = world.counts;
        let everything = INSTANCES * (world.log.len() - from);
        (puts - before.puts, listings - before.listings, deliveries - before.deliveries, everything as u64)
    };
    spend(&mut world, false);
    let n = INSTANCES as u64;
    let (writes, reads, deliveries, everything) = spend(&mut world, true);
    println!("a change: {writes} probes, {reads} listings, {deliveries} deliveries; {everything} of all leases to all");
    assert_eq!(world.operations[0].progress, Progress::Ended);
    assert_eq!((writes, deliveries), (n, 2 * n));
    assert!(reads <= 3);
    let (writes, reads, deliveries, everything) = spend(&mut world, false);
    println!(
        "an interval: {writes} probes, {reads} listings, {deliveries} deliveries; {everything} of all leases to all"
    );
    assert_eq!((writes, deliveries), (n, n));
    assert!(reads <= n);
}

#[test]
fn without_faults_no_change_waits_for_a_timer() {
    let counts = check_all(schedules() / 20, Faults::None);
    assert_eq!(counts.by_timer, 0);
    assert!(counts.fast > 0 && counts.repeats > 0, "{counts:?}");
}

/// Searches from the schedule `first` on for one that violates the guarantee only with the bug.
fn assert_found(bug: Bug, first: u64) {
    let violates = |seed: &u64| schedule(*seed, Faults::Any, false).violation.is_some();
    let found = with_planted(bug, || (first..first + MAX_SCHEDULES_PER_BUG).find(violates));
    let seed = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
    println!("{bug:?} is found by seed {seed}");
    let without_bug = (first..=seed).rev().take(MAX_RECHECKED).find(violates);
    assert_eq!(without_bug, None, "a schedule that violates the guarantee without {bug:?}");
}

macro_rules! planted_bugs {
    ($($name:ident: $bug:ident $(from $first:literal)?),+ $(,)?) => {
        $(#[test]
        fn $name() {
            assert_found(Bug::$bug, 0 $(+ $first)?);
        })+
    };
}

// The search for a bug that random schedules rarely find begins shortly before the first one that does. After a change of
// the simulation it takes longer, and the seed that it prints is the new place to begin.
planted_bugs! {
    finds_response_without_a_barrier: NoWait,
    finds_lease_dated_from_receiving_its_probe: TtlStart,
    finds_lease_dated_from_the_acknowledgement_of_its_probe: StampLate from 1_000,
    finds_deadline_loaded_after_the_entry: LoadLate from 21_000,
    finds_deadline_of_another_cache: OtherDeadline from 349_000,
    finds_clock_read_before_the_verification: ClockEarly,
    finds_clock_read_before_a_change_was_received: ReceivedEarly from 969_000,
    finds_feed_that_skips_changes: Skip,
    finds_deadline_kept_through_a_reload: KeptDeadline,
    finds_lease_renewed_by_a_former_incarnation: FormerIncarnation from 208_000,
    finds_probe_from_before_the_commit: EarlyProbe from 22_000,
    finds_acknowledgement_before_the_cache_is_changed: AckEarly,
    finds_scan_without_having_joined: Unjoined,
    finds_scan_before_the_feed_delivers_the_join_lease: JoinUnreceived,
    finds_join_lease_with_the_incarnation_of_the_instance: JoinAsItself from 275_000,
    finds_scan_that_overwrites_newer_rows: Fill,
    finds_scan_older_than_the_feed: StaleRead,
    finds_repeat_that_does_not_wait: Idempotent,
    finds_repeat_that_waits_for_an_earlier_probe: RepeatEarly,
    finds_wait_without_a_margin: Drift from 65_000,
    finds_boot_clock_alone: BootClockAlone,
    finds_raw_clock_alone: RawClockAlone from 4_000,
    finds_raw_clock_without_time_asleep: RawWithoutSleep from 452_000,
    finds_holder_by_the_slower_clock: SlowHolder from 18_000,
    finds_waiter_by_the_faster_clock: FastWaiter from 79_000,
    finds_lease_taken_to_be_as_long_as_its_own: OwnLength from 9_000,
    finds_wait_for_the_longest_lease_known_without_a_listing: Unlisted,
    finds_unstated_length_taken_to_be_its_own: UnstatedOwn from 15_000,
    finds_listing_from_before_the_change: StaleListing,
    finds_listing_that_began_before_the_change_was_received: UncoveredListing from 12_000,
    finds_age_kept_although_the_lease_was_renewed: KeptAge,
    finds_lease_deleted_although_it_was_renewed: DeletedRenewed from 314_000,
    finds_lease_deleted_before_its_cache_is_dropped: ReleasedEarly,
}
