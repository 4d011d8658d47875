//! What is read from the file: each from one snapshot.

use std::ops::Bound;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::storage;
use super::tables::{
    AUDIT, AUDIT_BY_ID, AUDIT_BY_SUBJECT, AUDIT_HEADS, KEYS, LEASES, OPERATORS, OPERATORS_BY_USERNAME, Place, SESSIONS,
    SESSIONS_BY_OPERATOR, SYSTEM_COUNTS, SYSTEMS, SYSTEMS_BY_NAME, bound, decode, index_of, successor,
};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::changes::Row;
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use crate::domain::leases::Lease;
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::Session;
use crate::domain::system_names::Search;
use crate::domain::systems::{Direction, ListedSystem, System, SystemOrder, SystemOrderField, SystemSortKey};
use crate::store::{Page, PageEnd, PageRequest, Result, StoreError};

/// Rows of a scan that are sent together.
const ROWS_A_CHUNK: usize = 1024;

/// A snapshot of the file.
pub(super) struct Snapshot(ReadTransaction);

impl Snapshot {
    pub(super) fn of(database: &Database) -> Result<Self> {
        database.begin_read().map(Self).map_err(storage)
    }

    /// The row of `table` under `key`.
    pub(super) fn get<'k, K: redb::Key + 'static, T: DeserializeOwned>(
        &self,
        table: TableDefinition<K, &[u8]>,
        key: impl std::borrow::Borrow<K::SelfType<'k>>,
    ) -> Result<Option<T>> {
        let table = self.0.open_table(table).map_err(storage)?;
        let row = table.get(key).map_err(storage)?;
        row.map(|row| decode(row.value())).transpose()
    }

    /// The text that `table` has for `key`.
    pub(super) fn text(&self, table: TableDefinition<&str, &str>, key: &str) -> Result<Option<String>> {
        let table = self.0.open_table(table).map_err(storage)?;
        Ok(table.get(key).map_err(storage)?.map(|value| value.value().to_owned()))
    }

    pub(super) fn contains(&self, table: TableDefinition<&str, ()>, key: &str) -> Result<bool> {
        let table = self.0.open_table(table).map_err(storage)?;
        Ok(table.get(key).map_err(storage)?.is_some())
    }

    pub(super) fn list_leases(&self) -> Result<Vec<Lease>> {
        let leases = self.0.open_table(LEASES).map_err(storage)?;
        leases.iter().map_err(storage)?.map(|row| decode(row.map_err(storage)?.1.value())).collect()
    }

    /// Sends every key, operator and session, until nobody takes them any more.
    pub(super) fn scan_rows(&self, chunks: &mpsc::Sender<Vec<Row>>) -> Result<()> {
        self.scan_table(KEYS, Row::Key, chunks)?;
        self.scan_table(OPERATORS, Row::Operator, chunks)?;
        self.scan_table(SESSIONS, Row::Session, chunks)
    }

    fn scan_table<K: redb::Key + 'static, T: DeserializeOwned>(
        &self,
        table: TableDefinition<K, &[u8]>,
        row_of: impl Fn(T) -> Row,
        chunks: &mpsc::Sender<Vec<Row>>,
    ) -> Result<()> {
        let table = self.0.open_table(table).map_err(storage)?;
        send(table.iter().map_err(storage)?, row_of, chunks)
    }

    /// Sends what lists need of the tenant's systems, by id, until nobody takes it any more.
    pub(super) fn scan_systems(&self, tenant: &TenantId, chunks: &mpsc::Sender<Vec<ListedSystem>>) -> Result<()> {
        let systems = self.0.open_table(SYSTEMS).map_err(storage)?;
        let (tenant, end) = (tenant.as_str(), successor(tenant.as_str()));
        let rows = systems.range((tenant, "")..(end.as_str(), "")).map_err(storage)?;
        send(rows, |system: System| ListedSystem::from(&system), chunks)
    }

    pub(super) fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        let systems = self.0.open_table(SYSTEMS).map_err(storage)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let row = systems.get((tenant.as_str(), id.to_string().as_str())).map_err(storage)?;
            found.extend(row.map(|row| decode::<System>(row.value())).transpose()?);
        }
        Ok(found)
    }

    pub(super) fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        if *search == Search::Nothing {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        let tenant = tenant.as_str();
        let index = self.0.open_table(index_of(order.field)).map_err(storage)?;
        // The names' index holds the systems themselves; the others lead to them.
        let systems = match order.field {
            SystemOrderField::Name => None,
            SystemOrderField::UpdatedAt | SystemOrderField::CreatedAt => {
                Some(self.0.open_table(SYSTEMS).map_err(storage)?)
            }
        };
        let (after, before) = (page.after.as_ref().map(Place::of), page.before.as_ref().map(Place::of));
        let (low, high) = match order.direction {
            Direction::Ascending => (after, before),
            Direction::Descending => (before, after),
        };
        let end = successor(tenant);
        let low = bound(low.as_ref().map(|place| place.key(tenant)), Bound::Included((tenant, &[][..], "")));
        let high = bound(high.as_ref().map(|place| place.key(tenant)), Bound::Excluded((end.as_str(), &[][..], "")));
        if is_empty(&low, &high) {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        let upwards = (order.direction == Direction::Ascending) == (page.from == PageEnd::First);
        let mut rows = index.range((low, high)).map_err(storage)?;
        let mut step = || if upwards { rows.next() } else { rows.next_back() };
        let mut items = Vec::with_capacity(page.limit.min(256));
        while let Some(row) = step() {
            let (key, value) = row.map_err(storage)?;
            let (_, sort, id) = key.value();
            let system: System = match &systems {
                None => {
                    if !std::str::from_utf8(sort).is_ok_and(|folded| search.matches(folded)) {
                        continue;
                    }
                    decode(value.value())?
                }
                Some(systems) => {
                    let row = systems.get((tenant, id)).map_err(storage)?;
                    let row = row.ok_or_else(|| StoreError::Corrupt("an order names a missing system".into()))?;
                    let system: System = decode(row.value())?;
                    if *search != Search::All && !search.matches(&system.name.folded()) {
                        continue;
                    }
                    system
                }
            };
            if items.len() == page.limit {
                return Ok(finish(items, true, page.from));
            }
            items.push(system);
        }
        Ok(finish(items, false, page.from))
    }

    pub(super) fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        let tenant = tenant.as_str();
        match search {
            Search::Nothing => Ok(0),
            Search::All => {
                let counts = self.0.open_table(SYSTEM_COUNTS).map_err(storage)?;
                Ok(counts.get(tenant).map_err(storage)?.map_or(0, |count| count.value()))
            }
            Search::Containing(_) => {
                let names = self.0.open_table(SYSTEMS_BY_NAME).map_err(storage)?;
                let end = successor(tenant);
                let mut count = 0;
                for row in names.range((tenant, &[][..], "")..(end.as_str(), &[][..], "")).map_err(storage)? {
                    let (key, _) = row.map_err(storage)?;
                    count += u64::from(std::str::from_utf8(key.value().1).is_ok_and(|folded| search.matches(folded)));
                }
                Ok(count)
            }
        }
    }

    pub(super) fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        match self.text(OPERATORS_BY_USERNAME, username.as_str())? {
            None => Ok(None),
            Some(id) => self.get(OPERATORS, id.as_str()),
        }
    }

    pub(super) fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let operators = self.0.open_table(OPERATORS).map_err(storage)?;
        let mut listed = Vec::new();
        for row in operators.iter().map_err(storage)? {
            let operator: Operator = decode(row.map_err(storage)?.1.value())?;
            if tenant.is_none_or(|tenant| operator.tenant == *tenant) {
                listed.push(operator);
            }
        }
        listed.sort_by(|one, other| one.username.as_str().cmp(other.username.as_str()));
        Ok(listed)
    }

    pub(super) fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        let by_operator = self.0.open_table(SESSIONS_BY_OPERATOR).map_err(storage)?;
        let operator = operator.to_string();
        let end = successor(&operator);
        let mut listed = Vec::new();
        for row in by_operator.range((operator.as_str(), "")..(end.as_str(), "")).map_err(storage)? {
            let (key, _) = row.map_err(storage)?;
            listed.extend(self.get(SESSIONS, key.value().1)?);
        }
        Ok(listed)
    }

    pub(super) fn list_tenants(&self) -> Result<Vec<TenantId>> {
        let heads = self.0.open_table(AUDIT_HEADS).map_err(storage)?;
        heads
            .iter()
            .map_err(storage)?
            .map(|row| {
                let (tenant, _) = row.map_err(storage)?;
                tenant.value().parse().map_err(|_| StoreError::Corrupt("a tenant's name is malformed".into()))
            })
            .collect()
    }

    pub(super) fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        Ok(self.get(AUDIT_HEADS, tenant.as_str())?.unwrap_or_default())
    }

    pub(super) fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        let by_id = self.0.open_table(AUDIT_BY_ID).map_err(storage)?;
        match by_id.get(id.to_string().as_str()).map_err(storage)? {
            Some(place) if place.value().0 == tenant.as_str() => self.get(AUDIT, place.value()),
            _ => Ok(None),
        }
    }

    pub(super) fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        let mut items = Vec::with_capacity(page.limit.min(256));
        // Newest first: what comes after a place has lower numbers.
        let low = page.before.map_or(0, |number| number.saturating_add(1));
        let high = page.after.map_or(u64::MAX, |number| number.saturating_sub(1));
        let upwards = page.from == PageEnd::Last;
        let mut has_more = false;
        self.scan_audit(tenant, filter, (low, high), upwards, |entry| {
            has_more = items.len() == page.limit;
            if !has_more {
                items.push(entry);
            }
            !has_more
        })?;
        Ok(finish(items, has_more, page.from))
    }

    pub(super) fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        if *filter == AuditFilter::default() {
            return Ok(self.audit_head(tenant)?.number);
        }
        let mut count = 0;
        self.scan_audit(tenant, filter, (0, u64::MAX), true, |_| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    pub(super) fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        let audit = self.0.open_table(AUDIT).map_err(storage)?;
        let rows = audit
            .range((Bound::Excluded((tenant.as_str(), number)), Bound::Included((tenant.as_str(), u64::MAX))))
            .map_err(storage)?;
        rows.take(limit).map(|row| decode(row.map_err(storage)?.1.value())).collect()
    }

    /// Gives the matching entries with numbers from the first to the second to `visit`, until it says to stop.
    fn scan_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        (low, high): (u64, u64),
        upwards: bool,
        mut visit: impl FnMut(AuditEntry) -> bool,
    ) -> Result<()> {
        if low > high {
            return Ok(());
        }
        let tenant = tenant.as_str();
        let audit = self.0.open_table(AUDIT).map_err(storage)?;
        let mut visit = |bytes: &[u8]| -> Result<bool> {
            let entry: AuditEntry = decode(bytes)?;
            Ok(!filter.matches(&entry.event) || visit(entry))
        };
        let subject = filter.system.map(|id| id.to_string()).or(filter.actor.map(|id| id.to_string()));
        match subject {
            Some(subject) => {
                let by_subject = self.0.open_table(AUDIT_BY_SUBJECT).map_err(storage)?;
                let subject = subject.as_str();
                let mut rows = by_subject.range((tenant, subject, low)..=(tenant, subject, high)).map_err(storage)?;
                while let Some(row) = if upwards { rows.next() } else { rows.next_back() } {
                    let number = row.map_err(storage)?.0.value().2;
                    let bytes = audit.get((tenant, number)).map_err(storage)?;
                    let bytes = bytes.ok_or_else(|| StoreError::Corrupt("an index names a missing entry".into()))?;
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

/// Sends the rows, made of what is decoded, until nobody takes them any more.
fn send<K: redb::Key + 'static, T: DeserializeOwned, S>(
    mut rows: redb::Range<'_, K, &'static [u8]>,
    row_of: impl Fn(T) -> S,
    chunks: &mpsc::Sender<Vec<S>>,
) -> Result<()> {
    loop {
        let chunk = rows.by_ref().take(ROWS_A_CHUNK);
        let chunk: Vec<_> =
            chunk.map(|row| decode(row.map_err(storage)?.1.value()).map(&row_of)).collect::<Result<_>>()?;
        if chunk.is_empty() || chunks.blocking_send(chunk).is_err() {
            return Ok(());
        }
    }
}

/// Items were gathered from one end of the stretch; they are given in the order of the list.
fn finish<T>(mut items: Vec<T>, has_more: bool, from: PageEnd) -> Page<T> {
    if from == PageEnd::Last {
        items.reverse();
    }
    Page { items, has_more }
}

/// redb refuses a range whose ends have crossed.
fn is_empty<T: PartialOrd>(low: &Bound<T>, high: &Bound<T>) -> bool {
    match (low, high) {
        (Bound::Excluded(low) | Bound::Included(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}
