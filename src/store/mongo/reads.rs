//! Look-ups, lists and counts. Each one names the index that answers it.

use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;

use super::rows::{Stored, corrupt, entry_from_document, from_document, number_to_bson, to_bson};
use super::{MongoStore, is_duplicate_key, migrations, number_of};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::system_names::{MAX_FOLDED_NAME_BYTES, Search};
use crate::domain::systems::{Direction, SortValue, System, SystemOrder, SystemOrderField, SystemSortKey};
use crate::store::{Page, PageEnd, PageRequest, Result};

/// The index that every collection has.
const BY_ID: &str = "_id_";

impl MongoStore {
    pub(super) async fn read_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        self.find_one("find_system", &self.systems, doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() }, BY_ID)
            .await
    }

    pub(super) async fn read_systems_of(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (_, batch) = at_most(ids.len());
        let find = self
            .systems
            .find(doc! { "_id": { "$in": to_bson(&ids)? }, "tenant": tenant.as_str() })
            .hint(Hint::Name(BY_ID.to_owned()))
            .batch_size(batch)
            .max_time(self.limits.call);
        self.collect("find_systems", find).await?.into_iter().map(from_document).collect()
    }

    pub(super) async fn read_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        let descending = order.direction == Direction::Descending;
        let (above, below) = if descending { (&page.before, &page.after) } else { (&page.after, &page.before) };
        let empty_stretch = matches!((above, below), (Some(above), Some(below)) if above >= below);
        let Some(names) = names_that_match(search).filter(|_| !empty_stretch) else { return Ok(empty_page()) };

        // The places asked for need not exist any more, but may: each is one more to read and to leave out.
        let ends = usize::from(above.is_some()) + usize::from(below.is_some());
        let backwards = descending != (page.from == PageEnd::Last);
        let step = if backwards { -1 } else { 1 };
        let mut filter = doc! { "tenant": tenant.as_str() };
        let mut folded = names;
        let find = match order.field {
            // A name stands once in a tenant, so the index need not hold the id.
            SystemOrderField::Name => {
                for (operator, place) in [("$gte", above), ("$lte", below)] {
                    if let Some(SystemSortKey { value: SortValue::Name(name), .. }) = place {
                        folded.insert(operator, name);
                    }
                }
                if !folded.is_empty() {
                    filter.insert("folded", folded);
                }
                self.systems
                    .find(filter)
                    .sort(doc! { "folded": step })
                    .hint(Hint::Name(migrations::SYSTEMS_NAME.to_owned()))
            }
            SystemOrderField::UpdatedAt | SystemOrderField::CreatedAt => {
                let (member, index) = match order.field {
                    SystemOrderField::UpdatedAt => ("updatedAt", migrations::SYSTEMS_UPDATED),
                    _ => ("createdAt", migrations::SYSTEMS_CREATED),
                };
                if !folded.is_empty() {
                    filter.insert("folded", folded);
                }
                // Many systems may share a time: the bounds reach into them, down to the id.
                let bound = |place: &Option<SystemSortKey>, none: Bson| -> Result<Document> {
                    Ok(match place {
                        Some(SystemSortKey { value: SortValue::At(at), id }) => {
                            doc! { "tenant": tenant.as_str(), member: at.as_millis(), "_id": to_bson(id)? }
                        }
                        _ => doc! { "tenant": tenant.as_str(), member: none.clone(), "_id": none },
                    })
                };
                self.systems
                    .find(filter)
                    .min(bound(above, Bson::MinKey)?)
                    .max(bound(below, Bson::MaxKey)?)
                    .sort(doc! { "tenant": step, member: step, "_id": step })
                    .hint(Hint::Name(index.to_owned()))
            }
        };
        let (limit, batch) = at_most(page.limit.saturating_add(1 + ends));
        let found =
            self.collect("list_systems", find.limit(limit).batch_size(batch).max_time(self.limits.call)).await?;
        let mut items = found.into_iter().map(from_document).collect::<Result<Vec<System>>>()?;
        items.retain(|system| {
            let key = order.field.key_of(system);
            above.as_ref().is_none_or(|above| key > *above) && below.as_ref().is_none_or(|below| key < *below)
        });
        Ok(page_of(items, page))
    }

    pub(super) async fn number_of_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        let Some(names) = names_that_match(search) else { return Ok(0) };
        let mut filter = doc! { "tenant": tenant.as_str() };
        if !names.is_empty() {
            filter.insert("folded", names);
        }
        self.count("count_systems", &self.systems, filter, migrations::SYSTEMS_NAME).await
    }

    /// A linearizable read has the server write to its journal: a few milliseconds, or on a set of one member up to
    /// its `storage.journal.commitIntervalMs`, 100 by default.
    pub(super) async fn read_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>> {
        if digests.is_empty() {
            return Ok(None);
        }
        let (_, batch) = at_most(digests.len() + 1);
        let find = self
            .keys_linearizable
            .find(doc! { "_id": { "$in": to_bson(&digests)? } })
            .hint(Hint::Name(BY_ID.to_owned()))
            .batch_size(batch)
            .max_time(self.limits.call);
        let found = self.collect("find_key", find).await?;
        let keys = found.into_iter().map(from_document).collect::<Result<Vec<Key>>>()?;
        // One text has one digest under each secret; the first secret is the current one.
        Ok(keys.into_iter().min_by_key(|key| digests.iter().position(|digest| *digest == key.digest)))
    }

    pub(super) async fn read_operator(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.find_one("find_operator", &self.operators_linearizable, doc! { "_id": to_bson(&id)? }, BY_ID).await
    }

    pub(super) async fn read_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        let filter = doc! { "username": username.as_str() };
        self.find_one("find_operator_by_username", &self.operators, filter, migrations::OPERATORS_USERNAME).await
    }

    pub(super) async fn read_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let (filter, index) = match tenant {
            Some(tenant) => (doc! { "tenant": tenant.as_str() }, migrations::OPERATORS_TENANT),
            None => (Document::new(), migrations::OPERATORS_USERNAME),
        };
        let find = self
            .operators
            .find(filter)
            .sort(doc! { "username": 1 })
            .hint(Hint::Name(index.to_owned()))
            .max_time(self.limits.call);
        self.collect("list_operators", find).await?.into_iter().map(from_document).collect()
    }

    pub(super) async fn read_session(&self, id: SessionId) -> Result<Option<Session>> {
        self.find_one("find_session", &self.sessions_linearizable, doc! { "_id": to_bson(&id)? }, BY_ID).await
    }

    pub(super) async fn read_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        let find = self
            .sessions
            .find(doc! { "operator": to_bson(&operator)? })
            .hint(Hint::Name(migrations::SESSIONS_OPERATOR.to_owned()))
            .max_time(self.limits.call);
        self.collect("list_sessions", find).await?.into_iter().map(from_document).collect()
    }

    pub(super) async fn read_tenants(&self) -> Result<Vec<TenantId>> {
        // A head is made before the first entry, which may then not come to be.
        let find = self
            .tenants
            .find(doc! { "number": { "$gt": 0_i64 } })
            .projection(doc! { "_id": 1 })
            .sort(doc! { "_id": 1 })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        let found = self.collect("list_tenants", find).await?;
        found.into_iter().map(|head| head.get_str("_id").map_err(corrupt)?.parse().map_err(tenant_error)).collect()
    }

    pub(super) async fn read_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        let find = self.tenants.find_one(doc! { "_id": tenant.as_str() }).max_time(self.limits.call);
        match self.bounded("audit_head", find).await? {
            Some(head) => head_of(head),
            None => Ok(AuditHead::default()),
        }
    }

    pub(super) async fn read_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        let find = self
            .audit
            .find_one(doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        self.bounded("find_audit_entry", find).await?.map(entry_from_document).transpose()
    }

    pub(super) async fn read_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        let Some((mut query, index)) = entries_that_match(tenant, filter)? else { return Ok(empty_page()) };
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
        let found = self.collect("list_audit", find).await?;
        Ok(page_of(found.into_iter().map(entry_from_document).collect::<Result<_>>()?, page))
    }

    pub(super) async fn number_of_entries(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        if *filter == AuditFilter::default() {
            // The log has no gaps and loses nothing.
            return Ok(self.read_head(tenant).await?.number);
        }
        match entries_that_match(tenant, filter)? {
            Some((query, index)) => self.count("count_audit", &self.audit, query, index).await,
            None => Ok(0),
        }
    }

    pub(super) async fn read_audit_after(
        &self,
        tenant: &TenantId,
        number: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
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
        self.collect("list_audit_after", find).await?.into_iter().map(entry_from_document).collect()
    }

    pub(super) async fn read_setting(&self, name: &str) -> Result<Option<String>> {
        let found = self.bounded("find_setting", self.meta.find_one(doc! { "_id": setting_id(name) })).await?;
        found.map(|found| found.get_str("value").map(str::to_owned).map_err(corrupt)).transpose()
    }

    pub(super) async fn write_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool> {
        let id = setting_id(name);
        match expected {
            Some(expected) => {
                let filter = doc! { "_id": id, "value": expected };
                let change = self.meta.update_one(filter, doc! { "$set": { "value": value } });
                Ok(self.bounded("replace_setting", change).await?.matched_count == 1)
            }
            None => {
                match self.bounded("replace_setting", self.meta.insert_one(doc! { "_id": id, "value": value })).await {
                    Ok(_) => Ok(true),
                    Err(error) if is_duplicate_key(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    pub(super) async fn read_marker(&self, marker: &str) -> Result<bool> {
        Ok(self.bounded("has_marker", self.meta.find_one(doc! { "_id": marker_id(marker) })).await?.is_some())
    }

    async fn find_one<T: Stored>(
        &self,
        what: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<Option<T>> {
        let find = collection.find_one(filter).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        self.bounded(what, find).await?.map(from_document).transpose()
    }

    async fn count(
        &self,
        what: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<u64> {
        let count = collection.count_documents(filter).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        self.bounded(what, count).await
    }
}

/// Conditions on the folded name, none for all names; `None` when no name can match.
fn names_that_match(search: &Search) -> Option<Document> {
    match search {
        Search::All => Some(Document::new()),
        Search::Containing(needle) if needle.is_empty() => Some(Document::new()),
        Search::Containing(needle) if needle.len() > MAX_FOLDED_NAME_BYTES || needle.contains('\0') => None,
        Search::Containing(needle) => Some(doc! { "$regex": literally(needle) }),
        Search::Nothing => None,
    }
}

/// A pattern that matches this text alone (PCRE: these are the characters with a meaning outside of classes).
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if r"\^$.|?*+()[]{}".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// What to ask for and the index that leads there; `None` when nothing can match.
fn entries_that_match(tenant: &TenantId, filter: &AuditFilter) -> Result<Option<(Document, &'static str)>> {
    let AuditFilter { system, actor, actions, outcome, from, to } = filter;
    let mut query = doc! { "tenant": tenant.as_str() };
    // The last one named is the most telling.
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

fn empty_page<T>() -> Page<T> {
    Page { items: Vec::new(), has_more: false }
}

/// The page of what was read from its end, one more than it holds when there is more.
fn page_of<T, K>(mut items: Vec<T>, page: &PageRequest<K>) -> Page<T> {
    let has_more = items.len() > page.limit;
    items.truncate(page.limit);
    if page.from == PageEnd::Last {
        items.reverse();
    }
    Page { items, has_more }
}

/// A limit, and a batch that holds all of it and lets the server see the end at once.
fn at_most(limit: usize) -> (i64, u32) {
    (
        i64::try_from(limit).unwrap_or(i64::MAX),
        u32::try_from(limit.saturating_add(1)).unwrap_or(u32::MAX >> 1).min(u32::MAX >> 1),
    )
}

/// Reads the head as `tenants` keeps it.
pub(super) fn head_of(head: Document) -> Result<AuditHead> {
    let number = head.get("number").and_then(number_of).and_then(|number| u64::try_from(number).ok());
    let hash = head.get_str("hash").map_err(corrupt)?.to_owned().try_into().map_err(corrupt)?;
    Ok(AuditHead { number: number.ok_or_else(|| corrupt("a head without its number"))?, hash })
}

fn tenant_error(error: crate::domain::ids::NotAnId) -> crate::store::StoreError {
    corrupt(error.to_string())
}

fn setting_id(name: &str) -> String {
    format!("setting/{name}")
}

pub(super) fn marker_id(marker: &str) -> String {
    format!("marker/{marker}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_match_nothing_is_not_asked_for() {
        assert_eq!(names_that_match(&Search::Nothing), None);
        assert_eq!(names_that_match(&Search::Containing("a\0b".to_owned())), None);
        assert_eq!(names_that_match(&Search::Containing("x".repeat(MAX_FOLDED_NAME_BYTES + 1))), None);
        assert_eq!(names_that_match(&Search::All), Some(Document::new()));
    }

    proptest! {
        #[test]
        fn a_needle_has_no_meaning_but_itself(needle in "\\PC{0,20}") {
            let pattern = literally(&needle);
            let mut characters = pattern.chars();
            let mut read = String::new();
            while let Some(c) = characters.next() {
                prop_assert!(c == '\\' || !"^$.|?*+()[]{}".contains(c), "{}", pattern);
                read.push(if c == '\\' { characters.next().unwrap() } else { c });
            }
            prop_assert_eq!(read, needle);
        }
    }
}
