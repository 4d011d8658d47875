//! The root secrets that keys name, and how many keys name each.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::coherence::locks::{read, write};
use crate::domain::secrets::Fingerprint;

/// The place of a secret in [`Secrets`]. 0 is that of keys that name none.
pub(super) type SecretNumber = u8;

/// Secrets are few, and are never removed. From the 256th on, keys count as naming none.
#[derive(Default)]
pub(super) struct Secrets {
    fingerprints: RwLock<Vec<Fingerprint>>,
    /// Number of keys by the number of their secret.
    counts: Counts,
}

struct Counts([AtomicUsize; 256]);

impl Default for Counts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(0)))
    }
}

impl Secrets {
    /// Counts a key, and returns the number of its secret.
    pub(super) fn add(&self, secret: Option<Fingerprint>) -> SecretNumber {
        let number = secret.map_or(0, |secret| self.number(secret));
        self.counts.0[usize::from(number)].fetch_add(1, Ordering::Relaxed);
        number
    }

    pub(super) fn remove(&self, number: SecretNumber) {
        self.counts.0[usize::from(number)].fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn find(&self, number: SecretNumber) -> Option<Fingerprint> {
        let place = usize::from(number).checked_sub(1)?;
        read(&self.fingerprints).get(place).copied()
    }

    pub(super) fn counts(&self) -> Vec<(Option<Fingerprint>, usize)> {
        let fingerprints = read(&self.fingerprints);
        let secrets = std::iter::once(None).chain(fingerprints.iter().copied().map(Some));
        secrets.zip(&self.counts.0).map(|(secret, count)| (secret, count.load(Ordering::Relaxed))).collect()
    }

    fn number(&self, secret: Fingerprint) -> SecretNumber {
        let find = |fingerprints: &[Fingerprint]| fingerprints.iter().position(|known| *known == secret);
        let found = find(&read(&self.fingerprints));
        let place = found.unwrap_or_else(|| {
            let mut fingerprints = write(&self.fingerprints);
            find(&fingerprints).unwrap_or_else(|| {
                fingerprints.push(secret);
                fingerprints.len() - 1
            })
        });
        SecretNumber::try_from(place + 1).unwrap_or(0)
    }
}
