//! Verification of presented keys. A malformed key is refused without a look-up. Any other key is looked up in the cache,
//! or, while the cache is bypassed, by one read of the store that sees every change committed before the read began.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::limiter::Limiter;
use crate::coherence::Coherence;
use crate::domain::ids::TenantId;
use crate::domain::keys::{KeyDigest, PresentedKey};
use crate::domain::quota::{Quota, client_network};
use crate::domain::time::Timestamp;
use crate::domain::verdict::{KeyStatus, Verdict};
use crate::service::Service;
use crate::store::{Store, StoreError};

/// Bad keys of one source: enough for a gateway whose client was rolled out with an old key, too few to guess a key. Good
/// keys are never counted.
const BAD_KEYS: Quota = Quota { burst: 20_000, interval: Duration::from_millis(1) };

pub struct Verifier {
    store: Arc<dyn Store>,
    coherence: Arc<Coherence>,
    service: Arc<Service>,
    bad_keys: Limiter<IpAddr>,
}

pub struct Verification {
    pub verdict: Verdict,
    /// The time by which keys have ended, or have not.
    pub checked_at: Timestamp,
    /// How long the source should wait, if it has presented too many bad keys.
    pub retry_after: Option<Duration>,
}

impl Verifier {
    pub fn new(store: Arc<dyn Store>, coherence: Arc<Coherence>, service: Arc<Service>) -> Self {
        Self { store, coherence, service, bad_keys: Limiter::default() }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Verifies a presented key. With `only`, keys of other tenants are not found.
    ///
    /// `source` returns the client's address. It is not called for a good key that
    /// is cached.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or must not be, since the source has presented too many bad keys. The key must then be
    /// treated as not verified.
    pub async fn verify(
        &self,
        source: impl Fn() -> IpAddr,
        presented: &str,
        only: Option<&TenantId>,
    ) -> Result<Verification, StoreError> {
        let now = self.service.environment().now();
        let Ok(key) = PresentedKey::parse(presented) else {
            return Ok(Verification { verdict: Verdict::Malformed, checked_at: now, retry_after: None });
        };
        let cached = self.find_cached(key, only, now);
        let is_counted = cached.is_some();
        let (found, now) = match cached {
            Some(found) => (found, now),
            // Unlike the cache, the store must be protected from a flood of bad keys.
            None if self.is_exhausted(source(), now) => {
                return Err(StoreError::Unavailable("cache bypassed, and too many bad keys from this source".into()));
            }
            None => {
                let digests: Vec<_> = self.digests(key).collect();
                let found = match self.store.find_key(&digests).await? {
                    Some(key) if only.is_none_or(|only| key.tenant == *only) => {
                        let tenant = self.store.find_tenant(&key.tenant).await?;
                        let suspended_at = tenant.and_then(|tenant| tenant.suspended_at());
                        Some(KeyStatus::from(key).in_tenant(suspended_at))
                    }
                    _ => None,
                };
                (found, self.service.environment().now())
            }
        };
        let verdict = Verdict::new(found, now, self.service.settings().revoked_retention);
        let retry_after = match &verdict {
            Verdict::Malformed => None,
            Verdict::Valid(identity) => {
                if !is_counted {
                    self.service.count_accepted(identity, now);
                }
                self.service.collect_old_digest(key);
                None
            }
            Verdict::NotFound => self.count_bad_key(source(), now),
            Verdict::Refused(key) => {
                self.service.count_refused(key, now);
                self.service.record_refused_key_presented(self.service.request(Some(source())), key);
                self.count_bad_key(source(), now)
            }
        };
        Ok(Verification { verdict, checked_at: now, retry_after })
    }

    fn count_bad_key(&self, source: IpAddr, now: Timestamp) -> Option<Duration> {
        self.bad_keys.count(&client_network(source), BAD_KEYS, now)
    }

    fn is_exhausted(&self, source: IpAddr, now: Timestamp) -> bool {
        self.bad_keys.is_exhausted(&client_network(source), BAD_KEYS, now)
    }

    /// Looks the key up in the cache. Returns `None` if only the store can answer, and `Some(None)` if there is no such
    /// key. Counts a use of a key that is valid at `now`.
    fn find_cached(&self, key: PresentedKey<'_>, only: Option<&TenantId>, now: Timestamp) -> Option<Option<KeyStatus>> {
        let is_visible = |status: &KeyStatus| only.is_none_or(|only| status.tenant() == only);
        let find = self.coherence.read_with_check(|cache, may_use_cache| {
            // In this order: what is counted here is not looked up in the store.
            let used_at =
                |status: &KeyStatus| (status.is_valid(now) && is_visible(status) && may_use_cache()).then_some(now);
            cache.find_key(self.digests(key), used_at)
        });
        find.flatten().map(|found| found.filter(is_visible))
    }

    /// The digests of the key under each root secret, the current one first.
    fn digests(&self, key: PresentedKey<'_>) -> impl Iterator<Item = KeyDigest> {
        self.service.keyring().iter().map(move |keys| key.digest(&keys.pepper))
    }
}
