//! Changes as data: batches of conditional writes, and the changes that the feed reports.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, AuditEvent};
use super::ids::{OperatorId, SystemId, TenantId, TokenId};
use super::keys::{Key, KeyDigest};
use super::leases::{Incarnation, Lease, LogTime};
use super::operators::Operator;
use super::sessions::{Session, SessionId};
use super::systems::System;
use super::tenants::Tenant;
use super::tokens::Token;

/// A value that the store keeps under an id. It belongs to one tenant, except for leases, which belong to none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Row {
    System(System),
    Key(Key),
    Operator(Operator),
    Session(Session),
    Lease(Lease),
    Tenant(Tenant),
    Token(Token),
}

/// The id of a [`Row`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RowId {
    System(SystemId),
    Key(KeyDigest),
    Operator(OperatorId),
    Session(SessionId),
    Lease(Incarnation),
    Tenant(TenantId),
    Token(TokenId),
}

impl RowId {
    /// Whether a write of this row may change who a caller is, or what a caller may do.
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::Operator(_) | Self::Session(_) | Self::Tenant(_) | Self::Token(_))
    }
}

impl Row {
    pub fn id(&self) -> RowId {
        match self {
            Self::System(system) => RowId::System(system.id),
            Self::Key(key) => RowId::Key(key.digest),
            Self::Operator(operator) => RowId::Operator(operator.id),
            Self::Session(session) => RowId::Session(session.id),
            Self::Lease(lease) => RowId::Lease(lease.incarnation),
            Self::Tenant(tenant) => RowId::Tenant(tenant.id.clone()),
            Self::Token(token) => RowId::Token(token.id),
        }
    }

    /// The revision that a later write of the same row expects. Always 1 for sessions, which are written once.
    pub fn revision(&self) -> u64 {
        match self {
            Self::System(system) => system.revision,
            Self::Key(key) => key.revision,
            Self::Operator(operator) => operator.revision,
            Self::Session(_) => 1,
            Self::Lease(lease) => lease.sequence,
            Self::Tenant(tenant) => tenant.revision,
            Self::Token(token) => token.revision,
        }
    }

    /// `None` for leases.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::System(system) => Some(&system.tenant),
            Self::Key(key) => Some(&key.tenant),
            Self::Operator(operator) => Some(&operator.tenant),
            Self::Session(session) => Some(&session.tenant),
            Self::Lease(_) => None,
            Self::Tenant(tenant) => Some(&tenant.id),
            Self::Token(token) => Some(&token.tenant),
        }
    }
}

/// A write of a whole row: rows are replaced, never updated in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    Put(Row),
    Delete(RowId),
}

impl Write {
    pub fn id(&self) -> RowId {
        match self {
            Self::Put(row) => row.id(),
            Self::Delete(id) => id.clone(),
        }
    }
}

/// A row as it is stored, or the id of one whose content cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredRow {
    Readable(Row),
    Unreadable(RowId),
}

impl StoredRow {
    pub fn id(&self) -> RowId {
        match self {
            Self::Readable(row) => row.id(),
            Self::Unreadable(id) => id.clone(),
        }
    }
}

/// The condition of a write or requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No row has this id.
    Absent,
    /// The row exists with this revision.
    Revision(u64),
    /// The row exists, with any revision. For requirements only.
    Present,
    /// Any row or none: for deletions that nothing depends on.
    Anything,
}

impl Expected {
    /// The row has this revision; 0: there is none.
    fn of_revision(revision: u64) -> Self {
        if revision == 0 { Self::Absent } else { Self::Revision(revision) }
    }
}

/// A condition on a row that the batch does not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub row: RowId,
    pub expected: Expected,
}

/// A change of one tenant. It is committed as a whole, with its audit entry, or not at all.
///
/// A store also enforces that the rows which the batch puts belong to its tenant; that usernames are unique across
/// tenants, and within a tenant the folded names and the external ids of systems, and the names of service tokens and of
/// verifier tokens; and that a tenant whose row is deleted has no systems, and no operators and tokens but those that the
/// batch deletes.
#[derive(Clone, Debug)]
pub struct Batch {
    pub tenant: TenantId,
    pub requires: Vec<Requirement>,
    pub writes: Vec<(Expected, Write)>,
    /// A marker that must not be set yet, and that the commit sets: for what happens once in the life of a store.
    pub marker: Option<&'static str>,
    pub event: AuditEvent,
}

impl Batch {
    /// Creates a batch that writes only its audit entry.
    pub fn new(tenant: TenantId, event: AuditEvent) -> Self {
        Self { tenant, requires: Vec::new(), writes: Vec::new(), marker: None, event }
    }

    /// Inserts a row, which must not exist yet.
    pub fn insert(mut self, row: Row) -> Self {
        self.writes.push((Expected::Absent, Write::Put(row)));
        self
    }

    /// Replaces the preceding revision of a row, or inserts the first one.
    pub fn replace(mut self, row: Row) -> Self {
        self.writes.push((Expected::of_revision(row.revision() - 1), Write::Put(row)));
        self
    }

    /// Replaces a row by one with the same revision.
    pub fn rewrite(mut self, row: Row) -> Self {
        self.writes.push((Expected::Revision(row.revision()), Write::Put(row)));
        self
    }

    /// Deletes a row, which must have the revision of `row`.
    pub fn delete(mut self, row: &Row) -> Self {
        self.writes.push((Expected::Revision(row.revision()), Write::Delete(row.id())));
        self
    }

    /// Deletes a row if it exists.
    pub fn delete_if_present(mut self, row: RowId) -> Self {
        self.writes.push((Expected::Anything, Write::Delete(row)));
        self
    }

    /// Requires that a row still has the revision of `row`.
    pub fn requires(mut self, row: &Row) -> Self {
        self.requires.push(Requirement { row: row.id(), expected: Expected::Revision(row.revision()) });
        self
    }

    /// Requires that the live keys of the systems in this batch exist, except those that it writes too. A system that was read
    /// before its key was digested anew has the same revision as after that, but names a key that no longer exists.
    pub fn requires_live_keys(mut self) -> Self {
        let systems = self.writes.iter().filter_map(|(_, write)| match write {
            Write::Put(Row::System(system)) => Some(system),
            _ => None,
        });
        let keys = systems.flat_map(System::live_keys).map(|key| RowId::Key(key.digest));
        let is_written = |id: &RowId| self.writes.iter().any(|(_, write)| write.id() == *id);
        let others = keys.filter(|id| !is_written(id)).map(|row| Requirement { row, expected: Expected::Present });
        let others: Vec<_> = others.collect();
        self.requires.extend(others);
        self
    }

    /// Requires that the tenant has not been deleted.
    pub fn requires_tenant(mut self, tenant: &Tenant) -> Self {
        if tenant.revision > 0 {
            self.requires.push(Requirement { row: RowId::Tenant(tenant.id.clone()), expected: Expected::Present });
        }
        self
    }

    /// Sets a marker, which must not be set yet.
    pub fn once(mut self, marker: &'static str) -> Self {
        self.marker = Some(marker);
        self
    }
}

/// A position in the feed. Opaque; valid only for the store that returned it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(Vec<u8>);

impl Position {
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Position({})", hex::encode(&self.0))
    }
}

/// An item of the feed, in commit order: a committed batch, or, without an entry, a purge (or part of one) or a single
/// lease that was put or deleted.
#[derive(Clone, Debug)]
pub struct Change {
    pub position: Position,
    /// The time of the commit, the same for every follower. Greater than the time of every earlier change in the feed,
    /// except that parts of one purge may share a time. A batch or lease is never split: no other change with its time
    /// follows.
    pub at: LogTime,
    pub writes: Vec<Write>,
    /// Rows that another client of the database wrote, or that cannot be read, as they are now or were at this change.
    /// They replace what is cached whatever their revision.
    pub foreign: Vec<StoredRow>,
    /// Shared, since every subscriber of the tenant receives it.
    pub entry: Option<Arc<AuditEntry>>,
}

impl Change {
    /// Whether another client of the database wrote or deleted a system.
    pub fn has_foreign_system(&self) -> bool {
        let is_deletion = |write: &Write| matches!(write, Write::Delete(RowId::System(_)));
        self.foreign.iter().any(|row| matches!(row.id(), RowId::System(_)))
            || (self.entry.is_none() && self.writes.iter().any(is_deletion))
    }
}
