//! The shutdown of an instance, as its clients notice it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A flag that is raised once. A cancellation token would do, but takes a lock or two each time it is read.
#[derive(Debug, Default)]
pub struct Signal {
    is_raised: AtomicBool,
    raises: Notify,
}

impl Signal {
    pub fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
        self.raises.notify_waiters();
    }

    pub fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::Acquire)
    }

    /// Wakes its task when the flag is raised after the first poll. Only [`is_raised`](Self::is_raised), read after that
    /// poll, says whether it was raised before.
    pub fn notified(&self) -> Notified<'_> {
        self.raises.notified()
    }

    /// Returns once it is raised.
    pub async fn raised(&self) {
        let mut notified = pin!(self.notified());
        notified.as_mut().enable();
        if !self.is_raised() {
            notified.await;
        }
    }
}

/// Whether the instance is about to shut down. From then on it is not ready, and closes each connection with its next
/// response, so that clients go on at another instance. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<Signal>);

impl Draining {
    pub fn begin(&self) {
        self.0.raise();
    }

    pub fn has_begun(&self) -> bool {
        self.0.is_raised()
    }

    /// Returns once it has begun.
    pub async fn begun(&self) {
        self.0.raised().await;
    }
}
