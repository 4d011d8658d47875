//! Time and randomness, passed as arguments: no other module reads the system's clocks or generator (`clippy.toml`).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this module reads the system's clocks and generator"
)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

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

/// A time in nanoseconds since this machine was started, including time asleep. For measuring durations; not comparable
/// between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub const START: Self = Self(0);
    /// Later than every other moment.
    pub const NEVER: Self = Self(u64::MAX);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Later by `duration`; [`NEVER`](Self::NEVER) when that overflows.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A monotonic clock.
pub trait Stopwatch: Send + Sync + 'static {
    fn now(&self) -> Moment;
}

/// The boot clock of the system. It cannot be set, and on Linux it keeps running while the machine sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Stopwatch for BootClock {
    fn now(&self) -> Moment {
        #[cfg(target_os = "linux")]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        // The closest clock on other systems; on macOS it includes time asleep.
        #[cfg(not(target_os = "linux"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Moment(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)))
    }
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
