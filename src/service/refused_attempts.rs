//! Limits how many entries refused attempts write to the audit log. Attempts beyond the limit are aggregated, and
//! written as the `count` of a later entry.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::audit::{AuditAction, AuditActor, AuditEvent};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::Mark;
use crate::domain::permissions::Permissions;
use crate::domain::refusal::ErrorCode;
use crate::domain::time::Timestamp;

/// Entries of refused attempts that a tenant's log takes within [`WINDOW`].
const MAX_ENTRIES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds of attempts that are aggregated separately for a tenant, to bound memory. Attempts of further kinds are
/// aggregated as others ([`AuditEvent::of_others`]), by their action and error code.
const MAX_KINDS: usize = 256;

/// The refused attempts of all tenants that are not in the log yet.
#[derive(Default)]
pub(super) struct RefusedAttempts(Mutex<HashMap<TenantId, TenantAttempts>>);

struct TenantAttempts {
    window_start: Timestamp,
    written_in_window: u32,
    /// At most [`MAX_KINDS`], and one for each kind of others.
    aggregated: HashMap<AttemptKind, AuditEvent>,
    /// When the first of the aggregated attempts was refused.
    aggregated_since: Timestamp,
}

impl TenantAttempts {
    fn restart_window_if_over(&mut self, now: Timestamp) {
        if now.since(self.window_start) >= WINDOW {
            self.window_start = now;
            self.written_in_window = 0;
        }
    }
}

/// Attempts of the same kind are aggregated.
#[derive(PartialEq, Eq, Hash)]
struct AttemptKind {
    action: AuditAction,
    error_code: Option<ErrorCode>,
    subject: Subject,
}

#[derive(PartialEq, Eq, Hash)]
enum Subject {
    /// The members of the event that the count of its entry is about.
    Known(AuditActor, Option<SystemId>, Option<Mark>, Option<Permissions>),
    Others,
}

impl AttemptKind {
    fn of(event: &AuditEvent) -> Self {
        let subject = Subject::Known(event.actor.clone(), event.system, event.key_mark, event.permissions);
        Self { action: event.action, error_code: event.error_code, subject }
    }
}

impl RefusedAttempts {
    /// Returns the event to write now, its count raised by the aggregated attempts of its kind. Returns `None` if the
    /// limit is reached and the event was aggregated.
    pub(super) fn admit(&self, tenant: &TenantId, mut event: AuditEvent) -> Option<AuditEvent> {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = tenants.entry(tenant.clone()).or_insert_with(|| TenantAttempts {
            window_start: event.occurred_at,
            written_in_window: 0,
            aggregated: HashMap::new(),
            aggregated_since: event.occurred_at,
        });
        attempts.restart_window_if_over(event.occurred_at);
        let kind = AttemptKind::of(&event);
        if attempts.written_in_window < MAX_ENTRIES_PER_WINDOW {
            attempts.written_in_window += 1;
            event.count += attempts.aggregated.remove(&kind).map_or(0, |earlier| earlier.count);
            return Some(event);
        }
        if attempts.aggregated.is_empty() {
            attempts.aggregated_since = event.occurred_at;
        }
        let (kind, event) = if attempts.aggregated.len() < MAX_KINDS || attempts.aggregated.contains_key(&kind) {
            (kind, event)
        } else {
            (AttemptKind { subject: Subject::Others, ..kind }, event.of_others())
        };
        match attempts.aggregated.entry(kind) {
            Entry::Occupied(mut aggregated) => aggregated.get_mut().count += event.count,
            Entry::Vacant(vacant) => drop(vacant.insert(event)),
        }
        None
    }

    /// Takes the aggregated events that no further attempt of their kind has taken along within [`WINDOW`], as many as
    /// the limit allows.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<(TenantId, AuditEvent)> {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        tenants.retain(|tenant, attempts| {
            if now.since(attempts.aggregated_since) >= WINDOW {
                attempts.restart_window_if_over(now);
                let mut aggregated = std::mem::take(&mut attempts.aggregated).into_iter();
                while attempts.written_in_window < MAX_ENTRIES_PER_WINDOW
                    && let Some((_, event)) = aggregated.next()
                {
                    attempts.written_in_window += 1;
                    due.push((tenant.clone(), event));
                }
                attempts.aggregated = aggregated.collect();
                attempts.aggregated_since = now;
            }
            !attempts.aggregated.is_empty() || now.since(attempts.window_start) < WINDOW
        });
        due
    }

    /// Takes all aggregated events, beyond the limit too: for the end of the process.
    pub(super) fn take_all(&self) -> Vec<(TenantId, AuditEvent)> {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = tenants
            .drain()
            .flat_map(|(tenant, attempts)| attempts.aggregated.into_values().map(move |event| (tenant.clone(), event)));
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::audit::Origin;
    use crate::domain::ids::{AuditEntryId, RequestId};
    use crate::domain::permissions::Permission;

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
    fn attempts_beyond_ten_a_minute_are_counted_in_the_next_entry() {
        let attempts = RefusedAttempts::default();
        let acme: TenantId = "acme".parse().unwrap();
        let written = (0..25).filter_map(|_| attempts.admit(&acme, event(0, "aaaa"))).count();
        assert_eq!(written, 10);
        let other: TenantId = "other".parse().unwrap();
        assert_eq!(attempts.admit(&other, event(0, "aaaa")).unwrap().count, 1, "each tenant has its own limit");
        assert_eq!(attempts.admit(&acme, event(60, "aaaa")).unwrap().count, 16);
        assert_eq!(attempts.admit(&acme, event(60, "aaaa")).unwrap().count, 1);
    }

    #[test]
    fn aggregated_attempts_are_written_after_a_minute_without_a_further_one() {
        let attempts = RefusedAttempts::default();
        let acme: TenantId = "acme".parse().unwrap();
        for mark in ["aaaa", "bbbb"] {
            for _ in 0..12 {
                let _ = attempts.admit(&acme, event(0, mark));
            }
        }
        assert!(attempts.take_due(Timestamp::from_millis(59_999)).is_empty());
        let mut counts: Vec<u64> =
            attempts.take_due(Timestamp::from_millis(60_000)).iter().map(|(_, event)| event.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [2, 12]);
        assert!(attempts.take_due(Timestamp::from_millis(120_000)).is_empty());
    }

    #[test]
    fn entries_written_late_count_towards_the_limit_of_their_minute() {
        let attempts = RefusedAttempts::default();
        let acme: TenantId = "acme".parse().unwrap();
        let written = (0..30).filter_map(|i| attempts.admit(&acme, event(0, &format!("{i:04}")))).count();
        assert_eq!(written, 10);
        assert_eq!(attempts.take_due(Timestamp::from_millis(60_000)).len(), 10);
        assert!(attempts.admit(&acme, event(60, "zzzz")).is_none());
        assert_eq!(attempts.take_due(Timestamp::from_millis(120_000)).len(), 10);
    }

    #[test]
    fn attempts_of_further_kinds_are_counted_as_others() {
        let attempts = RefusedAttempts::default();
        let acme: TenantId = "acme".parse().unwrap();
        for i in 0..1000 {
            let _ = attempts.admit(&acme, event(0, &format!("{i:04}")));
        }
        let forbidden = AuditAction::PermissionRefused;
        for _ in 0..3 {
            let refused = AuditEvent { action: forbidden, ..event(0, "0000") }.refused(ErrorCode::Forbidden, 1);
            let _ = attempts.admit(&acme, refused);
        }
        // Kinds that are aggregated already are still counted apart.
        let _ = attempts.admit(&acme, event(0, "0010"));

        let (others, known): (Vec<_>, Vec<_>) =
            attempts.take_all().into_iter().map(|(_, event)| event).partition(|event| event.actor.name == "others");
        assert_eq!(known.len(), MAX_KINDS);
        for event in &known {
            let expected = if event.key_mark.unwrap().to_string() == "0010" { 2 } else { 1 };
            assert_eq!(event.count, expected, "{:?}", event.key_mark);
        }
        let mut others: Vec<_> = others.iter().map(|event| (event.action, event.key_mark, event.count)).collect();
        others.sort_by_key(|(_, _, count)| *count);
        let presented = AuditAction::RevokedKeyPresented;
        assert_eq!(others, [(forbidden, None, 3), (presented, None, 1000 - 10 - MAX_KINDS as u64)]);
    }

    #[test]
    fn attempts_that_lacked_different_permissions_are_counted_apart() {
        let attempts = RefusedAttempts::default();
        let acme: TenantId = "acme".parse().unwrap();
        for permission in [Permission::View, Permission::Delete].into_iter().cycle().take(20) {
            let missing = [permission].into_iter().collect();
            let _ = attempts.admit(&acme, event(0, "aaaa").with_permissions(missing));
        }
        let counts: Vec<_> = attempts.take_all().iter().map(|(_, event)| event.count).collect();
        assert_eq!(counts, [5, 5]);
    }
}
