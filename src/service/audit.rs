//! The audit log: read, verify and export it, and record refused attempts.

use std::error::Error as _;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};

use super::commit::Committed;
use super::error::Error;
use super::{Caller, Request, Service, origin};
use crate::audit_text::{self, Format};
use crate::domain::audit::{
    AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditHead, AuditOutcome, ChainBreak,
};
use crate::domain::changes::Batch;
use crate::domain::ids::{AuditEntryId, SystemId, TenantId};
use crate::domain::pages::{Page, PageEnd, PageRequest};
use crate::domain::permissions::Permission;
use crate::domain::refusal::ErrorCode;
use crate::domain::verdict::RevokedKey;
use crate::store::StoreError;

/// Entries per read when a whole log is verified or exported.
const PAGE_SIZE: usize = 500;

/// Who exports an audit log, and so which tenant's.
pub enum Exporter {
    /// An operator, of their tenant's log. The export ends with an error when they lose the permission to view it.
    Operator(Arc<Caller>),
    /// Somebody with access to the server's machine.
    CommandLine(TenantId),
}

impl Exporter {
    fn tenant(&self) -> &TenantId {
        match self {
            Self::Operator(caller) => &caller.operator.tenant,
            Self::CommandLine(tenant) => tenant,
        }
    }

    fn actor(&self) -> AuditActor {
        match self {
            Self::Operator(caller) => AuditActor::operator(&caller.operator),
            Self::CommandLine(_) => AuditActor::command_line(),
        }
    }
}

impl Service {
    pub async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>, Error> {
        Ok(self.store.find_audit_entry(tenant, id).await?)
    }

    pub async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>, Error> {
        Ok(self.store.list_audit(tenant, filter, page).await?)
    }

    pub async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64, Error> {
        Ok(self.store.count_audit(tenant, filter).await?)
    }

    pub async fn list_tenants(&self) -> Result<Vec<TenantId>, Error> {
        Ok(self.store.list_tenants().await?)
    }

    /// Reads a tenant's whole log and checks its chain. Returns the number of entries, or the first break.
    pub async fn verify_audit(&self, tenant: &TenantId) -> Result<Result<u64, ChainBreak>, Error> {
        let mut head = AuditHead::default();
        loop {
            let mut entries = self.store.list_audit_after(tenant, head.number, PAGE_SIZE).await;
            if let Err(StoreError::Corrupt(_)) = entries {
                entries = self.store.list_audit_after(tenant, head.number, 1).await;
            }
            let entries = match entries {
                Err(StoreError::Corrupt(_)) => return Ok(Err(ChainBreak::Unreadable { number: head.number + 1 })),
                entries => entries?,
            };
            if entries.is_empty() {
                return Ok(Ok(head.number));
            }
            for entry in entries {
                if let Err(broken) = entry.check(&head) {
                    return Ok(Err(broken));
                }
                head = entry.head();
            }
        }
    }

    /// Exports the entries that match as text, oldest first, and records the export in the log. The first item of the
    /// stream is the header of the format; each further one is a page of entries.
    pub async fn export_audit(
        self: &Arc<Self>,
        request: Request,
        exporter: Exporter,
        filter: AuditFilter,
        format: Format,
    ) -> Result<impl Stream<Item = Result<String, Error>> + Send + use<>, Error> {
        let event = self.event(&origin(exporter.actor(), request), AuditAction::AuditExported);
        self.commit(Batch::new(exporter.tenant().clone(), event)).await?.without_waiting();
        let header = stream::iter([Ok(audit_text::header(format))]);
        let state = (Arc::clone(self), exporter, filter, Some(None));
        // The log is listed newest first, so its oldest entries are at its last end, before those read already.
        let pages = stream::try_unfold(state, move |(service, exporter, filter, before)| async move {
            let Some(before) = before else { return Ok(None) };
            if let Exporter::Operator(caller) = &exporter {
                service.refresh_caller(caller).await?.check(Permission::View)?;
            }
            let page = PageRequest { after: None, before, limit: PAGE_SIZE, from: PageEnd::Last };
            let page = service.list_audit(exporter.tenant(), &filter, &page).await?;
            let Some(newest) = page.items.first() else { return Ok(None) };
            let next = page.has_more.then_some(Some(newest.number));
            let text = page.items.iter().rev().map(|entry| audit_text::line(entry, format)).collect::<String>();
            Ok(Some((text, (service, exporter, filter, next))))
        });
        Ok(header.chain(pages))
    }

    /// Refuses a caller without the permission, and records the attempt.
    pub async fn require_permission(
        &self,
        caller: &Caller,
        request: Request,
        permission: Permission,
    ) -> Result<(), Error> {
        let Err(refusal) = caller.check(permission) else { return Ok(()) };
        let event = self
            .event(&caller.origin(request), AuditAction::PermissionRefused)
            .refused(ErrorCode::Forbidden, 1)
            .with_permissions([permission].into_iter().collect());
        let tenant = &caller.operator.tenant;
        if let Some(event) = self.refused_attempts.admit(tenant, event) {
            self.write_refusal(tenant.clone(), event).await;
        }
        Err(refusal.into())
    }

    /// Records after the response that a revoked key was presented.
    pub fn record_revoked_key_presented(self: &Arc<Self>, request: Request, key: &RevokedKey) {
        let mut event =
            self.event(&origin(AuditActor::anonymous(), request), AuditAction::RevokedKeyPresented).about_key(key.mark);
        event.system = Some(key.system);
        event.outcome = AuditOutcome::Refused;
        self.record_refusal_after_response(key.tenant.clone(), event);
    }

    pub(super) fn record_refusal_after_response(self: &Arc<Self>, tenant: TenantId, event: AuditEvent) {
        if let Some(event) = self.refused_attempts.admit(&tenant, event) {
            let this = Arc::clone(self);
            self.spawn_after_response(async move { this.write_refusal(tenant, event).await });
        }
    }

    /// Writes an entry. A failure is only logged: the attempt stays refused.
    async fn write_refusal(&self, tenant: TenantId, mut event: AuditEvent) {
        let written = async {
            if let (Some(system), None) = (event.system, &event.system_name) {
                event.system_name = self.last_system_name(&tenant, system).await?;
            }
            self.commit(Batch::new(tenant, event)).await.map(Committed::without_waiting)
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, cause = error.source(), "refused attempt not written to the audit log");
        }
    }

    /// The name of a system, or its last name if it was deleted.
    async fn last_system_name(&self, tenant: &TenantId, system: SystemId) -> Result<Option<String>, Error> {
        if let Some(system) = self.store.find_system(tenant, system).await? {
            return Ok(Some(system.name.to_string()));
        }
        let about = AuditFilter { system: Some(system), ..AuditFilter::default() };
        let newest = self.store.list_audit(tenant, &about, &PageRequest::first(1)).await?;
        Ok(newest.items.into_iter().next().and_then(|entry| entry.event.system_name))
    }

    /// Writes aggregated attempts that would otherwise wait for a further one. To be called about once a minute.
    pub async fn write_due_refusals(&self) {
        for (tenant, event) in self.refused_attempts.take_due(self.environment.now()) {
            self.write_refusal(tenant, event).await;
        }
    }

    /// Writes all aggregated attempts, before the process ends.
    pub async fn write_remaining_refusals(&self) {
        for (tenant, event) in self.refused_attempts.take_all() {
            self.write_refusal(tenant, event).await;
        }
    }
}
