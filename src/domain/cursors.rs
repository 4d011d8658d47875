//! Cursors: opaque to clients, authenticated, and bound to the list that they were made for.

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

/// What lists a cursor can be a place in.
trait Place: Serialize + DeserializeOwned {}

#[derive(Serialize, Deserialize)]
struct SystemPlace(SystemSortKey);
impl Place for SystemPlace {}

#[derive(Serialize, Deserialize)]
struct AuditPlace(u64);
impl Place for AuditPlace {}

/// Makes the cursor of a system's place in its tenant's list under `order`.
pub fn of_system(keys: &Keyring, tenant: &TenantId, order: SystemOrder, key: SystemSortKey) -> String {
    encode(keys, &system_scope(tenant, order), &SystemPlace(key))
}

/// Reads what [`of_system`] wrote for the same tenant and order.
pub fn to_system(
    keys: &Keyring,
    tenant: &TenantId,
    order: SystemOrder,
    cursor: &str,
) -> Result<SystemSortKey, Refusal> {
    decode(keys, &system_scope(tenant, order), cursor).map(|SystemPlace(key)| key)
}

/// Makes the cursor of the audit entry with this number. Changes of systems are resumed by it too.
pub fn of_audit(keys: &Keyring, tenant: &TenantId, number: u64) -> String {
    encode(keys, &audit_scope(tenant), &AuditPlace(number))
}

/// Reads what [`of_audit`] wrote for the same tenant.
pub fn to_audit(keys: &Keyring, tenant: &TenantId, cursor: &str) -> Result<u64, Refusal> {
    decode(keys, &audit_scope(tenant), cursor).map(|AuditPlace(number)| number)
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

fn encode(keys: &Keyring, scope: &str, place: &impl Place) -> String {
    let place = serde_json::to_vec(place).expect("a place is numbers and text");
    let tag = keys.current().cursors.mac(&[scope.as_bytes(), b"\0", &place]);
    URL_SAFE_NO_PAD.encode([&tag[..TAG_BYTES], &place].concat())
}

fn decode<P: Place>(keys: &Keyring, scope: &str, cursor: &str) -> Result<P, Refusal> {
    let refused = || Refusal::BadUserInput("The cursor is not one of this list.".to_owned());
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    let (tag, place) = bytes.split_at_checked(TAG_BYTES).ok_or_else(refused)?;
    if !keys.iter().any(|keys| keys.cursors.verifies(&[scope.as_bytes(), b"\0", place], tag)) {
        return Err(refused());
    }
    serde_json::from_slice(place).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::super::secrets::RootSecret;
    use super::super::systems::SortValue;
    use super::*;

    fn secret(byte: u8) -> RootSecret {
        RootSecret::new(vec![byte; 32]).unwrap()
    }

    fn place() -> SystemSortKey {
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
        let cursor = of_system(&keys, &acme, by_name, place());
        assert_eq!(to_system(&keys, &acme, by_name, &cursor), Ok(place()));
        assert!(to_system(&keys, &other, by_name, &cursor).is_err());
        assert!(to_system(&keys, &acme, backwards, &cursor).is_err());
        assert!(to_audit(&keys, &acme, &cursor).is_err());
        assert!(to_system(&Keyring::new(&secret(2), &[]), &acme, by_name, &cursor).is_err());
        assert!(to_system(&Keyring::new(&secret(2), &[secret(1)]), &acme, by_name, &cursor).is_ok());
    }

    #[test]
    fn a_changed_cursor_is_refused() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let cursor = of_audit(&keys, &tenant, 41);
        assert_eq!(to_audit(&keys, &tenant, &cursor), Ok(41));
        for at in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(to_audit(&keys, &tenant, &String::from_utf8(forged).unwrap()).is_err());
        }
        for nonsense in ["", "!", "AAAA", "é"] {
            assert!(to_audit(&keys, &tenant, nonsense).is_err());
        }
    }
}
