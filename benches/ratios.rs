//! Keymark against the alternatives, side by side in one run. Each set is measured in turns, so that whatever else the
//! machine does meets all of them; the median of the rounds' ratios is reported.
//!
//! `cargo bench` runs all; `cargo bench -- verification` those whose name contains the word.
//!
//! The servers of verifications and of lists run in processes of their own, so that the processor time of each can be
//! measured: this program starts itself again, with `serve` and the name of a server. If `KEYMARK_BENCH_OTHER` is the path
//! of another build of this program, lists are also compared with the server of that build.
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
#[path = "support/nginx.rs"]
mod nginx;
#[path = "support/node.rs"]
mod node;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/processor_time.rs"]
mod processor_time;
#[path = "support/replica_set.rs"]
mod replica_set;

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, Request, Response};
use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema, SimpleObject};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::Full;
use instance::Instance;
use keymark::clock::Environment;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, SystemId, TenantId, TokenId};
use keymark::domain::keys::{ApiKey, KeyDigest, Mark};
use keymark::domain::permissions::Permissions;
use keymark::domain::system_names::SystemName;
use keymark::domain::systems::{NewKey, System};
use keymark::domain::tenants::Tenant;
use keymark::domain::time::Timestamp;
use keymark::domain::tokens::{Token, TokenKind};
use keymark::http::connections::ConnectionCaps;
use keymark::http::front::Front;
use keymark::http::serve::{Client as Peer, Handler, Listener, Quick, RequestBody, ServeLimits, serve};
use keymark::http::tls::{Tls, TlsFile, TlsFiles};
use keymark::http::verify::{Access, Routes};
use keymark::http::{self, PublicFeatures};
use keymark::metrics::{ConnectionMetrics, Metrics, TlsMetrics};
use keymark::service::Caller;
use keymark::service::draining::Draining;
use keymark::service::tokens::{NewToken, TokenEnd, TokenManager};
use keymark::store::embedded::EmbeddedStore;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::store::{CommitStore, Store};
use keymark::verify::Verifier;
use lines::{Better, Goal, Measured, report};
use load::{Client, NUMBER, Numbered, answer_of, load, load_with, post_request, whole_answer_of};
use mimalloc::MiMalloc;
use mongodb::bson::{Document, doc};
use nginx::Nginx;
use node::node;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use percentile::percentile;
use processor_time::processor_time;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use replica_set::ReplicaSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the program, for both sides.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
const SYSTEMS: usize = 100;
const SYSTEMS_QUERY: &str =
    "{ systems(first: 20) { nodes { id name keyState keyMark revision createdAt updatedAt } pageInfo { endCursor } } }";

/// Connections to the verification listener.
const CONNECTIONS_OF_VERIFICATION: [usize; 3] = [16, 64, 256];
/// The same for what is measured with one number of them.
const CONNECTIONS: usize = 64;
/// Requests a second where the time in the handler is measured, and for how long.
const PACE: u32 = 10_000;
const PACED: Duration = Duration::from_secs(5);

/// Entries in the audit log of the tenant whose operator reads it all the time, and the connections on which they do.
const ENTRIES: usize = 100_000;
const READERS: usize = 8;
/// The server that notes how long each request takes.
const TIMED: &str = "timed keymark";
const OVER_MONGODB: &str = "keymark over MongoDB";
const OVER_TLS: &str = "keymark over TLS";
/// The server with tenants and tokens beside those that are measured.
const MANY_TENANTS: &str = "many tenants";
const TENANTS: usize = 10_000;
const TOKENS: usize = 1_000;
/// Connections that send nothing, and the processes that open them: a process may not have as many.
const SILENT: usize = 20_000;
const SILENT_PROCESSES: usize = 4;

/// Bad keys that are offered a second, and good ones beside them.
const FLOOD: u32 = 50_000;
const STEADY: u32 = 2_000;
const STEADY_CONNECTIONS: u32 = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, name, answer @ ..] = &arguments[..]
        && serve == "serve"
    {
        return serve_until_closed(name, answer);
    }
    let filter = arguments.into_iter().find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    if wanted("verification") {
        // One thread: the servers are to have the rest.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(verification());
    }
    if wanted("many tenants") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(many_tenants());
    }
    if wanted("gateway") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(gateway());
    }
    if wanted("tls") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(over_tls());
    }
    if wanted("flood") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(flood());
    }
    if wanted("heavy reads") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(heavy_reads());
    }
    if wanted("silent connections") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(silent_connections());
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if wanted("tokens") {
            tokens().await;
        }
    });
    if wanted("systems embedded") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(systems_embedded());
    }
    if wanted("systems mongodb") {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(systems_mongodb());
    }
}

/// Both ways to ask for a verification, on either store, against a bare axum handler that reads as much and answers as
/// many bytes, nginx that answers as many bytes, and better-auth's API key plugin with its keys in memory.
async fn verification() {
    let mongod = ReplicaSet::start(1).await;
    let embedded = Server::start("keymark", &[]);
    let mongodb = Server::start(OVER_MONGODB, &[&mongod.uri()]);
    let answer = answer_of(embedded.address, &by_post(embedded.description())).await;
    assert!(answer.contains(r#""valid":true"#), "{answer}");
    let bare = Server::start("bare", &[&answer]);
    let nginx = start_nginx(&answer, embedded.address);
    if nginx.is_none() {
        println!("nginx is not installed: the verification listener is not compared with it");
    }
    let better_auth = node("better-auth.mjs", &["memory"]).map(|command| Server::of(child::Server::start(command, 2)));
    for (method, request) in [("POST", by_post as fn(&str) -> Vec<u8>), ("forward-auth", by_headers)] {
        for connections in CONNECTIONS_OF_VERIFICATION {
            let mut rounds = Vec::with_capacity(ROUNDS);
            for round in 0..=ROUNDS {
                let embedded = embedded.measure(&request(embedded.description()), connections).await;
                let mongodb = mongodb.measure(&request(mongodb.description()), connections).await;
                let bare = bare.measure(&request("a key"), connections).await;
                let nginx = match &nginx {
                    Some(nginx) => Some(load(nginx.address, &request("a key"), connections, ROUND).await),
                    None => None,
                };
                let better_auth = match &better_auth {
                    Some(server) if method == "POST" => {
                        Some(server.measure(&request(server.description()), connections).await)
                    }
                    _ => None,
                };
                // The first one warms up.
                if round > 0 {
                    rounds.push((embedded, mongodb, bare, nginx, better_auth));
                }
            }
            let section = format!("verification by {method}, one key for all requests, {connections} connections");
            let goal = Some(Goal::Ratio(1.0));
            let rate = |name, goal, measured| report(&section, name, "a second", Better::More, goal, measured);
            let peer = |name: &str, rounds| Measured::Peer(name.to_owned(), rounds);
            let rates = rounds.iter().map(|(embedded, _, bare, ..)| (embedded.rate, bare.rate)).collect();
            rate("requests", goal, peer("a bare axum handler", rates));
            let rates = rounds.iter().map(|(_, mongodb, bare, ..)| (mongodb.rate, bare.rate)).collect();
            rate("requests, over MongoDB", goal, peer("a bare axum handler", rates));
            let rates: Vec<_> = rounds.iter().filter_map(|(ours, .., nginx, _)| Some((ours.rate, (*nginx)?))).collect();
            if !rates.is_empty() {
                rate("requests", goal, peer("nginx returning a constant", rates));
            }
            let both: Vec<_> = rounds.iter().filter_map(|(ours, .., theirs)| Some((ours, (*theirs)?))).collect();
            let time =
                |goal, measured| report(&section, "processor time a request", "µs", Better::Less, goal, measured);
            if !both.is_empty() {
                let rates = both.iter().map(|(ours, theirs)| (ours.rate, theirs.rate)).collect();
                rate("requests", None, peer("better-auth, keys in memory", rates));
                let times = both.iter().map(|(ours, theirs)| (ours.micros, theirs.micros)).collect();
                time(None, peer("better-auth, keys in memory", times));
            }
            let times = rounds.iter().map(|(ours, _, bare, ..)| (ours.micros, bare.micros)).collect();
            time(Some(Goal::Ratio(0.9)), peer("a bare axum handler", times));
            let shares = rounds.iter().map(|(ours, ..)| ours.generator).collect();
            report(&section, "load generator", "of one core", Better::Less, None, Measured::Rounds(shares));
        }
    }
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let refused = embedded.measure(&by_post("km_malformed"), CONNECTIONS).await;
        rounds.push((refused, bare.measure(&by_post("a key"), CONNECTIONS).await));
    }
    let section = format!("verification by POST of a malformed key, which needs no look-up, {CONNECTIONS} connections");
    report_loads(&section, None, &rounds, |rounds| Measured::Peer("a bare axum handler".to_owned(), rounds));

    let mut timed = Server::start(TIMED, &[]);
    paced(timed.address, &by_post(timed.description())).await;
    let section = format!("verification by POST, {PACE} a second");
    let times = Measured::Times(timed.ask_times());
    report(&section, "in the handler", "µs", Better::Less, Some(Goal::P99(1000.0)), times);
}

fn by_post(key: &str) -> Vec<u8> {
    post_request("/v1/verify", &format!(r#"{{"apiKey":"{key}"}}"#), None)
}

fn by_headers(key: &str) -> Vec<u8> {
    format!("GET /v1/forward-auth HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n").into_bytes()
}

/// Requests a second, and their processor time.
fn report_loads(
    section: &str,
    goal: Option<Goal>,
    rounds: &[(Load, Load)],
    measured: impl Fn(Vec<(f64, f64)>) -> Measured,
) {
    let rates = rounds.iter().map(|(ours, theirs)| (ours.rate, theirs.rate)).collect();
    report(section, "requests", "a second", Better::More, goal, measured(rates));
    let times = rounds.iter().map(|(ours, theirs)| (ours.micros, theirs.micros)).collect();
    report(section, "processor time a request", "µs", Better::Less, None, measured(times));
}

/// Verifications beside many tenants and tokens, against those beside none.
async fn many_tenants() {
    let (many, few) = (Server::start(MANY_TENANTS, &[]), Server::start("keymark", &[]));
    let (of_many, of_few) = (by_post(many.description()), by_post(few.description()));
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push((many.measure(&of_many, CONNECTIONS).await, few.measure(&of_few, CONNECTIONS).await));
    }
    let section = format!("verification by POST, {TENANTS} tenants and {TOKENS} tokens, {CONNECTIONS} connections");
    report_loads(&section, Some(Goal::Ratio(1.0)), &rounds, |rounds| {
        Measured::Baseline("one tenant".to_owned(), rounds)
    });
}

/// Adds tenants with a key each, and tokens of the default one.
async fn add_tenants(store: &EmbeddedStore) {
    let (mut rng, now) = (StdRng::seed_from_u64(2), Timestamp::from_millis(0));
    let origin =
        Origin { actor: AuditActor::command_line(), source_address: None, request_id: RequestId::new(now, &mut rng) };
    let mut batch = |tenant: TenantId, action| {
        let event = AuditEvent::new(AuditEntryId::new(now, &mut rng), now, &origin, action);
        let digest = KeyDigest::from_bytes(rng.random());
        (Batch::new(tenant, event), digest, TokenId::new(now, &mut rng), SystemId::new(now, &mut rng))
    };
    let mark = Mark::try_from("abcd".to_owned()).expect("a mark");
    let mut batches = Vec::with_capacity(TENANTS + TOKENS);
    for number in 0..TENANTS {
        let id: TenantId = format!("tenant-{number}").parse().expect("a tenant");
        let name = SystemName::parse(&format!("Tenant {number}")).expect("a name");
        let (batch, digest, _, system) = batch(id.clone(), AuditAction::TenantCreated);
        let system = System::new(system, id.clone(), name.clone(), now);
        let secret = "0123456789abcdef".to_owned().try_into().expect("a fingerprint");
        let key = NewKey { digest, secret, mark, generated_by: AuditActor::command_line(), expires_at: None };
        let (system, key) = system.generate_key(key, now).expect("a system without a key");
        let batch = batch.insert(Row::Tenant(Tenant::new(id, name, now)));
        batches.push(batch.insert(Row::System(System { revision: 1, ..system })).insert(Row::Key(key)));
    }
    for number in 0..TOKENS {
        let id: TenantId = TenantId::DEFAULT.parse().expect("a tenant");
        let name = SystemName::parse(&format!("Token {number}")).expect("a name");
        let (batch, digest, token, _) = batch(id.clone(), AuditAction::VerifierTokenCreated);
        batches.push(batch.insert(Row::Token(Token {
            id: token,
            tenant: id,
            name,
            kind: TokenKind::Verifier,
            is_platform: false,
            digest,
            mark,
            created_by: AuditActor::command_line(),
            expires_at: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        })));
    }
    while !batches.is_empty() {
        let together = batches.split_off(batches.len().saturating_sub(200));
        futures::future::try_join_all(together.into_iter().map(|batch| store.commit(batch))).await.expect("commits");
    }
}

/// An API behind nginx that asks for each request whether its key is good, against the same nginx that does not ask.
async fn gateway() {
    let ours = Server::start("keymark", &[]);
    let Some(nginx) = start_nginx("", ours.address) else {
        return println!("nginx is not installed: forward-auth through it is not measured");
    };
    let request = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", ours.description()).into_bytes()
    };
    let (guarded, open) = (request("/guarded"), request("/open"));
    assert_eq!(answer_of(nginx.address, &guarded).await, "the API");
    compare(
        &format!("an API behind nginx that verifies with auth_request, {CONNECTIONS} connections"),
        "requests",
        None,
        |rounds| Measured::Baseline("the same without auth_request".to_owned(), rounds),
        async || load(nginx.address, &guarded, CONNECTIONS, ROUND).await,
        async || load(nginx.address, &open, CONNECTIONS, ROUND).await,
    )
    .await;
}

/// Verifications on kept connections, over TLS and without.
async fn over_tls() {
    let (plain, tls) = (Server::start("keymark", &[]), Server::start(OVER_TLS, &[]));
    let [api_key, certificate] = tls.described();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let address = tls.address;
    let connect = move || {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            let name = ServerName::try_from("localhost").expect("a name");
            Client::over(connector.connect(name, stream).await.expect("a handshake"))
        }
    };
    let (over_tls, without) = (by_post(api_key), by_post(plain.description()));
    for connections in CONNECTIONS_OF_VERIFICATION {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for round in 0..=ROUNDS {
            let clients = futures::future::join_all((0..connections).map(|_| connect())).await;
            let over_tls = tls.measured(load_with(clients, &over_tls, ROUND)).await;
            let without = plain.measure(&without, connections).await;
            // The first one warms up.
            if round > 0 {
                rounds.push((over_tls, without));
            }
        }
        let section = format!("verification by POST over TLS 1.3, kept connections, {connections} connections");
        report_loads(&section, Some(Goal::Ratio(0.8)), &rounds, |rounds| {
            Measured::Baseline("plain HTTP".to_owned(), rounds)
        });
    }
}

/// Listens over TLS with a certificate made by openssl. Returns its file too.
async fn listen_over_tls(handler: impl Handler, directory: &Path) -> (SocketAddr, String) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out certificate.pem \
                     -config openssl.cnf -extensions leaf -subj /CN=localhost -days 1";
    let extensions = "[req]\ndistinguished_name = name\n[name]\n[leaf]\nbasicConstraints = critical,CA:FALSE\n\
                      subjectAltName = DNS:localhost\n";
    std::fs::write(directory.join("openssl.cnf"), extensions).expect("written");
    let mut openssl = Command::new("openssl");
    openssl.args(arguments.split_whitespace()).current_dir(directory).stderr(Stdio::null());
    let made = openssl.status().expect("scripts/need.sh installs openssl");
    assert!(made.success(), "openssl");
    let [certificate, key] =
        ["certificate.pem", "key.pem"].map(|name| TlsFile { setting: "", path: directory.join(name) });
    let path = certificate.path.display().to_string();
    let files = TlsFiles { certificate, key, client_ca: None };
    let tls = Tls::load(files, TlsMetrics::default(), Timestamp::from_millis(0)).expect("a certificate");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let listener = Listener::new(listener, Some(tls), Draining::default());
    tokio::spawn(serve(listener, handler, ServeLimits::default(), CancellationToken::new()));
    (address, path)
}

/// Good keys with and without a flood of bad ones from the same address.
async fn flood() {
    let ours = Server::start("keymark", &[]);
    let good = by_post(ours.description());
    let mut rng = StdRng::seed_from_u64(1);
    let bad: Arc<Vec<Vec<u8>>> = Arc::new(
        (0..1_000)
            .map(|_| ApiKey::generate(&"km".parse().unwrap(), &mut rng))
            .map(|key| by_post(key.expose()))
            .collect(),
    );
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let quiet = steady(ours.address, &good).await;
        let refused = Arc::new(AtomicU64::new(0));
        let flooding: Vec<_> = (0..CONNECTIONS as u32)
            .map(|i| tokio::spawn(offer(ours.address, Arc::clone(&bad), Arc::clone(&refused), i)))
            .collect();
        let flooded = steady(ours.address, &good).await;
        flooding.iter().for_each(tokio::task::JoinHandle::abort);
        rounds.push((flooded, quiet, refused.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64()));
    }
    let section = format!("good keys, {STEADY} a second, under a flood of bad ones, {FLOOD} a second offered");
    let answered = rounds.iter().map(|(_, _, refused)| *refused).collect();
    report(&section, "bad keys answered", "a second", Better::More, None, Measured::Rounds(answered));
    let quiet = |rounds| Measured::Baseline("no flood".to_owned(), rounds);
    let rates = rounds.iter().map(|(with, without, _)| (with.0, without.0)).collect();
    report(&section, "good keys answered", "a second", Better::More, None, quiet(rates));
    let times = rounds.iter().map(|(with, without, _)| (with.1, without.1)).collect();
    report(&section, "p99 of good keys", "ms", Better::Less, None, quiet(times));
}

/// Verifications and another tenant's lists, with and without an operator who sends the most costly document without end.
async fn heavy_reads() {
    let ours = Server::start("two tenants", &[]);
    let [api_key, public, reader, other] = ours.described();
    let public: SocketAddr = public.parse().expect("an address");
    let good = by_post(api_key);
    let list = post_request("/graphql", &new_request(SYSTEMS_QUERY), Some(other));
    let count = "auditLog(filter: { outcome: REFUSED }, first: 1) { totalCount }";
    let counts: String = (0..4).map(|i| format!("a{i}: {count} ")).collect();
    let costly = Arc::new(post_request("/graphql", &new_request(&format!("{{ {counts} }}")), Some(reader)));
    let (mut lists, mut verifications, mut documents) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let quiet = (steady(public, &list).await, steady(ours.address, &good).await);
        let answered = Arc::new(AtomicU64::new(0));
        let reading: Vec<_> = (0..READERS)
            .map(|_| tokio::spawn(read_without_end(public, Arc::clone(&costly), Arc::clone(&answered))))
            .collect();
        let loaded = (steady(public, &list).await, steady(ours.address, &good).await);
        reading.iter().for_each(tokio::task::JoinHandle::abort);
        lists.push((loaded.0.1, quiet.0.1));
        verifications.push((loaded.1.1, quiet.1.1));
        documents.push(answered.load(Ordering::Relaxed) as f64 / 2.0 / ROUND.as_secs_f64());
    }
    let section = format!("an operator reads a log of {ENTRIES} entries on {READERS} connections");
    let documents = Measured::Rounds(documents);
    report(&section, "documents of four counts answered", "a second", Better::More, None, documents);
    for (name, times) in [("p99 of another tenant's lists", lists), ("p99 of verifications", verifications)] {
        let times = Measured::Baseline("no such reads".to_owned(), times);
        report(&section, name, "ms", Better::Less, Some(Goal::Ratio(0.5)), times);
    }
}

/// The document with a variable that it does not use, and that has another value each time: no answer is in the cache.
fn new_request(document: &str) -> String {
    let number: u64 = NUMBER.parse().expect("a number");
    serde_json::json!({ "query": document, "variables": { "number": number } }).to_string()
}

/// Sends the request again and again, whatever is answered.
async fn read_without_end(address: SocketAddr, request: Arc<Vec<u8>>, answered: Arc<AtomicU64>) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let (mut request, mut buffer) = (Numbered::new(&request), vec![0; 64 * 1024]);
    loop {
        stream.write_all(request.next()).await.expect("a request");
        // Answers are short enough to come at once.
        assert!(stream.read(&mut buffer).await.expect("an answer") > 0, "the server hung up");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Verifications on new connections, with and without many silent ones to the public listener.
async fn silent_connections() {
    let ours = Server::start("two tenants", &[]);
    let [api_key, public, _, _] = ours.described();
    let good = by_post(api_key);
    let mut quiet = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        quiet.push(steady(ours.address, &good).await.1);
    }
    let count = (SILENT / SILENT_PROCESSES).to_string();
    let _silent: Vec<_> =
        (1..=SILENT_PROCESSES).map(|number| Server::start("silent", &[public, &number.to_string(), &count])).collect();
    let mut loaded = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        loaded.push(steady(ours.address, &good).await.1);
    }
    let section = format!("{SILENT} silent connections to the public listener");
    let times = Measured::Baseline("no such connections".to_owned(), loaded.into_iter().zip(quiet).collect());
    report(&section, "p99 of verifications", "ms", Better::Less, Some(Goal::Ratio(0.5)), times);
    let metrics = answer_of(ours.address, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    for line in metrics.lines().filter(|line| line.starts_with("keymark_connections")) {
        println!("    {line}");
    }
}

/// Opens so many connections to a listener, from addresses of a network of its own, and opens those that are closed again.
async fn keep_silent(to: SocketAddr, network: u8, count: usize) {
    const PER_ADDRESS: usize = 1000;
    let (opened, mut first) = tokio::sync::mpsc::channel(count);
    for i in 0..count {
        let opened = opened.clone();
        tokio::spawn(async move {
            let host = u8::try_from(1 + i / PER_ADDRESS).expect("few addresses");
            let from = SocketAddr::from(([127, 0, network, host], 0));
            loop {
                let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
                socket.bind(from).expect("an address");
                if let Ok(mut stream) = socket.connect(to).await {
                    // Full once all connections were opened once.
                    let _ = opened.try_send(());
                    while let Ok(1..) = stream.read(&mut [0; 256]).await {}
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    for _ in 0..count {
        first.recv().await.expect("connections");
    }
}

/// Good keys at [`STEADY`] a second for a round: how many were answered a second, and the 99th percentile of the time
/// that one took, in milliseconds.
async fn steady(address: SocketAddr, request: &[u8]) -> (f64, f64) {
    let clients = (0..STEADY_CONNECTIONS).map(|_| {
        let mut request = Numbered::new(request);
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut due = tokio::time::interval(Duration::from_secs(1) * STEADY_CONNECTIONS / STEADY);
            let (began, mut times) = (Instant::now(), Vec::new());
            while began.elapsed() < ROUND {
                due.tick().await;
                let sent = Instant::now();
                client.exchange(request.next()).await;
                times.push(sent.elapsed());
            }
            times
        })
    });
    let mut times = futures::future::try_join_all(clients).await.expect("clients").concat();
    (times.len() as f64 / ROUND.as_secs_f64(), percentile(&mut times, 99))
}

/// Presents bad keys, as one of [`CONNECTIONS`] that offer [`FLOOD`] a second together, whatever is answered.
async fn offer(address: SocketAddr, bad: Arc<Vec<Vec<u8>>>, refused: Arc<AtomicU64>, number: u32) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut due = tokio::time::interval(Duration::from_secs(1) * CONNECTIONS as u32 / FLOOD);
    let mut buffer = vec![0; 4096];
    for request in bad.iter().cycle().skip(number as usize * 15) {
        due.tick().await;
        stream.write_all(request).await.expect("a request");
        // Answers are short enough to come at once.
        assert!(stream.read(&mut buffer).await.expect("an answer") > 0, "the server hung up");
        refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The measurements of one round with a server.
#[derive(Clone, Copy)]
struct Load {
    rate: f64,
    /// Processor time of the server per request, in microseconds.
    micros: f64,
    generator: f64,
}

/// A server of [`serve_until_closed`], or one of `benches/peers`.
struct Server {
    child: child::Server,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, arguments: &[&str]) -> Self {
        Self::of(child::Server::start_self(&[&[name], arguments].concat(), 2))
    }

    /// The server of another build of this program, if there is one to compare with.
    fn start_other(name: &str, arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new(Path::new(&std::env::var_os("KEYMARK_BENCH_OTHER")?));
        command.args(["serve", name]).args(arguments);
        Some(Self::of(child::Server::start(command, 2)))
    }

    fn of(child: child::Server) -> Self {
        Self { address: child.lines[0].parse().expect("an address"), child }
    }

    /// The line that it printed about itself.
    fn description(&self) -> &str {
        &self.child.lines[1]
    }

    async fn measure(&self, request: &[u8], connections: usize) -> Load {
        self.measured(load(self.address, request, connections, ROUND)).await
    }

    /// The measurements of a round whose requests per second are these.
    async fn measured(&self, load: impl Future<Output = f64>) -> Load {
        let (server, own) = (processor_time(self.child.id()), processor_time(std::process::id()));
        let rate = load.await;
        let server = processor_time(self.child.id()) - server;
        let own = processor_time(std::process::id()) - own;
        let micros = server.as_secs_f64() * 1e6 / (rate * ROUND.as_secs_f64());
        Load { rate, micros, generator: own.as_secs_f64() / ROUND.as_secs_f64() }
    }

    /// The words of its description.
    fn described<const N: usize>(&self) -> [&str; N] {
        self.description().split(' ').collect::<Vec<_>>().try_into().expect("as many words")
    }

    /// How long the requests since the last call took, in microseconds.
    fn ask_times(&mut self) -> Vec<f64> {
        writeln!(self.child.stdin.as_ref().expect("it runs"), "times").expect("it listens");
        let mut times = String::new();
        self.child.stdout.read_line(&mut times).expect("it answers");
        times.split_whitespace().map(|time| time.parse().expect("a time")).collect()
    }
}

/// Is the server of that name until standard input ends. Says its address, and a key where it has one.
fn serve_until_closed(name: &str, arguments: &[String]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let times = Times::default();
    let directory = tempfile::tempdir().expect("a directory");
    let (address, description) = runtime.block_on(async {
        if name == "bare" {
            return (listen_bare(arguments[0].clone().leak()).await, String::new());
        }
        if name == "bare graphql" {
            return (listen(bare_graphql(&arguments[0])).await, String::new());
        }
        if let ("systems", [uri]) = (name, arguments) {
            let options = MongoOptions::new(uri, "ratios");
            let store = MongoStore::connect(&options, Environment::system()).await.expect("a store");
            let keymark = Keymark::start(Arc::new(store)).await;
            return (keymark.public, keymark.token);
        }
        if let ("silent", [to, network, count]) = (name, arguments) {
            let to = to.parse().expect("an address");
            keep_silent(to, network.parse().expect("a number"), count.parse().expect("a number")).await;
            return (to, String::new());
        }
        let store = Arc::new(EmbeddedStore::open(directory.path()).expect("a store"));
        if name == "two tenants" {
            return two_tenants(store).await;
        }
        if name == MANY_TENANTS {
            add_tenants(&store).await;
        }
        let store: Arc<dyn Store> = match arguments {
            [uri] => {
                let options = MongoOptions::new(uri.clone(), "verification");
                Arc::new(MongoStore::connect(&options, Environment::system()).await.expect("a store"))
            }
            _ => store,
        };
        let keymark = Keymark::start(store).await;
        if name == "systems" {
            return (keymark.public, keymark.token);
        }
        // Writes the use of keys, as in the program.
        let service = Arc::clone(&keymark.instance.service);
        tokio::spawn(async move { service.run_usage(CancellationToken::new()).await });
        if name == OVER_TLS {
            let (address, certificate) = listen_over_tls(keymark.verification, directory.path()).await;
            return (address, format!("{} {certificate}", keymark.api_key));
        }
        let address = if name == TIMED {
            listen(Timed { routes: keymark.verification, times: times.clone() }).await
        } else {
            listen(keymark.verification).await
        };
        (address, keymark.api_key)
    });
    println!("{address}\n{description}");
    for _ in std::io::stdin().lines() {
        let times = std::mem::take(&mut *times.lock().expect("nobody panicked"));
        let micros: Vec<_> = times.iter().map(|time| format!("{:.2}", time.as_secs_f64() * 1e6)).collect();
        println!("{}", micros.join(" "));
    }
}

/// Keymark with a tenant that has a long audit log, and another one. Each listener has its share of the descriptors.
/// Returns the verification address, and: a key, the public address, a token of each tenant.
async fn two_tenants(store: Arc<EmbeddedStore>) -> (SocketAddr, String) {
    let (mut rng, tenant) = (StdRng::seed_from_u64(1), "default".parse::<TenantId>().expect("a tenant"));
    let now = Timestamp::from_millis(0);
    let origin =
        Origin { actor: AuditActor::command_line(), source_address: None, request_id: RequestId::new(now, &mut rng) };
    for _ in 0..ENTRIES / 200 {
        let batches: Vec<_> = (0..200)
            .map(|_| AuditEvent::new(AuditEntryId::new(now, &mut rng), now, &origin, AuditAction::SignedIn))
            .map(|event| store.commit(Batch::new(tenant.clone(), event)))
            .collect();
        futures::future::try_join_all(batches).await.expect("commits");
    }
    let keymark = Keymark::start(store).await;
    let other = keymark.instance.operator("other", "other").await;
    for i in 0..SYSTEMS {
        let service = &keymark.instance.service;
        service
            .create_system(&other.caller(), service.request(None), &format!("Other {i:03}"), None)
            .await
            .expect("a system");
    }
    let descriptors = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: descriptors, maximum: descriptors };
    setrlimit(Resource::Nofile, limit).expect("the soft limit can be raised");
    let descriptors = descriptors.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let (public, verification) = ConnectionCaps::share(descriptors, &[]);
    let limits = |connections, metrics: &ConnectionMetrics| ServeLimits {
        connections,
        metrics: metrics.clone(),
        ..ServeLimits::default()
    };
    let public = limits(public, &keymark.metrics.public_connections);
    let verification = limits(verification, &keymark.metrics.verification_connections);
    let public = listen_within(keymark.public_routes, public).await;
    let address = listen_within(keymark.verification, verification).await;
    (address, format!("{} {public} {} {}", keymark.api_key, keymark.token, other.token))
}

/// How long requests took.
type Times = Arc<Mutex<Vec<Duration>>>;

/// The verification listener, with the time that each request spends in it noted.
#[derive(Clone)]
struct Timed {
    routes: Routes,
    times: Times,
}

impl Handler for Timed {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<impl RequestBody>, client: &Peer) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let response = self.routes.handle(request, client).await;
        self.times.lock().expect("nobody panicked").push(began.elapsed());
        response
    }

    fn quick(&self) -> Option<Quick> {
        self.routes.quick()
    }
}

/// axum with its defaults, and handlers that read what a verification has to.
async fn listen_bare(answer: &'static str) -> SocketAddr {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct VerifyRequest {
        api_key: String,
    }
    let by_post = async move |Json(request): Json<VerifyRequest>| {
        assert!(!request.api_key.is_empty());
        ([("content-type", "application/json"), ("cache-control", "no-store")], answer)
    };
    let by_headers = async move |headers: HeaderMap| {
        assert!(headers.contains_key("x-api-key"));
        let identity = [
            ("cache-control", "no-store"),
            ("x-keymark-tenant-id", "default"),
            ("x-keymark-system-id", "sys_01hf7yat0000000000000000zz"),
            ("x-keymark-system-name", "System%20098"),
        ];
        (identity, "")
    };
    let router = Router::new().route("/v1/verify", post(by_post)).route("/v1/forward-auth", get(by_headers));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Starts nginx with two workers. It serves a constant response like that of a verification, and an API: `/open` without
/// verification, and `/guarded` with each request verified by Keymark. `None` if nginx is not installed.
fn start_nginx(answer: &str, keymark: SocketAddr) -> Option<Nginx> {
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    Nginx::start(address, |directory| {
        let path = directory.display();
        format!(
            r#"worker_processes 2;
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                keepalive_requests 1000000000;
                keepalive_timeout 75;
                server_tokens off;
                client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                upstream keymark {{ server {keymark}; keepalive 64; }}
                upstream api {{ server unix:{path}/api; keepalive 64; }}
                proxy_http_version 1.1;
                server {{
                    listen unix:{path}/api;
                    return 200 'the API';
                }}
                server {{
                    listen {address} reuseport;
                    location /open {{
                        proxy_set_header Connection "";
                        proxy_pass http://api;
                    }}
                    location /guarded {{
                        auth_request /_keymark;
                        auth_request_set $system $upstream_http_x_keymark_system_id;
                        proxy_set_header X-Keymark-System-Id $system;
                        proxy_set_header Connection "";
                        proxy_pass http://api;
                    }}
                    location = /_keymark {{
                        internal;
                        proxy_pass_request_body off;
                        proxy_set_header Content-Length "";
                        proxy_set_header Host localhost;
                        proxy_set_header Connection "";
                        proxy_pass http://keymark/v1/forward-auth;
                    }}
                    location /v1/verify {{
                        default_type application/json;
                        add_header cache-control no-store;
                        return 200 '{answer}';
                    }}
                    location /v1/forward-auth {{
                        add_header cache-control no-store;
                        add_header x-keymark-tenant-id default;
                        add_header x-keymark-system-id sys_01hf7yat0000000000000000zz;
                        add_header x-keymark-system-name System%20098;
                        return 200 '';
                    }}
                }}
            }}"#
        )
    })
}

/// `systems(first: 20)` from the embedded store against a bare schema with the rows in memory, by new requests; and asked
/// again by GET, with the `ETag` of the answer before and without.
async fn systems_embedded() {
    const CONNECTIONS: usize = 16;
    let body = new_request(SYSTEMS_QUERY);
    let start = |server: Server| {
        let request = post_request("/graphql", &body, Some(server.description()));
        (server, request)
    };
    let ours = start(Server::start("systems", &[]));
    let answer = answer_of(ours.0.address, &ours.1).await;
    assert!(answer.contains("System 019"), "{answer}");
    let bare = Server::start("bare graphql", &[&answer]);
    assert_eq!(answer_of(bare.address, &ours.1).await.len(), answer.len());
    let other = Server::start_other("systems", &[]).map(start);
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut others = Vec::new();
    for round in 0..=ROUNDS {
        let of_ours = ours.0.measure(&ours.1, CONNECTIONS).await;
        let of_bare = bare.measure(&ours.1, CONNECTIONS).await;
        let of_other = match &other {
            Some((server, request)) => Some(server.measure(request, CONNECTIONS).await),
            None => None,
        };
        // The first one warms up.
        if round > 0 {
            rounds.push((of_ours, of_bare));
            others.extend(of_other.map(|other| (of_ours.micros, other.micros)));
        }
    }
    let section = format!("systems(first: 20), embedded, new, {CONNECTIONS} connections");
    report_loads(&section, Some(Goal::Ratio(0.7)), &rounds, |rounds| {
        Measured::Peer("bare async-graphql, systems in memory".to_owned(), rounds)
    });
    if !others.is_empty() {
        let others = Measured::Baseline("the other build".to_owned(), others);
        report(&section, "processor time a request", "µs", Better::Less, None, others);
    }
    not_modified(&ours.0).await;
}

async fn not_modified(server: &Server) {
    let document = utf8_percent_encode(SYSTEMS_QUERY, NON_ALPHANUMERIC);
    let get = |condition: &str| {
        let token = server.description();
        format!(
            "GET /graphql?query={document} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             x-requested-with: bench\r\n{condition}\r\n"
        )
        .into_bytes()
    };
    let whole = get("");
    let answer = whole_answer_of(server.address, &whole).await;
    let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag");
    let conditional = get(&format!("if-none-match: {tag}\r\n"));
    assert!(whole_answer_of(server.address, &conditional).await.starts_with("HTTP/1.1 304"), "the list is unchanged");
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let of_conditional = server.measure(&conditional, CONNECTIONS).await;
        rounds.push((of_conditional, server.measure(&whole, CONNECTIONS).await));
    }
    let section = format!("systems(first: 20) by GET with If-None-Match, embedded, {CONNECTIONS} connections");
    report_loads(&section, None, &rounds, |rounds| Measured::Baseline("the whole answer".to_owned(), rounds));
}

/// Requests with tokens against those without, and the creation of a token against that of a system.
async fn tokens() {
    let directory = tempfile::tempdir().expect("a directory");
    let keymark = Keymark::start(Arc::new(EmbeddedStore::open(directory.path()).expect("a store"))).await;
    let service = &keymark.instance.service;
    let caller: &Caller = &keymark.instance.sign_in("admin").await.caller();
    let manager = TokenManager::Caller(caller);
    let create = async |name: &str, permissions: Option<Permissions>| {
        let name = SystemName::parse(name).expect("a name");
        let new = NewToken { name, permissions, is_platform: false, expires_at: TokenEnd::Default };
        service.create_token(manager, service.request(None), new).await.expect("a token")
    };
    let verifier = create("Gateway", None).await.text.expose().to_owned();
    let backend = create("Backend", Some(Permissions::all_of(false))).await.text.expose().to_owned();

    let verification = listen(keymark.verification.clone()).await;
    let body = format!(r#"{{"apiKey":"{}"}}"#, keymark.api_key);
    let (with, without) = (post_request("/v1/verify", &body, Some(&verifier)), by_post(&keymark.api_key));
    let answer = answer_of(verification, &with).await;
    assert!(answer.contains("VALID"), "{answer}");
    compare(
        "verification by POST with a verifier token, 16 connections",
        "requests",
        Some(Goal::Ratio(0.9)),
        |rounds| Measured::Baseline("the same without a token".to_owned(), rounds),
        async || load(verification, &with, 16, ROUND).await,
        async || load(verification, &without, 16, ROUND).await,
    )
    .await;

    let body = serde_json::json!({ "query": "{ viewer { username } }" }).to_string();
    let by_token = post_request("/graphql", &body, Some(&backend));
    let by_session = post_request("/graphql", &body, Some(&keymark.token));
    let answer = answer_of(keymark.public, &by_token).await;
    assert!(answer.contains("Backend"), "{answer}");
    compare(
        "viewer with a service token, 16 connections",
        "requests",
        Some(Goal::Ratio(0.9)),
        |rounds| Measured::Baseline("the same with a session".to_owned(), rounds),
        async || load(keymark.public, &by_token, 16, ROUND).await,
        async || load(keymark.public, &by_session, 16, ROUND).await,
    )
    .await;

    // Each is removed again, since a tenant has a limited number of tokens.
    const CREATIONS: u32 = 50;
    let rate = |began: Instant| f64::from(CREATIONS) / began.elapsed().as_secs_f64();
    compare(
        "createServiceToken and revokeServiceToken, one at a time",
        "pairs",
        Some(Goal::Ratio(0.9)),
        |rounds| Measured::Baseline("createSystem and deleteSystem".to_owned(), rounds),
        async || {
            let began = Instant::now();
            for _ in 0..CREATIONS {
                let id = create("Short-lived", Some(Permissions::NONE)).await.token.id;
                service.revoke_token(manager, service.request(None), id, true).await.expect("revoked");
            }
            rate(began)
        },
        async || {
            let began = Instant::now();
            for _ in 0..CREATIONS {
                let request = service.request(None);
                let system = service.create_system(caller, request, "Short-lived", None).await.expect("a system");
                service.delete_system(caller, request, system.id, None).await.expect("deleted");
            }
            rate(began)
        },
    )
    .await;
}

/// `systems(first: 20)` over MongoDB against the driver's own find of the same rows.
async fn systems_mongodb() {
    let mongod = ReplicaSet::start(1).await;
    let options = MongoOptions::new(mongod.uri(), "ratios");
    let store = Arc::new(MongoStore::connect(&options, Environment::system()).await.expect("a store"));
    let keymark = Keymark::start(store).await;
    let request = post_request("/graphql", &new_request(SYSTEMS_QUERY), Some(&keymark.token));
    let client = mongodb::Client::with_uri_str(mongod.uri()).await.expect("a client");
    let systems = client.database("ratios").collection::<Document>("systems");
    compare(
        "systems(first: 20), MongoDB, new, 16 connections",
        "requests",
        Some(Goal::Ratio(0.4)),
        |rounds| Measured::Peer("the Rust driver's find of the same rows".to_owned(), rounds),
        async || load(keymark.public, &request, 16, ROUND).await,
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

/// Measures both sides in turns, in answers per second.
async fn compare(
    section: &str,
    name: &str,
    goal: Option<Goal>,
    measured: impl FnOnce(Vec<(f64, f64)>) -> Measured,
    mut ours: impl AsyncFnMut() -> f64,
    mut theirs: impl AsyncFnMut() -> f64,
) {
    ours().await;
    theirs().await;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push((ours().await, theirs().await));
    }
    report(section, name, "a second", Better::More, goal, measured(rounds));
}

/// Keymark over a store, with some systems and one key. Its public listener listens.
struct Keymark {
    instance: Instance,
    metrics: Arc<Metrics>,
    public: SocketAddr,
    public_routes: Router,
    verification: Routes,
    token: String,
    api_key: String,
}

impl Keymark {
    async fn start(store: Arc<dyn Store>) -> Self {
        let instance = Instance::start(&store, false).await;
        let opened = instance.operator("default", "admin").await;
        let Instance { service, coherence } = &instance;
        let request = service.request(None);
        let caller: &Caller = &opened.caller();
        let mut api_key = String::new();
        for i in 0..SYSTEMS {
            let name = format!("System {i:03}");
            let system = service.create_system(caller, request, &name, None).await.expect("a system");
            if i % 2 == 0 {
                let generated = service.generate_key(caller, request, system.id, None).await.expect("a key");
                api_key = generated.api_key.expose().to_owned();
            }
        }
        let features = PublicFeatures { introspection: true, graphiql: false, answer_bytes: 16 << 20 };
        let public = http::public_routes(Arc::clone(service), Front::default(), features, CancellationToken::new());
        let verifier = Verifier::new(store, Arc::clone(coherence), Arc::clone(service));
        let metrics = Arc::new(Metrics::default());
        let verification =
            http::verify::routes(verifier, Access::default(), Arc::new(Front::default()), Arc::clone(&metrics));
        Self {
            metrics,
            public: listen(public.clone()).await,
            public_routes: public,
            verification,
            token: opened.token,
            api_key,
            instance,
        }
    }
}

#[derive(Clone, SimpleObject, Deserialize)]
#[serde(rename_all = "camelCase")]
#[graphql(name = "Row")]
struct ListRow {
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
    nodes: Vec<ListRow>,
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

async fn listen(handler: impl Handler) -> SocketAddr {
    listen_within(handler, ServeLimits::default()).await
}

async fn listen_within(handler: impl Handler, limits: ServeLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, handler, limits, CancellationToken::new()));
    address
}

/// Sends the request [`PACE`] times a second, whether or not those before are answered, as long as a connection is free.
async fn paced(address: SocketAddr, request: &[u8]) {
    let clients = (0..CONNECTIONS as u32).map(|i| {
        let request = request.to_vec();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let period = Duration::from_secs(1) * CONNECTIONS as u32 / PACE;
            let first = tokio::time::Instant::now() + period * i / CONNECTIONS as u32;
            let mut due = tokio::time::interval_at(first, period);
            for _ in 0..(PACED.as_micros() / period.as_micros()) {
                due.tick().await;
                client.exchange(&request).await;
            }
        })
    });
    futures::future::try_join_all(clients).await.expect("clients");
}
