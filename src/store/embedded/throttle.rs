//! Rate-limiting buckets.

use std::time::Duration;

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

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
        self.writer.submit(move |txn| take_token(txn, &bucket, quota, now).map(Ok)).await
    }

    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()> {
        let bucket = bucket.to_owned();
        self.writer.submit(move |txn| return_token(txn, &bucket, quota).map(Ok)).await
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

fn return_token(txn: &WriteTransaction, bucket: &str, quota: Quota) -> Storage<()> {
    let mut buckets = txn.open_table(BUCKETS)?;
    let arrival = buckets.get(bucket)?.map(|at| Timestamp::from_millis(at.value()));
    if let Some(arrival) = arrival {
        buckets.insert(bucket, arrival.minus(quota.interval).as_millis())?;
    }
    Ok(())
}
