//! The GraphQL API against servers on graphql-js, which need no sign-in: Apollo Server and GraphQL Yoga, from `benches/peers`.
//! Each set is measured in turns, so that whatever else the machine does meets all of them.
//!
//! Where a request is *asked again*, each is the same. Where it is *new*, a variable that the document does not use has
//! another value each time: no server can return an answer that it remembers, and all of them have parsed the document.
//!
//! `cargo bench --bench peers` runs all; with `-- systems`, `-- search` or `-- memory` those whose name contains the word.
//! The servers are processes of their own: this program starts itself again, with `serve`.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/child.rs"]
mod child;
#[path = "support/instance.rs"]
mod instance;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/load.rs"]
mod load;
#[path = "support/node.rs"]
mod node;
#[path = "support/processor_time.rs"]
mod processor_time;
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/resident.rs"]
mod resident;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use instance::Instance;
use keymark::clock::Environment;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, SystemId, TenantId};
use keymark::domain::keys::{KeyDigest, Mark};
use keymark::domain::system_names::SystemName;
use keymark::domain::systems::{NewKey, System};
use keymark::http::front::Front;
use keymark::http::serve::{ServeLimits, serve};
use keymark::http::{PublicFeatures, public_routes};
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use lines::{Better, Goal, Measured, report};
use load::{NUMBER, answer_of, load, post_request};
use mimalloc::MiMalloc;
use node::node;
use processor_time::processor_time;
use rand::RngExt;
use replica_set::ReplicaSet;
use requested_part::requested_part;
use resident::resident;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Systems of the tenant whose first page is listed. Each has a key.
const LISTED: usize = 10_000;
/// Systems of the tenant in which names are searched.
const SEARCHED: usize = 100_000;
const ROWS_PER_BATCH: usize = 2_000;
const TENANT: &str = "default";
const DATABASE: &str = "peers";
/// A text that occurs in every name, in 20 of them, and in none.
const NEEDLES: [(&str, &str); 3] = [("common", "system"), ("rare", "rarity"), ("absent", "nowhere")];
const DOCUMENT: &str = "query ($search: String) { systems(first: 20, search: $search) { \
    nodes { id name keyState keyMark revision createdAt updatedAt } pageInfo { endCursor } } }";
const LIST: &str = "{ systems(first: 20) { nodes { id name keyState keyMark revision createdAt updatedAt } \
    pageInfo { endCursor } } }";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["serve", place @ ..] = &arguments[..] {
        return serve_until_closed(place);
    }
    if let ["fill", directory, count] = arguments[..] {
        let store = EmbeddedStore::open(Path::new(directory)).expect("a store");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(fill(&store, count.parse().expect("a number")));
    }
    let filter = requested_part().unwrap_or_default();
    // One thread: the servers are to have the rest.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mongod = ReplicaSet::start(1).await;
        let uri = mongod.uri();
        let options = MongoOptions::new(uri.clone(), DATABASE);
        fill(&MongoStore::connect(&options, Environment::system()).await.expect("a store"), SEARCHED).await;
        let in_mongodb = ["mongodb", &uri, DATABASE, TENANT];
        for (name, store, count) in [("systems", "embedded", LISTED), ("search", "embedded", SEARCHED)] {
            // The memory is measured in the server of the lists.
            let is_memory_wanted = name == "systems" && "memory".contains(&filter);
            if !name.contains(&filter) && !is_memory_wanted {
                continue;
            }
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().display().to_string();
            let count = count.to_string();
            // In a process of its own, which closes the store for the server.
            let mut filling = Command::new(std::env::current_exe().expect("this program has a path"));
            assert!(filling.args(["fill", &path, &count]).status().expect("a process").success());
            let in_memory = ["memory", &count];
            let servers = Servers::start(
                &["embedded", &path],
                &[
                    Peer { name: "Apollo Server over MongoDB", script: "apollo.mjs", place: &in_mongodb },
                    Peer { name: "Apollo Server from memory", script: "apollo.mjs", place: &in_memory },
                    Peer { name: "GraphQL Yoga from memory", script: "yoga.mjs", place: &in_memory },
                ],
            );
            if is_memory_wanted {
                servers.memory().await;
            }
            match name {
                _ if !name.contains(&filter) => {}
                "systems" => servers.lists(store, (40.0, 12.0)).await,
                _ => servers.searches(store).await,
            }
        }
        if "systems".contains(&filter) || "search".contains(&filter) {
            let peers = [
                Peer { name: "Apollo Server", script: "apollo.mjs", place: &in_mongodb },
                Peer { name: "GraphQL Yoga", script: "yoga.mjs", place: &in_mongodb },
            ];
            let servers = Servers::start(&["mongodb", &uri], &peers);
            if "systems".contains(&filter) {
                servers.lists("MongoDB", (10.0, 4.5)).await;
            }
            if "search".contains(&filter) {
                servers.searches("MongoDB").await;
            }
        }
    });
}

/// A server to compare with, and where it has its systems.
struct Peer<'a> {
    name: &'static str,
    script: &'a str,
    place: &'a [&'a str],
}

/// Keymark and its peers. The goals are those against the first one.
struct Servers {
    keymark: Server,
    peers: Vec<Server>,
}

struct Server {
    name: &'static str,
    child: child::Server,
    address: SocketAddr,
    token: Option<String>,
}

impl Server {
    fn request(&self, body: &Value) -> Vec<u8> {
        post_request("/graphql", &body.to_string(), self.token.as_deref())
    }

    /// Answers per second, and the processor time of each in microseconds.
    async fn measure(&self, body: &Value, connections: usize) -> (f64, f64) {
        let before = processor_time(self.child.id());
        let rate = load(self.address, &self.request(body), connections, ROUND).await;
        let used = processor_time(self.child.id()) - before;
        (rate, used.as_secs_f64() * 1e6 / (rate * ROUND.as_secs_f64()))
    }
}

impl Servers {
    fn start(keymark: &[&str], peers: &[Peer<'_>]) -> Self {
        let child = child::Server::start_self(keymark, 2);
        let (address, token) = (child.lines[0].parse().expect("an address"), Some(child.lines[1].clone()));
        let keymark = Server { name: "Keymark", child, address, token };
        let peers = peers.iter().filter_map(|peer| {
            // Apollo prints the address for subscriptions as well.
            let lines = if peer.script == "apollo.mjs" { 2 } else { 1 };
            let child = child::Server::start(node(peer.script, peer.place)?, lines);
            let address = child.lines[0].parse().expect("an address");
            Some(Server { name: peer.name, child, address, token: None })
        });
        Self { keymark, peers: peers.collect() }
    }

    /// The first page of systems. The goals are those with 16 connections and more, of requests that are asked again and of
    /// new ones.
    async fn lists(&self, store: &str, goals: (f64, f64)) {
        for server in self.all() {
            let answer = answer_of(server.address, &server.request(&json!({ "query": LIST }))).await;
            assert_eq!(answer.matches("System 0").count(), 20, "{answer}");
        }
        for (freshness, number, goal) in [("asked again", json!(1), goals.0), ("new", number(), goals.1)] {
            let body = json!({ "query": LIST, "variables": { "number": number } });
            for connections in CONNECTIONS {
                let section = format!("systems(first: 20), {store}, {freshness}, {connections} connections");
                let goal = (connections >= 16).then_some(Goal::Ratio(goal));
                for (peer, rounds) in self.rounds(&body, connections, self.peers.len()).await {
                    let goal = goal.filter(|_| peer == self.peers[0].name);
                    let rates = rounds.iter().map(|((ours, _), (theirs, _))| (*ours, *theirs)).collect();
                    let times = rounds.iter().map(|((_, ours), (_, theirs))| (*ours, *theirs)).collect();
                    let rates = Measured::Peer(peer.to_owned(), rates);
                    report(&section, "requests", "a second", Better::More, goal, rates);
                    let times = Measured::Peer(peer.to_owned(), times);
                    report(&section, "processor time a request", "µs", Better::Less, None, times);
                }
            }
        }
    }

    /// Names that contain a text, which the peers find by a regular expression. One request at a time.
    async fn searches(&self, store: &str) {
        for (freshness, number) in [("asked again", json!(1)), ("new", number())] {
            let section = format!("search in {SEARCHED} systems, {store}, {freshness}, 1 connection");
            for (needle, text) in NEEDLES {
                let body = json!({ "query": DOCUMENT, "variables": { "search": text, "number": number } });
                for (peer, rounds) in self.rounds(&body, 1, 1).await {
                    let times = rounds.iter().map(|((ours, _), (theirs, _))| (1e3 / ours, 1e3 / theirs)).collect();
                    let times = Measured::Peer(peer.to_owned(), times);
                    let name = format!("text in {needle} names");
                    // The first page of what every name matches needs no search.
                    let goal = (needle != "common").then_some(Goal::Ratio(50.0));
                    report(&section, &name, "ms", Better::Less, goal, times);
                }
            }
        }
    }

    /// Memory after the first list, which the servers have read from the store or made before.
    async fn memory(&self) {
        let section = format!("memory with {LISTED} systems and keys, after the first list");
        for server in self.all() {
            answer_of(server.address, &server.request(&json!({ "query": LIST }))).await;
        }
        let mib = |server: &Server| resident(server.child.id()) as f64 / f64::from(1 << 20);
        let ours = mib(&self.keymark);
        let goal = Some(Goal::Median(40.0));
        report(&section, "resident memory, embedded", "MiB", Better::Less, goal, Measured::Rounds(vec![ours]));
        for peer in &self.peers {
            let rounds = Measured::Peer(peer.name.to_owned(), vec![(ours, mib(peer))]);
            report(&section, "resident memory, embedded", "MiB", Better::Less, None, rounds);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.keymark).chain(&self.peers)
    }

    /// Measures Keymark and the first peers in turns. Returns what each peer is to be compared by.
    async fn rounds(
        &self,
        body: &Value,
        connections: usize,
        peers: usize,
    ) -> Vec<(&'static str, Vec<((f64, f64), (f64, f64))>)> {
        let mut rounds: Vec<_> = self.peers.iter().take(peers).map(|peer| (peer.name, Vec::new())).collect();
        for round in 0..=ROUNDS {
            let ours = self.keymark.measure(body, connections).await;
            for (peer, (_, rounds)) in self.peers.iter().zip(&mut rounds) {
                let theirs = peer.measure(body, connections).await;
                // The first one warms up.
                if round > 0 {
                    rounds.push((ours, theirs));
                }
            }
        }
        rounds
    }
}

/// Stands for another number in each request.
fn number() -> Value {
    json!(NUMBER.parse::<u64>().expect("a number"))
}

/// Commits systems with a key each, in batches. Their names are those of `benches/peers/systems.mjs`.
async fn fill(store: &dyn Store, count: usize) {
    let (environment, tenant) = (Environment::system(), TENANT.parse::<TenantId>().expect("a tenant"));
    let now = environment.now();
    let request_id = RequestId::new(now, &mut **environment.rng());
    let origin = Origin { actor: AuditActor::keymark(), source_address: None, request_id };
    let digits = (count - 1).to_string().len();
    for first in (0..count).step_by(ROWS_PER_BATCH) {
        let id = AuditEntryId::new(now, &mut **environment.rng());
        let event = AuditEvent::new(id, now, &origin, AuditAction::SystemCreated);
        let mut batch = Batch::new(tenant.clone(), event);
        for n in first..count.min(first + ROWS_PER_BATCH) {
            let kind = if n % (count / 20) == 0 { "rarity" } else { "plenty" };
            let name = SystemName::parse(&format!("System {n:0digits$} {kind}")).expect("a name");
            let system = System::new(SystemId::new(now, &mut **environment.rng()), tenant.clone(), name, now);
            let key = NewKey {
                digest: KeyDigest::from_bytes(environment.rng().random()),
                secret: "0123456789abcdef".to_owned().try_into().expect("a fingerprint"),
                mark: Mark::try_from("abcd".to_owned()).expect("a mark"),
                generated_by: AuditActor::command_line(),
                expires_at: None,
            };
            let (system, key) = system.generate_key(key, now).expect("a system without a key");
            batch = batch.insert(Row::System(System { revision: 1, ..system })).insert(Row::Key(key));
        }
        store.commit(batch).await.expect("committed");
    }
}

/// Is an instance over `embedded DIRECTORY` or `mongodb URI` until standard input ends. Prints its address and a token.
fn serve_until_closed(place: &[&str]) {
    // As in `cli`: a thread that has hashed a password keeps its 19 MiB until it ends.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(Duration::from_secs(1)).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let store: Arc<dyn Store> = match place {
            ["mongodb", uri] => {
                let options = MongoOptions::new((*uri).to_owned(), DATABASE);
                Arc::new(MongoStore::connect(&options, Environment::system()).await.expect("a store"))
            }
            [_, directory] => Arc::new(EmbeddedStore::open(Path::new(directory)).expect("a store")),
            _ => panic!("a store and its place"),
        };
        let instance = Instance::start(&store, false).await;
        let token = instance.operator(TENANT, "admin").await.token;
        assert!(instance.coherence.read(|_| ()).is_some(), "the cache is in use");
        let features = PublicFeatures { introspection: true, graphiql: false, answer_bytes: 16 << 20 };
        let routes = public_routes(Arc::clone(&instance.service), Front::default(), features, CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}\n{token}", listener.local_addr().expect("an address"));
        tokio::spawn(serve(listener, routes, ServeLimits::default(), CancellationToken::new()));
    });
    // Until it ends.
    let _ = std::io::stdin().lines().count();
}
