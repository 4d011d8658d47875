//! Real mongod processes: a replica set of one member that all tests of the process share, and private ones for tests
//! that stop or kill them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use keymark::domain::changes::Position;
use keymark::store::mongo::MongoOptions;
use mongodb::Client;
use mongodb::bson::{Document, doc, serialize_to_document, serialize_to_vec};
use mongodb::options::ClientOptions;
use rand::RngExt;
use tokio::sync::OnceCell;

/// The time limit for a server to start, to become primary, and to respond.
const MAX_START_TIME: Duration = Duration::from_secs(60);
/// The delay between two attempts to reach it.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A shell script that executes one command per line of its input and responds to each with a line. When its input
/// ends, which happens however the test process ends, it kills the server and removes its directory.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
directory=$1
shift
pid=
while read -r order; do
    case $order in
        start) "$@" </dev/null >/dev/null 2>&1 & pid=$! ;;
        kill) kill -KILL "$pid"; wait "$pid" ;;
        STOP)
            kill -STOP "$pid"
            # Threads stop a little after the signal.
            while grep -Ls '^State:[[:space:]]*[Tt]' /proc/"$pid"/task/*/status | grep -q .; do :; done
            ;;
        *) kill -"$order" "$pid" ;;
    esac 2>/dev/null
    echo "$?"
done
kill -KILL "$pid"
wait "$pid"
rm -rf "$directory"
"#;

/// A running mongod. It ends when this value is dropped, or with the process.
pub struct Mongod {
    port: u16,
    replica_set: bool,
    watchdog: Mutex<Watchdog>,
}

struct Watchdog {
    child: Child,
    /// `None` once the watchdog is to end.
    orders: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Mongod {
    /// A replica set of one member, its primary.
    pub async fn replica_set() -> Self {
        let mongod = Self::start(true);
        let set = doc! { "_id": "rs0", "members": [{ "_id": 0, "host": mongod.address() }] };
        mongod.admin(doc! { "replSetInitiate": set }).await;
        mongod.wait_until_primary().await;
        mongod
    }

    /// A member of a replica set that is not initiated.
    pub async fn not_initiated() -> Self {
        let mongod = Self::start(true);
        mongod.admin(doc! { "ping": 1 }).await;
        mongod
    }

    /// A server without a replica set.
    pub async fn standalone() -> Self {
        let mongod = Self::start(false);
        mongod.admin(doc! { "ping": 1 }).await;
        mongod
    }

    fn start(replica_set: bool) -> Self {
        let (port, directory) = (free_port(), std::env::temp_dir());
        let directory = directory.join(format!("keymark-mongod-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for mongod");
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "watchdog"]).arg(&directory).arg(installed());
        command.arg("--dbpath").arg(&directory).arg("--logpath").arg(directory.join("mongod.log"));
        command.args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--nounixsocket"]);
        command.args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]);
        // Each test has a database of its own, of some 60 files. By default they stay open for ten minutes, and the last
        // tests would find no descriptor left.
        let closing = "file_manager=(close_idle_time=20,close_scan_interval=5,close_handle_minimum=500)";
        // By default pages are written from 12 MB of changes on, and each search for one visits the files of all tests:
        // a tenth of the processor time of all tests. In percent of the cache.
        let eviction = "eviction_dirty_target=60,eviction_dirty_trigger=80,eviction_updates_target=60,\
                        eviction_updates_trigger=80";
        command.args(["--wiredTigerEngineConfigString", &format!("{closing},{eviction}")]);
        // A linearizable read waits for the journal, which a set of one member writes at this interval, in ms.
        command.args(["--journalCommitInterval", "5"]);
        command.args(["--setParameter", "enableTestCommands=1"]);
        command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        if replica_set {
            command.args(["--replSet", "rs0"]);
        }
        // In a group of its own, so that an interrupt from the terminal leaves it time to clean up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("sh");
        let orders = child.stdin.take();
        let responses = BufReader::new(child.stdout.take().expect("piped"));
        let mongod = Self { port, replica_set, watchdog: Mutex::new(Watchdog { child, orders, responses }) };
        mongod.order("start");
        mongod
    }

    fn order(&self, order: &str) {
        let mut watchdog = self.watchdog.lock().unwrap();
        writeln!(watchdog.orders.as_mut().expect("still open"), "{order}").expect("a watchdog");
        let mut response = String::new();
        watchdog.responses.read_line(&mut response).expect("a watchdog");
    }

    /// Sends SIGSTOP: connections stay open, and requests get no response.
    pub fn freeze(&self) {
        self.order("STOP");
    }

    pub fn thaw(&self) {
        self.order("CONT");
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.order("kill");
    }

    /// Starts it again over the same files, and waits until it is primary.
    pub async fn restart(&self) {
        self.start_again();
        self.wait_until_primary().await;
    }

    /// Starts it again over the same files.
    pub fn start_again(&self) {
        self.order("start");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The connection string for Keymark.
    pub fn uri(&self) -> String {
        let address = self.address();
        if self.replica_set { format!("mongodb://{address}/?replicaSet=rs0") } else { format!("mongodb://{address}/") }
    }

    /// A database that no other test uses.
    pub fn fresh_database(&self) -> MongoOptions {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        MongoOptions::new(self.uri(), format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A client of the driver, for commands that the store does not offer.
    pub async fn client(&self) -> Client {
        let mut options = ClientOptions::parse(format!("mongodb://{}/", self.address())).await.expect("a URI");
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(MAX_START_TIME);
        Client::with_options(options).expect("a client")
    }

    /// Runs an administrative command, once the server accepts connections.
    pub async fn admin(&self, command: Document) -> Document {
        let admin = self.client().await.database("admin");
        within(MAX_START_TIME, async {
            loop {
                match admin.run_command(command.clone()).await {
                    Ok(response) => return response,
                    Err(error) if error.server_response().is_some() => panic!("{command}: {error}"),
                    Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        })
        .await
    }

    /// Waits until it is primary.
    async fn wait_until_primary(&self) {
        within(MAX_START_TIME, async {
            let mut hello = doc! { "hello": 1 };
            loop {
                let status = self.admin(hello).await;
                if status.get_bool("isWritablePrimary").unwrap_or(false) {
                    return;
                }
                // The server responds to this one when its role has changed.
                let version = status.get_document("topologyVersion").expect("a version").clone();
                hello = doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 1_000_i64 };
            }
        })
        .await;
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        let watchdog = self.watchdog.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        watchdog.orders = None;
        // It may be gone already; then there is nothing to wait for.
        let _ = watchdog.child.wait();
    }
}

/// Awaits the future. Panics after `limit`.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("it took longer than {limit:?}"))
}

/// The replica set that all tests of the process share. Each test has a database of its own.
pub async fn shared() -> &'static Mongod {
    static SHARED: OnceCell<Mongod> = OnceCell::const_new();
    SHARED.get_or_init(Mongod::replica_set).await
}

/// A database of the shared server that no other test uses.
pub async fn fresh_database() -> MongoOptions {
    shared().await.fresh_database()
}

/// A position from long ago, which the oplog of the shared server no longer contains.
pub async fn position_too_old() -> Position {
    let client = shared().await.client().await;
    let scratch = client.database("scratch").collection::<Document>("scratch");
    let mut stream = scratch.watch().await.expect("a change stream");
    scratch.insert_one(doc! {}).await.expect("a write");
    let event = within(MAX_START_TIME, stream.next()).await.expect("an event").expect("an event");
    let token = serialize_to_document(&event.id).expect("a token");
    // A resume token begins with a type byte and the 8 hex digits of the event's second (MongoDB 6.0,
    // `src/mongo/db/pipeline/resume_token.h`).
    let data = token.get_str("_data").expect("a token");
    let long_ago = format!("{}{:08X}{}", &data[..2], 1_000_000_000, &data[10..]);
    Position::from_bytes(serialize_to_vec(&doc! { "_data": long_ago }).expect("a token"))
}

/// The path of mongod, which is installed if it is missing.
fn installed() -> PathBuf {
    static INSTALLED: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap();
    let path = installed.get_or_insert_with(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/mongod.sh");
        let run = Command::new(script).stderr(Stdio::inherit()).output().expect("scripts/mongod.sh");
        assert!(run.status.success(), "scripts/mongod.sh installs mongod: it says above why it could not");
        PathBuf::from(String::from_utf8(run.stdout).expect("a path").trim_end())
    });
    path.clone()
}

/// A port below those that the kernel assigns to outgoing connections, so that none takes it before mongod does.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::rng().random_range(20_000..32_000));
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("endless")
}
