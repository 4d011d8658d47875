//! Keymark in this process, and its clients: operators, anonymous callers and verifiers.
//!
//! Requests go through the real routers; sockets ([`sockets`](super::sockets)) through a real listener.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::TryStreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use keymark::admin::{self, Command, Output as Answers, Socket};
use keymark::auth::cost::Cost;
use keymark::clock::{Clock, Environment, Moment, Stopwatch, SystemStopwatch};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::{Role, Timing};
use keymark::config::Config;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, TenantId};
use keymark::domain::keys::ApiKey;
use keymark::domain::permissions::{Permission, Permissions};
use keymark::domain::secrets::{Keyring, RootSecret};
use keymark::domain::time::Timestamp;
use keymark::http::front::Front;
use keymark::http::graphql::TransportLimits;
use keymark::http::hosts::Hosts;
use keymark::http::serve::{Handler, ServeLimits, serve};
use keymark::http::session_authenticator::SessionAuthenticator;
use keymark::http::verify::{Access, Routes};
use keymark::http::{self as keymark_http, PublicFeatures};
use keymark::metrics::Metrics;
use keymark::service::{Service, Settings};
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use keymark::store::intercepted::Intercepted;
use keymark::store::metrics::StoreMetrics;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::store::{LeaseStore, Store};
use keymark::verify::Verifier as Judge;
use mongodb::bson::{Bson, Document, doc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

use super::faulty::{Faulty, Switch};
use super::mongod;

/// The initial time of every app's clock.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The password of every operator.
pub const PASSWORD: &str = "correct horse battery staple";
/// The root secret of every app.
pub const SECRET: &str = "the root secret of every app under test, long enough";
/// The short names of all permission codes.
pub const ALL: [&str; 4] = ["view", "create", "edit", "delete"];
/// The codes of an operator of the platform.
pub const PLATFORM: [&str; 6] =
    ["view", "create", "edit", "delete", "tenant_management:view", "tenant_management:edit"];
/// The `Host` header of all requests.
pub const HOST_NAME: &str = "keymark.test";
pub const OWN_ORIGIN: &str = "http://keymark.test";

/// A clock that only tests move.
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).expect("a short time"), Ordering::SeqCst);
    }
}

/// The machine's stopwatch, which tests can move forward.
#[derive(Clone, Default)]
pub struct SkippingStopwatch(Arc<AtomicU64>);

impl Stopwatch for SkippingStopwatch {
    fn now(&self) -> Moment {
        SystemStopwatch.now().plus(Duration::from_nanos(self.0.load(Ordering::SeqCst)))
    }
}

impl SkippingStopwatch {
    pub fn skip(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).expect("a short time"), Ordering::SeqCst);
    }
}

/// The settings of an app. The defaults are those of most tests.
pub struct Setup {
    pub settings: Settings,
    pub timing: Timing,
    pub front: Front,
    /// The names that both listeners serve.
    pub hosts: &'static [&'static str],
    pub access: fn() -> Access,
    pub features: PublicFeatures,
    pub secret: &'static str,
    pub previous_secrets: &'static [&'static str],
    pub stopwatch: Arc<dyn Stopwatch>,
    /// Controls the app's store, which then is a [`Faulty`] one.
    pub switch: Option<Switch>,
}

impl Setup {
    /// Without leases: the instance has no cache, and each lookup reads the store.
    pub fn without_leases() -> Self {
        let setup = Self::default();
        Self { timing: Timing { lease: Duration::ZERO, ..setup.timing }, ..setup }
    }
}

impl Default for Setup {
    fn default() -> Self {
        let password_cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let config = Config::default();
        Self {
            settings: Settings { password_cost, ..config.service_settings(Role::Standalone, Duration::ZERO) },
            timing: config.timing,
            front: Front::default(),
            hosts: &[HOST_NAME],
            access: Access::default,
            features: PublicFeatures { introspection: true, graphiql: true, answer_bytes: 1 << 20 },
            secret: SECRET,
            previous_secrets: &[],
            stopwatch: Arc::new(SystemStopwatch),
            switch: None,
        }
    }
}

/// The data, shared by all instances.
enum Backend {
    Embedded { directory: TempDir, store: Arc<dyn Store> },
    Mongo(MongoOptions),
}

/// One instance of Keymark in this process.
pub struct App {
    pub service: Arc<Service>,
    pub coherence: Arc<Coherence>,
    /// The store beneath the one that the switch controls: it never fails.
    pub store: Arc<dyn Store>,
    pub clock: ManualClock,
    backend: Arc<Backend>,
    public: Router,
    verification: Routes,
    /// Starts the socket for the command line when it is first needed.
    commands: Once,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl App {
    /// An app over an embedded store of its own.
    pub async fn embedded() -> Self {
        Self::embedded_with(Setup::default()).await
    }

    pub async fn embedded_with(setup: Setup) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(EmbeddedStore::open(directory.path()).expect("a fresh store"));
        Self::start(Arc::new(Backend::Embedded { directory, store }), manual_clock(), 1, setup).await
    }

    /// An app over a MongoDB database of its own.
    pub async fn mongodb() -> Self {
        Self::mongodb_with(Setup::default()).await
    }

    pub async fn mongodb_with(setup: Setup) -> Self {
        let options = mongod::fresh_database().await;
        Self::start(Arc::new(Backend::Mongo(options)), manual_clock(), 1, setup).await
    }

    /// An app over a copy of the embedded store that release 0.1.0 wrote. The fixtures are described in `first_release`.
    pub async fn embedded_of_first_release() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/0.1.0/keymark.redb");
        std::fs::copy(fixture, directory.path().join(FILE_NAME)).expect("a copy");
        let store = Arc::new(EmbeddedStore::open(directory.path()).expect("the store opens"));
        Self::start(Arc::new(Backend::Embedded { directory, store }), manual_clock(), 1, Setup::default()).await
    }

    /// An app over a copy of the database that release 0.1.0 wrote.
    pub async fn mongodb_of_first_release() -> Self {
        let options = mongod::fresh_database().await;
        let database = mongod::shared().await.client().await.database(&options.database);
        let fixture: Json = serde_json::from_str(include_str!("../../fixtures/0.1.0/mongodb.json")).expect("JSON");
        for (name, documents) in fixture.as_object().expect("collections") {
            let documents: Vec<Document> = documents.as_array().expect("documents").iter().map(document_of).collect();
            if !documents.is_empty() {
                database.collection(name).insert_many(documents).await.expect("inserted");
            }
        }
        Self::start(Arc::new(Backend::Mongo(options)), manual_clock(), 1, Setup::default()).await
    }

    /// Another instance over the same store, with the same clock. Each needs a number of its own, which seeds its ids.
    pub async fn instance(&self, number: u64) -> Self {
        self.instance_with(number, Setup::default()).await
    }

    pub async fn instance_with(&self, number: u64, setup: Setup) -> Self {
        Self::start(Arc::clone(&self.backend), self.clock.clone(), number, setup).await
    }

    pub fn is_embedded(&self) -> bool {
        matches!(self.backend.as_ref(), Backend::Embedded { .. })
    }

    /// An instance over a copy of the store as it is now: a backup that is restored elsewhere. It has no leases, for whose end
    /// the first change would wait.
    pub async fn restored(&self, number: u64) -> Self {
        let backend = match self.backend.as_ref() {
            Backend::Embedded { directory: original, .. } => {
                let directory = copy_of(original);
                let store = EmbeddedStore::open(directory.path()).expect("a store");
                for lease in store.list_leases().await.expect("leases") {
                    store.delete_lease(&lease).await.expect("deleted");
                }
                Backend::Embedded { directory, store: Arc::new(store) }
            }
            Backend::Mongo(_) => {
                let options = mongod::fresh_database().await;
                MongoStore::connect(&options, Environment::system()).await.expect("a database");
                let copy = mongod::shared().await.client().await.database(&options.database);
                let original = self.database().await;
                for name in original.list_collection_names().await.expect("collections") {
                    let documents = original.collection::<Document>(&name).find(doc! {}).await.expect("documents");
                    let documents: Vec<_> = documents.try_collect().await.expect("documents");
                    let copied = copy.collection::<Document>(&name);
                    copied.delete_many(doc! {}).await.expect("emptied");
                    if !documents.is_empty() && name != "leases" {
                        copied.insert_many(documents).await.expect("copied");
                    }
                }
                Backend::Mongo(options)
            }
        };
        Self::start(Arc::new(backend), self.clock.clone(), number, Setup::default()).await
    }

    /// The number of rows in each table or collection of the store, those of indexes included.
    pub async fn rows(&self) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        match self.backend.as_ref() {
            Backend::Embedded { directory, .. } => {
                // A copy, since one process opens a file once.
                let copy = copy_of(directory);
                let database = redb::Database::create(copy.path().join(FILE_NAME)).expect("a store");
                let reading = database.begin_read().expect("a snapshot");
                for table in reading.list_tables().expect("tables") {
                    let name = table.name().to_owned();
                    rows.insert(name, reading.open_untyped_table(table).expect("a table").len().expect("a length"));
                }
            }
            Backend::Mongo(_) => {
                let database = self.database().await;
                for name in database.list_collection_names().await.expect("collections") {
                    let count = database.collection::<Document>(&name).count_documents(doc! {}).await.expect("a count");
                    rows.insert(name, count);
                }
            }
        }
        rows
    }

    async fn start(backend: Arc<Backend>, clock: ManualClock, number: u64, mut setup: Setup) -> Self {
        setup.front.hosts = Hosts::new(setup.hosts.iter().map(|name| name.parse().expect("a name")));
        let store: Arc<dyn Store> = match backend.as_ref() {
            Backend::Embedded { store, .. } => Arc::clone(store),
            Backend::Mongo(options) => {
                Arc::new(MongoStore::connect(options, Environment::system()).await.expect("a database"))
            }
        };
        let beneath = Arc::clone(&store);
        let store = match &setup.switch {
            Some(switch) => Arc::new(Faulty::new(store, switch.clone())),
            None => store,
        };
        let mut metrics = Metrics::default();
        let store: Arc<dyn Store> = Arc::new(Intercepted::new(store, StoreMetrics::new(metrics.registry())));
        let environment = Environment::new(Arc::new(clock.clone()), Box::new(StdRng::seed_from_u64(number)));
        let previous: Vec<RootSecret> = setup.previous_secrets.iter().map(|secret| root_secret(secret)).collect();
        let keys = Keyring::new(&root_secret(setup.secret), &previous);
        let role = Role::Member(setup.timing);
        let coherence = Coherence::new(Arc::clone(&store), environment.clone(), setup.stopwatch, role);
        let data_directory = match backend.as_ref() {
            Backend::Embedded { directory, .. } => Some(directory.path().to_owned()),
            Backend::Mongo(_) => None,
        };
        let settings = Settings { data_directory, ..setup.settings };
        let service = Service::new(Arc::clone(&store), Arc::clone(&coherence), environment, keys, settings);
        let stop = CancellationToken::new();
        let public =
            keymark_http::public_routes(Arc::clone(&service), setup.front.clone(), setup.features, stop.clone());
        let judge = Judge::new(Arc::clone(&store), Arc::clone(&coherence), Arc::clone(&service));
        coherence.register(metrics.registry());
        service.register(metrics.registry());
        setup.front.hosts.register(metrics.registry());
        let verification =
            keymark_http::verify::routes(judge, (setup.access)(), Arc::new(setup.front), Arc::new(metrics));
        let (follower, until) = (Arc::clone(&service), stop.clone());
        tokio::spawn(async move { follower.follow_feed(until).await });
        let (commands, stop_on_drop) = (Once::new(), stop.clone().drop_guard());
        Self {
            service,
            coherence,
            store: beneath,
            clock,
            backend,
            public,
            verification,
            commands,
            stop,
            _stop_on_drop: stop_on_drop,
        }
    }

    /// Waits until it uses its cache.
    pub async fn wait_for_cache(&self) {
        self.wait_until(async || self.coherence.read(|_| ()).is_some()).await;
    }

    /// Waits until the condition holds. It is evaluated again after each change of the instance's cache or lease.
    pub async fn wait_until(&self, condition: impl AsyncFn() -> bool) {
        let mut changes = self.coherence.changes();
        super::within(async {
            while !condition().await {
                changes.changed().await.expect("the app lives");
            }
        })
        .await;
    }

    /// The database of an app over MongoDB, to change it without Keymark.
    pub async fn database(&self) -> mongodb::Database {
        match self.backend.as_ref() {
            Backend::Embedded { .. } => panic!("an embedded store has no database"),
            Backend::Mongo(options) => mongod::shared().await.client().await.database(&options.database),
        }
    }

    /// Adds an operator of the tenant `acme` with these permission codes, and signs in.
    pub async fn operator(&self, codes: &[&str]) -> Operator<'_> {
        self.operator_of("acme", codes).await
    }

    pub async fn operator_of(&self, tenant: &str, codes: &[&str]) -> Operator<'_> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let username = format!("operator-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.add_operator(tenant, &username, codes).await;
        self.sign_in(&username, PASSWORD).await
    }

    pub async fn add_operator(&self, tenant: &str, username: &str, codes: &[&str]) {
        let command = Command::AddOperator {
            tenant: tenant.parse().expect("a tenant"),
            username: username.parse().expect("a username"),
            password: Some(PASSWORD.to_owned()),
            permissions: permissions(codes),
        };
        self.command(command).await.expect("added");
    }

    /// Adds an operator of the platform, whose home is this tenant, and signs in.
    pub async fn platform_operator(&self, home: &str, codes: &[&str]) -> Operator<'_> {
        let operator = self.operator_of(home, &[]).await;
        let username = operator.username.parse().expect("a username");
        let added = self.store.find_operator_by_username(&username).await.expect("read").expect("added");
        let promoted = added.promote(permissions(codes), self.clock.now()).expect("a change");
        let request_id = RequestId::new(START, &mut StdRng::seed_from_u64(promoted.revision));
        let origin = Origin { actor: AuditActor::command_line(), source_address: None, request_id };
        let (id, mut rng) = (promoted.id, StdRng::seed_from_u64(hash_of(&operator.username)));
        let entry = AuditEntryId::new(START, &mut rng);
        let event = AuditEvent::new(entry, START, &origin, AuditAction::OperatorPromoted).about_operator(&promoted);
        let batch = Batch::new(promoted.tenant.clone(), event).replace(Row::Operator(promoted));
        self.store.commit(batch).await.expect("committed");
        self.wait_until(async || {
            let cached = self.coherence.read(|cache| cache.identities.find_operator(id));
            cached.is_none_or(|cached| cached.is_some_and(|cached| cached.is_platform))
        })
        .await;
        operator
    }

    /// Signs in and uses the token as a bearer token.
    pub async fn sign_in(&self, username: &str, password: &str) -> Operator<'_> {
        let answer = self.anonymous().sign_in(username, password).await;
        let token = answer.data("signIn.token").as_str().expect("a token").to_owned();
        Operator { caller: self.anonymous().bearing(&token), username: username.to_owned(), token }
    }

    /// A caller without credentials.
    pub fn anonymous(&self) -> Caller<'_> {
        Caller { app: self, address: IpAddr::from([127, 0, 0, 1]), headers: Vec::new() }
    }

    pub fn verifier(&self) -> Verifier<'_> {
        Verifier(self)
    }

    /// Runs an administrative command in this process; returns its output.
    pub async fn command(&self, command: Command) -> Result<String, String> {
        let (outcome, said) = self.command_and_output(command).await;
        outcome.map(|()| said)
    }

    /// The same, with its output if it fails too.
    pub async fn command_and_output(&self, command: Command) -> (Result<(), String>, String) {
        let mut said = Said::default();
        let outcome = admin::run(&self.service, command, None, &mut said).await;
        (outcome, said.0.lock().unwrap().clone())
    }

    /// Runs the binary with these arguments on this app's store.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with(&[], arguments).await
    }

    /// The same, with these environment variables.
    pub async fn cli_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = super::process::keymark();
        command.envs(variables.iter().copied());
        match self.backend.as_ref() {
            Backend::Embedded { directory, .. } => {
                self.commands.call_once(|| {
                    let socket = Socket::bind(directory.path()).expect("a socket");
                    tokio::spawn(socket.serve(Arc::clone(&self.service), self.stop.clone()));
                });
                command.env("KEYMARK_DATA_DIR", directory.path());
            }
            Backend::Mongo(options) => {
                command.env("KEYMARK_MONGODB_URI", &options.uri).env("KEYMARK_MONGODB_DATABASE", &options.database);
                command.env("KEYMARK_SECRET", SECRET);
            }
        }
        super::within(command.args(arguments).output()).await.expect("the binary runs")
    }

    /// Serves the public routes on a port.
    pub async fn listen(&self) -> SocketAddr {
        self.listen_with(self.public.clone()).await
    }

    /// Serves only the API on a port, with these limits.
    pub async fn listen_within(&self, limits: TransportLimits) -> SocketAddr {
        let authenticator = SessionAuthenticator::new(Arc::clone(&self.service), Arc::default());
        let schema = keymark::graphql::schema(Arc::clone(&self.service), true);
        self.listen_with(keymark_http::graphql::routes(schema, authenticator, limits, self.stop.clone())).await
    }

    /// Serves the verification routes on a port.
    pub async fn listen_for_verifiers(&self) -> SocketAddr {
        self.listen_with(self.verification.clone()).await
    }

    async fn listen_with(&self, handler: impl Handler) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, handler, ServeLimits::default(), self.stop.clone()));
        address
    }

    pub fn verification_routes(&self) -> Routes {
        self.verification.clone()
    }

    /// Shuts the app down, as SIGTERM does.
    pub fn shut_down(&self) {
        self.stop.cancel();
    }

    /// All entries of a tenant's audit log, oldest first.
    pub async fn log_of(&self, tenant: &str) -> Vec<Json> {
        // What is written behind answers, such as a failed sign-in, may be under way.
        super::within(self.service.finish()).await;
        let tenant: TenantId = tenant.parse().expect("a tenant");
        let entries = self.store.list_audit_after(&tenant, 0, 500).await.expect("a log");
        entries.iter().map(|entry| serde_json::to_value(entry).expect("an entry")).collect()
    }
}

/// Reads a document from canonical Extended JSON whose only numbers are of 64 bits.
fn document_of(json: &Json) -> Document {
    bson_of(json).as_document().expect("a document").clone()
}

fn bson_of(json: &Json) -> Bson {
    match json {
        Json::Null => Bson::Null,
        Json::Bool(value) => Bson::Boolean(*value),
        Json::String(text) => Bson::String(text.clone()),
        Json::Array(items) => Bson::Array(items.iter().map(bson_of).collect()),
        Json::Object(members) => match members.get("$numberLong") {
            Some(number) => Bson::Int64(number.as_str().expect("digits").parse().expect("a number")),
            None => Bson::Document(members.iter().map(|(name, value)| (name.clone(), bson_of(value))).collect()),
        },
        Json::Number(number) => panic!("{number} is not in canonical form"),
    }
}

fn manual_clock() -> ManualClock {
    ManualClock(Arc::new(AtomicI64::new(START.as_millis())))
}

/// A copy of an embedded store as it is now.
fn copy_of(directory: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    std::fs::copy(directory.path().join(FILE_NAME), copy.path().join(FILE_NAME)).expect("a copy");
    copy
}

pub fn root_secret(text: &str) -> RootSecret {
    RootSecret::new(text.as_bytes().to_vec()).expect("long enough")
}

/// A seed that differs from text to text.
fn hash_of(text: &str) -> u64 {
    text.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(257).wrapping_add(byte.into()))
}

/// A well-formed key that no system has.
pub fn unknown_key() -> String {
    ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(99)).expose().to_owned()
}

/// Parses permission codes: the short names `view`, `create`, `edit`, `delete`, or whole codes.
pub fn permissions(codes: &[&str]) -> Permissions {
    let parse = |code: &&str| match code.contains(':') {
        true => code.parse::<Permission>().expect("a code"),
        false => format!("api_key_management:{code}").parse().expect("a code"),
    };
    codes.iter().map(parse).collect()
}

#[derive(Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Answers for Said {
    async fn write(&mut self, text: String) -> std::io::Result<()> {
        self.0.lock().unwrap().push_str(&text);
        Ok(())
    }
}

/// Sends requests from an address, with or without credentials.
#[derive(Clone)]
pub struct Caller<'a> {
    pub app: &'a App,
    address: IpAddr,
    pub headers: Vec<(String, String)>,
}

impl<'a> Caller<'a> {
    pub fn from(mut self, address: &str) -> Self {
        self.address = address.parse().expect("an address");
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn bearing(self, token: &str) -> Self {
        self.with(AUTHORIZATION.as_str(), format!("Bearer {token}"))
    }

    /// Sends the token in the cookie, as a browser does.
    pub fn with_cookie(self, token: &str) -> Self {
        self.with("cookie", format!("theme=dark; keymark-session={token}"))
    }

    /// Sends the `Origin` of the console's own pages.
    pub fn on_own_page(self) -> Self {
        self.with("origin", OWN_ORIGIN)
    }

    pub async fn query(&self, document: &str, variables: Json) -> Answer {
        let body = json!({ "query": document, "variables": variables }).to_string();
        self.send(Method::POST, "/graphql", &[(CONTENT_TYPE.as_str(), "application/json")], body).await
    }

    pub async fn sign_in(&self, username: &str, password: &str) -> Answer {
        let document = "mutation ($u: String!, $p: String!) {
            signIn(username: $u, password: $p) { token expiresAt viewer { username permissions } } }";
        self.query(document, json!({ "u": username, "p": password })).await
    }

    pub async fn get(&self, address: &str) -> Answer {
        self.send(Method::GET, address, &[], String::new()).await
    }

    pub async fn send(&self, method: Method, address: &str, headers: &[(&str, &str)], body: String) -> Answer {
        Answer::read(self.begin(method, address, headers, body).await).await
    }

    /// Sends a request; returns the response with its body unread.
    pub async fn begin(
        &self,
        method: Method,
        address: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> http::Response<Body> {
        let mut request = self.request(method, address, headers, body.into());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(self.address, 40_000)));
        super::within(self.app.public.clone().oneshot(request)).await.expect("infallible")
    }

    /// Sends a request to the verification routes.
    pub async fn ask(&self, method: Method, address: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let request = self.request(method, address, headers, body);
        let response = super::within(self.app.verification.answer(request, self.address)).await;
        Answer::read(response.map(Body::new)).await
    }

    fn request(&self, method: Method, address: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(address).header(HOST, HOST_NAME);
        request = request.header(ACCEPT, "application/graphql-response+json, */*;q=0.1");
        for (name, value) in self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain(headers.iter().copied()) {
            request = request.header(name, value);
        }
        request.body(body).expect("a request")
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body as JSON; null if it is not JSON.
    pub body: Json,
    pub text: String,
}

impl Answer {
    pub async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = super::within(body.collect()).await.expect("a whole body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let body = serde_json::from_str(&text).unwrap_or(Json::Null);
        Self { status: parts.status, headers: parts.headers, body, text }
    }

    /// The value at a path such as `createSystem.system.id`. Panics if the response has errors.
    pub fn data(&self, path: &str) -> &Json {
        assert!(self.body.get("errors").is_none(), "{}", self.text);
        let pointer = format!("/data/{}", path.replace('.', "/"));
        self.body.pointer(&pointer).unwrap_or_else(|| panic!("{path} in {}", self.text))
    }

    /// The code of the error; `None` if there is none. Panics if there are several.
    pub fn code(&self) -> Option<&str> {
        let errors = self.body.get("errors")?.as_array()?;
        assert_eq!(errors.len(), 1, "{}", self.text);
        errors[0].pointer("/extensions/code")?.as_str()
    }

    /// The message and extensions of the first error.
    pub fn error(&self) -> Json {
        let error = self.body.pointer("/errors/0").unwrap_or_else(|| panic!("an error in {}", self.text));
        json!({ "message": error["message"], "extensions": error["extensions"] })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("an ASCII header"))
    }
}

/// A system as clients see it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct System {
    pub id: String,
    pub name: String,
    pub key_state: String,
    pub key_mark: Option<String>,
    pub revision: u64,
    pub created_at: String,
    pub updated_at: String,
}

pub const SYSTEM: &str = "id name keyState keyMark revision createdAt updatedAt";

/// A key that was just generated.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generated {
    pub api_key: String,
    pub system: System,
}

/// A signed-in operator.
pub struct Operator<'a> {
    caller: Caller<'a>,
    pub username: String,
    pub token: String,
}

impl<'a> std::ops::Deref for Operator<'a> {
    type Target = Caller<'a>;

    fn deref(&self) -> &Caller<'a> {
        &self.caller
    }
}

fn read<T: serde::de::DeserializeOwned>(data: &Json) -> T {
    serde_json::from_value(data.clone()).expect("the shape that was selected")
}

impl<'a> Operator<'a> {
    /// The same operator with the same token, as a client of another instance.
    pub fn at<'b>(&self, app: &'b App) -> Operator<'b> {
        let (username, token) = (self.username.clone(), self.token.clone());
        Operator { caller: app.anonymous().bearing(&token), username, token }
    }

    /// The same operator, who acts in this tenant.
    pub fn acting_in(&self, tenant: &str) -> Self {
        let caller = self.caller.clone().with("x-keymark-tenant", tenant);
        Self { caller, username: self.username.clone(), token: self.token.clone() }
    }

    pub async fn try_create_system(&self, name: &str) -> Answer {
        let document = format!("mutation ($name: String!) {{ createSystem(name: $name) {{ system {{ {SYSTEM} }} }} }}");
        self.query(&document, json!({ "name": name })).await
    }

    pub async fn create_system(&self, name: &str) -> System {
        read(self.try_create_system(name).await.data("createSystem.system"))
    }

    pub async fn try_rename_system(&self, id: &str, name: &str, expected_revision: Option<u64>) -> Answer {
        let document = format!(
            "mutation ($id: ID!, $name: String!, $revision: Int) {{
                renameSystem(id: $id, name: $name, expectedRevision: $revision) {{ system {{ {SYSTEM} }} }} }}"
        );
        self.query(&document, json!({ "id": id, "name": name, "revision": expected_revision })).await
    }

    pub async fn rename_system(&self, id: &str, name: &str) -> System {
        read(self.try_rename_system(id, name, None).await.data("renameSystem.system"))
    }

    pub async fn try_delete_system(&self, id: &str) -> Answer {
        let document = "mutation ($id: ID!) { deleteSystem(id: $id) {
            deletedSystemId enforcement { state elapsedMs instances enforcedNoLaterThan } } }";
        self.query(document, json!({ "id": id })).await
    }

    pub async fn delete_system(&self, id: &str) {
        assert_eq!(self.try_delete_system(id).await.data("deleteSystem.deletedSystemId"), id);
    }

    pub async fn try_generate_key(&self, id: &str) -> Answer {
        let document = format!(
            "mutation ($id: ID!) {{
                generateKey(systemId: $id) {{ apiKey system {{ {SYSTEM} }} enforcement {{ state instances }} }} }}"
        );
        self.query(&document, json!({ "id": id })).await
    }

    pub async fn generate_key(&self, id: &str) -> Generated {
        read(self.try_generate_key(id).await.data("generateKey"))
    }

    pub async fn try_revoke_key(&self, id: &str) -> Answer {
        let document = format!(
            "mutation ($id: ID!) {{ revokeKey(systemId: $id) {{
                system {{ {SYSTEM} }} enforcement {{ state elapsedMs instances enforcedNoLaterThan }} }} }}"
        );
        self.query(&document, json!({ "id": id })).await
    }

    pub async fn revoke_key(&self, id: &str) -> System {
        read(self.try_revoke_key(id).await.data("revokeKey.system"))
    }

    pub async fn find_system(&self, id: &str) -> Option<System> {
        let document = format!("query ($id: ID!) {{ system(id: $id) {{ {SYSTEM} }} }}");
        read(self.query(&document, json!({ "id": id })).await.data("system"))
    }

    pub async fn sign_out(&self) -> Answer {
        self.query("mutation { signOut { signedOut } }", json!({})).await
    }

    pub async fn change_password(&self, current: &str, new: &str) -> Answer {
        let document = "mutation ($current: String!, $new: String!) {
            changePassword(currentPassword: $current, newPassword: $new) { token expiresAt viewer { username } } }";
        self.query(document, json!({ "current": current, "new": new })).await
    }

    /// Whether the token is still valid.
    pub async fn is_signed_in(&self) -> bool {
        let answer = self.query("{ viewer { username } }", json!({})).await;
        match answer.status {
            StatusCode::OK => answer.data("viewer.username") == self.username.as_str(),
            StatusCode::UNAUTHORIZED => false,
            other => panic!("{other}: {}", answer.text),
        }
    }

    /// The cursor of the newest audit entry: later entries come after it.
    pub async fn newest_cursor(&self) -> String {
        let answer = self.query("{ auditLog(first: 1) { nodes { cursor } } }", json!({})).await;
        answer.data("auditLog.nodes.0.cursor").as_str().expect("a cursor").to_owned()
    }

    pub async fn audit_cursor(&self) -> String {
        let answer = self.query("{ auditCursor }", json!({})).await;
        answer.data("auditCursor").as_str().expect("a cursor").to_owned()
    }

    /// Replaces the operator's permission codes.
    pub async fn may(&self, codes: &[&str]) {
        let username = self.username.parse().expect("a username");
        let command = Command::SetPermissions { username, permissions: permissions(codes), all: false };
        self.app.command(command).await.expect("changed");
    }

    /// Calls a mutation of tenants that returns a `TenantPayload`, with these arguments besides the id.
    pub async fn change_tenant(&self, mutation: &str, id: &str, arguments: &str) -> Answer {
        let document = format!(
            "mutation ($id: ID!) {{ {mutation}(id: $id {arguments}) {{
                tenant {{ id name suspendedAt policy {{ maxKeyLifetimeDays sessionIdleMinutes }} systemCount }}
                enforcement {{ state instances }} }} }}"
        );
        self.query(&document, json!({ "id": id })).await
    }

    pub async fn suspend_tenant(&self, id: &str) {
        let suspended = self.change_tenant("suspendTenant", id, "").await;
        assert_eq!(suspended.data("suspendTenant.enforcement.state"), "ENFORCED");
    }

    pub async fn resume_tenant(&self, id: &str) {
        let resumed = self.change_tenant("resumeTenant", id, "").await;
        assert_eq!(resumed.data("resumeTenant.enforcement.state"), "ENFORCED");
    }

    pub async fn delete_tenant(&self, id: &str) -> Answer {
        let document = "mutation ($id: ID!) { deleteTenant(id: $id) { deletedTenantId } }";
        self.query(document, json!({ "id": id })).await
    }

    /// Removes the operator.
    pub async fn be_removed(&self) {
        let username = self.username.parse().expect("a username");
        self.app.command(Command::RemoveOperator { username }).await.expect("removed");
    }
}

/// A client of the verification routes, such as a gateway.
#[derive(Clone, Copy)]
pub struct Verifier<'a>(&'a App);

impl Verifier<'_> {
    pub async fn verify(&self, api_key: &str) -> Answer {
        let body = json!({ "apiKey": api_key }).to_string();
        self.send(Method::POST, "/v1/verify", &[(CONTENT_TYPE.as_str(), "application/json")], body).await
    }

    /// The code of the verdict.
    pub async fn code(&self, api_key: &str) -> String {
        let answer = self.verify(api_key).await;
        assert_eq!(answer.body["valid"], answer.body["code"] == "VALID", "{}", answer.text);
        answer.body["code"].as_str().expect("a code").to_owned()
    }

    pub async fn forward_auth(&self, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, "/v1/forward-auth", headers, String::new()).await
    }

    pub async fn send(&self, method: Method, address: &str, headers: &[(&str, &str)], body: String) -> Answer {
        self.send_from("127.0.0.1", method, address, headers, body).await
    }

    pub async fn send_from(
        &self,
        peer: &str,
        method: Method,
        address: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        self.0.anonymous().from(peer).ask(method, address, headers, Body::from(body)).await
    }
}
