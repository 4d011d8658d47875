//! Look-ups, lists and counts of audit entries, and the heads of the logs.

use async_trait::async_trait;
use futures::future::try_join_all;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;

use super::errors::corrupt;
use super::migrations;
use super::reads::{BY_ID, at_most, page_of};
use super::rows::{entry_from_bytes, entry_from_document, number_of, number_to_bson, to_bson};
use super::store::MongoStore;
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead, AuditOutcome};
use crate::domain::ids::{AuditEntryId, NotAnId, TenantId};
use crate::store::{AuditStore, Page, PageEnd, PageRequest, Result, StoreError};

/// Entries up to which those that meet a condition are counted, to choose an index.
const MAX_COUNTED: u64 = 10_000;
/// The same for those within the times of a filter with other conditions: each is read, since the index of times has no
/// other member.
const MAX_COUNTED_WITHIN_TIMES: u64 = 1_000;
/// How many numbers of entries are sorted in the time in which the database passes an entry: it reads some 2,000,000 keys of
/// an index in a second, and passes some 700,000 entries.
const SORTED_PER_PASSED: u64 = 3;

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

    async fn stored_audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        self.audit_head(tenant).await
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
        let mut entries: Vec<AuditEntry> = Vec::new();
        for EntryQuery { query, index, conditions } in entry_queries(tenant, filter)? {
            let index = self.most_selective("list_audit", &conditions).await?.unwrap_or(index);
            let found = if index == migrations::AUDIT_TIME {
                self.list_within_times(tenant, query, numbers.clone(), page).await?
            } else {
                self.find_entries(with_numbers(query, numbers.clone()), index, page).await?
            };
            entries.extend(found);
        }
        entries.sort_by_key(|entry| entry.number);
        if page.from == PageEnd::First {
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
        for EntryQuery { query, index, conditions } in entry_queries(tenant, filter)? {
            let index = match index {
                migrations::AUDIT_TIME => migrations::AUDIT_OCCURRED,
                _ => self.most_selective("count_audit", &conditions).await?.unwrap_or(index),
            };
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

    /// One more than a page of the entries that match, if there are so many, from the end at which the page begins.
    async fn find_entries(&self, query: Document, index: &str, page: &PageRequest<u64>) -> Result<Vec<AuditEntry>> {
        let (limit, batch) = at_most(page.limit.saturating_add(1));
        let find = self
            .audit
            .find(query)
            .sort(doc! { "number": step_of(page) })
            .hint(Hint::Name(index.to_owned()))
            .limit(limit)
            .batch_size(batch)
            .max_time(self.limits.call);
        self.collect_rows("list_audit", find, entry_from_bytes).await
    }

    /// As [`find_entries`](Self::find_entries), by time alone. Sorts the numbers of all entries within the times, unless
    /// there are so many that passing those before them is faster.
    async fn list_within_times(
        &self,
        tenant: &TenantId,
        times: Document,
        numbers: Document,
        page: &PageRequest<u64>,
    ) -> Result<Vec<AuditEntry>> {
        if let Some((operator, end)) = self.find_near_end(tenant, &times, page).await? {
            let mut numbers = numbers.clone();
            numbers.insert(operator, number_to_bson(end));
            let entries = self.find_entries(with_numbers(times.clone(), numbers), migrations::AUDIT_TIME, page).await?;
            if entries.len() > page.limit {
                return Ok(entries);
            }
            // Entries with other times than their neighbours may be beyond the end.
        }
        let (limit, batch) = at_most(page.limit.saturating_add(1));
        let find = self
            .audit
            .find(with_numbers(times, numbers))
            .projection(doc! { "_id": 0, "number": 1 })
            .sort(doc! { "number": step_of(page) })
            .hint(Hint::Name(migrations::AUDIT_OCCURRED.to_owned()))
            .limit(limit)
            .batch_size(batch)
            .max_time(self.limits.call);
        let found = self.collect("list_audit", find).await?;
        let found: Vec<_> = found.iter().map(|entry| number_in(entry).map(number_to_bson)).collect::<Result<_>>()?;
        let query = doc! { "tenant": tenant.as_str(), "number": { "$in": found } };
        self.find_entries(query, migrations::AUDIT_NUMBER, page).await
    }

    /// The condition on numbers that ends a list by time in the order of numbers after the times, or `None` if sorting all
    /// numbers within the times is faster. Times are nearly in the order of numbers, so that the first and the last entry
    /// within them show how many entries come before them.
    async fn find_near_end(
        &self,
        tenant: &TenantId,
        times: &Document,
        page: &PageRequest<u64>,
    ) -> Result<Option<(&'static str, u64)>> {
        let within = self.count_some("list_audit", times, migrations::AUDIT_OCCURRED, MAX_COUNTED).await?;
        if within <= MAX_COUNTED {
            return Ok(None);
        }
        let end = async |step: i32| {
            let find = self
                .audit
                .find_one(times.clone())
                .projection(doc! { "_id": 0, "number": 1 })
                .sort(doc! { "event.occurredAt": step, "number": step })
                .hint(Hint::Name(migrations::AUDIT_OCCURRED.to_owned()))
                .max_time(self.limits.call);
            self.bounded("list_audit", find).await?.as_ref().map(number_in).transpose()
        };
        let ends = tokio::try_join!(end(1), end(-1), self.audit_head(tenant), self.list_audit_after(tenant, 0, 1))?;
        let (Some(first), Some(last), newest, oldest) = ends else { return Ok(None) };
        let (passed, bound) = match page.from {
            PageEnd::First => (page.after.unwrap_or(newest.number).saturating_sub(last), ("$gte", first)),
            PageEnd::Last => {
                let oldest = oldest.first().map_or(0, |oldest| oldest.number);
                (first.saturating_sub(page.before.unwrap_or(oldest)), ("$lte", last))
            }
        };
        Ok((passed <= last.abs_diff(first) / SORTED_PER_PASSED).then_some(bound))
    }

    /// The index that finds the fewest entries, if there is one that finds few enough.
    async fn most_selective(
        &self,
        what: &'static str,
        conditions: &[IndexedCondition],
    ) -> Result<Option<&'static str>> {
        let counts = conditions.iter().map(|IndexedCondition { condition, index, max_entries }| async move {
            let count = self.count_some(what, condition, index, *max_entries).await?;
            Ok::<_, StoreError>((count <= *max_entries).then_some((count, *index)))
        });
        let least = try_join_all(counts).await?.into_iter().flatten().min();
        Ok(least.map(|(_, index)| index))
    }

    /// Counts entries, up to one more than `max`.
    async fn count_some(&self, what: &'static str, query: &Document, index: &str, max: u64) -> Result<u64> {
        let count = self.audit.count_documents(query.clone()).hint(Hint::Name(index.to_owned()));
        self.bounded(what, count.limit(max + 1).max_time(self.limits.call)).await
    }
}

/// The order of numbers in which a page is read.
fn step_of(page: &PageRequest<u64>) -> i32 {
    if page.from == PageEnd::Last { 1 } else { -1 }
}

fn with_numbers(mut query: Document, numbers: Document) -> Document {
    if !numbers.is_empty() {
        query.insert("number", numbers);
    }
    query
}

/// A query for entries.
pub(super) struct EntryQuery {
    pub(super) query: Document,
    /// Finds the entries in the order of their numbers.
    pub(super) index: &'static str,
    /// Conditions of which each entry meets all, and of which one may have a better index.
    conditions: Vec<IndexedCondition>,
}

/// A part of a query, and the index that has the entries which match it.
struct IndexedCondition {
    condition: Document,
    index: &'static str,
    /// The index is of no use if it has more.
    max_entries: u64,
}

/// Returns queries of which every matching entry is found by one.
pub(super) fn entry_queries(tenant: &TenantId, filter: &AuditFilter) -> Result<Vec<EntryQuery>> {
    let AuditFilter { system, actor, actions, outcome, key_mark, from, to } = filter;
    if actions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let mut times = Document::new();
    if let Some(from) = from {
        times.insert("$gte", from.as_millis());
    }
    if let Some(to) = to {
        times.insert("$lt", to.as_millis());
    }
    let times = (!times.is_empty()).then_some(times);
    let actions = actions.as_ref().map(to_bson).transpose()?;
    // In the order of increasing selectivity.
    let members = [
        ("event.occurredAt", times.map(Bson::from), migrations::AUDIT_OCCURRED),
        ("event.outcome", outcome.map(|outcome| to_bson(&outcome)).transpose()?, migrations::AUDIT_OUTCOME),
        ("event.action", actions.map(|actions| doc! { "$in": actions }.into()), migrations::AUDIT_ACTION),
        ("event.actor.id", actor.map(|actor| to_bson(&actor)).transpose()?, migrations::AUDIT_ACTOR),
        ("event.system", system.map(|system| to_bson(&system)).transpose()?, migrations::AUDIT_SYSTEM),
    ];
    let of_tenant = doc! { "tenant": tenant.as_str() };
    let (mut query, mut index) = (of_tenant.clone(), migrations::AUDIT_NUMBER);
    let mut conditions = Vec::new();
    for (member, value, of_member) in members {
        let Some(value) = value else { continue };
        query.insert(member, &value);
        let is_of_times = of_member == migrations::AUDIT_OCCURRED;
        // The order of a list by time alone.
        index = if is_of_times { migrations::AUDIT_TIME } else { of_member };
        // Most entries are done.
        if of_member == migrations::AUDIT_OUTCOME && *outcome == Some(AuditOutcome::Done) {
            continue;
        }
        let mut condition = of_tenant.clone();
        condition.insert(member, value);
        let max_entries = if is_of_times { MAX_COUNTED_WITHIN_TIMES } else { MAX_COUNTED };
        conditions.push(IndexedCondition { condition, index: of_member, max_entries });
    }
    if filter.is_only_by_time() || matches!(&conditions[..], [only] if only.index == index) {
        conditions.clear();
    }
    let Some(mark) = key_mark else { return Ok(vec![EntryQuery { query, index, conditions }]) };
    let (mark, mut previous) = (to_bson(mark)?, query.clone());
    query.insert("event.keyMark", &mark);
    previous.extend(doc! { "event.previousKeyMark": &mark, "event.keyMark": { "$ne": &mark } });
    let of_mark = |query, index| EntryQuery { query, index, conditions: Vec::new() };
    Ok(vec![of_mark(query, migrations::AUDIT_MARK), of_mark(previous, migrations::AUDIT_PREVIOUS_MARK)])
}

/// Reads the number and the hash of a document of the collections `tenants` or `audit`.
pub(super) fn head_of(head: Document) -> Result<AuditHead> {
    let hash = head.get_str("hash").map_err(corrupt)?.to_owned().try_into().map_err(corrupt)?;
    Ok(AuditHead { number: number_in(&head)?, hash })
}

fn number_in(entry: &Document) -> Result<u64> {
    let number = entry.get("number").and_then(number_of).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| corrupt("an entry or a head without a number"))
}
