//! The store: its connection, its collections, and bounded calls.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{CollectionOptions, Hint, ReadConcern};
use mongodb::{Client, Collection, Cursor, Database};

use super::collections::{
    AUDIT, AUDIT_HEADS, BUCKETS, KEYS, LEASES, META, OPERATORS, SESSIONS, SYSTEMS, TENANTS, TOKENS, USAGE, USAGE_DAYS,
    USAGE_FLUSHES, USAGE_HOURS,
};
use super::errors::{ConnectError, TimedOut, store_error};
use super::migrations::{self, TOKENS_DIGESTS};
use super::options::{Limits, MongoOptions, RESERVED_POOL_SIZE, check_concerns, check_database_name, client_options};
use super::queues::TenantQueues;
use super::reads::{BY_ID, DocumentReads, batched};
use super::rows::TOKEN_DIGESTS;
use super::rows::{Stored, from_document};
use super::server::check_server;
use super::system_lists::{SystemLists, system_lists};
use crate::clock::Environment;
use crate::store::{Result, Store};

/// The MongoDB backend of [`Store`].
pub struct MongoStore {
    pub(super) client: Client,
    pub(super) database: Database,
    /// The same database, over a client that does not retry reads: for the change stream.
    pub(super) watched: Database,
    /// The same database, over a client whose connections serve no requests: for leases and loads. A probe that waited
    /// for a connection behind the reads of a bypassed cache would renew no lease, and the reads would never end.
    pub(super) reserved: Database,
    pub(super) systems: Collection<Document>,
    pub(super) keys: Collection<Document>,
    pub(super) operators: Collection<Document>,
    pub(super) sessions: Collection<Document>,
    pub(super) audit: Collection<Document>,
    pub(super) audit_heads: Collection<Document>,
    pub(super) tenants: Collection<Document>,
    pub(super) tokens: Collection<Document>,
    pub(super) leases: Collection<Document>,
    pub(super) buckets: Collection<Document>,
    pub(super) meta: Collection<Document>,
    pub(super) usage: Collection<Document>,
    pub(super) usage_hours: Collection<Document>,
    pub(super) usage_days: Collection<Document>,
    pub(super) usage_flushes: Collection<Document>,
    /// The same leases with read concern "linearizable".
    pub(super) leases_linearizable: Collection<Document>,
    pub(super) queues: TenantQueues,
    /// Randomness for the delay between two attempts of a commit.
    pub(super) environment: Environment,
    pub(super) key_reads: DocumentReads,
    pub(super) session_reads: DocumentReads,
    pub(super) operator_reads: DocumentReads,
    pub(super) tenant_reads: DocumentReads,
    /// By digest.
    pub(super) token_reads: DocumentReads,
    pub(super) head_reads: DocumentReads,
    pub(super) system_lists: SystemLists,
    pub(super) limits: Limits,
    /// How often the topology of the servers has changed, as the client has noticed it.
    topology_changes: Arc<AtomicU64>,
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore").field("database", &self.database.name()).finish_non_exhaustive()
    }
}

impl MongoStore {
    /// Connects, refuses a server that cannot give the store's guarantees, and brings collections and indexes up to date.
    ///
    /// Any number of instances may connect concurrently.
    pub async fn connect(options: &MongoOptions, environment: Environment) -> Result<Self, ConnectError> {
        Self::open(options, environment, async |database, limits| migrations::run(database, limits).await).await
    }

    /// Connects to a database that everything is moved into from `source`, and which has to be empty, except for what an
    /// interrupted move from there has left.
    pub async fn connect_empty(
        options: &MongoOptions,
        environment: Environment,
        source: &str,
    ) -> Result<Self, ConnectError> {
        let begin = async |database: &Database, limits| migrations::begin_transfer(database, limits, source).await;
        Self::open(options, environment, begin).await
    }

    /// Builds the indexes after everything was written, which takes less than keeping them meanwhile.
    pub async fn build_indexes(&self) -> Result<(), ConnectError> {
        migrations::build(&self.database).await
    }

    /// Lets instances connect.
    pub async fn finish_transfer(&self) -> Result<(), ConnectError> {
        migrations::finish_transfer(&self.database, self.limits).await
    }

    async fn open(
        options: &MongoOptions,
        environment: Environment,
        prepare: impl AsyncFnOnce(&Database, Limits) -> Result<(), ConnectError>,
    ) -> Result<Self, ConnectError> {
        let limits = Limits { call: options.call_limit, contention: options.contention_limit };
        check_database_name(&options.database)?;
        let resolved = client_options(&options.uri, limits).await?;
        let seed = resolved.hosts.first().cloned();
        let set_name = resolved.repl_set_name.clone();
        // When the driver resumes a change stream and its first attempt fails, the retry starts at the current end of
        // the oplog and silently skips the changes before it (3.9.1: `ChangeStreamAggregate::build` takes the token
        // away). Without retries, the stream ends with the error instead.
        let mut without_retries = resolved.clone();
        without_retries.retry_reads = Some(false);
        without_retries.max_pool_size = Some(RESERVED_POOL_SIZE);
        let watched = Client::with_options(without_retries).map_err(|_| ConnectError::Uri)?;
        let mut few_connections = resolved.clone();
        few_connections.max_pool_size = Some(RESERVED_POOL_SIZE);
        let reserved = Client::with_options(few_connections).map_err(|_| ConnectError::Uri)?;
        let reserved = reserved.database(&options.database);
        let topology_changes = Arc::<AtomicU64>::default();
        let mut resolved = resolved;
        resolved.sdam_event_handler = Some(count_topology_changes(Arc::clone(&topology_changes)));
        let client = Client::with_options(resolved).map_err(|_| ConnectError::Uri)?;
        check_server(&client, seed, set_name.as_deref(), limits).await?;
        check_concerns(&client)?;
        let database = client.database(&options.database);
        prepare(&database, limits).await?;
        let collection = |name| database.collection::<Document>(name);
        let linearizable_in = |database: &Database, name| {
            let concern = CollectionOptions::builder().read_concern(ReadConcern::linearizable()).build();
            database.collection_with_options::<Document>(name, concern)
        };
        let linearizable = |name| linearizable_in(&database, name);
        Ok(Self {
            systems: collection(SYSTEMS),
            keys: collection(KEYS),
            operators: collection(OPERATORS),
            sessions: collection(SESSIONS),
            audit: collection(AUDIT),
            audit_heads: collection(AUDIT_HEADS),
            tenants: collection(TENANTS),
            tokens: collection(TOKENS),
            leases: reserved.collection(LEASES),
            buckets: collection(BUCKETS),
            meta: collection(META),
            usage: collection(USAGE),
            usage_hours: collection(USAGE_HOURS),
            usage_days: collection(USAGE_DAYS),
            usage_flushes: collection(USAGE_FLUSHES),
            leases_linearizable: linearizable_in(&reserved, LEASES),
            queues: TenantQueues::default(),
            environment,
            key_reads: batched("find_key", linearizable(KEYS), "_id", BY_ID, limits),
            session_reads: batched("find_session", linearizable(SESSIONS), "_id", BY_ID, limits),
            operator_reads: batched("find_operator", linearizable(OPERATORS), "_id", BY_ID, limits),
            tenant_reads: batched("find_tenant", linearizable(TENANTS), "_id", BY_ID, limits),
            token_reads: batched("find_token", linearizable(TOKENS), TOKEN_DIGESTS, TOKENS_DIGESTS, limits),
            head_reads: batched("audit_head", collection(AUDIT_HEADS), "_id", BY_ID, limits),
            system_lists: system_lists(collection(SYSTEMS), limits),
            limits,
            topology_changes,
            watched: watched.database(&options.database),
            reserved,
            client,
            database,
        })
    }

    /// Awaits one round trip to the database, within the limit of a call. `what` names it in the error.
    pub(super) async fn bounded<T>(
        &self,
        what: &'static str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T> {
        self.limits.bounded(what, call).await
    }

    /// Reads all results of a query, with the limit of a call for each round trip.
    pub(super) async fn collect(
        &self,
        what: &'static str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<Document>>>,
    ) -> Result<Vec<Document>> {
        self.limits.collect(what, find).await
    }

    /// As [`Limits::collect_rows`].
    pub(super) async fn collect_rows<T>(
        &self,
        what: &'static str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<Document>>>,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.limits.collect_rows(what, find, read).await
    }

    pub(super) async fn find_one<T: Stored>(
        &self,
        what: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<Option<T>> {
        let find = collection.find_one(filter).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        self.bounded(what, find).await?.map(from_document).transpose()
    }

    pub(super) async fn count(
        &self,
        what: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<u64> {
        let count = collection.count_documents(filter).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        self.bounded(what, count).await
    }
}

/// Counts changes of the topology: another primary, or a server that was lost or found.
fn count_topology_changes(changes: Arc<AtomicU64>) -> EventHandler<SdamEvent> {
    EventHandler::callback(move |event| {
        if matches!(event, SdamEvent::TopologyDescriptionChanged(_)) {
            changes.fetch_add(1, Ordering::AcqRel);
        }
    })
}

impl Limits {
    async fn bounded<T>(
        self,
        what: &'static str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.call, call.into_future()).await {
            Ok(answer) => answer.map_err(store_error),
            Err(_) => Err(TimedOut::new(what).into()),
        }
    }

    pub(super) async fn collect(
        self,
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

    /// As [`collect`](Self::collect), with each row read from the bytes that were received: to build a [`Document`] first
    /// takes twice as long as the row.
    pub(super) async fn collect_rows<T>(
        self,
        what: &'static str,
        find: impl IntoFuture<Output = mongodb::error::Result<Cursor<Document>>>,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut cursor = self.bounded(what, find).await?;
        let mut rows = Vec::new();
        while self.bounded(what, cursor.advance()).await? {
            rows.push(read(cursor.current())?);
        }
        Ok(rows)
    }
}

#[async_trait]
impl Store for MongoStore {
    fn is_shared(&self) -> bool {
        true
    }

    /// All reads are majority reads from the primary, and one server's majority commit point never goes back. The client
    /// reads from another one only after a change of the topology, of which it notifies before.
    fn read_epoch(&self) -> u64 {
        self.topology_changes.load(Ordering::Acquire)
    }

    async fn ping(&self) -> Result<()> {
        self.bounded("ping", self.database.run_command(doc! { "ping": 1 })).await.map(drop)
    }
}
