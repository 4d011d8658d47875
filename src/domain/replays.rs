//! The history in an export, for a restored store: what was taken away after the backup.

use std::collections::HashMap;

use super::audit::{AuditAction, AuditEvent, AuditHead, AuditOutcome};
use super::exports::ExportedEntry;
use super::ids::{OperatorId, SystemId, TokenId};
use super::keys::Mark;
use super::permissions::Permissions;
use super::time::Timestamp;

/// Something that an entry took away, and that a backup from before brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    Key {
        system: SystemId,
        mark: Mark,
    },
    /// The time of a key after this end. `None`: it was given back.
    KeyTime {
        system: SystemId,
        mark: Mark,
        expires_at: Option<Timestamp>,
    },
    /// The use of all keys of a system, while it is suspended.
    Suspension {
        system: SystemId,
        is_suspended: bool,
    },
    System(SystemId),
    Operator(OperatorId),
    /// All permission codes but these.
    Permissions {
        operator: OperatorId,
        remaining: Permissions,
    },
    /// The password before, whose hash the backup has.
    Password(OperatorId),
    /// The operator's right to sign in, while they are suspended.
    OperatorSuspension {
        operator: OperatorId,
        is_suspended: bool,
    },
    /// A token that was revoked, or whose secret in the backup was replaced.
    Token(TokenId),
    /// Everything of the tenant, while it is suspended.
    TenantSuspension {
        is_suspended: bool,
    },
    /// The tenant itself.
    Tenant,
}

impl Loss {
    fn all_of(event: &AuditEvent) -> Vec<Self> {
        let revoked = event.action == AuditAction::KeyRevoked && event.outcome == AuditOutcome::Done;
        // The retiring key was revoked with the current one.
        let retiring = event.system.zip(event.previous_key_mark).filter(|_| revoked);
        let retiring = retiring.map(|(system, mark)| Self::Key { system, mark });
        Self::of(event).into_iter().chain(retiring).collect()
    }

    fn of(event: &AuditEvent) -> Option<Self> {
        if event.outcome != AuditOutcome::Done {
            return None;
        }
        match event.action {
            AuditAction::KeyRevoked | AuditAction::RotationEnded | AuditAction::KeyExpired => {
                Some(Self::Key { system: event.system?, mark: event.key_mark? })
            }
            AuditAction::KeyRotated => {
                let (system, mark) = event.system.zip(event.previous_key_mark)?;
                let retiring = event.image.as_ref().and_then(|image| image.retiring_key.as_ref());
                // Another key may have been retiring already: then the one before has ended.
                Some(match retiring.filter(|retiring| retiring.mark == mark) {
                    Some(retiring) => Self::KeyTime { system, mark, expires_at: retiring.expires_at },
                    None => Self::Key { system, mark },
                })
            }
            AuditAction::KeyExpiryChanged => {
                Some(Self::KeyTime { system: event.system?, mark: event.key_mark?, expires_at: event.key_expires_at })
            }
            AuditAction::SystemSuspended | AuditAction::SystemResumed => Some(Self::Suspension {
                system: event.system?,
                is_suspended: event.action == AuditAction::SystemSuspended,
            }),
            AuditAction::SystemDeleted => event.system.map(Self::System),
            AuditAction::OperatorRemoved => event.operator.map(Self::Operator),
            AuditAction::OperatorSuspended | AuditAction::OperatorResumed => Some(Self::OperatorSuspension {
                operator: event.operator?,
                is_suspended: event.action == AuditAction::OperatorSuspended,
            }),
            AuditAction::ServiceTokenRotated | AuditAction::ServiceTokenRevoked | AuditAction::VerifierTokenRevoked => {
                event.token.map(Self::Token)
            }
            AuditAction::TenantSuspended | AuditAction::TenantResumed => {
                Some(Self::TenantSuspension { is_suspended: event.action == AuditAction::TenantSuspended })
            }
            AuditAction::TenantDeleted => Some(Self::Tenant),
            AuditAction::PermissionsChanged | AuditAction::OperatorPromoted => {
                Some(Self::Permissions { operator: event.operator?, remaining: event.permissions? })
            }
            AuditAction::PasswordChanged => event.operator.map(Self::Password),
            // These take nothing away that a restored store could still have: sessions end with the restore.
            AuditAction::SystemCreated
            | AuditAction::SystemRenamed
            | AuditAction::KeyGenerated
            | AuditAction::OperatorAdded
            | AuditAction::SignedIn
            | AuditAction::SignedOut
            | AuditAction::SignInRefused
            | AuditAction::PermissionRefused
            | AuditAction::RevokedKeyPresented
            | AuditAction::AuditExported
            | AuditAction::AuditArchived
            | AuditAction::KeysRedigested
            | AuditAction::KeyExpiryWarned
            | AuditAction::SystemDescribed
            | AuditAction::ExternalIdChanged
            | AuditAction::ExpiredKeyPresented
            | AuditAction::SuspendedKeyPresented
            | AuditAction::TenantPolicyChanged
            | AuditAction::TenantCreated
            | AuditAction::TenantRenamed
            | AuditAction::SessionsEnded
            | AuditAction::ServiceTokenCreated
            | AuditAction::VerifierTokenCreated
            | AuditAction::StoreRestored => None,
        }
    }

    /// Whether this, which came later, leaves nothing to do for `earlier`.
    fn covers(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (
                Self::System(deleted),
                Self::Key { system, .. } | Self::KeyTime { system, .. } | Self::Suspension { system, .. },
            ) => deleted == system,
            (Self::Key { system, mark }, Self::KeyTime { system: other, mark: earlier, .. })
            | (Self::KeyTime { system, mark, .. }, Self::KeyTime { system: other, mark: earlier, .. }) => {
                system == other && mark == earlier
            }
            (Self::Suspension { system, .. }, Self::Suspension { system: other, .. }) => system == other,
            (
                Self::Operator(removed),
                Self::Permissions { operator, .. }
                | Self::Password(operator)
                | Self::OperatorSuspension { operator, .. },
            ) => removed == operator,
            (Self::OperatorSuspension { operator, .. }, Self::OperatorSuspension { operator: other, .. }) => {
                operator == other
            }
            (Self::TenantSuspension { .. }, Self::TenantSuspension { .. }) => true,
            (Self::Permissions { operator, .. }, Self::Permissions { operator: other, .. }) => operator == other,
            (one, other) => one == other,
        }
    }

    /// The system, operator or token; empty for the tenant.
    fn subject(&self) -> String {
        match self {
            Self::Key { system, .. }
            | Self::KeyTime { system, .. }
            | Self::Suspension { system, .. }
            | Self::System(system) => system.to_string(),
            Self::Operator(operator)
            | Self::Permissions { operator, .. }
            | Self::Password(operator)
            | Self::OperatorSuspension { operator, .. } => operator.to_string(),
            Self::Token(token) => token.to_string(),
            Self::TenantSuspension { .. } | Self::Tenant => String::new(),
        }
    }
}

/// An entry that took something away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossEntry {
    pub number: u64,
    pub loss: Loss,
    /// The name of the system, operator, token or tenant.
    pub name: String,
}

/// The export does not show each entry up to its end, so that a revocation may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the export leaves out entry {number}: export the log without a filter")]
pub struct Gap {
    number: u64,
}

/// The history that an export shows.
#[derive(Debug, Default)]
pub struct ExportedHistory {
    /// The entry before the first one, and then each entry.
    heads: Vec<AuditHead>,
    losses: Vec<LossEntry>,
    gap: Option<Gap>,
}

impl ExportedHistory {
    pub fn add(&mut self, exported: &ExportedEntry) {
        let (entry, event) = (&exported.entry, &exported.entry.event);
        let before = AuditHead { number: entry.number - 1, hash: exported.previous_hash };
        let last = *self.heads.last().unwrap_or(&before);
        if self.heads.is_empty() {
            self.heads.push(before);
        }
        if entry.number > last.number + 1 {
            self.gap.get_or_insert(Gap { number: last.number + 1 });
        }
        self.heads.push(entry.head());
        for loss in Loss::all_of(event) {
            let names = [&event.system_name, &event.operator_name, &event.token_name, &event.tenant_name];
            let name = names.into_iter().flatten().next().cloned().unwrap_or_default();
            self.losses.push(LossEntry { number: entry.number, loss, name });
        }
    }

    /// Checks that the export shows each entry from its first one up to `end`.
    pub fn check_complete(&self, end: &AuditHead) -> Result<(), Gap> {
        let last = self.heads.last().copied().unwrap_or_default();
        match self.gap {
            Some(gap) => Err(gap),
            None if last != *end => Err(Gap { number: last.number + 1 }),
            None => Ok(()),
        }
    }

    /// The entry before the first one, and then each entry, without a gap.
    pub fn heads(&self) -> &[AuditHead] {
        &self.heads
    }

    pub fn contains(&self, head: &AuditHead) -> bool {
        self.heads.binary_search_by_key(&head.number, |head| head.number).is_ok_and(|at| self.heads[at] == *head)
    }

    /// What the entries after this number took away, as far as later ones did not take away more.
    pub fn losses_after(&self, number: u64) -> Vec<LossEntry> {
        let mut losses: Vec<LossEntry> = Vec::new();
        let mut by_subject = HashMap::<String, Vec<Loss>>::new();
        for entry in self.losses.iter().rev().take_while(|entry| entry.number > number) {
            let later = by_subject.entry(entry.loss.subject()).or_default();
            if !later.iter().any(|later| later.covers(&entry.loss)) {
                later.push(entry.loss);
                losses.push(entry.clone());
            }
        }
        losses.reverse();
        losses
    }
}
