//! The change feed.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Result;
use crate::domain::changes::{Change, Position};
use crate::domain::leases::Incarnation;

/// Changes in commit order, until an error ends the stream.
pub type Feed = BoxStream<'static, Result<Change>>;

#[async_trait]
pub trait FeedStore {
    /// Follows committed changes: all after the position `after`, or, without one, all that are committed once this
    /// call has returned. The position of one feed is valid for every other feed of the same store, also after a
    /// restart.
    ///
    /// All followers receive the same changes in the same order with the same times ([`Change::at`]), and a change only
    /// after all changes before it. A write that began after another one was reported as committed or put comes after
    /// it in the feed.
    ///
    /// A row that another client of the database wrote, or that cannot be read, is reported in [`Change::foreign`]. Writes
    /// of other clients to leases and to the audit log are left out.
    ///
    /// The feed ends with the first error. [`StoreError::PositionTooOld`](super::StoreError::PositionTooOld), from this
    /// call or as the feed's first item, means that changes were missed for good.
    /// With `own`, the feed may leave out the leases of other incarnations than these, except those that request an
    /// acknowledgement and those of release 0.1, and all deletions of leases.
    async fn watch(&self, after: Option<&Position>, own: Option<&[Incarnation]>) -> Result<Feed>;
}
