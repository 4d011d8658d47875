//! Verification: is this key good? A malformed key is refused without a look-up. Any other one is looked up in memory,
//! or, while memory may not answer, by a single read that sees every revocation answered before it began.

pub mod limiter;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::limiter::Limiter;

use crate::coherence::Coherence;
use crate::domain::keys::{KeyDigest, PresentedKey};
use crate::domain::verdict::{Found, Verdict};
use crate::service::Service;
use crate::store::{Store, StoreError};

/// Answers verifiers.
pub struct Verifier {
    store: Arc<dyn Store>,
    coherence: Arc<Coherence>,
    service: Arc<Service>,
    limiter: Limiter,
}

/// A verdict, and what else its source is to be told.
pub struct Judgement {
    pub verdict: Verdict,
    /// The source has presented too many bad keys: how long it should wait before the next.
    pub retry_after: Option<Duration>,
}

impl Verifier {
    pub fn new(store: Arc<dyn Store>, coherence: Arc<Coherence>, service: Arc<Service>) -> Self {
        Self { store, coherence, service, limiter: Limiter::default() }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Judges a presented key. An error means that it cannot be decided, and never that the key is good. `source` says
    /// where the request came from, where that matters.
    pub async fn verify(&self, source: impl Fn() -> IpAddr, presented: &str) -> Result<Judgement, StoreError> {
        let Ok(key) = PresentedKey::parse(presented) else {
            return Ok(Judgement { verdict: Verdict::Malformed, retry_after: None });
        };
        let found = match self.recall(key) {
            Some(found) => found,
            // What memory would answer for nothing must not flood the store.
            None if self.limiter.is_exhausted(source(), self.service.environment().now()) => {
                return Err(StoreError::Unavailable(
                    "memory does not answer, and too many bad keys came before".into(),
                ));
            }
            None => {
                let digests: Vec<_> = self.digests(key).collect();
                self.store.find_key(&digests).await?.map(Found::from)
            }
        };
        let now = self.service.environment().now();
        let verdict = Verdict::on(found, now, self.service.settings().revoked_retention);
        let retry_after = match &verdict {
            Verdict::Valid(_) | Verdict::Malformed => None,
            Verdict::NotFound => self.limiter.count(source(), now),
            Verdict::Revoked(key) => {
                self.service.record_revoked_key_presented(self.service.request(Some(source())), key);
                self.limiter.count(source(), now)
            }
        };
        Ok(Judgement { verdict, retry_after })
    }

    /// What memory has for the key: nothing is an answer too. `None` when memory may not answer.
    fn recall(&self, key: PresentedKey<'_>) -> Option<Option<Found>> {
        self.coherence.read(|cache| self.digests(key).find_map(|digest| cache.keys.find(&digest)))
    }

    /// The key's digests under each secret, the current one first.
    fn digests(&self, key: PresentedKey<'_>) -> impl Iterator<Item = KeyDigest> {
        self.service.keyring().iter().map(move |keys| key.digest(&keys.pepper))
    }
}
