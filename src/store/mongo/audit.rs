//! Look-ups, lists and counts of audit entries, and the heads of the logs.

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;

use super::errors::corrupt;
use super::migrations;
use super::reads::{BY_ID, at_most, empty_page, page_of};
use super::rows::{entry_from_bytes, entry_from_document, number_of, number_to_bson, to_bson};
use super::store::MongoStore;
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::ids::{AuditEntryId, NotAnId, TenantId};
use crate::store::{AuditStore, Page, PageEnd, PageRequest, Result};

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
        let Some((mut query, index)) = entry_filter(tenant, filter)? else { return Ok(empty_page()) };
        let mut numbers = Document::new();
        if let Some(after) = page.after {
            numbers.insert("$lt", number_to_bson(after));
        }
        if let Some(before) = page.before {
            numbers.insert("$gt", number_to_bson(before));
        }
        if !numbers.is_empty() {
            query.insert("number", numbers);
        }
        let step = if page.from == PageEnd::Last { 1 } else { -1 };
        let (limit, batch) = at_most(page.limit.saturating_add(1));
        let find = self
            .audit
            .find(query)
            .sort(doc! { "number": step })
            .hint(Hint::Name(index.to_owned()))
            .limit(limit)
            .batch_size(batch)
            .max_time(self.limits.call);
        Ok(page_of(self.collect_rows("list_audit", find, entry_from_bytes).await?, page))
    }

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        if filter.is_empty() {
            // The log has no gaps, and entries are never removed.
            return Ok(self.audit_head(tenant).await?.number);
        }
        match entry_filter(tenant, filter)? {
            Some((query, index)) => self.count("count_audit", &self.audit, query, index).await,
            None => Ok(0),
        }
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

/// Returns the query and the index for it; `None` if no entry can match.
pub(super) fn entry_filter(tenant: &TenantId, filter: &AuditFilter) -> Result<Option<(Document, &'static str)>> {
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
            return Ok(None);
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
    if let Some(mark) = key_mark {
        // It has no index: entries that the others find are read.
        let mark = to_bson(mark)?;
        query.insert("$or", vec![doc! { "event.keyMark": &mark }, doc! { "event.previousKeyMark": &mark }]);
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
    Ok(Some((query, index)))
}

/// Reads the number and the hash of a document of the collections `tenants` or `audit`.
pub(super) fn head_of(head: Document) -> Result<AuditHead> {
    let number = head.get("number").and_then(number_of).and_then(|number| u64::try_from(number).ok());
    let hash = head.get_str("hash").map_err(corrupt)?.to_owned().try_into().map_err(corrupt)?;
    Ok(AuditHead { number: number.ok_or_else(|| corrupt("a log head without a number"))?, hash })
}
