//! Limits on what one operator or tenant does at the same time: heavy reads, exports, sockets and passwords.
//!
//! A read is heavy if its work grows with the tenant's data: filtered lists and counts of the audit log, and searches. An
//! operator and a tenant run a few at a time. Further ones of the operator wait in turn, and are refused beyond a number
//! or a time. An operator's read waits for the tenant only when it is its turn among the operator's own, so an operator
//! with many reads has no more places before the tenant's others than anyone else.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Caller;
use crate::domain::ids::{ActorId, TenantId};
use crate::domain::refusal::Refusal;

/// How long a heavy read waits for its turn.
const MAX_READ_WAIT: Duration = Duration::from_secs(10);
/// When to retry what was refused.
const RETRY_AFTER_SECONDS: u64 = 5;

/// What may happen at the same time on one instance.
#[derive(Clone, Copy, Debug)]
pub struct ConcurrencyLimits {
    /// Heavy reads of one operator.
    pub operator_reads: usize,
    /// Heavy reads of one tenant.
    pub tenant_reads: usize,
    /// Heavy reads of one operator that wait.
    pub waiting_reads: usize,
    /// Exports of one tenant's audit log by its operators. The command line has no limit.
    pub exports: usize,
    /// WebSockets of one operator.
    pub sockets: usize,
    /// Passwords that one tenant's administrators generate.
    pub passwords: usize,
}

impl Default for ConcurrencyLimits {
    fn default() -> Self {
        Self { operator_reads: 2, tenant_reads: 4, waiting_reads: 40, exports: 2, sockets: 200, passwords: 4 }
    }
}

/// What runs or waits now.
pub(super) struct Concurrency {
    /// Heavy reads that run or wait.
    places: Slots<ActorId>,
    operator_reads: Slots<ActorId>,
    tenant_reads: Slots<TenantId>,
    exports: Slots<TenantId>,
    sockets: Slots<ActorId>,
    passwords: Slots<TenantId>,
    /// Refusals by limit: `reads`, `exports`, `sockets` or `passwords`.
    refusals: Family<[(&'static str, &'static str); 1], Counter>,
}

/// Counts until it is dropped.
pub struct Slot(#[expect(dead_code, reason = "counted while it lives")] OwnedSemaphorePermit);

/// A heavy read whose turn has come. It is over when this is dropped.
pub(super) struct HeavyRead {
    _place: Option<Slot>,
    _of_operator: Slot,
    _of_tenant: Slot,
}

impl Concurrency {
    pub(super) fn new(limits: ConcurrencyLimits) -> Self {
        let ConcurrencyLimits { operator_reads, tenant_reads, waiting_reads, exports, sockets, passwords } = limits;
        Self {
            places: Slots::new(operator_reads + waiting_reads),
            operator_reads: Slots::new(operator_reads),
            tenant_reads: Slots::new(tenant_reads),
            exports: Slots::new(exports),
            sockets: Slots::new(sockets),
            passwords: Slots::new(passwords),
            refusals: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for limit in ["reads", "exports", "sockets", "passwords"] {
            drop(self.refusals.get_or_create(&[("limit", limit)]));
        }
        registry.register(
            "requests_limited",
            "Requests refused because their operator or tenant had too many at the same time, by limit",
            self.refusals.clone(),
        );
    }

    /// Waits for the turn of a heavy read.
    ///
    /// # Errors
    ///
    /// If too many reads of the operator wait, or if the turn does not come within [`MAX_READ_WAIT`].
    pub(super) async fn begin_read(&self, caller: &Caller) -> Result<HeavyRead, Refusal> {
        let refused = || self.refused("reads", "of your searches, filtered lists and counts");
        let place = self.places.try_take(&caller.id()).ok_or_else(refused)?;
        let turn = timeout(MAX_READ_WAIT, self.wait_for_turn(caller)).await.map_err(|_| refused())?;
        Ok(HeavyRead { _place: Some(place), ..turn })
    }

    /// Waits for the turn of a heavy read for any time, as a subscription can.
    pub(super) async fn wait_for_turn(&self, caller: &Caller) -> HeavyRead {
        let of_operator = self.operator_reads.take(&caller.id()).await;
        let of_tenant = self.tenant_reads.take(&caller.tenant).await;
        HeavyRead { _place: None, _of_operator: of_operator, _of_tenant: of_tenant }
    }

    /// # Errors
    ///
    /// If the tenant has too many exports already.
    pub(super) fn begin_export(&self, tenant: &TenantId) -> Result<Slot, Refusal> {
        self.exports.try_take(tenant).ok_or_else(|| self.refused("exports", "exports of your tenant's audit log"))
    }

    /// Takes a place for hashing a password that an administrator of the tenant generates: all tenants share the places
    /// for hashing, which sign-ins need.
    ///
    /// # Errors
    ///
    /// If the tenant has too many already.
    pub(super) fn begin_password(&self, tenant: &TenantId) -> Result<Slot, Refusal> {
        self.passwords.try_take(tenant).ok_or_else(|| self.refused("passwords", "passwords generated by your tenant"))
    }

    /// # Errors
    ///
    /// If the operator has too many sockets already.
    pub(super) fn open_socket(&self, caller: &Caller) -> Result<Slot, Refusal> {
        self.sockets.try_take(&caller.id()).ok_or_else(|| self.refused("sockets", "of your WebSockets"))
    }

    fn refused(&self, limit: &'static str, what: &'static str) -> Refusal {
        self.refusals.get_or_create(&[("limit", limit)]).inc();
        Refusal::TooManyAtOnce { what, retry_after_seconds: RETRY_AFTER_SECONDS }
    }
}

/// As many slots for each key.
struct Slots<K> {
    limit: usize,
    keys: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Clone + Eq + Hash> Slots<K> {
    fn new(limit: usize) -> Self {
        Self { limit, keys: Mutex::default() }
    }

    /// Waits for a slot, in turn.
    async fn take(&self, key: &K) -> Slot {
        Slot(self.of(key).acquire_owned().await.expect("never closed"))
    }

    fn try_take(&self, key: &K) -> Option<Slot> {
        self.of(key).try_acquire_owned().ok().map(Slot)
    }

    /// Removes the keys without taken slots before the map would grow.
    fn of(&self, key: &K) -> Arc<Semaphore> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = keys.get(key) {
            return Arc::clone(slots);
        }
        if keys.len() == keys.capacity() {
            keys.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        let slots = Arc::new(Semaphore::new(self.limit));
        keys.insert(key.clone(), Arc::clone(&slots));
        slots
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;
    use crate::domain::ids::OperatorId;
    use crate::domain::operators::{Operator, PasswordHash};
    use crate::domain::permissions::Permissions;
    use crate::domain::sessions::{Session, SessionSecret};
    use crate::domain::time::Timestamp;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn caller(seed: u64, tenant: &str) -> Caller {
        let (mut rng, now) = (StdRng::seed_from_u64(seed), Timestamp::from_millis(0));
        let operator = Operator::new(
            OperatorId::new(now, &mut rng),
            tenant.parse().unwrap(),
            format!("operator-{seed}").parse().unwrap(),
            PasswordHash::from_phc(String::new()),
            Permissions::NONE,
            now,
        );
        let session = Session {
            id: SessionSecret::generate(&mut rng).id(),
            tenant: operator.tenant.clone(),
            operator: operator.id,
            password_version: 1,
            created_at: now,
            expires_at: now,
            network: None,
            user_agent: None,
        };
        Caller::at_home(Arc::new(operator), Arc::new(session))
    }

    fn concurrency() -> Concurrency {
        Concurrency::new(ConcurrencyLimits::default())
    }

    fn begun(read: Option<Result<HeavyRead, Refusal>>) -> HeavyRead {
        read.expect("no wait").expect("not refused")
    }

    #[test]
    fn operator_runs_two_reads_and_further_ones_wait_in_turn() {
        let (concurrency, ada) = (concurrency(), caller(1, "acme"));
        let first = begun(concurrency.wait_for_turn(&ada).map(Ok).now_or_never());
        let _second = begun(concurrency.wait_for_turn(&ada).map(Ok).now_or_never());
        let (mut third, mut fourth) = (pin!(concurrency.wait_for_turn(&ada)), pin!(concurrency.wait_for_turn(&ada)));
        assert!(third.as_mut().now_or_never().is_none() && fourth.as_mut().now_or_never().is_none());
        drop(first);
        assert!(fourth.as_mut().now_or_never().is_none());
        let third = third.now_or_never();
        assert!(third.is_some());
        drop(third);
        assert!(fourth.now_or_never().is_some());
    }

    #[test]
    fn tenant_runs_four_reads_and_other_tenants_do_not_wait_for_them() {
        let concurrency = concurrency();
        let operators = [caller(1, "acme"), caller(2, "acme"), caller(3, "acme")];
        let reads: Vec<_> = operators
            .iter()
            .flat_map(|operator| [operator, operator])
            .map(|operator| concurrency.wait_for_turn(operator).now_or_never())
            .collect();
        assert_eq!(reads.iter().flatten().count(), 4);
        assert!(concurrency.wait_for_turn(&caller(4, "bolt")).now_or_never().is_some());
    }

    #[test]
    fn operator_who_waits_holds_back_no_other_of_the_tenant() {
        let (concurrency, ada, bob) = (concurrency(), caller(1, "acme"), caller(2, "acme"));
        let mut running = Vec::new();
        let mut waiting: Vec<_> = (0..40).map(|_| Box::pin(concurrency.wait_for_turn(&ada))).collect();
        for read in &mut waiting {
            running.extend(read.now_or_never());
        }
        assert_eq!(running.len(), 2);
        assert!(concurrency.wait_for_turn(&bob).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn read_whose_turn_does_not_come_is_refused() {
        let (concurrency, ada) = (concurrency(), caller(1, "acme"));
        let running = [concurrency.begin_read(&ada).await.unwrap(), concurrency.begin_read(&ada).await.unwrap()];
        let refused = concurrency.begin_read(&ada).await.err();
        assert_eq!(refused.and_then(|refusal| refusal.retry_after_seconds()), Some(RETRY_AFTER_SECONDS));
        drop(running);
        assert!(concurrency.begin_read(&ada).await.is_ok());
    }

    #[test]
    fn reads_that_wait_are_bounded_and_those_that_are_dropped_do_not_count() {
        let (concurrency, ada) = (concurrency(), caller(1, "acme"));
        let mut waiting: Vec<_> = (0..42).map(|_| Box::pin(concurrency.begin_read(&ada))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _time = runtime.enter();
        let begun: Vec<_> = waiting.iter_mut().filter_map(|read| read.now_or_never()).collect();
        assert!(begun.len() == 2 && begun.iter().all(Result::is_ok));
        assert!(concurrency.begin_read(&ada).now_or_never().is_some_and(|refused| refused.is_err()));
        drop((begun, waiting));
        assert!(concurrency.begin_read(&ada).now_or_never().is_some_and(|begun| begun.is_ok()));
    }

    #[test]
    fn keys_without_slots_are_forgotten() {
        let slots = Slots::new(1);
        let _held = slots.try_take(&0).unwrap();
        for key in 1..10_000 {
            drop(slots.try_take(&key));
        }
        assert!(slots.keys.lock().unwrap().capacity() < 100);
        assert!(slots.try_take(&0).is_none());
    }
}
