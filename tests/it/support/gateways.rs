//! Real gateways, configured by the files in `docs/gateways/`, with clients and an API.

use std::collections::BTreeSet;
use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, Uri};
use keymark::http::serve::{Client as Peer, Handler, Quick, RequestBody, ServeLimits, serve};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::actors::Answer;
use super::process::Log;
use super::within;

/// The addresses that a user of the configurations changes.
const LISTENER: &str = "127.0.0.1:9000";
const KEYMARK: &str = "127.0.0.1:8081";
const API: &str = "127.0.0.1:3000";
const HAPROXY_ITSELF: &str = "127.0.0.1:9001";

#[derive(Clone, Copy, Debug)]
pub enum Program {
    Nginx,
    Caddy,
    Haproxy,
}

impl Program {
    /// The documented configuration.
    fn documented(self) -> &'static str {
        match self {
            Self::Nginx => include_str!("../../../docs/gateways/nginx.conf"),
            Self::Caddy => include_str!("../../../docs/gateways/Caddyfile"),
            Self::Haproxy => include_str!("../../../docs/gateways/haproxy.cfg"),
        }
    }

    /// The lines to delete so that the gateway forwards the key.
    pub fn key_removal(self) -> [&'static str; 2] {
        match self {
            Self::Nginx => [r#"proxy_set_header X-Api-Key "";"#, r#"proxy_set_header Authorization "";"#],
            Self::Caddy => ["request_header -X-Api-Key\n", "request_header -Authorization\n"],
            Self::Haproxy => ["http-request del-header x-api-key", "http-request del-header authorization"],
        }
    }
}

/// Changes to the documented configuration.
#[derive(Default)]
pub struct Changes {
    pub deleted: Vec<&'static str>,
    pub replaced: Vec<(&'static str, &'static str)>,
    /// Whether [`Gateway::reload`] is used.
    pub reloads: bool,
    pub verifier_token: Option<&'static str>,
}

/// A running gateway.
pub struct Gateway {
    program: Program,
    process: Child,
    /// Whether the process has children, which are in its process group.
    has_children: bool,
    pub address: SocketAddr,
    directory: TempDir,
    output: Log,
}

impl Gateway {
    pub async fn start(program: Program, keymark: SocketAddr, api: SocketAddr, changes: Changes) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // HAProxy inherits its listener as standard input, so clients can connect before it runs. The others log when
        // they listen.
        let (inherited, address) = match program {
            Program::Haproxy => {
                let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
                listener.set_nonblocking(true).expect("set");
                let address = listener.local_addr().expect("an address");
                (Some(OwnedFd::from(listener)), address)
            }
            Program::Nginx | Program::Caddy => (None, free_address()),
        };
        let configuration = configuration(program, directory.path(), [address, keymark, api], &changes);
        let file = directory.path().join("configuration");
        std::fs::write(&file, configuration).expect("written");
        let mut command = match program {
            Program::Nginx => Command::new("nginx"),
            Program::Caddy => Command::new("caddy"),
            Program::Haproxy => Command::new("haproxy"),
        };
        let has_children = changes.reloads && matches!(program, Program::Nginx);
        match program {
            // One process, so that nothing of it outlives a test, unless it has to reload.
            Program::Nginx => {
                let master = if has_children { "on" } else { "off" };
                let directives =
                    format!("daemon off; master_process {master}; pid nginx.pid; error_log stderr notice;");
                command.args(["-e", "stderr", "-g", &directives])
            }
            Program::Caddy => command.args(["run", "--adapter", "caddyfile"]),
            Program::Haproxy => command.arg("-db"),
        };
        match program {
            Program::Nginx => command.arg("-p").arg(directory.path()).arg("-c").arg(&file),
            Program::Caddy => command.arg("--config").arg(&file),
            Program::Haproxy => command.arg("-f").arg(&file),
        };
        // Debian keeps some of them where only root looks.
        let path = std::env::var("PATH").expect("a path") + ":/usr/local/sbin:/usr/sbin";
        command.env_clear().env("PATH", path).env("HOME", directory.path()).current_dir(directory.path());
        if let Some(token) = changes.verifier_token {
            command.env("KEYMARK_VERIFIER_TOKEN", token);
        }
        if has_children {
            command.process_group(0);
        }
        command.stdin(inherited.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}: see scripts/need.sh"));
        let outputs: [Box<dyn AsyncRead + Send + Unpin>; 2] =
            [Box::new(process.stdout.take().expect("piped")), Box::new(process.stderr.take().expect("piped"))];
        let mut output = Log::collect(outputs);
        match program {
            Program::Nginx => output.wait_for(r#"using the "epoll" event method"#).await,
            Program::Caddy => output.wait_for("serving initial configuration").await,
            Program::Haproxy => {}
        }
        Self { program, process, has_children, address, directory, output }
    }

    /// Has the process that serves the connections so far end, as when another one replaces it.
    pub fn reload(&self) {
        let signal = match self.program {
            Program::Nginx => Signal::HUP,
            Program::Haproxy => Signal::USR1,
            Program::Caddy => panic!("a reload needs Caddy's administration"),
        };
        kill_process(self.pid().expect("running"), signal).expect("sent");
    }

    fn pid(&self) -> Option<Pid> {
        self.process.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// The log so far, requests and errors.
    pub fn log(&self) -> String {
        self.output.text() + &std::fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(group) = self.pid().filter(|_| self.has_children) {
            kill_process_group(group, Signal::KILL).expect("sent");
        }
        if std::thread::panicking() {
            eprintln!("the gateway's log: {}", self.log());
        }
    }
}

/// The documented configuration with these addresses, and with all files in `directory`.
fn configuration(program: Program, directory: &Path, addresses: [SocketAddr; 3], changes: &Changes) -> String {
    let mut text = program.documented().to_owned();
    let mut replace = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in the configuration of {program:?}");
        text = text.replace(from, to);
    };
    let [listener, keymark, api] = addresses;
    match program {
        Program::Nginx => replace(LISTENER, &listener.to_string()),
        Program::Caddy => replace(":9000", &format!(":{}", listener.port())),
        Program::Haproxy => replace(LISTENER, "fd@0"),
    }
    replace(KEYMARK, &keymark.to_string());
    replace(API, &api.to_string());
    match program {
        Program::Nginx => {
            let paths =
                ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};"));
            replace("http {", &format!("http {{ {}", paths.concat()));
            replace("/var/log/nginx", &directory.display().to_string());
            if let Some(token) = changes.verifier_token {
                replace(r#"X-Keymark-Verifier-Token "";"#, &format!(r#"X-Keymark-Verifier-Token "{token}";"#));
            }
        }
        Program::Caddy => {}
        Program::Haproxy => {
            let lua = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateways");
            replace("/etc/haproxy", &lua.display().to_string());
            replace(HAPROXY_ITSELF, &free_address().to_string());
        }
    }
    for deleted in &changes.deleted {
        replace(deleted, "");
    }
    for (from, to) in &changes.replaced {
        replace(from, to);
    }
    match program {
        // Its administration would be at one port for all.
        Program::Caddy => text.replacen("{\n\tservers", "{\n\tadmin off\n\tservers", 1),
        Program::Nginx | Program::Haproxy => text,
    }
}

/// An address at which nothing listens. Its port is below those that Linux assigns for port 0, so that no other
/// listener or client of the tests takes it before the gateway does.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 200).expect("small") * 100;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A handler whose requests are noted, and may be held back.
#[derive(Clone)]
struct Noted<H> {
    handler: H,
    /// From which requests came.
    peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    answering: watch::Receiver<bool>,
}

impl<H: Handler> Handler for Noted<H> {
    type Body = H::Body;

    async fn handle(&self, request: Request<impl RequestBody>, client: &Peer) -> Response<H::Body> {
        self.peers.lock().unwrap().insert(client.address);
        self.answering.clone().wait_for(|answering| *answering).await.expect("held as long as it listens");
        self.handler.handle(request, client).await
    }

    fn quick(&self) -> Option<Quick> {
        self.handler.quick()
    }
}

/// A listener of this process.
pub struct Listening<H> {
    pub address: SocketAddr,
    handler: Noted<H>,
    answers: watch::Sender<bool>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl<H: Handler> Listening<H> {
    pub async fn start(handler: H) -> Self {
        let (answers, answering) = watch::channel(true);
        let handler = Noted { handler, peers: Arc::default(), answering };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, handler.clone(), ServeLimits::default(), stop.clone()));
        Self { address, handler, answers, stop, serving }
    }

    /// The number of connections on which requests came so far.
    pub fn connections(&self) -> usize {
        self.handler.peers.lock().unwrap().len()
    }

    /// Holds all responses back while `answers` is false.
    pub fn answer(&self, answers: bool) {
        self.answers.send(answers).expect("it listens");
    }

    pub async fn stop(&mut self) {
        self.stop.cancel();
        within(&mut self.serving).await.expect("ended");
    }

    /// Listens again at the same address.
    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the same port");
        self.stop = CancellationToken::new();
        self.serving = tokio::spawn(serve(listener, self.handler.clone(), ServeLimits::default(), self.stop.clone()));
    }
}

impl<H> Drop for Listening<H> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server that closes each connection as soon as a second request arrives on it, as a server that stops may do.
pub struct ClosesKeptConnections {
    pub address: SocketAddr,
    closed: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl ClosesKeptConnections {
    /// `response` is sent to the first request of each connection. Requests must have no body.
    pub async fn start(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let closed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&closed);
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut request).await? == 0 {
                            return Ok(());
                        }
                    }
                    stream.write_all(response.as_bytes()).await?;
                    if stream.read(&mut [0; 1]).await? == 1 {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Self { address, closed, serving }
    }

    /// The number of requests without a response.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Drop for ClosesKeptConnections {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An API that returns the request it received as JSON, and counts requests.
#[derive(Clone, Default)]
pub struct Echo(Arc<Mutex<usize>>);

impl Echo {
    pub fn routes(&self) -> Router {
        let echo = async |State(echo): State<Self>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            *echo.0.lock().unwrap() += 1;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = headers.iter().map(|(name, value)| json!([name.as_str(), text(value.as_bytes())]));
            let headers = headers.collect::<Vec<_>>();
            Json(json!({ "method": method.as_str(), "uri": uri.to_string(), "headers": headers, "body": text(&body) }))
        };
        Router::new().fallback(echo).with_state(self.clone())
    }

    pub fn requests(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

/// An API with requests that last: the response of `/stream` consists of the pieces that are sent to the channel.
/// `/socket` is a WebSocket that returns what it receives. `/upload` reports each piece of the request's body.
pub fn lasting_requests() -> (Router, mpsc::Sender<Bytes>, mpsc::Receiver<()>) {
    let (sender, pieces) = mpsc::channel::<Bytes>(0);
    let (reports, reported) = mpsc::channel(0);
    let (pieces, reports) = (Arc::new(Mutex::new(Some(pieces))), Arc::new(Mutex::new(Some(reports))));
    let stream = move || {
        let pieces = pieces.lock().unwrap().take().expect("one request");
        // The second header has nginx send each piece when it arrives.
        let headers = [("content-type", "text/event-stream"), ("x-accel-buffering", "no")];
        ready((headers, Body::from_stream(pieces.map(Ok::<_, std::io::Error>))))
    };
    let socket = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
        })
    };
    let upload = move |body: Body| {
        let mut reports = reports.lock().unwrap().take().expect("one request");
        async move {
            let mut pieces = body.into_data_stream();
            while let Some(Ok(_)) = pieces.next().await {
                reports.send(()).await.expect("it is awaited");
            }
        }
    };
    let routes =
        Router::new().route("/stream", get(stream)).route("/socket", any(socket)).route("/upload", post(upload));
    (routes, sender, reported)
}

/// The values of a header in the request that an [`Echo`] received.
pub fn received<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let headers = answer.body["headers"].as_array().unwrap_or_else(|| panic!("headers in {answer:?}"));
    let named = headers.iter().filter(|header| header[0] == name);
    named.map(|header| header[1].as_str().expect("text")).collect()
}

/// The names of all headers in the request that an [`Echo`] received.
pub fn received_names(answer: &Answer) -> Vec<&str> {
    let headers = answer.body["headers"].as_array().unwrap_or_else(|| panic!("headers in {answer:?}"));
    headers.iter().map(|header| header[0].as_str().expect("text")).collect()
}

/// A client of the API behind a gateway. It keeps its connection open.
pub struct Client {
    client: reqwest::Client,
    origin: String,
}

impl Client {
    pub fn of(gateway: &Gateway) -> Self {
        Self::at(gateway, IpAddr::from(Ipv4Addr::LOCALHOST))
    }

    /// A client with this source address.
    pub fn at(gateway: &Gateway, address: IpAddr) -> Self {
        let client = reqwest::Client::builder().local_address(address).no_proxy().build().expect("a client");
        Self { client, origin: format!("http://{}", gateway.address) }
    }

    pub async fn get(&self, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, "/orders?page=2", headers, "").await
    }

    /// Sends the request; returns the response as soon as its head has arrived.
    pub async fn begin(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> reqwest::Response {
        let mut request = self.client.request(method, format!("{}{path}", self.origin)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        within(request.send()).await.expect("an answer")
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.begin(method, path, headers, body).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = within(response.text()).await.expect("text");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body, text }
    }
}
