//! Measures the cost of exact revocation: the waits for other instances, and loading the cache.
//!
//! `cargo bench --bench revocation` runs all; `-- barrier`, `-- instances`, `-- waits`, `-- embedded` or `-- mongodb` one
//! part. For `instances`, `KEYMARK_BINARY` is the path of another build to compare with.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/database_load.rs"]
mod database_load;
#[path = "support/instance.rs"]
mod instance;
#[path = "support/keys.rs"]
mod keys;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/millis.rs"]
mod millis;
#[path = "support/processor_time.rs"]
mod processor_time;
#[path = "support/program.rs"]
mod program;
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/resident.rs"]
mod resident;
#[path = "support/run_part.rs"]
mod run_part;

use std::sync::Arc;
use std::time::{Duration, Instant};

use database_load::DatabaseLoad;
use instance::{Instance, PASSWORD};
use keymark::clock::Environment;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::external_ids::ExternalId;
use keymark::domain::ids::{AuditEntryId, RequestId, TenantId};
use keymark::domain::keys::KeyRole;
use keymark::domain::operators::Password;
use keymark::domain::permissions::Permissions;
use keymark::domain::texts::Description;
use keymark::service::open_sessions::Ending;
use keymark::service::operators::Target;
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keys::key;
use lines::{Better, Goal, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use processor_time::processor_time;
use program::Program;
use replica_set::ReplicaSet;
use requested_part::requested_part;
use resident::resident;
use run_part::run_part;
use serde_json::json;
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const INSTANCES: usize = 3;
const REVOCATIONS: usize = 300;
const KEYS: u64 = 250_000;
const KEYS_A_BATCH: u64 = 2_000;
const TENANTS: u64 = 100;
const PARTS: [&str; 5] = ["barrier", "instances", "waits", "embedded", "mongodb"];
/// Server processes of the part `instances`.
const PROGRAMS: usize = 20;
const SETTLING: Duration = Duration::from_secs(8);
const IDLE: Duration = Duration::from_secs(20);
/// Measurements of each wait.
const ROUNDS: usize = 50;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match requested_part().as_deref() {
        Some("barrier") => runtime.block_on(barrier()),
        Some("instances") => runtime.block_on(instances()),
        Some("waits") => runtime.block_on(waits()),
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
        None => PARTS.iter().for_each(|part| run_part(part, &[])),
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
    let caller = instances[0].operator("default", "admin").await.caller();
    let first = &instances[0].service;
    let request = first.request(None);
    let system = first.create_system(&caller, request, "Revoked and again", None).await.expect("a system");

    let (mut writes, mut waits) = (Vec::new(), Vec::new());
    for (_, Instance { service, .. }) in (0..REVOCATIONS).zip(instances.iter().cycle()) {
        service.generate_key(&caller, request, system.id, None).await.expect("a key");
        let began = Instant::now();
        let (_, enforcement) = service.revoke_key(&caller, request, system.id, None).await.expect("revoked");
        let whole = began.elapsed();
        assert!(enforcement.is_enforced && enforcement.instances == 3, "{enforcement:?}");
        writes.push(whole - enforcement.elapsed);
        waits.push(enforcement.elapsed);
    }
    let section = format!("{REVOCATIONS} revocations, {INSTANCES} instances, 3 members");
    report(&section, "the write", "ms", Better::Less, None, Measured::Times(millis(&writes)));
    let waits = Measured::Times(millis(&waits));
    report(&section, "the wait", "ms", Better::Less, Some(Goal::Median(10.0)), waits);
}

/// Server processes over three members: what they cost while nothing happens, and the wait of revocations in turn.
async fn instances() {
    let set = ReplicaSet::start(3).await;
    let uri = set.uri();
    let mut programs = Vec::new();
    for _ in 0..PROGRAMS {
        programs.push(Program::start(&uri, "127.0.0.1:0", &[]).await);
    }
    let token = programs[0].sign_in().await;
    let system = programs[0].create_system(&token, "Revoked and again").await;
    let own = || programs.iter().map(|program| processor_time(program.process.id())).sum::<Duration>();

    tokio::time::sleep(SETTLING).await;
    let (before, own_before) = (DatabaseLoad::read(&uri).await, own());
    tokio::time::sleep(IDLE).await;
    let idle = (DatabaseLoad::read(&uri).await.since(&before), own() - own_before);

    let (mut waits, mut whole) = (Vec::new(), Vec::new());
    let (before, own_before) = (DatabaseLoad::read(&uri).await, own());
    for program in programs.iter().cycle().take(REVOCATIONS) {
        program.generate_key(&token, &system).await;
        let began = Instant::now();
        let document = "mutation ($system: ID!) { revokeKey(systemId: $system) { \
                        enforcement { state elapsedMs instances } } }";
        let revoked = program.send(Some(&token), document, json!({ "system": system })).await;
        whole.push(began.elapsed());
        let enforcement = &revoked["revokeKey"]["enforcement"];
        assert!(enforcement["state"] == "ENFORCED" && enforcement["instances"] == PROGRAMS, "{enforcement}");
        waits.push(enforcement["elapsedMs"].as_f64().expect("a number"));
    }
    let busy = (DatabaseLoad::read(&uri).await.since(&before), own() - own_before);

    let costs = |section: &str, (database, own): &(DatabaseLoad, Duration), per: &str, count: f64| {
        for (name, unit, value) in [
            ("commands", "", database.commands),
            ("returned documents", "", database.returned_documents),
            ("processor time of the database", "ms ", database.processor_time.as_secs_f64() * 1e3),
            ("processor time of Keymark", "ms ", own.as_secs_f64() * 1e3),
        ] {
            let unit = format!("{unit}{per}");
            report(section, name, &unit, Better::Less, None, Measured::Rounds(vec![value / count]));
        }
    };
    costs(&format!("{PROGRAMS} idle processes, 3 members"), &idle, "a second", IDLE.as_secs_f64());
    costs(&format!("Changes by {PROGRAMS} processes, 3 members"), &busy, "a change", 2.0 * REVOCATIONS as f64);
    let section = format!("{REVOCATIONS} revocations by {PROGRAMS} processes in turn, 3 members");
    report(&section, "revokeKey", "ms", Better::Less, None, Measured::Times(millis(&whole)));
    report(&section, "the wait", "ms", Better::Less, None, Measured::Times(waits));
}

/// Everything that a client waits for when it restricts something, and each of its repeats.
async fn waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).expect("a store"));
    waits_over("the embedded store", 2.0, None, &store).await;
    for (members, instances, repeat) in [(1, 1, 20.0), (3, 1, 20.0), (3, INSTANCES, 30.0)] {
        let set = ReplicaSet::start(members).await;
        let mut stores = Vec::new();
        for _ in 0..instances {
            let options = MongoOptions::new(set.uri(), "waits");
            let store = MongoStore::connect(&options, Environment::system()).await.expect("a store");
            stores.push(Arc::new(store) as Arc<dyn Store>);
        }
        let mut others = Vec::new();
        for store in &stores[1..] {
            others.push(Instance::start(store, false).await);
        }
        let revocation = (members == 1).then_some(12.0);
        let title = format!("MongoDB, {members} members, {instances} instances");
        waits_over(&title, repeat, revocation, &stores[0]).await;
    }
}

/// The goals, in milliseconds, are those of repeats and of `revokeKey`.
async fn waits_over(title: &str, repeat: f64, revocation: Option<f64>, store: &Arc<dyn Store>) {
    let instance = Instance::start(store, false).await;
    let service = &instance.service;
    let caller = instance.operator("default", "waiting").await.caller();
    let request = service.request(None);
    let username = caller.signed_in().expect("an operator").0.username.clone();
    let other = instance.operator("default", "other").await.operator.username.clone();
    let mut times: Vec<(&str, Vec<Duration>)> = Vec::new();
    macro_rules! measure {
        ($what:literal, $call:expr) => {{
            let began = Instant::now();
            let result = $call.await;
            let elapsed = began.elapsed();
            match times.iter_mut().find(|(what, _)| *what == $what) {
                Some((_, times)) => times.push(elapsed),
                None => times.push(($what, vec![elapsed])),
            }
            result
        }};
    }
    for round in 0..ROUNDS {
        let name = format!("System {round}");
        let id = measure!("createSystem", service.create_system(&caller, request, &name, None)).expect("created").id;
        measure!("generateKey", service.generate_key(&caller, request, id, None)).expect("generated");
        let overlap = Duration::from_hours(1);
        measure!("rotateKey", service.rotate_key(&caller, request, id, overlap, None)).expect("rotated");
        measure!("endRotation", service.end_rotation(&caller, request, id, None)).expect("ended");
        let end = Some(service.environment().now().plus(Duration::from_hours(24 * 90)));
        measure!("setKeyExpiry", service.set_key_expiry(&caller, request, id, KeyRole::Current, end)).expect("set");
        measure!("suspendSystem", service.suspend_system(&caller, request, id, None)).expect("suspended");
        measure!("suspendSystem, repeated", service.suspend_system(&caller, request, id, None)).expect("suspended");
        measure!("resumeSystem", service.resume_system(&caller, request, id)).expect("resumed");
        let text = Description::parse("Issues invoices").expect("a description");
        measure!("describeSystem", service.describe_system(&caller, request, id, text, None)).expect("described");
        let external_id = ExternalId::parse(&format!("cus_{round}")).expect("an external id");
        measure!("setExternalId", service.set_external_id(&caller, request, id, external_id)).expect("set");
        measure!("revokeKey", service.revoke_key(&caller, request, id, None)).expect("revoked");
        let repeated = measure!("revokeKey, repeated", service.revoke_key(&caller, request, id, None));
        assert!(repeated.is_err(), "there is no key any more");
        let origin = service.command_line_origin(None);
        let tenant: TenantId = format!("tenant-{round}").parse().expect("an id");
        measure!("createTenant", service.create_tenant(&origin, &tenant, "Tenant")).expect("created");
        measure!("suspendTenant", service.suspend_tenant(&origin, &tenant, None)).expect("suspended");
        measure!("resumeTenant", service.resume_tenant(&origin, &tenant)).expect("resumed");
        measure!("deleteSystem without a key", service.delete_system(&caller, request, id, None)).expect("deleted");
        let repeated = measure!("deleteSystem, repeated", service.delete_system(&caller, request, id, None));
        assert!(repeated.is_err(), "there is no system any more");
        let id = service.create_system(&caller, request, &name, None).await.expect("created").id;
        service.generate_key(&caller, request, id, None).await.expect("generated");
        measure!("deleteSystem with a key", service.delete_system(&caller, request, id, None)).expect("deleted");
        let origin = service.command_line_origin(None);
        let codes = if round % 2 == 0 { Permissions::NONE } else { Permissions::all_of(false) };
        measure!("set-permissions", service.set_permissions(Target::CommandLine(&origin, &username), Some(codes)))
            .expect("set");
        measure!(
            "set-permissions, repeated",
            service.set_permissions(Target::CommandLine(&origin, &username), Some(codes))
        )
        .expect("set");
        let target = Target::CommandLine(&origin, &other);
        measure!("suspendOperator", service.suspend_operator(target)).expect("suspended");
        measure!("suspendOperator, repeated", service.suspend_operator(target)).expect("suspended");
        measure!("resumeOperator", service.resume_operator(target)).expect("resumed");
        instance.sign_in("other").await;
        measure!("endSessions", service.end_all_sessions(target)).expect("ended");
        let one = instance.sign_in("waiting").await.session.id;
        measure!("endSessions, one", service.end_sessions(&caller, request, Ending::One(one))).expect("ended");
        let session = instance.sign_in("other").await;
        let password = || Password::unchecked(PASSWORD.to_owned());
        measure!("changePassword", service.change_password(&session.caller(), request, password(), password()))
            .expect("changed");
        let session = measure!("signIn", instance.sign_in("waiting"));
        measure!("signOut", service.sign_out(&session.caller(), request)).expect("signed out");
    }
    let section = format!("{ROUNDS} of each over {title}");
    for (what, times) in times {
        let goal = if what.ends_with("repeated") { Some(repeat) } else { revocation.filter(|_| what == "revokeKey") };
        let times = Measured::Times(millis(&times));
        report(&section, what, "ms", Better::Less, goal.map(Goal::Median), times);
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
    let section = format!("{KEYS} keys loaded from {store}");
    run_part("loaded", &[environment, &[("LOADED_SECTION", section)]].concat());
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
    let section = std::env::var("LOADED_SECTION").expect("the section of the report");
    let line = |name, unit, goal, value| {
        report(&section, name, unit, Better::Less, Some(Goal::Median(goal)), Measured::Rounds(vec![value]));
    };
    line("ready", "s", 5.0, took.as_secs_f64());
    line("memory", "resident bytes a key", 150.0, bytes / KEYS as f64);
}
