//! The cost of counting: verifications while the use of 100,000 keys is written, writing it when an instance stops, and
//! reading it for a chart.
//!
//! `cargo bench --bench usage -- embedded` (or `mongodb`) runs one store.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/keys.rs"]
mod keys;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/millis.rs"]
mod millis;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/replica_set.rs"]
mod replica_set;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keymark::clock::{Environment, SystemStopwatch};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::Role;
use keymark::config::Config;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, SystemId, TenantId};
use keymark::domain::leases::Incarnation;
use keymark::domain::secrets::{Keyring, RootSecret};
use keymark::domain::time::Timestamp;
use keymark::domain::usage::{Counts, Flush, KeyUse, MAX_DAYS, MAX_HOURS, Resolution, UsageRange, UsageRetention};
use keymark::service::Service;
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use lines::{Better, Goal, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use percentile::percentile;
use rand::SeedableRng;
use rand::rngs::StdRng;
use replica_set::ReplicaSet;
use tokio_util::sync::CancellationToken;
use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const KEYS: u64 = 100_000;
const KEYS_PER_BATCH: u64 = 1_000;
/// Look-ups that are measured together, and pauses between them, so that the writer has its share of the machine.
const LOOK_UPS: usize = 100;
const PACE: Duration = Duration::from_millis(2);
const MEASURED: Duration = Duration::from_secs(15);
const CHART_SYSTEMS: u64 = 1_000;
const DAY: Duration = Duration::from_hours(24);

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if "embedded".contains(&filter) {
            let directory = tempfile::tempdir().expect("a directory");
            measure("embedded", Arc::new(EmbeddedStore::open(directory.path()).expect("a store"))).await;
        }
        if "mongodb".contains(&filter) {
            let mongod = ReplicaSet::start(1).await;
            let options = MongoOptions::new(mongod.uri(), "usage");
            let store = MongoStore::connect(&options, Environment::system()).await.expect("a store");
            measure("mongodb", Arc::new(store)).await;
        }
    });
}

struct Instance {
    service: Arc<Service>,
    coherence: Arc<Coherence>,
}

impl Instance {
    /// Starts an instance over this store, and returns it when it is ready.
    async fn start(store: &Arc<dyn Store>) -> Self {
        let config = Config::default();
        let role = if store.is_shared() { Role::Member(config.timing) } else { Role::Standalone };
        let environment = Environment::system();
        let coherence = Coherence::new(Arc::clone(store), environment.clone(), Arc::new(SystemStopwatch), role);
        let keys = Keyring::new(&RootSecret::new(vec![7; 32]).expect("a secret"), &[]);
        let settings = config.service_settings(role, config.timing.lease);
        let service = Service::new(Arc::clone(store), Arc::clone(&coherence), environment, keys, settings);
        let follower = Arc::clone(&service);
        tokio::spawn(async move { follower.follow_feed(CancellationToken::new()).await });
        while coherence.read(|_| ()).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { service, coherence }
    }
}

async fn measure(name: &str, store: Arc<dyn Store>) {
    let tenant: TenantId = "default".parse().expect("a tenant");
    add_keys(&*store, &tenant).await;
    let instance = Instance::start(&store).await;
    let still = look_ups(&instance).await;
    use_all(&instance);
    let stop = CancellationToken::new();
    let (service, until) = (Arc::clone(&instance.service), stop.clone());
    let flushing = tokio::spawn(async move { service.run_usage(until).await });
    let flushed = look_ups(&instance).await;
    stop.cancel();
    flushing.await.expect("it ends");
    let section = format!("{name}, {KEYS} keys in use");
    let look_ups = Measured::Baseline("no write".to_owned(), vec![(flushed, still)]);
    let name_of = format!("p99 of {LOOK_UPS} look-ups that count, while use is written");
    report(&section, &name_of, "µs", Better::Less, Some(Goal::Ratio(0.8)), look_ups);
    use_all(&instance);
    let began = Instant::now();
    instance.service.flush_usage().await.expect("written");
    let written = Measured::Rounds(vec![began.elapsed().as_secs_f64()]);
    report(&section, "all written without a limit", "s", Better::Less, None, written);
    chart(name, &*store, &tenant).await;
}

async fn add_keys(store: &dyn Store, tenant: &TenantId) {
    let (mut rng, now) = (StdRng::seed_from_u64(1), Environment::system().now());
    for first in (0..KEYS).step_by(KEYS_PER_BATCH as usize) {
        let request_id = RequestId::new(now, &mut rng);
        let origin = Origin { actor: AuditActor::command_line(), source_address: None, request_id };
        let id = AuditEntryId::new(now, &mut rng);
        let mut batch = Batch::new(tenant.clone(), AuditEvent::new(id, now, &origin, AuditAction::KeyGenerated));
        for n in first..first + KEYS_PER_BATCH {
            batch = batch.insert(Row::Key(keys::key(n, tenant, None)));
        }
        store.commit(batch).await.expect("a commit");
    }
}

/// Counts a use of the key.
fn use_key(instance: &Instance, n: u64, now: Timestamp) {
    let found = instance.coherence.read_with_check(|cache, may_use_cache| {
        cache.find_key(std::iter::once(keys::digest(n)), |_| may_use_cache().then_some(now))
    });
    assert!(found.flatten().flatten().is_some(), "it is cached");
}

fn use_all(instance: &Instance) {
    let now = Environment::system().now();
    (0..KEYS).for_each(|n| use_key(instance, n, now));
}

/// The p99 of some look-ups that count.
async fn look_ups(instance: &Instance) -> f64 {
    let (mut times, end, mut n) = (Vec::new(), Instant::now() + MEASURED, 0);
    while Instant::now() < end {
        tokio::time::sleep(PACE).await;
        let now = Environment::system().now();
        let began = Instant::now();
        for _ in 0..LOOK_UPS {
            // Far apart, so that each is of another shard.
            n = (n + 7_919) % KEYS;
            use_key(instance, n, now);
        }
        times.push(began.elapsed());
    }
    percentile(&mut times, 99) * 1e3
}

/// A chart of 400 days of one of many systems.
async fn chart(name: &str, store: &dyn Store, tenant: &TenantId) {
    let (mut rng, now) = (StdRng::seed_from_u64(2), Environment::system().now());
    let systems: Vec<_> = (0..CHART_SYSTEMS).map(|_| SystemId::new(now, &mut rng)).collect();
    let instance = Incarnation::generate(&mut rng);
    let mark = "abcd".to_owned().try_into().expect("a mark");
    for (number, system) in (1..).zip(&systems) {
        let used = |day: u32| KeyUse {
            tenant: tenant.clone(),
            system: *system,
            mark,
            counts: Counts { accepted: 1_000, refused: 10 },
            last_used_at: Some(now.minus(DAY * day)),
            last_refused_at: None,
        };
        let uses = (0..400).map(used).collect();
        store.add_usage(&Flush { instance, number, at: now, uses }).await.expect("added");
    }
    let retention = UsageRetention { hours: MAX_HOURS, days: MAX_DAYS };
    let range = UsageRange::new(Resolution::Day, Some(now.minus(MAX_DAYS)), None, now, retention).expect("a range");
    let mut times = Vec::new();
    for system in &systems {
        let began = Instant::now();
        let found = store.find_usage(tenant, *system, &range).await.expect("read");
        assert_eq!(range.series(&found, None).iter().filter(|(_, counts)| counts.accepted > 0).count(), 400);
        times.push(began.elapsed());
    }
    let section = format!("{name}, a chart of 400 days of one of {CHART_SYSTEMS} systems");
    let times = Measured::Times(millis(&times));
    report(&section, "read from the store", "ms", Better::Less, Some(Goal::P99(20.0)), times);
}
