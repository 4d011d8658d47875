//! MongoDB, one replica set: the store for more than one instance.
//!
//! | what | where |
//! | --- | --- |
//! | collections, indexes, validators | `migrations` |
//! | documents and rows | `rows` |
//! | batches as transactions | `commit` |
//! | look-ups, lists, counts | `reads` |
//! | look-ups of one thing at one time | `coalesce` |
//! | all that memory is built from | `scan` |
//! | the change stream | `feed` |
//! | what instances tell one another | `leases` |
//! | quota shared by instances | `throttle` |
//! | what is past its retention | `purge` |
//!
//! Concerns are the strongest everywhere, whatever the URI says: writes are acknowledged by a majority and journalled,
//! reads see what a majority has and ask the primary, transactions read a snapshot, and what instances rely on when
//! they do not rely on their memory is linearizable: [`Store::find_key`], [`Store::find_session`],
//! [`Store::find_operator`] and [`Store::list_leases`]
//! (<https://www.mongodb.com/docs/v6.0/reference/read-concern-linearizable/>). The driver has no overall time-out, so
//! every call of it is bounded here.

mod coalesce;
mod commit;
mod feed;
mod leases;
mod migrations;
mod purge;
mod reads;
mod rows;
mod scan;
mod throttle;

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, ServerAddress,
    WriteConcern,
};
use mongodb::{Client, Collection, Cursor, Database};
use thiserror::Error;

use self::coalesce::Coalesced;
use super::{Cause, Feed, ListedSystems, Page, PageRequest, Purged, Quota, Result, Rows, Store, StoreError};
use crate::clock::Environment;
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::changes::{Batch, Position};
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::leases::Lease;
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::domain::time::Timestamp;

const SYSTEMS: &str = "systems";
const KEYS: &str = "keys";
const OPERATORS: &str = "operators";
const SESSIONS: &str = "sessions";
const AUDIT: &str = "audit";
/// Where each tenant's log ends: `{_id: tenant, number, hash}`.
const TENANTS: &str = "tenants";
/// What each incarnation of an instance last said of itself.
const LEASES: &str = "leases";
const BUCKETS: &str = "buckets";
/// Settings, markers and the version of all this.
const META: &str = "meta";

/// Most connections of one instance to one server, unless the URI says otherwise.
const POOL: u32 = 50;
/// MongoDB 6.0, the oldest that this was tested with, by its wire version.
const OLDEST_WIRE_VERSION: i32 = 17;

/// Where the database is, and how long it may take to answer.
#[derive(Clone)]
pub struct MongoOptions {
    /// A connection string (<https://www.mongodb.com/docs/manual/reference/connection-string/>). What it says of
    /// concerns, read preference and time-outs is overruled.
    pub uri: String,
    /// The name of the database.
    pub database: String,
    /// How long one exchange with the database may take.
    pub call_limit: Duration,
    /// How long a commit may wait for others of its tenant, on this instance and others.
    pub contention_limit: Duration,
}

impl MongoOptions {
    /// Four seconds for an exchange, ten for contention.
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            database: database.into(),
            call_limit: Duration::from_secs(4),
            contention_limit: Duration::from_secs(10),
        }
    }
}

/// Without the URI, which may hold a password.
impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOptions").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why the database cannot be used. The message is one line that says what to do.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The message does not repeat the URI, which may hold a password.
    #[error(
        "The MongoDB URI cannot be read: write it as mongodb://user:password@host:27017/?replicaSet=rs0, with special \
         characters of user and password percent-encoded."
    )]
    Uri,
    #[error("{0:?} is no name for a MongoDB database: use 1 to 63 letters, digits, hyphens and underscores.")]
    DatabaseName(String),
    /// No server responds, or the replica set has no primary.
    #[error("MongoDB does not answer: check that the hosts of the URI run and have a primary.")]
    Unreachable(#[source] Cause),
    /// The user name or the password is wrong, or the user lacks a role.
    #[error(
        "MongoDB refuses the user of the URI: check name, password and authSource, and grant readWrite and dbAdmin on \
         the database."
    )]
    Refused(#[source] Cause),
    /// A server outside of any replica set: it has no transactions and no change streams.
    #[error(
        "This MongoDB is a standalone server, which has no transactions: start mongod with --replSet rs0 and run \
         rs.initiate() once."
    )]
    Standalone,
    #[error("The replica set of this MongoDB is not initiated yet: run rs.initiate() once.")]
    NotInitiated,
    #[error(
        "This MongoDB is a sharded cluster (mongos): give the URI of one replica set; to outgrow it, spread the \
         tenants over several deployments."
    )]
    Sharded,
    /// The URI names a single member, which is not the primary.
    #[error(
        "The URI names one member alone, and it is not the primary: name all members and leave directConnection out."
    )]
    NotPrimary,
    /// Older than MongoDB 6.0.
    #[error("This MongoDB is too old: use 6.0 or later.")]
    TooOld,
    #[error(
        "A newer release of Keymark has used this database (its version is {found}, this release knows {known}): \
         start that release or a later one."
    )]
    Newer { found: i64, known: i64 },
    /// Creating or updating collections and indexes failed.
    #[error("The database cannot be prepared: {0}.")]
    Preparation(#[source] Cause),
    /// The client does not use the concerns that it was configured with: a defect.
    #[error("The MongoDB client did not take its read and write concerns: a defect.")]
    Concerns,
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Limits {
    call: Duration,
    contention: Duration,
}

/// The MongoDB backend of [`Store`].
pub struct MongoStore {
    client: Client,
    database: Database,
    /// The same one, for the change stream.
    followed: Database,
    systems: Collection<Document>,
    keys: Collection<Document>,
    operators: Collection<Document>,
    sessions: Collection<Document>,
    audit: Collection<Document>,
    tenants: Collection<Document>,
    leases: Collection<Document>,
    buckets: Collection<Document>,
    meta: Collection<Document>,
    // The same collections, but read so that nothing answered before is missed, whatever happens to the primary.
    keys_linearizable: Collection<Document>,
    operators_linearizable: Collection<Document>,
    sessions_linearizable: Collection<Document>,
    leases_linearizable: Collection<Document>,
    meta_linearizable: Collection<Document>,
    lanes: commit::Lanes,
    /// Randomness for the delay between two attempts of a commit.
    environment: Environment,
    session_reads: Coalesced<SessionId, Option<Session>>,
    operator_reads: Coalesced<OperatorId, Option<Operator>>,
    limits: Limits,
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore").field("database", &self.database.name()).finish_non_exhaustive()
    }
}

impl MongoStore {
    /// Connects, refuses what cannot keep the store's promises, and brings collections and indexes up to date.
    ///
    /// Any number of instances may do so at once.
    pub async fn connect(options: &MongoOptions, environment: Environment) -> Result<Self, ConnectError> {
        let limits = Limits { call: options.call_limit, contention: options.contention_limit };
        check_database_name(&options.database)?;
        let resolved = client_options(&options.uri, limits).await?;
        let seed = resolved.hosts.first().cloned();
        // When the driver resumes a change stream and its first attempt fails, the second one begins wherever the
        // database is by then, and what came before is missing without a word (3.9.1: `ChangeStreamAggregate::build`
        // takes the token away). So there must be no second one: then the stream ends with the error.
        let mut without_retries = resolved.clone();
        without_retries.retry_reads = Some(false);
        let followed = Client::with_options(without_retries).map_err(|_| ConnectError::Uri)?;
        let client = Client::with_options(resolved).map_err(|_| ConnectError::Uri)?;
        check_server(&client, seed, limits).await?;
        check_concerns(&client)?;
        let database = client.database(&options.database);
        migrations::run(&database, limits).await?;
        let collection = |name| database.collection::<Document>(name);
        let linearizable = |name| {
            let concern = CollectionOptions::builder().read_concern(ReadConcern::linearizable()).build();
            database.collection_with_options::<Document>(name, concern)
        };
        Ok(Self {
            systems: collection(SYSTEMS),
            keys: collection(KEYS),
            operators: collection(OPERATORS),
            sessions: collection(SESSIONS),
            audit: collection(AUDIT),
            tenants: collection(TENANTS),
            leases: collection(LEASES),
            buckets: collection(BUCKETS),
            meta: collection(META),
            keys_linearizable: linearizable(KEYS),
            operators_linearizable: linearizable(OPERATORS),
            sessions_linearizable: linearizable(SESSIONS),
            leases_linearizable: linearizable(LEASES),
            meta_linearizable: linearizable(META),
            lanes: commit::Lanes::default(),
            environment,
            session_reads: Coalesced::default(),
            operator_reads: Coalesced::default(),
            limits,
            followed: followed.database(&options.database),
            client,
            database,
        })
    }

    /// Waits for one exchange with the database, within the limit of a call.
    async fn bounded<T>(
        &self,
        what: &'static str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.limits.call, call.into_future()).await {
            Ok(answer) => answer.map_err(store_error),
            Err(_) => Err(TimedOut::new(what).into()),
        }
    }

    /// Reads all that a query finds; each exchange within the limit of a call.
    async fn collect(
        &self,
        what: &'static str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<Document>>>,
    ) -> Result<Vec<Document>> {
        let mut cursor = self.bounded(what, find).await?;
        let mut found = Vec::new();
        while self.bounded(what, cursor.advance()).await? {
            found.push(cursor.deserialize_current().map_err(store_error)?);
        }
        Ok(found)
    }
}

fn check_database_name(name: &str) -> Result<(), ConnectError> {
    let well_formed = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !["admin", "local", "config"].contains(&name);
    if well_formed { Ok(()) } else { Err(ConnectError::DatabaseName(name.to_owned())) }
}

/// What every write waits for: a majority has it, in its journal. The server gives up waiting a little after the
/// caller did.
fn write_concern(limits: Limits) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(limits.call * 2).build()
}

/// What the URI says, and the concerns and time-outs that hold whatever it says.
async fn client_options(uri: &str, limits: Limits) -> Result<ClientOptions, ConnectError> {
    // The driver's message may repeat what it could not read, and that may be a password.
    let parsed = tokio::time::timeout(limits.call, ClientOptions::parse(uri));
    let mut options = match parsed.await {
        Ok(Ok(options)) => options,
        Ok(Err(error)) if matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
            return Err(ConnectError::Unreachable(Box::new(error)));
        }
        Ok(Err(_)) => return Err(ConnectError::Uri),
        Err(_) => return Err(ConnectError::Unreachable(TimedOut::new("resolving the URI").into())),
    };
    if options.read_concern.as_ref().is_some_and(|concern| *concern != ReadConcern::majority())
        || options.selection_criteria.as_ref().is_some_and(|criteria| !reads_primary(criteria))
        || options.write_concern.as_ref().is_some_and(is_weaker)
    {
        tracing::warn!("the MongoDB URI asks for weaker concerns or for reads of secondaries: this is overruled");
    }
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(write_concern(limits));
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_reads = Some(true);
    options.retry_writes = Some(true);
    // A lost server is noticed well within the limit of a call, and so is its return.
    options.connect_timeout = Some(limits.call / 2);
    options.server_selection_timeout = Some(limits.call * 3 / 4);
    options.heartbeat_freq = Some((limits.call / 4).max(Duration::from_millis(500)));
    options.max_pool_size.get_or_insert(POOL);
    options.app_name.get_or_insert_with(|| "keymark".to_owned());
    Ok(options)
}

fn reads_primary(criteria: &SelectionCriteria) -> bool {
    matches!(criteria, SelectionCriteria::ReadPreference(ReadPreference::Primary))
}

fn is_weaker(concern: &WriteConcern) -> bool {
    concern.w.as_ref().is_some_and(|w| *w != Acknowledgment::Majority) || concern.journal == Some(false)
}

/// Asks the server what it is.
async fn check_server(client: &Client, seed: Option<ServerAddress>, limits: Limits) -> Result<(), ConnectError> {
    let hello = match tokio::time::timeout(limits.call, hello(client)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) if is_refusal(&error) => return Err(ConnectError::Refused(Box::new(error))),
        Ok(Err(error)) => return Err(why_unreachable(seed, limits, error).await),
        Err(_) => return Err(ConnectError::Unreachable(TimedOut::new("hello").into())),
    };
    judge(&hello)
}

async fn hello(client: &Client) -> mongodb::error::Result<Document> {
    client.database("admin").run_command(doc! { "hello": 1 }).await
}

/// Whether a server that says this of itself will do
/// (<https://www.mongodb.com/docs/v6.0/reference/command/hello/>).
fn judge(hello: &Document) -> Result<(), ConnectError> {
    let is_true = |member| hello.get_bool(member).unwrap_or(false);
    let wire_version = hello.get("maxWireVersion").and_then(number_of).unwrap_or(0);
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return Err(ConnectError::Sharded);
    }
    if is_true("isreplicaset") {
        return Err(ConnectError::NotInitiated);
    }
    if !hello.contains_key("setName") {
        return Err(ConnectError::Standalone);
    }
    if wire_version < i64::from(OLDEST_WIRE_VERSION) {
        return Err(ConnectError::TooOld);
    }
    if is_true("isWritablePrimary") { Ok(()) } else { Err(ConnectError::NotPrimary) }
}

/// The driver finds no primary: a member that is not part of a set yet can say so itself.
async fn why_unreachable(seed: Option<ServerAddress>, limits: Limits, error: Error) -> ConnectError {
    let options = ClientOptions::builder()
        .hosts(seed.into_iter().collect::<Vec<_>>())
        .direct_connection(true)
        .connect_timeout(limits.call / 2)
        .server_selection_timeout(limits.call / 2)
        .build();
    let Ok(direct) = Client::with_options(options) else { return ConnectError::Unreachable(Box::new(error)) };
    match tokio::time::timeout(limits.call, hello(&direct)).await {
        Ok(Ok(hello)) if matches!(judge(&hello), Err(ConnectError::NotInitiated)) => ConnectError::NotInitiated,
        _ => ConnectError::Unreachable(Box::new(error)),
    }
}

/// The client was told its concerns; this is what it made of them.
fn check_concerns(client: &Client) -> Result<(), ConnectError> {
    let reads = client.read_concern() == Some(&ReadConcern::majority());
    let writes = client
        .write_concern()
        .is_some_and(|concern| concern.w == Some(Acknowledgment::Majority) && concern.journal == Some(true));
    let primary = client.selection_criteria().is_some_and(reads_primary);
    if reads && writes && primary { Ok(()) } else { Err(ConnectError::Concerns) }
}

/// Whether the server knows who asks, or does not let them: AuthenticationFailed and Unauthorized.
fn is_refusal(error: &Error) -> bool {
    match *error.kind {
        ErrorKind::Authentication { .. } => true,
        _ => matches!(code_of(error), Some(13 | 18)),
    }
}

/// MongoDB did not respond within the limit of a call.
#[derive(Debug, Error)]
#[error("MongoDB did not answer in time ({what})")]
struct TimedOut {
    what: &'static str,
}

impl TimedOut {
    fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl From<TimedOut> for StoreError {
    fn from(late: TimedOut) -> Self {
        Self::Unavailable(Box::new(late))
    }
}

/// DocumentValidationFailure: a validator found a document of ours to be none.
const DOCUMENT_VALIDATION_FAILURE: i32 = 121;
const DUPLICATE_KEY: i32 = 11000;

fn store_error(error: Error) -> StoreError {
    match (&*error.kind, code_of(&error)) {
        (ErrorKind::Bson(_) | ErrorKind::InvalidResponse { .. }, _) | (_, Some(DOCUMENT_VALIDATION_FAILURE)) => {
            StoreError::Corrupt(Box::new(error))
        }
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// The server's code for what went wrong (MongoDB 6.0, `src/mongo/base/error_codes.yml`).
fn code_of(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(unmet)) => Some(unmet.code),
        _ => None,
    }
}

fn is_duplicate_key(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(cause) => cause.downcast_ref::<Error>().and_then(code_of) == Some(DUPLICATE_KEY),
        _ => false,
    }
}

fn number_of(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

#[async_trait]
impl Store for MongoStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        self.bounded("ping", self.database.run_command(doc! { "ping": 1 })).await.map(drop)
    }

    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        self.read_system(tenant, id).await
    }

    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        self.read_systems_of(tenant, ids).await
    }

    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        self.read_systems(tenant, search, order, page).await
    }

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        self.number_of_systems(tenant, search).await
    }

    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>> {
        self.read_key(digests).await
    }

    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.operator_reads.get(id, async || self.read_operator(id).await).await
    }

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        self.read_operator_by_username(username).await
    }

    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        self.read_operators(tenant).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>> {
        self.session_reads.get(id, async || self.read_session(id).await).await
    }

    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        self.read_sessions(operator).await
    }

    async fn list_tenants(&self) -> Result<Vec<TenantId>> {
        self.read_tenants().await
    }

    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        self.read_head(tenant).await
    }

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        self.read_entry(tenant, id).await
    }

    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        self.read_audit(tenant, filter, page).await
    }

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        self.number_of_entries(tenant, filter).await
    }

    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        self.read_audit_after(tenant, number, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<AuditEntry> {
        self.commit_batch(batch).await
    }

    async fn watch(&self, after: Option<&Position>) -> Result<Feed> {
        self.follow(after).await
    }

    async fn scan_rows(&self) -> Result<Rows> {
        self.scan().await
    }

    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)> {
        self.scan_systems_of(tenant).await
    }

    async fn put_lease(&self, lease: &Lease) -> Result<()> {
        self.write_lease(lease).await
    }

    async fn list_leases(&self) -> Result<Vec<Lease>> {
        self.read_leases().await
    }

    async fn delete_lease(&self, lease: &Lease) -> Result<bool> {
        self.remove_lease(lease).await
    }

    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>> {
        self.take_from_bucket(bucket, quota, now).await
    }

    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()> {
        self.return_to_bucket(bucket, quota).await
    }

    async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        self.read_setting(name).await
    }

    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool> {
        self.write_setting(name, expected, value).await
    }

    async fn has_marker(&self, marker: &str) -> Result<bool> {
        self.read_marker(marker).await
    }

    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged> {
        self.purge_expired(now, revoked_before).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(hello: Document) -> String {
        match judge(&hello) {
            Ok(()) => "good".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_no_primary_of_a_replica_set_is_refused_with_the_remedy() {
        let primary = doc! { "setName": "rs0", "isWritablePrimary": true, "maxWireVersion": 17 };
        assert_eq!(verdict(primary.clone()), "good");
        let but = |member: &str, value: Bson| {
            let mut hello = primary.clone();
            hello.insert(member, value);
            verdict(hello)
        };
        insta::assert_snapshot!(
            verdict(doc! { "isWritablePrimary": true, "maxWireVersion": 17 }),
            @"This MongoDB is a standalone server, which has no transactions: start mongod with --replSet rs0 and run rs.initiate() once."
        );
        insta::assert_snapshot!(
            verdict(doc! { "isWritablePrimary": true, "msg": "isdbgrid", "maxWireVersion": 17 }),
            @"This MongoDB is a sharded cluster (mongos): give the URI of one replica set; to outgrow it, spread the tenants over several deployments."
        );
        insta::assert_snapshot!(
            verdict(doc! { "isreplicaset": true, "maxWireVersion": 17 }),
            @"The replica set of this MongoDB is not initiated yet: run rs.initiate() once."
        );
        insta::assert_snapshot!(but("maxWireVersion", 13.into()), @"This MongoDB is too old: use 6.0 or later.");
        insta::assert_snapshot!(
            but("isWritablePrimary", false.into()),
            @"The URI names one member alone, and it is not the primary: name all members and leave directConnection out."
        );
    }

    #[test]
    fn options_do_not_print_the_password() {
        let options = MongoOptions::new("mongodb://u:hunter2@localhost/", "keymark");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
