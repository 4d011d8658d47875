//! Helpers that the reads of several concepts share.

use mongodb::Collection;
use mongodb::bson::Document;
use mongodb::options::Hint;

use super::rows::{Stored, from_document};
use super::store::MongoStore;
use crate::store::errors::skip_unreadable;
use crate::store::{Page, PageEnd, PageRequest, Result};

/// The index on `_id`, which every collection has.
pub(super) const BY_ID: &str = "_id_";

impl MongoStore {
    pub(super) async fn find_one<T: Stored>(
        &self,
        what: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<Option<T>> {
        let find = collection.find_one(filter).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        self.bounded(what, find).await?.map(from_document).transpose()
    }

    pub(super) async fn count(
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

/// Converts the documents of a list, and leaves unreadable ones out.
pub(super) fn list_of<T: Stored>(documents: Vec<Document>) -> Result<Vec<T>> {
    documents.into_iter().filter_map(|document| skip_unreadable(from_document(document)).transpose()).collect()
}

pub(super) fn empty_page<T>() -> Page<T> {
    Page { items: Vec::new(), has_more: false }
}

/// Builds the page from items read from its end `page.from`: one more than the limit if there are more.
pub(super) fn page_of<T, K>(mut items: Vec<T>, page: &PageRequest<K>) -> Page<T> {
    let has_more = items.len() > page.limit;
    items.truncate(page.limit);
    if page.from == PageEnd::Last {
        items.reverse();
    }
    Page { items, has_more }
}

/// Returns a limit and a batch size one larger, with which the server closes the cursor after the first batch.
pub(super) fn at_most(limit: usize) -> (i64, u32) {
    (
        i64::try_from(limit).unwrap_or(i64::MAX),
        u32::try_from(limit.saturating_add(1)).unwrap_or(u32::MAX >> 1).min(u32::MAX >> 1),
    )
}
