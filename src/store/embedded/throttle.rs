//! Rate-limiting buckets.

use std::time::Duration;

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

use super::errors::storage;
use super::rows::Storage;
use super::store::EmbeddedStore;
use super::tables::BUCKETS;
use crate::domain::quota;
use crate::domain::time::Timestamp;
use crate::store::{Quota, Result, ThrottleStore};

#[async_trait]
impl ThrottleStore for EmbeddedStore {
    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>> {
        let bucket = bucket.to_owned();
        self.writer.submit_count(move |txn| take_token(txn, &bucket, quota, now).map(Ok)).await
    }

    async fn find_arrivals(&self, buckets: &[String]) -> Result<Vec<Timestamp>> {
        self.read(|snapshot| {
            let table = snapshot.0.open_table(BUCKETS).map_err(storage)?;
            let find = |bucket: &String| {
                let found = table.get(bucket.as_str()).map_err(storage)?;
                Ok(found.map_or(Timestamp::default(), |at| Timestamp::from_millis(at.value())))
            };
            buckets.iter().map(find).collect()
        })
    }

    async fn put_arrival(&self, bucket: &str, arrival: Timestamp) -> Result<()> {
        let bucket = bucket.to_owned();
        self.writer.submit_count(move |txn| put_arrival(txn, &bucket, arrival).map(Ok)).await
    }

    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()> {
        let bucket = bucket.to_owned();
        self.writer.submit_count(move |txn| return_token(txn, &bucket, quota).map(Ok)).await
    }
}

fn take_token(txn: &WriteTransaction, bucket: &str, quota: Quota, now: Timestamp) -> Storage<Result<(), Duration>> {
    let mut buckets = txn.open_table(BUCKETS)?;
    let arrival = buckets.get(bucket)?.map_or(Timestamp::default(), |at| Timestamp::from_millis(at.value()));
    Ok(match quota::take(arrival, quota, now) {
        Ok(next) => {
            buckets.insert(bucket, next.as_millis())?;
            Ok(())
        }
        Err(wait) => Err(wait),
    })
}

fn put_arrival(txn: &WriteTransaction, bucket: &str, arrival: Timestamp) -> Storage<()> {
    let mut buckets = txn.open_table(BUCKETS)?;
    let found = buckets.get(bucket)?.map_or(i64::MIN, |at| at.value());
    buckets.insert(bucket, found.max(arrival.as_millis()))?;
    Ok(())
}

fn return_token(txn: &WriteTransaction, bucket: &str, quota: Quota) -> Storage<()> {
    let mut buckets = txn.open_table(BUCKETS)?;
    let arrival = buckets.get(bucket)?.map(|at| Timestamp::from_millis(at.value()));
    if let Some(arrival) = arrival {
        buckets.insert(bucket, arrival.minus(quota.interval).as_millis())?;
    }
    Ok(())
}
