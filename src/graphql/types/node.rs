//! Objects that `Query.node` finds by their id.

use async_graphql::{ID, Interface};

use super::{AuditEntry, Operator, ServiceToken, Session, System, Tenant, VerifierToken};

/// An object with a globally unique id.
#[derive(Interface)]
#[graphql(field(
    name = "id",
    ty = "&ID",
    desc = "Globally unique id: no two objects share one, whatever their type and tenant."
))]
pub(crate) enum Node {
    System(Box<System>),
    AuditEntry(Box<AuditEntry>),
    Tenant(Box<Tenant>),
    Operator(Box<Operator>),
    Session(Box<Session>),
    ServiceToken(Box<ServiceToken>),
    VerifierToken(Box<VerifierToken>),
}
