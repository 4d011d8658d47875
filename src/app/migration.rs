//! Moving everything from one store to another: from the embedded store to MongoDB, and back.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use zeroize::Zeroizing;

use super::restoration::Draft;
use super::{FINGERPRINT_SETTING, StartError, cannot_connect, contains_store, create_directory, in_directory};
use crate::clock::Environment;
use crate::coherence::protocol::with_margin;
use crate::config::{ConfigError, StoreConfig};
use crate::domain::audit::AuditHead;
use crate::domain::ids::TenantId;
use crate::domain::leases::MAX_LEASE;
use crate::service::archives::list_starts;
use crate::store::embedded::EmbeddedStore;
use crate::store::mongo::{ConnectError, MongoOptions, MongoStore};
use crate::store::{LeaseStore, Record, RecordKind, Result, SettingsStore, StoreError, TransferStore};

/// Records that are written together.
const CHUNK_SIZE: usize = 2_000;
/// Chunks that are written concurrently.
const CHUNKS_AHEAD: usize = 4;
/// Size of the cache of pages of the embedded target.
const CACHE_BYTES: usize = 256 << 20;
/// Interval between two looks at the leases of instances that may have died.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Where everything is moved to.
pub enum Target {
    Mongo { uri: Zeroizing<String>, database: String },
    Embedded { directory: PathBuf },
}

/// Numbers of records of a kind, in the source and in the target.
pub struct Moved {
    pub kind: RecordKind,
    pub source: u64,
    pub target: u64,
}

/// Moves everything from a store that no process uses to an empty one. Calls `report` with the number of records that
/// were written, and that of all of their kind.
///
/// Until it has succeeded, no instance opens the target. An attempt that was interrupted is begun anew.
pub async fn migrate(
    source: &StoreConfig,
    target: Target,
    report: &mut (dyn FnMut(RecordKind, u64, u64) + Send),
) -> Result<Vec<Moved>, StartError> {
    let environment = Environment::system();
    let (from, name) = open_source(source, &environment).await?;
    let moved = match target {
        Target::Mongo { uri, database } => {
            let fingerprint = from.settings.find_setting(FINGERPRINT_SETTING).await?.unwrap_or_default();
            let options = MongoOptions::new(uri.as_str(), database);
            let source = format!("{name} (root secret {fingerprint})");
            let connected = MongoStore::connect_empty(&options, environment, &source).await;
            let to = connected.map_err(cannot_move_to)?;
            let moved = copy(&*from.records, &to, report).await?;
            to.build_indexes().await.map_err(cannot_move_to)?;
            check_audit(&from, &to).await?;
            to.finish_transfer().await.map_err(cannot_move_to)?;
            moved
        }
        Target::Embedded { directory } => {
            let failed = |error: &dyn std::fmt::Display| to_directory(&directory, error);
            create_directory(&directory)?;
            if contains_store(&directory) {
                return Err(failed(&"it contains a store; choose an empty directory"));
            }
            let draft = Draft::begin_anew(&directory, "migration").map_err(|error| failed(&error))?;
            let to = EmbeddedStore::open_with_cache(&draft.0, CACHE_BYTES).map_err(|error| failed(&error))?;
            let moved = copy(&*from.records, &to, report).await.map_err(|error| match error {
                StartError::Store(full @ StoreError::DiskFull(_)) => failed(&full),
                error => error,
            })?;
            check_audit(&from, &to).await?;
            drop(to);
            draft.publish(&directory).map_err(|error| failed(&error))?;
            moved
        }
    };
    Ok(moved)
}

/// The source, by the concepts that are used.
struct Source {
    records: Arc<dyn TransferStore>,
    settings: Arc<dyn SettingsStore + Send + Sync>,
}

/// Opens the source, and checks that no process uses it. Returns its name, without secrets.
async fn open_source(config: &StoreConfig, environment: &Environment) -> Result<(Source, String), StartError> {
    match config {
        StoreConfig::Embedded { directory, cache_bytes } => {
            if !contains_store(directory) {
                return Err(ConfigError::new("--data-dir", format!("no store in {}", directory.display())).into());
            }
            let store = EmbeddedStore::open_with_cache(directory, *cache_bytes);
            let store = Arc::new(store.map_err(|error| in_directory(directory, &error))?);
            let name = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            Ok((Source { records: store.clone(), settings: store }, name.display().to_string()))
        }
        StoreConfig::Mongo { uri, database } => {
            let options = MongoOptions::new(uri.as_str(), database.as_str());
            let store = MongoStore::connect(&options, environment.clone()).await.map_err(cannot_connect)?;
            refuse_beside_instances(&store).await?;
            let store = Arc::new(store);
            Ok((Source { records: store.clone(), settings: store }, format!("MongoDB, database {database}")))
        }
    }
}

/// Fails if an instance is alive: it renews its lease. Without leases, there is none.
async fn refuse_beside_instances(store: &dyn LeaseStore) -> Result<(), StartError> {
    let before = store.list_leases().await?;
    let Some(longest) = before.iter().map(|lease| lease.length.unwrap_or(MAX_LEASE)).max() else { return Ok(()) };
    tracing::info!(leases = before.len(), ?longest, "leases found; waiting for them to expire");
    let mut waited = Duration::ZERO;
    while waited < with_margin(longest) {
        let after = store.list_leases().await?;
        if let Some(alive) = after.iter().find(|lease| !before.contains(lease)) {
            let reason = format!("instance {} is running; stop all instances first", alive.incarnation);
            return Err(StartError::Failed(format!("--mongodb-uri: {reason}")));
        }
        tokio::time::sleep(LEASE_CHECK_INTERVAL).await;
        waited += LEASE_CHECK_INTERVAL;
    }
    Ok(())
}

async fn copy(
    from: &dyn TransferStore,
    to: &dyn TransferStore,
    report: &mut (dyn FnMut(RecordKind, u64, u64) + Send),
) -> Result<Vec<Moved>, StartError> {
    let mut moved = Vec::new();
    for kind in RecordKind::ALL {
        let total = from.count_records(kind).await?;
        let mut done = 0;
        report(kind, done, total);
        let mut written = from
            .read_records(kind)
            .await?
            .try_chunks(CHUNK_SIZE)
            .map(|chunk| async {
                let chunk = chunk.map_err(|failed| failed.1)?;
                let count = chunk.len() as u64;
                to.write_records(kind, chunk).await.map(|()| count)
            })
            .buffer_unordered(CHUNKS_AHEAD);
        while let Some(count) = written.try_next().await? {
            done += count;
            report(kind, done, total);
        }
        let (source, target) = (from.count_records(kind).await?, to.count_records(kind).await?);
        if source != target {
            let name = kind.name();
            let reason =
                format!("{source} {name} in the source and {target} in the target; is a process using either?");
            return Err(StartError::Failed(reason));
        }
        moved.push(Moved { kind, source, target });
    }
    Ok(moved)
}

/// Verifies the hash chains of all logs in the target, and that they end where those of the source do.
async fn check_audit(from: &Source, to: &dyn TransferStore) -> Result<(), StartError> {
    let starts = list_starts(&*from.settings).await?;
    let mut ends = starts.clone();
    let mut entries = to.read_records(RecordKind::AuditEntries).await?;
    while let Some(record) = entries.try_next().await? {
        let Record::Entry(entry) = record else { continue };
        if starts.get(&entry.tenant).is_some_and(|start| entry.number <= start.number) {
            // Archived, and not removed yet.
            continue;
        }
        let last = ends.entry(entry.tenant.clone()).or_default();
        if let Err(broken) = entry.check(last) {
            let tenant = &entry.tenant;
            return Err(StartError::Failed(format!("the audit log of tenant {tenant} is broken: {broken}")));
        }
        *last = entry.head();
    }
    if heads(&*from.records).await? == ends && heads(to).await? == ends {
        Ok(())
    } else {
        let reason = "the audit logs of the source have changed meanwhile, or lack their last entries; run \
                      `keymark audit verify` on the source, and stop all processes that use it";
        Err(StartError::Failed(reason.to_owned()))
    }
}

async fn heads(store: &dyn TransferStore) -> Result<BTreeMap<TenantId, AuditHead>, StoreError> {
    let heads = store.read_records(RecordKind::AuditHeads).await?;
    heads
        .try_filter_map(async |record| match record {
            Record::Head(tenant, head) => Ok(Some((tenant, head))),
            _ => Ok(None),
        })
        .try_collect()
        .await
}

fn cannot_move_to(error: ConnectError) -> StartError {
    tracing::debug!(cause = error.source(), "target not opened");
    StartError::Failed(format!("--to-mongodb: {error}"))
}

fn to_directory(directory: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::Failed(format!("--to-embedded: {}: {error}", directory.display()))
}
