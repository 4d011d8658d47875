//! The cost of searches, filters and orders: latency of the first page of 50 through GraphQL, in tenants of 1,000 to
//! 100,000 systems, and the size of a system in the cache and on disk. Each request is new: no answer is in the cache.
//!
//! `cargo bench --bench search` runs both stores; `-- embedded` or `-- mongodb` one of them, and `-- embedded-large` or
//! `-- mongodb-large` with a tenant of 1,000,000 systems, which takes minutes.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/instance.rs"]
mod instance;
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use instance::Instance;
use keymark::clock::Environment;
use keymark::coherence::Coherence;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row, Write};
use keymark::domain::ids::{AuditEntryId, RequestId, SystemId, TenantId};
use keymark::domain::keys::KeyDigest;
use keymark::domain::leases::Incarnation;
use keymark::domain::pages::PageRequest;
use keymark::domain::system_names::{Search, SystemName};
use keymark::domain::systems::{CurrentKey, Direction, Suspension, System, SystemOrder, SystemOrderField};
use keymark::domain::time::Timestamp;
use keymark::domain::usage::{Counts, Flush, KeyUse};
use keymark::http::front::Front;
use keymark::http::{PublicFeatures, public_routes};
use keymark::store::Store;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use keymark::store::mongo::{MongoOptions, MongoStore};
use lines::{Better, Goal, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use mongodb::bson::{Document, doc};
use replica_set::ReplicaSet;
use requested_part::requested_part;
use run_part::run_part;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use zeroizing_alloc::ZeroAlloc;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const LARGE_SIZES: [u32; 1] = [1_000_000];
const SYSTEMS_PER_BATCH: u32 = 2_000;
const PARTS: [&str; 2] = ["embedded", "mongodb"];
/// A text that occurs in every name, one in 20 names of a tenant, and one in none.
const NEEDLES: [(&str, &str); 3] = [("common", "system"), ("rare", "rarity"), ("absent", "nowhere")];
/// Filters that half of the systems, few of them, and none match.
const FILTERS: [(&str, &str, &str); 5] = [
    ("active", "keyState", "ACTIVE"),
    ("unused", "unusedSince", "2026-06-01T00:00:00Z"),
    ("suspended", "keyState", "SUSPENDED"),
    ("no mark", "keyMark", "none"),
    ("look-up", "externalId", "cus_1"),
];
/// Orders that no store has an index of.
const ORDERS: [&str; 3] = ["LAST_USED_AT", "KEY_GENERATED_AT", "KEY_EXPIRES_AT"];
/// Tenants with more systems than this have no use of keys, to save time.
const MAX_USED_SYSTEMS: u32 = 100_000;
const PAGES: usize = 300;
const STORE_PAGES: usize = 10;
const DATABASE: &str = "searches";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match requested_part().as_deref() {
        Some("embedded") => runtime.block_on(embedded(&SIZES)),
        Some("embedded-large") => runtime.block_on(embedded(&LARGE_SIZES)),
        Some("mongodb") => runtime.block_on(mongodb(&SIZES)),
        Some("mongodb-large") => runtime.block_on(mongodb(&LARGE_SIZES)),
        Some(_) => {}
        // Each part in its own process, so that none reuses memory that another freed.
        None => PARTS.iter().for_each(|part| run_part(part, &[])),
    }
}

async fn embedded(sizes: &[u32]) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(EmbeddedStore::open(directory.path()).expect("a store"));
    fill(&*store, sizes).await;
    measure("embedded", store, sizes).await;
    let bytes = std::fs::metadata(directory.path().join(FILE_NAME)).expect("the file").len();
    report_bytes("embedded", "on disk, with the feed", bytes / all(sizes));
}

async fn mongodb(sizes: &[u32]) {
    let set = ReplicaSet::start(1).await;
    let store =
        MongoStore::connect(&MongoOptions::new(set.uri(), DATABASE), Environment::system()).await.expect("a store");
    fill(&store, sizes).await;
    measure("MongoDB", Arc::new(store), sizes).await;
    let client = mongodb::Client::with_uri_str(set.uri()).await.expect("a client");
    client.database("admin").run_command(doc! { "fsync": 1 }).await.expect("a checkpoint");
    let command = doc! { "collStats": "systems" };
    let stats: Document = client.database(DATABASE).run_command(command).await.expect("statistics");
    let bytes = |of| stats.get(of).and_then(|n| n.as_i64().or(n.as_i32().map(i64::from))).expect("a number") as u64;
    report_bytes("MongoDB", "on disk", bytes("storageSize") / all(sizes));
    report_bytes("MongoDB", "on disk, in indexes", bytes("totalIndexSize") / all(sizes));
}

fn report_bytes(store: &str, name: &str, bytes: u64) {
    let section = format!("{store}, tenants of all sizes");
    report(&section, name, "bytes a system", Better::Less, None, Measured::Rounds(vec![bytes as f64]));
}

fn all(sizes: &[u32]) -> u64 {
    sizes.iter().map(|size| u64::from(*size)).sum()
}

fn tenant(size: u32) -> TenantId {
    format!("tenant-of-{size}").parse().expect("a tenant")
}

/// Commits the systems in batches.
async fn fill(store: &dyn Store, sizes: &[u32]) {
    let environment = Environment::system();
    let request_id = RequestId::new(environment.now(), &mut **environment.rng());
    let origin = Origin { actor: AuditActor::keymark(), source_address: None, request_id };
    let (instance, mut flushes) = (Incarnation::generate(&mut **environment.rng()), 0);
    for &size in sizes {
        for first in (0..size).step_by(SYSTEMS_PER_BATCH as usize) {
            let now = environment.now();
            let id = AuditEntryId::new(now, &mut **environment.rng());
            let event = AuditEvent::new(id, now, &origin, AuditAction::SystemCreated);
            let mut batch = Batch::new(tenant(size), event);
            for n in first..size.min(first + SYSTEMS_PER_BATCH) {
                let id = SystemId::new(now, &mut **environment.rng());
                // Shuffled: the factor is coprime to the size, so each number occurs once.
                let shuffled = u64::from(n) * 7_919 % u64::from(size);
                let kind = if n % (size / 20) == 0 { "rarity" } else { "plenty" };
                let name = SystemName::parse(&format!("System {shuffled:07} {kind}")).expect("a name");
                let system = System::new(id, tenant(size), name, now);
                let updated_at = now.plus(Duration::from_millis(u64::from(n) * 104_729 % 99_991));
                let suspended = n.is_multiple_of(1_000).then_some(Suspension { at: now, reason: None });
                let key = n.is_multiple_of(2).then(|| key(n, updated_at));
                batch = batch.insert(Row::System(System { updated_at, suspended, key, ..system }));
            }
            let uses = uses(&batch);
            store.commit(batch).await.expect("committed");
            if size <= MAX_USED_SYSTEMS {
                flushes += 1;
                // Before the overlap of refreshes, as the use of all but the last minute is.
                let at = now.minus(Duration::from_hours(1));
                store.add_usage(&Flush { instance, number: flushes, at, uses }).await.expect("added");
            }
        }
    }
}

fn key(n: u32, generated_at: Timestamp) -> CurrentKey {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&n.to_be_bytes());
    CurrentKey {
        digest: KeyDigest::from_bytes(digest),
        mark: format!("{:04}", n % 10_000).try_into().expect("a mark"),
        generated_at: Some(generated_at),
        generated_by: Some(AuditActor::command_line()),
        expires_at: n.is_multiple_of(4).then(|| generated_at.plus(Duration::from_hours(u64::from(n * 7_919 % 9_973)))),
    }
}

/// A use of each key of the batch, in the last weeks.
fn uses(batch: &Batch) -> Vec<KeyUse> {
    let systems = batch.writes.iter().filter_map(|(_, write)| match write {
        Write::Put(Row::System(system)) => system.key.as_ref().map(|key| (system, key)),
        _ => None,
    });
    let used = systems.zip(0_u64..).map(|((system, key), n)| KeyUse {
        tenant: system.tenant.clone(),
        system: system.id,
        mark: key.mark,
        counts: Counts { accepted: 1, refused: 0 },
        last_used_at: Some(system.created_at.minus(Duration::from_secs(n * 7_919 % 1_999_993))),
        last_refused_at: None,
    });
    used.collect()
}

async fn measure(name: &str, store: Arc<dyn Store>, sizes: &[u32]) {
    let instance = Instance::start(&store, false).await;
    let Instance { service, coherence } = &instance;
    until(|| coherence.read(|_| ()).is_some()).await;
    let features = PublicFeatures { introspection: false, graphiql: false, answer_bytes: 0 };
    let routes = public_routes(Arc::clone(service), Front::default(), features, CancellationToken::new());

    for (loaded, size) in (1..).zip(sizes.iter().copied()) {
        let token = instance.operator(tenant(size).as_str(), &format!("admin-{size}")).await.token;
        let section = format!("{name}, {size} systems, first page of 50");
        let goal = (size == 100_000).then_some(Goal::Median(5.0));
        let client = Client { routes: routes.clone(), token, section: &section, goal };
        store_only(&*store, size, &section).await;
        let (before, began) = (cached_names(coherence), Instant::now());
        client.page(Some("warm"), "NAME", None).await;
        until(|| cached_names(coherence).0 == loaded).await;
        let loaded_in = Measured::Rounds(millis(&[began.elapsed()]));
        report(&section, "names loaded", "ms", Better::Less, None, loaded_in);
        let each = (cached_names(coherence).1 - before.1) / size as usize;
        let each = Measured::Rounds(vec![each as f64]);
        report(&section, "names in the cache", "bytes a system", Better::Less, None, each);
        client.measure("all", None, "NAME", None).await;
        for (needle, text) in NEEDLES {
            for order in ["NAME", "UPDATED_AT"] {
                client.measure(needle, Some(text), order, None).await;
            }
        }
        for (what, member, value) in FILTERS {
            client.measure(what, None, "NAME", Some((member, value))).await;
        }
        for order in ORDERS {
            client.measure("all", None, order, None).await;
            client.measure("rare and active", Some("rarity"), order, Some(("keyState", "ACTIVE"))).await;
        }
    }
}

fn cached_names(coherence: &Coherence) -> (usize, usize) {
    coherence.read(|cache| cache.names.size()).unwrap_or_default()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Latency of the store for each needle, ordered by name.
async fn store_only(store: &dyn Store, size: u32, section: &str) {
    let order = SystemOrder { field: SystemOrderField::Name, direction: Direction::Ascending };
    for (name, needle) in NEEDLES {
        let mut times = Vec::new();
        for _ in 0..STORE_PAGES {
            let began = Instant::now();
            let search = Search::parse(needle);
            store.list_systems(&tenant(size), &search, order, &PageRequest::first(50)).await.expect("a page");
            times.push(began.elapsed());
        }
        let times = Measured::Rounds(millis(&times));
        report(section, &format!("{name} by NAME, the store alone"), "ms", Better::Less, None, times);
    }
}

struct Client<'a> {
    routes: Router,
    token: String,
    section: &'a str,
    goal: Option<Goal>,
}

impl Client<'_> {
    async fn measure(&self, what: &str, search: Option<&str>, order: &str, filter: Option<(&str, &str)>) {
        // Loads the last uses.
        self.page(search, order, filter).await;
        let mut times = Vec::new();
        for _ in 0..PAGES {
            let began = Instant::now();
            self.page(search, order, filter).await;
            times.push(began.elapsed());
        }
        let times = Measured::Times(millis(&times));
        report(self.section, &format!("{what} by {order}"), "ms", Better::Less, self.goal, times);
    }

    async fn page(&self, search: Option<&str>, order: &str, filter: Option<(&str, &str)>) {
        let document = "query ($search: String, $filter: SystemFilter, $order: SystemOrder) {
            systems(search: $search, filter: $filter, orderBy: $order) {
            nodes { id name keyState keyMark revision createdAt updatedAt } pageInfo { endCursor hasNextPage } } }";
        let order = json!({ "field": order, "direction": if order == "NAME" { "ASC" } else { "DESC" } });
        let filter = filter.map(|(member, value)| json!({ member: value }));
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let variables = json!({ "search": search, "order": order, "filter": filter, "number": number });
        let body = json!({ "query": document, "variables": variables }).to_string();
        let request = Request::post("/graphql")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Body::from(body))
            .expect("a request");
        let response = self.routes.clone().oneshot(request).await.expect("infallible");
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(body.starts_with(b"{\"data\":{\"systems\""), "{}", String::from_utf8_lossy(&body));
    }
}
