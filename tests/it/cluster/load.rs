//! Continuous load on a fleet: generates and rotates keys, verifies them on every instance, and ends them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fleet::{End, Endpoint, Fleet, Key};
use super::history::Verdict;
use crate::support::mongod::within;

/// Tasks that verify keys, for each instance.
const VERIFIERS_PER_INSTANCE: usize = 3;
/// Tasks that generate and end keys.
const OWNERS: usize = 3;
/// Number of newest keys that are verified, including ended ones.
const RECENT_KEYS: usize = 24;
/// Pause between two verifications of a task, to leave processor time for the instances.
const VERIFICATION_PAUSE: Duration = Duration::from_millis(2);
/// Pause after a failed request.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long requests in flight may take after the last fault.
const MAX_DRAIN: Duration = Duration::from_secs(120);

pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    fleet: Arc<Fleet>,
    /// A key that is never ended.
    permanent_key: Key,
    newest: Mutex<VecDeque<Arc<Key>>>,
    /// Verifications that run in the background.
    background: TaskTracker,
    stop: CancellationToken,
}

impl Load {
    pub async fn start(fleet: &Arc<Fleet>, rng: &mut StdRng) -> Self {
        let system = fleet.create_system(0).await.expect("a system");
        let permanent_key = fleet.generate(0, &system).await.expect("a key");
        let shared = Arc::new(Shared {
            fleet: Arc::clone(fleet),
            permanent_key,
            newest: Mutex::default(),
            background: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        for instance in 0..fleet.size() {
            for _ in 0..VERIFIERS_PER_INSTANCE {
                tasks.spawn(Arc::clone(&shared).verify(instance, StdRng::from_rng(rng)));
            }
        }
        for number in 0..OWNERS {
            let owner = Owner { shared: Arc::clone(&shared), avoids_faults: number == 0, rng: StdRng::from_rng(rng) };
            tasks.spawn(owner.run());
        }
        Self { shared, tasks }
    }

    /// Stops the load, and waits for requests in flight.
    pub async fn finish(mut self) {
        self.shared.stop.cancel();
        within(MAX_DRAIN, async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("no task fails");
            }
            self.shared.background.close();
            self.shared.background.wait().await;
        })
        .await;
    }
}

impl Shared {
    async fn verify(self: Arc<Self>, instance: usize, mut rng: StdRng) {
        while !self.stop.is_cancelled() {
            let endpoint = if rng.random() { Endpoint::Verify } else { Endpoint::ForwardAuth };
            let key = self.some_key(&mut rng);
            let verdict = self.fleet.verify(instance, key.as_deref().unwrap_or(&self.permanent_key), endpoint).await;
            let decided = !matches!(verdict, Verdict::Lost | Verdict::Unavailable);
            tokio::time::sleep(if decided { VERIFICATION_PAUSE } else { RETRY_PAUSE }).await;
        }
    }

    /// One of the newest keys, or sometimes `None`.
    fn some_key(&self, rng: &mut StdRng) -> Option<Arc<Key>> {
        let newest = self.newest.lock().unwrap();
        newest.get(rng.random_range(0..=newest.len())).cloned()
    }

    fn publish(&self, key: &Arc<Key>) {
        let mut newest = self.newest.lock().unwrap();
        newest.push_front(Arc::clone(key));
        newest.truncate(RECENT_KEYS);
    }

    /// Verifies the key on every instance, in the background. An instance that is stopped responds when it continues.
    fn verify_everywhere(self: &Arc<Self>, key: &Arc<Key>) {
        for instance in 0..self.fleet.size() {
            for endpoint in [Endpoint::Verify, Endpoint::ForwardAuth] {
                let (shared, key) = (Arc::clone(self), Arc::clone(key));
                self.background.spawn(async move { shared.fleet.verify(instance, &key, endpoint).await });
            }
        }
    }
}

struct Owner {
    shared: Arc<Shared>,
    /// Avoids the instance with a fault, like a load balancer. Other owners may wait there until the fault is over.
    avoids_faults: bool,
    rng: StdRng,
}

impl Owner {
    /// Generates keys and ends them, each step at a random instance.
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut system = None;
        while !shared.stop.is_cancelled() {
            // A system whose last change got no response is not used again: the change may still be made.
            let created = match system.take() {
                Some(system) => Some(system),
                None => shared.fleet.create_system(self.instance()).await,
            };
            let key = match created {
                Some(system) => shared.fleet.generate(self.instance(), &system).await,
                None => None,
            };
            let Some(key) = key else {
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            };
            let key = Arc::new(key);
            shared.publish(&key);
            shared.verify_everywhere(&key);
            // The key is in use for a while.
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(20..200))).await;
            let (live, is_known) =
                if shared.fleet.rotates && self.rng.random() { self.rotate(key).await } else { (vec![key], true) };
            let how = if self.rng.random_ratio(1, 4) { End::Delete } else { End::Revoke };
            if self.end(&live, how).await && is_known && matches!(how, End::Revoke) {
                system = Some(live[0].system.clone());
            }
        }
    }

    fn instance(&mut self) -> usize {
        let fleet = &self.shared.fleet;
        let instance = self.rng.random_range(0..fleet.size());
        if self.avoids_faults && fleet.is_faulty(instance) { (instance + 1) % fleet.size() } else { instance }
    }

    /// Rotates a key, and ends the rotation or not. Returns the keys that are live then, and whether all changes are known
    /// to be made.
    async fn rotate(&mut self, key: Arc<Key>) -> (Vec<Arc<Key>>, bool) {
        let shared = Arc::clone(&self.shared);
        let overlap_seconds = if self.rng.random() { 0 } else { 3600 };
        let Some(new) = shared.fleet.rotate(self.instance(), &key, overlap_seconds).await else {
            return (vec![key], false);
        };
        let new = Arc::new(new);
        shared.publish(&new);
        shared.verify_everywhere(&new);
        shared.verify_everywhere(&key);
        // Both keys are in use for a while.
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(20..100))).await;
        if overlap_seconds == 0 {
            return (vec![new], true);
        }
        if self.rng.random() {
            let is_known = self.end(&[key], End::Rotation).await;
            return (vec![new], is_known);
        }
        (vec![new, key], true)
    }

    /// Tries to end keys at random instances until one reports them as ended. Returns true if the first attempt did.
    async fn end(&mut self, keys: &[Arc<Key>], how: End) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut attempts = 0;
        while !shared.stop.is_cancelled() {
            attempts += 1;
            if shared.fleet.end(self.instance(), keys, how).await.is_final() {
                keys.iter().for_each(|key| shared.verify_everywhere(key));
                return attempts == 1;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        false
    }
}
