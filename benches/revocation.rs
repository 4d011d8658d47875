//! What exact revocation costs: the wait for other instances, and the loading of memory.
//!
//! `cargo bench --bench revocation` runs all; `-- barrier`, `-- embedded` or `-- mongodb` one part.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/again.rs"]
mod again;
#[path = "support/asked.rs"]
mod asked;
#[path = "support/instance.rs"]
mod instance;
#[path = "support/keys.rs"]
mod keys;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/resident.rs"]
mod resident;

use std::sync::Arc;
use std::time::Instant;

use again::again;
use asked::asked;
use instance::Instance;
use keymark::clock::Environment;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, TenantId};
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keys::key;
use percentile::percentile;
use replica_set::ReplicaSet;
use resident::resident;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INSTANCES: usize = 3;
const REVOCATIONS: usize = 300;
const KEYS: u64 = 1_000_000;
const KEYS_A_BATCH: u64 = 2_000;
const TENANTS: u64 = 100;
const PARTS: [&str; 3] = ["barrier", "embedded", "mongodb"];

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match asked().as_deref() {
        Some("barrier") => runtime.block_on(barrier()),
        Some("embedded") => runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            fill(&EmbeddedStore::open(directory.path()).expect("a store")).await;
            load("embedded", &[("LOADED_DIRECTORY", directory.path().display().to_string())]);
        }),
        Some("mongodb") => runtime.block_on(async {
            let set = ReplicaSet::start(1).await;
            fill(
                &MongoStore::connect(&MongoOptions::new(set.uri(), "loading"), Environment::system())
                    .await
                    .expect("a store"),
            )
            .await;
            load("MongoDB", &[("LOADED_URI", set.uri())]);
        }),
        Some("loaded") => runtime.block_on(loaded()),
        Some(_) => {}
        // Each part in a process of its own, so that none is given memory that another freed.
        None => PARTS.iter().for_each(|part| again(part, &[])),
    }
}

/// Revocations on three instances over three members, in turn: the write, and the wait for the other two.
async fn barrier() {
    let set = ReplicaSet::start(3).await;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let store = MongoStore::connect(&MongoOptions::new(set.uri(), "revocations"), Environment::system())
            .await
            .expect("a store");
        instances.push(Instance::start(&(Arc::new(store) as Arc<dyn Store>), false).await);
    }
    let caller = instances[0].operator("default", "admin").await.caller;
    let first = &instances[0].service;
    let request = first.request(None);
    let system = first.create_system(&caller, request, "Revoked and again").await.expect("a system");

    let (mut writes, mut waits) = (Vec::new(), Vec::new());
    for (_, Instance { service, .. }) in (0..REVOCATIONS).zip(instances.iter().cycle()) {
        service.generate_key(&caller, request, system.id).await.expect("a key");
        let began = Instant::now();
        let (_, enforcement) = service.revoke_key(&caller, request, system.id).await.expect("revoked");
        let whole = began.elapsed();
        assert!(enforcement.is_enforced && enforcement.instances == 3, "{enforcement:?}");
        writes.push(whole - enforcement.elapsed);
        waits.push(enforcement.elapsed);
    }
    println!("{REVOCATIONS} revocations, {INSTANCES} instances, 3 members (goal: the wait under 10 ms in the median)");
    for (what, mut times) in [("the write", writes), ("the wait", waits)] {
        let mut ms = |part| percentile(&mut times, part);
        println!("  {what:<10} p50 {:>6.1} ms  p90 {:>6.1} ms  p99 {:>6.1} ms", ms(50), ms(90), ms(99));
    }
}

/// Puts the keys into the store, some thousands at once.
async fn fill(store: &dyn Store) {
    let environment = Environment::system();
    let now = environment.now();
    let origin = Origin {
        actor: AuditActor::keymark(),
        source_address: None,
        request_id: RequestId::new(now, &mut **environment.rng()),
    };
    for first in (0..KEYS).step_by(KEYS_A_BATCH as usize) {
        let tenant: TenantId = format!("tenant-{}", first / KEYS_A_BATCH % TENANTS).parse().expect("a tenant");
        let id = AuditEntryId::new(now, &mut **environment.rng());
        let event = AuditEvent::new(id, now, &origin, AuditAction::KeyGenerated);
        let mut batch = Batch::new(tenant.clone(), event);
        for n in first..first + KEYS_A_BATCH {
            batch = batch.insert(Row::Key(key(n, &tenant, None)));
        }
        store.commit(batch).await.expect("committed");
    }
}

/// In a process of its own, which has nothing else in memory.
fn load(store: &str, environment: &[(&str, String)]) {
    println!("{KEYS} keys loaded from {store} (goals: 5 s, 150 bytes a key)");
    again("loaded", environment);
}

async fn loaded() {
    let store: Arc<dyn Store> = match std::env::var("LOADED_URI") {
        Ok(uri) => Arc::new(
            MongoStore::connect(&MongoOptions::new(uri, "loading"), Environment::system()).await.expect("a store"),
        ),
        Err(_) => {
            let directory = std::env::var("LOADED_DIRECTORY").expect("where the store is");
            Arc::new(EmbeddedStore::open(directory.as_ref()).expect("a store"))
        }
    };
    let (before, began) = (resident(std::process::id()), Instant::now());
    let instance = Instance::start(&store, false).await;
    let took = began.elapsed();
    let bytes = resident(std::process::id()).saturating_sub(before) as f64;
    assert_eq!(instance.coherence.read(|memory| memory.keys.current()), Some(KEYS as usize));
    println!("  ready after {:.2} s; {:.0} bytes a key resident", took.as_secs_f64(), bytes / KEYS as f64);
}
