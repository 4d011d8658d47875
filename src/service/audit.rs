//! The audit log: read and export it, and record refused attempts.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};

use super::commit::Committed;
use super::concurrency::Slot;
use super::error::Error;
use super::{Caller, Request, Service, origin};
use crate::audit_text::{self, Format};
use crate::domain::actors::CommandUser;
use crate::domain::audit::{
    AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditHead, AuditOutcome, ChainBreak, EntryHash,
};
use crate::domain::changes::Batch;
use crate::domain::checkpoints::Checkpoint;
use crate::domain::cursors::AuditPosition;
use crate::domain::exports::{ExportProgress, ExportedEntry};
use crate::domain::ids::{AuditEntryId, SystemId, TenantId};
use crate::domain::pages::{Page, PageEnd, PageRequest};
use crate::domain::permissions::Permission;
use crate::domain::refusal::{ErrorCode, Refusal};
use crate::domain::verdict::{RefusalReason, RefusedKey};
use crate::store::StoreError;

/// Entries per read of an export.
const PAGE_SIZE: usize = 500;

/// Who exports an audit log, and so which tenant's.
pub enum Exporter {
    /// An operator, of their tenant's log. The export ends with an error when they lose the permission to view it.
    Operator(Arc<Caller>),
    /// Somebody with access to the server's machine.
    CommandLine(TenantId, Option<CommandUser>),
}

impl Exporter {
    fn tenant(&self) -> &TenantId {
        match self {
            Self::Operator(caller) => &caller.tenant,
            Self::CommandLine(tenant, _) => tenant,
        }
    }

    fn actor(&self) -> AuditActor {
        match self {
            Self::Operator(caller) => caller.actor(),
            Self::CommandLine(_, user) => AuditActor::command_line_of(user.as_ref()),
        }
    }
}

/// An export in progress.
struct Export {
    service: Arc<Service>,
    exporter: Exporter,
    filter: AuditFilter,
    format: Format,
    /// Where the log ended when the export began; with the first difference from what was written, if there is one.
    end: Result<AuditHead, (AuditHead, ChainBreak)>,
    /// The entry that the first one of the log continues.
    start: AuditHead,
    /// Counts the export towards the limit of its tenant.
    _slot: Option<Slot>,
    shown: ExportProgress,
    next: Next,
}

/// The next step of an export.
enum Next {
    /// Entries, above this number.
    Entries(u64),
    Checkpoint,
    Nothing,
}

impl Export {
    async fn next_text(&mut self) -> Result<Option<String>, Error> {
        match self.next {
            Next::Entries(above) => self.entries(above).await.map(Some),
            Next::Checkpoint => {
                self.next = Next::Nothing;
                self.checkpoint().await.map(Some)
            }
            Next::Nothing => Ok(None),
        }
    }

    /// The log is listed newest first, so its oldest entries are at its last end, before those read already.
    async fn entries(&mut self, above: u64) -> Result<String, Error> {
        if let Exporter::Operator(caller) = &self.exporter {
            self.service.refresh_caller(caller).await?.check(Permission::View)?;
        }
        let (Ok(end) | Err((end, _))) = self.end;
        let page =
            PageRequest { after: Some(end.number + 1), before: Some(above), limit: PAGE_SIZE, from: PageEnd::Last };
        let page = self.service.store.list_audit(self.exporter.tenant(), &self.filter, &page).await?;
        self.next = match page.items.first() {
            Some(newest) if page.has_more => Next::Entries(newest.number),
            _ => Next::Checkpoint,
        };
        let entries: Vec<_> = page.items.into_iter().rev().collect();
        let hashes = self.hashes_before(&entries).await?;
        let mut text = String::new();
        for entry in entries {
            let last = self.shown.last;
            let before =
                if entry.number == last.number + 1 { Some(&last.hash) } else { hashes.get(&(entry.number - 1)) };
            // One that is missing in the store does not fit to the entry, which the verification reports.
            let (head, previous_hash) = (entry.head(), before.copied().unwrap_or_default());
            let exported = ExportedEntry { entry, previous_number: last.number, previous_hash };
            text.push_str(&audit_text::line(&exported, self.format));
            self.shown.add(&head);
        }
        Ok(text)
    }

    /// The hashes of the entries that come right before these, and are not shown.
    async fn hashes_before(&self, entries: &[AuditEntry]) -> Result<HashMap<u64, EntryHash>, Error> {
        let mut shown = self.shown.last.number;
        let mut hidden = Vec::new();
        for entry in entries {
            if entry.number > shown + 1 {
                hidden.push(entry.number - 1);
            }
            shown = entry.number;
        }
        if hidden.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.service.store.find_audit_hashes(self.exporter.tenant(), &hidden).await?;
        // The store does not have it if it was archived.
        Ok(found.into_iter().chain([self.start]).map(|head| (head.number, head.hash)).collect())
    }

    async fn checkpoint(&self) -> Result<String, Error> {
        let end = self.end.map_err(|(_, broken)| StoreError::Corrupt(broken.into()))?;
        let (key, tenant) = (&self.service.keyring.current().checkpoints, self.exporter.tenant().clone());
        if self.service.audit_start(&tenant).await? != self.start {
            return Err(StoreError::Unavailable("the log was archived during the export".into()).into());
        }
        let checkpoint = Checkpoint::sign(key, tenant, end, self.service.environment.now(), Some(self.shown.summary()));
        Ok(audit_text::checkpoint_line(&checkpoint, self.format))
    }
}

fn texts(export: Export) -> impl Stream<Item = Result<String, Error>> + Send {
    stream::try_unfold(export, |mut export| async {
        let text = export.next_text().await?;
        Ok(text.map(|text| (text, export)))
    })
}

impl Service {
    pub async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>, Error> {
        Ok(self.store.find_audit_entry(tenant, id).await?)
    }

    /// Returns the number and hash of the tenant's last entry; number 0 if the log is empty.
    pub async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead, Error> {
        Ok(self.store.audit_head(tenant).await?)
    }

    pub async fn list_audit(
        &self,
        caller: &Caller,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>, Error> {
        let _turn = self.begin_read_unless(filter.is_empty(), caller).await?;
        Ok(self.store.list_audit(&caller.tenant, filter, page).await?)
    }

    /// Returns the page with the numbers of its positions.
    ///
    /// # Errors
    ///
    /// `CURSOR_INVALID` if the log does not contain the entry of a position.
    pub async fn find_positions(
        &self,
        tenant: &TenantId,
        page: PageRequest<AuditPosition>,
    ) -> Result<PageRequest<u64>, Error> {
        let find = async |position: Option<AuditPosition>| match position {
            Some(position) => self.find_position(tenant, &position).await.map(Some),
            None => Ok(None),
        };
        let PageRequest { after, before, limit, from } = page;
        Ok(PageRequest { after: find(after).await?, before: find(before).await?, limit, from })
    }

    /// Returns the number of the position's entry; 0 for the position before the first one.
    ///
    /// # Errors
    ///
    /// `CURSOR_INVALID` if the log does not contain the entry.
    pub(super) async fn find_position(&self, tenant: &TenantId, position: &AuditPosition) -> Result<u64, Error> {
        let number = position.number();
        if position.is_of(&AuditHead::default()) {
            let is_whole = self.audit_start(tenant).await? == AuditHead::default();
            return if is_whole { Ok(number) } else { Err(Refusal::CursorInvalid.into()) };
        }
        let found = self.store.find_audit_hashes(tenant, &[number]).await?;
        if found.iter().any(|entry| position.is_of(entry)) {
            return Ok(number);
        }
        // Through a failover the read above may miss an entry that the client has received.
        let found = self.store.recheck_audit_entry(tenant, number).await?;
        let is_found =
            found.is_some_and(|entry| position.is_of(&entry)) || position.is_of(&self.audit_start(tenant).await?);
        if is_found { Ok(number) } else { Err(Refusal::CursorInvalid.into()) }
    }

    pub async fn count_audit(&self, caller: &Caller, filter: &AuditFilter) -> Result<u64, Error> {
        let _turn = self.begin_read_unless(filter.is_empty(), caller).await?;
        Ok(self.store.count_audit(&caller.tenant, filter).await?)
    }

    /// Exports the entries that match as text, oldest first, and records the export in the log. The first item of the
    /// stream is the header of the format; each further one is a page of entries, and the last one the checkpoint.
    ///
    /// The log is signed as it was when the export began. If it differs from what was written, the stream ends with an
    /// error in place of the checkpoint.
    pub async fn export_audit(
        self: &Arc<Self>,
        request: Request,
        exporter: Exporter,
        filter: AuditFilter,
        format: Format,
    ) -> Result<impl Stream<Item = Result<String, Error>> + Send + use<>, Error> {
        let slot = match &exporter {
            Exporter::Operator(caller) => Some(self.concurrency.begin_export(&caller.tenant)?),
            Exporter::CommandLine(..) => None,
        };
        let event = self.event(&origin(exporter.actor(), request), AuditAction::AuditExported);
        self.commit(Batch::new(exporter.tenant().clone(), event)).await?.without_waiting();
        let end = match self.checkpoint_tenant(exporter.tenant()).await? {
            Ok(checkpoint) => Ok(checkpoint.head()),
            Err(broken) => Err((self.store.audit_head(exporter.tenant()).await?, broken)),
        };
        let start = self.audit_start(exporter.tenant()).await?;
        let header = stream::iter([Ok(audit_text::header(format))]);
        let service = Arc::clone(self);
        let (shown, next) = (ExportProgress::default(), Next::Entries(start.number));
        let export = Export { service, exporter, filter, format, end, start, _slot: slot, shown, next };
        Ok(header.chain(texts(export)))
    }

    /// The entries after `start` up to `end` as JSON Lines, in pages, and a checkpoint of `end`. Not recorded in the log.
    pub(super) fn export_between(
        self: &Arc<Self>,
        exporter: Exporter,
        start: AuditHead,
        end: AuditHead,
    ) -> impl Stream<Item = Result<String, Error>> + Send + use<> {
        let (service, filter, format) = (Arc::clone(self), AuditFilter::default(), Format::Jsonl);
        let (shown, next) = (ExportProgress::default(), Next::Entries(start.number));
        texts(Export { service, exporter, filter, format, end: Ok(end), start, _slot: None, shown, next })
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
        let tenant = &caller.tenant;
        if let Some(event) = self.refused_attempts.admit(tenant, event) {
            self.write_refusal(tenant.clone(), event).await;
        }
        Err(refusal.into())
    }

    /// Records after the response that a key was presented which is refused.
    pub fn record_refused_key_presented(self: &Arc<Self>, request: Request, key: &RefusedKey) {
        let action = match key.reason {
            RefusalReason::Revoked => AuditAction::RevokedKeyPresented,
            RefusalReason::Suspended => AuditAction::SuspendedKeyPresented,
            RefusalReason::Expired => AuditAction::ExpiredKeyPresented,
        };
        let mut event = self.event(&origin(AuditActor::anonymous(), request), action).about_key(key.mark);
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
