//! What Keymark does: each operation reads, decides by the domain's rules, and commits one batch.

pub mod audit;
mod commit;
pub mod error;
pub mod feed;
pub mod keys;
mod metrics;
pub mod operators;
mod refused_attempts;
pub mod sessions;
pub mod systems;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::feed::FeedChannels;
use self::metrics::ServiceMetrics;
use self::refused_attempts::RefusedAttempts;
use crate::auth::passwords::{Cost, Passwords};
use crate::auth::tokens::Tokens;
use crate::clock::Environment;
use crate::coherence::Coherence;
pub use crate::coherence::Enforcement;
use crate::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use crate::domain::ids::{AuditEntryId, RequestId};
use crate::domain::keys::KeyPrefix;
use crate::domain::operators::Operator;
use crate::domain::permissions::Permission;
use crate::domain::refusal::Refusal;
use crate::domain::secrets::Keyring;
use crate::domain::sessions::Session;
use crate::store::Store;

/// What an operator of the server decides about Keymark's behaviour.
#[derive(Clone, Debug)]
pub struct Settings {
    pub key_prefix: KeyPrefix,
    pub session_lifetime: Duration,
    /// How long a revoked key is told from an unknown one.
    pub revoked_retention: Duration,
    /// How long a change waits at most until it is known to be enforced everywhere.
    pub enforcement_wait: Duration,
    pub password_cost: Cost,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key_prefix: KeyPrefix::default(),
            session_lifetime: Duration::from_secs(12 * 60 * 60),
            revoked_retention: Duration::from_secs(90 * 24 * 60 * 60),
            enforcement_wait: Duration::from_secs(15),
            password_cost: Cost::default(),
        }
    }
}

/// One request: its id in the log, in errors and in the audit log, and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub id: RequestId,
    pub source_address: Option<IpAddr>,
}

/// A signed-in operator, as they were when the request began.
#[derive(Clone, Debug)]
pub struct Caller {
    pub operator: Arc<Operator>,
    pub session: Session,
}

impl Caller {
    /// Refuses what needs a code that the caller has not.
    pub fn check(&self, permission: Permission) -> Result<(), Refusal> {
        if self.operator.permissions.contains(permission) { Ok(()) } else { Err(Refusal::Forbidden(permission)) }
    }

    fn origin(&self, request: Request) -> Origin {
        origin(AuditActor::operator(&self.operator), request)
    }
}

fn origin(actor: AuditActor, request: Request) -> Origin {
    Origin { actor, source_address: request.source_address, request_id: request.id }
}

/// The operations, over whatever store there is.
pub struct Service {
    store: Arc<dyn Store>,
    coherence: Arc<Coherence>,
    environment: Environment,
    keyring: Keyring,
    settings: Settings,
    tokens: Tokens,
    passwords: Passwords,
    refused_attempts: RefusedAttempts,
    feed: FeedChannels,
    tasks: TaskTracker,
    metrics: ServiceMetrics,
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
            refused_attempts: RefusedAttempts::default(),
            feed: FeedChannels::default(),
            tasks: TaskTracker::new(),
            metrics: ServiceMetrics::default(),
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

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether memory has been loaded and the store answers.
    pub async fn is_ready(&self) -> bool {
        self.coherence.is_loaded() && self.store.ping().await.is_ok()
    }

    /// Names a request that begins now.
    pub fn request(&self, source_address: Option<IpAddr>) -> Request {
        let id = RequestId::new(self.environment.now(), &mut **self.environment.rng());
        Request { id, source_address }
    }

    /// Runs `work` behind the answer: nobody waits for it but [`finish`](Self::finish).
    fn spawn_after_response(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Waits for what still runs detached. Nothing new is expected then.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn event(&self, origin: &Origin, action: AuditAction) -> AuditEvent {
        let now = self.environment.now();
        let id = AuditEntryId::new(now, &mut **self.environment.rng());
        AuditEvent::new(id, now, origin, action)
    }
}
