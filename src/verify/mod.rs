//! Verification: is this key good? A malformed key is refused without a look-up. Any other one is looked up in memory,
//! or, while memory may not answer, by a single read that sees every revocation answered before it began.

use std::sync::Arc;

use crate::coherence::Coherence;
use crate::domain::keys::{KeyDigest, PresentedKey};
use crate::domain::verdict::{Found, Verdict};
use crate::service::{Request, Service};
use crate::store::{Store, StoreError};

/// Answers verifiers.
pub struct Verifier {
    store: Arc<dyn Store>,
    coherence: Arc<Coherence>,
    service: Arc<Service>,
}

impl Verifier {
    pub fn new(store: Arc<dyn Store>, coherence: Arc<Coherence>, service: Arc<Service>) -> Self {
        Self { store, coherence, service }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Judges a presented key. An error means that it cannot be decided, and never that the key is good. `request`
    /// names the request, where something about it is worth a note.
    pub async fn verify(&self, request: impl FnOnce() -> Request, presented: &str) -> Result<Verdict, StoreError> {
        let Ok(key) = PresentedKey::parse(presented) else { return Ok(Verdict::Malformed) };
        let found = match self.recall(key) {
            Some(found) => found,
            None => {
                let digests: Vec<_> = self.digests(key).collect();
                self.store.find_key(&digests).await?.map(Found::from)
            }
        };
        let now = self.service.environment().now();
        let verdict = Verdict::on(found, now, self.service.settings().revoked_retention);
        if let Verdict::Revoked(key) = &verdict {
            self.service.note_revoked_key(request(), key);
        }
        Ok(verdict)
    }

    /// What memory has for the key: nothing is an answer too. `None` when memory may not answer.
    fn recall(&self, key: PresentedKey<'_>) -> Option<Option<Found>> {
        self.coherence.read(|memory| self.digests(key).find_map(|digest| memory.keys.find(&digest)))
    }

    /// The key's digests under each secret, the current one first.
    fn digests(&self, key: PresentedKey<'_>) -> impl Iterator<Item = KeyDigest> {
        self.service.keys().iter().map(move |keys| key.digest(&keys.pepper))
    }
}
