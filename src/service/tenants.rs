//! Tenants: find, list and change them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::commit::{Committed, Decision};
use super::error::Error;
use super::{Caller, Enforcement, Request, Service};
use crate::domain::audit::{AuditAction, AuditEvent, Origin};
use crate::domain::changes::{Batch, Row, RowId, Write};
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::permissions::Permission;
use crate::domain::refusal::Refusal;
use crate::domain::system_names::Search;
use crate::domain::tenants::Tenant;
use crate::domain::texts::Reason;
use crate::domain::time::Timestamp;

/// Tenants of a page whose systems are counted concurrently.
const MAX_CONCURRENT_COUNTS: usize = 4;

/// A tenant, as a list of all describes it.
pub struct TenantOverview {
    pub tenant: Arc<Tenant>,
    pub systems: u64,
    pub has_operator: bool,
}

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
        match self.store.find_tenant_to_change(id).await? {
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

    /// Returns the tenants that match, ordered by id, and the number of all that match.
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a caller who is not of the platform.
    pub async fn list_tenants(
        &self,
        caller: &Caller,
        search: &Search,
        page: &PageRequest<TenantId>,
    ) -> Result<(Page<Arc<Tenant>>, u64), Error> {
        caller.check_platform()?;
        let _turn = self.begin_read_unless(*search == Search::All, caller).await?;
        let mut tenants = self.all_tenants().await?;
        tenants.retain(|tenant| tenant.matches(search));
        let total = tenants.len() as u64;
        Ok((Page::of_list(tenants, page, |tenant| tenant.id.clone()), total))
    }

    /// Returns all tenants that have a row, ordered by id.
    pub async fn all_tenants(&self) -> Result<Vec<Arc<Tenant>>, Error> {
        match self.coherence.read(|cache| cache.identities.all_tenants()) {
            Some(cached) => Ok(cached),
            None => Ok(self.store.list_all_tenants().await?.into_iter().map(Arc::new).collect()),
        }
    }

    /// Describes all tenants that have a row, ordered by id.
    pub async fn describe_tenants(&self) -> Result<Vec<TenantOverview>, Error> {
        let operators = self.store.list_operators(None).await?;
        let with_operators: HashSet<_> = operators.into_iter().map(|operator| operator.tenant).collect();
        let systems = self.store.count_systems_by_tenant().await?;
        let mut tenants = Vec::new();
        for tenant in self.store.list_all_tenants().await? {
            let systems = systems.get(&tenant.id).copied().unwrap_or(0);
            let has_operator = with_operators.contains(&tenant.id);
            tenants.push(TenantOverview { tenant: Arc::new(tenant), systems, has_operator });
        }
        Ok(tenants)
    }

    /// Returns the number of systems of each of these tenants, in their order. Reads the store, so that a list of tenants does
    /// not fill the cache with their names.
    pub async fn count_systems_of(&self, caller: &Caller, tenants: &[TenantId]) -> Result<Vec<u64>, Error> {
        // One turn for all: each operator has a few, and a page has many tenants.
        let _turn = self.concurrency.begin_read(caller).await?;
        let counts = stream::iter(tenants.to_vec());
        let counts = counts.map(async |tenant| self.store.count_systems(&tenant, &Search::All).await);
        Ok(counts.buffered(MAX_CONCURRENT_COUNTS).try_collect().await?)
    }

    /// The origin of a change of a tenant: of an entry in its own log.
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a caller who is not of the platform.
    pub fn origin_in_tenant(&self, caller: &Caller, request: Request, id: &TenantId) -> Result<Origin, Error> {
        caller.check_platform()?;
        Ok(caller.acting_in(id).origin(request))
    }

    /// The origin of a change of a tenant which locks out who belongs to it.
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a caller who is not of the platform, and without `operator_management:edit` for a tenant that has
    /// operators of the platform; `BAD_USER_INPUT` for the caller's own tenant.
    pub async fn origin_in_other_tenant(
        &self,
        caller: &Caller,
        request: Request,
        id: &TenantId,
    ) -> Result<Origin, Error> {
        let origin = self.origin_in_tenant(caller, request, id)?;
        if caller.home() == id {
            let message = "This is your own tenant, and would lock you out. Use the command line, `keymark tenant`.";
            return Err(Refusal::BadUserInput(message.to_owned()).into());
        }
        if self.operators_of(id).await?.iter().any(|operator| operator.is_platform) {
            // It suspends or removes them too.
            caller.check(Permission::EditOperators)?;
        }
        Ok(origin)
    }

    /// Creates a tenant. If one with this id was deleted, its audit log continues.
    ///
    /// # Errors
    ///
    /// `BAD_USER_INPUT` for the id; `INVALID_NAME`; `NAME_TAKEN` if the id exists.
    pub async fn create_tenant(
        &self,
        origin: &Origin,
        id: &TenantId,
        name: &str,
    ) -> Result<(Tenant, Enforcement), Error> {
        let name = Tenant::parse_name(name).map_err(Refusal::InvalidName)?;
        self.require_second_format()?;
        let name = &name;
        let created = self.change(|_| async move {
            if self.find_tenant_to_change(id).await?.is_some() {
                return Ok(Decision::Refuse(Refusal::TenantIdTaken));
            }
            let tenant = Tenant::new(id.clone(), name.clone(), self.environment.now());
            let event = self.event(origin, AuditAction::TenantCreated).about_tenant(&tenant);
            Ok(Decision::commit(Batch::new(id.clone(), event).insert(Row::Tenant(tenant.clone())), tenant))
        });
        // The cache is decisive on which tenants exist.
        Ok(self.wait_until_enforced(created.await?).await)
    }

    /// Changes the display name of a tenant. The same name changes nothing.
    pub async fn rename_tenant(
        &self,
        origin: &Origin,
        id: &TenantId,
        name: &str,
    ) -> Result<(Tenant, Enforcement), Error> {
        let name = Tenant::parse_name(name).map_err(Refusal::InvalidName)?;
        self.require_second_format()?;
        let name = &name;
        let renamed = self.change_tenant(id, |tenant| async move {
            let Some(renamed) = tenant.rename(name.clone(), self.environment.now()) else {
                return Ok(Decision::Unchanged((*tenant).clone()));
            };
            let event = self
                .event(origin, AuditAction::TenantRenamed)
                .about_tenant(&renamed)
                .renamed_from(tenant.name.as_str());
            Ok(Decision::commit(Batch::new(id.clone(), event).replace(Row::Tenant(renamed.clone())), renamed))
        });
        Ok(self.wait_until_enforced(renamed.await?).await)
    }

    /// Suspends a tenant. No instance accepts its keys, sessions and tokens once [`Enforcement::is_enforced`]. One that is
    /// suspended already stays as it is.
    pub async fn suspend_tenant(
        &self,
        origin: &Origin,
        id: &TenantId,
        reason: Option<Reason>,
    ) -> Result<(Tenant, Enforcement), Error> {
        self.require_second_format()?;
        let reason = &reason;
        let suspended = self.change_tenant(id, |tenant| async move {
            let Some(suspended) = tenant.suspend(reason.clone(), self.environment.now()) else {
                return Ok(Decision::Repeat(Ok((*tenant).clone())));
            };
            let event =
                self.event(origin, AuditAction::TenantSuspended).about_tenant(&suspended).because(reason.clone());
            Ok(Decision::commit(Batch::new(id.clone(), event).replace(Row::Tenant(suspended.clone())), suspended))
        });
        Ok(self.wait_until_enforced(suspended.await?).await)
    }

    /// Ends the suspension of a tenant. Every instance accepts its keys, sessions and tokens again once
    /// [`Enforcement::is_enforced`].
    pub async fn resume_tenant(&self, origin: &Origin, id: &TenantId) -> Result<(Tenant, Enforcement), Error> {
        let resumed = self.change_tenant(id, |tenant| async move {
            let resumed = match tenant.resume(self.environment.now()) {
                Ok(resumed) => resumed,
                Err(refusal) => return Ok(Decision::Repeat(Err(refusal))),
            };
            let event = self.event(origin, AuditAction::TenantResumed).about_tenant(&resumed);
            Ok(Decision::commit(Batch::new(id.clone(), event).replace(Row::Tenant(resumed.clone())), resumed))
        });
        Ok(self.wait_until_enforced(resumed.await?).await)
    }

    /// Deletes a tenant without systems, with its operators and tokens. Its audit log stays.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; `TENANT_NOT_EMPTY`; [`Error::NotEnforced`] if an instance may still accept a session or token of it.
    pub async fn delete_tenant(self: &Arc<Self>, origin: &Origin, id: &TenantId) -> Result<(), Error> {
        self.require_second_format()?;
        let deleted = self.change_tenant(id, |tenant| async move {
            let event = self.event(origin, AuditAction::TenantDeleted).about_tenant(&tenant);
            let batch = self.deletion(&tenant, event).await?;
            let removed: Vec<_> = batch.writes.iter().filter_map(|(_, write)| removed_operator(write)).collect();
            Ok(Decision::commit(batch, removed))
        });
        let removed = self.require_enforced(deleted.await?).await?;
        for operator in removed {
            self.purge_ended_sessions(operator, u64::MAX);
        }
        Ok(())
    }

    /// Makes a change of a tenant as [`change`](Self::change) does, after the tenant was found.
    pub(super) async fn change_tenant<T, F>(
        &self,
        id: &TenantId,
        decide: impl Fn(Arc<Tenant>) -> F,
    ) -> Result<Committed<T>, Error>
    where
        F: Future<Output = Result<Decision<T>, Error>>,
    {
        let decide = &decide;
        let changed = self.change(|_| async move {
            match self.find_tenant_to_change(id).await? {
                Some(tenant) => decide(tenant).await,
                // An earlier request may have deleted it.
                None => Ok(Decision::Repeat(Err(Refusal::TenantNotFound))),
            }
        });
        changed.await
    }

    /// Adds to a batch that its tenant exists, or the tenant's row, named by its id, if it has none.
    pub(super) async fn with_tenant(&self, batch: Batch) -> Result<Batch, Error> {
        let found = self.find_tenant_to_change(&batch.tenant).await?;
        Ok(match found {
            Some(tenant) if tenant.revision > 0 => batch.requires_tenant(&tenant),
            // The row is added when the last instance of release 0.1 has ended.
            _ if self.require_second_format().is_err() => batch,
            found => {
                let (id, now) = (batch.tenant.clone(), self.environment.now());
                let created_at = found.map_or(now, |tenant| tenant.created_at);
                let name = Tenant::name_of(&id);
                batch.insert(Row::Tenant(Tenant { created_at, ..Tenant::new(id, name, now) }))
            }
        })
    }

    /// The deletion of a tenant with its operators and tokens.
    async fn deletion(&self, tenant: &Tenant, event: AuditEvent) -> Result<Batch, Error> {
        // The store checks it only for a tenant with a row.
        if tenant.revision == 0 && self.store.count_systems(&tenant.id, &Search::All).await? > 0 {
            return Err(Refusal::TenantNotEmpty.into());
        }
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

fn removed_operator(write: &Write) -> Option<OperatorId> {
    match write {
        Write::Delete(RowId::Operator(id)) => Some(*id),
        _ => None,
    }
}
