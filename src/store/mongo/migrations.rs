//! Collections, their indexes and their validators, created and brought up to date when an instance starts.
//!
//! Every step is idempotent and safe next to another instance that runs it too. The version is raised after the last
//! step, so that the next start completes one that was interrupted.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::{Hint, IndexOptions, ReturnDocument};
use mongodb::{Database, IndexModel};
use tokio::time::Instant;

use super::collections::{
    AUDIT, AUDIT_HEADS, BUCKETS, KEYS, LEASES, META, OPERATORS, SESSIONS, SYSTEMS, TENANTS, TOKENS, USAGE, USAGE_DAYS,
    USAGE_FLUSHES, USAGE_HOURS,
};
use super::errors::{ConnectError, TimedOut, code_of, is_refusal};
use super::options::Limits;
use super::rows::{DUE_AT, EXTERNAL_ID, number_of, setting_id, to_document};
use crate::domain::changes::Row;
use crate::domain::ids::TenantId;
use crate::domain::tenants::{LONGEST_LIFETIME_SETTING, Tenant, TenantPolicy};
use crate::domain::time::Timestamp;

/// Increase with every change to [`collections`].
const VERSION: i64 = 6;

/// The first version in which tenants have rows. Later, one without a row was deleted.
const TENANTS_VERSION: i64 = 4;

/// The version of a database that a transfer into it has not been finished: no release knows it.
const UNFINISHED: i64 = 1 << 40;
/// The member of the version that names the source of an unfinished transfer.
const SOURCE: &str = "transferFrom";

/// Time limit for building all indexes.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
/// Delay before a step that another instance is running is retried.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// NamespaceExists: another instance created the collection.
const NAMESPACE_EXISTS: i32 = 48;
/// Errors that pass by themselves while several instances start: ConflictingOperationInProgress, WriteConflict,
/// IndexBuildAborted, IndexBuildAlreadyInProgress and BackgroundOperationInProgressForNamespace
/// (MongoDB 6.0, `src/mongo/base/error_codes.yml`).
const BUSY: [i32; 5] = [117, 112, 276, 285, 12587];

pub(super) const SYSTEMS_NAME: &str = "tenant_folded";
pub(super) const SYSTEMS_EXTERNAL_ID: &str = "tenant_externalId";
pub(super) const SYSTEMS_UPDATED: &str = "tenant_updatedAt_id";
pub(super) const SYSTEMS_CREATED: &str = "tenant_createdAt_id";
pub(super) const KEYS_REVOKED: &str = "revokedAt";
pub(super) const KEYS_DUE: &str = "dueAt";
pub(super) const OPERATORS_USERNAME: &str = "username";
pub(super) const OPERATORS_TENANT: &str = "tenant_username";
pub(super) const SESSIONS_OPERATOR: &str = "operator";
pub(super) const SESSIONS_EXPIRY: &str = "expiresAt";
pub(super) const TOKENS_NAME: &str = "tenant_isService_folded";
pub(super) const TOKENS_DIGESTS: &str = "digests";
pub(super) const AUDIT_NUMBER: &str = "tenant_number";
pub(super) const AUDIT_TIME: &str = "tenant_number_occurredAt";
pub(super) const AUDIT_OCCURRED: &str = "tenant_occurredAt_number";
pub(super) const AUDIT_SYSTEM: &str = "tenant_system_number";
pub(super) const AUDIT_ACTOR: &str = "tenant_actor_number";
pub(super) const AUDIT_ACTION: &str = "tenant_action_number";
pub(super) const AUDIT_OUTCOME: &str = "tenant_outcome_number";
pub(super) const AUDIT_MARK: &str = "tenant_keyMark_number";
pub(super) const AUDIT_PREVIOUS_MARK: &str = "tenant_previousKeyMark_number";
pub(super) const BUCKETS_ARRIVAL: &str = "arrival";
pub(super) const USAGE_WRITTEN: &str = "tenant_writtenAt";
pub(super) const USAGE_ROW: &str = "row";

struct Layout {
    name: &'static str,
    /// Required members besides `_id`, with their BSON types.
    members: Document,
    indexes: Vec<IndexModel>,
}

fn collections() -> Vec<Layout> {
    let text = || doc! { "bsonType": "string" };
    let number = || doc! { "bsonType": "long", "minimum": 1_i64 };
    let time = || doc! { "bsonType": "long" };
    vec![
        Layout {
            name: SYSTEMS,
            members: doc! {
                "tenant": text(), "name": text(), "folded": text(), "revision": number(),
                "createdAt": time(), "updatedAt": time(), "key": { "bsonType": ["object", "null"] },
            },
            indexes: vec![
                unique(SYSTEMS_NAME, doc! { "tenant": 1, "folded": 1 }),
                // Few systems have the member.
                unique_if_present(SYSTEMS_EXTERNAL_ID, doc! { "tenant": 1, EXTERNAL_ID: 1 }, EXTERNAL_ID),
                index(SYSTEMS_UPDATED, doc! { "tenant": 1, "updatedAt": 1, "_id": 1 }),
                index(SYSTEMS_CREATED, doc! { "tenant": 1, "createdAt": 1, "_id": 1 }),
            ],
        },
        Layout {
            name: KEYS,
            members: doc! {
                "tenant": text(), "system": text(), "systemName": text(), "mark": text(), "revision": number(),
                "revokedAt": { "bsonType": ["long", "null"] },
            },
            indexes: vec![
                index(KEYS_REVOKED, doc! { "revokedAt": 1 }),
                // Few keys have the member.
                sparse(KEYS_DUE, doc! { DUE_AT: 1 }),
            ],
        },
        Layout {
            name: OPERATORS,
            members: doc! {
                "tenant": text(), "username": text(), "passwordHash": text(), "passwordVersion": number(), "revision": number(),
                "permissions": { "bsonType": "array", "items": text() },
                "createdAt": time(), "updatedAt": time(),
            },
            indexes: vec![
                unique(OPERATORS_USERNAME, doc! { "username": 1 }),
                index(OPERATORS_TENANT, doc! { "tenant": 1, "username": 1 }),
            ],
        },
        Layout {
            name: SESSIONS,
            members: doc! {
                "tenant": text(), "operator": text(), "passwordVersion": number(), "revision": number(),
                "createdAt": time(), "expiresAt": time(),
            },
            indexes: vec![
                index(SESSIONS_OPERATOR, doc! { "operator": 1 }),
                index(SESSIONS_EXPIRY, doc! { "expiresAt": 1 }),
            ],
        },
        Layout {
            name: AUDIT,
            members: doc! {
                "tenant": text(), "number": number(), "hash": text(),
                "event": {
                    "bsonType": "object",
                    "required": ["id", "occurredAt", "actor", "action", "outcome", "count", "requestId"],
                },
            },
            // The time comes last in most indexes, so that entries outside of a time range are skipped within the index.
            indexes: vec![
                unique(AUDIT_NUMBER, doc! { "tenant": 1, "number": 1 }),
                index(AUDIT_TIME, doc! { "tenant": 1, "number": 1, "event.occurredAt": 1 }),
                index(AUDIT_OCCURRED, doc! { "tenant": 1, "event.occurredAt": 1, "number": 1 }),
                index(AUDIT_SYSTEM, doc! { "tenant": 1, "event.system": 1, "number": 1, "event.occurredAt": 1 }),
                index(AUDIT_ACTOR, doc! { "tenant": 1, "event.actor.id": 1, "number": 1, "event.occurredAt": 1 }),
                index(AUDIT_ACTION, doc! { "tenant": 1, "event.action": 1, "number": 1, "event.occurredAt": 1 }),
                index(AUDIT_OUTCOME, doc! { "tenant": 1, "event.outcome": 1, "number": 1, "event.occurredAt": 1 }),
                if_present(
                    AUDIT_MARK,
                    doc! { "tenant": 1, "event.keyMark": 1, "number": 1, "event.occurredAt": 1 },
                    "event.keyMark",
                ),
                if_present(
                    AUDIT_PREVIOUS_MARK,
                    doc! { "tenant": 1, "event.previousKeyMark": 1, "number": 1, "event.occurredAt": 1 },
                    "event.previousKeyMark",
                ),
            ],
        },
        Layout {
            name: AUDIT_HEADS,
            members: doc! { "number": { "bsonType": "long", "minimum": 0_i64 }, "hash": text() },
            indexes: Vec::new(),
        },
        Layout {
            name: TENANTS,
            members: doc! {
                "tenant": text(), "name": text(), "revision": number(), "createdAt": time(), "updatedAt": time(),
            },
            indexes: Vec::new(),
        },
        Layout {
            name: TOKENS,
            members: doc! {
                "tenant": text(), "name": text(), "folded": text(), "isService": { "bsonType": "bool" },
                "digests": { "bsonType": "array", "items": text() }, "revision": number(),
                "createdAt": time(), "updatedAt": time(),
            },
            indexes: vec![
                unique(TOKENS_NAME, doc! { "tenant": 1, "isService": 1, "folded": 1 }),
                unique(TOKENS_DIGESTS, doc! { "digests": 1 }),
            ],
        },
        Layout {
            name: LEASES,
            members: doc! {
                "sequence": number(), "applied": { "bsonType": "long" }, "asks": { "bsonType": "bool" },
            },
            indexes: Vec::new(),
        },
        Layout {
            name: BUCKETS,
            members: doc! { "arrival": time() },
            indexes: vec![index(BUCKETS_ARRIVAL, doc! { "arrival": 1 })],
        },
        Layout {
            name: USAGE,
            members: doc! { "tenant": text(), "writtenAt": time(), "keys": { "bsonType": "object" } },
            indexes: vec![index(USAGE_WRITTEN, doc! { "tenant": 1, "writtenAt": 1 })],
        },
        usage_series(USAGE_HOURS),
        usage_series(USAGE_DAYS),
        Layout { name: USAGE_FLUSHES, members: doc! { "number": number(), "at": time() }, indexes: Vec::new() },
        Layout { name: META, members: Document::new(), indexes: Vec::new() },
    ]
}

fn usage_series(name: &'static str) -> Layout {
    let members = doc! {
        "tenant": { "bsonType": "string" }, "row": { "bsonType": "long" }, "keys": { "bsonType": "object" },
    };
    Layout { name, members, indexes: vec![index(USAGE_ROW, doc! { "row": 1 })] }
}

fn index(name: &str, keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).options(IndexOptions::builder().name(name.to_owned()).build()).build()
}

fn sparse(name: &str, keys: Document) -> IndexModel {
    let options = IndexOptions::builder().name(name.to_owned()).sparse(true).build();
    IndexModel::builder().keys(keys).options(options).build()
}

fn unique(name: &str, keys: Document) -> IndexModel {
    let options = IndexOptions::builder().name(name.to_owned()).unique(true).build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// An index of the documents that have this member.
fn if_present(name: &str, keys: Document, member: &str) -> IndexModel {
    let options = IndexOptions::builder()
        .name(name.to_owned())
        .partial_filter_expression(doc! { member: { "$exists": true } })
        .build();
    IndexModel::builder().keys(keys).options(options).build()
}

fn unique_if_present(name: &str, keys: Document, member: &str) -> IndexModel {
    let mut index = if_present(name, keys, member);
    index.options.get_or_insert_default().unique = Some(true);
    index
}

impl Layout {
    fn validator(&self) -> Document {
        let required: Vec<_> = std::iter::once("_id").chain(self.members.keys().map(String::as_str)).collect();
        doc! { "$jsonSchema": { "bsonType": "object", "required": required, "properties": self.members.clone() } }
    }
}

/// Brings the database to [`VERSION`].
pub(super) async fn run(database: &Database, limits: Limits) -> Result<(), ConnectError> {
    if let Some(source) = unfinished_transfer(database, limits).await? {
        return Err(ConnectError::UnfinishedTransfer(source));
    }
    let found = version(database, limits).await?;
    if found > VERSION {
        return Err(ConnectError::Newer { found, known: VERSION });
    }
    if found == VERSION {
        return Ok(());
    }
    build(database).await?;
    record_origins(database).await.map_err(failed)?;
    if found < TENANTS_VERSION {
        add_tenants(database).await.map_err(failed)?;
    }
    raise_version(database, limits).await
}

/// Begins to move a store into a database without documents, or anew if a transfer from the same source was interrupted.
/// Until [`finish_transfer`], no release opens the database.
pub(super) async fn begin_transfer(database: &Database, limits: Limits, source: &str) -> Result<(), ConnectError> {
    match unfinished_transfer(database, limits).await? {
        Some(other) if other != source => return Err(ConnectError::UnfinishedTransfer(other)),
        Some(_) => {
            for layout in collections().iter().filter(|layout| layout.name != META) {
                database.collection::<Document>(layout.name).drop().await.map_err(failed)?;
            }
            // The version is the only one that is needed to begin anew, and so comes last.
            let others = doc! { "_id": { "$ne": "version" } };
            database.collection::<Document>(META).delete_many(others).await.map_err(failed)?;
        }
        None => {
            for name in bounded(limits, database.list_collection_names()).await? {
                let found = bounded(limits, database.collection::<Document>(&name).find_one(doc! {})).await?;
                if found.is_some() {
                    return Err(ConnectError::NotEmpty(database.name().to_owned()));
                }
            }
            let version = doc! { "_id": "version", "number": UNFINISHED, SOURCE: source };
            bounded(limits, database.collection::<Document>(META).insert_one(version)).await?;
        }
    }
    Ok(())
}

/// Lets instances open a database that everything was moved into, and whose indexes are built.
pub(super) async fn finish_transfer(database: &Database, limits: Limits) -> Result<(), ConnectError> {
    let complete = doc! { "$set": { "number": VERSION }, "$unset": { SOURCE: "" } };
    let meta = database.collection::<Document>(META);
    bounded(limits, meta.update_one(doc! { "_id": "version" }, complete)).await.map(drop)
}

/// The source of a transfer that was begun and not finished.
async fn unfinished_transfer(database: &Database, limits: Limits) -> Result<Option<String>, ConnectError> {
    let meta = database.collection::<Document>(META);
    let found = bounded(limits, meta.find_one(doc! { "_id": "version" })).await?;
    Ok(found.and_then(|found| found.get_str(SOURCE).ok().map(str::to_owned)))
}

/// Creates collections and indexes, and brings validators up to date.
pub(super) async fn build(database: &Database) -> Result<(), ConnectError> {
    let deadline = Instant::now() + BUILD_LIMIT;
    for layout in collections() {
        retry_while_busy(deadline, || create(database, &layout)).await?;
        if !layout.indexes.is_empty() {
            retry_while_busy(deadline, || async {
                database.collection::<Document>(layout.name).create_indexes(layout.indexes.clone()).await.map(drop)
            })
            .await?;
        }
    }
    Ok(())
}

/// Adds to each current key that release 0.1 generated when and by whom that was, from the audit log.
async fn record_origins(database: &Database) -> mongodb::error::Result<()> {
    let (systems, audit) = (database.collection::<Document>(SYSTEMS), database.collection::<Document>(AUDIT));
    let without = doc! { "key": { "$type": "object" }, "key.generatedAt": { "$exists": false } };
    let mut found = systems.find(without).projection(doc! { "tenant": 1, "key.digest": 1 }).await?;
    while let Some(system) = found.try_next().await? {
        let (Some(id), Some(tenant)) = (system.get("_id"), system.get("tenant")) else { continue };
        let generation = doc! { "tenant": tenant, "event.system": id, "event.action": "KEY_GENERATED" };
        let newest = audit.find_one(generation).sort(doc! { "number": -1 }).hint(Hint::Name(AUDIT_SYSTEM.to_owned()));
        let Some(entry) = newest.await? else { continue };
        let Ok(event) = entry.get_document("event") else { continue };
        let (Some(at), Some(by)) = (event.get("occurredAt"), event.get("actor")) else { continue };
        let digest = system.get_document("key").ok().and_then(|key| key.get("digest"));
        // Nothing happens if the key was revoked meanwhile.
        let same_key = doc! { "_id": id, "key.digest": digest };
        systems.update_one(same_key, doc! { "$set": { "key.generatedAt": at, "key.generatedBy": by } }).await?;
    }
    Ok(())
}

/// Adds a row for each tenant that an earlier release has: one with an audit log. It is named by its id, was created with
/// its first entry, and takes over the policy that was a setting. A row that exists is left as it is.
async fn add_tenants(database: &Database) -> mongodb::error::Result<()> {
    let collection = |name| database.collection::<Document>(name);
    let (heads, tenants, audit, meta) =
        (collection(AUDIT_HEADS), collection(TENANTS), collection(AUDIT), collection(META));
    let mut found = heads.find(doc! { "number": { "$gt": 0_i64 } }).await?;
    while let Some(head) = found.try_next().await? {
        let Ok(id) = head.get_str("_id") else { continue };
        let Ok(tenant) = id.parse::<TenantId>() else { continue };
        let first = doc! { "tenant": id, "number": 1_i64 };
        let first = audit.find_one(first).hint(Hint::Name(AUDIT_NUMBER.to_owned())).await?;
        let created_at = first.and_then(|entry| entry.get_document("event").ok()?.get_i64("occurredAt").ok());
        let setting = setting_id(&format!("{LONGEST_LIFETIME_SETTING}{id}"));
        let days = meta.find_one(doc! { "_id": setting }).await?;
        let days = days.and_then(|days| days.get_str("value").ok()?.parse().ok());
        let policy = TenantPolicy { max_key_lifetime_days: days, ..TenantPolicy::default() };
        let created_at = Timestamp::from_millis(created_at.unwrap_or_default());
        let row = Tenant { revision: 1, policy, ..Tenant::without_row(tenant, created_at) };
        let mut row = to_document(&Row::Tenant(row)).map_err(Error::custom)?;
        let id = row.remove("_id");
        tenants.update_one(doc! { "_id": id }, doc! { "$setOnInsert": row }).upsert(true).await?;
    }
    Ok(())
}

/// Creates the collection, or updates the validator of an existing one.
async fn create(database: &Database, layout: &Layout) -> mongodb::error::Result<()> {
    match database.create_collection(layout.name).validator(layout.validator()).await {
        Err(error) if code_of(&error) == Some(NAMESPACE_EXISTS) => {
            let change = doc! { "collMod": layout.name, "validator": layout.validator(), "validationLevel": "strict" };
            database.run_command(change).await.map(drop)
        }
        made => made,
    }
}

/// Runs the step, and retries it while another instance is running it.
async fn retry_while_busy<F, S>(deadline: Instant, step: F) -> Result<(), ConnectError>
where
    F: Fn() -> S,
    S: Future<Output = mongodb::error::Result<()>>,
{
    loop {
        match tokio::time::timeout_at(deadline, step()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if code_of(&error).is_some_and(|code| BUSY.contains(&code)) => {
                if Instant::now() + RETRY_DELAY > deadline {
                    return Err(failed(error));
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(ConnectError::Preparation(TimedOut::new("building indexes").into())),
        }
    }
}

async fn version(database: &Database, limits: Limits) -> Result<i64, ConnectError> {
    let meta = database.collection::<Document>(META);
    let found = bounded(limits, meta.find_one(doc! { "_id": "version" })).await?;
    Ok(found.and_then(|found| found.get("number").and_then(number_of)).unwrap_or(0))
}

/// Never lowers the version: a newer release may have started meanwhile.
async fn raise_version(database: &Database, limits: Limits) -> Result<(), ConnectError> {
    let meta = database.collection::<Document>(META);
    let raise = || {
        meta.find_one_and_update(doc! { "_id": "version" }, doc! { "$max": { "number": VERSION } })
            .upsert(true)
            .return_document(ReturnDocument::After)
    };
    // Of several instances that create the document concurrently, all but one may fail; the retry finds the document.
    let raised = match bounded(limits, raise()).await {
        Ok(raised) => raised,
        Err(ConnectError::Preparation(_)) => bounded(limits, raise()).await?,
        Err(error) => return Err(error),
    };
    match raised.and_then(|raised| raised.get("number").and_then(number_of)) {
        Some(found) if found > VERSION => Err(ConnectError::Newer { found, known: VERSION }),
        _ => Ok(()),
    }
}

async fn bounded<T>(
    limits: Limits,
    call: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(limits.call, call.into_future()).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(ConnectError::Unreachable(TimedOut::new("preparing the database").into())),
    }
}

fn failed(error: Error) -> ConnectError {
    if is_refusal(&error) { ConnectError::Refused(Box::new(error)) } else { ConnectError::Preparation(Box::new(error)) }
}
