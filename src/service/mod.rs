//! The operations. Each reads rows, decides by the domain's rules, and commits one batch.

pub mod activity;
pub mod answers;
pub mod archives;
pub mod audit;
pub mod backups;
pub mod callers;
pub mod checkpoint_file;
pub mod checkpoints;
mod commit;
pub mod concurrency;
pub mod draining;
pub mod error;
pub mod feed;
pub mod follow;
pub mod keys;
mod metrics;
pub mod old_digests;
pub mod open_sessions;
pub mod operators;
pub mod policies;
mod refused_attempts;
pub mod replays;
pub mod restores;
pub mod sessions;
mod sign_in_log;
pub mod systems;
pub mod tenants;
pub mod tokens;
pub mod usage;
pub mod usage_watch;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::activity::Activity;
use self::answers::ForeignChanges;
pub use self::callers::Caller;
use self::checkpoint_file::CheckpointFile;
use self::concurrency::{Concurrency, ConcurrencyLimits, HeavyRead, Slot};
use self::draining::Draining;
use self::feed::FeedChannels;
use self::metrics::ServiceMetrics;
use self::old_digests::OldDigests;
use self::refused_attempts::RefusedAttempts;
use self::sign_in_log::SignInLog;
use self::usage::Usage;
use self::usage_watch::UsageWatch;
use crate::auth::cost::Cost;
use crate::auth::devices::Devices;
use crate::auth::limiter::Limiter;
use crate::auth::passwords::Passwords;
use crate::auth::throttle::Throttle;
use crate::auth::tokens::Tokens;
use crate::clock::Environment;
use crate::coherence::Coherence;
pub use crate::coherence::{Enforcement, InstanceState, KnownInstance};
use crate::domain::actors::CommandUser;
use crate::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::ids::{AuditEntryId, RequestId, TokenId};
use crate::domain::keys::KeyPrefix;
use crate::domain::quota::Quota;
use crate::domain::refusal::Refusal;
use crate::domain::secrets::Keyring;
use crate::domain::usage::UsageRetention;
use crate::store::Store;

/// Settings of the operations. [`Config`](crate::config::Config) has their defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    pub key_prefix: KeyPrefix,
    pub session_lifetime: Duration,
    /// A session that is not used for this long ends. `None`: at the end of its lifetime only.
    pub session_idle: Option<Duration>,
    /// How long a revoked key is reported as revoked; after that, as not found.
    pub revoked_retention: Duration,
    /// Limit on the wait for a change to be enforced on every instance.
    pub enforcement_wait: Duration,
    pub password_cost: Cost,
    /// Calls of one service token.
    pub token_calls: Quota,
    /// The directory beside an embedded store, for the file of checkpoints.
    pub data_directory: Option<PathBuf>,
    /// Rows of use that an instance writes in a second, except when it ends.
    pub usage_rows_per_second: u32,
    pub usage_retention: UsageRetention,
    pub concurrency: ConcurrencyLimits,
    /// Checkpoints that the audit logs must contain, besides those in the store and beside it.
    pub audit_checkpoints: Vec<Checkpoint>,
}

/// The context of a request, for logs, errors and audit entries.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub id: RequestId,
    pub source_address: Option<IpAddr>,
}

fn origin(actor: AuditActor, request: Request) -> Origin {
    Origin { actor, source_address: request.source_address, request_id: request.id }
}

/// The operations, over any store.
pub struct Service {
    store: Arc<dyn Store>,
    coherence: Arc<Coherence>,
    environment: Environment,
    keyring: Keyring,
    settings: Settings,
    tokens: Tokens,
    passwords: Passwords,
    throttle: Throttle,
    devices: Devices,
    sign_in_log: SignInLog,
    activity: Activity,
    bad_tokens: Limiter<IpAddr>,
    token_calls: Limiter<TokenId>,
    usage: Usage,
    usage_watch: UsageWatch,
    refused_attempts: RefusedAttempts,
    old_digests: OldDigests,
    feed: FeedChannels,
    foreign_changes: ForeignChanges,
    concurrency: Concurrency,
    tasks: TaskTracker,
    draining: Draining,
    metrics: ServiceMetrics,
    checkpoint_file: Option<Arc<CheckpointFile>>,
    /// Held while an audit log is archived.
    archiving: tokio::sync::Mutex<()>,
}

impl Service {
    pub fn new(
        store: Arc<dyn Store>,
        coherence: Arc<Coherence>,
        environment: Environment,
        keyring: Keyring,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            tokens: Tokens::new(&keyring),
            passwords: Passwords::new(settings.password_cost, environment.clone()),
            throttle: Throttle::new(keyring.current().attempts.clone()),
            devices: Devices::new(&keyring),
            sign_in_log: SignInLog::default(),
            activity: Activity::default(),
            bad_tokens: Limiter::default(),
            token_calls: Limiter::default(),
            usage: Usage::new(&environment),
            usage_watch: UsageWatch::default(),
            refused_attempts: RefusedAttempts::default(),
            old_digests: OldDigests::default(),
            feed: FeedChannels::default(),
            foreign_changes: ForeignChanges::default(),
            tasks: TaskTracker::new(),
            draining: Draining::default(),
            metrics: ServiceMetrics::new(environment.now()),
            checkpoint_file: settings.data_directory.as_deref().map(CheckpointFile::new).map(Arc::new),
            archiving: tokio::sync::Mutex::default(),
            concurrency: Concurrency::new(settings.concurrency),
            store,
            coherence,
            environment,
            keyring,
            settings,
        })
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub fn draining(&self) -> &Draining {
        &self.draining
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns true if the cache has been loaded and the store responds.
    pub async fn is_ready(&self) -> bool {
        self.coherence.is_loaded() && self.store.ping().await.is_ok()
    }

    /// The instances over the store that this one knows, itself first.
    pub fn known_instances(&self) -> Vec<KnownInstance> {
        self.coherence.known_instances()
    }

    /// A new request, which begins now.
    pub fn request(&self, source_address: Option<IpAddr>) -> Request {
        let id = RequestId::new(self.environment.now(), &mut **self.environment.rng());
        Request { id, source_address }
    }

    /// Waits for the turn of a read, unless it is a light one. See [`concurrency`].
    async fn begin_read_unless(&self, is_light: bool, caller: &Caller) -> Result<Option<HeavyRead>, Refusal> {
        if is_light { Ok(None) } else { self.concurrency.begin_read(caller).await.map(Some) }
    }

    /// Counts an open WebSocket of the caller until the slot is dropped. Refuses one beyond the limit.
    pub fn open_socket(&self, caller: &Caller) -> Result<Slot, Refusal> {
        self.concurrency.open_socket(caller)
    }

    /// Spawns work that the response does not wait for. [`finish`](Self::finish) does.
    fn spawn_after_response(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Waits for all work spawned after responses. No more may be spawned.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The origin of what somebody does on the command line.
    pub fn command_line_origin(&self, user: Option<&CommandUser>) -> Origin {
        origin(AuditActor::command_line_of(user), self.request(None))
    }

    fn event(&self, origin: &Origin, action: AuditAction) -> AuditEvent {
        let now = self.environment.now();
        let id = AuditEntryId::new(now, &mut **self.environment.rng());
        AuditEvent::new(id, now, origin, action)
    }
}
