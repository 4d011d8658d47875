//! Measures how soon every subscriber receives a change, and the cost of a subscriber: WebSockets on one instance, in one
//! tenant. Apollo Server with graphql-ws is measured in the same way, with the most subscribers.
//!
//! `cargo bench --bench fanout` runs all; `-- 1000` one number of subscribers. The server is a process of its own, so
//! that its memory can be told apart: this program starts itself again, with `serve`.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/child.rs"]
mod child;
#[path = "support/instance.rs"]
mod instance;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/node.rs"]
mod node;
#[path = "support/processor_time.rs"]
mod processor_time;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/resident.rs"]
mod resident;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use instance::Instance;
use keymark::http::front::Front;
use keymark::http::serve::{ServeLimits, serve};
use keymark::http::{self, PublicFeatures};
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use lines::{Better, Goal, Measured, report};
use mimalloc::MiMalloc;
use node::node;
use processor_time::processor_time;
use requested_part::requested_part;
use resident::resident;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const SUBSCRIBERS: [usize; 3] = [100, 1_000, 5_000];
/// Operators' sessions, which the subscribers share.
const SESSIONS: usize = 50;
const CHANGES: usize = 21;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(300);
const GOAL_LAST_MS: f64 = 60.0;
const GOAL_KIB: f64 = 6.0;
const DOCUMENT: &str = "subscription ($after: String) { systemChanged(after: $after) { cursor kind systemId \
    occurredAt system { id name keyState keyMark revision updatedAt } entry { number actor { name } } } }";

fn main() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match requested_part().as_deref() {
        Some("serve") => serve_until_told(),
        requested => {
            for n in SUBSCRIBERS.into_iter().filter(|n| requested.is_none_or(|requested| requested == n.to_string())) {
                // The subscribers of a server end with their set.
                compare(n, |server| LocalSet::new().block_on(&runtime(), measure(n, server)));
            }
        }
    }
}

/// A socket is a descriptor at either end.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the limit is what is allowed");
}

/// The measurements of one server.
struct Fanout {
    /// From the sending of each change until the first subscriber has received it, and until the last one has.
    first_ms: Vec<f64>,
    last_ms: Vec<f64>,
    /// Memory of a subscriber.
    kib: f64,
    /// Processor time of the server for a change and subscriber.
    micros: f64,
}

fn compare(subscribers: usize, measure: impl Fn(Server) -> Fanout) {
    raise_descriptors();
    let section = format!("{subscribers} subscribers, from the sending of a change");
    let report = |name: &str, unit, goal: Option<f64>, measured| {
        report(&section, name, unit, Better::Less, goal.map(Goal::Median), measured);
    };
    let ours = measure(Server::start());
    let theirs = if subscribers == SUBSCRIBERS[SUBSCRIBERS.len() - 1] { Server::start_apollo() } else { None };
    let theirs = theirs.map(measure);
    report("until the first one has it", "ms", None, Measured::Rounds(ours.first_ms));
    report("until the last one has it", "ms", Some(GOAL_LAST_MS), Measured::Rounds(ours.last_ms.clone()));
    // Fewer fit into what the server had freed before.
    if subscribers >= 1_000 {
        report("memory of each", "KiB", Some(GOAL_KIB), Measured::Rounds(vec![ours.kib]));
    }
    report("processor time of each and change", "µs", None, Measured::Rounds(vec![ours.micros]));
    if let Some(theirs) = theirs {
        let peer = |rounds| Measured::Peer("Apollo Server and graphql-ws".to_owned(), rounds);
        report("until the last one has it", "ms", None, peer(ours.last_ms.into_iter().zip(theirs.last_ms).collect()));
        report("memory of each", "KiB", None, peer(vec![(ours.kib, theirs.kib)]));
        report("processor time of each and change", "µs", None, peer(vec![(ours.micros, theirs.micros)]));
    }
}

async fn measure(subscribers: usize, server: Server) -> Fanout {
    let received = Rc::new(Received::default());
    let subscribe = |i: usize| {
        let (address, token, received) = (server.sockets, server.tokens[i % SESSIONS].clone(), Rc::clone(&received));
        async move {
            let mut subscriber = Subscriber::connect(address, &token).await;
            received.arrived();
            subscriber.listen(&received).await;
        }
    };
    let mut author = Author::connect(&server).await;
    // The first subscriber costs more than each further one.
    tokio::task::spawn_local(subscribe(0));
    received.reach(1).await;
    author.rename(0).await;
    received.reach(1).await;
    drop(author);
    let before = resident(server.child.id());
    for i in 1..=subscribers {
        tokio::task::spawn_local(subscribe(i));
        // No more at once than a listener's queue holds.
        if i % 64 == 0 || i == subscribers {
            let connected = if i % 64 == 0 { 64 } else { i % 64 };
            received.reach(connected).await;
        }
    }
    let everybody = subscribers + 1;
    // Node.js closes a connection that was idle for 5 s.
    let mut author = Author::connect(&server).await;
    let mut times = Vec::with_capacity(CHANGES);
    let mut used = Duration::ZERO;
    for change in 1..=CHANGES + 1 {
        tokio::time::sleep(PAUSE).await;
        let busy = processor_time(server.child.id());
        let began = Instant::now();
        let (_, (first, last)) = tokio::join!(author.rename(change), received.reach(everybody));
        // The first change only shows that all of them are subscribed.
        if change > 1 {
            times.push((last - began, first - began));
            used += processor_time(server.child.id()) - busy;
        }
    }
    tokio::time::sleep(PAUSE).await;
    let bytes = resident(server.child.id()).saturating_sub(before);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Fanout {
        first_ms: times.iter().map(|(_, first)| ms(*first)).collect(),
        last_ms: times.iter().map(|(last, _)| ms(*last)).collect(),
        kib: bytes as f64 / 1024.0 / subscribers as f64,
        micros: used.as_secs_f64() * 1e6 / (CHANGES * everybody) as f64,
    }
}

/// The changes that subscribers have received since the last look: their number, and the times of the first and the last.
#[derive(Default)]
struct Received {
    times: RefCell<Vec<Instant>>,
    more: Notify,
}

impl Received {
    fn arrived(&self) {
        self.times.borrow_mut().push(Instant::now());
        self.more.notify_one();
    }

    /// Waits for so many. Each subscriber gets each change once: more would be seen at the next.
    async fn reach(&self, count: usize) -> (Instant, Instant) {
        let all = async {
            while self.times.borrow().len() < count {
                self.more.notified().await;
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(60), all).await;
        let times = std::mem::take(&mut *self.times.borrow_mut());
        all.unwrap_or_else(|_| panic!("{} of {count} heard", times.len()));
        assert_eq!(times.len(), count, "somebody heard twice");
        (times[0], times[count - 1])
    }
}

/// As little of a client as will do: it counts the frames that are results.
struct Subscriber {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Subscriber {
    async fn connect(address: SocketAddr, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let upgrade = "GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            sec-websocket-protocol: graphql-transport-ws\r\n\r\n";
        stream.write_all(upgrade.as_bytes()).await.expect("an upgrade");
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut this = Self { stream, buffer: Vec::new() };
        let init = format!(r#"{{"type":"connection_init","payload":{{"authorization":"Bearer {token}"}}}}"#);
        this.send(&init).await;
        let acknowledged = this.next().await;
        assert!(acknowledged.contains("connection_ack"), "{acknowledged}");
        this.send(&format!(r#"{{"type":"subscribe","id":"1","payload":{{"query":"{DOCUMENT}"}}}}"#)).await;
        this
    }

    async fn listen(&mut self, received: &Received) {
        loop {
            // Nearly always it comes whole and alone.
            let mut part = [0; 1024];
            let read = self.stream.read(&mut part).await.expect("a frame");
            let length = usize::from(u16::from_be_bytes([part[2], part[3]]));
            let whole = self.buffer.is_empty() && part[..2] == [0x81, 126] && read == 4 + length;
            if !whole {
                assert!(read > 0, "the server hung up");
                self.buffer.extend(&part[..read]);
                let message = self.next().await;
                assert!(message.contains(r#""type":"next""#), "{message}");
            }
            received.arrived();
        }
    }

    /// Frames of a client are masked; with zeros they stay as they are.
    async fn send(&mut self, text: &str) {
        let length = u16::try_from(text.len()).expect("a short message");
        assert!(length > 125, "one of the middle length");
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await.expect("a message");
    }

    /// The next message of text.
    async fn next(&mut self) -> String {
        loop {
            let header = match self.buffer.get(1) {
                Some(126) => 4,
                _ => 2,
            };
            if self.buffer.len() >= header {
                let length = match header {
                    4 => usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])),
                    _ => usize::from(self.buffer[1]),
                };
                assert!(length < 127 || header == 4, "no long frames");
                if self.buffer.len() >= header + length {
                    let frame: Vec<u8> = self.buffer.drain(..header + length).collect();
                    if frame[0] == 0x81 {
                        return String::from_utf8(frame[header..].to_vec()).expect("text");
                    }
                    assert_eq!(frame[0], 0x89, "only messages and pings");
                    continue;
                }
            }
            let mut part = [0; 4096];
            let read = self.stream.read(&mut part).await.expect("a frame");
            assert!(read > 0, "the server hung up");
            self.buffer.extend(&part[..read]);
        }
    }
}

/// Makes the changes.
struct Author {
    stream: TcpStream,
    token: String,
    system: String,
}

impl Author {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, token: server.tokens[0].clone(), system: server.system.clone() }
    }

    async fn rename(&mut self, change: usize) {
        let body = format!(
            r#"{{"query":"mutation {{ renameSystem(id: \"{}\", name: \"Renamed {change:03}\") {{ system {{ id }} }} }}"}}"#,
            self.system
        );
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = vec![0; 4096];
        let read = self.stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("errors"), "{answer}");
    }
}

/// A server in a process of its own.
struct Server {
    child: child::Server,
    address: SocketAddr,
    /// Where subscribers connect to.
    sockets: SocketAddr,
    system: String,
    tokens: Vec<String>,
}

impl Server {
    fn start() -> Self {
        let mut child = child::Server::start_self(&[], 2 + SESSIONS);
        let tokens = child.lines.split_off(2);
        let address = child.lines[0].parse().expect("an address");
        Self { address, sockets: address, system: child.lines[1].clone(), tokens, child }
    }

    /// It needs no tokens. `None` if it is not installed.
    fn start_apollo() -> Option<Self> {
        let child = child::Server::start(node("apollo.mjs", &["memory", "1"])?, 2);
        let [address, sockets] = [0, 1].map(|line: usize| child.lines[line].parse().expect("an address"));
        let (system, tokens) = (format!("sys_{}", "0".repeat(26)), vec!["none ".repeat(20); SESSIONS]);
        Some(Self { child, address, sockets, system, tokens })
    }
}

/// Is an instance until standard input ends. Says its address, a system, and the sessions' tokens.
fn serve_until_told() {
    raise_descriptors();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).expect("a store"));
        let instance = Instance::start(&store, false).await;
        let opened = instance.operator("default", "admin").await;
        assert!(instance.coherence.read(|_| ()).is_some(), "callers are looked up in memory");
        let service = &instance.service;
        let request = service.request(None);
        let system = service.create_system(&opened.caller(), request, "Renamed 999", None).await.expect("a system");
        let features = PublicFeatures { introspection: true, graphiql: false, answer_bytes: 0 };
        let public = http::public_routes(Arc::clone(service), Front::default(), features, CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}\n{}", listener.local_addr().expect("an address"), system.id);
        tokio::spawn(serve(listener, public, ServeLimits::default(), CancellationToken::new()));
        for _ in 0..SESSIONS {
            println!("{}", instance.sign_in("admin").await.token);
        }
    });
    // Until it ends.
    let _ = std::io::stdin().lines().count();
}
