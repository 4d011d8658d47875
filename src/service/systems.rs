//! Systems: list, create, rename, delete.

use super::commit::{Decision, Reads};
use super::error::Error;
use super::{Caller, Enforcement, Request, Service};
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::refusal::Refusal;
use crate::domain::system_names::{Search, SystemName};
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::store::SystemState;

impl Service {
    pub async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>, Error> {
        Ok(self.store.find_system(tenant, id).await?)
    }

    pub async fn list_systems(
        &self,
        caller: &Caller,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>, Error> {
        let _turn = self.begin_read_unless(!matches!(search, Search::Containing(_)), caller).await?;
        Ok(self.coherence.list_systems(&caller.operator.tenant, search, order, page).await?)
    }

    pub async fn count_systems(&self, caller: &Caller, search: &Search) -> Result<u64, Error> {
        let _turn = self.begin_read_unless(!matches!(search, Search::Containing(_)), caller).await?;
        Ok(self.coherence.count_systems(&caller.operator.tenant, search).await?)
    }

    /// Creates a system under a name that is free in the tenant.
    pub async fn create_system(&self, caller: &Caller, request: Request, name: &str) -> Result<System, Error> {
        let name = SystemName::parse(name).map_err(Refusal::InvalidName)?;
        let tenant = &caller.operator.tenant;
        let created = self.change(|_| async {
            let now = self.environment.now();
            let id = SystemId::new(now, &mut **self.environment.rng());
            let system = System::new(id, tenant.clone(), name.clone(), now);
            let event = self.event(&caller.origin(request), AuditAction::SystemCreated).about_system(&system);
            let batch = Batch::new(tenant.clone(), event).insert(Row::System(system.clone()));
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
        let tenant = &caller.operator.tenant;
        let renamed = self.change(|_| async {
            let system = self.load_system(tenant, id).await?;
            let Some(renamed) = system.rename(name.clone(), expected_revision, self.environment.now())? else {
                return Ok(Decision::Unchanged(system));
            };
            let event = self
                .event(&caller.origin(request), AuditAction::SystemRenamed)
                .about_system(&renamed)
                .renamed_from(system.name.as_str());
            let mut batch = Batch::new(tenant.clone(), event).replace(Row::System(renamed.clone()));
            if let Some(current) = system.key {
                let Some(key) = self.load_current_key(&current).await? else { return Ok(Decision::Retry) };
                batch = batch.replace(Row::Key(key.renamed(name.clone())));
            }
            Ok(Decision::commit(batch, renamed))
        });
        // Until it is enforced, an instance may return the old name with the verdict on the key; the verdict is the same.
        Ok(renamed.await?.without_waiting())
    }

    /// Deletes a system. No instance accepts its key once [`Enforcement::is_enforced`].
    pub async fn delete_system(&self, caller: &Caller, request: Request, id: SystemId) -> Result<Enforcement, Error> {
        let tenant = &caller.operator.tenant;
        let deleted = self.change(|reads| async move {
            let system = match self.find_system_to_change(tenant, id, reads).await? {
                Ok(system) => system,
                Err(decision) => return Ok(decision),
            };
            let mut event =
                self.event(&caller.origin(request), AuditAction::SystemDeleted).about_deleted_system(&system);
            if let Some(current) = system.key {
                event = event.about_key(current.mark);
            }
            let mut batch = Batch::new(tenant.clone(), event).delete(&Row::System(system.clone()));
            if let Some(current) = system.key {
                let Some(key) = self.load_current_key(&current).await? else { return Ok(Decision::Retry) };
                batch = batch.replace(Row::Key(key.revoked(self.environment.now())));
            }
            Ok(Decision::commit(batch, ()))
        });
        let ((), enforcement) = self.wait_until_enforced(deleted.await?).await;
        Ok(enforcement)
    }

    pub(super) async fn load_system(&self, tenant: &TenantId, id: SystemId) -> Result<System, Error> {
        self.find_system(tenant, id).await?.ok_or_else(|| Refusal::SystemNotFound.into())
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
