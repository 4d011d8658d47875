//! Look-ups, lists and counts of audit entries, and the heads of the logs.

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;

use super::errors::corrupt;
use super::migrations;
use super::reads::{BY_ID, at_most, page_of};
use super::rows::{entry_from_bytes, entry_from_document, number_of, number_to_bson, to_bson};
use super::store::MongoStore;
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::ids::{AuditEntryId, NotAnId, TenantId};
use crate::store::{AuditStore, Page, PageEnd, PageRequest, Result};

/// Entries within a range of times that a list sorts. The database reads some two million keys of an index in a second.
const MAX_SORTED_ENTRIES: u64 = 100_000;

#[async_trait]
impl AuditStore for MongoStore {
    async fn list_tenants(&self) -> Result<Vec<TenantId>> {
        // A head is created before the first entry, which may fail to be committed.
        let find = self
            .audit_heads
            .find(doc! { "number": { "$gt": 0_i64 } })
            .projection(doc! { "_id": 1 })
            .sort(doc! { "_id": 1 })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        let found = self.collect("list_tenants", find).await?;
        let tenant = |head: Document| {
            let id = head.get_str("_id").map_err(corrupt)?;
            id.parse().map_err(|error: NotAnId| corrupt(error.to_string()))
        };
        found.into_iter().map(tenant).collect()
    }

    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        let head = self.head_reads.get(&[tenant.to_string()]).await?.pop();
        Ok(head.map(head_of).transpose()?.unwrap_or_default())
    }

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        let find = self
            .audit
            .find_one(doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        self.bounded("find_audit_entry", find).await?.map(entry_from_document).transpose()
    }

    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        let mut numbers = Document::new();
        if let Some(after) = page.after {
            numbers.insert("$lt", number_to_bson(after));
        }
        if let Some(before) = page.before {
            numbers.insert("$gt", number_to_bson(before));
        }
        let step = if page.from == PageEnd::Last { 1 } else { -1 };
        let (limit, batch) = at_most(page.limit.saturating_add(1));
        let mut entries: Vec<AuditEntry> = Vec::new();
        for (mut query, mut index) in entry_filters(tenant, filter)? {
            if index == migrations::AUDIT_TIME && self.are_few_within_times(&query).await? {
                index = migrations::AUDIT_OCCURRED;
            }
            if !numbers.is_empty() {
                query.insert("number", numbers.clone());
            }
            let find = self
                .audit
                .find(query)
                .sort(doc! { "number": step })
                .hint(Hint::Name(index.to_owned()))
                .limit(limit)
                .batch_size(batch)
                .max_time(self.limits.call);
            entries.extend(self.collect_rows("list_audit", find, entry_from_bytes).await?);
        }
        entries.sort_by_key(|entry| entry.number);
        if step < 0 {
            entries.reverse();
        }
        Ok(page_of(entries, page))
    }

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        if filter.is_empty() {
            return self.log_length(tenant).await;
        }
        if let Some(refused) = filter.others_than_done() {
            let refused = self.count_audit(tenant, &refused).await?;
            return Ok(self.log_length(tenant).await?.saturating_sub(refused));
        }
        let mut count = 0;
        for (query, mut index) in entry_filters(tenant, filter)? {
            if index == migrations::AUDIT_TIME {
                index = migrations::AUDIT_OCCURRED;
            }
            count += self.count("count_audit", &self.audit, query, index).await?;
        }
        Ok(count)
    }

    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (limit, batch) = at_most(limit);
        let find = self
            .audit
            .find(doc! { "tenant": tenant.as_str(), "number": { "$gt": number_to_bson(number) } })
            .sort(doc! { "number": 1 })
            .hint(Hint::Name(migrations::AUDIT_NUMBER.to_owned()))
            .limit(limit)
            .batch_size(batch)
            .max_time(self.limits.call);
        self.collect_rows("list_audit_after", find, entry_from_bytes).await
    }

    async fn find_audit_hashes(&self, tenant: &TenantId, numbers: &[u64]) -> Result<Vec<AuditHead>> {
        let numbers: Vec<_> = numbers.iter().copied().map(number_to_bson).collect();
        let find = self
            .audit
            .find(doc! { "tenant": tenant.as_str(), "number": { "$in": numbers } })
            .projection(doc! { "number": 1, "hash": 1 })
            .hint(Hint::Name(migrations::AUDIT_NUMBER.to_owned()))
            .max_time(self.limits.call);
        self.collect("find_audit_hashes", find).await?.into_iter().map(head_of).collect()
    }

    async fn recheck_audit_entry(&self, tenant: &TenantId, number: u64) -> Result<Option<AuditHead>> {
        let call = "recheck_audit_entry";
        let mut session = self.start_current_session(call).await?;
        let find = self
            .audit
            .find_one(doc! { "tenant": tenant.as_str(), "number": number_to_bson(number) })
            .projection(doc! { "number": 1, "hash": 1 })
            .hint(Hint::Name(migrations::AUDIT_NUMBER.to_owned()))
            .max_time(self.limits.call);
        self.bounded(call, find.session(&mut session)).await?.map(head_of).transpose()
    }
}

impl MongoStore {
    /// Number of entries. The log has no gaps, but entries with the lowest numbers may have been archived.
    async fn log_length(&self, tenant: &TenantId) -> Result<u64> {
        let (end, first) = tokio::try_join!(self.audit_head(tenant), self.list_audit_after(tenant, 0, 1))?;
        Ok(first.first().map_or(0, |first| (end.number + 1).saturating_sub(first.number)))
    }

    /// Whether so few entries are within the times of the query that reading and sorting all of them takes less than finding
    /// them in the order of their numbers, behind any number of newer entries.
    async fn are_few_within_times(&self, query: &Document) -> Result<bool> {
        let times = query.iter().filter(|(member, _)| ["tenant", "event.occurredAt"].contains(&member.as_str()));
        let times: Document = times.map(|(member, value)| (member.clone(), value.clone())).collect();
        let count = self
            .audit
            .count_documents(times)
            .hint(Hint::Name(migrations::AUDIT_OCCURRED.to_owned()))
            .limit(MAX_SORTED_ENTRIES + 1)
            .max_time(self.limits.call);
        Ok(self.bounded("list_audit", count).await? <= MAX_SORTED_ENTRIES)
    }
}

/// Returns queries, with an index for each, of which every matching entry is found by one.
pub(super) fn entry_filters(tenant: &TenantId, filter: &AuditFilter) -> Result<Vec<(Document, &'static str)>> {
    let AuditFilter { system, actor, actions, outcome, key_mark, from, to } = filter;
    let mut query = doc! { "tenant": tenant.as_str() };
    // The last assignment wins: conditions are in the order of increasing selectivity.
    let mut index = if from.is_some() || to.is_some() { migrations::AUDIT_TIME } else { migrations::AUDIT_NUMBER };
    if let Some(outcome) = outcome {
        query.insert("event.outcome", to_bson(outcome)?);
        index = migrations::AUDIT_OUTCOME;
    }
    if let Some(actions) = actions {
        if actions.is_empty() {
            return Ok(Vec::new());
        }
        query.insert("event.action", doc! { "$in": to_bson(actions)? });
        index = migrations::AUDIT_ACTION;
    }
    if let Some(actor) = actor {
        query.insert("event.actor.id", to_bson(actor)?);
        index = migrations::AUDIT_ACTOR;
    }
    if let Some(system) = system {
        query.insert("event.system", to_bson(system)?);
        index = migrations::AUDIT_SYSTEM;
    }
    let mut times = Document::new();
    if let Some(from) = from {
        times.insert("$gte", from.as_millis());
    }
    if let Some(to) = to {
        times.insert("$lt", to.as_millis());
    }
    if !times.is_empty() {
        query.insert("event.occurredAt", times);
    }
    let Some(mark) = key_mark else { return Ok(vec![(query, index)]) };
    let (mark, mut previous) = (to_bson(mark)?, query.clone());
    query.insert("event.keyMark", &mark);
    previous.extend(doc! { "event.previousKeyMark": &mark, "event.keyMark": { "$ne": &mark } });
    Ok(vec![(query, migrations::AUDIT_MARK), (previous, migrations::AUDIT_PREVIOUS_MARK)])
}

/// Reads the number and the hash of a document of the collections `tenants` or `audit`.
pub(super) fn head_of(head: Document) -> Result<AuditHead> {
    let number = head.get("number").and_then(number_of).and_then(|number| u64::try_from(number).ok());
    let hash = head.get_str("hash").map_err(corrupt)?.to_owned().try_into().map_err(corrupt)?;
    Ok(AuditHead { number: number.ok_or_else(|| corrupt("a log head without a number"))?, hash })
}
