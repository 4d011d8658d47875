//! Use of keys.

use std::sync::Arc;

use async_graphql::{Context, Enum, Result, SimpleObject};

use super::read_together::ReadTogether;
use super::{DateTime, int};
use crate::domain::ids::SystemId;
use crate::domain::keys::Mark;
use crate::domain::usage;
use crate::graphql::context::Authenticated;

/// Length of the buckets of a series.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "usage::Resolution")]
pub enum UsageResolution {
    /// Hours of UTC. They are kept for 8 days, unless the server is configured otherwise.
    Hour,
    /// Days of UTC. They are kept for 400 days, unless the server is configured otherwise.
    Day,
}

/// Use of one key or of all keys of a system.
#[derive(SimpleObject)]
pub(crate) struct Usage {
    /// Number of verifications that accepted a key, in all buckets.
    accepted: i32,
    /// Number of verifications that refused a key because it was revoked, had expired or was suspended, in all buckets.
    refused: i32,
    /// Everything that the instance which answers counted before this time is included. Other instances add what they
    /// counted at most 10 seconds later, unless more keys are in use than they may write in that time.
    counted_until: DateTime,
    /// One bucket for each hour or day of the range, oldest first. Those without use are zero.
    buckets: Vec<UsageBucket>,
}

/// Use in one hour or day.
#[derive(SimpleObject)]
struct UsageBucket {
    /// Start of the hour or day.
    from: DateTime,
    /// Number of verifications that accepted a key.
    accepted: i32,
    /// Number of verifications that refused a key.
    refused: i32,
}

/// The range of a series, as it is requested.
pub(super) struct RequestedRange {
    pub from: Option<DateTime>,
    pub to: Option<DateTime>,
    pub resolution: UsageResolution,
}

impl Usage {
    /// The use of one key of the system, or of all.
    pub(super) async fn find(
        ctx: &Context<'_>,
        system: SystemId,
        mark: Option<Mark>,
        range: RequestedRange,
    ) -> Result<Self> {
        let call = Authenticated::new(ctx).await?;
        let (from, to) = (range.from.map(|at| at.0), range.to.map(|at| at.0));
        let found = call.service.find_usage(&call.caller.tenant, system, range.resolution.into(), from, to).await;
        let found = call.convert(found)?;
        let series = found.range.series(&found.counted, mark);
        let mut total = usage::Counts::default();
        series.iter().for_each(|(_, counts)| total += *counts);
        let bucket = |(from, counts): (_, usage::Counts)| UsageBucket {
            from: DateTime(from),
            accepted: int(counts.accepted),
            refused: int(counts.refused),
        };
        Ok(Self {
            accepted: int(total.accepted),
            refused: int(total.refused),
            counted_until: DateTime(found.counted_until),
            buckets: series.into_iter().map(bucket).collect(),
        })
    }
}

/// The last uses of systems that are shown together.
pub(super) struct LastUses(ReadTogether<SystemId, Arc<usage::UsageSummary>>);

impl LastUses {
    pub(super) fn of(systems: impl IntoIterator<Item = SystemId>) -> Arc<Self> {
        Arc::new(Self(ReadTogether::of(systems)))
    }

    /// The last uses of one system, which were read already.
    pub(super) fn known(summary: Arc<usage::UsageSummary>) -> Arc<Self> {
        Arc::new(Self(ReadTogether::known(summary.system, summary)))
    }

    async fn find(&self, ctx: &Context<'_>, system: SystemId) -> Result<Option<&usage::UsageSummary>> {
        let call = Authenticated::new(ctx).await?;
        let read = async {
            let found = call.service.find_usage_summaries(&call.caller.tenant, self.0.items()).await?;
            Ok(found.into_iter().map(|summary| (summary.system, Arc::new(summary))).collect())
        };
        Ok(self.0.find(&call, &system, read).await?.map(AsRef::as_ref))
    }

    pub(super) async fn last_used_at(&self, ctx: &Context<'_>, system: SystemId) -> Result<Option<DateTime>> {
        Ok(self.find(ctx, system).await?.and_then(|summary| summary.last_used_at).map(DateTime))
    }

    pub(super) async fn of_key(&self, ctx: &Context<'_>, system: SystemId, mark: Mark) -> Result<usage::KeySummary> {
        let summary = self.find(ctx, system).await?;
        Ok(summary.and_then(|summary| summary.keys.get(&mark)).copied().unwrap_or_default())
    }
}
