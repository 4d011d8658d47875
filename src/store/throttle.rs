//! Buckets that limit rates for all instances together.

use std::time::Duration;

use async_trait::async_trait;

use super::{Quota, Result};
use crate::domain::time::Timestamp;

#[async_trait]
pub trait ThrottleStore {
    /// Takes a token from the bucket. If it is empty, the inner result is the time until a token is free, and none is
    /// taken.
    ///
    /// All instances share the bucket; concurrent callers never take more than the quota.
    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>>;

    /// Returns the theoretical arrival time of each bucket (see [`take`](super::take)), and the epoch for one that does not
    /// exist. Writes nothing.
    async fn find_arrivals(&self, buckets: &[String]) -> Result<Vec<Timestamp>>;

    /// Sets the arrival time of a bucket, unless it is later already. Until then, the bucket exists.
    async fn put_arrival(&self, bucket: &str, arrival: Timestamp) -> Result<()>;

    /// Returns a token that [`take_token`](Self::take_token) took.
    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()>;
}
