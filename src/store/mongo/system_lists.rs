//! Lists of systems: callers that request the same one at the same time share a read.

use std::sync::Arc;

use futures::FutureExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::Hint;

use super::coalesce::SharedReads;
use super::migrations;
use super::options::Limits;
use super::reads::{at_most, empty_page, page_of};
use super::rows::{FOLDED_DESCRIPTION, FOLDED_EXTERNAL_ID, system_from_bytes, to_bson};
use crate::domain::ids::TenantId;
use crate::domain::system_names::{MAX_FOLDED_NAME_BYTES, Search};
use crate::domain::systems::{Direction, SortValue, System, SystemOrder, SystemOrderField, SystemSortKey};
use crate::store::errors::skip_unreadable;
use crate::store::{Page, PageEnd, PageRequest, Result};

/// The arguments of a list of systems.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SystemList {
    pub(super) tenant: TenantId,
    pub(super) search: Search,
    pub(super) order: SystemOrder,
    pub(super) page: PageRequest<SystemSortKey>,
}

pub(super) type SystemLists = SharedReads<SystemList, Arc<Page<System>>>;

pub(super) fn system_lists(systems: Collection<Document>, limits: Limits) -> SystemLists {
    SharedReads::new(limits.call, move |list| {
        let systems = systems.clone();
        async move { read_list(&systems, limits, &list).await.map(Arc::new) }.boxed()
    })
}

async fn read_list(systems: &Collection<Document>, limits: Limits, list: &SystemList) -> Result<Page<System>> {
    let SystemList { tenant, search, order, page } = list;
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
            systems.find(filter).sort(doc! { "folded": step }).hint(Hint::Name(migrations::SYSTEMS_NAME.to_owned()))
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
            systems
                .find(filter)
                .min(bound(above, Bson::MinKey)?)
                .max(bound(below, Bson::MaxKey)?)
                .sort(doc! { "tenant": step, member: step, "_id": step })
                .hint(Hint::Name(index.to_owned()))
        }
    };
    let (limit, batch) = at_most(page.limit.saturating_add(1 + ends));
    let find = find.limit(limit).batch_size(batch).max_time(limits.call);
    let read = |document: &RawDocument| skip_unreadable(system_from_bytes(document));
    let mut rows = limits.collect_rows("list_systems", find, read).await?;
    rows.retain(|row| {
        let Some(system) = row else { return true };
        let key = order.field.key_of(system);
        above.as_ref().is_none_or(|above| key > *above) && below.as_ref().is_none_or(|below| key < *below)
    });
    // Unreadable rows count for the limit, so that they do not end the list.
    let Page { items, has_more } = page_of(rows, page);
    Ok(Page { items: items.into_iter().flatten().collect(), has_more })
}

/// Returns the conditions on the folded texts, empty for all texts; `None` if no text can match.
pub(super) fn text_filter(search: &Search) -> Option<Document> {
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
