//! Tenants: find, list and change them.

use std::sync::Arc;

use super::Caller;
use super::Service;
use super::commit::Decision;
use super::error::Error;
use crate::domain::audit::{AuditAction, AuditEvent, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::TenantId;
use crate::domain::permissions::Permission;
use crate::domain::tenants::Tenant;
use crate::domain::time::Timestamp;

impl Service {
    /// Returns the tenant. One that has only an audit log, since an instance of release 0.1 has added its operators, has
    /// revision 0.
    pub async fn find_tenant(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>, Error> {
        let cached = self.coherence.read(|cache| cache.identities.find_tenant(id));
        let found = match cached {
            Some(found) => found,
            None => self.store.find_tenant(id).await?.map(Arc::new),
        };
        match found {
            Some(tenant) => Ok(Some(tenant)),
            None => self.find_tenant_without_row(id).await,
        }
    }

    /// Returns the tenant if the caller may see it: the one that they act in, or any with `tenant_management:view`.
    pub async fn find_visible_tenant(&self, caller: &Caller, id: &TenantId) -> Result<Option<Arc<Tenant>>, Error> {
        let is_visible = *id == caller.tenant || caller.check(Permission::ViewTenants).is_ok();
        if is_visible { self.find_tenant(id).await } else { Ok(None) }
    }

    /// Returns the tenant as the store has it now, for a change.
    pub(super) async fn find_tenant_to_change(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>, Error> {
        match self.store.find_tenant(id).await? {
            Some(tenant) => Ok(Some(Arc::new(tenant))),
            None => self.find_tenant_without_row(id).await,
        }
    }

    async fn find_tenant_without_row(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>, Error> {
        if !self.is_without_row(id).await? {
            return Ok(None);
        }
        let first = self.store.list_audit_after(id, 0, 1).await?;
        let created_at = first.first().map_or_else(Timestamp::default, |entry| entry.event.occurred_at);
        Ok(Some(Arc::new(Tenant::without_row(id.clone(), created_at))))
    }

    /// Whether the tenant has no row and was not deleted: it has operators.
    async fn is_without_row(&self, id: &TenantId) -> Result<bool, Error> {
        Ok(!self.store.list_operators(Some(id)).await?.is_empty())
    }

    /// Suspends the tenant again in a restored store. Returns `false` if the store does not have it, or it is suspended.
    pub(super) async fn replay_tenant_suspension(&self, origin: &Origin, id: &TenantId) -> Result<bool, Error> {
        let suspended = self.change(|_| async move {
            let Some(tenant) = self.find_tenant_to_change(id).await? else { return Ok(Decision::Unchanged(false)) };
            let Some(suspended) = tenant.suspend(None, self.environment.now()) else {
                return Ok(Decision::Unchanged(false));
            };
            let event = self.event(origin, AuditAction::TenantSuspended).about_tenant(&suspended);
            Ok(Decision::commit(Batch::new(id.clone(), event).replace(Row::Tenant(suspended)), true))
        });
        self.require_enforced(suspended.await?).await
    }

    /// Deletes the tenant again in a restored store. Returns `false` if the store does not have it.
    pub(super) async fn replay_tenant_deletion(&self, origin: &Origin, id: &TenantId) -> Result<bool, Error> {
        let deleted = self.change(|_| async move {
            let Some(tenant) = self.find_tenant_to_change(id).await? else { return Ok(Decision::Unchanged(false)) };
            let event = self.event(origin, AuditAction::TenantDeleted);
            Ok(Decision::commit(self.deletion(&tenant, event.about_tenant(&tenant)).await?, true))
        });
        self.require_enforced(deleted.await?).await
    }

    /// The deletion of a tenant with its operators and tokens.
    pub(super) async fn deletion(&self, tenant: &Tenant, event: AuditEvent) -> Result<Batch, Error> {
        let mut batch = Batch::new(tenant.id.clone(), event);
        for operator in self.store.list_operators(Some(&tenant.id)).await? {
            batch = batch.delete(&Row::Operator(operator));
        }
        for token in self.store.list_tokens(&tenant.id).await? {
            batch = batch.delete(&Row::Token(token));
        }
        Ok(if tenant.revision == 0 { batch } else { batch.delete(&Row::Tenant(tenant.clone())) })
    }
}
