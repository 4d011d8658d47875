//! The types of the schema.

mod audit;
mod connection;
mod node;
mod payloads;
mod systems;
mod time;
mod viewer;

pub use self::audit::{AuditEntry, AuditEntryConnection, AuditFilter};
pub use self::connection::Paging;
pub use self::node::Node;
pub use self::payloads::{
    ChangePasswordPayload, CreateSystemPayload, DeleteSystemPayload, GenerateKeyPayload, RenameSystemPayload,
    RevokeKeyPayload, SignInPayload, SignOutPayload,
};
pub use self::systems::{System, SystemChange, SystemChangeKind, SystemConnection, SystemOrder};
pub use self::time::DateTime;
pub use self::viewer::Viewer;
