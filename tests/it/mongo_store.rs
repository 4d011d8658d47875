//! What the MongoDB backend guarantees beyond the contract of every store.

use std::time::{Duration, Instant};

use keymark::store::Store;
use keymark::store::mongo::MongoStore;

use crate::support::mongod::fresh_database;

#[tokio::test]
async fn smoke() {
    let options = fresh_database().await;
    let begun = Instant::now();
    let store = MongoStore::connect(&options).await.unwrap();
    println!("connect {:?}", begun.elapsed());
    store.ping().await.unwrap();
}
