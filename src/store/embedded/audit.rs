//! Look-ups, lists and counts of audit entries.

use std::ops::Bound;

use async_trait::async_trait;
use redb::ReadableTable;

use super::errors::storage;
use super::join::{Condition, Direction, Rows, Stretch, SubjectIndex, visit_common};
use super::snapshot::{Snapshot, page_of};
use super::store::{EmbeddedStore, Progress};
use super::subjects::{FilteredEntry, are_decisive, subjects_of_filter};
use super::tables::{AUDIT, AUDIT_BY_ID, AUDIT_BY_SUBJECT, AUDIT_HEADS, AUDIT_TIMES, ENTRIES_PER_BLOCK, decode};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::ids::{AuditEntryId, TenantId};
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

    async fn stored_audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        self.read(|snapshot| snapshot.audit_head(tenant))
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

    /// The numbers of the first entry, before which entries may have been archived, and of the last one. The log has no gaps.
    fn audit_ends(&self, tenant: &TenantId) -> Result<(u64, u64)> {
        let last = self.audit_head(tenant)?.number;
        let audit = self.0.open_table(AUDIT).map_err(storage)?;
        let first = audit.range((tenant.as_str(), 0)..=(tenant.as_str(), last)).map_err(storage)?.next();
        Ok((first.transpose().map_err(storage)?.map_or(last + 1, |(key, _)| key.value().1), last))
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
        let direction = if page.from == PageEnd::Last { Direction::Upwards } else { Direction::Downwards };
        let mut has_more = false;
        self.scan_audit(tenant, filter, (low, high), direction, progress, |entry| {
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
            let (first, last) = self.audit_ends(tenant)?;
            return Ok(last + 1 - first);
        }
        if let Some(refused) = filter.others_than_done() {
            let (first, last) = self.audit_ends(tenant)?;
            return Ok(last + 1 - first - self.count_audit(tenant, &refused, progress)?);
        }
        let mut count = 0;
        let direction = Direction::Upwards;
        if are_decisive(filter) {
            let by_subject = self.0.open_table(AUDIT_BY_SUBJECT).map_err(storage)?;
            let conditions = conditions_of(tenant, filter, &by_subject, (0, u64::MAX), direction)?;
            visit_common(conditions, direction, progress, |_, _| {
                count += 1;
                Ok(true)
            })?;
            return Ok(count);
        }
        if filter.is_only_by_time() {
            let (first, last) = self.audit_ends(tenant)?;
            if first > last {
                return Ok(0);
            }
            let stretches = self.stretches(tenant, filter, (first, last), progress)?;
            let (within, others): (Vec<_>, Vec<_>) = stretches.into_iter().partition(|stretch| stretch.is_within);
            count = within.iter().map(|Stretch { low, high, .. }| high - low + 1).sum();
            for Stretch { low, high, .. } in others {
                self.scan_audit(tenant, filter, (low, high), direction, progress, |_| {
                    count += 1;
                    Ok(true)
                })?;
            }
            return Ok(count);
        }
        self.scan_audit(tenant, filter, (0, u64::MAX), direction, progress, |_| {
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
        direction: Direction,
        progress: &mut Progress,
        mut visit: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        if low > high {
            return Ok(());
        }
        let audit = self.0.open_table(AUDIT).map_err(storage)?;
        let by_subject = self.0.open_table(AUDIT_BY_SUBJECT).map_err(storage)?;
        let mut visit = |bytes: &[u8], progress: &mut Progress| -> Result<bool> {
            progress.row()?;
            // Most entries match no filter, and decoding them whole would take several times as long.
            let FilteredEntry { event } = decode(bytes)?;
            Ok(!filter.matches_members(&event.members()) || visit(bytes)?)
        };
        let mut conditions = conditions_of(tenant, filter, &by_subject, (low, high), direction)?;
        let mut stretches = self.stretches(tenant, filter, (low, high), progress)?;
        if let Direction::Downwards = direction {
            stretches.reverse();
        }
        let tenant = tenant.as_str();
        if conditions.is_empty() {
            for Stretch { low, high, .. } in stretches {
                let mut rows = audit.range((tenant, low)..=(tenant, high)).map_err(storage)?;
                while let Some(row) = direction.next(&mut rows) {
                    if !visit(row.map_err(storage)?.1.value(), progress)? {
                        return Ok(());
                    }
                }
            }
            return Ok(());
        }
        conditions.push(Condition::Stretches(direction, stretches.into_iter().peekable()));
        visit_common(conditions, direction, progress, |number, progress| {
            let bytes = audit.get((tenant, number)).map_err(storage)?;
            let bytes = bytes.ok_or_else(|| StoreError::Corrupt("an index refers to a missing audit entry".into()))?;
            visit(bytes.value(), progress)
        })
    }

    /// The stretches between these numbers with the entries that the times of the filter admit.
    fn stretches(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        (low, high): (u64, u64),
        progress: &mut Progress,
    ) -> Result<Vec<Stretch>> {
        if filter.from.is_none() && filter.to.is_none() {
            return Ok(vec![Stretch { low, high, is_within: true }]);
        }
        let from = filter.from.map_or(i64::MIN, Timestamp::as_millis);
        let to = filter.to.map_or(i64::MAX, Timestamp::as_millis);
        let times = self.0.open_table(AUDIT_TIMES).map_err(storage)?;
        let tenant = tenant.as_str();
        let blocks = (tenant, low / ENTRIES_PER_BLOCK)..=(tenant, high / ENTRIES_PER_BLOCK);
        let mut stretches: Vec<Stretch> = Vec::new();
        for row in times.range(blocks).map_err(storage)? {
            progress.row()?;
            let (key, times) = row.map_err(storage)?;
            let (block, (first, last)) = (key.value().1, times.value());
            if last < from || first >= to {
                continue;
            }
            let block =
                (block * ENTRIES_PER_BLOCK).max(low)..=(block * ENTRIES_PER_BLOCK + ENTRIES_PER_BLOCK - 1).min(high);
            let is_within = first >= from && last < to;
            match stretches.last_mut() {
                Some(before) if before.high + 1 == *block.start() && before.is_within == is_within => {
                    before.high = *block.end();
                }
                _ => stretches.push(Stretch { low: *block.start(), high: *block.end(), is_within }),
            }
        }
        Ok(stretches)
    }
}

/// The conditions of a filter that have an index, but for those on times.
fn conditions_of<'a>(
    tenant: &'a TenantId,
    filter: &AuditFilter,
    by_subject: &'a SubjectIndex,
    bounds: (u64, u64),
    direction: Direction,
) -> Result<Vec<Condition<'a>>> {
    let rows = |subject| Rows::new(by_subject, (tenant.as_str(), subject), bounds, direction);
    let conditions = subjects_of_filter(filter).into_iter();
    conditions.map(|subjects| subjects.into_iter().map(rows).collect::<Result<_>>().map(Condition::Subjects)).collect()
}
