//! Checkpoints: signed statements about where a tenant's audit log ended.
//!
//! The chain of hashes alone shows neither that its end was cut off nor that all of it was written anew. Both differ from
//! a checkpoint, which cannot be signed without the root secret.

use serde::{Deserialize, Serialize};

use super::audit::{AuditHead, EntryHash};
use super::exports::ExportSummary;
use super::ids::TenantId;
use super::signatures::{KeyId, PublicKey, Signature, SigningKey, signed_record};
use super::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    pub tenant: TenantId,
    /// Number of the log's last entry.
    pub number: u64,
    /// Hash of the log's last entry.
    pub hash: EntryHash,
    pub signed_at: Timestamp,
    /// For the checkpoint at the end of an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportSummary>,
    pub key_id: KeyId,
    pub public_key: PublicKey,
    /// Ed25519 signature of `keymark audit checkpoint`, a line feed, and the other members as canonical JSON (RFC 8785).
    pub signature: Signature,
}

impl Checkpoint {
    pub fn sign(
        key: &SigningKey,
        tenant: TenantId,
        head: AuditHead,
        signed_at: Timestamp,
        export: Option<ExportSummary>,
    ) -> Self {
        let AuditHead { number, hash } = head;
        let (public_key, signature) = (key.public_key(), Signature::NONE);
        let key_id = public_key.id();
        Self { tenant, number, hash, signed_at, export, key_id, public_key, signature }.signed_by(key)
    }

    pub fn head(&self) -> AuditHead {
        AuditHead { number: self.number, hash: self.hash }
    }
}

signed_record!(Checkpoint, "keymark audit checkpoint\n");

#[cfg(test)]
mod tests {
    use super::super::exports::ExportProgress;
    use super::*;

    fn checkpoint() -> Checkpoint {
        let mut shown = ExportProgress::default();
        let head = AuditHead { number: 7, hash: "ab".repeat(32).try_into().unwrap() };
        shown.add(&head);
        let key = SigningKey::from_seed(&[1; 32]);
        let at = Timestamp::from_millis(1_700_000_000_000);
        Checkpoint::sign(&key, "acme".parse().unwrap(), head, at, Some(shown.summary()))
    }

    #[test]
    fn form_and_signature_are_fixed() {
        insta::assert_snapshot!(checkpoint().to_json(), @r#"{"tenant":"acme","number":7,"hash":"abababababababababababababababababababababababababababababababab","signedAt":1700000000000,"export":{"entries":1,"last":7,"digest":"152e0bece7c2ec5b41b0f0ee9e7020df9dfb7e2d6b4b22292fb2725e6ea4aada"},"keyId":"34750f98bd59fcfc","publicKey":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c","signature":"52bb92668ee4f20edaeded8ed7c451746d0874544131895066c11046fc412bb04798cf98099dcada466e321ccf9a2555d68d4a9a273d887bd1fc10ed64b23304"}"#);
    }

    #[test]
    fn a_change_of_any_member_is_detected() {
        let (whole, key) = (checkpoint(), SigningKey::from_seed(&[1; 32]).public_key());
        assert!(whole.is_signed_by(&[SigningKey::from_seed(&[2; 32]).public_key(), key]));
        assert!(!whole.is_signed_by(&[SigningKey::from_seed(&[2; 32]).public_key()]) && !whole.is_signed_by(&[]));
        let json: serde_json::Value = serde_json::from_str(&whole.to_json()).unwrap();
        let change = |value: &serde_json::Value| match value {
            serde_json::Value::Number(n) => serde_json::json!(n.as_u64().unwrap() + 1),
            serde_json::Value::String(text) if text == "acme" => serde_json::json!("acne"),
            serde_json::Value::String(hex) => {
                serde_json::json!(hex.replacen(&hex[..1], if hex.starts_with('0') { "1" } else { "0" }, 1))
            }
            other => panic!("{other}"),
        };
        for (name, value) in json.as_object().unwrap() {
            let mut changes = Vec::new();
            if let serde_json::Value::Object(summary) = value {
                for (inner, value) in summary {
                    let mut changed = json.clone();
                    changed[name][inner] = change(value);
                    changes.push(changed);
                }
                let mut removed = json.clone();
                removed.as_object_mut().unwrap().remove(name);
                changes.push(removed);
            } else {
                let mut changed = json.clone();
                changed[name] = change(value);
                changes.push(changed);
            }
            for changed in changes {
                let forged: Checkpoint = serde_json::from_value(changed.clone()).unwrap();
                assert!(!forged.is_signed_by(&[key]), "{changed}");
            }
        }
    }
}
