//! How Keymark behaves as its data grows: 1,000,000 keys in 100,000 tenants beside 10,000 in 1,000, and an audit log of
//! 10,000,000 entries beside one of 100,000. `benches/search.rs` has tenants with many systems.
//!
//! `cargo bench --bench scale` runs both stores; `-- embedded` or `-- mongodb` one of them. `keys=N` and `entries=N` set the
//! larger sizes, 0 to skip a part. `-- migrate keys=N` moves N keys from the embedded store to MongoDB and back. `-- cells` simulates how often a look-up that finds no key has to wait, if the tenants are
//! divided among several replica sets; see `docs/scale.md`. All of it takes an hour on two cores and 15 GB of the temporary directory. Data is
//! written by one process and measured by another, so that its memory is that of a server which has just started.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/instance.rs"]
mod instance;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/resident.rs"]
mod resident;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use instance::{Instance, root_secret};
use keymark::app::{Target, migrate};
use keymark::clock::Environment;
use keymark::config::StoreConfig;
use keymark::domain::audit::{
    AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditHead, AuditOutcome, Origin,
};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{ActorId, AuditEntryId, OperatorId, RequestId, SystemId, TenantId};
use keymark::domain::keys::{ApiKey, Mark};
use keymark::domain::pages::PageRequest;
use keymark::domain::refusal::ErrorCode;
use keymark::domain::secrets::Keyring;
use keymark::domain::system_names::{Search, SystemName};
use keymark::domain::systems::{NewKey, System};
use keymark::domain::tenants::Tenant;
use keymark::domain::time::Timestamp;
use keymark::domain::verdict::Verdict;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::store::{Store, StoreError};
use keymark::verify::Verifier;
use mimalloc::MiMalloc;
use mongodb::bson::{Document, doc, serialize_to_document};
use mongodb::{Client, Database};
use percentile::percentile;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use replica_set::ReplicaSet;
use resident::resident;
use zeroizing_alloc::ZeroAlloc;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const SYSTEMS_PER_TENANT: u64 = 10;
const VERIFICATIONS: u64 = 300_000;
const COMMITS_AHEAD: usize = 64;
const DATABASE: &str = "scale";
/// MongoDB's cache. The members of other benchmarks have less.
const MONGODB_CACHE: &str = "cache_size=2G";

const SYSTEMS_IN_LOG: u64 = 1_000;
const ACTORS_IN_LOG: u64 = 10;
/// One entry in so many is of a rare action, has the rare mark, and is refused.
const RARE: u64 = 10_000;
/// Time between two entries.
const STEP: Duration = Duration::from_secs(3);
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const DOCUMENTS_PER_INSERT: u64 = 2_000;
const PAGE: usize = 50;
/// Entries that a client missed in an hour, with ten changes a second in its tenant.
const MISSED: u64 = 36_000;
/// As many as a resumed subscription reads at a time.
const ENTRIES_PER_READ: usize = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments == ["cells"] {
        return simulate_cells();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if arguments.first().is_some_and(|first| first == "migrate") {
        let keys = arguments.iter().find_map(|argument| argument.strip_prefix("keys="));
        return runtime.block_on(measure_migration(keys.map_or(1_000_000, |keys| keys.parse().expect("a number"))));
    }
    if let [mode, part, size, address] = &arguments[..] {
        let size = size.parse().expect("a size");
        return runtime.block_on(async {
            match (mode.as_str(), part.as_str()) {
                ("write", "keys") => write_keys(&*open(address).await, size).await,
                ("write", "entries") => write_entries(address, size).await,
                (_, "keys") => measure_keys(open(address).await, size).await,
                _ => measure_entries(&*open(address).await, size).await,
            }
        });
    }
    let size = |name: &str, default: u64| {
        let given = arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
        given.map_or(default, |size| size.parse().expect("a number"))
    };
    let (keys, entries) = (size("keys", 1_000_000), size("entries", 10_000_000));
    let parts = [("keys", 10_000, keys), ("entries", 100_000, entries)];
    for store in ["embedded", "mongodb"] {
        if arguments.iter().any(|other| ["embedded", "mongodb"].contains(&other.as_str()) && other != store) {
            continue;
        }
        for (part, small, large) in parts.iter().filter(|(_, _, large)| *large > 0) {
            for size in [*small, *large] {
                println!("{store}, {size} {part}");
                let directory = tempfile::tempdir().expect("a directory");
                let path = directory.path().to_str().expect("a path in UTF-8").to_owned();
                let set = (store == "mongodb").then(|| runtime.block_on(start_mongodb()));
                let address = set.as_ref().map_or(path, ReplicaSet::uri);
                for mode in ["write", "measure"] {
                    let program = std::env::current_exe().expect("the path of this program");
                    let size = size.to_string();
                    let status = Command::new(program).args([mode, part, size.as_str(), address.as_str()]).status();
                    assert!(status.expect("a process").success());
                }
            }
        }
    }
}

async fn measure_migration(keys: u64) {
    println!("migration, {keys} keys");
    let (data, back) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    write_keys(&EmbeddedStore::open(data.path()).expect("a store"), keys).await;
    let set = start_mongodb().await;
    let embedded = StoreConfig::Embedded { directory: data.path().to_owned(), cache_bytes: 4 << 20 };
    let mongodb = StoreConfig::Mongo { uri: set.uri().into(), database: DATABASE.to_owned() };
    let to_mongodb = Target::Mongo { uri: set.uri().into(), database: DATABASE.to_owned() };
    let to_embedded = Target::Embedded { directory: back.path().to_owned() };
    for (source, target, name) in [(embedded, to_mongodb, "to MongoDB"), (mongodb, to_embedded, "back")] {
        let began = Instant::now();
        let moved = migrate(&source, target, &mut |_, _, _| {}).await.expect("moved");
        let records: u64 = moved.iter().map(|moved| moved.target).sum();
        println!("  {records} records {name} in {:.1} s", began.elapsed().as_secs_f64());
    }
}

async fn start_mongodb() -> ReplicaSet {
    let set = ReplicaSet::start(1).await;
    let client = Client::with_uri_str(set.uri()).await.expect("a client");
    let resize = doc! { "setParameter": 1, "wiredTigerEngineRuntimeConfig": MONGODB_CACHE };
    client.database("admin").run_command(resize).await.expect("a larger cache");
    set
}

async fn open(address: &str) -> Arc<dyn Store> {
    let began = Instant::now();
    let store: Arc<dyn Store> = if address.starts_with("mongodb://") {
        let options = MongoOptions::new(address, DATABASE);
        Arc::new(MongoStore::connect(&options, Environment::system()).await.expect("a store"))
    } else {
        Arc::new(EmbeddedStore::open(address.as_ref()).expect("a store"))
    };
    println!("  opened in {:.2} s", began.elapsed().as_secs_f64());
    store
}

/// Each tenant with its systems and their keys in one batch.
async fn write_keys(store: &dyn Store, keys: u64) {
    let (began, keyring) = (Instant::now(), Keyring::new(&root_secret(7), &[]));
    let commits = (0..keys / SYSTEMS_PER_TENANT).map(|number| store.commit(batch_of(number, &keyring)));
    stream::iter(commits).buffer_unordered(COMMITS_AHEAD).try_for_each(async |_| Ok(())).await.expect("committed");
    println!("  written in {:.0} s", began.elapsed().as_secs_f64());
}

fn batch_of(number: u64, keyring: &Keyring) -> Batch {
    let mut rng = StdRng::seed_from_u64(number);
    let (id, name): (TenantId, _) = (tenant(number), format!("Tenant {number}"));
    let origin =
        Origin { actor: AuditActor::command_line(), source_address: None, request_id: RequestId::new(START, &mut rng) };
    let event = AuditEvent::new(AuditEntryId::new(START, &mut rng), START, &origin, AuditAction::TenantCreated);
    let row = Tenant::new(id.clone(), Tenant::parse_name(&name).expect("a name"), START);
    let mut batch = Batch::new(id.clone(), event).insert(Row::Tenant(row));
    let secret = keyring.current();
    for n in 0..SYSTEMS_PER_TENANT {
        let name = SystemName::parse(&format!("System {:07}", number * SYSTEMS_PER_TENANT + n)).expect("a name");
        let system = System::new(SystemId::new(START, &mut rng), id.clone(), name, START);
        let api_key = api_key(number * SYSTEMS_PER_TENANT + n);
        let new = NewKey {
            digest: api_key.digest(&secret.pepper),
            secret: secret.fingerprint,
            mark: api_key.mark(),
            generated_by: AuditActor::command_line(),
            expires_at: None,
        };
        let (system, key) = system.generate_key(new, START).expect("a key");
        batch = batch.insert(Row::System(system)).insert(Row::Key(key));
    }
    batch
}

fn tenant(number: u64) -> TenantId {
    format!("tenant-{number:06}").parse().expect("a tenant")
}

/// The same for the same number.
fn api_key(number: u64) -> ApiKey {
    ApiKey::generate(&"km".parse().expect("a prefix"), &mut StdRng::seed_from_u64(u64::MAX - number))
}

async fn measure_keys(store: Arc<dyn Store>, keys: u64) {
    let before = resident(std::process::id());
    let began = Instant::now();
    let instance = Instance::start(&store, false).await;
    let Instance { service, coherence } = &instance;
    while coherence.read(|_| ()).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("  ready in {:.2} s after that", began.elapsed().as_secs_f64());
    // The allocator returns freed memory after a while.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = resident(std::process::id());
    println!(
        "  memory {:.0} MiB, {} bytes per key more than before",
        after as f64 / 1_048_576.0,
        (after - before) / keys
    );

    let verifier = Verifier::new(Arc::clone(&store), Arc::clone(coherence), Arc::clone(service));
    let source = || IpAddr::V4(Ipv4Addr::LOCALHOST);
    let presented: Vec<ApiKey> = (0..keys.min(100_000)).map(|n| api_key(n * 618_033 % keys)).collect();
    let mut times = Vec::with_capacity(VERIFICATIONS as usize);
    let began = Instant::now();
    for n in 0..VERIFICATIONS {
        let one = Instant::now();
        let key = &presented[(n * 7_919) as usize % presented.len()];
        let found = verifier.verify(source, key.expose(), None).await.expect("a verdict");
        times.push(one.elapsed());
        assert!(matches!(found.verdict, Verdict::Valid { .. }));
    }
    let rate = VERIFICATIONS as f64 / began.elapsed().as_secs_f64();
    let (p50, p99) = (percentile(&mut times, 50) * 1e3, percentile(&mut times, 99) * 1e3);
    println!("  verification {rate:.0} per second on one thread, p50 {p50:.2} µs, p99 {p99:.2} µs");

    let tenants = keys / SYSTEMS_PER_TENANT;
    let search = Search::parse(&format!("{}", tenants / 2));
    let now = Environment::system().now();
    print("all tenants from the cache", async || service.all_tenants().await.map(|all| all.len())).await;
    print("search of tenants", async || {
        service.all_tenants().await.map(|all| all.iter().filter(|tenant| tenant.matches(&search)).count())
    })
    .await;
    print("keymark tenant list", async || service.describe_tenants().await.map(|all| all.len())).await;
    print("keys that are due", async || store.list_due_keys(now, 100).await.map(|due| due.len())).await;
    print("purge", async || store.purge(now, START).await.map(|purged| purged.keys as usize)).await;
    let order = keymark::domain::systems::SystemOrder {
        field: keymark::domain::systems::SystemOrderField::Name,
        direction: keymark::domain::systems::Direction::Ascending,
    };
    print("systems of a tenant", async || {
        let page = store.list_systems(&tenant(tenants / 2), &Search::All, order, &PageRequest::first(PAGE)).await;
        page.map(|page| page.items.len())
    })
    .await;
    let began = Instant::now();
    instance.operator(tenant(tenants / 3).as_str(), "admin").await;
    println!("  operator added and signed in after {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    for tenants in [1, 64] {
        let (began, limit) = (Instant::now(), Duration::from_secs(5));
        let store = &store;
        let changes = futures::future::join_all((0..tenants).map(|number| async move {
            let (tenant, mut rng) = (tenant(number), StdRng::seed_from_u64(number));
            let mut changes = 0;
            while began.elapsed() < limit {
                let mut event = event(changes, &mut rng);
                event.id = AuditEntryId::new(now, &mut **Environment::system().rng());
                store.commit(Batch::new(tenant.clone(), event)).await.expect("committed");
                changes += 1;
            }
            changes
        }));
        let rate = changes.await.iter().sum::<u64>() as f64 / limit.as_secs_f64();
        println!("  {rate:.0} changes per second of {tenants} tenants, each one after the other");
    }
    let began = Instant::now();
    let signed = service.checkpoint_audit().await.expect("checkpoints").newest.len();
    println!("  first checkpoints of {signed} logs in {:.1} s", began.elapsed().as_secs_f64());
    print("checkpoints of logs that have not moved", async || {
        service.checkpoint_audit().await.map(|signed| signed.newest.len())
    })
    .await;
}

/// Prints the median time of some calls, and what the last returned.
async fn print<E: std::fmt::Display>(what: &str, call: impl AsyncFn() -> Result<usize, E>) {
    let (began, mut times, mut result) = (Instant::now(), Vec::new(), String::new());
    while times.len() < 2 || (times.len() < 50 && began.elapsed() < Duration::from_secs(3)) {
        let one = Instant::now();
        result = match call().await {
            Ok(found) => found.to_string(),
            Err(error) => error.to_string(),
        };
        times.push(one.elapsed());
    }
    println!("  {what:<40} {:>10.2} ms  ({result})", percentile(&mut times, 50));
}

fn log() -> TenantId {
    "logged".parse().expect("a tenant")
}

fn system(number: u64) -> SystemId {
    SystemId::from_bytes(u128::from(number + 1).to_be_bytes())
}

fn actor(number: u64) -> ActorId {
    let mut rng = StdRng::seed_from_u64(number);
    ActorId::Operator(OperatorId::new(START, &mut rng))
}

fn mark(number: u64) -> Mark {
    let is_rare = number % RARE == RARE / 2;
    let text = if is_rare { "rare".to_owned() } else { format!("{:04}", number * 7_919 % 10_000) };
    text.try_into().expect("a mark")
}

fn event(number: u64, rng: &mut StdRng) -> AuditEvent {
    let at = START.plus(STEP * u32::try_from(number).expect("fewer than 2^32 entries"));
    let actor_id = actor(number % ACTORS_IN_LOG);
    let origin = Origin {
        actor: AuditActor { id: Some(actor_id), ..AuditActor::command_line() },
        source_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        request_id: RequestId::new(at, rng),
    };
    let action = match number % RARE {
        1 => AuditAction::SystemDeleted,
        n if n % 2 == 0 => AuditAction::KeyGenerated,
        _ => AuditAction::KeyRevoked,
    };
    let mut event = AuditEvent::new(AuditEntryId::new(at, rng), at, &origin, action).about_key(mark(number));
    event.system = Some(system(number * 31 % SYSTEMS_IN_LOG));
    if number % RARE == 2 { event.refused(ErrorCode::Forbidden, 1) } else { event }
}

async fn write_entries(address: &str, entries: u64) {
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(1);
    if address.starts_with("mongodb://") {
        let client = Client::with_uri_str(address).await.expect("a client");
        write_documents(&client.database(DATABASE), entries, &mut rng).await;
    } else {
        let store = EmbeddedStore::open(address.as_ref()).expect("a store");
        let store: &dyn Store = &store;
        let commits = (1..=entries).map(|number| store.commit(Batch::new(log(), event(number, &mut rng))));
        stream::iter(commits).buffered(10 * COMMITS_AHEAD).try_for_each(async |_| Ok(())).await.expect("committed");
        let bytes = std::fs::metadata(std::path::Path::new(address).join(FILE_NAME)).expect("the file").len();
        println!("  {} bytes of the file per entry", bytes / entries);
    }
    println!("  written in {:.0} s", began.elapsed().as_secs_f64());
}

/// Writes the documents of entries as the store does. The store builds its indexes when it is opened, as for the log of an
/// earlier release.
async fn write_documents(database: &Database, entries: u64, rng: &mut StdRng) {
    let (audit, mut head) = (database.collection::<Document>("audit"), AuditHead::default());
    let mut number = 1;
    let inserts = std::iter::from_fn(|| {
        let last = entries.min(number + DOCUMENTS_PER_INSERT - 1);
        let documents: Vec<_> = (number..=last)
            .map(|number| {
                let entry = AuditEntry::after(&head, log(), event(number, rng));
                head = entry.head();
                let mut document = doc! { "_id": entry.event.id.to_string() };
                document.extend(serialize_to_document(&entry).expect("a document"));
                document
            })
            .collect();
        number = last + 1;
        (!documents.is_empty()).then(|| audit.insert_many(documents).into_future())
    });
    stream::iter(inserts).buffer_unordered(4).try_for_each(async |_| Ok(())).await.expect("inserted");
    let head = doc! { "_id": log().as_str(), "number": head.number as i64, "hash": head.hash.to_string() };
    database.collection("tenants").insert_one(head).await.expect("inserted");
}

async fn measure_entries(store: &dyn Store, entries: u64) {
    let third = START.plus(STEP * u32::try_from(entries / 3).expect("fewer than 2^32 entries"));
    let within = |time| AuditFilter { from: Some(third), to: Some(third.plus(time)), ..AuditFilter::default() };
    let rare = AuditFilter { actions: Some(vec![AuditAction::SystemDeleted]), ..AuditFilter::default() };
    let filters = [
        ("none", AuditFilter::default()),
        ("system", AuditFilter { system: Some(system(5)), ..AuditFilter::default() }),
        ("actor", AuditFilter { actor: Some(actor(5)), ..AuditFilter::default() }),
        ("rare action", rare.clone()),
        ("rare action of an actor", AuditFilter { actor: Some(actor(1)), ..rare }),
        ("refused", AuditFilter { outcome: Some(AuditOutcome::Refused), ..AuditFilter::default() }),
        ("an hour", within(Duration::from_hours(1))),
        ("thirty days", within(Duration::from_hours(30 * 24))),
        ("mark", AuditFilter { key_mark: Some(mark(RARE / 2)), ..AuditFilter::default() }),
    ];
    for (what, filter) in &filters {
        let page = async |after: Option<u64>| {
            let request = PageRequest { after, ..PageRequest::first(PAGE) };
            store.list_audit(&log(), filter, &request).await.map(|page| page.items.len())
        };
        print(&format!("{what}, first page"), async || page(None).await).await;
        print(&format!("{what}, page in the middle"), async || page(Some(entries / 2)).await).await;
        print(&format!("{what}, count"), async || store.count_audit(&log(), filter).await.map(|count| count as usize))
            .await;
    }
    let began = Instant::now();
    let mut after = entries.saturating_sub(MISSED);
    let read = async || -> Result<u64, StoreError> {
        while let Some(last) = store.list_audit_after(&log(), after, ENTRIES_PER_READ).await?.last() {
            after = last.number;
        }
        Ok(after)
    };
    let mut read = read;
    assert_eq!(read().await.expect("entries"), entries);
    println!("  {MISSED} missed entries read in {:.2} s", began.elapsed().as_secs_f64());
}

/// Simulates failovers of independent replica sets, each once a week and of 3 to 20 s, as they are with the default time-outs
/// of MongoDB. Prints for how much of the time at least one of the leases of an instance, of 12 s, has lapsed: then a look-up
/// that finds no key reads those sets. With a tag of the set in each key it reads one of them or none.
fn simulate_cells() {
    const YEARS: u64 = 2_000;
    const WEEK: f64 = 7.0 * 86_400.0;
    let mut rng = StdRng::seed_from_u64(1);
    println!("sets   any lapsed   per year   the set of the tag lapsed");
    for sets in [1_u64, 2, 4, 8, 16, 32] {
        let length = YEARS as f64 * 365.0 * 86_400.0;
        let mut lapses: Vec<(f64, f64)> = Vec::new();
        for _ in 0..sets {
            let mut at = 0.0;
            while at < length {
                at -= WEEK * rng.random::<f64>().max(f64::MIN_POSITIVE).ln();
                // The last probe was up to a second before the failover.
                let lapsed = rng.random_range(3.0..20.0) - (12.0 - rng.random::<f64>());
                if lapsed > 0.0 {
                    lapses.push((at, at + lapsed));
                }
            }
        }
        let of_one = lapses.iter().map(|(from, to)| to - from).sum::<f64>() / sets as f64;
        lapses.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut any, mut end) = (0.0, 0.0_f64);
        for (from, to) in lapses {
            any += (to - from.max(end)).max(0.0);
            end = end.max(to);
        }
        let (share, seconds) = (any / length, any / YEARS as f64);
        println!("{sets:>4}   {share:>9.2e}   {seconds:>6.0} s   {:>9.2e}", of_one / length);
    }
}
