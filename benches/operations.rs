//! What takes people or the background a while: changing a password, exporting and verifying an audit log, and digesting
//! keys anew. Each is compared with the least that it has to do, in turns, and the median of the rounds' ratios is printed.
//!
//! `cargo bench --bench operations` runs both stores; `-- embedded` or `-- mongodb` one of them.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/instance.rs"]
mod instance;
#[path = "support/keys.rs"]
mod keys;
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/run_part.rs"]
mod run_part;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use instance::{Instance, PASSWORD, root_secret};
use keymark::audit_text::Format;
use keymark::audit_text::verification::verify;
use keymark::auth::cost::Cost;
use keymark::auth::passwords::{Comparison, Passwords};
use keymark::clock::Environment;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, AuditFilter, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, TenantId};
use keymark::domain::keys::{ApiKey, PresentedKey};
use keymark::domain::operators::Password;
use keymark::domain::secrets::Keyring;
use keymark::service::Caller;
use keymark::service::audit::Exporter;
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keys::key;
use mimalloc::MiMalloc;
use replica_set::ReplicaSet;
use requested_part::requested_part;
use run_part::run_part;
use zeroizing_alloc::ZeroAlloc;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const PARTS: [&str; 2] = ["embedded", "mongodb"];
const ROUNDS: usize = 7;
/// Changes of a password in one round.
const CHANGES: u32 = 10;
const OPERATORS: u32 = 200;
const ENTRIES: u32 = 20_000;
/// As many as the server reads in one call.
const ENTRIES_PER_READ: usize = 500;
/// Keys to digest anew in one round, and in one change, which is the server's limit.
const KEYS: u32 = 300;
const KEYS_PER_CHANGE: usize = 100;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match requested_part().as_deref() {
        Some("embedded") => runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            println!("embedded");
            measure(Arc::new(EmbeddedStore::open(directory.path()).expect("a store"))).await;
        }),
        Some("mongodb") => runtime.block_on(async {
            let set = ReplicaSet::start(1).await;
            let options = MongoOptions::new(set.uri(), "operations");
            println!("MongoDB");
            measure(Arc::new(MongoStore::connect(&options, Environment::system()).await.expect("a store"))).await;
        }),
        Some(_) => {}
        None => PARTS.iter().for_each(|part| run_part(part, &[])),
    }
}

async fn measure(store: Arc<dyn Store>) {
    change_password(&store).await;
    list_operators(&store).await;
    audit_log(&store).await;
    redigest_keys(&store).await;
}

/// `changePassword` against comparing one password and hashing another.
async fn change_password(store: &Arc<dyn Store>) {
    let instance = Instance::start(store, true).await;
    let service = &instance.service;
    let mut caller: Caller = instance.operator("default", "changing").await.caller();
    let mut current = PASSWORD.to_owned();
    let password = |text: &str| Password::unchecked(text.to_owned());
    let passwords = Passwords::new(Cost::default(), Environment::system());
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        for change in 0..CHANGES {
            let new = format!("another good password {round} {change}");
            let request = service.request(None);
            let changed = service.change_password(&caller, request, password(&current), password(&new)).await;
            caller = changed.expect("changed").caller();
            current = new;
        }
        let ours = began.elapsed() / CHANGES;
        let began = Instant::now();
        for _ in 0..CHANGES {
            let stored = caller.signed_in().expect("an operator").0.password_hash.clone();
            let place = passwords.queue().expect("a place");
            let compared = passwords.compare(&place, password(&current), Some(stored)).await.expect("compared");
            assert_eq!(compared, Comparison::Match);
            passwords.hash(password(&current)).await.expect("hashed");
        }
        rounds.push((ours, began.elapsed() / CHANGES));
    }
    print("changePassword against one comparison and one hash", "ms", rounds, |time| time.as_secs_f64() * 1e3);
}

/// `operators` from the cache against reading them from the store.
async fn list_operators(store: &Arc<dyn Store>) {
    let instance = Instance::start(store, true).await;
    let tenant: TenantId = "listed".parse().expect("a tenant");
    for number in 0..OPERATORS {
        instance.operator(tenant.as_str(), &format!("operator-{number:03}")).await;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let listed = instance.service.operators_of(&tenant).await.expect("listed");
        let ours = began.elapsed();
        let began = Instant::now();
        assert_eq!(store.list_operators(Some(&tenant)).await.expect("listed").len(), listed.len());
        rounds.push((ours, began.elapsed()));
    }
    print("operators against reading them from the store", "ms", rounds, |time| time.as_secs_f64() * 1e3);
}

/// An export and a verification of the log against reading it, and a verification of the export against parsing it.
async fn audit_log(store: &Arc<dyn Store>) {
    let (environment, tenant) = (Environment::system(), "logged".parse::<TenantId>().expect("a tenant"));
    for _ in 0..ENTRIES / 200 {
        let commits = (0..200).map(|_| store.commit(Batch::new(tenant.clone(), event(&environment))));
        futures::future::try_join_all(commits).await.expect("commits");
    }
    let instance = Instance::start(store, false).await;
    let service = &instance.service;
    let read = async || {
        let began = Instant::now();
        let mut last = 0;
        while let entries = store.list_audit_after(&tenant, last, ENTRIES_PER_READ).await.expect("entries")
            && let Some(entry) = entries.last()
        {
            last = entry.number;
        }
        assert!(last >= u64::from(ENTRIES), "{last}");
        began.elapsed()
    };
    let known = service.find_checkpoints(Vec::new()).await.expect("checkpoints");
    let keys = Keyring::new(&root_secret(7), &[]).public_keys();
    let (mut exports, mut verified, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let (request, exporter) = (service.request(None), Exporter::CommandLine(tenant.clone(), None));
        let export = service.export_audit(request, exporter, AuditFilter::default(), Format::Jsonl).await;
        let parts: Vec<String> = export.expect("an export").try_collect().await.expect("a whole export");
        let export = parts.concat();
        exports.push((began.elapsed(), read().await));

        let began = Instant::now();
        service.verify_audit(&tenant, &known).await.expect("read").expect("intact");
        verified.push((began.elapsed(), read().await));

        let began = Instant::now();
        verify(export.as_bytes(), &keys).expect("intact");
        let ours = began.elapsed();
        let began = Instant::now();
        for line in export.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
        files.push((ours, began.elapsed()));
    }
    let rate = |time: Duration| f64::from(ENTRIES) / time.as_secs_f64();
    print("audit export against reading the log", "entries/s", exports, rate);
    print("audit verify against reading the log", "entries/s", verified, rate);
    print("audit verify --file against parsing the lines", "entries/s", files, rate);
}

/// Digesting keys anew against commits of as many new keys.
async fn redigest_keys(store: &Arc<dyn Store>) {
    let (environment, tenant) = (Environment::system(), "redigested".parse::<TenantId>().expect("a tenant"));
    // Each round drops the secret of the one before.
    let mut instance = Instance::start(store, false).await;
    let caller = instance.operator(tenant.as_str(), "redigested").await.caller();
    let mut api_keys: Vec<ApiKey> = Vec::new();
    for n in 0..KEYS {
        let (service, request) = (&instance.service, instance.service.request(None));
        let system = service.create_system(&caller, request, &format!("System {n}"), None).await.expect("a system");
        let generated = service.generate_key(&caller, request, system.id, None).await.expect("a key");
        api_keys.push(generated.api_key);
    }
    let (mut rounds, mut next) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let secret = |round: usize| root_secret(7 + u8::try_from(round).expect("few rounds"));
        instance = Instance::start_with(store, false, Keyring::new(&secret(round + 1), &[secret(round)])).await;
        while instance.coherence.read(|_| ()).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for api_key in &api_keys {
            instance.service.collect_old_digest(PresentedKey::parse(api_key.expose()).expect("well-formed"));
        }
        let began = Instant::now();
        assert_eq!(instance.service.redigest_keys().await.expect("digested anew"), u64::from(KEYS));
        let ours = began.elapsed();
        let began = Instant::now();
        for _ in 0..KEYS as usize / KEYS_PER_CHANGE {
            let mut batch = Batch::new(tenant.clone(), event(&environment));
            for _ in 0..KEYS_PER_CHANGE {
                batch = batch.insert(Row::Key(key(next, &tenant, None)));
                next += 1;
            }
            store.commit(batch).await.expect("committed");
        }
        rounds.push((ours, began.elapsed()));
    }
    print("redigested keys against commits of new keys", "keys/s", rounds, |time| f64::from(KEYS) / time.as_secs_f64());
}

fn event(environment: &Environment) -> AuditEvent {
    let now = environment.now();
    let request_id = RequestId::new(now, &mut **environment.rng());
    let origin = Origin { actor: AuditActor::keymark(), source_address: None, request_id };
    AuditEvent::new(AuditEntryId::new(now, &mut **environment.rng()), now, &origin, AuditAction::KeyGenerated)
}

/// Prints the round with the median ratio of times.
fn print(what: &str, unit: &str, rounds: Vec<(Duration, Duration)>, shown: impl Fn(Duration) -> f64) {
    let ratio = |(ours, theirs): &(Duration, Duration)| ours.as_secs_f64() / theirs.as_secs_f64();
    let mut rounds = rounds;
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let median = rounds[ROUNDS / 2];
    println!(
        "  {what}: {:.2} times as long ({:.1} and {:.1} {unit})",
        ratio(&median),
        shown(median.0),
        shown(median.1)
    );
}
