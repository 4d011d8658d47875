//! What exact revocation costs: the wait for other instances, and the loading of memory.
//!
//! `cargo bench --bench revocation` runs all; `-- barrier`, `-- embedded` or `-- mongodb` one part.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keymark::auth::passwords::Cost;
use keymark::clock::{BootClock, Environment};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::{Role, Timing};
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, SystemId, TenantId};
use keymark::domain::keys::{Key, KeyDigest, Mark};
use keymark::domain::names::SystemName;
use keymark::domain::operators::Password;
use keymark::domain::permissions::Permissions;
use keymark::domain::secrets::{Keyring, RootSecret};
use keymark::service::{Service, Settings};
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use support::ReplicaSet;
use tokio_util::sync::CancellationToken;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INSTANCES: usize = 3;
const REVOCATIONS: usize = 300;
const KEYS: u32 = 1_000_000;
const KEYS_A_BATCH: u32 = 2_000;
const TENANTS: u32 = 100;
const PARTS: [&str; 3] = ["barrier", "embedded", "mongodb"];
const TIMING: Timing = Timing { lease: Duration::from_secs(12), probe_interval: Duration::from_secs(1) };

fn main() {
    let asked = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match asked.as_deref() {
        Some("barrier") => runtime.block_on(barrier()),
        Some("embedded") => runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            fill(&EmbeddedStore::open(directory.path()).expect("a store")).await;
            load("embedded", &[("LOADED_DIRECTORY", directory.path().display().to_string())]);
        }),
        Some("mongodb") => runtime.block_on(async {
            let set = ReplicaSet::start(1).await;
            fill(&MongoStore::connect(&MongoOptions::new(set.uri(), "loading")).await.expect("a store")).await;
            load("MongoDB", &[("LOADED_URI", set.uri())]);
        }),
        Some("loaded") => runtime.block_on(loaded()),
        Some(_) => {}
        // Each part in a process of its own, so that none is given memory that another freed.
        None => PARTS.iter().for_each(|part| again(part, &[])),
    }
}

fn again(part: &str, environment: &[(&str, String)]) {
    let program = std::env::current_exe().expect("the path of this program");
    let status = Command::new(program).arg(part).envs(environment.iter().cloned()).status();
    assert!(status.expect("a process").success());
}

/// Revocations on three instances over three members, in turn: the write, and the wait for the other two.
async fn barrier() {
    let set = ReplicaSet::start(3).await;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let store = MongoStore::connect(&MongoOptions::new(set.uri(), "revocations")).await.expect("a store");
        instances.push(instance(Arc::new(store), Role::Member(TIMING)).await);
    }
    let password = || Password::presented("correct horse battery".to_owned());
    let first = &instances[0];
    let request = first.request(None);
    let (tenant, username) = ("default".parse().expect("a tenant"), "admin".parse().expect("a name"));
    first.add_operator(request, tenant, username, password(), Permissions::all()).await.expect("an operator");
    let caller = first.sign_in(request, "admin", password()).await.expect("a session").caller;
    let system = first.create_system(&caller, request, "Revoked and again").await.expect("a system");

    let (mut writes, mut waits) = (Vec::new(), Vec::new());
    for (_, service) in (0..REVOCATIONS).zip(instances.iter().cycle()) {
        service.generate_key(&caller, request, system.id).await.expect("a key");
        let began = Instant::now();
        let (_, enforcement) = service.revoke_key(&caller, request, system.id).await.expect("revoked");
        let whole = began.elapsed();
        assert!(enforcement.is_proved && enforcement.instances == 3, "{enforcement:?}");
        writes.push(whole - enforcement.elapsed);
        waits.push(enforcement.elapsed);
    }
    println!("{REVOCATIONS} revocations, {INSTANCES} instances, 3 members (goal: the wait under 10 ms in the median)");
    for (what, mut times) in [("the write", writes), ("the wait", waits)] {
        times.sort();
        let ms = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        println!("  {what:<10} p50 {:>6.1} ms  p90 {:>6.1} ms  p99 {:>6.1} ms", ms(50), ms(90), ms(99));
    }
}

async fn instance(store: Arc<dyn Store>, role: Role) -> Arc<Service> {
    let (environment, stopwatch) = (Environment::system(), Arc::new(BootClock));
    let coherence = Coherence::new(Arc::clone(&store), environment.clone(), stopwatch, role);
    let keys = Keyring::new(&RootSecret::new(vec![7; 32]).expect("a secret"), &[]);
    let settings = Settings { password_cost: Cost { memory_kib: 8, passes: 1, lanes: 1 }, ..Settings::default() };
    let service = Service::new(store, coherence, environment, keys, settings);
    let follower = Arc::clone(&service);
    tokio::spawn(async move { follower.follow_feed(CancellationToken::new()).await });
    while !service.is_ready().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    service
}

/// Puts the keys into the store, some thousands at once.
async fn fill(store: &dyn Store) {
    let environment = Environment::system();
    let now = environment.now();
    let origin = Origin {
        actor: AuditActor::system(),
        source_address: None,
        request_id: RequestId::new(now, &mut **environment.rng()),
    };
    for first in (0..KEYS).step_by(KEYS_A_BATCH as usize) {
        let tenant: TenantId = format!("tenant-{}", first / KEYS_A_BATCH % TENANTS).parse().expect("a tenant");
        let id = AuditEntryId::new(now, &mut **environment.rng());
        let event = AuditEvent::new(id, now, &origin, AuditAction::KeyGenerated);
        let mut batch = Batch::new(tenant.clone(), event);
        for n in first..first + KEYS_A_BATCH {
            let system = SystemId::new(now, &mut **environment.rng());
            batch = batch.insert(Row::Key(key(n, &tenant, system)));
        }
        store.commit(batch).await.expect("committed");
    }
}

fn key(n: u32, tenant: &TenantId, system: SystemId) -> Key {
    // Digests are spread evenly: so is this, by a multiplication that is one to one.
    let mut digest = [0; 32];
    for (part, seed) in digest.chunks_exact_mut(4).zip(1_u32..) {
        part.copy_from_slice(&n.wrapping_mul(0x9E37_79B1).wrapping_add(seed.wrapping_mul(n | 1)).to_le_bytes());
    }
    Key {
        digest: KeyDigest::from_bytes(digest),
        tenant: tenant.clone(),
        system,
        system_name: SystemName::parse(&format!("System number {n:06}")).expect("a name"),
        mark: Mark::try_from(format!("{:04}", n % 10_000)).expect("a mark"),
        revision: 1,
        revoked_at: None,
    }
}

/// In a process of its own, which has nothing else in memory.
fn load(store: &str, environment: &[(&str, String)]) {
    println!("{KEYS} keys loaded from {store} (goals: 5 s, 150 bytes a key)");
    again("loaded", environment);
}

async fn loaded() {
    let (store, role): (Arc<dyn Store>, _) = match std::env::var("LOADED_URI") {
        Ok(uri) => {
            let store = MongoStore::connect(&MongoOptions::new(uri, "loading")).await.expect("a store");
            (Arc::new(store), Role::Member(TIMING))
        }
        Err(_) => {
            let directory = std::env::var("LOADED_DIRECTORY").expect("where the store is");
            (Arc::new(EmbeddedStore::open(directory.as_ref()).expect("a store")), Role::Alone)
        }
    };
    let (before, began) = (resident(), Instant::now());
    let service = instance(store, role).await;
    let took = began.elapsed();
    let bytes = (resident() - before) as f64;
    println!("  ready after {:.2} s; {:.0} bytes a key resident", took.as_secs_f64(), bytes / f64::from(KEYS));
    drop(service);
}

/// Bytes of memory that this process has, without pages of files.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") * 1024
}
