//! Those who use a fleet all the time: keys are generated, verified everywhere, and ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fleet::{Door, End, Fleet, Key};
use super::history::Verdict;
use crate::support::mongod::within;

/// Tasks that verify, of each instance.
const VERIFIERS: usize = 3;
/// Tasks that generate and end keys.
const OWNERS: usize = 3;
/// How many of the newest keys are verified, ended ones among them.
const VERIFIED: usize = 24;
/// Between two verifications of one task, so that they leave the machine something.
const PACE: Duration = Duration::from_millis(2);
/// After an answer that helped nobody.
const PAUSE: Duration = Duration::from_millis(20);
/// How long requests under way may take once everything is well again.
const FINISHING: Duration = Duration::from_secs(120);

pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    fleet: Arc<Fleet>,
    /// Never ended.
    evergreen: Key,
    newest: Mutex<VecDeque<Arc<Key>>>,
    /// Verifications that nobody waits for.
    loose: TaskTracker,
    stop: CancellationToken,
}

impl Load {
    pub async fn start(fleet: &Arc<Fleet>, rng: &mut StdRng) -> Self {
        let system = fleet.create_system(0).await.expect("a system");
        let evergreen = fleet.generate(0, &system).await.expect("a key");
        let shared = Arc::new(Shared {
            fleet: Arc::clone(fleet),
            evergreen,
            newest: Mutex::default(),
            loose: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        for instance in 0..fleet.size() {
            for _ in 0..VERIFIERS {
                tasks.spawn(Arc::clone(&shared).verify(instance, StdRng::from_rng(rng)));
            }
        }
        for number in 0..OWNERS {
            let owner = Owner { shared: Arc::clone(&shared), is_careful: number == 0, rng: StdRng::from_rng(rng) };
            tasks.spawn(owner.run());
        }
        Self { shared, tasks }
    }

    /// Waits for what is under way, and takes down its answers.
    pub async fn finish(mut self) {
        self.shared.stop.cancel();
        within(FINISHING, async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("no task fails");
            }
            self.shared.loose.close();
            self.shared.loose.wait().await;
        })
        .await;
    }
}

impl Shared {
    async fn verify(self: Arc<Self>, instance: usize, mut rng: StdRng) {
        while !self.stop.is_cancelled() {
            let door = if rng.random() { Door::Verify } else { Door::ForwardAuth };
            let key = self.some_key(&mut rng);
            let verdict = self.fleet.verify(instance, key.as_deref().unwrap_or(&self.evergreen), door).await;
            let decided = !matches!(verdict, Verdict::Lost | Verdict::Unavailable);
            tokio::time::sleep(if decided { PACE } else { PAUSE }).await;
        }
    }

    /// One of the newest keys; now and then `None`.
    fn some_key(&self, rng: &mut StdRng) -> Option<Arc<Key>> {
        let newest = self.newest.lock().unwrap();
        newest.get(rng.random_range(0..=newest.len())).cloned()
    }

    fn publish(&self, key: &Arc<Key>) {
        let mut newest = self.newest.lock().unwrap();
        newest.push_front(Arc::clone(key));
        newest.truncate(VERIFIED);
    }

    /// Asks every instance at once. One that is stopped answers when it wakes.
    fn verify_everywhere(self: &Arc<Self>, key: &Arc<Key>) {
        for instance in 0..self.fleet.size() {
            for door in [Door::Verify, Door::ForwardAuth] {
                let (shared, key) = (Arc::clone(self), Arc::clone(key));
                self.loose.spawn(async move { shared.fleet.verify(instance, &key, door).await });
            }
        }
    }
}

struct Owner {
    shared: Arc<Shared>,
    /// Keeps away from the instance that something is made to fail at, as behind a load balancer. Others find out, and
    /// may wait there until all is over.
    is_careful: bool,
    rng: StdRng,
}

impl Owner {
    /// Generates keys and ends them, each step at another instance.
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut system = None;
        while !shared.stop.is_cancelled() {
            // A system whose last change has no answer is left alone: that change may still come.
            let created = match system.take() {
                Some(system) => Some(system),
                None => shared.fleet.create_system(self.instance()).await,
            };
            let key = match created {
                Some(system) => shared.fleet.generate(self.instance(), &system).await,
                None => None,
            };
            let Some(key) = key else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let key = Arc::new(key);
            shared.publish(&key);
            shared.verify_everywhere(&key);
            // It is used for a while.
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(20..200))).await;
            let how = if self.rng.random_ratio(1, 4) { End::Delete } else { End::Revoke };
            if self.end(&key, how).await && matches!(how, End::Revoke) {
                system = Some(key.system.clone());
            }
        }
    }

    fn instance(&mut self) -> usize {
        let fleet = &self.shared.fleet;
        let instance = self.rng.random_range(0..fleet.size());
        if self.is_careful && fleet.is_troubled(instance) { (instance + 1) % fleet.size() } else { instance }
    }

    /// Ends a key, at one instance after the other until one says that it is ended. Whether the first did.
    async fn end(&mut self, key: &Arc<Key>, how: End) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut tries = 0;
        while !shared.stop.is_cancelled() {
            tries += 1;
            if shared.fleet.end(self.instance(), key, how).await.is_final() {
                shared.verify_everywhere(key);
                return tries == 1;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }
}
