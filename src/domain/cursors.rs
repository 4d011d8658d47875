//! Cursors: opaque to clients, authenticated, and bound to a tenant and to a list in a certain order.
//!
//! A cursor of the audit log also contains the beginning of its entry's hash, which covers all entries before it. So it
//! shows whether a log, such as one that was restored from a backup, continues the one that the client has seen.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::audit::AuditHead;
use super::ids::{TenantId, TokenId};
use super::operators::Username;
use super::refusal::Refusal;
use super::secrets::Keyring;
use super::system_lists::{ListField, ListOrder};
use super::systems::{Direction, SystemOrderField, SystemSortKey};

/// Bytes of the authentication code: HMAC-SHA-256 truncated to 128 bits (RFC 2104, section 5).
const TAG_BYTES: usize = 16;

/// A position in a list that a cursor can encode.
trait Position: Serialize + DeserializeOwned {}

#[derive(Serialize, Deserialize)]
struct SystemPosition(SystemSortKey);
impl Position for SystemPosition {}

#[derive(Serialize, Deserialize)]
struct TokenPosition(TokenId);
impl Position for TokenPosition {}

#[derive(Serialize, Deserialize)]
struct TenantPosition(TenantId);
impl Position for TenantPosition {}

#[derive(Serialize, Deserialize)]
struct OperatorPosition(Username);
impl Position for OperatorPosition {}

/// The entry that an audit cursor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AuditPosition {
    Entry(u64, HashPrefix),
    /// In a cursor of release 0.1.
    Number(u64),
}
impl Position for AuditPosition {}

impl AuditPosition {
    pub fn number(&self) -> u64 {
        let (Self::Entry(number, _) | Self::Number(number)) = self;
        *number
    }

    /// Whether it is the position of this entry.
    pub fn is_of(&self, entry: &AuditHead) -> bool {
        match self {
            Self::Entry(number, hash) => *number == entry.number && *hash == HashPrefix::of(entry),
            Self::Number(number) => *number == entry.number,
        }
    }
}

/// The first 8 bytes of an entry's hash, as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HashPrefix([u8; 8]);

impl HashPrefix {
    fn of(entry: &AuditHead) -> Self {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&entry.hash.as_bytes()[..8]);
        Self(prefix)
    }
}

serialize_as_hex!(HashPrefix, "not a prefix of 16 hex digits");

/// Encodes the cursor of a system in its tenant's list with this order.
pub fn encode_system(keys: &Keyring, tenant: &TenantId, order: ListOrder, key: SystemSortKey) -> String {
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
    order: ListOrder,
    cursor: &str,
) -> Result<SystemSortKey, Refusal> {
    decode(keys, &system_scope(tenant, order), cursor).map(|SystemPosition(key)| key)
}

/// Encodes the cursor of this audit entry. Subscriptions are resumed by it too.
pub fn encode_audit(keys: &Keyring, tenant: &TenantId, entry: &AuditHead) -> String {
    encode(keys, &audit_scope(tenant), &AuditPosition::Entry(entry.number, HashPrefix::of(entry)))
}

/// Decodes a cursor of [`encode_audit`].
///
/// # Errors
///
/// `BAD_USER_INPUT` if it was not encoded for the same tenant.
pub fn decode_audit(keys: &Keyring, tenant: &TenantId, cursor: &str) -> Result<AuditPosition, Refusal> {
    decode(keys, &audit_scope(tenant), cursor)
}

/// Encodes the cursor of a token in the list of its tenant's service tokens or verifier tokens.
pub fn encode_token(keys: &Keyring, tenant: &TenantId, is_service: bool, id: TokenId) -> String {
    encode(keys, &token_scope(tenant, is_service), &TokenPosition(id))
}

/// Decodes a cursor of [`encode_token`].
///
/// # Errors
///
/// `BAD_USER_INPUT` if it was not encoded for the same list.
pub fn decode_token(keys: &Keyring, tenant: &TenantId, is_service: bool, cursor: &str) -> Result<TokenId, Refusal> {
    decode(keys, &token_scope(tenant, is_service), cursor).map(|TokenPosition(id)| id)
}

/// Encodes the cursor of an operator in the list of the tenant.
pub fn encode_operator(keys: &Keyring, tenant: &TenantId, username: Username) -> String {
    encode(keys, &operator_scope(tenant), &OperatorPosition(username))
}

/// Decodes a cursor of [`encode_operator`].
///
/// # Errors
///
/// `BAD_USER_INPUT` if it was not encoded for the same tenant.
pub fn decode_operator(keys: &Keyring, tenant: &TenantId, cursor: &str) -> Result<Username, Refusal> {
    decode(keys, &operator_scope(tenant), cursor).map(|OperatorPosition(username)| username)
}

fn operator_scope(tenant: &TenantId) -> String {
    format!("operators/{tenant}")
}

fn token_scope(tenant: &TenantId, is_service: bool) -> String {
    format!("{}-tokens/{tenant}", if is_service { "service" } else { "verifier" })
}

/// Scope of the cursors of the list of all tenants.
const TENANTS_SCOPE: &str = "tenants";

/// Encodes the cursor of a tenant in the list of all tenants.
pub fn encode_tenant(keys: &Keyring, id: &TenantId) -> String {
    encode(keys, TENANTS_SCOPE, &TenantPosition(id.clone()))
}

/// Decodes a cursor of [`encode_tenant`].
///
/// # Errors
///
/// `BAD_USER_INPUT` if it was encoded for another list.
pub fn decode_tenant(keys: &Keyring, cursor: &str) -> Result<TenantId, Refusal> {
    decode(keys, TENANTS_SCOPE, cursor).map(|TenantPosition(id)| id)
}

fn system_scope(tenant: &TenantId, order: ListOrder) -> String {
    let field = match order.field {
        ListField::Stored(SystemOrderField::Name) => "name",
        ListField::Stored(SystemOrderField::UpdatedAt) => "updated",
        ListField::Stored(SystemOrderField::CreatedAt) => "created",
        ListField::LastUsedAt => "used",
        ListField::KeyGeneratedAt => "generated",
        ListField::KeyExpiresAt => "expires",
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
        let by_name = ListOrder::default();
        let backwards = ListOrder { direction: Direction::Descending, ..by_name };
        let cursor = encode_system(&keys, &acme, by_name, position());
        assert_eq!(decode_system(&keys, &acme, by_name, &cursor), Ok(position()));
        assert!(decode_system(&keys, &other, by_name, &cursor).is_err());
        assert!(decode_system(&keys, &acme, backwards, &cursor).is_err());
        assert!(decode_audit(&keys, &acme, &cursor).is_err());
        assert!(decode_system(&Keyring::new(&secret(2), &[]), &acme, by_name, &cursor).is_err());
        assert!(decode_system(&Keyring::new(&secret(2), &[secret(1)]), &acme, by_name, &cursor).is_ok());
    }

    #[test]
    fn a_cursor_of_release_0_1_is_of_the_same_system() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let cursor = "IMPp4NdyThOjPhUqHMt31HsidmFsdWUiOnsiTmFtZSI6ImJpbGxpbmcifSwiaWQiOiJzeXNfMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAifQ";
        assert_eq!(decode_system(&keys, &tenant, ListOrder::default(), cursor), Ok(position()));
    }

    #[test]
    fn a_cursor_names_a_system_without_a_value() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let by_use = ListOrder { field: ListField::LastUsedAt, ..ListOrder::default() };
        let position = SystemSortKey { value: SortValue::Absent, ..position() };
        let cursor = encode_system(&keys, &tenant, by_use, position.clone());
        assert_eq!(decode_system(&keys, &tenant, by_use, &cursor), Ok(position));
        assert!(decode_system(&keys, &tenant, ListOrder::default(), &cursor).is_err());
    }

    #[test]
    fn a_changed_cursor_is_refused() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let entry = AuditHead { number: 41, hash: "ab".repeat(32).try_into().unwrap() };
        let cursor = encode_audit(&keys, &tenant, &entry);
        assert!(decode_audit(&keys, &tenant, &cursor).unwrap().is_of(&entry));
        for at in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(decode_audit(&keys, &tenant, &String::from_utf8(forged).unwrap()).is_err());
        }
        for nonsense in ["", "!", "AAAA", "é"] {
            assert!(decode_audit(&keys, &tenant, nonsense).is_err());
        }
    }
    #[test]
    fn an_audit_cursor_is_of_one_entry_of_one_log() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let entry = |number, hash: &str| AuditHead { number, hash: hash.repeat(32).try_into().unwrap() };
        let position = decode_audit(&keys, &tenant, &encode_audit(&keys, &tenant, &entry(41, "ab"))).unwrap();
        assert_eq!(position.number(), 41);
        assert!(!position.is_of(&entry(41, "ac")) && !position.is_of(&entry(42, "ab")));
        insta::assert_snapshot!(serde_json::to_string(&position).unwrap(), @r#"[41,"abababababababab"]"#);
    }

    #[test]
    fn an_audit_cursor_of_release_0_1_names_an_entry_by_its_number() {
        let keys = Keyring::new(&secret(1), &[]);
        let tenant: TenantId = "acme".parse().unwrap();
        let position = decode_audit(&keys, &tenant, "IarPNYWEL6pfDDUU7WO6ezQx").unwrap();
        assert_eq!(position, AuditPosition::Number(41));
        assert!(position.is_of(&AuditHead { number: 41, hash: Default::default() }));
    }
}
