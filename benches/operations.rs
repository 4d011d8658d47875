//! Measures the operations that people and clients wait for, one request at a time. Those that take a while are compared
//! with the least that they have to do, in turns: changing a password, what reads a whole audit log, checkpoints, backups,
//! and digesting keys anew. So are the ends of keys, which nobody waits for.
//!
//! `cargo bench --bench operations` runs both stores; `-- embedded` or `-- mongodb` one of them.
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
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/run_part.rs"]
mod run_part;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures::TryStreamExt;
use http::Request;
use http_body_util::BodyExt;
use instance::{Instance, PASSWORD, root_secret};
use keymark::audit_text::Format;
use keymark::audit_text::verification::verify;
use keymark::auth::cost::Cost;
use keymark::auth::passwords::{Comparison, Passwords};
use keymark::clock::Environment;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, AuditFilter, AuditHead, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, SystemId, TenantId};
use keymark::domain::keys::{ApiKey, Mark, PresentedKey};
use keymark::domain::operators::Password;
use keymark::domain::secrets::Keyring;
use keymark::domain::system_names::SystemName;
use keymark::domain::systems::{NewKey, System};
use keymark::http::front::Front;
use keymark::http::{PublicFeatures, public_routes};
use keymark::service::Caller;
use keymark::service::audit::Exporter;
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keys::{digest, key};
use lines::{Better, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use replica_set::ReplicaSet;
use requested_part::requested_part;
use run_part::run_part;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
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
/// Entries that one archive contains.
const ARCHIVED_ENTRIES: u32 = 5_000;
/// As many as the server reads in one call.
const ENTRIES_PER_READ: usize = 500;
/// Audit logs of which checkpoints are signed.
const LOGS: u32 = 500;
/// Requests of each kind.
const REQUESTS: u32 = 30;
/// Keys to digest anew, or to end, in one round.
const KEYS: u32 = 300;
/// As many as the server digests anew in one change.
const KEYS_PER_CHANGE: usize = 100;
/// The number of the first key that ends: the others have smaller ones.
const ENDED_KEYS: u64 = 1 << 32;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match requested_part().as_deref() {
        Some("embedded") => runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            measure("embedded", Arc::new(EmbeddedStore::open(directory.path()).expect("a store"))).await;
        }),
        Some("mongodb") => runtime.block_on(async {
            let set = ReplicaSet::start(1).await;
            let options = MongoOptions::new(set.uri(), "operations");
            let store = MongoStore::connect(&options, Environment::system()).await.expect("a store");
            measure("MongoDB", Arc::new(store)).await;
        }),
        Some(_) => {}
        None => PARTS.iter().for_each(|part| run_part(part, &[])),
    }
}

async fn measure(name: &str, store: Arc<dyn Store>) {
    let section = format!("{name}, against a part of the same work");
    change_password(&section, &store).await;
    list_operators(&section, &store).await;
    audit_log(&section, &store).await;
    archive_audit(&section, &store).await;
    sign_checkpoints(&section, &store).await;
    end_keys(&section, &store).await;
    back_up(&section, &store).await;
    redigest_keys(&section, &store).await;
    requests(&format!("{name}, requests of one client"), &store).await;
}

/// `changePassword` against comparing one password and hashing another.
async fn change_password(section: &str, store: &Arc<dyn Store>) {
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
    report_times(section, "changePassword", "one comparison and one hash", &rounds);
}

/// `operators` from the cache against reading them from the store.
async fn list_operators(section: &str, store: &Arc<dyn Store>) {
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
    report_times(section, "operators", "reading them from the store", &rounds);
}

/// An export and a verification of the log against reading it, an export of what has no entries against reading one, and a
/// verification of the export against parsing it.
async fn audit_log(section: &str, store: &Arc<dyn Store>) {
    let tenant: TenantId = "logged".parse().expect("a tenant");
    let first = write_log(store, &tenant, ENTRIES).await;
    let instance = Instance::start(store, false).await;
    let service = &instance.service;
    let origin = service.command_line_origin(None);
    let read = async || read_log(store, &tenant, ENTRIES).await;
    let export_of = async |filter| {
        let (request, exporter) = (service.request(None), Exporter::CommandLine(tenant.clone(), None));
        let export = service.export_audit(request, exporter, filter, Format::Jsonl).await;
        let parts: Vec<String> = export.expect("an export").try_collect().await.expect("a whole export");
        parts.concat()
    };
    let known = service.find_checkpoints(Vec::new()).await.expect("checkpoints");
    let keys = Keyring::new(&root_secret(7), &[]).public_keys();
    let nothing =
        AuditFilter { from: Some(service.environment().now().plus(Duration::from_hours(1))), ..AuditFilter::default() };
    let (mut exports, mut empty, mut followed, mut verified, mut files) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let export = export_of(AuditFilter::default()).await;
        exports.push((began.elapsed(), read().await));

        let began = Instant::now();
        export_of(nothing.clone()).await;
        let ours = began.elapsed();
        let began = Instant::now();
        store.list_audit_after(&tenant, 0, 1).await.expect("an entry");
        empty.push((ours, began.elapsed()));

        let began = Instant::now();
        let follower = service.follow_audit(&origin, tenant.clone(), Some(first)).await;
        let mut follower = follower.expect("a log with that entry");
        while !follower.read().await.expect("entries").is_empty() {}
        followed.push((began.elapsed(), read().await));

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
    report_rates(section, "audit export", "entries a second", "reading the log", ENTRIES, &exports);
    report_times(section, "audit export of no entries", "reading one entry", &empty);
    report_rates(section, "audit follow", "entries a second", "reading the log", ENTRIES, &followed);
    report_rates(section, "audit verify", "entries a second", "reading the log", ENTRIES, &verified);
    report_rates(section, "audit verify --file", "entries a second", "parsing the lines", ENTRIES, &files);
}

/// An archive of a log, with the checks before and the removal after it, against reading the log.
async fn archive_audit(section: &str, store: &Arc<dyn Store>) {
    let instance = Instance::start(store, false).await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let tenant: TenantId = format!("archived-{round}").parse().expect("a tenant");
        write_log(store, &tenant, ARCHIVED_ENTRIES).await;
        let read = read_log(store, &tenant, ARCHIVED_ENTRIES).await;
        let (now, file) = (instance.service.environment().now(), directory.path().join(tenant.as_str()));
        let began = Instant::now();
        let archived = instance.service.archive_audit(None, &tenant, now, &file).await.expect("archived");
        assert!(archived.is_some());
        rounds.push((began.elapsed(), read));
    }
    report_rates(section, "audit archive", "entries a second", "reading the log", ARCHIVED_ENTRIES, &rounds);
}

/// Checkpoints of logs with a new entry against writing these entries, and checkpoints of the same logs once more against
/// those.
async fn sign_checkpoints(section: &str, store: &Arc<dyn Store>) {
    let (instance, environment) = (Instance::start(store, false).await, Environment::system());
    let tenants: Vec<TenantId> = (0..LOGS).map(|n| format!("signed-{n}").parse().expect("a tenant")).collect();
    let (mut moved, mut unmoved) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for tenant in &tenants {
            store.commit(Batch::new(tenant.clone(), event(&environment))).await.expect("committed");
        }
        let theirs = began.elapsed();
        let began = Instant::now();
        let signed = instance.service.checkpoint_audit().await.expect("signed");
        assert!(signed.broken.is_empty() && signed.newest.len() >= tenants.len());
        let ours = began.elapsed();
        moved.push((ours, theirs));

        let began = Instant::now();
        instance.service.checkpoint_audit().await.expect("signed before");
        unmoved.push((began.elapsed(), ours));
    }
    let count = LOGS;
    report_rates(section, "checkpoints of logs with a new entry", "a second", "writing the entries", count, &moved);
    report_rates(section, "checkpoints of other logs", "a second", "those with a new entry", count, &unmoved);
}

/// Writing the ends of keys against commits of the same keys.
async fn end_keys(section: &str, store: &Arc<dyn Store>) {
    let (instance, environment) = (Instance::start(store, false).await, Environment::system());
    let tenant: TenantId = "ended".parse().expect("a tenant");
    let (mut rounds, mut next) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..KEYS {
            let now = environment.now();
            let id = SystemId::new(now, &mut **environment.rng());
            let name = SystemName::parse(&format!("Ended {next}")).expect("a name");
            let key = NewKey {
                digest: digest(ENDED_KEYS + next),
                secret: instance.service.keyring().current().fingerprint,
                mark: Mark::try_from("abcd".to_owned()).expect("a mark"),
                generated_by: AuditActor::command_line(),
                expires_at: Some(now),
            };
            let system = System::new(id, tenant.clone(), name, now);
            let (system, key) = system.generate_key(key, now).expect("a system without a key");
            let system = System { revision: 1, ..system };
            let batch = Batch::new(tenant.clone(), event(&environment));
            store.commit(batch.insert(Row::System(system)).insert(Row::Key(key))).await.expect("committed");
            next += 1;
        }
        let theirs = began.elapsed();
        let began = Instant::now();
        assert_eq!(instance.service.write_due_keys().await.expect("written"), u64::from(KEYS));
        rounds.push((began.elapsed(), theirs));
    }
    report_rates(section, "ends of keys written", "a second", "commits of new keys", KEYS, &rounds);
}

/// A backup of the embedded store against copying the file of the backup.
async fn back_up(section: &str, store: &Arc<dyn Store>) {
    if store.is_shared() {
        return;
    }
    let instance = Instance::start(store, false).await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let (backup, copy) = (directory.path().join(round.to_string()), directory.path().join("copy"));
        let began = Instant::now();
        instance.service.back_up(&backup).await.expect("a store").expect("a backup");
        let ours = began.elapsed();
        let began = Instant::now();
        std::fs::copy(&backup, &copy).expect("copied");
        std::fs::File::open(&copy).and_then(|copy| copy.sync_all()).expect("durable");
        rounds.push((ours, began.elapsed()));
    }
    report_times(section, "backup", "copying the file", &rounds);
}

/// Writes a log. Returns its first entry.
async fn write_log(store: &Arc<dyn Store>, tenant: &TenantId, entries: u32) -> AuditHead {
    let environment = Environment::system();
    for _ in 0..entries / 200 {
        let commits = (0..200).map(|_| store.commit(Batch::new(tenant.clone(), event(&environment))));
        futures::future::try_join_all(commits).await.expect("commits");
    }
    let first = store.find_audit_hashes(tenant, &[1]).await.expect("entries");
    first.into_iter().next().expect("an entry")
}

async fn read_log(store: &Arc<dyn Store>, tenant: &TenantId, entries: u32) -> Duration {
    let began = Instant::now();
    let mut last = 0;
    while let entries = store.list_audit_after(tenant, last, ENTRIES_PER_READ).await.expect("entries")
        && let Some(entry) = entries.last()
    {
        last = entry.number;
    }
    assert!(last >= u64::from(entries), "{last}");
    began.elapsed()
}

/// Digesting keys anew against commits of as many new keys.
async fn redigest_keys(section: &str, store: &Arc<dyn Store>) {
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
    report_rates(section, "keys digested anew", "a second", "commits of new keys", KEYS, &rounds);
}

fn event(environment: &Environment) -> AuditEvent {
    let now = environment.now();
    let request_id = RequestId::new(now, &mut **environment.rng());
    let origin = Origin { actor: AuditActor::keymark(), source_address: None, request_id };
    AuditEvent::new(AuditEntryId::new(now, &mut **environment.rng()), now, &origin, AuditAction::KeyGenerated)
}

fn report_times(section: &str, name: &str, part: &str, rounds: &[(Duration, Duration)]) {
    let (ours, theirs): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
    let rounds = millis(&ours).into_iter().zip(millis(&theirs)).collect();
    report(section, name, "ms", Better::Less, None, Measured::Baseline(part.to_owned(), rounds));
}

/// Reports how many a second, where each round has so many.
fn report_rates(section: &str, name: &str, unit: &str, part: &str, count: u32, rounds: &[(Duration, Duration)]) {
    let rate = |time: &Duration| f64::from(count) / time.as_secs_f64();
    let rounds = rounds.iter().map(|(ours, theirs)| (rate(ours), rate(theirs))).collect();
    report(section, name, unit, Better::More, None, Measured::Baseline(part.to_owned(), rounds));
}

/// The requests that pages of the console, backends and their operators wait for. `benches/revocation.rs` measures those
/// that restrict something, and `benches/search.rs` lists of systems.
async fn requests(section: &str, store: &Arc<dyn Store>) {
    let instance = Instance::start(store, true).await;
    instance.operator("default", "requesting").await;
    let (origin, username) = (instance.service.command_line_origin(None), "requesting".parse().expect("a name"));
    instance.service.promote_operator(&origin, &username, None).await.expect("promoted");
    let features = PublicFeatures { introspection: false, graphiql: false, answer_bytes: 16 << 20 };
    let service = Arc::clone(&instance.service);
    let mut client = Client {
        routes: public_routes(service, Front::default(), features, CancellationToken::new()),
        token: instance.sign_in("requesting").await.token,
        times: Vec::new(),
    };
    let list =
        |field: &str, selection: &str| format!("{{ {field} {{ nodes {{ {selection} }} pageInfo {{ endCursor }} }} }}");
    let wait = "enforcement { state }";
    let mut tokens = Vec::new();
    for n in 0..REQUESTS {
        let id = format!("requested-{n}");
        let create = format!(r#"mutation {{ createTenant(id: "{id}", name: "Requested") {{ tenant {{ id }} }} }}"#);
        client.call("createTenant", &create, "default").await;
        let rename =
            format!(r#"mutation {{ renameTenant(id: "{id}", name: "Renamed") {{ tenant {{ id }} {wait} }} }}"#);
        client.call("renameTenant", &rename, "default").await;
        let policy = format!(
            r#"mutation {{ setTenantPolicy(id: "{id}", maxKeyLifetimeDays: 90) {{ tenant {{ id }} {wait} }} }}"#
        );
        client.call("setTenantPolicy", &policy, "default").await;

        let create = format!(r#"mutation {{ createSystem(name: "Requested {n}") {{ system {{ id }} }} }}"#);
        let created = client.call("createSystem", &create, "default").await;
        let system = created["createSystem"]["system"]["id"].as_str().expect("an id");
        let rename =
            format!(r#"mutation {{ renameSystem(id: "{system}", name: "Renamed {n}") {{ system {{ id }} }} }}"#);
        client.call("renameSystem", &rename, "default").await;
        client.call("system", &format!(r#"{{ system(id: "{system}") {{ name keyState keyMark }} }}"#), "default").await;
        client.call("node", &format!(r#"{{ node(id: "{system}") {{ id }} }}"#), "default").await;

        for (kind, permissions) in [("Service", ", permissions: []"), ("Verifier", "")] {
            let create = format!(
                r#"mutation {{ create{kind}Token(name: "Token {n}"{permissions})
                {{ {}Token {{ id }} token {wait} }} }}"#,
                kind.to_lowercase()
            );
            let (mutation, field) = (format!("create{kind}Token"), format!("{}Token", kind.to_lowercase()));
            let created = client.call(&mutation, &create, "default").await;
            tokens.push((kind, created[mutation][field]["id"].as_str().expect("an id").to_owned()));
        }
    }
    // The lists have as many rows now as one of each request made.
    let entry = "number action occurredAt actor { name } systemName";
    let token = "id name mark createdAt expiresAt lastUsedAt createdBy { name }";
    for _ in 0..REQUESTS {
        let viewer = "{ viewer { username permissions tenant { name } } }";
        client.call("viewer", viewer, "default").await;
        client.call("switch of tenant", &list("systems(first: 50)", "id name keyState keyMark"), "redigested").await;
        client.call("tenant", "{ tenant { id name policy { maxKeyLifetimeDays } } }", "default").await;
        client.call("tenants", &list("tenants(first: 50)", "id name systemCount"), "default").await;
        client.call("instances", "{ instances { id state renewedAt } }", "default").await;
        client.call("operators", &list("operators(first: 50)", "id username permissions lastActiveAt"), "listed").await;
        client.call("serviceTokens", &list("serviceTokens(first: 50)", token), "default").await;
        client.call("verifierTokens", &list("verifierTokens(first: 50)", token), "default").await;
        client.call("auditLog", &list("auditLog(first: 50)", entry), "default").await;
        client.call("auditCursor", "{ auditCursor }", "default").await;
        let sessions = "{ viewer { sessions { id startedAt lastActiveAt network userAgent isCurrent } } }";
        client.call("list of sessions", sessions, "default").await;
        instance.sign_in("requesting").await;
    }
    for n in 0..REQUESTS {
        let add = format!(
            r#"mutation {{ addOperator(username: "requested-{n}", permissions: []) {{ operator {{ id }} {wait} }} }}"#
        );
        let added = client.call("addOperator", &add, "default").await;
        let operator = added["addOperator"]["operator"]["id"].as_str().expect("an id");
        let reset = format!(r#"mutation {{ resetOperatorPassword(id: "{operator}") {{ password {wait} }} }}"#);
        client.call("resetOperatorPassword", &reset, "default").await;
        let remove = format!(r#"mutation {{ removeOperator(id: "{operator}") {{ removedOperatorId {wait} }} }}"#);
        client.call("removeOperator", &remove, "default").await;
        let delete = format!(r#"mutation {{ deleteTenant(id: "requested-{n}") {{ deletedTenantId }} }}"#);
        client.call("deleteTenant", &delete, "default").await;
    }
    for (kind, id) in tokens {
        if kind == "Service" {
            let rotate = format!(r#"mutation {{ rotateServiceToken(id: "{id}") {{ token {wait} }} }}"#);
            client.call("rotateServiceToken", &rotate, "default").await;
        }
        let revoke = format!(r#"mutation {{ revoke{kind}Token(id: "{id}") {{ revokedTokenId {wait} }} }}"#);
        client.call(&format!("revoke{kind}Token"), &revoke, "default").await;
    }
    for (name, times) in client.times {
        report(section, &name, "ms", Better::Less, None, Measured::Times(millis(&times)));
    }
}

/// A client of the API in this process, which notes how long each operation took.
struct Client {
    routes: Router,
    token: String,
    times: Vec<(String, Vec<Duration>)>,
}

impl Client {
    /// Sends the document in a tenant, and returns the data.
    async fn call(&mut self, name: &str, document: &str, tenant: &str) -> Value {
        let request = Request::post("/graphql")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .header("x-keymark-tenant", tenant)
            .body(Body::from(json!({ "query": document }).to_string()))
            .expect("a request");
        let began = Instant::now();
        let response = self.routes.clone().oneshot(request).await.expect("infallible");
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        let elapsed = began.elapsed();
        match self.times.iter_mut().find(|(timed, _)| timed == name) {
            Some((_, times)) => times.push(elapsed),
            None => self.times.push((name.to_owned(), vec![elapsed])),
        }
        let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(answer.get("errors").is_none(), "{document}: {answer}");
        answer["data"].take()
    }
}
