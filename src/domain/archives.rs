//! Archives: files with the beginning of an audit log, which the store no longer contains.
//!
//! A log without its first entries looks cut off. A signed record shows that they were archived; a checkpoint does not,
//! since one is signed for each log every hour.

use serde::{Deserialize, Serialize};

use super::audit::{AuditEvent, AuditHead, EntryHash};
use super::checkpoints::Checkpoint;
use super::ids::TenantId;
use super::signatures::{KeyId, PublicKey, Signature, SigningKey, signed_record};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Archive {
    pub tenant: TenantId,
    /// Number of the last archived entry.
    pub number: u64,
    /// Hash of that entry.
    pub hash: EntryHash,
    /// What the log records once the archived entries are removed.
    pub event: AuditEvent,
    pub key_id: KeyId,
    pub public_key: PublicKey,
    /// Ed25519 signature of `keymark audit archive`, a line feed, and the other members as canonical JSON (RFC 8785).
    pub signature: Signature,
}

impl Archive {
    /// Records that the entries up to `last` were archived.
    pub fn sign(key: &SigningKey, tenant: TenantId, last: AuditHead, event: AuditEvent) -> Self {
        let AuditHead { number, hash } = last;
        let (public_key, signature) = (key.public_key(), Signature::NONE);
        Self { tenant, number, hash, event, key_id: public_key.id(), public_key, signature }.signed_by(key)
    }

    /// The last archived entry, which the first one in the store continues.
    pub fn last(&self) -> AuditHead {
        AuditHead { number: self.number, hash: self.hash }
    }

    /// Whether the entry of the checkpoint was archived.
    pub fn covers(&self, checkpoint: &Checkpoint) -> bool {
        self.precedes(checkpoint) || self.tenant == checkpoint.tenant && checkpoint.head() == self.last()
    }

    /// Whether the checkpoint is of an archived entry other than the last one, so that its hash cannot be compared.
    pub fn precedes(&self, checkpoint: &Checkpoint) -> bool {
        self.tenant == checkpoint.tenant && checkpoint.number < self.number
    }
}

signed_record!(Archive, "keymark audit archive\n");

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::audit::{AuditAction, AuditActor, Origin};
    use super::super::ids::{AuditEntryId, RequestId};
    use super::super::time::Timestamp;
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn head(number: u64, hash: &str) -> AuditHead {
        AuditHead { number, hash: hash.repeat(32).try_into().unwrap() }
    }

    fn archive() -> Archive {
        let mut rng = StdRng::seed_from_u64(1);
        let actor = AuditActor::command_line();
        let origin = Origin { actor, source_address: None, request_id: RequestId::new(NOON, &mut rng) };
        let event = AuditEvent::new(AuditEntryId::new(NOON, &mut rng), NOON, &origin, AuditAction::AuditArchived);
        let key = SigningKey::from_seed(&[1; 32]);
        Archive::sign(&key, "acme".parse().unwrap(), head(4, "ab"), event.with_count(4))
    }

    #[test]
    fn checkpoints_of_archived_entries_are_covered() {
        let key = SigningKey::from_seed(&[1; 32]);
        let checkpoint = |number, hash| Checkpoint::sign(&key, "acme".parse().unwrap(), head(number, hash), NOON, None);
        assert!(archive().covers(&checkpoint(3, "cd")) && archive().covers(&checkpoint(4, "ab")));
        assert!(!archive().covers(&checkpoint(4, "cd")), "of another log");
        assert!(!archive().covers(&checkpoint(5, "ab")), "still in the store");
        let foreign = Checkpoint { tenant: "other".parse().unwrap(), ..checkpoint(3, "ab") };
        assert!(!archive().covers(&foreign));
    }

    #[test]
    fn a_change_of_any_member_is_detected() {
        let key = SigningKey::from_seed(&[1; 32]).public_key();
        assert!(archive().is_signed_by(&[key]));
        let other = SigningKey::from_seed(&[2; 32]);
        assert!(!archive().is_signed_by(&[other.public_key()]));
        assert!(archive().signed_by(&other).is_signed_by(&[other.public_key()]));
        let changes: [fn(&mut Archive); 4] = [
            |record| record.tenant = "other".parse().unwrap(),
            |record| record.number += 1,
            |record| record.hash = EntryHash::default(),
            |record| record.event.count += 1,
        ];
        for change in changes {
            let mut forged = archive();
            change(&mut forged);
            assert!(!forged.is_signed_by(&[key]), "{forged:?}");
        }
    }

    #[test]
    fn a_checkpoint_of_the_same_entry_is_no_record_of_an_archive() {
        let (key, record) = (SigningKey::from_seed(&[1; 32]), archive());
        let checkpoint = Checkpoint::sign(&key, record.tenant.clone(), record.last(), NOON, None);
        let forged = Archive { signature: checkpoint.signature, ..record };
        assert!(!forged.is_signed_by(&[key.public_key()]));
    }
}
