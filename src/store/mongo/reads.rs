//! Helpers that the reads of several concepts share.

use futures::FutureExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;
use serde::Serialize;

use super::coalesce::Batched;
use super::errors::corrupt;
use super::options::Limits;
use super::rows::{Stored, from_document, to_bson};
use crate::store::errors::skip_unreadable;
use crate::store::{Page, PageEnd, PageRequest, Result};

/// The index on `_id`, which every collection has.
pub(super) const BY_ID: &str = "_id_";

/// Batched reads of documents, by the strings of one member.
pub(super) type DocumentReads = Batched<String, Document>;

/// Batched reads of the documents whose `member` is, or contains, one of the keys. Each batch is one query.
pub(super) fn batched(
    what: &'static str,
    collection: Collection<Document>,
    member: &'static str,
    index: &'static str,
    limits: Limits,
) -> DocumentReads {
    Batched::new(limits.call, move |keys: Vec<String>| {
        let (collection, (_, batch)) = (collection.clone(), at_most(keys.len()));
        let read = async move {
            let find = collection
                .find(doc! { member: { "$in": keys } })
                .hint(Hint::Name(index.to_owned()))
                // Only the first batch of a linearizable read is linearizable.
                .batch_size(batch)
                .max_time(limits.call);
            let found = limits.collect(what, find).await?.into_iter();
            Ok(found
                .flat_map(|document| strings_of(&document, member).map(move |key| (key, document.clone())))
                .collect())
        };
        read.boxed()
    })
}

fn strings_of(document: &Document, member: &str) -> impl Iterator<Item = String> + use<> {
    let members = match document.get(member) {
        Some(Bson::Array(members)) => members.clone(),
        member => member.cloned().into_iter().collect(),
    };
    members.into_iter().filter_map(|member| if let Bson::String(text) = member { Some(text) } else { None })
}

/// Finds the row of the first of the keys that has one.
pub(super) async fn find_first<T: Stored>(reads: &DocumentReads, keys: &[impl Serialize]) -> Result<Option<T>> {
    let text = |key| match to_bson(key)? {
        Bson::String(text) => Ok(text),
        _ => Err(corrupt("a key that is not a string")),
    };
    let keys = keys.iter().map(text).collect::<Result<Vec<_>>>()?;
    let mut found = reads.get(&keys).await?;
    if let [first, _, ..] = keys.as_slice()
        && found.is_empty()
    {
        // A query is not atomic: the row may have moved to the first key after that was read, and before the others.
        found = reads.get(std::slice::from_ref(first)).await?;
    }
    found.into_iter().next().map(from_document).transpose()
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
