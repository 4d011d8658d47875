//! Cursors: opaque to clients, authenticated, and bound to a tenant and to a list in a certain order.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ids::TenantId;
use super::refusal::Refusal;
use super::secrets::Keyring;
use super::systems::{Direction, SystemOrder, SystemOrderField, SystemSortKey};

/// Bytes of the authentication code: HMAC-SHA-256 truncated to 128 bits (RFC 2104, section 5).
const TAG_BYTES: usize = 16;

/// A position in a list that a cursor can encode.
trait Position: Serialize + DeserializeOwned {}

#[derive(Serialize, Deserialize)]
struct SystemPosition(SystemSortKey);
impl Position for SystemPosition {}

#[derive(Serialize, Deserialize)]
struct AuditPosition(u64);
impl Position for AuditPosition {}

/// Encodes the cursor of a system in its tenant's list with this order.
pub fn encode_system(keys: &Keyring, tenant: &TenantId, order: SystemOrder, key: SystemSortKey) -> String {
    encode(keys, &system_scope(tenant, order), &SystemPosition(key))
}

/// Decodes a cursor of [`encode_system`].
///
/// # Errors
///
/// `BAD_USER_INPUT` if it was not encoded for the same tenant and order.
pub fn decode_system(
    keys: &Keyring,
    tenant: &TenantId,
    order: SystemOrder,
    cursor: &str,
) -> Result<SystemSortKey, Refusal> {
    decode(keys, &system_scope(tenant, order), cursor).map(|SystemPosition(key)| key)
}

/// Encodes the cursor of the audit entry with this number. Subscriptions are resumed by it too.
pub fn encode_audit(keys: &Keyring, tenant: &TenantId, number: u64) -> String {
    encode(keys, &audit_scope(tenant), &AuditPosition(number))
}

/// Decodes a cursor of [`encode_audit`].
///
/// # Errors
///
/// `BAD_USER_INPUT` if it was not encoded for the same tenant.
pub fn decode_audit(keys: &Keyring, tenant: &TenantId, cursor: &str) -> Result<u64, Refusal> {
    decode(keys, &audit_scope(tenant), cursor).map(|AuditPosition(number)| number)
}

fn system_scope(tenant: &TenantId, order: SystemOrder) -> String {
    let field = match order.field {
        SystemOrderField::Name => "name",
        SystemOrderField::UpdatedAt => "updated",
        SystemOrderField::CreatedAt => "created",
    };
    let direction = match order.direction {
        Direction::Ascending => "asc",
        Direction::Descending => "desc",
    };
    format!("systems/{tenant}/{field}/{direction}")
}

fn audit_scope(tenant: &TenantId) -> String {
    format!("audit/{tenant}")
}

fn encode(keys: &Keyring, scope: &str, position: &impl Position) -> String {
    let position = serde_json::to_vec(position).expect("a position consists of numbers and text");
    let tag = keys.current().cursors.mac(&[scope.as_bytes(), b"\0", &position]);
    URL_SAFE_NO_PAD.encode([&tag[..TAG_BYTES], &position].concat())
}

fn decode<P: Position>(keys: &Keyring, scope: &str, cursor: &str) -> Result<P, Refusal> {
    let invalid = || {
        let message = "The cursor does not belong to this list. Use one that this list returned in the same order.";
        Refusal::BadUserInput(message.to_owned())
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    let (tag, position) = bytes.split_at_checked(TAG_BYTES).ok_or_else(invalid)?;
    if !keys.iter().any(|keys| keys.cursors.verifies(&[scope.as_bytes(), b"\0", position], tag)) {
        return Err(invalid());
    }
    serde_json::from_slice(position).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::super::secrets::RootSecret;
    use super::super::systems::SortValue;
    use super::*;

    fn secret(byte: u8) -> RootSecret {
        RootSecret::new(vec![byte; 32]).unwrap()
    }

    fn position() -> SystemSortKey {
        SystemSortKey {
            value: SortValue::Name("billing".to_owned()),
            id: format!("sys_{}", "0".repeat(26)).parse().unwrap(),
        }
    }

    #[test]
    fn a_cursor_is_bound_to_tenant_order_and_secret() {
        let keys = Keyring::new(&secret(1), &[]);
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let by_name = SystemOrder::default();
        let backwards = SystemOrder { direction: Direction::Descending, ..by_name };
        let cursor = encode_system(&keys, &acme, by_name, position());
        assert_eq!(decode_system(&keys, &acme, by_name, &cursor), Ok(position()));
        assert!(decode_system(&keys, &other, by_name, &cursor).is_err());
        assert!(decode_system(&keys, &acme, backwards, &cursor).is_err());
        assert!(decode_audit(&keys, &acme, &cursor).is_err());
        assert!(decode_system(&Keyring::new(&secret(2), &[]), &acme, by_name, &cursor).is_err());
        assert!(decode_system(&Keyring::new(&secret(2), &[secret(1)]), &acme, by_name, &cursor).is_ok());
    }

    #[test]
    fn a_changed_cursor_is_refused() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let cursor = encode_audit(&keys, &tenant, 41);
        assert_eq!(decode_audit(&keys, &tenant, &cursor), Ok(41));
        for at in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(decode_audit(&keys, &tenant, &String::from_utf8(forged).unwrap()).is_err());
        }
        for nonsense in ["", "!", "AAAA", "é"] {
            assert!(decode_audit(&keys, &tenant, nonsense).is_err());
        }
    }
}
