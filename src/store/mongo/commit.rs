//! Batches as transactions.
//!
//! 1. Callers of one tenant queue in the instance: see [`TenantQueues`].
//! 2. The transaction raises the tenant's head first. Two transactions that raise the same head cannot both commit,
//!    so instances meet there, and the loser knows at once and tries again.
//! 3. It checks the conditions, writes the rows, and inserts the audit entry last, so that whoever follows the feed
//!    knows that the batch is complete.
//! 4. It commits. When the answer is lost, the commit is asked for again, as the specification of transactions has it
//!    (<https://github.com/mongodb/specifications/blob/master/source/transactions/transactions.md>); when that does not
//!    help either, the session is made to leave the transaction behind, which ends it one way or the other, and the
//!    log is searched for the entry's id.
//!
//! The entry's id is its `_id`, chosen by the caller: however often a batch is tried, it takes effect once.

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
use super::collections::{AUDIT, META, OPERATORS, SYSTEMS, TENANTS};
use super::errors::{
    DOCUMENT_VALIDATION_FAILURE, DUPLICATE_KEY, TimedOut, code_of, corrupt, is_duplicate_key, store_error,
};
use super::options::{Limits, write_concern};
use super::rows::{
    collection_of, entry_from_document, entry_to_document, id_to_bson, number_of, number_to_bson, to_bson, to_document,
};
use super::settings::marker_id;
use super::store::MongoStore;
use crate::domain::audit::{AuditEntry, AuditHead};
use crate::domain::changes::{Batch, Expected, RowId, Write};
use crate::domain::ids::TenantId;
use crate::store::{Cause, CommitStore, Conflict, Result, StoreError};

/// The first pause after losing against another instance is at most this long; each further one doubles it.
const PAUSE: Duration = Duration::from_millis(2);
/// No pause is longer than this: whoever loses several times in a row has to be quick to win once.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// How long the server keeps a transaction that nobody ends (`transactionLifetimeLimitSeconds`, by default).
const TRANSACTION_LIFETIME: Duration = Duration::from_secs(60);
/// How long to wait before an abandoned transaction is tried to be ended again.
const ABANDONED_PAUSE: Duration = Duration::from_millis(500);

/// WriteConflict: another transaction writes the same document.
const WRITE_CONFLICT: i32 = 112;

/// Why a try at the transaction did not commit it.
enum Failure {
    /// It cannot be: nothing was written, and trying again changes nothing.
    Final(StoreError),
    /// Another transaction was first.
    Contention(Cause),
    /// The connection, or the primary, was lost before the commit was asked for.
    Interrupted(Cause),
    /// The tenant has no head.
    NoHead,
    /// The log holds the entry already: an earlier try was committed.
    Recorded,
    /// The commit was asked for, and what came of it is not known.
    Unknown(Cause),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

/// A batch as conditions and commands.
struct Plan {
    /// What must be there or not, besides what the statements find out by themselves.
    requires: Vec<(RowId, Expected)>,
    statements: Vec<Statement>,
}

/// Writes of one kind to one collection: one command.
struct Statement {
    collection: &'static str,
    kind: Kind,
    items: Vec<Document>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Documents, none of which may be there.
    Insert,
    /// Replacements, each of which must find its document or may put it there.
    Update,
    /// Deletions, each of which must find its document.
    Delete,
    /// Deletions of what may be gone.
    Forget,
}

/// A commit on its way.
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
            .map_err(|_| TimedOut::new("waiting for other changes of the tenant"))?;
        if queue.lost_at.is_some_and(|lost_at| lost_at >= began) {
            return Err(TimedOut::new("an earlier change of the tenant").into());
        }
        let options = SessionOptions::builder().default_transaction_options(self.transaction_options()).build();
        let session = self.bounded("session", self.client.start_session().with_options(options)).await?;
        let head = queue.head.take();
        let mut commit = Commit { store: self, session, batch: &batch, plan: &plan, began, head };
        let outcome = commit.run().await;
        queue.head = commit.head;
        if outcome.as_ref().is_err_and(is_loss) {
            queue.lost_at = Some(Instant::now());
            tokio::spawn(end_abandoned(commit.session, self.database.clone(), self.limits));
        }
        outcome
    }
}

impl MongoStore {
    fn transaction_options(&self) -> TransactionOptions {
        TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(write_concern(self.limits))
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .max_commit_time(self.limits.call)
            .build()
    }

    /// The tenant's head, made if it is not there yet. Outside of any transaction: there, of two that make it at once
    /// one would fail for good.
    async fn make_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        let empty = AuditHead::default();
        let initial = doc! { "number": number_to_bson(empty.number), "hash": to_bson(&empty.hash)? };
        let make = || {
            self.tenants
                .find_one_and_update(doc! { "_id": tenant.as_str() }, doc! { "$setOnInsert": initial.clone() })
                .upsert(true)
                .return_document(ReturnDocument::After)
                .max_time(self.limits.call)
        };
        let head = match self.bounded("head", make()).await {
            Err(error) if is_duplicate_key(&error) => self.bounded("head", make()).await?,
            head => head?,
        };
        head_of(head.ok_or_else(|| corrupt("a head that was made and is not there"))?)
    }
}

impl Commit<'_> {
    async fn run(&mut self) -> Result<AuditEntry> {
        let limits = self.store.limits;
        let mut pause = PAUSE;
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
                        self.leave().await;
                    }
                    return Err(error);
                }
                Failure::Contention(cause) => (cause, limits.contention),
                // The next try may take as long as it takes to find that there is no server.
                Failure::Interrupted(cause) => (cause, limits.call / 2),
                Failure::NoHead => {
                    self.leave().await;
                    self.head = Some(self.store.make_head(&self.batch.tenant).await?);
                    ("the tenant's head does not stay".into(), limits.call)
                }
                Failure::Recorded => match self.settle().await? {
                    Some(entry) => return Ok(entry),
                    None => return Err(corrupt("an entry that is there and cannot be found")),
                },
                Failure::Unknown(cause) => match self.settle().await? {
                    Some(entry) => return Ok(entry),
                    None => (cause, limits.call),
                },
            };
            self.leave().await;
            let pausing = self.store.environment.rng().random_range(Duration::ZERO..=pause);
            if self.began.elapsed() + pausing > limit {
                return Err(StoreError::Unavailable(cause));
            }
            tokio::time::sleep(pausing).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One try: the whole transaction.
    async fn attempt(&mut self) -> Result<AuditEntry, Failure> {
        self.begin().await?;
        let entry = self.raise_head().await?;
        if let Some(marker) = self.batch.marker {
            self.execute(META, Kind::Insert, &[doc! { "_id": marker_id(marker) }]).await?;
        }
        let plan = self.plan;
        for (row, expected) in &plan.requires {
            self.check(*row, *expected).await?;
        }
        for statement in &plan.statements {
            self.execute(statement.collection, statement.kind, &statement.items).await?;
        }
        self.execute(AUDIT, Kind::Insert, &[entry_to_document(&entry)?]).await?;
        self.finish().await?;
        Ok(entry)
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let begin = tokio::time::timeout(self.store.limits.call, self.session.start_transaction()).await;
        begin.map_err(|_| Failure::Final(TimedOut::new("commit").into()))?.map_err(|error| failure_of(error, TENANTS))
    }

    /// Moves the head on by one entry, from where it was last seen or from where it is.
    async fn raise_head(&mut self) -> Result<AuditEntry, Failure> {
        if let Some(seen) = self.head.take()
            && let Some(entry) = self.raise_head_from(seen).await?
        {
            return Ok(entry);
        }
        let tenant = self.batch.tenant.as_str();
        let find = doc! { "find": TENANTS, "filter": { "_id": tenant }, "limit": 1, "singleBatch": true };
        let head = self.command(find, TENANTS).await?;
        let head = first_of(head)?.ok_or(Failure::NoHead)?;
        let entry = self.raise_head_from(head_of(head)?).await?;
        entry.ok_or_else(|| Failure::Contention("the head changed within a snapshot".into()))
    }

    /// `None` when the head is not, or not any more, what is given.
    async fn raise_head_from(&mut self, head: AuditHead) -> Result<Option<AuditEntry>, Failure> {
        let entry = AuditEntry::after(&head, self.batch.tenant.clone(), self.batch.event.clone());
        let raised = entry.head();
        let change = doc! {
            "q": {
                "_id": self.batch.tenant.as_str(),
                "number": number_to_bson(head.number),
                "hash": to_bson(&head.hash)?,
            },
            "u": { "$set": { "number": number_to_bson(raised.number), "hash": to_bson(&raised.hash)? } },
        };
        Ok((self.execute_some(TENANTS, Kind::Update, &[change]).await? == 1).then_some(entry))
    }

    async fn check(&mut self, row: RowId, expected: Expected) -> Result<(), Failure> {
        let collection = collection_of(&row);
        let filter = match expected {
            Expected::Absent => doc! { "_id": id_to_bson(&row)? },
            Expected::Revision(_) => found_as(&self.batch.tenant, &row, expected)?,
            Expected::Anything => return Ok(()),
        };
        let find = doc! {
            "find": collection, "filter": filter, "projection": { "_id": 1 }, "limit": 1, "singleBatch": true,
        };
        let found = first_of(self.command(find, collection).await?)?.is_some();
        if found == matches!(expected, Expected::Revision(_)) { Ok(()) } else { Err(refused(Conflict::Row)) }
    }

    /// Writes to one collection; each item must find what it is about.
    async fn execute(&mut self, collection: &'static str, kind: Kind, items: &[Document]) -> Result<(), Failure> {
        let found = self.execute_some(collection, kind, items).await?;
        if kind == Kind::Forget || found == items.len() { Ok(()) } else { Err(refused(Conflict::Row)) }
    }

    /// Writes to one collection, and says how many items found what they are about.
    async fn execute_some(
        &mut self,
        collection: &'static str,
        kind: Kind,
        items: &[Document],
    ) -> Result<usize, Failure> {
        let (command, list) = match kind {
            Kind::Insert => ("insert", "documents"),
            Kind::Update => ("update", "updates"),
            Kind::Delete | Kind::Forget => ("delete", "deletes"),
        };
        let answer = self.command(doc! { command: collection, list: items, "ordered": true }, collection).await?;
        if let Ok([Bson::Document(refusal), ..]) = answer.get_array("writeErrors").map(Vec::as_slice) {
            return Err(write_failure(refusal, collection));
        }
        let found = answer.get("n").and_then(number_of).and_then(|n| usize::try_from(n).ok());
        found.ok_or_else(|| corrupt("an answer to a write without its count").into())
    }

    /// One command of the transaction.
    async fn command(&mut self, command: Document, collection: &'static str) -> Result<Document, Failure> {
        let call = self.store.database.run_command(command).session(&mut self.session);
        match tokio::time::timeout(self.store.limits.call, call).await {
            Ok(answer) => answer.map_err(|error| failure_of(error, collection)),
            Err(_) => Err(Failure::Final(TimedOut::new("commit").into())),
        }
    }

    /// Asks for the commit until it is answered, for as long as a call may take after the first question.
    async fn finish(&mut self) -> Result<(), Failure> {
        let limit = self.store.limits.call;
        let asked = Instant::now();
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
            if asked.elapsed() + PAUSE >= limit {
                return Err(Failure::Unknown(cause));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Finds out whether the transaction that was asked to commit did.
    ///
    /// A new transaction of the same session ends the one before: what is not committed when the server takes it up
    /// never will be. It reads what a majority has, since it waits for one when it commits.
    async fn settle(&mut self) -> Result<Option<AuditEntry>> {
        let limit = self.store.limits.call;
        let asked = Instant::now();
        loop {
            let cause = match tokio::time::timeout(limit, self.look_for_entry()).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(Failure::Final(StoreError::Corrupt(cause)))) => return Err(StoreError::Corrupt(cause)),
                Ok(Err(
                    Failure::Final(StoreError::Unavailable(cause))
                    | Failure::Contention(cause)
                    | Failure::Interrupted(cause)
                    | Failure::Unknown(cause),
                )) => cause,
                Ok(Err(_)) => "the log could not be searched".into(),
                Err(_) => TimedOut::new("settling a commit").into(),
            };
            if asked.elapsed() + LONGEST_PAUSE >= limit {
                return Err(StoreError::OutcomeUnknown(cause));
            }
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }

    async fn look_for_entry(&mut self) -> Result<Option<AuditEntry>, Failure> {
        self.leave().await;
        self.begin().await?;
        let id = to_bson(&self.batch.event.id)?;
        let find = doc! { "find": AUDIT, "filter": { "_id": id }, "limit": 1, "singleBatch": true };
        let found = first_of(self.command(find, AUDIT).await?)?;
        self.finish().await?;
        Ok(found.map(entry_from_document).transpose()?)
    }

    /// Ends the transaction if one is open; the server gives its locks back.
    async fn leave(&mut self) {
        // An error only says that none is open, or that the server cannot be reached: see `Drop`.
        let _ = tokio::time::timeout(self.store.limits.call, self.session.abort_transaction()).await;
    }
}

/// Ends a transaction that may be open still on a server that was lost, so that it does not keep its tenant's head
/// until the server's own limit when the server comes back.
async fn end_abandoned(mut session: ClientSession, database: Database, limits: Limits) {
    let given_up = Instant::now() + TRANSACTION_LIFETIME;
    while Instant::now() < given_up {
        // A later transaction of a session ends the earlier one.
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
        tokio::time::sleep(ABANDONED_PAUSE).await;
    }
}

fn plan_of(batch: &Batch) -> Result<Plan> {
    let mut requires: Vec<_> = batch.requires.iter().map(|required| (required.row, required.expected)).collect();
    let mut statements: Vec<Statement> = Vec::new();
    for (expected, write) in &batch.writes {
        let (row, kind, item) = match (write, expected) {
            (Write::Put(row), _) if row.tenant() != Some(&batch.tenant) => {
                return Err(StoreError::Conflict(Conflict::Row));
            }
            (Write::Put(row), Expected::Absent) => (row.id(), Kind::Insert, to_document(row)?),
            (Write::Put(row), _) => {
                let upsert = matches!(expected, Expected::Anything);
                let found = found_as(&batch.tenant, &row.id(), *expected)?;
                (row.id(), Kind::Update, doc! { "q": found, "u": to_document(row)?, "upsert": upsert })
            }
            (Write::Delete(row), Expected::Absent) => {
                requires.push((*row, Expected::Absent));
                continue;
            }
            (Write::Delete(row), _) => {
                let kind = if matches!(expected, Expected::Anything) { Kind::Forget } else { Kind::Delete };
                (*row, kind, doc! { "q": found_as(&batch.tenant, row, *expected)?, "limit": 1 })
            }
        };
        let collection = collection_of(&row);
        match statements.last_mut() {
            Some(last) if last.collection == collection && last.kind == kind => last.items.push(item),
            _ => statements.push(Statement { collection, kind, items: vec![item] }),
        }
    }
    Ok(Plan { requires, statements })
}

/// Finds the tenant's row, of the revision that is expected if one is.
fn found_as(tenant: &TenantId, row: &RowId, expected: Expected) -> Result<Document> {
    let mut filter = doc! { "_id": id_to_bson(row)?, "tenant": tenant.as_str() };
    if let Expected::Revision(revision) = expected {
        filter.insert("revision", number_to_bson(revision));
    }
    Ok(filter)
}

/// The first document of a `find`'s only batch.
fn first_of(mut answer: Document) -> Result<Option<Document>> {
    let batch = answer.get_document_mut("cursor").and_then(|cursor| cursor.get_array_mut("firstBatch"));
    let batch = batch.map_err(|_| corrupt("an answer to a find without its batch"))?;
    match batch.pop() {
        Some(Bson::Document(document)) => Ok(Some(document)),
        Some(_) => Err(corrupt("a find that gave no document")),
        None => Ok(None),
    }
}

fn refused(conflict: Conflict) -> Failure {
    Failure::Final(StoreError::Conflict(conflict))
}

/// Whether the database was lost, so that the transaction may be open still.
fn is_loss(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))
}

/// What an error of a command of the transaction means.
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

/// What an item of an answer's `writeErrors` means.
fn write_failure(refusal: &Document, collection: &'static str) -> Failure {
    match refusal.get("code").and_then(number_of).and_then(|code| i32::try_from(code).ok()) {
        Some(WRITE_CONFLICT) => Failure::Contention(refusal.to_string().into()),
        Some(DUPLICATE_KEY) => duplicate(collection, refusal),
        Some(DOCUMENT_VALIDATION_FAILURE) => Failure::Final(corrupt(format!("{collection} refuses a document"))),
        _ => Failure::Final(StoreError::Unavailable(refusal.to_string().into())),
    }
}

/// What it means that an index has a key already; the refusal says which index.
fn duplicate(collection: &'static str, refusal: &Document) -> Failure {
    let is_of = |member| refusal.get_document("keyPattern").is_ok_and(|keys| keys.contains_key(member));
    match collection {
        AUDIT if is_of("_id") => Failure::Recorded,
        AUDIT => Failure::Final(corrupt("the log has an entry of this number already")),
        META => refused(Conflict::Marker),
        SYSTEMS if is_of("folded") => refused(Conflict::NameTaken),
        OPERATORS if is_of("username") => refused(Conflict::UsernameTaken),
        _ => refused(Conflict::Row),
    }
}
