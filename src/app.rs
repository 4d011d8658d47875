//! The composition root: builds a running Keymark from a configuration. Only this module names the backends of the store.

mod migration;
mod restoration;

use std::error::Error as _;
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
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use crate::admin::Socket;
use crate::clock::{Environment, SystemStopwatch};
use crate::coherence::Coherence;
use crate::coherence::protocol::{Role, Timing, with_margin};
use crate::config::{Config, ConfigError, StoreConfig, root_secret};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::leases::{Incarnation, LENGTH_SETTING, Lease, LogTime, to_millis};
use crate::domain::operators::{FIRST_PASSWORD_LIFETIME, Password};
use crate::domain::secrets::{Fingerprint, Keyring, RootSecret};
use crate::domain::time::Timestamp;
use crate::http::connections::ConnectionCaps;
use crate::http::serve::{Listener, ServeLimits, listen, serve};
use crate::http::tls::{Tls, TlsFiles};
use crate::http::{self, PublicFeatures};
use crate::metrics::{ConnectionMetrics, Metrics};
use crate::service::draining::Draining;
use crate::service::old_digests::count_keys_by_secret;
use crate::service::operators::FIRST_USERNAME;
use crate::service::restores::find_lost_checkpoints;
use crate::service::{Service, checkpoint_file, error};
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::intercepted::Intercepted;
use crate::store::metrics::StoreMetrics;
use crate::store::mongo::{ConnectError, MongoOptions, MongoStore};
use crate::store::{Store, StoreError};
use crate::verify::Verifier;

pub use self::migration::{Moved, Target, migrate};
pub use self::restoration::{Restoration, secret_file};
pub use crate::store::RecordKind;

/// The file with the root secret, in the data directory.
const SECRET_NAME: &str = "secret";
/// The setting of the store with the fingerprint of its root secret.
const FINGERPRINT_SETTING: &str = "secret-fingerprint";
/// The setting with the fingerprints of all root secrets that keys may need, separated by spaces.
const NEEDED_SETTING: &str = "needed-secret-fingerprints";
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// A purge of usage reads the summaries of all systems.
const USAGE_PURGE_INTERVAL: Duration = Duration::from_hours(12);
/// Interval between two changes that digest keys anew.
const OLD_DIGESTS_INTERVAL: Duration = Duration::from_secs(10);
/// How long the entry of a key's end waits at most; instances refuse the key by their own clocks before.
const KEY_ENDS_INTERVAL: Duration = Duration::from_secs(2);
const REFUSALS_INTERVAL: Duration = Duration::from_secs(60);
/// How often the files of certificates and keys are read. Kubernetes replaces them within a minute or two.
const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(10);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(3600);
/// Limit on the checkpoints before the process ends. The next start signs what is missing then.
const LAST_CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(3);
/// From the signal to the end of the process. Orchestrators commonly kill it after 10 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(9500);

/// Keymark cannot start, or the command failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Exit code 1.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl From<error::Error> for StartError {
    fn from(error: error::Error) -> Self {
        match error {
            error::Error::Unavailable(cause)
            | error::Error::DiskFull(cause)
            | error::Error::OutcomeUnknown(cause)
            | error::Error::NewerFormat(cause)
            | error::Error::Internal(cause) => Self::Store(cause),
            error::Error::Refused(_) | error::Error::NotEnforced => Self::Failed(error.to_string()),
        }
    }
}

/// The purpose of opening the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Serving,
    /// One command, without a cache.
    Command,
    /// Checking that it can be opened. Writes no settings to the store.
    Inspection,
}

/// The opened store and the service over it.
pub struct App {
    pub service: Arc<Service>,
    pub coherence: Arc<Coherence>,
    pub metrics: Arc<Metrics>,
    pub store: Arc<dyn Store>,
    /// The data directory of the embedded store. `None` with MongoDB.
    pub directory: Option<PathBuf>,
}

impl App {
    /// Opens an existing store. Refuses a data directory without one.
    pub async fn open_existing(config: &mut Config, purpose: Purpose) -> Result<Self, StartError> {
        if let StoreConfig::Embedded { directory, .. } = &config.store
            && !contains_store(directory)
        {
            let reason = format!("no store in {}", directory.display());
            return Err(ConfigError::new("--data-dir", reason).into());
        }
        Self::open(config, purpose).await
    }

    /// Opens the store, and creates it in the data directory if it does not exist. Refuses a store that belongs to another
    /// root secret.
    pub async fn open(config: &mut Config, purpose: Purpose) -> Result<Self, StartError> {
        let environment = Environment::system();
        let directory = match &config.store {
            StoreConfig::Embedded { directory, .. } => Some(directory.clone()),
            StoreConfig::Mongo { .. } => None,
        };
        let given = config.secret.take();
        let secret = match (given, &directory) {
            (Some(secret), _) => secret,
            (None, None) => {
                let reason = "is required with MongoDB: at least 32 random bytes, the same for every instance";
                return Err(ConfigError::new("KEYMARK_SECRET", reason).into());
            }
            (None, Some(directory)) => {
                create_directory(directory)?;
                load_secret(directory, &environment)?
            }
        };
        let store: Arc<dyn Store> = match &config.store {
            StoreConfig::Embedded { directory, cache_bytes } => {
                create_directory(directory)?;
                Arc::new(
                    EmbeddedStore::open_with_cache(directory, *cache_bytes)
                        .map_err(|error| in_directory(directory, &error))?,
                )
            }
            StoreConfig::Mongo { uri, database } => {
                let options = MongoOptions::new(uri.as_str(), database.as_str());
                Arc::new(MongoStore::connect(&options, environment.clone()).await.map_err(cannot_connect)?)
            }
        };
        let mut metrics = Metrics::default();
        let store: Arc<dyn Store> = Arc::new(Intercepted::new(store, StoreMetrics::new(metrics.registry())));
        let keys = Keyring::new(&secret, &config.previous_secrets);
        if purpose == Purpose::Serving {
            // First, so that nothing is written.
            check_restored(store.as_ref(), &keys, config).await?;
        }
        check_fingerprint(store.as_ref(), &keys, purpose).await?;
        check_needed_secrets(store.as_ref(), &keys, config.drop_keys_of_old_secrets, purpose).await?;
        let (role, longest) = choose_role(store.as_ref(), &environment, config.timing, purpose).await?;
        let settings = config.service_settings(role, longest);
        let coherence = Coherence::new(Arc::clone(&store), environment.clone(), Arc::new(SystemStopwatch), role);
        let service = Service::new(Arc::clone(&store), Arc::clone(&coherence), environment, keys, settings);
        coherence.register(metrics.registry());
        service.register(metrics.registry());
        config.front.hosts.register(metrics.registry());
        Ok(Self { service, coherence, metrics: Arc::new(metrics), store, directory })
    }

    /// Creates the first operator, if this is the first start. Returns the password if it was generated, to be shown once.
    async fn create_first_operator(
        &self,
        configured: Option<Password>,
    ) -> Result<Option<Zeroizing<String>>, StartError> {
        let (password, generated) = match configured {
            Some(password) => (password, None),
            None => {
                let password = self.service.generate_password();
                let text = Zeroizing::new(password.expose().to_owned());
                (password, Some(text))
            }
        };
        let created = self.service.create_first_operator(password, generated.is_some()).await?;
        if created && generated.is_some() {
            tracing::info!(valid_for = ?FIRST_PASSWORD_LIFETIME, "first password generated; it has to be changed");
        }
        Ok(generated.filter(|_| created))
    }
}

/// The configured password of the first operator, for a start that creates them. Fails if it breaks the rules, or is
/// missing and none can be generated.
pub fn first_password(config: &Config) -> Result<Option<Password>, ConfigError> {
    const SETTING: &str = "KEYMARK_INITIAL_ADMIN_PASSWORD";
    let username = FIRST_USERNAME.parse().expect("the first operator's name is well-formed");
    match (&config.initial_admin_password, &config.store) {
        (Some(text), _) => {
            let chosen = Password::chosen(text.as_str().to_owned(), &username);
            chosen.map(Some).map_err(|unfit| ConfigError::new(SETTING, unfit))
        }
        (None, StoreConfig::Embedded { .. }) => Ok(None),
        (None, StoreConfig::Mongo { .. }) => {
            let reason = "is required for the first start with MongoDB, since standard output may be a log";
            Err(ConfigError::new(SETTING, reason))
        }
    }
}

/// Serves until SIGTERM or SIGINT and the drain delay after it, and then completes the requests in flight, for 9.5 s at
/// most.
pub async fn run(mut config: Config) -> Result<(), StartError> {
    if matches!(&config.store, StoreConfig::Embedded { directory, .. } if !contains_store(directory)) {
        // Before anything is created.
        first_password(&config)?;
    }
    for files in config.tls.iter().chain(&config.verify_tls) {
        files.check().map_err(ConfigError::from)?;
    }
    let app = App::open(&mut config, Purpose::Serving).await?;
    let (tls, verify_tls) = load_tls(&config, &app.metrics, app.service.environment().now())?;
    let descriptors = raise_descriptor_limit();
    let (public_caps, verification_caps) = ConnectionCaps::share(descriptors, &config.front.trusted_proxies);
    let stop = CancellationToken::new();
    let signals = wait_for_signal(app.service.draining().clone(), config.drain_delay, stop.clone())?;
    let reloads = reload_tls(&app.service, tls.iter().chain(&verify_tls).cloned().collect(), stop.clone())?;
    let public = bind("--listen", config.listen)?;
    let verification = bind("--verify-listen", config.verify_listen)?;
    let socket = match &app.directory {
        Some(directory) => Some(Socket::bind(directory).map_err(|error| in_directory(directory, &error))?),
        None => None,
    };
    // After everything else that can fail: a generated password is shown once, right below.
    let first_start = !app.service.is_initialised().await?;
    let password = if first_start { app.create_first_operator(first_password(&config)?).await? } else { None };
    config.initial_admin_password = None;
    let addresses = [&public, &verification].map(|listener| listener.local_addr().ok());
    let urls = (url(&public, tls.is_some())?, url(&verification, verify_tls.is_some())?);
    announce(&urls, first_start, password.as_deref().map(String::as_str));

    let service = &app.service;
    let front = Arc::new(config.front.clone());
    let features = PublicFeatures {
        introspection: config.introspection,
        graphiql: config.graphiql,
        answer_bytes: config.answer_bytes,
    };
    let public_routes = http::public_routes(Arc::clone(service), config.front, features, stop.clone());
    let verifier = Verifier::new(Arc::clone(&app.store), Arc::clone(&app.coherence), Arc::clone(service));
    let verify_routes = http::verify::routes(verifier, config.access, front, Arc::clone(&app.metrics));
    let limits = |connections, metrics: &ConnectionMetrics| ServeLimits {
        connections,
        metrics: metrics.clone(),
        ..ServeLimits::default()
    };
    let public_limits = limits(public_caps, &app.metrics.public_connections);
    let verification_limits = limits(verification_caps, &app.metrics.verification_connections);
    let listener = |tcp, tls| Listener::new(tcp, tls, service.draining().clone());
    let commands = async {
        if let Some(socket) = socket {
            socket.serve(Arc::clone(service), stop.clone()).await;
        }
    };
    // Requests and ends of keys may wait for the feed, so it is followed until the last one is completed.
    let drained = CancellationToken::new();
    let requests = async {
        tokio::join!(
            serve(listener(public, tls), public_routes, public_limits, stop.clone()),
            serve(listener(verification, verify_tls), verify_routes, verification_limits, stop.clone()),
            commands,
            run_key_ends(service, stop.clone()),
        );
        service.finish().await;
        drained.cancel();
    };
    let serving = async {
        // Ends with the lease of this instance, for which the others would wait. What is left to write needs no feed.
        // Most of the use of keys is written while requests are completed; the rest after them.
        tokio::join!(requests, service.follow_feed(drained.clone()), service.run_usage(stop.clone()));
        if let Err(error) = service.flush_usage().await {
            tracing::warn!(%error, cause = error.source(), "last use of keys not written; lost");
        }
        service.write_remaining_refusals().await;
        service.write_activity().await;
        if tokio::time::timeout(LAST_CHECKPOINT_TIMEOUT, checkpoint_audit(service)).await.is_err() {
            tracing::warn!("audit checkpoints timed out; logs that moved have none at their end");
        }
    };
    // A task of its own, or the listeners would wait: over the embedded store it is busy for 11 s with 100,000 logs.
    let checkpoints = {
        let (service, stop) = (Arc::clone(service), stop.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            run_checkpoints(&service, CHECKPOINT_INTERVAL, stop).await;
        }))
    };
    let all = async {
        let checkpoints = async { checkpoints.await.expect("checkpoints do not panic") };
        tokio::join!(
            serving,
            log_start(&app, addresses, &stop),
            run_maintenance(&app, config.revoked_retention, stop.clone()),
            checkpoints,
            reloads,
            signals,
        );
    };
    let timeout = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        () = all => {}
        () = timeout => tracing::warn!("shutdown timed out; aborting in-flight requests"),
    }
    Ok(())
}

/// Raises the limit on open files to its maximum, and returns it. Each connection is one, and the default is often 1024.
fn raise_descriptor_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, "limit on open files not raised");
            current
        }
    };
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen(address).map_err(|error| StartError::Failed(format!("{setting}: {address}: {error}")))
}

/// Logs that Keymark serves, once its cache is loaded.
async fn log_start(app: &App, addresses: [Option<SocketAddr>; 2], stop: &CancellationToken) {
    let mut changes = app.coherence.changes();
    let loaded = async { while !app.coherence.is_loaded() && changes.changed().await.is_ok() {} };
    if stop.run_until_cancelled(loaded).await.is_none() {
        return;
    }
    let [listen, verify_listen] = addresses.map(|address| address.map(tracing::field::display));
    let store = if app.directory.is_some() { "embedded" } else { "mongodb" };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        store,
        keys = app.coherence.cached_keys(),
        listen,
        verify_listen,
        "serving"
    );
}

type ListenerTls = Option<Arc<Tls>>;

/// Reads the certificates of the public listener and of the verification listener.
fn load_tls(config: &Config, metrics: &Metrics, now: Timestamp) -> Result<(ListenerTls, ListenerTls), ConfigError> {
    let load = |files: &Option<TlsFiles>, listener| {
        files.clone().map(|files| Tls::load(files, metrics.tls(listener), now)).transpose()
    };
    Ok((load(&config.tls, "public")?, load(&config.verify_tls, "verification")?))
}

/// Reads the certificates of these listeners again, every 10 s and at SIGHUP, until `stop` is cancelled.
fn reload_tls(
    service: &Arc<Service>,
    listeners: Arc<[Arc<Tls>]>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()>, StartError> {
    let mut hangups = listen_for(SignalKind::hangup())?;
    let service = Arc::clone(service);
    Ok(async move {
        let mut interval = tokio::time::interval(TLS_RELOAD_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = hangups.recv() => tracing::info!("reload requested"),
                _ = interval.tick() => {}
            }
            let (listeners, now) = (Arc::clone(&listeners), service.environment().now());
            // Fails only if it panics. The panic hook has already logged it.
            let _ = spawn_blocking(move || listeners.iter().for_each(|tls| tls.reload(now))).await;
        }
    })
}

/// The address of a listener, as clients write it.
fn url(listener: &TcpListener, is_tls: bool) -> Result<String, StartError> {
    let address = listener.local_addr().map_err(|error| StartError::Failed(error.to_string()))?;
    Ok(format!("{}://{address}", if is_tls { "https" } else { "http" }))
}

/// Prints the addresses and the first operator, for the person who started Keymark.
fn announce((public, verification): &(String, String), first_start: bool, password: Option<&str>) {
    let mut text = Zeroizing::new(format!("Console       {public}/\nVerification  {verification}/v1/verify\n"));
    if first_start {
        text.push_str(&format!("Operator      {FIRST_USERNAME}\n"));
    }
    if let Some(password) = password {
        let hours = FIRST_PASSWORD_LIFETIME.as_secs() / 3600;
        text.push_str(&format!("Password      {password}\n"));
        text.push_str(&format!("Valid for     {hours} hours; choose another one when you sign in to the console\n"));
    }
    // Standard output may be closed, and Keymark serves all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn listen_for(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(|error| StartError::Failed(error.to_string()))
}

/// Each call waits for the next SIGTERM or SIGINT.
pub fn termination() -> Result<impl AsyncFnMut(), StartError> {
    let (mut terminate, mut interrupt) = (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    Ok(async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Begins to drain at the first SIGTERM or SIGINT, and cancels `stop` after the delay, or at the second signal.
fn wait_for_signal(
    draining: Draining,
    delay: Duration,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()>, StartError> {
    let mut received = termination()?;
    Ok(async move {
        received().await;
        draining.begin();
        if !delay.is_zero() {
            tracing::info!(?delay, "shutdown requested; not ready, and serving until the delay has passed");
            let _ = tokio::time::timeout(delay, received()).await;
        }
        tracing::info!("shutdown requested; draining in-flight requests");
        stop.cancel();
    })
}

/// Signs the ends of the audit logs. What is found is logged by the service.
async fn checkpoint_audit(service: &Service) {
    if let Err(error) = service.checkpoint_audit().await {
        tracing::warn!(%error, cause = error.source(), "audit checkpoints failed");
    }
}

/// Signs the ends of the audit logs now and after each `interval`, until `stop` is cancelled.
pub async fn run_checkpoints(service: &Service, interval: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let checkpoints = async {
        loop {
            ticks.tick().await;
            checkpoint_audit(service).await;
        }
    };
    stop.run_until_cancelled(checkpoints).await;
}

/// Writes the ends of keys whose time has come, and the warnings before. Every instance does it.
async fn run_key_ends(service: &Service, stop: CancellationToken) {
    let mut interval = tokio::time::interval(KEY_ENDS_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => match service.write_due_keys().await {
                Ok(0) => {}
                Ok(entries) => tracing::info!(entries, "ends of keys written"),
                Err(error) => tracing::warn!(%error, cause = error.source(), "ends of keys not written"),
            },
        }
    }
}

/// Purges rows past their retention, digests keys anew, and writes aggregated refused attempts and the last use of
/// sessions, until `stop` is cancelled.
async fn run_maintenance(app: &App, revoked_retention: Duration, stop: CancellationToken) {
    let every = |period| {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let (mut purges, mut refusals) = (every(PURGE_INTERVAL), every(REFUSALS_INTERVAL));
    let mut old_digests = every(OLD_DIGESTS_INTERVAL);
    let mut usage_purges = every(USAGE_PURGE_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = refusals.tick() => {
                app.service.write_due_refusals().await;
                app.service.write_activity().await;
            }
            _ = old_digests.tick() => match app.service.redigest_keys().await {
                Ok(0) => {}
                Ok(keys) => tracing::info!(keys, "keys digested anew under the current root secret"),
                Err(error) => tracing::warn!(%error, cause = error.source(), "keys not digested anew"),
            },
            _ = usage_purges.tick() => match app.service.purge_usage().await {
                Ok(rows) => tracing::debug!(rows, "purge of usage completed"),
                Err(error) => tracing::warn!(%error, cause = error.source(), "purge of usage failed"),
            },
            _ = purges.tick() => {
                let now = app.service.environment().now();
                match app.store.purge(now, now.minus(revoked_retention)).await {
                    Ok(purged) => tracing::debug!(?purged, "purge completed"),
                    Err(error) => tracing::warn!(%error, "purge failed"),
                }
            }
        }
    }
}

/// Returns true if the directory contains an embedded store.
pub fn contains_store(directory: &Path) -> bool {
    directory.join(embedded::FILE_NAME).exists()
}

fn create_directory(directory: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| in_directory(directory, &error))?;
    if is_accessible_to_others(directory).map_err(|error| in_directory(directory, &error))? {
        tracing::warn!(directory = %directory.display(), "data directory is accessible to other users; run chmod 700");
    }
    Ok(())
}

/// Returns true if the mode of the directory allows anybody but its owner to access it.
pub fn is_accessible_to_others(directory: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(directory)?.permissions().mode() & 0o077 != 0)
}

fn in_directory(directory: &Path, error: &dyn fmt::Display) -> StartError {
    StartError::Failed(format!("--data-dir: {}: {error}", directory.display()))
}

/// The error in one line. The driver's own message, which is long, is logged at level debug.
fn cannot_connect(error: ConnectError) -> StartError {
    match error {
        ConnectError::Uri => ConfigError::new("--mongodb-uri", error).into(),
        ConnectError::DatabaseName(_) => ConfigError::new("--mongodb-database", error).into(),
        ConnectError::Unreachable(ref cause)
        | ConnectError::Refused(ref cause)
        | ConnectError::Preparation(ref cause) => {
            tracing::debug!(%cause, "connection to MongoDB failed");
            StartError::Failed(format!("--mongodb-uri: {error}"))
        }
        _ => StartError::Failed(format!("--mongodb-uri: {error}")),
    }
}

/// Reads the secret in the data directory. Creates it if it does not exist: atomically, and with mode 0600.
fn load_secret(directory: &Path, environment: &Environment) -> Result<RootSecret, StartError> {
    let path = directory.join(SECRET_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => return Ok(root_secret(&path.display().to_string(), bytes)?),
        Err(error) if error.kind() == ErrorKind::NotFound && contains_store(directory) => {
            return Err(missing_secret(&path).into());
        }
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
        // If another process has created it meanwhile, its secret is used.
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

/// The error of a store whose root secret is gone. No key of the store verifies under another one.
fn missing_secret(path: &Path) -> ConfigError {
    let reason = format!(
        "{} is missing, and the store beside it belongs to the secret in it: restore the file from a backup, or set \
         KEYMARK_SECRET if the store was created with it",
        path.display()
    );
    ConfigError::new("KEYMARK_SECRET", reason)
}

/// Reads the root secret of a server that uses the data directory.
pub fn find_keyring(config: &Config, directory: &Path) -> Result<Keyring, StartError> {
    let path = directory.join(SECRET_NAME);
    match (&config.secret, std::fs::read(&path)) {
        (Some(secret), _) => Ok(Keyring::new(secret, &config.previous_secrets)),
        (None, Ok(bytes)) => {
            let secret = root_secret(&path.display().to_string(), bytes)?;
            Ok(Keyring::new(&secret, &config.previous_secrets))
        }
        (None, Err(error)) if error.kind() == ErrorKind::NotFound => Err(missing_secret(&path).into()),
        (None, Err(error)) => Err(in_directory(directory, &error)),
    }
}

/// Checks that no key needs a root secret that is no longer given, unless that is meant, and remembers which secrets keys
/// may need from now on. Reads all keys if a secret is missing.
async fn check_needed_secrets(
    store: &dyn Store,
    keys: &Keyring,
    drop_keys: bool,
    purpose: Purpose,
) -> Result<(), StartError> {
    let given: Vec<String> = keys.iter().map(|keys| keys.fingerprint.to_string()).collect();
    loop {
        let stored = store.find_setting(NEEDED_SETTING).await?;
        // Rows of release 0.1 name no secret. They need one of those that were given when this setting was first written,
        // which are marked.
        let mut needed: Vec<(String, bool)> = match &stored {
            None => given.iter().map(|secret| (secret.clone(), true)).collect(),
            Some(stored) => stored.split(' ').map(|secret| (secret.replace('*', ""), secret.ends_with('*'))).collect(),
        };
        let missing: Vec<_> = needed.extract_if(.., |(secret, _)| !given.contains(secret)).collect();
        if !missing.is_empty() {
            let counts = count_keys_by_secret(store).await?.into_iter();
            let is_lost = |needed: Option<Fingerprint>| match needed.map(|needed| needed.to_string()) {
                Some(needed) => missing.iter().any(|(secret, _)| *secret == needed),
                None => missing.iter().any(|(_, is_marked)| *is_marked),
            };
            let lost: u64 = counts.filter(|(needed, _)| is_lost(*needed)).map(|(_, count)| count).sum();
            let secrets = missing.iter().map(|(secret, _)| secret.as_str()).collect::<Vec<_>>().join(", ");
            if lost > 0 && !drop_keys {
                let reason = format!(
                    "{lost} API keys, each of another system, need a root secret that is no longer given (fingerprint \
                     {secrets}): add it again, or set --drop-keys-of-old-secrets to refuse these keys from now on"
                );
                return Err(ConfigError::new("KEYMARK_PREVIOUS_SECRETS", reason).into());
            }
            if lost > 0 {
                tracing::warn!(keys = lost, secrets, "root secrets dropped; their keys are refused from now on");
            }
        }
        for secret in &given {
            if !needed.iter().any(|(known, _)| known == secret) {
                needed.push((secret.clone(), false));
            }
        }
        let mark =
            |(secret, is_marked): &(String, bool)| if *is_marked { format!("{secret}*") } else { secret.clone() };
        let needed = needed.iter().map(mark).collect::<Vec<_>>().join(" ");
        if stored.as_deref() == Some(needed.as_str())
            || purpose == Purpose::Inspection
            || store.replace_setting(NEEDED_SETTING, stored.as_deref(), &needed).await?
        {
            return Ok(());
        }
    }
}

/// Refuses a store without an entry that a checkpoint beside it, or in the configuration, was signed for.
async fn check_restored(store: &dyn Store, keys: &Keyring, config: &Config) -> Result<(), StartError> {
    let keys = keys.public_keys();
    if let Some(unknown) = config.audit_checkpoints.iter().find(|checkpoint| !checkpoint.is_signed_by(&keys)) {
        let Checkpoint { tenant, number, .. } = unknown;
        let reason =
            format!("neither the root secret nor a previous one has signed that of {tenant} at entry {number}");
        return Err(ConfigError::new("--audit-checkpoint", reason).into());
    }
    let mut outside = config.audit_checkpoints.clone();
    if let StoreConfig::Embedded { directory, .. } = &config.store {
        outside.extend(checkpoint_file::read_in(directory).map_err(|error| {
            StartError::Failed(format!("--data-dir: {}: {error}", directory.join(checkpoint_file::FILE_NAME).display()))
        })?);
    }
    let lost = find_lost_checkpoints(store, &keys, outside).await?;
    lost_history(&lost).map_or(Ok(()), |reason| Err(StartError::Failed(reason)))
}

/// Says what a store lacks that does not contain the entries of these checkpoints, and what to do. `None` if there are none.
pub fn lost_history(lost: &[Checkpoint]) -> Option<String> {
    let Checkpoint { tenant, number, signed_at, .. } = lost.iter().max_by_key(|checkpoint| checkpoint.signed_at)?;
    Some(format!(
        "the audit log of tenant {tenant} lacks entry {number}, which was signed at {signed_at}. If the store was restored \
         from a backup, run `keymark audit replay --file EXPORT` with a newer export of the log, or `keymark restored` if \
         there is none; otherwise the log was changed"
    ))
}

/// Determines the role of this process in the lease protocol, and the longest lease of any instance.
async fn choose_role(
    store: &dyn Store,
    environment: &Environment,
    timing: Timing,
    purpose: Purpose,
) -> Result<(Role, Duration), StartError> {
    if !store.is_shared() {
        let has_cache = purpose == Purpose::Serving && !timing.lease.is_zero();
        return Ok((if has_cache { Role::Standalone } else { Role::Uncached }, Duration::ZERO));
    }
    if purpose != Purpose::Serving {
        let (_, longest) = find_longest_lease(store).await?;
        return Ok((Role::Observer(timing), longest));
    }
    let longest = raise_longest_lease(store, environment, timing).await?;
    Ok((Role::Member(timing), longest))
}

/// Reads the setting with the longest lease.
async fn find_longest_lease(store: &dyn Store) -> Result<(Option<String>, Duration), StartError> {
    let found = store.find_setting(LENGTH_SETTING).await?;
    let longest = found.as_deref().and_then(|millis| millis.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
    Ok((found, longest))
}

/// Raises the setting with the longest lease to this instance's, if that is longer. It is never lowered: instances of
/// release 0.1 start only with this length, and so wait long enough for all others; and those that read it know how
/// long a lease of 0.1 lasts at most, which does not state its length.
async fn raise_longest_lease(
    store: &dyn Store,
    environment: &Environment,
    timing: Timing,
) -> Result<Duration, StartError> {
    loop {
        let (found, longest) = find_longest_lease(store).await?;
        if found.is_some() && longest >= timing.lease {
            return Ok(longest);
        }
        refuse_beside_0_1(store, Timing { lease: longest, ..timing }).await?;
        // The length is in the feed before an instance of 0.1 can find it in the setting.
        let announcement = Lease {
            incarnation: Incarnation::generate(&mut **environment.rng()),
            sequence: 1,
            applied: LogTime::LAST,
            requests_ack: false,
            length: Some(timing.lease),
        };
        store.put_lease(&announcement).await?;
        let own = to_millis(timing.lease).to_string();
        let is_raised = store.replace_setting(LENGTH_SETTING, found.as_deref(), &own).await;
        store.delete_lease(&announcement).await?;
        if is_raised? {
            return Ok(timing.lease);
        }
    }
}

/// Removes the leases of instances of release 0.1 that have died. Fails if one is alive: it would wait for the leases of
/// this instance only as long as its own last.
async fn refuse_beside_0_1(store: &dyn Store, theirs: Timing) -> Result<(), StartError> {
    let list = async || {
        let mut leases = store.list_leases().await?;
        leases.retain(|lease| lease.length.is_none());
        Ok::<_, StartError>(leases)
    };
    let before = list().await?;
    if before.is_empty() {
        return Ok(());
    }
    tracing::info!(lease = ?theirs.lease, "leases of Keymark 0.1 found; waiting for them to expire");
    // Those that are alive renew theirs meanwhile.
    tokio::time::sleep(with_margin(theirs.lease) + theirs.probe_interval * 4).await;
    let after = list().await?;
    if let Some(alive) = after.iter().find(|lease| !before.contains(lease)) {
        tracing::debug!(incarnation = %alive.incarnation, "lease renewed by an instance of Keymark 0.1");
        let reason = format!(
            "instances of Keymark 0.1 use {:?}: use the same or less, or upgrade or stop them first",
            theirs.lease
        );
        return Err(ConfigError::new("--lease", reason).into());
    }
    for lease in after {
        store.delete_lease(&lease).await?;
    }
    Ok(())
}

/// Checks the root secret by its fingerprint in the store. With another secret no key of the store would be found.
async fn check_fingerprint(store: &dyn Store, keys: &Keyring, purpose: Purpose) -> Result<(), StartError> {
    let current = keys.current().fingerprint.to_string();
    loop {
        let found = store.find_setting(FINGERPRINT_SETTING).await?;
        match found.as_deref() {
            Some(found) if found == current => return Ok(()),
            Some(found) if !keys.iter().any(|keys| keys.fingerprint.to_string() == found) => {
                let reason = "the store belongs to another root secret; if this one replaces it, add the old one \
                              to KEYMARK_PREVIOUS_SECRETS";
                return Err(ConfigError::new("KEYMARK_SECRET", reason).into());
            }
            expected => {
                if purpose == Purpose::Inspection
                    || store.replace_setting(FINGERPRINT_SETTING, expected, &current).await?
                {
                    return Ok(());
                }
            }
        }
    }
}
