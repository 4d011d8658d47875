//! The audit log: read, exported, and what refused attempts leave in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::commit::Committed;
use super::error::Error;
use super::{Caller, Request, Service, origin};
use crate::domain::audit::{
    AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditHead, AuditOutcome, ChainBreak,
};
use crate::domain::changes::Batch;
use crate::domain::ids::{AuditEntryId, SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::permissions::Permission;
use crate::domain::refusal::ErrorCode;
use crate::domain::time::Timestamp;
use crate::domain::verdict::RevokedKey;
use crate::store::StoreError;

/// Most entries of refused attempts in a tenant's log within [`REFUSAL_WINDOW`]; the rest is counted into the next.
const REFUSALS_A_WINDOW: u32 = 10;
const REFUSAL_WINDOW: Duration = Duration::from_secs(60);
/// Most kinds of attempts of one tenant that are counted apart; what exceeds them is counted with one of them.
const KINDS_COUNTED: usize = 256;
/// Entries that are read at once when the whole log is.
const ENTRIES_A_READ: usize = 500;

/// What a tenant's refused attempts have come to in the current window.
struct Window {
    began: Timestamp,
    written: u32,
    counted: HashMap<Kind, AuditEvent>,
    /// When the first of those that are counted still was refused.
    counted_since: Timestamp,
}

impl Window {
    /// Begins anew when it is over.
    fn roll(&mut self, now: Timestamp) {
        if now.since(self.began) >= REFUSAL_WINDOW {
            self.began = now;
            self.written = 0;
        }
    }
}

/// What makes two refused attempts alike.
#[derive(PartialEq, Eq, Hash)]
struct Kind(AuditAction, Option<ErrorCode>, String);

impl Kind {
    fn of(event: &AuditEvent) -> Self {
        let mark = event.key_mark.map(|mark| mark.to_string()).unwrap_or_default();
        let subject = format!("{}/{:?}/{mark}", event.actor.name, event.system);
        Self(event.action, event.error_code, subject)
    }
}

/// Keeps refused attempts from flooding the log.
#[derive(Default)]
pub struct Refusals(Mutex<HashMap<TenantId, Window>>);

impl Refusals {
    /// The event to write now, with the like attempts before it counted in; `None` when it is to be counted itself.
    fn admit(&self, tenant: &TenantId, mut event: AuditEvent) -> Option<AuditEvent> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(tenant.clone()).or_insert_with(|| Window {
            began: event.occurred_at,
            written: 0,
            counted: HashMap::new(),
            counted_since: event.occurred_at,
        });
        window.roll(event.occurred_at);
        let kind = Kind::of(&event);
        if window.written < REFUSALS_A_WINDOW {
            window.written += 1;
            event.count += window.counted.remove(&kind).map_or(0, |earlier| earlier.count);
            return Some(event);
        }
        if window.counted.is_empty() {
            window.counted_since = event.occurred_at;
        }
        let full = window.counted.len() >= KINDS_COUNTED && !window.counted.contains_key(&kind);
        let slot = if full { window.counted.values_mut().next() } else { window.counted.get_mut(&kind) };
        match slot {
            Some(counted) => counted.count += event.count,
            None => drop(window.counted.insert(kind, event)),
        }
        None
    }

    /// Events that have been counted for a window, and whose like has not come since: as many as may be written now.
    fn overdue(&self, now: Timestamp) -> Vec<(TenantId, AuditEvent)> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut overdue = Vec::new();
        windows.retain(|tenant, window| {
            if now.since(window.counted_since) >= REFUSAL_WINDOW {
                window.roll(now);
                let mut counted = std::mem::take(&mut window.counted).into_iter();
                while window.written < REFUSALS_A_WINDOW
                    && let Some((_, event)) = counted.next()
                {
                    window.written += 1;
                    overdue.push((tenant.clone(), event));
                }
                window.counted = counted.collect();
                window.counted_since = now;
            }
            !window.counted.is_empty() || now.since(window.began) < REFUSAL_WINDOW
        });
        overdue
    }

    /// All that is counted still, when nothing more will come.
    fn rest(&self) -> Vec<(TenantId, AuditEvent)> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = windows
            .drain()
            .flat_map(|(tenant, window)| window.counted.into_values().map(move |event| (tenant.clone(), event)));
        rest.collect()
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

    /// Entries with numbers above `number`, oldest first: a part of the log at a time, empty at its end.
    pub async fn list_audit_after(&self, tenant: &TenantId, number: u64) -> Result<Vec<AuditEntry>, Error> {
        Ok(self.store.list_audit_after(tenant, number, ENTRIES_A_READ).await?)
    }

    /// Reads a tenant's whole log and checks its chain: how many entries it has, or where it is broken first.
    pub async fn verify_audit(&self, tenant: &TenantId) -> Result<Result<u64, ChainBreak>, Error> {
        let mut head = AuditHead::default();
        loop {
            let mut entries = self.store.list_audit_after(tenant, head.number, ENTRIES_A_READ).await;
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

    /// Says in the log that it was exported.
    pub async fn record_audit_export(
        &self,
        tenant: &TenantId,
        actor: AuditActor,
        request: Request,
    ) -> Result<(), Error> {
        let event = self.event(&origin(actor, request), AuditAction::AuditExported);
        Ok(self.commit(Batch::new(tenant.clone(), event)).await?.without_waiting())
    }

    /// Refuses what needs a code that the caller has not, and says so in the log.
    pub async fn demand(&self, caller: &Caller, request: Request, permission: Permission) -> Result<(), Error> {
        let Err(refusal) = caller.check(permission) else { return Ok(()) };
        let event = self
            .event(&caller.origin(request), AuditAction::PermissionRefused)
            .refused(ErrorCode::Forbidden, 1)
            .with_permissions([permission].into_iter().collect());
        self.record_refusal(caller.operator.tenant.clone(), event).await;
        Err(refusal.into())
    }

    /// Says in the log, behind the answer, that a revoked key was presented.
    pub fn record_revoked_key_presented(self: &Arc<Self>, request: Request, key: &RevokedKey) {
        let mut event =
            self.event(&origin(AuditActor::anonymous(), request), AuditAction::RevokedKeyPresented).about_key(key.mark);
        event.system = Some(key.system);
        event.outcome = AuditOutcome::Refused;
        self.record_refusal_after_response(key.tenant.clone(), event);
    }

    pub(super) fn record_refusal_after_response(self: &Arc<Self>, tenant: TenantId, event: AuditEvent) {
        if let Some(event) = self.refusals.admit(&tenant, event) {
            let this = Arc::clone(self);
            self.spawn_after_response(async move { this.write_refusal(tenant, event).await });
        }
    }

    async fn record_refusal(&self, tenant: TenantId, event: AuditEvent) {
        if let Some(event) = self.refusals.admit(&tenant, event) {
            self.write_refusal(tenant, event).await;
        }
    }

    /// A refusal stands whether or not the log could take it.
    async fn write_refusal(&self, tenant: TenantId, mut event: AuditEvent) {
        let written = async {
            if let (Some(system), None) = (event.system, &event.system_name) {
                event.system_name = self.last_name_of(&tenant, system).await?;
            }
            self.commit(Batch::new(tenant, event)).await.map(Committed::without_waiting)
        };
        if let Err(error) = written.await {
            tracing::warn!(cause = ?error.cause(), "a refused attempt could not be written to the audit log");
        }
    }

    /// What a system is called, or was when it was deleted.
    async fn last_name_of(&self, tenant: &TenantId, system: SystemId) -> Result<Option<String>, Error> {
        if let Some(system) = self.store.find_system(tenant, system).await? {
            return Ok(Some(system.name.to_string()));
        }
        let about = AuditFilter { system: Some(system), ..AuditFilter::default() };
        let newest = self.store.list_audit(tenant, &about, &PageRequest::first(1)).await?;
        Ok(newest.items.into_iter().next().and_then(|entry| entry.event.system_name))
    }

    /// Writes what was counted and would otherwise wait for its like. To be called about once a minute.
    pub async fn write_overdue_refusals(&self) {
        for (tenant, event) in self.refusals.overdue(self.environment.now()) {
            self.write_refusal(tenant, event).await;
        }
    }

    /// Writes all that was counted, before the process ends.
    pub async fn write_remaining_refusals(&self) {
        for (tenant, event) in self.refusals.rest() {
            self.write_refusal(tenant, event).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::audit::Origin;
    use crate::domain::ids::RequestId;

    fn event(second: i64, mark: &str) -> AuditEvent {
        let now = Timestamp::from_millis(second * 1000);
        let mut rng = StdRng::seed_from_u64(1);
        let origin =
            Origin { actor: AuditActor::anonymous(), source_address: None, request_id: RequestId::new(now, &mut rng) };
        let id = AuditEntryId::new(now, &mut rng);
        AuditEvent::new(id, now, &origin, AuditAction::RevokedKeyPresented)
            .about_key(mark.to_owned().try_into().unwrap())
    }

    #[test]
    fn ten_a_minute_are_written_and_the_rest_is_counted_into_the_next() {
        let refusals = Refusals::default();
        let acme: TenantId = "acme".parse().unwrap();
        let written = (0..25).filter_map(|_| refusals.admit(&acme, event(0, "aaaa"))).count();
        assert_eq!(written, 10);
        let other: TenantId = "other".parse().unwrap();
        assert_eq!(refusals.admit(&other, event(0, "aaaa")).unwrap().count, 1, "tenants are counted apart");
        assert_eq!(refusals.admit(&acme, event(60, "aaaa")).unwrap().count, 16);
        assert_eq!(refusals.admit(&acme, event(60, "aaaa")).unwrap().count, 1);
    }

    #[test]
    fn what_nothing_follows_is_written_when_its_minute_is_over() {
        let refusals = Refusals::default();
        let acme: TenantId = "acme".parse().unwrap();
        for mark in ["aaaa", "bbbb"] {
            for _ in 0..12 {
                let _ = refusals.admit(&acme, event(0, mark));
            }
        }
        assert!(refusals.overdue(Timestamp::from_millis(59_999)).is_empty());
        let mut counts: Vec<u64> =
            refusals.overdue(Timestamp::from_millis(60_000)).iter().map(|(_, event)| event.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [2, 12]);
        assert!(refusals.overdue(Timestamp::from_millis(120_000)).is_empty());
    }

    #[test]
    fn what_is_written_late_is_among_the_ten_of_its_minute() {
        let refusals = Refusals::default();
        let acme: TenantId = "acme".parse().unwrap();
        let written = (0..30).filter_map(|i| refusals.admit(&acme, event(0, &format!("{i:04}")))).count();
        assert_eq!(written, 10);
        assert_eq!(refusals.overdue(Timestamp::from_millis(60_000)).len(), 10);
        assert!(refusals.admit(&acme, event(60, "zzzz")).is_none());
        assert_eq!(refusals.overdue(Timestamp::from_millis(120_000)).len(), 10);
    }

    #[test]
    fn the_kinds_that_are_counted_apart_are_bounded() {
        let refusals = Refusals::default();
        let acme: TenantId = "acme".parse().unwrap();
        for i in 0..1000 {
            let _ = refusals.admit(&acme, event(0, &format!("{i:04}")));
        }
        let windows = refusals.0.lock().unwrap();
        let counted = &windows[&acme].counted;
        assert_eq!(counted.len(), KINDS_COUNTED);
        assert_eq!(counted.values().map(|event| event.count).sum::<u64>(), 990);
    }
}
