//! Helpers of the cases: tenants that prepare rows and batches from a fixed clock and seeded randomness, and functions
//! that commit batches and follow the feed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditHead, Origin};
use keymark::domain::changes::{Batch, Change, Position, Row, RowId, Write};
use keymark::domain::external_ids::ExternalId;
use keymark::domain::ids::{AuditEntryId, OperatorId, RequestId, SystemId, TenantId, TokenId};
use keymark::domain::keys::{ApiKey, Key, KeyDigest, KeyEnd, Mark};
use keymark::domain::operators::{Operator, PasswordHash, Username};
use keymark::domain::permissions::Permissions;
use keymark::domain::secrets::Fingerprint;
use keymark::domain::sessions::{Session, SessionSecret};
use keymark::domain::system_names::{Search, SystemName};
use keymark::domain::systems::{NewKey, System, SystemOrder};
use keymark::domain::texts::Description;
use keymark::domain::time::Timestamp;
use keymark::domain::tokens::{Token, TokenKind};
use keymark::store::{Conflict, Feed, PageEnd, PageRequest, Result, Store, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Barrier;

use super::Factory;

/// The initial time of every tenant's clock.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub const SECOND: Duration = Duration::from_secs(1);

/// A tenant that prepares batches, for [`commit`] and [`refused`].
pub struct Tenant {
    pub id: TenantId,
    /// The time of its clock, which only the case advances.
    pub now: Timestamp,
    rng: StdRng,
}

/// A name yields the same ids and digests in every run, different from those of other names.
pub fn tenant(name: &str) -> Tenant {
    let mut seed = [0; 32];
    for (place, byte) in name.bytes().enumerate() {
        seed[place % 32] ^= byte;
    }
    Tenant { id: tenant_id(name), now: START, rng: StdRng::from_seed(seed) }
}

pub fn tenant_id(name: &str) -> TenantId {
    name.parse().expect("a tenant id")
}

pub fn system_name(name: &str) -> SystemName {
    SystemName::parse(name).expect("a system name")
}

pub fn external_id(text: &str) -> ExternalId {
    ExternalId::parse(text).expect("an external id").expect("some text")
}

/// The root secret that the keys of the fixtures name.
fn secret() -> Fingerprint {
    "0123456789abcdef".to_owned().try_into().expect("16 hex digits")
}

impl Tenant {
    pub fn system(&mut self, name: &str) -> System {
        System::new(SystemId::new(self.now, &mut self.rng), self.id.clone(), system_name(name), self.now)
    }

    pub fn operator(&mut self, username: &str) -> Operator {
        Operator::new(
            OperatorId::new(self.now, &mut self.rng),
            self.id.clone(),
            username_of(username),
            PasswordHash::from_phc(format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ${username}")),
            Permissions::all_of(true),
            self.now,
        )
    }

    /// A session of the operator that lasts a minute.
    pub fn session(&mut self, operator: &Operator) -> Session {
        Session {
            id: SessionSecret::generate(&mut self.rng).id(),
            tenant: self.id.clone(),
            operator: operator.id,
            password_version: operator.password_version,
            created_at: self.now,
            expires_at: self.now.plus(60 * SECOND),
            network: None,
            user_agent: None,
        }
    }

    pub fn digest(&mut self) -> KeyDigest {
        KeyDigest::from_bytes(self.rng.random())
    }

    /// A service token without an expiry.
    pub fn service_token(&mut self, name: &str) -> Token {
        Token {
            id: TokenId::new(self.now, &mut self.rng),
            tenant: self.id.clone(),
            name: system_name(name),
            kind: TokenKind::Service { permissions: Permissions::all_of(false), retiring: None },
            is_platform: false,
            digest: self.digest(),
            mark: ApiKey::generate(&"kmt".parse().unwrap(), &mut self.rng).mark(),
            created_by: AuditActor::command_line(),
            expires_at: None,
            revision: 1,
            created_at: self.now,
            updated_at: self.now,
        }
    }

    pub fn issue(&mut self, token: &Token) -> Batch {
        let event = self.event(AuditAction::ServiceTokenCreated).about_token(token);
        self.batch(event).insert(Row::Token(token.clone()))
    }

    /// An event by the command line that concerns nothing yet.
    pub fn event(&mut self, action: AuditAction) -> AuditEvent {
        let origin = Origin {
            actor: AuditActor::command_line(),
            source_address: None,
            request_id: RequestId::new(self.now, &mut self.rng),
        };
        AuditEvent::new(AuditEntryId::new(self.now, &mut self.rng), self.now, &origin, action)
    }

    /// A batch that writes only its audit entry.
    pub fn note(&mut self, action: AuditAction) -> Batch {
        let event = self.event(action);
        self.batch(event)
    }

    pub fn create(&mut self, system: &System) -> Batch {
        let event = self.event(AuditAction::SystemCreated).about_system(system);
        self.batch(event).insert(Row::System(system.clone()))
    }

    /// The system under its new name, and the batch that renames it.
    pub fn rename(&mut self, system: &System, name: &str) -> (System, Batch) {
        let renamed = system.rename(system_name(name), None, self.now).expect("no revision is required");
        let renamed = renamed.expect("a different name");
        let event = self.event(AuditAction::SystemRenamed).about_system(&renamed).renamed_from(system.name.as_str());
        let batch = self.batch(event).replace(Row::System(renamed.clone()));
        (renamed, batch)
    }

    /// The system with another description, and the batch that describes it.
    pub fn describe(&mut self, system: &System, description: Option<&str>) -> (System, Batch) {
        let description = description.map(|text| Description::parse(text).expect("a description").expect("some text"));
        let described = system.describe(description, None, self.now).expect("no revision is required");
        let described = described.expect("a different description");
        let event = self.event(AuditAction::SystemDescribed).about_system(&described);
        let batch = self.batch(event).replace(Row::System(described.clone()));
        (described, batch)
    }

    /// The system with another external id, and the batch that sets or removes it.
    pub fn identify(&mut self, system: &System, external_id: Option<&str>) -> (System, Batch) {
        let changed = system.set_external_id(external_id.map(self::external_id), self.now).expect("a different one");
        let event = self.event(AuditAction::ExternalIdChanged).about_system(&changed);
        let batch = self.batch(event).replace(Row::System(changed.clone()));
        (changed, batch)
    }

    /// Like [`rename`](Self::rename), for a system with this key.
    pub fn rename_with_key(&mut self, system: &System, key: &Key, name: &str) -> (System, Key, Batch) {
        let (renamed, batch) = self.rename(system, name);
        let key = key.in_system(&renamed);
        let batch = batch.replace(Row::Key(key.clone()));
        (renamed, key, batch)
    }

    fn new_key(&mut self, mark: Mark) -> NewKey {
        let generated_by = AuditActor::command_line();
        NewKey { digest: self.digest(), secret: secret(), mark, generated_by, expires_at: None }
    }

    pub fn generate(&mut self, system: &System) -> (System, Key, Batch) {
        let mark = ApiKey::generate(&"km".parse().unwrap(), &mut self.rng).mark();
        let (system, key) = system.generate_key(self.new_key(mark), self.now).expect("the system has no key");
        let event = self.event(AuditAction::KeyGenerated).about_system(&system).about_key(mark);
        let batch = self.batch(event).replace(Row::System(system.clone())).insert(Row::Key(key.clone()));
        (system, key, batch)
    }

    pub fn revoke(&mut self, system: &System, key: &Key) -> (System, Key, Batch) {
        let system = system.revoke_keys(None, self.now).expect("the system has a key");
        let key = key.ended(KeyEnd::Revoked, self.now);
        let event = self.event(AuditAction::KeyRevoked).about_system(&system).about_key(key.mark);
        let batch = self.batch(event).replace(Row::System(system.clone())).replace(Row::Key(key.clone()));
        (system, key, batch)
    }

    pub fn delete(&mut self, system: &System) -> Batch {
        let event = self.event(AuditAction::SystemDeleted).about_deleted_system(system);
        self.batch(event).delete(&Row::System(system.clone()))
    }

    /// Like [`delete`](Self::delete), for a system with this key, which is kept as revoked.
    pub fn delete_with_key(&mut self, system: &System, key: &Key) -> (Key, Batch) {
        let key = key.ended(KeyEnd::SystemDeleted, self.now);
        let batch = self.delete(system).replace(Row::Key(key.clone()));
        (key, batch)
    }

    pub fn add(&mut self, operator: &Operator) -> Batch {
        let event = self.event(AuditAction::OperatorAdded).about_operator(operator);
        self.batch(event.with_permissions(operator.permissions)).insert(Row::Operator(operator.clone()))
    }

    pub fn permit(&mut self, operator: &Operator, permissions: Permissions) -> (Operator, Batch) {
        let changed = operator.with_permissions(permissions, self.now).expect("different permissions");
        let event = self.event(AuditAction::PermissionsChanged).about_operator(&changed).with_permissions(permissions);
        let batch = self.batch(event).replace(Row::Operator(changed.clone()));
        (changed, batch)
    }

    pub fn set_password(&mut self, operator: &Operator, phc: &str) -> (Operator, Batch) {
        let changed = operator.with_password(PasswordHash::from_phc(phc.to_owned()), self.now);
        let event = self.event(AuditAction::PasswordChanged).about_operator(&changed);
        let batch = self.batch(event).replace(Row::Operator(changed.clone()));
        (changed, batch)
    }

    /// Removes the operator and these sessions.
    pub fn remove(&mut self, operator: &Operator, sessions: &[Session]) -> Batch {
        let event = self.event(AuditAction::OperatorRemoved).about_operator(operator);
        let batch = self.batch(event).delete(&Row::Operator(operator.clone()));
        sessions.iter().fold(batch, |batch, session| batch.delete_if_present(RowId::Session(session.id)))
    }

    pub fn sign_in(&mut self, session: &Session) -> Batch {
        self.note(AuditAction::SignedIn).insert(Row::Session(session.clone()))
    }

    pub fn sign_out(&mut self, session: &Session) -> Batch {
        self.note(AuditAction::SignedOut).delete_if_present(RowId::Session(session.id))
    }

    fn batch(&self, event: AuditEvent) -> Batch {
        Batch::new(self.id.clone(), event)
    }
}

pub fn username_of(username: &str) -> Username {
    username.parse().expect("a username")
}

/// Awaits a step. Panics after a minute.
pub async fn within_a_minute<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(60 * SECOND, step).await.expect("the step ends within a minute")
}

/// Commits a batch that must be accepted.
pub async fn commit(store: &dyn Store, batch: Batch) -> AuditEntry {
    store.commit(batch).await.expect("the batch is accepted")
}

/// Commits a batch that must be refused. Checks that it changed nothing, and returns the conflict.
pub async fn refused(store: &dyn Store, batch: Batch) -> Conflict {
    let before = AffectedState::of(store, &batch).await;
    let conflict = conflict(store.commit(batch.clone()).await);
    assert_eq!(AffectedState::of(store, &batch).await, before, "a refused batch changes nothing");
    conflict
}

pub fn conflict(result: Result<AuditEntry>) -> Conflict {
    match result {
        Err(StoreError::Conflict(conflict)) => conflict,
        other => panic!("a conflict is expected, not {other:?}"),
    }
}

/// Everything that a batch could have changed.
#[derive(Debug, PartialEq)]
struct AffectedState {
    rows: Vec<Option<Row>>,
    systems: Vec<System>,
    operators: Vec<Operator>,
    tenants: Vec<TenantId>,
    head: AuditHead,
    entry: Option<AuditEntry>,
    marked: bool,
}

impl AffectedState {
    async fn of(store: &dyn Store, batch: &Batch) -> Self {
        let mut rows = Vec::new();
        for (_, write) in &batch.writes {
            rows.push(find_row(store, &batch.tenant, id_of(write)).await);
        }
        Self {
            rows,
            systems: systems(store, &batch.tenant).await,
            operators: store.list_operators(None).await.unwrap(),
            tenants: store.list_tenants().await.unwrap(),
            head: store.audit_head(&batch.tenant).await.unwrap(),
            entry: store.find_audit_entry(&batch.tenant, batch.event.id).await.unwrap(),
            marked: store.has_marker(batch.marker.unwrap_or("none")).await.unwrap(),
        }
    }
}

pub async fn find_row(store: &dyn Store, tenant: &TenantId, id: RowId) -> Option<Row> {
    match id {
        RowId::System(id) => store.find_system(tenant, id).await.unwrap().map(Row::System),
        RowId::Key(digest) => store.find_key(&[digest]).await.unwrap().map(Row::Key),
        RowId::Operator(id) => {
            let found = store.find_operator(id).await.unwrap();
            assert_eq!(store.find_operator_to_change(id).await.unwrap(), found);
            found.map(Row::Operator)
        }
        RowId::Session(id) => {
            let found = store.find_session(id).await.unwrap();
            assert_eq!(store.find_session_to_change(id).await.unwrap(), found);
            found.map(Row::Session)
        }
        RowId::Lease(id) => {
            let leases = store.list_leases().await.unwrap();
            leases.into_iter().find(|lease| lease.incarnation == id).map(Row::Lease)
        }
        RowId::Tenant(id) => {
            let found = store.find_tenant(&id).await.unwrap();
            assert_eq!(store.find_tenant_to_change(&id).await.unwrap(), found);
            found.map(Row::Tenant)
        }
        RowId::Token(id) => store.find_token_by_id(id).await.unwrap().map(Row::Token),
    }
}

pub fn id_of(write: &Write) -> RowId {
    match write {
        Write::Put(row) => row.id(),
        Write::Delete(id) => id.clone(),
    }
}

/// Requests a whole list in one page.
pub fn whole<K>() -> PageRequest<K> {
    PageRequest { after: None, before: None, limit: 10_000, from: PageEnd::First }
}

/// The tenant's systems by name.
pub async fn systems(store: &dyn Store, tenant: &TenantId) -> Vec<System> {
    let page = store.list_systems(tenant, &Search::All, SystemOrder::default(), &whole()).await.unwrap();
    assert!(!page.has_more);
    page.items
}

/// The tenant's log, oldest first.
pub async fn log(store: &dyn Store, tenant: &TenantId) -> Vec<AuditEntry> {
    let page = store.list_audit(tenant, &AuditFilter::default(), &whole()).await.unwrap();
    assert!(!page.has_more);
    page.items.into_iter().rev().collect()
}

/// Opens a new store in as many concurrent instances as the backend supports, at most two.
pub async fn instances(factory: &dyn Factory) -> Vec<Arc<dyn Store>> {
    let mut instances = vec![factory.open().await];
    instances.extend(factory.beside().await);
    instances
}

/// Runs the calls concurrently, each on the next instance in turn. The results are in the order of the calls.
pub async fn concurrently<C, T, F>(
    instances: &[Arc<dyn Store>],
    calls: Vec<C>,
    call: impl Fn(Arc<dyn Store>, C) -> F,
) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let start = Arc::new(Barrier::new(calls.len()));
    let running = calls.into_iter().zip(instances.iter().cycle()).map(|(argument, instance)| {
        let start = start.clone();
        let result = call(instance.clone(), argument);
        tokio::spawn(async move {
            start.wait().await;
            result.await
        })
    });
    join_all(running.collect::<Vec<_>>()).await.into_iter().map(|joined| joined.expect("the call returns")).collect()
}

/// Commits the batches concurrently. The results are in the order of the batches.
pub async fn commit_concurrently(instances: &[Arc<dyn Store>], batches: Vec<Batch>) -> Vec<Result<AuditEntry>> {
    concurrently(instances, batches, |store, batch| async move { store.commit(batch).await }).await
}

/// Commits concurrent batches of which only one can be accepted. Returns its index and the conflicts of the others.
pub async fn one_of(instances: &[Arc<dyn Store>], batches: Vec<Batch>) -> (usize, Vec<Conflict>) {
    let mut accepted = Vec::new();
    let mut conflicts = Vec::new();
    for (which, result) in commit_concurrently(instances, batches).await.into_iter().enumerate() {
        match result {
            Ok(_) => accepted.push(which),
            refused => conflicts.push(conflict(refused)),
        }
    }
    assert_eq!(accepted.len(), 1, "exactly one is accepted, not {accepted:?}");
    (accepted[0], conflicts)
}

/// Reads a feed.
pub struct Follower(Feed);

pub async fn follow(store: &dyn Store, after: Option<&Position>) -> Follower {
    Follower(store.watch(after, None).await.expect("the feed opens"))
}

impl Follower {
    /// Returns the next change, which must arrive.
    pub async fn next(&mut self) -> Change {
        within_a_minute(self.0.next()).await.expect("the feed continues").expect("the feed does not break")
    }

    pub async fn next_entry(&mut self) -> AuditEntry {
        Arc::unwrap_or_clone(self.next().await.entry.expect("the change is a batch"))
    }

    pub async fn take(&mut self, count: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.push(self.next().await);
        }
        changes
    }
}

/// Sorts writes by id: their order within a batch has no meaning, since each row is written once.
pub fn sorted(writes: &[Write]) -> Vec<Write> {
    let mut writes = writes.to_vec();
    writes.sort_by_cached_key(|write| serde_json::to_string(&id_of(write)).expect("a row id serializes"));
    writes
}

/// The batch's writes, in the order of [`sorted`].
pub fn writes_of(batch: &Batch) -> Vec<Write> {
    sorted(&batch.writes.iter().map(|(_, write)| write.clone()).collect::<Vec<_>>())
}
