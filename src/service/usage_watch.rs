//! Subscribers to the use of systems. Use is not in the feed, so an instance with subscribers reads the summaries of the
//! systems that they are about, all at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use tokio::sync::watch;

use super::error::Error;
use super::feed::{CallerSubscription, Topic, retry_while_unavailable};
use super::{Caller, Service};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::permissions::Permissions;
use crate::domain::refusal::Refusal;
use crate::domain::systems::System;
use crate::domain::usage::UsageSummary;
use crate::store::SystemState;

/// Systems of a tenant whose summaries are read together.
const MAX_SYSTEMS_PER_READ: usize = 500;

type Channel = watch::Sender<Option<Arc<UsageSummary>>>;
type Summaries = watch::Receiver<Option<Arc<UsageSummary>>>;

/// A channel for each system that has subscribers, with its summary as it was last read.
#[derive(Default)]
pub(super) struct UsageWatch(Mutex<HashMap<TenantId, HashMap<SystemId, Channel>>>);

impl UsageWatch {
    fn subscribe(&self, tenant: &TenantId, system: SystemId) -> Summaries {
        self.tenants().entry(tenant.clone()).or_default().entry(system).or_default().subscribe()
    }

    /// The systems with subscribers.
    fn watched(&self) -> Vec<(TenantId, Vec<SystemId>)> {
        let mut tenants = self.tenants();
        tenants.retain(|_, systems| {
            systems.retain(|_, channel| channel.receiver_count() > 0);
            !systems.is_empty()
        });
        tenants.iter().map(|(tenant, systems)| (tenant.clone(), systems.keys().copied().collect())).collect()
    }

    /// Notifies the subscribers if the summary is later than the known one. Without a known one, only if `notifies`.
    fn publish(&self, tenant: &TenantId, summary: UsageSummary, notifies: bool) {
        let tenants = self.tenants();
        let Some(channel) = tenants.get(tenant).and_then(|systems| systems.get(&summary.system)) else { return };
        channel.send_if_modified(|known| match known {
            Some(known) if known.written_at >= summary.written_at => false,
            _ => {
                let is_first = known.replace(Arc::new(summary)).is_none();
                notifies || !is_first
            }
        });
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, HashMap<SystemId, Channel>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// The system and its last uses, again after each flush about it on any instance, as
    /// [`notify_usage`](Self::notify_usage) finds it. Ends with an error as soon as the caller's session ends or the caller
    /// loses one of `permissions`.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if the tenant has no such system; the store's errors.
    pub async fn usage_changes(
        self: &Arc<Self>,
        caller: &Caller,
        permissions: Permissions,
        system: SystemId,
    ) -> Result<impl Stream<Item = Result<(System, Arc<UsageSummary>), Error>> + Send + use<>, Error> {
        let tenant = &caller.tenant;
        if self.find_system(tenant, system).await?.is_none() {
            let SystemState::Present(_) = self.store.recheck_system(tenant, system).await? else {
                return Err(Refusal::SystemNotFound.into());
            };
        }
        let changes = self.watch_usage(tenant, system).await?;
        let subscription = CallerSubscription::new(self, caller, Topic::Identities, Some(permissions));
        let state = (subscription, changes, self.metrics.subscriber());
        Ok(stream::try_unfold(state, |(mut subscription, mut changes, subscriber)| async move {
            loop {
                let summary = tokio::select! {
                    summary = next_summary(&mut changes) => summary,
                    event = subscription.next() => {
                        event?;
                        continue;
                    }
                };
                // Before each event: none is delivered to a session that has ended.
                subscription.refresh().await?;
                let CallerSubscription { service, caller, .. } = &subscription;
                let find = || service.store.find_system(&caller.tenant, summary.system);
                if let Some(system) = retry_while_unavailable(find).await? {
                    return Ok(Some(((system, summary), (subscription, changes, subscriber))));
                }
            }
        }))
    }

    /// Subscribes to the summaries of a system. The one that it has now is no change.
    async fn watch_usage(&self, tenant: &TenantId, system: SystemId) -> Result<Summaries, Error> {
        let mut summaries = self.usage_watch.subscribe(tenant, system);
        if summaries.borrow_and_update().is_none() {
            for summary in self.store.find_usage_summaries(tenant, &[system]).await? {
                self.usage_watch.publish(tenant, summary, false);
            }
        }
        Ok(summaries)
    }

    /// Reads the last uses of the systems that have subscribers, and notifies those whose systems were flushed.
    ///
    /// # Errors
    ///
    /// The store's errors. The next call finds what this one has missed.
    pub async fn notify_usage(&self) -> Result<(), Error> {
        for (tenant, systems) in self.usage_watch.watched() {
            for systems in systems.chunks(MAX_SYSTEMS_PER_READ) {
                for summary in self.store.find_usage_summaries(&tenant, systems).await? {
                    self.usage_watch.publish(&tenant, summary, true);
                }
            }
        }
        Ok(())
    }
}

async fn next_summary(summaries: &mut Summaries) -> Arc<UsageSummary> {
    // Fails never: a channel is kept for as long as it has subscribers.
    while summaries.changed().await.is_ok() {
        if let Some(summary) = &*summaries.borrow_and_update() {
            return Arc::clone(summary);
        }
    }
    std::future::pending().await
}
