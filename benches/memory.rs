//! The cost of an index of 1,000,000 keys: resident memory, time to fill, look-ups per second on one thread. And the resident
//! memory of an instance on the embedded store with 10,000 systems and keys, with caches of several sizes.
//!
//! `cargo bench --bench memory` runs all parts, each in its own process, so that none reuses memory that another freed;
//! `-- current`, `-- revoked` or `-- embedded` runs one.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/instance.rs"]
mod instance;
#[path = "support/keys.rs"]
mod keys;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/millis.rs"]
mod millis;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/resident.rs"]
mod resident;
#[path = "support/run_part.rs"]
mod run_part;

use std::sync::Arc;
use std::time::{Duration, Instant};

use instance::Instance;
use keymark::clock::Environment;
use keymark::coherence::key_index::KeyIndex;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, TenantId};
use keymark::domain::pages::PageRequest;
use keymark::domain::system_names::{Search, SystemName};
use keymark::domain::systems::{Direction, System, SystemOrder, SystemOrderField};
use keymark::domain::time::Timestamp;
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keys::{digest, key};
use lines::{Better, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use requested_part::requested_part;
use resident::resident;
use run_part::run_part;
use zeroizing_alloc::ZeroAlloc;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const KEYS: u64 = 1_000_000;
const TENANTS: u64 = 1_000;
const PARTS: [&str; 3] = ["current", "revoked", "embedded"];
/// Systems of the embedded store, in one tenant, each with a key.
const SYSTEMS: u64 = 10_000;
const SYSTEMS_PER_BATCH: u64 = 100;
const PAGES: u64 = 2_000;
const DIRECTORY: &str = "KEYMARK_BENCH_DIRECTORY";
const CACHE: &str = "KEYMARK_BENCH_CACHE_MIB";
const CACHES_MIB: [usize; 4] = [1, 4, 16, 64];

fn main() {
    match requested_part().as_deref() {
        Some("current") => measure("current", None),
        Some("revoked") => measure("revoked", Some(Timestamp::from_millis(1_700_000_000_000))),
        Some("embedded") => {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().to_str().expect("a path in UTF-8").to_owned();
            run_part("write", &[(DIRECTORY, path.clone())]);
            for mib in CACHES_MIB {
                run_part("read", &[(DIRECTORY, path.clone()), (CACHE, mib.to_string())]);
            }
        }
        Some("write") => runtime().block_on(write()),
        Some("read") => runtime().block_on(read()),
        Some(_) => {}
        None => PARTS.iter().for_each(|part| run_part(part, &[])),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("set by the part that runs this one")
}

fn tenant() -> TenantId {
    "default".parse().expect("a tenant")
}

async fn write() {
    let store = EmbeddedStore::open(variable(DIRECTORY).as_ref()).expect("a store");
    let (store, environment): (&dyn Store, _) = (&store, Environment::system());
    let now = environment.now();
    let request_id = RequestId::new(now, &mut **environment.rng());
    let origin = Origin { actor: AuditActor::keymark(), source_address: None, request_id };
    for first in (0..SYSTEMS).step_by(SYSTEMS_PER_BATCH as usize) {
        let id = AuditEntryId::new(now, &mut **environment.rng());
        let mut batch = Batch::new(tenant(), AuditEvent::new(id, now, &origin, AuditAction::SystemCreated));
        for n in first..first + SYSTEMS_PER_BATCH {
            let key = key(n, &tenant(), None);
            let name = SystemName::parse(&format!("System {n:013}")).expect("a name");
            let system = System::new(key.system, tenant(), name, now);
            batch = batch.insert(Row::System(system)).insert(Row::Key(key));
        }
        store.commit(batch).await.expect("committed");
    }
}

/// Starts an instance, and lists pages all over the tenant, without searches.
async fn read() {
    let mib: usize = variable(CACHE).parse().expect("a number");
    let store = EmbeddedStore::open_with_cache(variable(DIRECTORY).as_ref(), mib << 20).expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let instance = Instance::start(&store, true).await;
    assert!(instance.coherence.read(|_| ()).is_some(), "the cache is loaded");
    instance.operator("default", &format!("admin-{mib}")).await;
    let order = SystemOrder { field: SystemOrderField::UpdatedAt, direction: Direction::Ascending };
    let mut times = Vec::new();
    for n in 0..PAGES {
        let system = key(n * 7_919 % SYSTEMS, &tenant(), None).system;
        let found = store.find_system(&tenant(), system).await.expect("read").expect("a system");
        let request = PageRequest { after: Some(order.field.key_of(&found)), ..PageRequest::first(20) };
        let began = Instant::now();
        store.list_systems(&tenant(), &Search::All, order, &request).await.expect("a page");
        times.push(began.elapsed());
    }
    // The allocator returns memory a while after it was freed, when it is used next.
    tokio::time::sleep(Duration::from_secs(3)).await;
    store.count_systems(&tenant(), &Search::All).await.expect("a count");
    let resident = resident(std::process::id()) as f64 / 1_048_576.0;
    let section = format!("embedded, {SYSTEMS} systems and keys, a cache of {mib} MiB");
    let memory = Measured::Rounds(vec![resident]);
    report(&section, "memory without pages of files", "MiB resident", Better::Less, None, memory);
    let times = Measured::Times(millis(&times));
    report(&section, "a page of 20 by time, from the store", "ms", Better::Less, None, times);
}

fn measure(what: &str, revoked_at: Option<Timestamp>) {
    let tenants: Vec<TenantId> = (0..TENANTS).map(|n| format!("tenant-{n}").parse().expect("a tenant")).collect();
    let before = resident(std::process::id());
    let index = KeyIndex::default();
    let (mut filling, mut longest) = (Duration::ZERO, Duration::ZERO);
    for n in 0..KEYS {
        let key = key(n, &tenants[(n % TENANTS) as usize], revoked_at);
        let began = Instant::now();
        index.put(&key);
        let took = began.elapsed();
        filling += took;
        longest = longest.max(took);
    }
    let resident = resident(std::process::id()).saturating_sub(before) as f64 / KEYS as f64;
    let held = index.bytes() as f64 / KEYS as f64;
    let section = format!("{KEYS} {what} keys in the index, names of 20 bytes, {TENANTS} tenants");
    let line = |name, unit, better, value| report(&section, name, unit, better, None, Measured::Rounds(vec![value]));
    line("memory", "resident bytes a key", Better::Less, resident);
    line("memory by its own count", "bytes a key", Better::Less, held);
    line("filled", "s", Better::Less, filling.as_secs_f64());
    line("longest row", "ms", Better::Less, longest.as_secs_f64() * 1e3);
    line("hits on one thread", "a second", Better::More, look_ups(&index, 0, true));
    line("misses on one thread", "a second", Better::More, look_ups(&index, KEYS, false));
}

/// Look-ups per second of digests from `first` on, in an order unrelated to that of the rows.
fn look_ups(index: &KeyIndex, first: u64, known: bool) -> f64 {
    const STEP: u64 = 618_033; // coprime to KEYS, so that each key is looked up once
    let began = Instant::now();
    for n in 0..KEYS {
        let found = index.find(&digest(first + n * STEP % KEYS));
        assert_eq!(found.is_some(), known);
    }
    KEYS as f64 / began.elapsed().as_secs_f64()
}
