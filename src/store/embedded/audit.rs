//! Look-ups, lists and counts of audit entries.

use std::ops::Bound;

use async_trait::async_trait;
use redb::ReadableTable;
use serde::Deserialize;

use super::errors::storage;
use super::snapshot::{Snapshot, page_of};
use super::store::{EmbeddedStore, Progress};
use super::tables::{AUDIT, AUDIT_BY_ID, AUDIT_BY_SUBJECT, AUDIT_HEADS, decode};
use crate::domain::audit::{AuditAction, AuditEntry, AuditFilter, AuditHead, AuditOutcome, FilteredMembers};
use crate::domain::ids::{ActorId, AuditEntryId, SystemId, TenantId};
use crate::domain::keys::Mark;
use crate::domain::time::Timestamp;
use crate::store::{AuditStore, Page, PageEnd, PageRequest, Result, StoreError};

#[async_trait]
impl AuditStore for EmbeddedStore {
    async fn list_tenants(&self) -> Result<Vec<TenantId>> {
        self.read_blocking(Snapshot::list_tenants).await
    }

    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        let handle = &self.writer.handle;
        handle.heads.find_or_read(tenant, || Snapshot::of(&*handle.read()?)?.audit_head(tenant))
    }

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        self.read(|snapshot| snapshot.find_audit_entry(tenant, id))
    }

    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        let (tenant, filter, page) = (tenant.clone(), filter.clone(), page.clone());
        if filter.is_empty() {
            let list =
                move |snapshot: &Snapshot| snapshot.list_audit(&tenant, &filter, &page, &mut Progress::default());
            return self.read_blocking(list).await;
        }
        self.scan_blocking(move |snapshot, progress| snapshot.list_audit(&tenant, &filter, &page, progress)).await
    }

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        if filter.is_empty() {
            return self.read(|snapshot| snapshot.count_audit(tenant, filter, &mut Progress::default()));
        }
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.scan_blocking(move |snapshot, progress| snapshot.count_audit(&tenant, &filter, progress)).await
    }

    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        let tenant = tenant.clone();
        self.read_blocking(move |snapshot| snapshot.list_audit_after(&tenant, number, limit)).await
    }

    async fn find_audit_hashes(&self, tenant: &TenantId, numbers: &[u64]) -> Result<Vec<AuditHead>> {
        let (tenant, numbers) = (tenant.clone(), numbers.to_vec());
        self.read_blocking(move |snapshot| snapshot.find_audit_hashes(&tenant, &numbers)).await
    }

    async fn recheck_audit_entry(&self, tenant: &TenantId, number: u64) -> Result<Option<AuditHead>> {
        Ok(self.find_audit_hashes(tenant, &[number]).await?.pop())
    }
}

impl Snapshot {
    fn list_tenants(&self) -> Result<Vec<TenantId>> {
        let heads = self.0.open_table(AUDIT_HEADS).map_err(storage)?;
        heads
            .iter()
            .map_err(storage)?
            .map(|row| {
                let (tenant, _) = row.map_err(storage)?;
                tenant.value().parse().map_err(|_| StoreError::Corrupt("a malformed tenant id".into()))
            })
            .collect()
    }

    pub(super) fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        Ok(self.get(AUDIT_HEADS, tenant.as_str())?.unwrap_or_default())
    }

    fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        let by_id = self.0.open_table(AUDIT_BY_ID).map_err(storage)?;
        match by_id.get(id.to_string().as_str()).map_err(storage)? {
            Some(place) if place.value().0 == tenant.as_str() => self.get(AUDIT, place.value()),
            _ => Ok(None),
        }
    }

    fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
        progress: &mut Progress,
    ) -> Result<Page<AuditEntry>> {
        let mut items = Vec::with_capacity(page.limit.min(256));
        // Newest first: entries after a position have lower numbers.
        let low = page.before.map_or(0, |number| number.saturating_add(1));
        let high = page.after.map_or(u64::MAX, |number| number.saturating_sub(1));
        let upwards = page.from == PageEnd::Last;
        let mut has_more = false;
        self.scan_audit(tenant, filter, (low, high), upwards, progress, |entry| {
            has_more = items.len() == page.limit;
            if !has_more {
                items.push(decode(entry)?);
            }
            Ok(!has_more)
        })?;
        Ok(page_of(items, has_more, page.from))
    }

    fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter, progress: &mut Progress) -> Result<u64> {
        if filter.is_empty() {
            return Ok(self.audit_head(tenant)?.number);
        }
        let mut count = 0;
        if let Some(subject) = only_subject(filter) {
            let (tenant, by_subject) = (tenant.as_str(), self.0.open_table(AUDIT_BY_SUBJECT).map_err(storage)?);
            let entries = (tenant, subject.as_str(), 0)..=(tenant, subject.as_str(), u64::MAX);
            for row in by_subject.range(entries).map_err(storage)? {
                progress.row()?;
                row.map_err(storage)?;
                count += 1;
            }
            return Ok(count);
        }
        self.scan_audit(tenant, filter, (0, u64::MAX), true, progress, |_| {
            count += 1;
            Ok(true)
        })?;
        Ok(count)
    }

    fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        let audit = self.0.open_table(AUDIT).map_err(storage)?;
        let rows = audit
            .range((Bound::Excluded((tenant.as_str(), number)), Bound::Included((tenant.as_str(), u64::MAX))))
            .map_err(storage)?;
        rows.take(limit).map(|row| decode(row.map_err(storage)?.1.value())).collect()
    }

    fn find_audit_hashes(&self, tenant: &TenantId, numbers: &[u64]) -> Result<Vec<AuditHead>> {
        let found = numbers.iter().map(|number| self.get::<_, AuditEntry>(AUDIT, (tenant.as_str(), *number)));
        found.filter_map(|entry| entry.map(|entry| entry.map(|entry| entry.head())).transpose()).collect()
    }

    /// Passes the rows of the matching entries with numbers in `low..=high` to `visit`, until it returns false.
    fn scan_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        (low, high): (u64, u64),
        upwards: bool,
        progress: &mut Progress,
        mut visit: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        if low > high {
            return Ok(());
        }
        let tenant = tenant.as_str();
        let audit = self.0.open_table(AUDIT).map_err(storage)?;
        let mut visit = |bytes: &[u8]| -> Result<bool> {
            progress.row()?;
            // Most entries match no filter, and decoding them whole would take several times as long.
            let FilteredEntry { event } = decode(bytes)?;
            Ok(!filter.matches_members(&event.members()) || visit(bytes)?)
        };
        match subject_of(filter) {
            Some(subject) => {
                let by_subject = self.0.open_table(AUDIT_BY_SUBJECT).map_err(storage)?;
                let subject = subject.as_str();
                let mut rows = by_subject.range((tenant, subject, low)..=(tenant, subject, high)).map_err(storage)?;
                while let Some(row) = if upwards { rows.next() } else { rows.next_back() } {
                    let number = row.map_err(storage)?.0.value().2;
                    let bytes = audit.get((tenant, number)).map_err(storage)?;
                    let bytes =
                        bytes.ok_or_else(|| StoreError::Corrupt("an index refers to a missing audit entry".into()))?;
                    if !visit(bytes.value())? {
                        break;
                    }
                }
            }
            None => {
                let mut rows = audit.range((tenant, low)..=(tenant, high)).map_err(storage)?;
                while let Some(row) = if upwards { rows.next() } else { rows.next_back() } {
                    if !visit(row.map_err(storage)?.1.value())? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The ids of systems and operators have different prefixes, so one index holds both.
fn subject_of(filter: &AuditFilter) -> Option<String> {
    filter.system.map(|id| id.to_string()).or(filter.actor.map(|id| id.to_string()))
}

/// The subject of a filter that the index by subject decides alone.
fn only_subject(filter: &AuditFilter) -> Option<String> {
    let AuditFilter { system, actor, .. } = *filter;
    let is_alone = *filter == AuditFilter { system, ..AuditFilter::default() }
        || *filter == AuditFilter { actor, ..AuditFilter::default() };
    subject_of(filter).filter(|_| is_alone)
}

/// The members of an entry that a filter reads.
#[derive(Deserialize)]
struct FilteredEntry {
    event: FilteredEvent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilteredEvent {
    occurred_at: Timestamp,
    actor: FilteredActor,
    action: AuditAction,
    outcome: AuditOutcome,
    #[serde(default)]
    system: Option<SystemId>,
    #[serde(default)]
    key_mark: Option<Mark>,
    #[serde(default)]
    previous_key_mark: Option<Mark>,
}

impl FilteredEvent {
    fn members(self) -> FilteredMembers {
        let Self { occurred_at, actor, action, outcome, system, key_mark, previous_key_mark } = self;
        let key_marks = [key_mark, previous_key_mark];
        FilteredMembers { system, actor: actor.id, action, outcome, key_marks, occurred_at }
    }
}

#[derive(Deserialize)]
struct FilteredActor {
    #[serde(default)]
    id: Option<ActorId>,
}
