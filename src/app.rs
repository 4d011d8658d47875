//! The composition root: a configuration becomes a running Keymark. Here alone the backends of the store are named.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::admin::Socket;
use crate::clock::{Environment, SystemStopwatch};
use crate::coherence::Coherence;
use crate::coherence::protocol::{Role, Timing};
use crate::config::{Config, ConfigError, StoreConfig, root_secret};
use crate::domain::operators::Password;
use crate::domain::secrets::{Keyring, RootSecret};
use crate::http::serve::{ServeLimits, serve};
use crate::http::{self, Shown};
use crate::metrics::Metrics;
use crate::service::operators::FIRST_USERNAME;
use crate::service::{Service, Settings, error};
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::intercepted::Intercepted;
use crate::store::metrics::StoreMetrics;
use crate::store::mongo::{ConnectError, MongoOptions, MongoStore};
use crate::store::{Store, StoreError};
use crate::verify::Verifier;

/// The root secret, in the data directory.
const SECRET_NAME: &str = "secret";
/// The setting of the store that says which root secret it belongs to.
const FINGERPRINT: &str = "secret-fingerprint";
/// The setting of the store that says how long the leases of its instances last, in milliseconds.
const LEASE: &str = "lease-ms";
/// How long a process that is alone waits at most for its own feed, and how much longer than a proof may take.
const OWN_FEED: Duration = Duration::from_secs(12);
const ENFORCEMENT_SLACK: Duration = Duration::from_secs(1);
/// How often what is past its retention is removed, and how often refused attempts are looked after.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
const REFUSALS_INTERVAL: Duration = Duration::from_secs(60);
/// From the signal to the end, whatever is under way.
const SHUTDOWN: Duration = Duration::from_millis(9500);

/// Why Keymark does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be used: exit code 2.
    Config(ConfigError),
    /// Something outside cannot be used: exit code 1.
    Failed(String),
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<error::Error> for StartError {
    fn from(error: error::Error) -> Self {
        Self::Failed(error.cause().map_or_else(|| error.to_string(), ToString::to_string))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// What an app is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Serving,
    /// One command, which answers nobody from memory.
    Command,
    /// To look whether it can be opened: nothing is decided for whoever comes later.
    Inspection,
}

/// The store and the service over it, before anything listens.
pub struct App {
    pub service: Arc<Service>,
    pub coherence: Arc<Coherence>,
    pub metrics: Arc<Metrics>,
    pub store: Arc<dyn Store>,
    /// The data directory, with the embedded store.
    pub directory: Option<PathBuf>,
}

impl App {
    /// Opens the store that is there; refuses a data directory that holds none.
    pub async fn open_existing(config: &mut Config, purpose: Purpose) -> Result<Self, StartError> {
        if let StoreConfig::Embedded { directory } = &config.store
            && !holds_store(directory)
        {
            let reason = format!("there is no store in {}", directory.display());
            return Err(ConfigError::new("--data-dir", reason).into());
        }
        Self::open(config, purpose).await
    }

    /// Opens the store, or makes it in the data directory; refuses one that belongs to another root secret.
    pub async fn open(config: &mut Config, purpose: Purpose) -> Result<Self, StartError> {
        let environment = Environment::system();
        let directory = match &config.store {
            StoreConfig::Embedded { directory } => Some(directory.clone()),
            StoreConfig::Mongo { .. } => None,
        };
        let given = config.secret.take();
        let secret = match (given, &directory) {
            (Some(secret), _) => secret,
            (None, None) => {
                let reason = "is needed with MongoDB: 32 random bytes or more, the same for every instance";
                return Err(ConfigError::new("KEYMARK_SECRET", reason).into());
            }
            (None, Some(directory)) => {
                make_directory(directory)?;
                load_secret(directory, &environment)?
            }
        };
        let store: Arc<dyn Store> = match &config.store {
            StoreConfig::Embedded { directory } => {
                make_directory(directory)?;
                Arc::new(EmbeddedStore::open(directory).map_err(|error| in_directory(directory, &error))?)
            }
            StoreConfig::Mongo { uri, database } => {
                let options = MongoOptions::new(uri.as_str(), database.as_str());
                Arc::new(MongoStore::connect(&options, environment.clone()).await.map_err(cannot_connect)?)
            }
        };
        let mut metrics = Metrics::default();
        let store: Arc<dyn Store> = Arc::new(Intercepted::new(store, StoreMetrics::new(metrics.registry())));
        let keys = Keyring::new(&secret, &config.previous_secrets);
        check_fingerprint(store.as_ref(), &keys, purpose).await?;
        let role = run_lease(store.as_ref(), config.timing, purpose).await?;
        let settings = Settings {
            key_prefix: config.key_prefix.clone(),
            session_lifetime: config.session_lifetime,
            revoked_retention: config.revoked_retention,
            enforcement_wait: config.enforcement_wait.unwrap_or(longest_wait(role)),
            ..Settings::default()
        };
        let coherence = Coherence::new(Arc::clone(&store), environment.clone(), Arc::new(SystemStopwatch), role);
        let service = Service::new(Arc::clone(&store), Arc::clone(&coherence), environment, keys, settings);
        coherence.register(metrics.registry());
        service.register(metrics.registry());
        Ok(Self { service, coherence, metrics: Arc::new(metrics), store, directory })
    }

    /// Creates the first operator on the very first start. A password that was generated is given back, to be shown
    /// once.
    async fn create_first_operator(&self, given: Option<Password>) -> Result<Option<String>, StartError> {
        if self.service.is_initialised().await? {
            return Ok(None);
        }
        let (password, shown) = match given {
            Some(password) => (password, None),
            None if self.directory.is_some() => {
                let password = self.service.generate_password();
                let shown = password.expose().to_owned();
                (password, Some(shown))
            }
            None => return Err(no_first_password().into()),
        };
        let created = self.service.create_first_operator(password).await?;
        Ok(shown.filter(|_| created))
    }
}

/// Why a very first start is refused.
pub fn no_first_password() -> ConfigError {
    let reason = "is needed for the very first start with MongoDB, where standard output is a log";
    ConfigError::new("KEYMARK_INITIAL_ADMIN_PASSWORD", reason)
}

/// Serves until SIGTERM or SIGINT, then finishes what is under way.
pub async fn run(mut config: Config) -> Result<(), StartError> {
    let app = App::open(&mut config, Purpose::Serving).await?;
    raise_descriptor_limit();
    let stop = CancellationToken::new();
    let signals = wait_for_signal(stop.clone())?;
    let public = bind("--listen", config.listen).await?;
    let verification = bind("--verify-listen", config.verify_listen).await?;
    let socket = match &app.directory {
        Some(directory) => Some(Socket::bind(directory).map_err(|error| in_directory(directory, &error))?),
        None => None,
    };
    // Last of all that can fail: a password that is generated here is shown now or never.
    let first_start = !app.service.is_initialised().await?;
    let password = app.create_first_operator(config.initial_admin_password.take()).await?;
    announce(&public, &verification, first_start, password.as_deref())?;

    let service = &app.service;
    let front = Arc::new(config.front.clone());
    let shown = Shown { introspection: config.introspection, graphiql: config.graphiql };
    let public_routes = http::public_routes(Arc::clone(service), config.front, shown, stop.clone());
    let verifier = Verifier::new(Arc::clone(&app.store), Arc::clone(&app.coherence), Arc::clone(service));
    let verify_routes = http::verify::routes(verifier, config.access, front, Arc::clone(&app.metrics));
    let commands = async {
        if let Some(socket) = socket {
            socket.serve(Arc::clone(service), stop.clone()).await;
        }
    };
    // The feed is followed until the last request is answered.
    let drained = CancellationToken::new();
    let serving = async {
        tokio::join!(
            serve(public, public_routes, ServeLimits::default(), stop.clone()),
            serve(verification, verify_routes, ServeLimits::default(), stop.clone()),
            commands,
        );
        service.finish().await;
        service.write_remaining_refusals().await;
        drained.cancel();
    };
    let all = async {
        tokio::join!(
            serving,
            service.follow_feed(drained.clone()),
            run_maintenance(&app, config.revoked_retention, stop.clone()),
            signals,
        );
    };
    let overtime = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN).await;
    };
    tokio::select! {
        () = all => {}
        () = overtime => tracing::warn!("what did not finish in time was cut off"),
    }
    Ok(())
}

/// A connection is a file descriptor, of which a shell allows 1024 unless more are asked for: takes all that may be had.
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, "the limit of open files could not be raised");
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Failed(format!("{setting}: {address}: {error}")))
}

/// Says where everything is, for the person who started it.
fn announce(
    public: &TcpListener,
    verification: &TcpListener,
    first_start: bool,
    password: Option<&str>,
) -> Result<(), StartError> {
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| StartError::Failed(error.to_string()));
    let mut text = format!(
        "Console       http://{}/\nVerification  http://{}/v1/verify\n",
        address(public)?,
        address(verification)?
    );
    if first_start {
        text.push_str(&format!("Operator      {FIRST_USERNAME}\n"));
    }
    if let Some(password) = password {
        text.push_str(&format!("Password      {password}\n"));
    }
    // A closed standard output is no reason not to serve.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Cancels `stop` at the first SIGTERM or SIGINT.
fn wait_for_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>, StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| StartError::Failed(error.to_string()));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests under way are finished");
        stop.cancel();
    })
}

/// Removes what is past its retention, and writes refused attempts that nothing followed, until it is told to stop.
async fn run_maintenance(app: &App, revoked_retention: Duration, stop: CancellationToken) {
    let every = |period| {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let (mut purges, mut refusals) = (every(PURGE_INTERVAL), every(REFUSALS_INTERVAL));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = refusals.tick() => app.service.write_due_refusals().await,
            _ = purges.tick() => {
                let now = app.service.environment().now();
                match app.store.purge(now, now.minus(revoked_retention)).await {
                    Ok(purged) => tracing::debug!(?purged, "what was past its retention is gone"),
                    Err(error) => tracing::warn!(%error, "what is past its retention could not be removed"),
                }
            }
        }
    }
}

/// Whether there is an embedded store in the directory.
pub fn holds_store(directory: &Path) -> bool {
    directory.join(embedded::FILE_NAME).exists()
}

fn make_directory(directory: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| in_directory(directory, &error))?;
    if is_open_to_others(directory).map_err(|error| in_directory(directory, &error))? {
        tracing::warn!(directory = %directory.display(), "the data directory is open to other users: chmod 700");
    }
    Ok(())
}

/// Whether anybody but its owner may look into the data directory.
pub fn is_open_to_others(directory: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(directory)?.permissions().mode() & 0o077 != 0)
}

fn in_directory(directory: &Path, error: &dyn fmt::Display) -> StartError {
    StartError::Failed(format!("--data-dir: {}: {error}", directory.display()))
}

/// The driver's words are many: `--log debug` shows them.
fn cannot_connect(error: ConnectError) -> StartError {
    match error {
        ConnectError::Uri => ConfigError::new("--mongodb-uri", error).into(),
        ConnectError::DatabaseName(_) => ConfigError::new("--mongodb-database", error).into(),
        ConnectError::Unreachable(ref cause)
        | ConnectError::Refused(ref cause)
        | ConnectError::Preparation(ref cause) => {
            tracing::debug!(%cause, "MongoDB cannot be used");
            StartError::Failed(format!("--mongodb-uri: {error}"))
        }
        _ => StartError::Failed(format!("--mongodb-uri: {error}")),
    }
}

/// Reads the secret of the data directory, or makes it: whole or not at all, and for this user alone.
fn load_secret(directory: &Path, environment: &Environment) -> Result<RootSecret, StartError> {
    let path = directory.join(SECRET_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => return Ok(root_secret(&path.display().to_string(), bytes)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(in_directory(directory, &error)),
    }
    let secret: [u8; 48] = environment.rng().random();
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let draft = directory.join(format!("{SECRET_NAME}.{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        // Another process that starts at the same time may have been first: its secret stands.
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => std::fs::File::open(directory)?.sync_all().and_then(|()| std::fs::read(&path)),
        }
    };
    let bytes = write().map_err(|error| in_directory(directory, &error))?;
    Ok(root_secret(&path.display().to_string(), bytes)?)
}

/// How long a change waits at most: after a lease and its margin no proof is missing, and a little later it is there to
/// be given.
fn longest_wait(role: Role) -> Duration {
    role.timing().map_or(OWN_FEED, |timing| timing.margin()) + ENFORCEMENT_SLACK
}

/// How this process takes part in answering from memory. All instances of a store have leases of one length, since
/// each waits for those of the others: the store remembers it, and while an instance with another one may be alive, a
/// start is refused.
async fn run_lease(store: &dyn Store, timing: Timing, purpose: Purpose) -> Result<Role, StartError> {
    if !store.is_shared() {
        let remembers = purpose == Purpose::Serving && !timing.lease.is_zero();
        let nobody = Timing { lease: Duration::ZERO, ..timing };
        return Ok(if remembers { Role::Standalone } else { Role::Observer(nobody) });
    }
    let own = timing.lease.as_millis().to_string();
    loop {
        let found = store.find_setting(LEASE).await?;
        let length = found.as_deref().and_then(|text| text.parse().ok()).map(Duration::from_millis);
        if purpose != Purpose::Serving {
            return Ok(Role::Observer(Timing { lease: timing.lease.max(length.unwrap_or_default()), ..timing }));
        }
        if found.as_deref() == Some(&own) {
            return Ok(Role::Member(timing));
        }
        if let Some(length) = length {
            tracing::info!(was = ?length, now = ?timing.lease, "waiting until no lease of another length is left");
            end_leases(store, Timing { lease: length, ..timing }).await?;
        }
        if store.replace_setting(LEASE, found.as_deref(), &own).await? {
            return Ok(Role::Member(timing));
        }
    }
}

/// Removes the leases of instances that have died; refuses when one is alive.
async fn end_leases(store: &dyn Store, timing: Timing) -> Result<(), StartError> {
    let before = store.list_leases().await?;
    if before.is_empty() {
        return Ok(());
    }
    // Whoever is alive renews theirs meanwhile.
    tokio::time::sleep(timing.margin() + timing.probe_interval * 4).await;
    let after = store.list_leases().await?;
    if let Some(alive) = after.iter().find(|lease| !before.contains(lease)) {
        tracing::debug!(incarnation = %alive.incarnation, "an instance is alive");
        let reason = format!("instances of this store run with {:?}: use the same, or stop them first", timing.lease);
        return Err(ConfigError::new("--lease", reason).into());
    }
    for lease in after {
        store.delete_lease(&lease).await?;
    }
    Ok(())
}

/// A store keeps the fingerprint of the secret that its keys were digested under: with another one they would all be
/// unknown.
async fn check_fingerprint(store: &dyn Store, keys: &Keyring, purpose: Purpose) -> Result<(), StartError> {
    let current = keys.current().fingerprint.as_str();
    loop {
        let found = store.find_setting(FINGERPRINT).await?;
        match found.as_deref() {
            Some(found) if found == current => return Ok(()),
            Some(found) if !keys.iter().any(|keys| keys.fingerprint.as_str() == found) => {
                let reason = "the store belongs to another root secret; if this one replaces it, put the old one \
                              into KEYMARK_PREVIOUS_SECRETS";
                return Err(ConfigError::new("KEYMARK_SECRET", reason).into());
            }
            expected => {
                if purpose == Purpose::Inspection || store.replace_setting(FINGERPRINT, expected, current).await? {
                    return Ok(());
                }
            }
        }
    }
}
