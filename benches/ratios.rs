//! Throughput against the alternatives, side by side in one run. Each pair is measured in turns, so that whatever
//! else the machine does meets both sides; the median of the rounds' ratios is printed.
//!
//! `cargo bench` runs all; `cargo bench -- verification` those whose name contains the word.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema, SimpleObject};
use axum::routing::post;
use axum::{Json, Router};
use futures::TryStreamExt;
use keymark::clock::{BootClock, Environment};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::{Role, Timing};
use keymark::domain::operators::Password;
use keymark::domain::permissions::Permissions;
use keymark::domain::secrets::{Keyring, RootSecret};
use keymark::http::front::Front;
use keymark::http::serve::{ServeLimits, serve};
use keymark::http::verify::Access;
use keymark::http::{self, Shown};
use keymark::metrics::Metrics;
use keymark::service::{Caller, Service, Settings};
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::verify::Verifier;
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The allocator of the program, for both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
const SYSTEMS: usize = 100;
const SYSTEMS_QUERY: &str =
    "{ systems(first: 20) { nodes { id name keyState keyMark revision createdAt updatedAt } pageInfo { endCursor } } }";

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let wanted = |name: &str| name.contains(&filter);
        if wanted("verification") || wanted("systems embedded") {
            let directory = tempfile::tempdir().expect("a directory");
            let store = Arc::new(EmbeddedStore::open(directory.path()).expect("a store"));
            let keymark = Keymark::start(store).await;
            if wanted("verification") {
                verification(&keymark).await;
            }
            if wanted("systems embedded") {
                systems_embedded(&keymark).await;
            }
        }
        if wanted("systems mongodb") {
            systems_mongodb().await;
        }
    });
}

/// `POST /v1/verify` against an axum handler that reads the same body and answers as many bytes.
async fn verification(keymark: &Keymark) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Question {
        api_key: String,
    }
    let body = format!(r#"{{"apiKey":"{}"}}"#, keymark.api_key);
    let request = post_request("/v1/verify", &body, None);
    let answer: &'static str = answer_of(keymark.verification, &request).await.leak();
    assert!(answer.contains(r#""valid":true"#), "{answer}");
    let bare = Router::new().route(
        "/v1/verify",
        post(move |Json(question): Json<Question>| async move {
            assert!(!question.api_key.is_empty());
            ([("content-type", "application/json")], answer)
        }),
    );
    let bare = listen(bare).await;
    for connections in [16, 64] {
        let name = format!("verification, POST, {connections} connections, against a bare axum handler");
        compare(
            &name,
            async || load(keymark.verification, &request, connections).await,
            async || load(bare, &request, connections).await,
        )
        .await;
    }
}

/// `systems(first: 20)` from the embedded store against a bare schema with the rows in memory.
async fn systems_embedded(keymark: &Keymark) {
    let body = serde_json::json!({ "query": SYSTEMS_QUERY }).to_string();
    let request = post_request("/graphql", &body, Some(&keymark.token));
    let answer = answer_of(keymark.public, &request).await;
    assert!(answer.contains("System 019"), "{answer}");
    let bare = listen(bare_graphql(&answer)).await;
    assert_eq!(answer_of(bare, &request).await.len(), answer.len());
    compare(
        "systems(first: 20), embedded, 16 connections, against bare async-graphql from memory (goal 0.7)",
        async || load(keymark.public, &request, 16).await,
        async || load(bare, &request, 16).await,
    )
    .await;
}

/// `systems(first: 20)` over MongoDB against the driver's own find of the same rows.
async fn systems_mongodb() {
    let mongod = Mongod::start().await;
    let options = MongoOptions::new(mongod.uri(), "ratios");
    let store = Arc::new(MongoStore::connect(&options).await.expect("a store"));
    let keymark = Keymark::start(store).await;
    let body = serde_json::json!({ "query": SYSTEMS_QUERY }).to_string();
    let request = post_request("/graphql", &body, Some(&keymark.token));
    let client = mongodb::Client::with_uri_str(mongod.uri()).await.expect("a client");
    let systems = client.database("ratios").collection::<Document>("systems");
    compare(
        "systems(first: 20), MongoDB, 16 connections, against the driver's find of the same rows (goal 0.4)",
        async || load(keymark.public, &request, 16).await,
        async || {
            let finds = (0..16).map(|_| {
                let systems = systems.clone();
                tokio::spawn(async move {
                    let (began, mut count) = (Instant::now(), 0u64);
                    while began.elapsed() < ROUND {
                        let find = systems.find(doc! { "tenant": "default" });
                        let rows: Vec<Document> = find
                            .sort(doc! { "folded": 1, "_id": 1 })
                            .limit(21)
                            .batch_size(21)
                            .await
                            .expect("a cursor")
                            .try_collect()
                            .await
                            .expect("rows");
                        assert_eq!(rows.len(), 21);
                        count += 1;
                    }
                    count
                })
            });
            let counts = futures::future::try_join_all(finds).await.expect("finds");
            counts.iter().sum::<u64>() as f64 / ROUND.as_secs_f64()
        },
    )
    .await;
}

/// Measures both sides in turns and prints the median of the ratios.
async fn compare(name: &str, mut ours: impl AsyncFnMut() -> f64, mut theirs: impl AsyncFnMut() -> f64) {
    ours().await;
    theirs().await;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (ours, theirs) = (ours().await, theirs().await);
        rounds.push((ours / theirs, ours, theirs));
    }
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, ours, theirs) = rounds[ROUNDS / 2];
    let (least, most) = (rounds[0].0, rounds[ROUNDS - 1].0);
    println!("{name}\n    ratio {ratio:.2} ({least:.2} to {most:.2}); {ours:.0} against {theirs:.0} a second");
}

/// Keymark's two listeners over a store, with some systems and one key.
struct Keymark {
    public: SocketAddr,
    verification: SocketAddr,
    token: String,
    api_key: String,
}

impl Keymark {
    async fn start(store: Arc<dyn Store>) -> Self {
        let keys = Keyring::new(&RootSecret::new(vec![7; 32]).expect("a secret"), &[]);
        let (environment, stopwatch) = (Environment::system(), Arc::new(BootClock));
        let role = match store.is_shared() {
            false => Role::Alone,
            true => Role::Member(Timing { lease: Duration::from_secs(12), probe_interval: Duration::from_secs(1) }),
        };
        let coherence = Coherence::new(Arc::clone(&store), environment.clone(), stopwatch, role);
        let service = Service::new(Arc::clone(&store), Arc::clone(&coherence), environment, keys, Settings::default());
        let follower = Arc::clone(&service);
        tokio::spawn(async move { follower.follow_feed(CancellationToken::new()).await });
        let password = || Password::presented("correct horse battery".to_owned());
        let (tenant, username) = ("default".parse().expect("a tenant"), "admin".parse().expect("a name"));
        let request = service.request(None);
        service.add_operator(request, tenant, username, password(), Permissions::all()).await.expect("an operator");
        let opened = service.sign_in(request, "admin", password()).await.expect("a session");
        let caller: &Caller = &opened.caller;
        let mut api_key = String::new();
        for i in 0..SYSTEMS {
            let name = format!("System {i:03}");
            let system = service.create_system(caller, request, &name).await.expect("a system");
            if i % 2 == 0 {
                let generated = service.generate_key(caller, request, system.id).await.expect("a key");
                api_key = generated.api_key.expose().to_owned();
            }
        }
        let shown = Shown { introspection: true, graphiql: false };
        let public = http::public_routes(Arc::clone(&service), Front::default(), shown, CancellationToken::new());
        let verifier = Verifier::new(store, coherence, Arc::clone(&service));
        let verification =
            http::verify::routes(verifier, Access::default(), Arc::new(Front::default()), Arc::new(Metrics::default()));
        Self { public: listen(public).await, verification: listen(verification).await, token: opened.token, api_key }
    }
}

#[derive(Clone, SimpleObject, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    key_state: String,
    key_mark: Option<String>,
    revision: i32,
    created_at: String,
    updated_at: String,
}

#[derive(Clone, SimpleObject, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BarePageInfo {
    end_cursor: String,
}

#[derive(Clone, SimpleObject, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rows {
    nodes: Vec<Row>,
    page_info: BarePageInfo,
}

struct BareQuery(Rows);

#[Object]
impl BareQuery {
    async fn systems(&self, first: Option<i32>) -> Rows {
        let first = first.and_then(|first| usize::try_from(first).ok()).unwrap_or(50);
        Rows { nodes: self.0.nodes.iter().take(first).cloned().collect(), page_info: self.0.page_info.clone() }
    }
}

/// async-graphql and its own integration, with the rows of `answer` in memory.
fn bare_graphql(answer: &str) -> Router {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        systems: Rows,
    }
    let answer: Answer = serde_json::from_str(answer).expect("an answer");
    let schema = Schema::new(BareQuery(answer.data.systems), EmptyMutation, EmptySubscription);
    Router::new().route_service("/graphql", async_graphql_axum::GraphQL::new(schema))
}

async fn listen(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, router, ServeLimits::default(), CancellationToken::new()));
    address
}

fn post_request(path: &str, body: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{authorization}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends the request again and again on so many connections; answers a second.
async fn load(address: SocketAddr, request: &[u8], connections: usize) -> f64 {
    let clients = (0..connections).map(|_| {
        let request = request.to_vec();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let (began, mut count) = (Instant::now(), 0u64);
            while began.elapsed() < ROUND {
                client.exchange(&request).await;
                count += 1;
            }
            count
        })
    });
    let counts = futures::future::try_join_all(clients).await.expect("clients");
    counts.iter().sum::<u64>() as f64 / ROUND.as_secs_f64()
}

async fn answer_of(address: SocketAddr, request: &[u8]) -> String {
    let mut client = Client::connect(address).await;
    let body = client.exchange(request).await;
    String::from_utf8(client.buffer[body].to_vec()).expect("text")
}

/// As little of an HTTP client as will do, so that the servers are measured.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: vec![0; 64 * 1024] }
    }

    /// Where in the buffer the answer's body is.
    async fn exchange(&mut self, request: &[u8]) -> std::ops::Range<usize> {
        self.stream.write_all(request).await.expect("a request");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("an answer");
            assert!(read > 0, "the server hung up");
            filled += read;
            if let Some(body) = body_of(&self.buffer[..filled]) {
                return body;
            }
        }
    }
}

/// Where the body is, once all of it is there.
fn body_of(answer: &[u8]) -> Option<std::ops::Range<usize>> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..head]).expect("a head of text");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let length = text.split("content-length: ").nth(1).expect("a length").split("\r\n").next().expect("a line");
    let end = head + 4 + length.parse::<usize>().expect("a number");
    (answer.len() >= end).then_some(head + 4..end)
}

/// A replica set of one member, as `scripts/mongod.sh` installs it; gone when this is dropped.
struct Mongod {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Mongod {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mongod = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/mongod");
        let process = Command::new(mongod)
            .args(["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25", "--port"])
            .arg(port.to_string())
            .arg("--dbpath")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("scripts/mongod.sh installs mongod");
        let this = Self { process, port, _directory: directory };
        let direct = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let client = mongodb::Client::with_uri_str(direct).await.expect("a client");
        let member = doc! { "_id": 0, "host": format!("127.0.0.1:{port}") };
        let config = doc! { "_id": "rs0", "members": [member] };
        client.database("admin").run_command(doc! { "replSetInitiate": config }).await.expect("a replica set");
        while !client
            .database("admin")
            .run_command(doc! { "hello": 1 })
            .await
            .is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        this
    }

    fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", self.port)
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
