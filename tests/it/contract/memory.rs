//! A store in memory behind a mutex, the model for other stores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use keymark::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use keymark::domain::changes::{Batch, Change, Expected, Position, Row, RowId, StoredRow, Write};
use keymark::domain::external_ids::ExternalId;
use keymark::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId, TokenId};
use keymark::domain::keys::{Key, KeyDigest, Mark};
use keymark::domain::leases::{Incarnation, Lease, LogTime};
use keymark::domain::operators::{Operator, Username};
use keymark::domain::sessions::{Session, SessionId};
use keymark::domain::system_lists::ListedSystem;
use keymark::domain::system_names::Search;
use keymark::domain::systems::{Direction, System, SystemOrder, SystemSortKey};
use keymark::domain::tenants::Tenant;
use keymark::domain::time::Timestamp;
use keymark::domain::tokens::Token;
use keymark::domain::usage::{
    BucketCounts, Counts, Flush, Resolution, UsageRange, UsageRetention, UsageSummary, surplus_keys,
};
use keymark::store::{
    self, AuditStore, Backup, BackupError, BackupStore, CommitStore, Conflict, Feed, FeedStore, KeyStore, LeaseStore,
    ListedSystems, OperatorStore, Page, PageEnd, PageRequest, PurgeStore, Purged, Quota, Result, Rows, ScanStore,
    SessionStore, SettingsStore, Store, StoreError, SystemState, SystemStore, TenantStore, ThrottleStore, TokenStore,
    UsageStore,
};
use tokio::sync::watch;

use super::Factory;

/// The whole state of the store.
#[derive(Default)]
struct Model {
    rows: HashMap<RowId, Row>,
    logs: BTreeMap<TenantId, Vec<AuditEntry>>,
    /// The position of a change is the number of changes up to and including it.
    feed: Vec<Change>,
    /// Smaller positions are too old.
    oldest_position: usize,
    markers: HashSet<&'static str>,
    settings: HashMap<String, String>,
    /// Each bucket's theoretical arrival time.
    buckets: HashMap<String, Timestamp>,
    usage: Usage,
}

#[derive(Default)]
struct Usage {
    flushes: HashMap<Incarnation, u64>,
    summaries: HashMap<(TenantId, SystemId), UsageSummary>,
    counts: HashMap<(TenantId, SystemId, Mark, Resolution, u32), Counts>,
}

impl Model {
    /// Returns the conditions of the batch that do not hold.
    fn broken_conditions(&self, batch: &Batch) -> Vec<Conflict> {
        let written = batch.writes.iter().map(|(expected, write)| (id_of(write), *expected));
        let required = batch.requires.iter().map(|requirement| (requirement.row.clone(), requirement.expected));
        let mut broken = Vec::new();
        if !written.chain(required).all(|(row, expected)| self.holds(&batch.tenant, row, expected)) {
            broken.push(Conflict::Row);
        }
        if batch.marker.is_some_and(|marker| self.markers.contains(marker)) {
            broken.push(Conflict::Marker);
        }
        let mut after = self.rows.clone();
        for (_, write) in &batch.writes {
            apply(&mut after, &batch.tenant, write);
        }
        for (_, write) in &batch.writes {
            match write {
                Write::Put(row) if row.tenant() != Some(&batch.tenant) => broken.push(Conflict::Row),
                Write::Put(Row::System(written)) if after.values().any(|row| has_name_of(row, written)) => {
                    broken.push(Conflict::NameTaken);
                }
                Write::Put(Row::System(written)) if after.values().any(|row| has_external_id_of(row, written)) => {
                    broken.push(Conflict::ExternalIdTaken);
                }
                Write::Put(Row::Operator(written)) if after.values().any(|row| has_username_of(row, written)) => {
                    broken.push(Conflict::UsernameTaken);
                }
                Write::Put(Row::Token(written)) if after.values().any(|row| has_token_name_of(row, written)) => {
                    broken.push(Conflict::TokenNameTaken);
                }
                Write::Delete(RowId::Tenant(tenant))
                    if self.rows.values().any(|row| matches!(row, Row::System(system) if system.tenant == *tenant)) =>
                {
                    broken.push(Conflict::TenantNotEmpty);
                }
                Write::Delete(RowId::Tenant(tenant)) if after.values().any(|row| is_identity_of(row, tenant)) => {
                    broken.push(Conflict::Row);
                }
                _ => {}
            }
        }
        broken
    }

    fn holds(&self, tenant: &TenantId, row: RowId, expected: Expected) -> bool {
        match (expected, self.rows.get(&row)) {
            (Expected::Absent, None) | (Expected::Anything, _) | (Expected::Present, Some(_)) => true,
            (Expected::Revision(revision), Some(row)) => row.tenant() == Some(tenant) && row.revision() == revision,
            (Expected::Absent, Some(_)) | (Expected::Revision(_) | Expected::Present, None) => false,
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<AuditEntry> {
        if let Some(conflict) = self.broken_conditions(&batch).first() {
            return Err(StoreError::Conflict(*conflict));
        }
        let entry = AuditEntry::after(&self.head(&batch.tenant), batch.tenant.clone(), batch.event);
        let mut effective = Vec::new();
        for (_, write) in batch.writes {
            if apply(&mut self.rows, &batch.tenant, &write) {
                effective.push(write);
            }
        }
        self.markers.extend(batch.marker);
        self.logs.entry(batch.tenant).or_default().push(entry.clone());
        self.append_change(effective, Some(entry.clone()));
        Ok(entry)
    }

    fn append_change(&mut self, writes: Vec<Write>, entry: Option<AuditEntry>) {
        let changes = self.feed.len() + 1;
        let at = LogTime::new(changes as u64);
        self.feed.push(Change {
            position: position(changes),
            at,
            writes,
            foreign: Vec::new(),
            entry: entry.map(Arc::new),
        });
    }

    fn log(&self, tenant: &TenantId) -> &[AuditEntry] {
        self.logs.get(tenant).map_or(&[], Vec::as_slice)
    }

    fn head(&self, tenant: &TenantId) -> AuditHead {
        self.log(tenant).last().map(AuditEntry::head).unwrap_or_default()
    }

    fn purge(&mut self, now: Timestamp, revoked_before: Timestamp) -> Purged {
        let mut purged = Purged::default();
        let mut removed = Vec::new();
        self.rows.retain(|id, row| {
            let past = match row {
                Row::Key(key) => key.revoked_at.is_some_and(|at| at < revoked_before),
                Row::Session(session) => session.expires_at < now,
                _ => false,
            };
            if past {
                removed.push(Write::Delete(id.clone()));
                purged.keys += u64::from(matches!(row, Row::Key(_)));
                purged.sessions += u64::from(matches!(row, Row::Session(_)));
            }
            !past
        });
        self.buckets.retain(|_, arrival| *arrival > now);
        if !removed.is_empty() {
            self.append_change(removed, None);
        }
        purged
    }
}

fn id_of(write: &Write) -> RowId {
    match write {
        Write::Put(row) => row.id(),
        Write::Delete(row) => row.clone(),
    }
}

fn has_name_of(row: &Row, written: &System) -> bool {
    matches!(row, Row::System(other) if other.id != written.id
        && other.tenant == written.tenant
        && other.name.folded() == written.name.folded())
}

fn has_external_id_of(row: &Row, written: &System) -> bool {
    matches!(row, Row::System(other) if other.id != written.id
        && other.tenant == written.tenant
        && other.external_id.is_some()
        && other.external_id == written.external_id)
}

fn has_username_of(row: &Row, written: &Operator) -> bool {
    matches!(row, Row::Operator(other) if other.id != written.id && other.username == written.username)
}

fn is_identity_of(row: &Row, tenant: &TenantId) -> bool {
    matches!(row, Row::Operator(_) | Row::Token(_)) && row.tenant() == Some(tenant)
}

fn has_token_name_of(row: &Row, written: &Token) -> bool {
    matches!(row, Row::Token(other) if other.id != written.id
        && other.tenant == written.tenant
        && other.kind.is_service() == written.kind.is_service()
        && other.name.folded() == written.name.folded())
}

/// Applies the write. Returns false for a deletion that found no row.
fn apply(rows: &mut HashMap<RowId, Row>, tenant: &TenantId, write: &Write) -> bool {
    match write {
        Write::Put(row) => {
            rows.insert(row.id(), row.clone());
            true
        }
        Write::Delete(id) => rows.get(id).is_some_and(|row| row.tenant() == Some(tenant)) && rows.remove(id).is_some(),
    }
}

/// Selects the requested page from the whole list.
fn page<T, K>(
    list: impl Iterator<Item = T>,
    place: impl Fn(&T) -> K,
    precedes: impl Fn(&K, &K) -> bool,
    request: &PageRequest<K>,
) -> Page<T> {
    let mut items: Vec<T> = list
        .filter(|item| request.after.as_ref().is_none_or(|after| precedes(after, &place(item))))
        .filter(|item| request.before.as_ref().is_none_or(|before| precedes(&place(item), before)))
        .collect();
    let more = items.len().saturating_sub(request.limit);
    match request.from {
        PageEnd::First => items.truncate(request.limit),
        PageEnd::Last => drop(items.drain(..more)),
    }
    Page { items, has_more: more > 0 }
}

fn position(changes: usize) -> Position {
    Position::from_bytes((changes as u64).to_be_bytes().to_vec())
}

fn changes_up_to(position: &Position) -> usize {
    let bytes = position.as_bytes().try_into().expect("a position of this store has 8 bytes");
    usize::try_from(u64::from_be_bytes(bytes)).expect("a position of this store fits a usize")
}

struct Shared {
    model: Mutex<Model>,
    /// Number of changes in the feed.
    committed: watch::Sender<usize>,
}

/// A store in memory. Clones are instances of the same store.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

impl Default for MemoryStore {
    fn default() -> Self {
        Self(Arc::new(Shared { model: Mutex::default(), committed: watch::Sender::new(0) }))
    }
}

impl MemoryStore {
    /// Returns the conditions for which the batch would be refused now. A store may report any of them.
    pub fn broken_conditions(&self, batch: &Batch) -> Vec<Conflict> {
        self.model().broken_conditions(batch)
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.model.lock().expect("no panic while the model is locked")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        let mut model = self.model();
        let result = change(&mut model);
        self.0.committed.send_replace(model.feed.len());
        result
    }

    fn rows<T>(&self, pick: impl Fn(&Row) -> Option<T>) -> Vec<T> {
        self.model().rows.values().filter_map(pick).collect()
    }

    fn systems(&self, tenant: &TenantId, search: &Search) -> Vec<System> {
        self.rows(|row| match row {
            Row::System(system) if system.tenant == *tenant && system.is_found_by(search) => Some(system.clone()),
            _ => None,
        })
    }

    fn operators(&self, which: impl Fn(&Operator) -> bool) -> Vec<Operator> {
        self.rows(|row| match row {
            Row::Operator(operator) if which(operator) => Some(operator.clone()),
            _ => None,
        })
    }

    fn tokens(&self, which: impl Fn(&Token) -> bool) -> Vec<Token> {
        self.rows(|row| match row {
            Row::Token(token) if which(token) => Some(token.clone()),
            _ => None,
        })
    }

    /// The tenant's entries that match, newest first.
    fn entries(&self, tenant: &TenantId, filter: &AuditFilter) -> Vec<AuditEntry> {
        self.model().log(tenant).iter().rev().filter(|entry| filter.matches(&entry.event)).cloned().collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn read_epoch(&self) -> u64 {
        0
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl BackupStore for MemoryStore {
    async fn back_up(&self, _: &std::path::Path) -> Result<Result<Backup, BackupError>> {
        Ok(Err(BackupError::Unsupported))
    }
}

#[async_trait]
impl SystemStore for MemoryStore {
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        Ok(self.systems(tenant, &Search::All).into_iter().find(|system| system.id == id))
    }

    async fn recheck_system(&self, tenant: &TenantId, id: SystemId) -> Result<SystemState> {
        if let Some(system) = self.find_system(tenant, id).await? {
            return Ok(SystemState::Present(system));
        }
        let deletions = self.count_audit(tenant, &AuditFilter::deletion_of(id)).await?;
        Ok(if deletions > 0 { SystemState::Deleted } else { SystemState::Unknown })
    }

    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        Ok(self.systems(tenant, &Search::All).into_iter().filter(|system| ids.contains(&system.id)).collect())
    }

    async fn find_system_by_external_id(&self, tenant: &TenantId, external_id: &ExternalId) -> Result<Option<System>> {
        let mut systems = self.systems(tenant, &Search::All).into_iter();
        Ok(systems.find(|system| system.external_id.as_ref() == Some(external_id)))
    }

    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        request: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        let place = |system: &System| order.field.key_of(system);
        let precedes = |one: &SystemSortKey, other: &SystemSortKey| match order.direction {
            Direction::Ascending => one < other,
            Direction::Descending => one > other,
        };
        let mut systems = self.systems(tenant, search);
        systems.sort_by_key(place);
        if order.direction == Direction::Descending {
            systems.reverse();
        }
        Ok(page(systems.into_iter(), place, precedes, request))
    }

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        Ok(self.systems(tenant, search).len() as u64)
    }

    async fn count_systems_by_tenant(&self) -> Result<HashMap<TenantId, u64>> {
        let mut counts = HashMap::new();
        let tenants = self.rows(|row| match row {
            Row::System(system) => Some(system.tenant.clone()),
            _ => None,
        });
        for tenant in tenants {
            *counts.entry(tenant).or_default() += 1;
        }
        Ok(counts)
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>> {
        let found = self.rows(|row| match row {
            Row::Key(key) if digests.contains(&key.digest) => Some(key.clone()),
            _ => None,
        });
        Ok(found.into_iter().next())
    }

    async fn find_key_to_change(&self, digest: KeyDigest) -> Result<Option<Key>> {
        self.find_key(&[digest]).await
    }

    async fn list_due_keys(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>> {
        let mut due = self.rows(|row| match row {
            Row::Key(key) if key.due_at().is_some_and(|at| at <= now) => Some(key.clone()),
            _ => None,
        });
        due.sort_by_key(|key| (key.due_at(), key.digest));
        due.truncate(limit);
        Ok(due)
    }
}

#[async_trait]
impl OperatorStore for MemoryStore {
    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>> {
        Ok(self.operators(|operator| operator.id == id).pop())
    }

    async fn find_operator_to_change(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.find_operator(id).await
    }

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        Ok(self.operators(|operator| operator.username == *username).pop())
    }

    async fn recheck_operator(&self, username: &Username) -> Result<Option<Operator>> {
        self.find_operator_by_username(username).await
    }

    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let mut operators = self.operators(|operator| tenant.is_none_or(|tenant| operator.tenant == *tenant));
        operators.sort_by(|one, other| one.username.as_str().cmp(other.username.as_str()));
        Ok(operators)
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>> {
        match self.model().rows.get(&RowId::Session(id)) {
            Some(Row::Session(session)) => Ok(Some(session.clone())),
            _ => Ok(None),
        }
    }

    async fn find_session_to_change(&self, id: SessionId) -> Result<Option<Session>> {
        self.find_session(id).await
    }

    async fn list_oldest_sessions(
        &self,
        operator: OperatorId,
        password_version: u64,
        limit: usize,
    ) -> Result<Vec<Session>> {
        let mut sessions = self.list_sessions(operator).await?;
        sessions.retain(|session| session.password_version == password_version);
        sessions.sort_by_key(|session| session.created_at);
        sessions.truncate(limit);
        Ok(sessions)
    }

    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        Ok(self.rows(|row| match row {
            Row::Session(session) if session.operator == operator => Some(session.clone()),
            _ => None,
        }))
    }
}

#[async_trait]
impl TenantStore for MemoryStore {
    async fn find_tenant(&self, id: &TenantId) -> Result<Option<Tenant>> {
        Ok(self.list_all_tenants().await?.into_iter().find(|tenant| tenant.id == *id))
    }

    async fn find_tenant_to_change(&self, id: &TenantId) -> Result<Option<Tenant>> {
        self.find_tenant(id).await
    }

    async fn list_all_tenants(&self) -> Result<Vec<Tenant>> {
        let mut tenants = self.rows(|row| match row {
            Row::Tenant(tenant) => Some(tenant.clone()),
            _ => None,
        });
        tenants.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        Ok(tenants)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn find_token(&self, digests: &[KeyDigest]) -> Result<Option<Token>> {
        Ok(self.tokens(|token| token.digests().any(|digest| digests.contains(&digest))).pop())
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<Token>> {
        Ok(self.tokens(|token| token.id == id).pop())
    }

    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Token>> {
        let mut tokens = self.tokens(|token| token.tenant == *tenant);
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn list_tenants(&self) -> Result<Vec<TenantId>> {
        Ok(self.model().logs.keys().cloned().collect())
    }

    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        Ok(self.model().head(tenant))
    }

    async fn stored_audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        self.audit_head(tenant).await
    }

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        Ok(self.model().log(tenant).iter().find(|entry| entry.event.id == id).cloned())
    }

    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        request: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        Ok(page(self.entries(tenant, filter).into_iter(), |entry| entry.number, |one, other| one > other, request))
    }

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        Ok(self.entries(tenant, filter).len() as u64)
    }

    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        Ok(self.model().log(tenant).iter().filter(|entry| entry.number > number).take(limit).cloned().collect())
    }

    async fn find_audit_hashes(&self, tenant: &TenantId, numbers: &[u64]) -> Result<Vec<AuditHead>> {
        let heads = self.model().log(tenant).iter().map(AuditEntry::head).collect::<Vec<_>>();
        Ok(heads.into_iter().filter(|head| numbers.contains(&head.number)).collect())
    }

    async fn recheck_audit_entry(&self, tenant: &TenantId, number: u64) -> Result<Option<AuditHead>> {
        Ok(self.find_audit_hashes(tenant, &[number]).await?.pop())
    }
}

#[async_trait]
impl CommitStore for MemoryStore {
    async fn commit(&self, batch: Batch) -> Result<AuditEntry> {
        self.change(|model| model.commit(batch))
    }
}

#[async_trait]
impl FeedStore for MemoryStore {
    async fn watch(&self, after: Option<&Position>, _own: Option<&[Incarnation]>) -> Result<Feed> {
        let next = {
            let model = self.model();
            let next = after.map_or(model.feed.len(), changes_up_to);
            if next < model.oldest_position {
                return Err(StoreError::PositionTooOld);
            }
            next
        };
        let committed = self.0.committed.subscribe();
        let feed = stream::unfold((self.clone(), committed, next), |(store, mut committed, next)| async move {
            committed.wait_for(|changes| *changes > next).await.ok()?;
            let change = store.model().feed[next].clone();
            Some((Ok(change), (store, committed, next + 1)))
        });
        Ok(feed.boxed())
    }
}

#[async_trait]
impl ScanStore for MemoryStore {
    async fn scan_rows(&self) -> Result<Rows> {
        let rows = self.rows(|row| match row {
            Row::System(_) | Row::Lease(_) => None,
            row => Some(StoredRow::Readable(row.clone())),
        });
        Ok(stream::iter(rows).map(Ok).boxed())
    }

    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)> {
        let model = self.model();
        let systems = model.rows.values().filter_map(|row| match row {
            Row::System(system) if system.tenant == *tenant => Some(Ok(ListedSystem::from(system))),
            _ => None,
        });
        Ok((model.head(tenant).number, stream::iter(systems.collect::<Vec<_>>()).boxed()))
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn put_lease(&self, lease: &Lease) -> Result<()> {
        self.change(|model| {
            let row = Row::Lease(*lease);
            model.rows.insert(row.id(), row.clone());
            model.append_change(vec![Write::Put(row)], None);
        });
        Ok(())
    }

    async fn list_leases(&self) -> Result<Vec<Lease>> {
        Ok(self.rows(|row| match row {
            Row::Lease(lease) => Some(*lease),
            _ => None,
        }))
    }

    async fn list_leases_at(&self, _position: LogTime) -> Result<Vec<Lease>> {
        self.list_leases().await
    }

    async fn delete_lease(&self, lease: &Lease) -> Result<bool> {
        let id = Row::Lease(*lease).id();
        Ok(self.change(|model| {
            let as_expected = model.rows.get(&id).is_some_and(|row| row.revision() == lease.sequence);
            if as_expected {
                model.rows.remove(&id);
                model.append_change(vec![Write::Delete(id)], None);
            }
            as_expected
        }))
    }
}

#[async_trait]
impl ThrottleStore for MemoryStore {
    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>> {
        let mut model = self.model();
        let arrival = model.buckets.entry(bucket.to_owned()).or_default();
        Ok(store::take(*arrival, quota, now).map(|later| *arrival = later))
    }

    async fn find_arrivals(&self, buckets: &[String]) -> Result<Vec<Timestamp>> {
        let model = self.model();
        Ok(buckets.iter().map(|bucket| model.buckets.get(bucket).copied().unwrap_or_default()).collect())
    }

    async fn put_arrival(&self, bucket: &str, arrival: Timestamp) -> Result<()> {
        let mut model = self.model();
        let found = model.buckets.entry(bucket.to_owned()).or_insert(arrival);
        *found = (*found).max(arrival);
        Ok(())
    }

    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()> {
        if let Some(arrival) = self.model().buckets.get_mut(bucket) {
            *arrival = arrival.minus(quota.interval);
        }
        Ok(())
    }
}

#[async_trait]
impl UsageStore for MemoryStore {
    async fn add_usage(&self, flush: &Flush) -> Result<()> {
        let usage = &mut self.model().usage;
        let last = usage.flushes.entry(flush.instance).or_default();
        if *last >= flush.number {
            return Ok(());
        }
        *last = flush.number;
        for used in &flush.uses {
            let (tenant, system) = (used.tenant.clone(), used.system);
            let none = || UsageSummary { system, written_at: flush.at, last_used_at: None, keys: HashMap::new() };
            let summary = usage.summaries.entry((tenant.clone(), system)).or_insert_with(none);
            summary.written_at = summary.written_at.max(flush.at);
            summary.last_used_at = summary.last_used_at.max(used.last_used_at);
            summary.keys.entry(used.mark).or_default().add(used);
            for resolution in [Resolution::Hour, Resolution::Day] {
                let bucket = (tenant.clone(), system, used.mark, resolution, used.bucket(resolution));
                *usage.counts.entry(bucket).or_default() += used.counts;
            }
        }
        Ok(())
    }

    async fn find_usage(&self, tenant: &TenantId, system: SystemId, range: &UsageRange) -> Result<Vec<BucketCounts>> {
        let counts = &self.model().usage.counts;
        let matches = counts.iter().filter(|((of, about, _, resolution, bucket), _)| {
            (of, *about, *resolution) == (tenant, system, range.resolution) && range.contains(*bucket)
        });
        let counted = matches.map(|((.., mark, _, bucket), counts)| BucketCounts {
            mark: *mark,
            bucket: *bucket,
            counts: *counts,
        });
        Ok(counted.collect())
    }

    async fn find_usage_summaries(&self, tenant: &TenantId, systems: &[SystemId]) -> Result<Vec<UsageSummary>> {
        let summaries = &self.model().usage.summaries;
        let found = systems.iter().filter_map(|system| summaries.get(&(tenant.clone(), *system)));
        Ok(found.cloned().collect())
    }

    async fn list_last_uses(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<(SystemId, Timestamp)>> {
        let summaries = &self.model().usage.summaries;
        let written = summaries.iter().filter(|((of, _), summary)| of == tenant && summary.written_at >= since);
        Ok(written.filter_map(|((_, system), summary)| Some((*system, summary.last_used_at?))).collect())
    }

    async fn purge_usage(&self, now: Timestamp, retention: UsageRetention, unused_since: Timestamp) -> Result<u64> {
        let mut model = self.model();
        let Model { rows, usage, .. } = &mut *model;
        let mut removed = HashSet::new();
        usage.counts.retain(|(_, system, _, resolution, bucket), _| {
            let row = resolution.row_of(*bucket);
            let is_kept = row >= retention.first_row(*resolution, now);
            if !is_kept {
                removed.insert((*system, *resolution, row));
            }
            is_kept
        });
        let before = usage.summaries.len();
        usage.summaries.retain(|(_, system), summary| {
            summary.written_at >= unused_since || rows.contains_key(&RowId::System(*system))
        });
        for summary in usage.summaries.values_mut() {
            for mark in surplus_keys(&summary.keys) {
                summary.keys.remove(&mark);
            }
        }
        Ok((removed.len() + before - usage.summaries.len()) as u64)
    }
}

#[async_trait]
impl SettingsStore for MemoryStore {
    async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        Ok(self.model().settings.get(name).cloned())
    }

    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool> {
        let mut model = self.model();
        let as_expected = model.settings.get(name).map(String::as_str) == expected;
        if as_expected {
            model.settings.insert(name.to_owned(), value.to_owned());
        }
        Ok(as_expected)
    }

    async fn list_settings(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let settings = &self.model().settings;
        let found = settings.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    async fn has_marker(&self, marker: &str) -> Result<bool> {
        Ok(self.model().markers.contains(marker))
    }
}

#[async_trait]
impl PurgeStore for MemoryStore {
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged> {
        Ok(self.change(|model| model.purge(now, revoked_before)))
    }

    async fn purge_sessions(&self, operator: OperatorId, password_version: u64) -> Result<u64> {
        let mut ended = self.list_sessions(operator).await?;
        ended.retain(|session| session.password_version < password_version);
        self.change(|model| {
            let writes: Vec<_> = ended.iter().map(|session| Write::Delete(RowId::Session(session.id))).collect();
            for session in &ended {
                model.rows.remove(&RowId::Session(session.id));
            }
            if !writes.is_empty() {
                model.append_change(writes, None);
            }
        });
        Ok(ended.len() as u64)
    }

    async fn purge_audit(&self, tenant: &TenantId, last: u64) -> Result<u64> {
        let mut model = self.model();
        let Some(log) = model.logs.get_mut(tenant) else { return Ok(0) };
        let length = log.len();
        log.retain(|entry| entry.number > last);
        Ok((length - log.len()) as u64)
    }
}

/// All instances share one model.
#[derive(Default)]
pub struct MemoryFactory(MemoryStore);

#[async_trait]
impl Factory for MemoryFactory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    async fn beside(&self) -> Option<Arc<dyn Store>> {
        Some(Arc::new(self.0.clone()))
    }

    async fn reopen(&self, _store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    async fn position_too_old(&self, _store: &dyn Store) -> Position {
        let mut model = self.0.model();
        model.oldest_position = model.feed.len().max(1);
        position(0)
    }
}
