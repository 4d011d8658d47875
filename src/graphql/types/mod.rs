//! The types of the schema.

mod actors;
mod audit;
mod connection;
mod instances;
mod leaves;
mod node;
mod operators;
mod payloads;
mod read_together;
mod sessions;
mod systems;
mod tenants;
mod time;
mod tokens;
mod usage;
mod viewer;

pub(super) use self::audit::{AuditEntry, AuditEntryConnection, AuditFilter};
pub(super) use self::connection::Paging;
pub(super) use self::instances::Instance;
pub(super) use self::node::Node;
pub(super) use self::operators::{
    AddOperatorPayload, EndSessionsPayload, Operator, OperatorConnection, OperatorPayload, RemoveOperatorPayload,
};
pub(super) use self::payloads::{
    ChangePasswordPayload, CreateSystemPayload, DeleteSystemPayload, DescribeSystemPayload, EndRotationPayload,
    GenerateKeyPayload, RenameSystemPayload, ResumeSystemPayload, RevokeKeyPayload, RotateKeyPayload,
    SetExternalIdPayload, SetKeyExpiryPayload, SignInPayload, SignOutPayload, SuspendSystemPayload,
};
pub(super) use self::sessions::{Session, session_id};
pub(super) use self::systems::{
    KeyRole, System, SystemChange, SystemChangeKind, SystemConnection, SystemFilter, SystemOrder,
};
pub(super) use self::tenants::{DeleteTenantPayload, Tenant, TenantConnection, TenantPayload};
pub(super) use self::time::DateTime;
pub(super) use self::tokens::{
    CreateServiceTokenPayload, CreateVerifierTokenPayload, RevokeTokenPayload, ServiceToken, TokenConnection,
    TokenObject, VerifierToken, load_token,
};
pub(super) use self::viewer::Viewer;

/// Converts a count to GraphQL's 32-bit `Int`, saturating.
fn int(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
