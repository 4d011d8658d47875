//! The audit log: one chain of hashed entries per tenant.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use super::actors::{AuditActor, AuditActorKind};
use super::canonical_json::canonical_json;
use super::external_ids::ExternalId;
use super::ids::{ActorId, AuditEntryId, OperatorId, RequestId, SystemId, TenantId, TokenId};
use super::keys::{KeyRole, Mark};
use super::operators::Operator;
use super::permissions::Permissions;
use super::refusal::ErrorCode;
use super::systems::{CurrentKey, EndedKey, Suspension, System};
use super::tenants::Tenant;
use super::texts::{Description, Reason};
use super::time::Timestamp;
use super::tokens::Token;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditAction {
    SystemCreated,
    SystemRenamed,
    SystemDeleted,
    KeyGenerated,
    KeyRevoked,
    OperatorAdded,
    OperatorRemoved,
    PermissionsChanged,
    PasswordChanged,
    SignedIn,
    SignedOut,
    SignInRefused,
    PermissionRefused,
    RevokedKeyPresented,
    AuditExported,
    AuditArchived,
    KeysRedigested,
    StoreRestored,
    KeyRotated,
    RotationEnded,
    KeyExpiryChanged,
    KeyExpired,
    KeyExpiryWarned,
    SystemSuspended,
    SystemResumed,
    SystemDescribed,
    ExpiredKeyPresented,
    SuspendedKeyPresented,
    TenantPolicyChanged,
    TenantCreated,
    TenantRenamed,
    TenantSuspended,
    TenantResumed,
    TenantDeleted,
    OperatorPromoted,
    OperatorSuspended,
    OperatorResumed,
    SessionsEnded,
    ServiceTokenCreated,
    ServiceTokenRotated,
    ServiceTokenRevoked,
    VerifierTokenCreated,
    VerifierTokenRevoked,
    ExternalIdChanged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditOutcome {
    Done,
    Refused,
}

/// A system right after a change, for subscribers. Contains no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemImage {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<ExternalId>,
    /// The mark of the current key. Entries of release 0.1 have nothing else of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mark: Option<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_key: Option<KeyImage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring_key: Option<KeyImage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key: Option<EndedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A current or retiring key right after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyImage {
    pub mark: Mark,
    pub generated_at: Timestamp,
    pub generated_by: AuditActor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl KeyImage {
    fn of(key: &CurrentKey, system: &System) -> Self {
        let (generated_at, generated_by) = key.origin_in(system);
        Self { mark: key.mark, generated_at, generated_by, expires_at: key.expires_at }
    }
}

impl SystemImage {
    pub fn of(system: &System) -> Self {
        let image = |key: &Option<CurrentKey>| key.as_ref().map(|key| KeyImage::of(key, system));
        Self {
            name: system.name.to_string(),
            description: system.description.clone(),
            external_id: system.external_id.clone(),
            key_mark: system.key.as_ref().map(|key| key.mark),
            current_key: image(&system.key),
            retiring_key: image(&system.retiring),
            last_key: system.last_key.clone(),
            suspended: system.suspended.clone(),
            revision: system.revision,
            created_at: system.created_at,
            updated_at: system.updated_at,
        }
    }
}

/// An event, before the log assigns a number to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    pub id: AuditEntryId,
    pub occurred_at: Timestamp,
    pub actor: AuditActor,
    pub action: AuditAction,
    pub outcome: AuditOutcome,
    /// Number of identical attempts, or of keys or entries, that this event aggregates.
    pub count: u64,
    pub request_id: RequestId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemId>,
    /// The system's name at that time; the new name, if it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mark: Option<Mark>,
    /// The other key that a rotation or a revocation concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_key_mark: Option<Mark>,
    /// Which of the system's keys a change of its end concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_role: Option<KeyRole>,
    /// The end of the key after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_expires_at: Option<Timestamp>,
    /// Why an operator did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The name before a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_name: Option<String>,
    /// The system right after the change. `None` if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<SystemImage>,
    /// The operator who was added, removed or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_name: Option<String>,
    /// The service token or verifier token that was created, rotated or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
    /// The tenant's name at that time; the new name, if it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,
    /// The permissions of the operator or token after the change, or the permission that a refused caller lacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Why an attempt was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
}

/// Who caused an event, from where, and in which request.
#[derive(Clone, Debug)]
pub struct Origin {
    pub actor: AuditActor,
    pub source_address: Option<IpAddr>,
    pub request_id: RequestId,
}

impl AuditEvent {
    /// An event without a subject. The `about_…` methods add one.
    pub fn new(id: AuditEntryId, now: Timestamp, origin: &Origin, action: AuditAction) -> Self {
        Self {
            id,
            occurred_at: now,
            actor: origin.actor.clone(),
            action,
            outcome: AuditOutcome::Done,
            count: 1,
            request_id: origin.request_id,
            source_address: origin.source_address,
            system: None,
            system_name: None,
            key_mark: None,
            previous_key_mark: None,
            key_role: None,
            key_expires_at: None,
            reason: None,
            previous_name: None,
            image: None,
            operator: None,
            operator_name: None,
            token: None,
            token_name: None,
            tenant_name: None,
            permissions: None,
            error_code: None,
        }
    }

    /// The members that a filter reads.
    pub fn filtered_members(&self) -> FilteredMembers {
        FilteredMembers {
            system: self.system,
            actor: self.actor.id,
            action: self.action,
            outcome: self.outcome,
            key_marks: [self.key_mark, self.previous_key_mark],
            occurred_at: self.occurred_at,
        }
    }

    /// Adds a system, as it is after the change.
    pub fn about_system(mut self, system: &System) -> Self {
        self.image = Some(SystemImage::of(system));
        self.about_deleted_system(system)
    }

    /// Adds a system that was deleted.
    pub fn about_deleted_system(mut self, system: &System) -> Self {
        self.system = Some(system.id);
        self.system_name = Some(system.name.to_string());
        self
    }

    pub fn about_key(mut self, mark: Mark) -> Self {
        self.key_mark = Some(mark);
        self
    }

    /// Adds the live keys of a system, the current one first.
    pub fn about_keys_of(mut self, system: &System) -> Self {
        let mut marks = system.live_keys().map(|key| key.mark);
        (self.key_mark, self.previous_key_mark) = (marks.next(), marks.next());
        self
    }

    pub fn about_previous_key(mut self, mark: Option<Mark>) -> Self {
        self.previous_key_mark = mark;
        self
    }

    pub fn about_expiry(mut self, expires_at: Option<Timestamp>) -> Self {
        self.key_expires_at = expires_at;
        self
    }

    /// Adds the end of a key after the change.
    pub fn about_key_end(mut self, role: KeyRole, expires_at: Option<Timestamp>) -> Self {
        self.key_role = Some(role);
        self.about_expiry(expires_at)
    }

    pub fn because(mut self, reason: Option<Reason>) -> Self {
        self.reason = reason;
        self
    }

    pub fn renamed_from(mut self, previous_name: &str) -> Self {
        self.previous_name = Some(previous_name.to_owned());
        self
    }

    pub fn about_operator(mut self, operator: &Operator) -> Self {
        self.operator = Some(operator.id);
        self.operator_name = Some(operator.username.to_string());
        self
    }

    /// Adds a token, and the mark of its current secret.
    pub fn about_token(mut self, token: &Token) -> Self {
        self.token = Some(token.id);
        self.token_name = Some(token.name.to_string());
        self.key_mark = Some(token.mark);
        self.key_expires_at = token.expires_at;
        self
    }

    pub fn about_tenant(mut self, tenant: &Tenant) -> Self {
        self.tenant_name = Some(tenant.name.to_string());
        self
    }

    pub fn with_count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    pub fn with_permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = Some(permissions);
        self
    }

    /// Keeps the action, the outcome, the count and the error code, and drops whose attempts they were, on what and from
    /// where.
    pub fn of_others(self) -> Self {
        let origin = Origin { actor: AuditActor::others(), source_address: None, request_id: self.request_id };
        let Self { action, outcome, count, error_code, .. } = self;
        Self { outcome, count, error_code, ..Self::new(self.id, self.occurred_at, &origin, action) }
    }

    /// Turns the event into `count` attempts that were refused with `code`.
    pub fn refused(mut self, code: ErrorCode, count: u64) -> Self {
        self.outcome = AuditOutcome::Refused;
        self.error_code = Some(code);
        self.count = count;
        self
    }
}

/// The hash of an entry. Serialized as 64 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EntryHash([u8; 32]);

impl EntryHash {
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serialize_as_hex!(EntryHash, "not a hash of 64 hex digits");

/// The end of a tenant's log: the number and hash of its last entry. An empty log has number 0 and a hash of zeros, which
/// the hash of the first entry covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    pub number: u64,
    pub hash: EntryHash,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub tenant: TenantId,
    /// Counts from 1 within the tenant, without gaps.
    pub number: u64,
    pub event: AuditEvent,
    /// SHA-256 of the previous entry's hash and this entry's canonical form.
    pub hash: EntryHash,
}

impl AuditEntry {
    /// The entry for `event`, to be appended after `head`.
    pub fn after(head: &AuditHead, tenant: TenantId, event: AuditEvent) -> Self {
        let number = head.number + 1;
        let hash = chain_hash(&head.hash, &tenant, number, &event);
        Self { tenant, number, event, hash }
    }

    /// The end of the log after this entry.
    pub fn head(&self) -> AuditHead {
        AuditHead { number: self.number, hash: self.hash }
    }

    /// Checks that this entry follows `head` and was not modified.
    pub fn check(&self, head: &AuditHead) -> Result<(), ChainBreak> {
        if self.number != head.number + 1 {
            return Err(ChainBreak::Number { expected: head.number + 1, found: self.number });
        }
        if self.follows(&head.hash) { Ok(()) } else { Err(ChainBreak::Hash { number: self.number }) }
    }

    /// Whether this entry was not modified, if the previous entry has this hash.
    pub fn follows(&self, previous: &EntryHash) -> bool {
        self.hash == chain_hash(previous, &self.tenant, self.number, &self.event)
    }

    /// The entry without its hash, as the hash covers it: canonical JSON (RFC 8785).
    pub fn canonical_form(&self) -> String {
        canonical_form(&self.tenant, self.number, &self.event)
    }
}

/// The first place where a log differs from what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// An entry is missing, duplicated or out of order.
    #[error("entry {expected} is missing: found entry {found} in its place")]
    Number { expected: u64, found: u64 },
    #[error("entry {number}, or the one before it, was modified")]
    Hash { number: u64 },
    #[error("entry {number} cannot be parsed: it was modified")]
    Unreadable { number: u64 },
    /// The newest entries are missing.
    #[error("entry {number} is missing: the log ends before it, but {written} entries were written")]
    Tail { number: u64, written: u64 },
    #[error("entry {number} is not the one that was written last: the stored end of the log differs from it")]
    Head { number: u64 },
    #[error("entry {number} is not the one that a checkpoint was signed for")]
    Checkpoint { number: u64 },
    #[error("entry {number} was archived and removed, but the log contains it")]
    Archived { number: u64 },
    #[error("the checkpoint at entry {number} is not signed by the root secret or a previous one")]
    Signature { number: u64 },
}

fn chain_hash(previous: &EntryHash, tenant: &TenantId, number: u64, event: &AuditEvent) -> EntryHash {
    let mut hasher = Sha256::new();
    hasher.update(previous.0);
    hasher.update(canonical_form(tenant, number, event));
    EntryHash(hasher.finalize().into())
}

/// The entry without its hash as canonical JSON (RFC 8785): members sorted, no white space. Absent members are left out,
/// so a member added in a later version does not change the hashes of older entries.
fn canonical_form(tenant: &TenantId, number: u64, event: &AuditEvent) -> String {
    let event = serde_json::to_value(event).expect("an audit event has string keys and plain values alone");
    canonical_json(&serde_json::json!({ "event": event, "number": number, "tenant": tenant }))
}

/// The members of an event by which entries are filtered.
#[derive(Clone, Copy, Debug)]
pub struct FilteredMembers {
    pub system: Option<SystemId>,
    pub actor: Option<ActorId>,
    pub action: AuditAction,
    pub outcome: AuditOutcome,
    pub key_marks: [Option<Mark>; 2],
    pub occurred_at: Timestamp,
}

/// Which entries to return. A field that is `None` matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub system: Option<SystemId>,
    pub actor: Option<ActorId>,
    /// Matches any of these. An empty list matches nothing.
    pub actions: Option<Vec<AuditAction>>,
    pub outcome: Option<AuditOutcome>,
    /// The mark of a key that the event is about, or of the other key that it concerns.
    pub key_mark: Option<Mark>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    /// The deletion of a system.
    pub fn deletion_of(system: SystemId) -> Self {
        Self {
            system: Some(system),
            actions: Some(vec![AuditAction::SystemDeleted]),
            outcome: Some(AuditOutcome::Done),
            ..Self::default()
        }
    }

    pub fn matches(&self, event: &AuditEvent) -> bool {
        self.matches_members(&event.filtered_members())
    }

    pub fn matches_members(&self, event: &FilteredMembers) -> bool {
        self.system.is_none_or(|system| event.system == Some(system))
            && self.actor.is_none_or(|actor| event.actor == Some(actor))
            && self.actions.as_ref().is_none_or(|actions| actions.contains(&event.action))
            && self.outcome.is_none_or(|outcome| event.outcome == outcome)
            && self.key_mark.is_none_or(|mark| event.key_marks.contains(&Some(mark)))
            && self.from.is_none_or(|from| event.occurred_at >= from)
            && self.to.is_none_or(|to| event.occurred_at < to)
    }

    /// For the filter of everything that was done, the filter of all other entries, which are few: those of refused
    /// attempts. `None` for any other filter.
    pub fn others_than_done(&self) -> Option<Self> {
        let with = |outcome| Self { outcome: Some(outcome), ..Self::default() };
        (*self == with(AuditOutcome::Done)).then(|| with(AuditOutcome::Refused))
    }

    /// Returns true if the filter is by time alone.
    pub fn is_only_by_time(&self) -> bool {
        !self.is_empty() && Self { from: None, to: None, ..self.clone() }.is_empty()
    }

    /// Returns true if every entry matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::system_names::SystemName;
    use super::*;

    fn log(length: u64) -> Vec<AuditEntry> {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Timestamp::from_millis(1_700_000_000_000);
        let tenant: TenantId = "acme".parse().unwrap();
        let mut head = AuditHead::default();
        (0..length)
            .map(|i| {
                let name = SystemName::parse(&format!("System {i} \"é\"")).unwrap();
                let system = System::new(SystemId::new(now, &mut rng), tenant.clone(), name, now);
                let origin = Origin {
                    actor: AuditActor::command_line(),
                    source_address: Some([127, 0, 0, 1].into()),
                    request_id: RequestId::new(now, &mut rng),
                };
                let event = AuditEvent::new(AuditEntryId::new(now, &mut rng), now, &origin, AuditAction::SystemCreated);
                let entry = AuditEntry::after(&head, tenant.clone(), event.about_system(&system));
                head = entry.head();
                entry
            })
            .collect()
    }

    fn check(entries: &[AuditEntry]) -> Result<(), ChainBreak> {
        entries.iter().try_fold(AuditHead::default(), |head, e| e.check(&head).map(|()| e.head())).map(drop)
    }

    #[test]
    fn an_unmodified_chain_is_intact() {
        assert_eq!(check(&log(5)), Ok(()));
    }

    #[test]
    fn the_first_break_is_reported() {
        let mut removed = log(5);
        removed.remove(2);
        assert_eq!(check(&removed), Err(ChainBreak::Number { expected: 3, found: 4 }));
        let mut swapped = log(5);
        swapped.swap(1, 2);
        assert_eq!(check(&swapped), Err(ChainBreak::Number { expected: 2, found: 3 }));
        let mut renumbered = log(5);
        renumbered.remove(2);
        renumbered[2].number = 3;
        assert_eq!(check(&renumbered), Err(ChainBreak::Hash { number: 3 }));
    }

    #[test]
    fn a_modification_of_any_member_is_detected() {
        let entry = log(1).remove(0);
        let whole = serde_json::to_value(&entry.event).unwrap();
        for member in whole.as_object().unwrap().keys() {
            let mut changed = whole.clone();
            let value = &mut changed[member];
            *value = match (member.as_str(), &*value) {
                ("id" | "requestId" | "system", serde_json::Value::String(id)) => {
                    let last = if id.ends_with('0') { "1" } else { "0" };
                    serde_json::Value::from(format!("{}{last}", &id[..id.len() - 1]))
                }
                ("sourceAddress", _) => "127.0.0.2".into(),
                ("action", _) => "SYSTEM_DELETED".into(),
                ("outcome", _) => "REFUSED".into(),
                ("actor", _) => serde_json::json!({ "kind": "SYSTEM", "name": "keymark" }),
                ("image", _) => serde_json::Value::Null,
                (_, serde_json::Value::Number(n)) => (n.as_i64().unwrap() + 1).into(),
                _ => "other".into(),
            };
            let event = serde_json::from_value(changed).unwrap_or_else(|e| panic!("{member}: {e}"));
            let forged = AuditEntry { event, ..entry.clone() };
            assert_eq!(check(&[forged]), Err(ChainBreak::Hash { number: 1 }), "{member}");
        }
    }

    #[test]
    fn the_canonical_form_is_fixed() {
        let entry = log(1).remove(0);
        insta::assert_snapshot!(canonical_form(&entry.tenant, entry.number, &entry.event), @r#"{"event":{"action":"SYSTEM_CREATED","actor":{"kind":"COMMAND_LINE","name":"command line"},"count":1,"id":"aud_01hf7yat002mxm2ajdwb2ktx2m","image":{"createdAt":1700000000000,"name":"System 0 \"é\"","revision":1,"updatedAt":1700000000000},"occurredAt":1700000000000,"outcome":"DONE","requestId":"req_01hf7yat004q9pv3y1b8s4hjet","sourceAddress":"127.0.0.1","system":"sys_01hf7yat00d55fjt0tck9k0631","systemName":"System 0 \"é\""},"number":1,"tenant":"acme"}"#);
        insta::assert_snapshot!(entry.hash, @"c740dad33b40901b98afe1bd2e498d1e1e822b84b95b08c26f6f52f69ce799d1");
    }
}
