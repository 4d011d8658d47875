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

    /// Returns a token that [`take_token`](Self::take_token) took.
    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()>;
}
