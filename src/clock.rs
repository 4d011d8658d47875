//! Time and randomness, passed as arguments: no other module reads the system's clocks or generator (`clippy.toml`).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this module reads the system's clocks and generator"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use rustix::time::ClockId;

use crate::domain::time::Timestamp;

/// A wall clock.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The wall clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A reading of this machine's monotonic clocks, for measuring durations. Not comparable between machines.
///
/// No clock can be trusted alone: time synchronization slews `CLOCK_BOOTTIME` (chrony by up to 1/12, the kernel by up to
/// 1/10), `CLOCK_MONOTONIC_RAW` stops while the machine sleeps, and the time asleep may be measured by a coarse clock. So
/// moments have no total order. One who loses a right at a deadline, as the holder of a lease does, uses it only while
/// [`is_before`](Self::is_before) holds, by the clock that is furthest on. One who waits for the right of another to end
/// waits until [`has_reached`](Self::has_reached) holds, by the clock that is least far on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`: includes time asleep, but is slewed.
    boot: u64,
    /// `CLOCK_MONOTONIC_RAW`: not slewed, but stops during sleep.
    awake: u64,
    /// `CLOCK_MONOTONIC_RAW` and all time asleep.
    raw: u64,
}

impl Moment {
    pub const START: Self = Self::new(0, 0, 0);
    /// Later than every other moment.
    pub const NEVER: Self = Self::new(u64::MAX, u64::MAX, u64::MAX);

    /// A reading, in nanoseconds, of a clock that is slewed and includes time asleep, one that is neither slewed nor
    /// includes time asleep, and the latter with all time asleep added.
    pub const fn new(boot: u64, awake: u64, raw: u64) -> Self {
        Self { boot, awake, raw }
    }

    /// Nanoseconds of the boot clock, to keep a moment in an atomic where being exact does not matter.
    pub const fn boot_nanos(self) -> u64 {
        self.boot
    }

    #[cfg(test)]
    pub const fn raw_nanos(self) -> u64 {
        self.raw
    }

    /// Later by `duration` on every clock; [`NEVER`](Self::NEVER) when that overflows.
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self::new(self.boot.saturating_add(nanos), self.awake.saturating_add(nanos), self.raw.saturating_add(nanos))
    }

    /// The later reading of each clock.
    pub fn max(self, other: Self) -> Self {
        Self::new(self.boot.max(other.boot), self.awake.max(other.awake), self.raw.max(other.raw))
    }

    /// Whether `deadline` has certainly not been reached: neither the slewed clock nor the other shows it, and both
    /// include time asleep.
    pub const fn is_before(self, deadline: Self) -> bool {
        self.boot < deadline.boot && self.raw < deadline.raw
    }

    /// Whether `deadline` has certainly been reached: both the slewed clock and the other, which does not count time
    /// asleep, show it.
    pub const fn has_reached(self, deadline: Self) -> bool {
        self.boot >= deadline.boot && self.awake >= deadline.awake
    }

    /// The time until [`has_reached`](Self::has_reached) can hold; zero when it does.
    pub fn until(self, deadline: Self) -> Duration {
        let (boot, awake) = (deadline.boot.saturating_sub(self.boot), deadline.awake.saturating_sub(self.awake));
        Duration::from_nanos(boot.max(awake))
    }

    /// The time from `earlier` to `self` by the boot clock; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.boot.saturating_sub(earlier.boot))
    }
}

/// A deadline for [`Moment::is_before`] that one thread moves while others load it.
///
/// The two clocks are stored one after the other, so a load may return a pair from two different stores. That is safe
/// if each store moves both clocks forward: each value is then at most the one of the newer of the two stores, and a
/// load that returns any value of a store also shows what its thread wrote before that store. [`clear`](Self::clear) is
/// final, and a pair with a cleared value is never in the future.
#[derive(Debug, Default)]
pub struct AtomicDeadline {
    boot: AtomicU64,
    raw: AtomicU64,
}

impl AtomicDeadline {
    pub fn store(&self, deadline: Moment) {
        self.boot.store(deadline.boot, Ordering::Release);
        self.raw.store(deadline.raw, Ordering::Release);
    }

    pub fn load(&self) -> Moment {
        let (boot, raw) = (self.boot.load(Ordering::Acquire), self.raw.load(Ordering::Acquire));
        Moment::new(boot, 0, raw)
    }

    pub fn clear(&self) {
        self.store(Moment::START);
    }
}

/// The monotonic clocks of a machine.
pub trait Stopwatch: Send + Sync + 'static {
    fn now(&self) -> Moment;
}

/// The monotonic clocks of the system. They cannot be set.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemStopwatch;

impl Stopwatch for SystemStopwatch {
    fn now(&self) -> Moment {
        read_clocks(|clock| {
            let time = rustix::time::clock_gettime(clock);
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
        })
    }
}

/// Other systems have no such clocks; on macOS the monotonic clock includes time asleep.
const CLOCKS: [ClockId; 3] = if cfg!(target_os = "linux") {
    [ClockId::Boottime, ClockId::Monotonic, ClockId::MonotonicRaw]
} else {
    [ClockId::Monotonic; 3]
};

/// Reads the clocks in an order that matters. The boot clock and `CLOCK_MONOTONIC` are slewed alike and differ by the
/// time asleep. If the thread pauses between reading them, the difference is too small by the length of the pause, and
/// the raw clock, read last, makes up for at least that. So each value is one that its clock showed at some time during
/// the call. Read the other way round, the difference could be too large, and the moment in the future.
fn read_clocks(mut read: impl FnMut(ClockId) -> u64) -> Moment {
    let [boot, monotonic, awake] = CLOCKS.map(&mut read);
    Moment::new(boot, awake, awake.saturating_add(boot).saturating_sub(monotonic))
}

/// Source of randomness for secrets and ids.
type Random = Mutex<Box<dyn CryptoRng + Send>>;

/// The clock and the random number generator that a running Keymark uses.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl Environment {
    /// The system's wall clock and random number generator.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), Box::new(UnwrapErr(SysRng)))
    }

    pub fn new(clock: Arc<dyn Clock>, rng: Box<dyn CryptoRng + Send>) -> Self {
        Self { clock, random: Arc::new(Mutex::new(rng)) }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Locks the generator. Do not hold the guard across an `await`.
    pub fn rng(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose raw clock is exact, and whose others are slewed by `slew` percent.
    #[derive(Clone, Copy)]
    struct Machine {
        awake: u64,
        asleep: u64,
        slew: u64,
    }

    impl Machine {
        fn clock(&self, clock: ClockId) -> u64 {
            let slewed = self.awake * (100 + self.slew) / 100;
            match clock {
                ClockId::Boottime => slewed + self.asleep,
                ClockId::Monotonic => slewed,
                _ => self.awake,
            }
        }

        fn raw(&self) -> u64 {
            self.awake + self.asleep
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn clocks_that_are_read_with_pauses_show_a_time_within_the_reading() {
        let pauses = [(0, 0), (700, 0), (0, 700), (300, 900)];
        for (first, second) in pauses.iter().flat_map(|first| pauses.iter().map(move |second| (first, second))) {
            let start = Machine { awake: 5_000, asleep: 10_000, slew: 0 };
            let (mut machine, mut pauses) = (start, [*first, *second, (0, 0)].into_iter());
            let moment = read_clocks(|clock| {
                let nanos = machine.clock(clock);
                let (awake, asleep) = pauses.next().expect("three readings");
                machine.awake += awake;
                machine.asleep += asleep;
                nanos
            });
            for (value, from, to) in [
                (moment.boot, start.clock(ClockId::Boottime), machine.clock(ClockId::Boottime)),
                (moment.awake, start.awake, machine.awake),
                (moment.raw, start.raw(), machine.raw()),
            ] {
                assert!((from..=to).contains(&value), "{first:?} {second:?}: {moment:?}");
            }
        }
    }

    #[test]
    fn holder_goes_by_the_clock_that_is_furthest_on_and_a_waiter_by_the_one_that_is_least() {
        let deadline = Moment::START.plus(Duration::from_nanos(100));
        assert!(Moment::new(99, 99, 99).is_before(deadline));
        assert!(!Moment::new(100, 80, 80).is_before(deadline), "the boot clock is fast");
        assert!(!Moment::new(99, 90, 100).is_before(deadline), "the boot clock is slow, and the machine slept");
        assert!(Moment::new(100, 100, 100).has_reached(deadline));
        assert!(!Moment::new(100, 99, 99).has_reached(deadline), "the boot clock is fast");
        assert!(!Moment::new(99, 100, 100).has_reached(deadline), "the boot clock is slow");
        assert!(!Moment::new(150, 99, 149).has_reached(deadline), "time asleep does not count");
        assert_eq!(Moment::new(90, 70, 80).until(deadline), Duration::from_nanos(30));
        assert_eq!(Moment::new(100, 100, 90).until(deadline), Duration::ZERO);
    }

    #[test]
    fn clocks_of_the_system_do_not_go_back() {
        let mut last = SystemStopwatch.now();
        for _ in 0..10_000 {
            let now = SystemStopwatch.now();
            assert!(now.boot >= last.boot && now.awake >= last.awake && now.raw >= last.raw, "{last:?} {now:?}");
            last = now;
        }
    }
}
