//! Time and randomness, as arguments: nothing else asks the system for either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use crate::domain::time::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Where secrets and ids draw their randomness from.
type Random = Mutex<Box<dyn CryptoRng + Send>>;

/// The clock and the random number generator that a running Keymark uses.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl Environment {
    /// The machine's clock, and the operating system's generator.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), Box::new(UnwrapErr(SysRng)))
    }

    pub fn new(clock: Arc<dyn Clock>, rng: Box<dyn CryptoRng + Send>) -> Self {
        Self { clock, random: Arc::new(Mutex::new(rng)) }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The generator, for one draw; hold it across no await.
    pub fn rng(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
