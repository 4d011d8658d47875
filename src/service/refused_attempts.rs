//! Limits how many entries refused attempts write to the audit log. Attempts beyond the limit are aggregated, and
//! written as the `count` of a later entry.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::audit::{AuditAction, AuditEvent};
use crate::domain::ids::TenantId;
use crate::domain::refusal::ErrorCode;
use crate::domain::time::Timestamp;

/// Entries of refused attempts that a tenant's log takes within [`WINDOW`].
const MAX_ENTRIES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds of attempts that are aggregated separately for a tenant. An attempt of a further kind adds to the count of
/// another one, to bound memory.
const MAX_KINDS: usize = 256;

/// The refused attempts of all tenants that are not in the log yet.
#[derive(Default)]
pub(super) struct RefusedAttempts(Mutex<HashMap<TenantId, TenantAttempts>>);

struct TenantAttempts {
    window_start: Timestamp,
    written_in_window: u32,
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
    /// Actor, system and key mark.
    subject: String,
}

impl AttemptKind {
    fn of(event: &AuditEvent) -> Self {
        let mark = event.key_mark.map(|mark| mark.to_string()).unwrap_or_default();
        let subject = format!("{}/{:?}/{mark}", event.actor.name, event.system);
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
        let is_full = attempts.aggregated.len() >= MAX_KINDS && !attempts.aggregated.contains_key(&kind);
        let slot = if is_full { attempts.aggregated.values_mut().next() } else { attempts.aggregated.get_mut(&kind) };
        match slot {
            Some(aggregated) => aggregated.count += event.count,
            None => drop(attempts.aggregated.insert(kind, event)),
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
    use crate::domain::audit::{AuditActor, Origin};
    use crate::domain::ids::{AuditEntryId, RequestId};

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
    fn kinds_aggregated_separately_are_bounded() {
        let attempts = RefusedAttempts::default();
        let acme: TenantId = "acme".parse().unwrap();
        for i in 0..1000 {
            let _ = attempts.admit(&acme, event(0, &format!("{i:04}")));
        }
        let tenants = attempts.0.lock().unwrap();
        let aggregated = &tenants[&acme].aggregated;
        assert_eq!(aggregated.len(), MAX_KINDS);
        assert_eq!(aggregated.values().map(|event| event.count).sum::<u64>(), 990);
    }
}
