//! Verification: is this key good? A malformed key is refused without a look-up; any other one by a single read that
//! sees every revocation answered before it began.

use std::sync::Arc;

use crate::domain::keys::{KeyDigest, PresentedKey};
use crate::domain::verdict::Verdict;
use crate::service::{Request, Service};
use crate::store::{Store, StoreError};

/// Answers verifiers.
pub struct Verifier {
    store: Arc<dyn Store>,
    service: Arc<Service>,
}

impl Verifier {
    pub fn new(store: Arc<dyn Store>, service: Arc<Service>) -> Self {
        Self { store, service }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Judges a presented key. An error means that it cannot be decided, and never that the key is good. `request`
    /// names the request, where something about it is worth a note.
    pub async fn verify(&self, request: impl FnOnce() -> Request, presented: &str) -> Result<Verdict, StoreError> {
        let Ok(key) = PresentedKey::parse(presented) else { return Ok(Verdict::Malformed) };
        let digests: Vec<KeyDigest> = self.service.keys().iter().map(|keys| key.digest(&keys.pepper)).collect();
        let found = self.store.find_key(&digests).await?;
        let now = self.service.environment().now();
        let verdict = Verdict::on(found, now, self.service.settings().revoked_retention);
        if let Verdict::Revoked(key) = &verdict {
            self.service.note_revoked_key(request(), key);
        }
        Ok(verdict)
    }
}
