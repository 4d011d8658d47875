//! Systems: list, create, rename, delete.

use super::commit::{Committed, Decision, Reads};
use super::error::Error;
use super::keys::{end_keys, update_keys};
use super::{Caller, Enforcement, Request, Service};
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row};
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::KeyEnd;
use crate::domain::pages::{Page, PageRequest};
use crate::domain::refusal::Refusal;
use crate::domain::system_lists::{ListOrder, SystemQuery};
use crate::domain::system_names::{Search, SystemName};
use crate::domain::systems::{System, SystemSortKey};
use crate::domain::texts::{Description, Reason};
use crate::store::SystemState;

impl Service {
    pub async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>, Error> {
        Ok(self.store.find_system(tenant, id).await?)
    }

    pub async fn list_systems(
        &self,
        caller: &Caller,
        query: &SystemQuery,
        order: ListOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<(SystemSortKey, System)>, Error> {
        let is_light = is_light(query) && (order.stored().is_some() || !query.selection.is_of_all());
        let _turn = self.begin_read_unless(is_light, caller).await?;
        Ok(self.coherence.list_systems(&caller.tenant, query, order, page).await?)
    }

    pub async fn count_systems(&self, caller: &Caller, query: &SystemQuery) -> Result<u64, Error> {
        let _turn = self.begin_read_unless(is_light(query), caller).await?;
        Ok(self.coherence.count_systems(&caller.tenant, query).await?)
    }

    /// Creates a system under a name that is free in the tenant.
    pub async fn create_system(
        &self,
        caller: &Caller,
        request: Request,
        name: &str,
        description: Option<Description>,
    ) -> Result<System, Error> {
        let name = SystemName::parse(name).map_err(Refusal::InvalidName)?;
        if description.is_some() {
            self.require_second_format()?;
        }
        let (tenant, description) = (&caller.tenant, &description);
        let created = self.change(|_| async {
            let now = self.environment.now();
            let id = SystemId::new(now, &mut **self.environment.rng());
            let description = description.clone();
            let system = System { description, ..System::new(id, tenant.clone(), name.clone(), now) };
            let event = self.event(&caller.origin(request), AuditAction::SystemCreated).about_system(&system);
            let Some(row) = self.find_tenant(tenant).await? else {
                return Ok(Decision::Refuse(Refusal::TenantNotFound));
            };
            let batch = Batch::new(tenant.clone(), event).insert(Row::System(system.clone())).requires_tenant(&row);
            Ok(Decision::commit(batch, system))
        });
        // Systems are read from the store; only their names are cached, for searches, which need no barrier.
        Ok(created.await?.without_waiting())
    }

    /// Changes the name of a system. The same name changes nothing.
    pub async fn rename_system(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        name: &str,
        expected_revision: Option<u64>,
    ) -> Result<System, Error> {
        let name = SystemName::parse(name).map_err(Refusal::InvalidName)?;
        let tenant = &caller.tenant;
        let renamed = self.change(|_| async {
            let system = self.load_system(tenant, id).await?;
            let Some(renamed) = system.rename(name.clone(), expected_revision, self.environment.now())? else {
                return Ok(Decision::Unchanged(system));
            };
            let event = self
                .event(&caller.origin(request), AuditAction::SystemRenamed)
                .about_system(&renamed)
                .renamed_from(system.name.as_str());
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(renamed.clone()));
            Ok(Decision::commit(update_keys(batch, &keys, &renamed), renamed))
        });
        // Until it is enforced, an instance may return the old name with the verdict on the key; the verdict is the same.
        Ok(renamed.await?.without_waiting())
    }

    /// Changes the description of a system. The same description changes nothing.
    pub async fn describe_system(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        description: Option<Description>,
        expected_revision: Option<u64>,
    ) -> Result<System, Error> {
        if description.is_some() {
            self.require_second_format()?;
        }
        let (tenant, description) = (&caller.tenant, &description);
        let described = self.change(|_| async {
            let system = self.load_system(tenant, id).await?;
            let now = self.environment.now();
            let Some(described) = system.describe(description.clone(), expected_revision, now)? else {
                return Ok(Decision::Unchanged(system));
            };
            let event = self.event(&caller.origin(request), AuditAction::SystemDescribed).about_system(&described);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(described.clone()));
            Ok(Decision::commit(batch, described))
        });
        // No verdict depends on it.
        Ok(described.await?.without_waiting())
    }

    /// Changes the external id of a system, or removes it. The same one changes nothing.
    pub async fn set_external_id(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        external_id: Option<ExternalId>,
    ) -> Result<System, Error> {
        if external_id.is_some() {
            self.require_second_format()?;
        }
        let (tenant, external_id) = (&caller.tenant, &external_id);
        let changed = self.change(|_| async {
            let system = self.load_system(tenant, id).await?;
            let Some(changed) = system.set_external_id(external_id.clone(), self.environment.now()) else {
                return Ok(Decision::Unchanged(system));
            };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let event = self.event(&caller.origin(request), AuditAction::ExternalIdChanged).about_system(&changed);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(changed.clone()));
            Ok(Decision::commit(update_keys(batch, &keys, &changed), changed))
        });
        // As after a rename, an instance may return the old one with the verdict for a moment; the verdict is the same.
        Ok(changed.await?.without_waiting())
    }

    /// Suspends a system. No instance accepts its keys once [`Enforcement::is_enforced`]. A system that is suspended
    /// already stays as it is.
    pub async fn suspend_system(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        reason: Option<Reason>,
    ) -> Result<(System, Enforcement), Error> {
        self.require_second_format()?;
        let (tenant, reason) = (&caller.tenant, &reason);
        let suspended = self.change_system(tenant, id, |system| async move {
            let Some(suspended) = system.suspend(reason.clone(), self.environment.now()) else {
                return Ok(Decision::Repeat(Ok(system)));
            };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::SystemSuspended)
                .about_system(&suspended)
                .because(reason.clone());
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(suspended.clone()));
            Ok(Decision::commit(update_keys(batch, &keys, &suspended), suspended))
        });
        Ok(self.wait_until_enforced(suspended.await?).await)
    }

    /// Ends the suspension of a system. Every instance accepts its keys again once [`Enforcement::is_enforced`].
    pub async fn resume_system(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
    ) -> Result<(System, Enforcement), Error> {
        let tenant = &caller.tenant;
        let resumed = self.change_system(tenant, id, |system| async move {
            let resumed = match system.resume(self.environment.now()) {
                Ok(resumed) => resumed,
                Err(refusal) => return Ok(Decision::Repeat(Err(refusal))),
            };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let event = self.event(&caller.origin(request), AuditAction::SystemResumed).about_system(&resumed);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(resumed.clone()));
            Ok(Decision::commit(update_keys(batch, &keys, &resumed), resumed))
        });
        Ok(self.wait_until_enforced(resumed.await?).await)
    }

    /// Deletes a system. No instance accepts its keys once [`Enforcement::is_enforced`].
    pub async fn delete_system(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        reason: Option<Reason>,
    ) -> Result<Enforcement, Error> {
        let (tenant, reason) = (&caller.tenant, &reason);
        let deleted = self.change_system(tenant, id, |system| async move {
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::SystemDeleted)
                .about_deleted_system(&system)
                .about_keys_of(&system)
                .because(reason.clone());
            let batch = Batch::new(tenant.clone(), event).delete(&Row::System(system.clone()));
            Ok(Decision::commit(end_keys(batch, &keys, KeyEnd::SystemDeleted, self.environment.now()), ()))
        });
        let ((), enforcement) = self.wait_until_enforced(deleted.await?).await;
        Ok(enforcement)
    }

    /// Refuses a change that an instance of release 0.1 would not enforce, while one is running.
    pub(super) fn require_second_format(&self) -> Result<(), Refusal> {
        if self.coherence.knows_first_release() { Err(Refusal::OldInstances) } else { Ok(()) }
    }

    pub(super) async fn load_system(&self, tenant: &TenantId, id: SystemId) -> Result<System, Error> {
        self.find_system(tenant, id).await?.ok_or_else(|| Refusal::SystemNotFound.into())
    }

    /// Makes a change of a system as [`change`](Self::change) does, after the system was found.
    pub(super) async fn change_system<T, F>(
        &self,
        tenant: &TenantId,
        id: SystemId,
        decide: impl Fn(System) -> F,
    ) -> Result<Committed<T>, Error>
    where
        F: Future<Output = Result<Decision<T>, Error>>,
    {
        let decide = &decide;
        let changed = self.change(|reads| async move {
            match self.find_system_to_change(tenant, id, reads).await? {
                Ok(system) => decide(system).await,
                Err(decision) => Ok(decision),
            }
        });
        changed.await
    }

    /// Returns the system, or how to decide on one that does not exist: a repeat, if it was deleted.
    pub(super) async fn find_system_to_change<T>(
        &self,
        tenant: &TenantId,
        id: SystemId,
        reads: Reads,
    ) -> Result<Result<System, Decision<T>>, Error> {
        let state = match reads {
            Reads::Linearizable => self.store.recheck_system(tenant, id).await?,
            // Whether it was deleted is found by the second read.
            Reads::Majority => self.find_system(tenant, id).await?.map_or(SystemState::Unknown, SystemState::Present),
        };
        Ok(match state {
            SystemState::Present(system) => Ok(system),
            SystemState::Deleted => Err(Decision::Repeat(Err(Refusal::SystemNotFound))),
            SystemState::Unknown => Err(Decision::Refuse(Refusal::SystemNotFound)),
        })
    }
}

/// Whether the work of a list does not grow with the number of the tenant's systems.
fn is_light(query: &SystemQuery) -> bool {
    !query.selection.is_of_all() || query.filter.is_empty() && !matches!(query.search, Search::Containing(_))
}
