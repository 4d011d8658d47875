//! Whatever has an id that `node` finds.

use async_graphql::{ID, Interface};

use super::{AuditEntry, System};

/// An object with a globally unique id.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "&ID", desc = "Names the object; unique across tenants and types."))]
pub(crate) enum Node {
    System(System),
    AuditEntry(Box<AuditEntry>),
}
