//! Look-ups, lists and counts of systems.

use std::collections::HashMap;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::Hint;

use super::audit::entry_filters;
use super::errors::corrupt;
use super::migrations;
use super::reads::{BY_ID, at_most, empty_page, list_of, page_of};
use super::rows::{EXTERNAL_ID, FOLDED_DESCRIPTION, FOLDED_EXTERNAL_ID, number_of, system_from_bytes, to_bson};
use super::store::MongoStore;
use crate::domain::audit::AuditFilter;
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::system_names::{MAX_FOLDED_NAME_BYTES, Search};
use crate::domain::systems::{Direction, SortValue, System, SystemOrder, SystemOrderField, SystemSortKey};
use crate::store::errors::skip_unreadable;
use crate::store::{Page, PageEnd, PageRequest, Result, SystemState, SystemStore};

#[async_trait]
impl SystemStore for MongoStore {
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        self.find_one("find_system", &self.systems, doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() }, BY_ID)
            .await
    }

    async fn recheck_system(&self, tenant: &TenantId, id: SystemId) -> Result<SystemState> {
        let call = "recheck_system";
        let mut session = self.start_current_session(call).await?;
        let filter = doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() };
        if let Some(system) = self.find_one_in(&mut session, call, &self.systems, filter, BY_ID).await? {
            return Ok(SystemState::Present(system));
        }
        let Some((deletion, index)) = entry_filters(tenant, &AuditFilter::deletion_of(id))?.pop() else {
            return Ok(SystemState::Unknown);
        };
        let find = self.audit.find_one(deletion).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        let found = self.bounded(call, find.session(&mut session)).await?;
        Ok(if found.is_some() { SystemState::Deleted } else { SystemState::Unknown })
    }

    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
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
        let found = self.collect_rows("find_systems", find, |document| skip_unreadable(system_from_bytes(document)));
        Ok(found.await?.into_iter().flatten().collect())
    }

    async fn find_system_by_external_id(&self, tenant: &TenantId, external_id: &ExternalId) -> Result<Option<System>> {
        let find = self
            .systems
            .find(doc! { "tenant": tenant.as_str(), EXTERNAL_ID: external_id.as_str() })
            .hint(Hint::Name(migrations::SYSTEMS_EXTERNAL_ID.to_owned()))
            .limit(1)
            .max_time(self.limits.call);
        Ok(list_of(self.collect("find_system_by_external_id", find).await?)?.pop())
    }

    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        let descending = order.direction == Direction::Descending;
        let (above, below) = if descending { (&page.before, &page.after) } else { (&page.after, &page.before) };
        let empty_stretch = matches!((above, below), (Some(above), Some(below)) if above >= below);
        let Some(texts) = text_filter(search).filter(|_| !empty_stretch) else { return Ok(empty_page()) };

        // The systems at the bounds may exist still: each is one more document to read and to skip.
        let ends = usize::from(above.is_some()) + usize::from(below.is_some());
        let backwards = descending != (page.from == PageEnd::Last);
        let step = if backwards { -1 } else { 1 };
        let mut filter = doc! { "tenant": tenant.as_str() };
        filter.extend(texts);
        let find = match order.field {
            // Names are unique within a tenant, so the index does not need the id.
            SystemOrderField::Name => {
                let mut folded = Document::new();
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
                // Many systems may share a time: the bounds include the id.
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
        let find = find.limit(limit).batch_size(batch).max_time(self.limits.call);
        let read = |document: &RawDocument| skip_unreadable(system_from_bytes(document));
        let mut rows = self.collect_rows("list_systems", find, read).await?;
        rows.retain(|row| {
            let Some(system) = row else { return true };
            let key = order.field.key_of(system);
            above.as_ref().is_none_or(|above| key > *above) && below.as_ref().is_none_or(|below| key < *below)
        });
        // Unreadable rows count for the limit, so that they do not end the list.
        let Page { items, has_more } = page_of(rows, page);
        Ok(Page { items: items.into_iter().flatten().collect(), has_more })
    }

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        let Some(texts) = text_filter(search) else { return Ok(0) };
        let mut filter = doc! { "tenant": tenant.as_str() };
        filter.extend(texts);
        self.count("count_systems", &self.systems, filter, migrations::SYSTEMS_NAME).await
    }

    async fn count_systems_by_tenant(&self) -> Result<HashMap<TenantId, u64>> {
        let group = doc! { "$group": { "_id": "$tenant", "count": { "$sum": 1_i64 } } };
        // Sorted by the index, so that it alone is read.
        let count = self
            .systems
            .aggregate([doc! { "$sort": { "tenant": 1, "folded": 1 } }, group])
            .hint(Hint::Name(migrations::SYSTEMS_NAME.to_owned()))
            .max_time(self.limits.call);
        let counts = self.collect("count_systems_by_tenant", count).await?.into_iter().map(|count| {
            let tenant = count.get_str("_id").ok().and_then(|tenant| tenant.parse().ok());
            let number = count.get("count").and_then(number_of).and_then(|number| u64::try_from(number).ok());
            tenant.zip(number).ok_or_else(|| corrupt("a system without a tenant"))
        });
        counts.collect()
    }
}

/// Returns the conditions on the folded texts, empty for all texts; `None` if no text can match.
fn text_filter(search: &Search) -> Option<Document> {
    match search {
        Search::All => Some(Document::new()),
        Search::Containing(needle) if needle.is_empty() => Some(Document::new()),
        Search::Containing(needle) if needle.len() > MAX_FOLDED_NAME_BYTES || needle.contains('\0') => None,
        Search::Containing(needle) => {
            let pattern = escape(needle);
            let found = |member: &str| doc! { member: { "$regex": &pattern } };
            Some(doc! { "$or": [found("folded"), found(FOLDED_DESCRIPTION), found(FOLDED_EXTERNAL_ID)] })
        }
        Search::Nothing => None,
    }
}

/// Escapes the characters that have a meaning outside of classes in PCRE, so that the pattern matches only `text`.
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if r"\^$.|?*+()[]{}".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn searches_that_match_nothing_are_not_sent() {
        assert_eq!(text_filter(&Search::Nothing), None);
        assert_eq!(text_filter(&Search::Containing("a\0b".to_owned())), None);
        assert_eq!(text_filter(&Search::Containing("x".repeat(MAX_FOLDED_NAME_BYTES + 1))), None);
        assert_eq!(text_filter(&Search::All), Some(Document::new()));
    }

    proptest! {
        #[test]
        fn escaped_text_matches_itself_only(needle in "\\PC{0,20}") {
            let pattern = escape(&needle);
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
