//! The scan: several batches of the server, and unreadable documents.

use std::collections::HashSet;

use futures::TryStreamExt;
use keymark::domain::changes::{RowId, StoredRow};
use keymark::store::{ScanStore, Store, StoreError};
use mongodb::Collection;
use mongodb::bson::{Document, doc};

use super::OneKey;

/// More than two batches.
const MANY: u64 = 45_000;

/// Returns a store with one key, the document of the key, and its collection.
async fn with_one_key() -> (impl Store, Document, Collection<Document>) {
    let OneKey { store, database, .. } = OneKey::new().await;
    let keys = database.collection::<Document>("keys");
    let key = keys.find_one(doc! {}).await.unwrap().expect("it was committed");
    (store, key, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_reads_several_batches() {
    let (store, key, keys) = with_one_key().await;
    let many = (1..MANY).map(|i| {
        let mut key = key.clone();
        key.insert("_id", format!("{i:064x}"));
        key
    });
    keys.insert_many(many).await.unwrap();

    let rows = store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap();

    assert_eq!(rows.len() as u64, MANY);
    let digests: HashSet<_> = rows.iter().map(StoredRow::id).collect();
    assert_eq!(digests.len() as u64, MANY, "each key once");
}

#[tokio::test]
async fn unreadable_key_is_reported_by_its_id() {
    let (store, key, keys) = with_one_key().await;
    let mut readable = key.clone();
    readable.insert("_id", "0".repeat(64));
    keys.insert_one(&readable).await.unwrap();
    let digest = key.get_str("_id").unwrap();
    for (member, value) in [("tenant", "No tenant"), ("system", "aud_0"), ("mark", "much too long")] {
        let broken = doc! { "$set": { member: value } };
        keys.update_one(doc! { "_id": digest }, broken).await.unwrap();
        let rows = store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let (readable, unreadable): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| matches!(row, StoredRow::Readable(_)));
        assert_eq!((readable.len(), unreadable.len()), (1, 1), "{member}");
        assert_eq!(hex_of(unreadable[0].id()), digest);
        keys.replace_one(doc! { "_id": digest }, &key).await.unwrap();
    }
    assert_eq!(store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap().len(), 2);
}

#[tokio::test]
async fn key_in_a_newer_format_ends_the_scan() {
    let (store, _, keys) = with_one_key().await;
    keys.update_one(doc! {}, doc! { "$set": { "format": 1 } }).await.unwrap();
    assert_eq!(store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap().len(), 1);
    keys.update_one(doc! {}, doc! { "$set": { "format": 3 } }).await.unwrap();
    let ended = store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await;
    assert!(matches!(ended, Err(StoreError::NewerFormat { found: 3, .. })), "{ended:?}");
}

fn hex_of(id: RowId) -> String {
    let RowId::Key(digest) = id else { panic!("not a key: {id:?}") };
    hex::encode(digest.as_bytes())
}
