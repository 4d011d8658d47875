//! Changes as data: what a batch writes, under which conditions, and what the feed tells of it.

use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, AuditEvent};
use super::ids::{OperatorId, SystemId, TenantId};
use super::keys::{Key, KeyDigest};
use super::leases::{Incarnation, Lease, LogTime};
use super::operators::Operator;
use super::sessions::{Session, SessionId};
use super::systems::System;

/// Something that the store keeps under an id: of one tenant, but for leases, which are of none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Row {
    System(System),
    Key(Key),
    Operator(Operator),
    Session(Session),
    Lease(Lease),
}

/// The id of a [`Row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RowId {
    System(SystemId),
    Key(KeyDigest),
    Operator(OperatorId),
    Session(SessionId),
    Lease(Incarnation),
}

impl Row {
    pub fn id(&self) -> RowId {
        match self {
            Self::System(system) => RowId::System(system.id),
            Self::Key(key) => RowId::Key(key.digest),
            Self::Operator(operator) => RowId::Operator(operator.id),
            Self::Session(session) => RowId::Session(session.id),
            Self::Lease(lease) => RowId::Lease(lease.incarnation),
        }
    }

    /// The revision that a later write of the same row expects; sessions are never written twice.
    pub fn revision(&self) -> u64 {
        match self {
            Self::System(system) => system.revision,
            Self::Key(key) => key.revision,
            Self::Operator(operator) => operator.revision,
            Self::Session(_) => 1,
            Self::Lease(lease) => lease.sequence,
        }
    }

    /// The tenant whose row it is.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::System(system) => Some(&system.tenant),
            Self::Key(key) => Some(&key.tenant),
            Self::Operator(operator) => Some(&operator.tenant),
            Self::Session(session) => Some(&session.tenant),
            Self::Lease(_) => None,
        }
    }
}

/// One write, whole: rows are replaced, never patched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    Put(Row),
    Delete(RowId),
}

impl Write {
    /// Whether it may decide who somebody is, or what they may do.
    pub fn affects_identity(&self) -> bool {
        let id = match self {
            Self::Put(row) => row.id(),
            Self::Delete(id) => *id,
        };
        matches!(id, RowId::Operator(_) | RowId::Session(_))
    }
}

/// What must be so for a write to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No row has this id.
    Absent,
    /// The row is there and has this revision.
    Revision(u64),
    /// Whatever is there, if anything: for deletions that nothing depends on.
    Anything,
}

/// A condition on a row that the batch does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub row: RowId,
    pub expected: Expected,
}

/// A change of one tenant: commits whole, with its audit entry, or not at all.
///
/// Besides the conditions said here a store keeps these by itself: the rows that it puts are the tenant's, the folded
/// names of a tenant's systems differ, and usernames differ across tenants.
#[derive(Clone, Debug)]
pub struct Batch {
    pub tenant: TenantId,
    pub requires: Vec<Requirement>,
    pub writes: Vec<(Expected, Write)>,
    /// A marker that must not be there yet and is there afterwards: for what is done once in the life of a store.
    pub marker: Option<&'static str>,
    pub event: AuditEvent,
}

impl Batch {
    /// A batch that so far writes nothing but its audit entry.
    pub fn new(tenant: TenantId, event: AuditEvent) -> Self {
        Self { tenant, requires: Vec::new(), writes: Vec::new(), marker: None, event }
    }

    /// Writes a row that must not be there yet.
    pub fn insert(mut self, row: Row) -> Self {
        self.writes.push((Expected::Absent, Write::Put(row)));
        self
    }

    /// Writes a row over the revision before it.
    pub fn replace(mut self, row: Row) -> Self {
        self.writes.push((Expected::Revision(row.revision() - 1), Write::Put(row)));
        self
    }

    /// Removes a row, which must be as it is here.
    pub fn delete(mut self, row: &Row) -> Self {
        self.writes.push((Expected::Revision(row.revision()), Write::Delete(row.id())));
        self
    }

    /// Removes a row if it is there.
    pub fn forget(mut self, row: RowId) -> Self {
        self.writes.push((Expected::Anything, Write::Delete(row)));
        self
    }

    /// Holds only while this row is as it is here.
    pub fn requires(mut self, row: &Row) -> Self {
        self.requires.push(Requirement { row: row.id(), expected: Expected::Revision(row.revision()) });
        self
    }

    pub fn once(mut self, marker: &'static str) -> Self {
        self.marker = Some(marker);
        self
    }
}

/// Where in the feed something stands: opaque, and meaningful to the store that gave it alone.
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

/// One step of the feed, in commit order: a batch as it was committed, or, without an entry, (a part of) a purge or one
/// lease that was put or deleted.
#[derive(Clone, Debug)]
pub struct Change {
    pub position: Position,
    /// When it was committed: the same to every follower. Greater than that of every change before it in the feed,
    /// but for parts of one purge, which may share one. A change is whole: nothing committed at this time comes after
    /// it that a batch or a lease wrote.
    pub at: LogTime,
    pub writes: Vec<Write>,
    pub entry: Option<AuditEntry>,
}
