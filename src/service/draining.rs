//! The shutdown of an instance, as its clients notice it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the instance is about to shut down. From then on it is not ready, and closes each connection with its next
/// response, so that clients go on at another instance. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
