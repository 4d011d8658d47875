//! Systems: listed, created, renamed, deleted.

use super::error::Error;
use super::keys::Enforcement;
use super::{Caller, Request, Service};
use crate::domain::audit::{AuditAction, AuditFilter, AuditOutcome};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::refusal::Refusal;
use crate::domain::system_names::{Search, SystemName};
use crate::domain::systems::{System, SystemOrder, SystemSortKey};

impl Service {
    pub async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>, Error> {
        Ok(self.store.find_system(tenant, id).await?)
    }

    pub async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>, Error> {
        Ok(self.coherence.list_systems(tenant, search, order, page).await?)
    }

    pub async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64, Error> {
        Ok(self.coherence.count_systems(tenant, search).await?)
    }

    /// Registers a system under a name that is free in the tenant.
    pub async fn create_system(&self, caller: &Caller, request: Request, name: &str) -> Result<System, Error> {
        let name = SystemName::parse(name).map_err(Refusal::InvalidName)?;
        let tenant = &caller.operator.tenant;
        let mut tries = 0;
        loop {
            let now = self.environment.now();
            let id = SystemId::new(now, &mut **self.environment.rng());
            let system = System::new(id, tenant.clone(), name.clone(), now);
            let event = self.event(&caller.origin(request), AuditAction::SystemCreated).about_system(&system);
            let batch = Batch::new(tenant.clone(), event).insert(Row::System(system.clone()));
            if self.try_commit(batch, &mut tries).await?.is_some() {
                return Ok(system);
            }
        }
    }

    /// Gives a system another name; the very same one changes nothing.
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
        let mut tries = 0;
        loop {
            let system = self.load_system(tenant, id).await?;
            let Some(renamed) = system.rename(name.clone(), expected_revision, self.environment.now())? else {
                return Ok(system);
            };
            let event = self
                .event(&caller.origin(request), AuditAction::SystemRenamed)
                .about_system(&renamed)
                .renamed_from(system.name.as_str());
            let mut batch = Batch::new(tenant.clone(), event).replace(Row::System(renamed.clone()));
            if let Some(current) = system.key {
                let Some(key) = self.load_current_key(&current, &mut tries).await? else { continue };
                batch = batch.replace(Row::Key(key.renamed(name.clone())));
            }
            if self.try_commit(batch, &mut tries).await?.is_some() {
                return Ok(renamed);
            }
        }
    }

    /// Removes a system for good; its key, if it has one, is refused from then on.
    pub async fn delete_system(&self, caller: &Caller, request: Request, id: SystemId) -> Result<Enforcement, Error> {
        let tenant = &caller.operator.tenant;
        let mut tries = 0;
        loop {
            let system = self.load_or_repeat(tenant, id).await?;
            let mut event =
                self.event(&caller.origin(request), AuditAction::SystemDeleted).about_deleted_system(&system);
            if let Some(current) = system.key {
                event = event.about_key(current.mark);
            }
            let mut batch = Batch::new(tenant.clone(), event).delete(&Row::System(system.clone()));
            if let Some(current) = system.key {
                let Some(key) = self.load_current_key(&current, &mut tries).await? else { continue };
                batch = batch.replace(Row::Key(key.revoked(self.environment.now())));
            }
            if let Some(barrier) = self.try_commit(batch, &mut tries).await? {
                return Ok(self.enforce(barrier).await);
            }
        }
    }

    pub(super) async fn load_system(&self, tenant: &TenantId, id: SystemId) -> Result<System, Error> {
        self.find_system(tenant, id).await?.ok_or_else(|| Refusal::NotFound.into())
    }

    /// The system; one that was deleted is refused only once its deletion is enforced everywhere.
    pub(super) async fn load_or_repeat(&self, tenant: &TenantId, id: SystemId) -> Result<System, Error> {
        let loaded = self.load_system(tenant, id).await;
        if matches!(loaded, Err(Error::Refused(Refusal::NotFound))) {
            let deletion = AuditFilter {
                system: Some(id),
                actions: Some(vec![AuditAction::SystemDeleted]),
                outcome: Some(AuditOutcome::Done),
                ..AuditFilter::default()
            };
            if self.store.count_audit(tenant, &deletion).await? > 0 {
                self.enforce_repeat().await?;
            }
        }
        loaded
    }
}
