//! Batches as transactions.
//!
//! 1. Callers of one tenant queue within the instance: see [`TenantQueues`](super::queues::TenantQueues).
//! 2. The transaction advances the tenant's head first. Two transactions that advance the same head cannot both commit,
//!    so instances conflict there; the loser fails immediately and retries.
//! 3. It checks the conditions, writes the rows, and inserts the audit entry last, by which followers of the feed
//!    recognize that the batch is complete.
//! 4. It commits. If the response is lost, the commit is sent again, as the specification of transactions requires
//!    (<https://github.com/mongodb/specifications/blob/master/source/transactions/transactions.md>). If that fails too, a
//!    new transaction in the same session ends the old one, committed or not, and the log is searched for the entry.
//!
//! The entry's `_id` is chosen by the caller, so a batch takes effect once however often it is attempted.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{
    ReadConcern, ReadPreference, ReturnDocument, SelectionCriteria, SessionOptions, TransactionOptions,
};
use mongodb::{ClientSession, Database};
use rand::RngExt;
use tokio::time::Instant;

use super::audit::head_of;
use super::collections::{AUDIT, AUDIT_HEADS, META, OPERATORS, SYSTEMS, TOKENS};
use super::errors::{
    DOCUMENT_VALIDATION_FAILURE, DUPLICATE_KEY, TimedOut, code_of, corrupt, is_duplicate_key, store_error,
};
use super::options::{Limits, write_concern};
use super::rows::{
    EXTERNAL_ID, FORMAT, collection_of, entry_from_document, entry_to_document, id_to_bson, in_known_format, marker_id,
    number_of, number_to_bson, to_bson, to_document,
};
use super::store::MongoStore;
use crate::domain::audit::{AuditEntry, AuditHead};
use crate::domain::changes::{Batch, Expected, RowId, Write};
use crate::domain::ids::TenantId;
use crate::store::{Cause, CommitStore, Conflict, Result, StoreError};

/// Maximum delay before the first retry after a conflict with another instance; it doubles with each further retry.
pub(super) const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(2);
/// Maximum delay before any retry: a caller that lost several times in a row has to be quick to win once.
pub(super) const MAX_RETRY_DELAY: Duration = Duration::from_millis(32);
/// The time after which the server aborts an open transaction (default of `transactionLifetimeLimitSeconds`).
const TRANSACTION_LIFETIME: Duration = Duration::from_secs(60);
/// Delay between two attempts to end an abandoned transaction.
const ABORT_RETRY_DELAY: Duration = Duration::from_millis(500);

/// WriteConflict: another transaction writes the same document.
pub(super) const WRITE_CONFLICT: i32 = 112;

/// Why an attempt did not commit.
enum Failure {
    /// Nothing was written, and a retry does not help.
    Final(StoreError),
    /// Another transaction won.
    Contention(Cause),
    /// The connection or the primary was lost before the commit was sent.
    Interrupted(Cause),
    /// The tenant has no head.
    NoHead,
    /// The log has the entry already: an earlier attempt was committed.
    Recorded,
    /// The commit was sent, and its outcome is unknown.
    Unknown(Cause),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

/// A batch as conditions and commands.
struct Plan {
    /// Conditions that the statements do not check themselves.
    requires: Vec<(RowId, Expected)>,
    statements: Vec<Statement>,
    /// The tenant whose row is deleted, which must have no systems.
    removed_tenant: Option<TenantId>,
}

/// Writes of one kind to one collection, sent as one command.
struct Statement {
    collection: &'static str,
    kind: Kind,
    items: Vec<Document>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Documents, none of which may exist.
    Insert,
    /// Replacements, each of which must match a document unless it is an upsert.
    Update,
    /// Deletions, each of which must match a document.
    Delete,
    /// Deletions of documents that need not exist.
    DeleteIfPresent,
}

/// A commit in progress.
struct Commit<'a> {
    store: &'a MongoStore,
    session: ClientSession,
    batch: &'a Batch,
    plan: &'a Plan,
    began: Instant,
    head: Option<AuditHead>,
}

#[async_trait]
impl CommitStore for MongoStore {
    async fn commit(&self, batch: Batch) -> Result<AuditEntry> {
        let began = Instant::now();
        let plan = plan_of(&batch)?;
        let queue = self.queues.of(&batch.tenant);
        let mut queue = tokio::time::timeout(self.limits.contention, queue.lock_owned())
            .await
            .map_err(|_| TimedOut::new("waiting for other commits of the tenant"))?;
        if queue.lost_at.is_some_and(|lost_at| lost_at >= began) {
            return Err(TimedOut::new("an earlier commit of the tenant").into());
        }
        let options = SessionOptions::builder().default_transaction_options(self.transaction_options()).build();
        let session = self.bounded("session", self.client.start_session().with_options(options)).await?;
        let head = queue.head.take();
        let mut commit = Commit { store: self, session, batch: &batch, plan: &plan, began, head };
        let outcome = commit.run().await;
        queue.head = commit.head;
        if outcome.as_ref().is_err_and(is_loss) {
            queue.lost_at = Some(Instant::now());
            tokio::spawn(abort_abandoned(commit.session, self.database.clone(), self.limits));
        }
        outcome
    }
}

impl MongoStore {
    pub(super) fn transaction_options(&self) -> TransactionOptions {
        TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(write_concern(self.limits))
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .max_commit_time(self.limits.call)
            .build()
    }

    /// Returns the tenant's head, and creates it if missing. Runs outside of any transaction, where of two concurrent
    /// creations one would fail for good.
    async fn find_or_create_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        let empty = AuditHead::default();
        let initial = doc! { "number": number_to_bson(empty.number), "hash": to_bson(&empty.hash)? };
        let make = || {
            self.audit_heads
                .find_one_and_update(doc! { "_id": tenant.as_str() }, doc! { "$setOnInsert": initial.clone() })
                .upsert(true)
                .return_document(ReturnDocument::After)
                .max_time(self.limits.call)
        };
        let head = match self.bounded("head", make()).await {
            Err(error) if is_duplicate_key(&error) => self.bounded("head", make()).await?,
            head => head?,
        };
        head_of(head.ok_or_else(|| corrupt("a log head that was created and is missing"))?)
    }
}

impl Commit<'_> {
    async fn run(&mut self) -> Result<AuditEntry> {
        let limits = self.store.limits;
        let mut max_delay = INITIAL_RETRY_DELAY;
        loop {
            let failure = match self.attempt().await {
                Ok(entry) => {
                    self.head = Some(entry.head());
                    return Ok(entry);
                }
                Err(failure) => failure,
            };
            let (cause, limit) = match failure {
                Failure::Final(error) => {
                    if !is_loss(&error) {
                        self.abort().await;
                    }
                    return Err(error);
                }
                Failure::Contention(cause) => (cause, limits.contention),
                // The next attempt may take the whole time-out of server selection.
                Failure::Interrupted(cause) => (cause, limits.call / 2),
                Failure::NoHead => {
                    self.abort().await;
                    self.head = Some(self.store.find_or_create_head(&self.batch.tenant).await?);
                    ("the tenant's log head was removed repeatedly".into(), limits.call)
                }
                Failure::Recorded => match self.resolve_outcome().await? {
                    Some(entry) => return Ok(entry),
                    None => return Err(corrupt("an entry that exists and cannot be found")),
                },
                Failure::Unknown(cause) => match self.resolve_outcome().await? {
                    Some(entry) => return Ok(entry),
                    None => (cause, limits.call),
                },
            };
            self.abort().await;
            let delay = self.store.environment.rng().random_range(Duration::ZERO..=max_delay);
            if self.began.elapsed() + delay > limit {
                return Err(StoreError::Unavailable(cause));
            }
            tokio::time::sleep(delay).await;
            max_delay = (max_delay * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Runs the whole transaction once.
    async fn attempt(&mut self) -> Result<AuditEntry, Failure> {
        self.begin().await?;
        let entry = self.advance_head().await?;
        if let Some(marker) = self.batch.marker {
            self.execute(META, Kind::Insert, &[doc! { "_id": marker_id(marker) }]).await?;
        }
        let plan = self.plan;
        for (row, expected) in &plan.requires {
            self.check(row, *expected).await?;
        }
        if let Some(tenant) = &plan.removed_tenant {
            self.check_without_systems(tenant).await?;
            self.check_without_identities(tenant).await?;
        }
        for statement in &plan.statements {
            self.execute(statement.collection, statement.kind, &statement.items).await?;
        }
        self.execute(AUDIT, Kind::Insert, &[entry_to_document(&entry)?]).await?;
        self.commit_transaction().await?;
        Ok(entry)
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let begin = tokio::time::timeout(self.store.limits.call, self.session.start_transaction()).await;
        begin
            .map_err(|_| Failure::Final(TimedOut::new("commit").into()))?
            .map_err(|error| failure_of(error, AUDIT_HEADS))
    }

    /// Advances the head by one entry: from where it was last seen, or else from where it is.
    async fn advance_head(&mut self) -> Result<AuditEntry, Failure> {
        if let Some(seen) = self.head.take()
            && let Some(entry) = self.advance_head_from(seen).await?
        {
            return Ok(entry);
        }
        let tenant = self.batch.tenant.as_str();
        let find = doc! { "find": AUDIT_HEADS, "filter": { "_id": tenant }, "limit": 1, "singleBatch": true };
        let head = self.command(find, AUDIT_HEADS).await?;
        let head = first_document(head)?.ok_or(Failure::NoHead)?;
        let entry = self.advance_head_from(head_of(head)?).await?;
        entry.ok_or_else(|| Failure::Contention("the log head changed within a snapshot".into()))
    }

    /// Returns `None` if `head` is not the current head.
    async fn advance_head_from(&mut self, head: AuditHead) -> Result<Option<AuditEntry>, Failure> {
        let entry = AuditEntry::after(&head, self.batch.tenant.clone(), self.batch.event.clone());
        let advanced = entry.head();
        let change = doc! {
            "q": {
                "_id": self.batch.tenant.as_str(),
                "number": number_to_bson(head.number),
                "hash": to_bson(&head.hash)?,
            },
            "u": { "$set": { "number": number_to_bson(advanced.number), "hash": to_bson(&advanced.hash)? } },
        };
        Ok((self.execute_counted(AUDIT_HEADS, Kind::Update, &[change]).await? == 1).then_some(entry))
    }

    async fn check(&mut self, row: &RowId, expected: Expected) -> Result<(), Failure> {
        let collection = collection_of(row);
        let filter = match expected {
            Expected::Absent | Expected::Present => doc! { "_id": id_to_bson(row)? },
            Expected::Revision(_) => row_filter(&self.batch.tenant, row, expected)?,
            Expected::Anything => return Ok(()),
        };
        let find = doc! {
            "find": collection, "filter": filter, "projection": { "_id": 1 }, "limit": 1, "singleBatch": true,
        };
        let found = first_document(self.command(find, collection).await?)?.is_some();
        if found == matches!(expected, Expected::Revision(_) | Expected::Present) {
            Ok(())
        } else {
            Err(conflict_failure(Conflict::Row))
        }
    }

    /// No system is created meanwhile, since that advances the same head.
    async fn check_without_systems(&mut self, tenant: &TenantId) -> Result<(), Failure> {
        let find = doc! {
            "find": SYSTEMS, "filter": { "tenant": tenant.as_str() }, "projection": { "_id": 1 }, "limit": 1,
            "singleBatch": true,
        };
        match first_document(self.command(find, SYSTEMS).await?)? {
            Some(_) => Err(conflict_failure(Conflict::TenantNotEmpty)),
            None => Ok(()),
        }
    }

    /// Every operator and token of the tenant is deleted by the batch. None is added meanwhile, as no system is.
    async fn check_without_identities(&mut self, tenant: &TenantId) -> Result<(), Failure> {
        for collection in [OPERATORS, TOKENS] {
            let writes = self.batch.writes.iter().map(|(_, write)| write);
            let deleted = writes.filter_map(|write| match write {
                Write::Delete(id) if collection_of(id) == collection => Some(id_to_bson(id)),
                _ => None,
            });
            let deleted = deleted.collect::<Result<Vec<_>>>()?;
            let find = doc! {
                "find": collection, "filter": { "tenant": tenant.as_str(), "_id": { "$nin": deleted } },
                "projection": { "_id": 1 }, "limit": 1, "singleBatch": true,
            };
            if first_document(self.command(find, collection).await?)?.is_some() {
                return Err(conflict_failure(Conflict::Row));
            }
        }
        Ok(())
    }

    /// Writes to one collection. Every item must match, except for [`Kind::DeleteIfPresent`].
    async fn execute(&mut self, collection: &'static str, kind: Kind, items: &[Document]) -> Result<(), Failure> {
        let found = self.execute_counted(collection, kind, items).await?;
        if kind == Kind::DeleteIfPresent || found == items.len() {
            Ok(())
        } else {
            Err(conflict_failure(Conflict::Row))
        }
    }

    /// Writes to one collection. Returns the number of items that matched.
    async fn execute_counted(
        &mut self,
        collection: &'static str,
        kind: Kind,
        items: &[Document],
    ) -> Result<usize, Failure> {
        let (command, list) = match kind {
            Kind::Insert => ("insert", "documents"),
            Kind::Update => ("update", "updates"),
            Kind::Delete | Kind::DeleteIfPresent => ("delete", "deletes"),
        };
        let response = self.command(doc! { command: collection, list: items, "ordered": true }, collection).await?;
        if let Ok([Bson::Document(refusal), ..]) = response.get_array("writeErrors").map(Vec::as_slice) {
            return Err(write_failure(refusal, collection));
        }
        let found = response.get("n").and_then(number_of).and_then(|n| usize::try_from(n).ok());
        found.ok_or_else(|| corrupt("a response to a write without a count").into())
    }

    /// Runs one command of the transaction.
    async fn command(&mut self, command: Document, collection: &'static str) -> Result<Document, Failure> {
        let call = self.store.database.run_command(command).session(&mut self.session);
        match tokio::time::timeout(self.store.limits.call, call).await {
            Ok(response) => response.map_err(|error| failure_of(error, collection)),
            Err(_) => Err(Failure::Final(TimedOut::new("commit").into())),
        }
    }

    /// Sends the commit until there is a response, within the limit of a call after the first request.
    async fn commit_transaction(&mut self) -> Result<(), Failure> {
        let limit = self.store.limits.call;
        let started = Instant::now();
        let mut in_doubt = false;
        loop {
            let commit = tokio::time::timeout(limit, self.session.commit_transaction()).await;
            let cause: Cause = match commit {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => error.into(),
                Ok(Err(error)) if !in_doubt && error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {
                    return Err(failure_of(error, AUDIT));
                }
                Ok(Err(error)) => return Err(Failure::Unknown(error.into())),
                Err(_) => TimedOut::new("commit").into(),
            };
            in_doubt = true;
            if started.elapsed() + INITIAL_RETRY_DELAY >= limit {
                return Err(Failure::Unknown(cause));
            }
            tokio::time::sleep(INITIAL_RETRY_DELAY).await;
        }
    }

    /// Determines whether a transaction with unknown outcome was committed, and returns its entry if so.
    ///
    /// A new transaction of the same session ends the one before: if that is not committed by the time the server starts
    /// the new one, it never will be. The entry that is found is majority-committed, since the new transaction waits for
    /// a majority when it commits.
    async fn resolve_outcome(&mut self) -> Result<Option<AuditEntry>> {
        let limit = self.store.limits.call;
        let started = Instant::now();
        loop {
            let cause = match tokio::time::timeout(limit, self.find_entry()).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(Failure::Final(StoreError::Corrupt(cause)))) => return Err(StoreError::Corrupt(cause)),
                Ok(Err(
                    Failure::Final(StoreError::Unavailable(cause))
                    | Failure::Contention(cause)
                    | Failure::Interrupted(cause)
                    | Failure::Unknown(cause),
                )) => cause,
                Ok(Err(_)) => "the audit log could not be searched".into(),
                Err(_) => TimedOut::new("resolving the outcome of a commit").into(),
            };
            if started.elapsed() + MAX_RETRY_DELAY >= limit {
                return Err(StoreError::OutcomeUnknown(cause));
            }
            tokio::time::sleep(MAX_RETRY_DELAY).await;
        }
    }

    async fn find_entry(&mut self) -> Result<Option<AuditEntry>, Failure> {
        self.abort().await;
        self.begin().await?;
        let id = to_bson(&self.batch.event.id)?;
        let find = doc! { "find": AUDIT, "filter": { "_id": id }, "limit": 1, "singleBatch": true };
        let found = first_document(self.command(find, AUDIT).await?)?;
        self.commit_transaction().await?;
        Ok(found.map(entry_from_document).transpose()?)
    }

    /// Aborts the transaction, if one is open, so that the server releases its locks.
    async fn abort(&mut self) {
        // An error means that none is open, or that the server cannot be reached: see `abort_abandoned`.
        let _ = tokio::time::timeout(self.store.limits.call, self.session.abort_transaction()).await;
    }
}

/// Aborts a transaction that may still be open on a server that was lost, so that it does not lock its tenant's head
/// until [`TRANSACTION_LIFETIME`] once the server is back.
pub(super) async fn abort_abandoned(mut session: ClientSession, database: Database, limits: Limits) {
    let deadline = Instant::now() + TRANSACTION_LIFETIME;
    while Instant::now() < deadline {
        // A new transaction of a session ends the one before.
        let ended = tokio::time::timeout(limits.call, async {
            let _ = session.abort_transaction().await;
            session.start_transaction().await?;
            let touch = doc! { "find": META, "limit": 1, "singleBatch": true };
            database.run_command(touch).session(&mut session).await?;
            session.abort_transaction().await
        });
        if matches!(ended.await, Ok(Ok(()))) {
            return;
        }
        tokio::time::sleep(ABORT_RETRY_DELAY).await;
    }
}

fn plan_of(batch: &Batch) -> Result<Plan> {
    let mut requires: Vec<_> =
        batch.requires.iter().map(|required| (required.row.clone(), required.expected)).collect();
    let mut statements: Vec<Statement> = Vec::new();
    for (expected, write) in &batch.writes {
        let (row, kind, item) = match (write, expected) {
            (Write::Put(row), _) if row.tenant() != Some(&batch.tenant) => {
                return Err(StoreError::Conflict(Conflict::Row));
            }
            (Write::Put(row), Expected::Absent) => (row.id(), Kind::Insert, to_document(row)?),
            (Write::Put(row), _) => {
                let upsert = matches!(expected, Expected::Anything);
                let found = row_filter(&batch.tenant, &row.id(), *expected)?;
                (row.id(), Kind::Update, doc! { "q": found, "u": to_document(row)?, "upsert": upsert })
            }
            (Write::Delete(row), Expected::Absent) => {
                requires.push((row.clone(), Expected::Absent));
                continue;
            }
            (Write::Delete(row), _) => {
                let kind = if matches!(expected, Expected::Anything) { Kind::DeleteIfPresent } else { Kind::Delete };
                (row.clone(), kind, doc! { "q": row_filter(&batch.tenant, row, *expected)?, "limit": 1 })
            }
        };
        let collection = collection_of(&row);
        match statements.last_mut() {
            Some(last) if last.collection == collection && last.kind == kind => last.items.push(item),
            _ => statements.push(Statement { collection, kind, items: vec![item] }),
        }
    }
    let removed = batch.writes.iter().find_map(|(_, write)| match write {
        Write::Delete(RowId::Tenant(tenant)) => Some(tenant.clone()),
        _ => None,
    });
    Ok(Plan { requires, statements, removed_tenant: removed })
}

/// A filter for the tenant's row, with the expected revision if there is one. A row in a newer format does not match a
/// revision: this release would lose the members that it does not know.
fn row_filter(tenant: &TenantId, row: &RowId, expected: Expected) -> Result<Document> {
    let mut filter = doc! { "_id": id_to_bson(row)?, "tenant": tenant.as_str() };
    if let Expected::Revision(revision) = expected {
        filter.insert("revision", number_to_bson(revision));
        filter.insert(FORMAT, in_known_format());
    }
    Ok(filter)
}

/// Returns the first document of the response to a `find` with a single batch.
fn first_document(mut response: Document) -> Result<Option<Document>> {
    let batch = response.get_document_mut("cursor").and_then(|cursor| cursor.get_array_mut("firstBatch"));
    let batch = batch.map_err(|_| corrupt("a response to a find without a batch"))?;
    match batch.pop() {
        Some(Bson::Document(document)) => Ok(Some(document)),
        Some(_) => Err(corrupt("a response to a find with something other than documents")),
        None => Ok(None),
    }
}

fn conflict_failure(conflict: Conflict) -> Failure {
    Failure::Final(StoreError::Conflict(conflict))
}

/// Whether the database was lost, so that the transaction may still be open.
fn is_loss(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))
}

/// Classifies an error of a command of the transaction.
fn failure_of(error: Error, collection: &'static str) -> Failure {
    match code_of(&error) {
        Some(WRITE_CONFLICT) => Failure::Contention(error.into()),
        Some(DUPLICATE_KEY) => {
            let response = error.server_response().and_then(|response| Document::try_from(response.as_ref()).ok());
            duplicate(collection, &response.unwrap_or_default())
        }
        _ if matches!(*error.kind, ErrorKind::ServerSelection { .. }) => Failure::Final(store_error(error)),
        _ if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => Failure::Interrupted(error.into()),
        _ => Failure::Final(store_error(error)),
    }
}

/// Classifies an item of `writeErrors`.
fn write_failure(refusal: &Document, collection: &'static str) -> Failure {
    match refusal.get("code").and_then(number_of).and_then(|code| i32::try_from(code).ok()) {
        Some(WRITE_CONFLICT) => Failure::Contention(refusal.to_string().into()),
        Some(DUPLICATE_KEY) => duplicate(collection, refusal),
        Some(DOCUMENT_VALIDATION_FAILURE) => {
            Failure::Final(corrupt(format!("the validator of {collection} refused a document")))
        }
        _ => Failure::Final(StoreError::Unavailable(refusal.to_string().into())),
    }
}

/// Classifies a duplicate key by the index that refused it.
fn duplicate(collection: &'static str, refusal: &Document) -> Failure {
    let has_key = |member| refusal.get_document("keyPattern").is_ok_and(|keys| keys.contains_key(member));
    match collection {
        AUDIT if has_key("_id") => Failure::Recorded,
        AUDIT => Failure::Final(corrupt("the log already has an entry with this number")),
        META => conflict_failure(Conflict::Marker),
        SYSTEMS if has_key(EXTERNAL_ID) => conflict_failure(Conflict::ExternalIdTaken),
        SYSTEMS if has_key("folded") => conflict_failure(Conflict::NameTaken),
        OPERATORS if has_key("username") => conflict_failure(Conflict::UsernameTaken),
        TOKENS if has_key("folded") => conflict_failure(Conflict::TokenNameTaken),
        _ => conflict_failure(Conflict::Row),
    }
}
