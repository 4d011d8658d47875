//! Restored backups: signed records of which part of an audit log a backup has replaced.
//!
//! Checkpoints of the replaced part remain valid signatures. Without such a record they show that the log was cut off or
//! rewritten, so a record is signed like they are.

use serde::{Deserialize, Serialize};

use super::audit::{AuditHead, EntryHash};
use super::checkpoints::Checkpoint;
use super::ids::TenantId;
use super::signatures::{KeyId, PublicKey, Signature, SigningKey, signed_record};
use super::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restore {
    pub tenant: TenantId,
    /// The store's epoch since the restore.
    pub epoch: u64,
    /// Number of the last entry that the log has in common with the replaced history, as far as is known.
    pub number: u64,
    /// Hash of that entry.
    pub hash: EntryHash,
    /// The known checkpoints of the replaced history, by their numbers.
    pub replaced: Vec<Checkpoint>,
    pub restored_at: Timestamp,
    pub key_id: KeyId,
    pub public_key: PublicKey,
    /// Ed25519 signature of `keymark store restore`, a line feed, and the other members as canonical JSON (RFC 8785).
    pub signature: Signature,
}

impl Restore {
    /// Records that the history of a tenant after `common` was replaced, which had the `lost` checkpoints.
    pub fn sign(
        key: &SigningKey,
        tenant: TenantId,
        epoch: u64,
        common: AuditHead,
        lost: &[Checkpoint],
        now: Timestamp,
    ) -> Self {
        let AuditHead { number, hash } = common;
        let mut replaced = lost.to_vec();
        replaced.sort_by_key(|checkpoint| checkpoint.number);
        let (public_key, signature) = (key.public_key(), Signature::NONE);
        let key_id = public_key.id();
        Self { tenant, epoch, number, hash, replaced, restored_at: now, key_id, public_key, signature }.signed_by(key)
    }

    /// Whether the checkpoint belongs to the history that the backup has replaced: it was signed before the restore, or is
    /// a known one, by a clock that was ahead.
    pub fn replaces(&self, checkpoint: &Checkpoint) -> bool {
        self.tenant == checkpoint.tenant
            && checkpoint.number > self.number
            && (checkpoint.signed_at <= self.restored_at || self.replaced.contains(checkpoint))
    }

    /// The last entry in common.
    pub fn common(&self) -> AuditHead {
        AuditHead { number: self.number, hash: self.hash }
    }
}

signed_record!(Restore, "keymark store restore\n");

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn head(number: u64) -> AuditHead {
        AuditHead { number, hash: "ab".repeat(32).try_into().unwrap() }
    }

    fn checkpoint(number: u64, signed_at: i64) -> Checkpoint {
        let key = SigningKey::from_seed(&[1; 32]);
        let at = Timestamp::from_millis(NOON.as_millis() + signed_at);
        Checkpoint::sign(&key, "acme".parse().unwrap(), head(number), at, None)
    }

    fn restore(lost: &[Checkpoint]) -> Restore {
        Restore::sign(&SigningKey::from_seed(&[1; 32]), "acme".parse().unwrap(), 3, head(4), lost, NOON)
    }

    #[test]
    fn only_checkpoints_of_the_replaced_history_are_excused() {
        let record = restore(&[checkpoint(6, -5)]);
        assert!(record.replaces(&checkpoint(6, -5)) && record.replaces(&checkpoint(5, -9)));
        assert!(!record.replaces(&checkpoint(4, -9)), "the log still has this entry");
        assert!(!record.replaces(&checkpoint(6, 1)), "signed after the restore");
        let foreign = Checkpoint { tenant: "other".parse().unwrap(), ..checkpoint(6, -5) };
        assert!(!record.replaces(&foreign));
    }

    #[test]
    fn checkpoints_by_a_clock_that_was_ahead_are_excused() {
        let lost = [checkpoint(7, 30_000), checkpoint(5, 60_000)];
        let record = restore(&lost);
        assert!(lost.iter().all(|checkpoint| record.replaces(checkpoint)));
        assert!(!record.replaces(&checkpoint(7, 60_000)), "it may be one of the log since then");
        assert_eq!(record.replaced.last().map(|newest| newest.number), Some(7));
    }

    #[test]
    fn a_change_of_any_member_is_detected() {
        let key = SigningKey::from_seed(&[1; 32]).public_key();
        let record = restore(&[checkpoint(6, -5)]);
        assert!(record.is_signed_by(&[key]) && !record.is_signed_by(&[SigningKey::from_seed(&[2; 32]).public_key()]));
        let changes: [fn(&mut Restore); 6] = [
            |record| record.tenant = "other".parse().unwrap(),
            |record| record.epoch += 1,
            |record| record.number -= 1,
            |record| record.hash = EntryHash::default(),
            |record| record.replaced.clear(),
            |record| record.restored_at = Timestamp::from_millis(0),
        ];
        let other = SigningKey::from_seed(&[2; 32]);
        assert!(record.clone().signed_by(&other).is_signed_by(&[other.public_key()]));
        for change in changes {
            let mut forged = record.clone();
            change(&mut forged);
            assert!(!forged.is_signed_by(&[key]), "{forged:?}");
        }
    }
}
