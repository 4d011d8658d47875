//! Buckets shared by all instances: one document each, changed by one atomic command.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{Hint, ReturnDocument};

use super::errors::is_duplicate_key;
use super::reads::BY_ID;
use super::store::MongoStore;
use crate::domain::time::Timestamp;
use crate::store::{Quota, Result, ThrottleStore, take};

/// Maximum number of attempts when other callers create the same bucket concurrently. The second attempt normally finds
/// the bucket.
const MAX_ATTEMPTS: usize = 3;

#[async_trait]
impl ThrottleStore for MongoStore {
    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>> {
        let allowed = millis(quota.interval.saturating_mul(quota.burst.saturating_sub(1)));
        let now_millis = now.as_millis();
        // The decision of `store::take`, made atomically by the server. The result is computed here from the bucket as it
        // was before.
        let arrival = doc! { "$max": ["$arrival", now_millis] };
        let change = doc! { "$set": { "arrival": { "$cond": [
            { "$gt": [{ "$subtract": [arrival.clone(), now_millis] }, allowed] },
            "$arrival",
            { "$add": [arrival, millis(quota.interval)] },
        ] } } };
        for _ in 1..MAX_ATTEMPTS {
            match self.change_bucket(bucket, change.clone()).await {
                Err(error) if is_duplicate_key(&error) => {}
                before => return Ok(take(arrival_of(before?.as_ref()), quota, now).map(drop)),
            }
        }
        Ok(take(arrival_of(self.change_bucket(bucket, change).await?.as_ref()), quota, now).map(drop))
    }

    async fn find_arrivals(&self, buckets: &[String]) -> Result<Vec<Timestamp>> {
        let find = self
            .buckets
            .find(doc! { "_id": { "$in": buckets } })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        let found = self.collect("find_arrivals", find).await?;
        let arrival = |bucket: &String| {
            let found = found.iter().find(|found| found.get_str("_id").is_ok_and(|id| id == bucket));
            arrival_of(found)
        };
        Ok(buckets.iter().map(arrival).collect())
    }

    async fn put_arrival(&self, bucket: &str, arrival: Timestamp) -> Result<()> {
        let change = doc! { "$max": { "arrival": arrival.as_millis() } };
        let put = || {
            let put = self.buckets.update_one(doc! { "_id": bucket }, change.clone()).upsert(true);
            self.bounded("put_arrival", put)
        };
        match put().await {
            // Another caller created it meanwhile.
            Err(error) if is_duplicate_key(&error) => put().await.map(drop),
            put => put.map(drop),
        }
    }

    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()> {
        let change = doc! { "$inc": { "arrival": -millis(quota.interval) } };
        self.bounded("return_token", self.buckets.update_one(doc! { "_id": bucket }, change)).await.map(drop)
    }
}

impl MongoStore {
    /// Returns the bucket as it was before the change.
    async fn change_bucket(&self, bucket: &str, change: Document) -> Result<Option<Document>> {
        let change = self
            .buckets
            .find_one_and_update(doc! { "_id": bucket }, vec![change])
            .upsert(true)
            .return_document(ReturnDocument::Before)
            .max_time(self.limits.call);
        self.bounded("take_token", change).await
    }
}

fn arrival_of(bucket: Option<&Document>) -> Timestamp {
    match bucket.and_then(|bucket| bucket.get("arrival")) {
        Some(Bson::Int64(millis)) => Timestamp::from_millis(*millis),
        _ => Timestamp::default(),
    }
}

/// Whole milliseconds, the unit of [`Timestamp`]; capped so that sums with a timestamp do not overflow.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}
