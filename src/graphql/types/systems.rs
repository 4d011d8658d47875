//! Systems, their lists, and their changes.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, Result, SimpleObject};

use super::connection::PageInfo;
use super::{AuditEntry, DateTime};
use crate::domain::audit::{AuditAction, SystemImage};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::system_names::Search;
use crate::domain::{audit, cursors, systems};
use crate::graphql::context::Authenticated;
use crate::service::Service;

/// A registered client application of the tenant, with at most one current API key.
#[derive(SimpleObject)]
pub(crate) struct System {
    /// Globally unique id, for `Query.system` and `Query.node`.
    pub id: ID,
    /// Display name, as it was entered. Unique within the tenant, ignoring case and width (NFKC case folding: `ＡＢＣ`
    /// equals `abc`).
    name: String,
    /// Whether the system has a key.
    key_state: KeyState,
    /// Mark of the key: its last 4 characters. Null if the system has no key.
    key_mark: Option<String>,
    /// Revision of the system. Starts at 1, and increases by 1 with each change of the system or its key.
    revision: i32,
    /// Time at which the system was created.
    created_at: DateTime,
    /// Time of the last change of the system or its key. Use of the key does not count as a change.
    updated_at: DateTime,
}

/// Whether a system has a key.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum KeyState {
    /// The system has no key. One can be generated.
    NotGenerated,
    /// The system has a key, and verifications accept it.
    Active,
}

impl System {
    fn from_image(id: SystemId, image: SystemImage) -> Self {
        Self {
            id: id.to_string().into(),
            name: image.name,
            key_state: if image.key_mark.is_some() { KeyState::Active } else { KeyState::NotGenerated },
            key_mark: image.key_mark.map(|mark| mark.to_string()),
            revision: int(image.revision),
            created_at: DateTime(image.created_at),
            updated_at: DateTime(image.updated_at),
        }
    }
}

impl From<&systems::System> for System {
    fn from(system: &systems::System) -> Self {
        Self::from_image(system.id, SystemImage::of(system))
    }
}

/// Converts a count to GraphQL's 32-bit `Int`, saturating.
pub(super) fn int(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Sort order of a list of systems.
#[derive(Clone, Copy, InputObject)]
pub struct SystemOrder {
    /// Field to sort by. Systems that are equal in it are sorted by id.
    field: SystemOrderField,
    /// Direction of the order.
    direction: OrderDirection,
}

/// Field that systems are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "systems::SystemOrderField")]
pub enum SystemOrderField {
    /// The name, ignoring case and width (NFKC case folding), by code point.
    Name,
    /// Time of the last change of the system or its key.
    UpdatedAt,
    /// Time at which the system was created.
    CreatedAt,
}

/// Direction of an order.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "systems::Direction")]
pub enum OrderDirection {
    /// Ascending: the smallest or earliest value first.
    #[graphql(name = "ASC")]
    Ascending,
    /// Descending: the largest or latest value first.
    #[graphql(name = "DESC")]
    Descending,
}

impl From<SystemOrder> for systems::SystemOrder {
    fn from(order: SystemOrder) -> Self {
        Self { field: order.field.into(), direction: order.direction.into() }
    }
}

pub(crate) struct SystemConnection(Arc<SystemPage>);

/// A page with the request for it. Cursors are encoded only where they are selected.
struct SystemPage {
    service: Arc<Service>,
    tenant: TenantId,
    search: Search,
    order: systems::SystemOrder,
    request: PageRequest<systems::SystemSortKey>,
    page: Page<systems::System>,
}

impl SystemPage {
    fn cursor(&self, system: &systems::System) -> String {
        cursors::encode_system(self.service.keyring(), &self.tenant, self.order, self.order.field.key_of(system))
    }
}

pub(super) struct SystemEdge {
    page: Arc<SystemPage>,
    index: usize,
}

/// A system and its cursor.
#[Object]
impl SystemEdge {
    /// Cursor of this edge. Pass it as `after` or `before`, together with the same `orderBy`.
    async fn cursor(&self) -> String {
        self.page.cursor(&self.page.page.items[self.index])
    }

    /// The system.
    async fn node(&self) -> System {
        System::from(&self.page.page.items[self.index])
    }
}

/// A page of systems.
#[Object]
impl SystemConnection {
    /// Systems of the page, with their cursors.
    async fn edges(&self) -> Vec<SystemEdge> {
        let indices = 0..self.0.page.items.len();
        indices.map(|index| SystemEdge { page: Arc::clone(&self.0), index }).collect()
    }

    /// Systems of the page, without their cursors.
    async fn nodes(&self) -> Vec<System> {
        self.0.page.items.iter().map(System::from).collect()
    }

    /// Cursors of the page's ends, and whether there are further pages.
    async fn page_info(&self) -> PageInfo {
        PageInfo::of(&self.0.page, &self.0.request, |system| self.0.cursor(system))
    }

    /// Number of systems that match the search, on all pages. Counted only if selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let call = Authenticated::new(ctx).await?;
        Ok(int(call.convert(self.0.service.count_systems(call.caller, &self.0.search).await)?))
    }
}

impl SystemConnection {
    pub(crate) fn new(
        service: &Arc<Service>,
        tenant: &TenantId,
        search: Search,
        order: systems::SystemOrder,
        request: PageRequest<systems::SystemSortKey>,
        page: Page<systems::System>,
    ) -> Self {
        let (service, tenant) = (Arc::clone(service), tenant.clone());
        Self(Arc::new(SystemPage { service, tenant, search, order, request, page }))
    }
}

/// A change of a system or its key.
#[derive(SimpleObject)]
pub(crate) struct SystemChange {
    /// Cursor of this change. Pass it as `after` to resume the subscription after this change.
    cursor: String,
    /// Kind of the change.
    kind: SystemChangeKind,
    /// Id of the system, also if it was deleted.
    system_id: ID,
    /// The system right after this change, which later changes may have replaced. Null for `DELETED`.
    system: Option<System>,
    /// Time of the change.
    occurred_at: DateTime,
    /// Audit entry of this change.
    entry: AuditEntry,
}

/// Kind of a change of a system.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum SystemChangeKind {
    /// The system was created.
    Created,
    /// The system was renamed.
    Renamed,
    /// A key was generated for the system.
    KeyGenerated,
    /// The key of the system was revoked.
    KeyRevoked,
    /// The system was deleted together with its key.
    Deleted,
}

impl SystemChangeKind {
    /// The kind of change that an entry records. `None` if the entry records no change of a system.
    pub fn of(entry: &audit::AuditEntry) -> Option<Self> {
        match entry.event.action {
            AuditAction::SystemCreated => Some(Self::Created),
            AuditAction::SystemRenamed => Some(Self::Renamed),
            AuditAction::KeyGenerated => Some(Self::KeyGenerated),
            AuditAction::KeyRevoked => Some(Self::KeyRevoked),
            AuditAction::SystemDeleted => Some(Self::Deleted),
            _ => None,
        }
        .filter(|_| entry.event.system.is_some())
    }

    /// Returns true if the change may add or remove a key.
    pub fn concerns_key(self) -> bool {
        !matches!(self, Self::Created | Self::Renamed)
    }
}

impl SystemChange {
    /// The change that an entry records. `None` if the entry records no change of a system.
    pub(crate) fn of(service: &Service, entry: audit::AuditEntry) -> Option<Self> {
        let kind = SystemChangeKind::of(&entry)?;
        let id = entry.event.system?;
        Some(Self {
            cursor: cursors::encode_audit(service.keyring(), &entry.tenant, &entry.head()),
            kind,
            system_id: id.to_string().into(),
            system: entry.event.image.clone().map(|image| System::from_image(id, image)),
            occurred_at: DateTime(entry.event.occurred_at),
            entry: AuditEntry::from(entry),
        })
    }
}
