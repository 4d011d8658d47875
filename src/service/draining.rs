//! The shutdown of an instance, as its clients notice it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether the instance is about to shut down. From then on it is not ready, and closes each connection with its next
/// response, so that clients go on at another instance. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<State>);

#[derive(Debug, Default)]
struct State {
    has_begun: AtomicBool,
    begun: Notify,
}

impl Draining {
    pub fn begin(&self) {
        self.0.has_begun.store(true, Ordering::Release);
        self.0.begun.notify_waiters();
    }

    pub fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Acquire)
    }

    /// Returns once it has begun.
    pub async fn begun(&self) {
        let mut begun = pin!(self.0.begun.notified());
        begun.as_mut().enable();
        if !self.has_begun() {
            begun.await;
        }
    }
}
