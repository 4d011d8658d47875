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
use crate::graphql::asker::Call;
use crate::service::Service;

/// A registered client application of the tenant, with at most one current API key.
#[derive(SimpleObject)]
pub(crate) struct System {
    /// Names the system.
    pub id: ID,
    /// The name as it was typed; unique in the tenant whatever its case and width.
    name: String,
    /// Whether the system has a key.
    key_state: KeyState,
    /// The last 4 characters of the key; null when none is generated.
    key_mark: Option<String>,
    /// Moves by one with each change of the system or its key.
    revision: i32,
    /// When the system was created.
    created_at: DateTime,
    /// When the system or its key last changed; use of the key does not count.
    updated_at: DateTime,
}

/// Whether a system has a key.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum KeyState {
    /// The system has no key: one can be generated.
    NotGenerated,
    /// The system has a key, and it is good.
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

/// A count as GraphQL's 32-bit `Int`; what exceeds that stays at its largest.
pub(super) fn int(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// By what systems are sorted.
#[derive(Clone, Copy, InputObject)]
pub struct SystemOrder {
    /// What is compared; the id breaks ties.
    field: SystemOrderField,
    /// Which comes first.
    direction: OrderDirection,
}

/// What systems are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "systems::SystemOrderField")]
pub enum SystemOrderField {
    /// The name without regard to case and width, by code point.
    Name,
    /// The last change of the system or its key.
    UpdatedAt,
    /// The system's creation.
    CreatedAt,
}

/// Which comes first in an order.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "systems::Direction")]
pub enum OrderDirection {
    /// The least, or earliest.
    #[graphql(name = "ASC")]
    Ascending,
    /// The greatest, or latest.
    #[graphql(name = "DESC")]
    Descending,
}

impl From<SystemOrder> for systems::SystemOrder {
    fn from(order: SystemOrder) -> Self {
        Self { field: order.field.into(), direction: order.direction.into() }
    }
}

pub(crate) struct SystemConnection(Arc<SystemPage>);

/// What a page was asked for, and what it holds. Cursors are made of it only where they are selected.
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
        cursors::of_system(self.service.keyring(), &self.tenant, self.order, self.order.field.key_of(system))
    }
}

pub(super) struct SystemEdge {
    page: Arc<SystemPage>,
    index: usize,
}

/// A system's place in a list.
#[Object]
impl SystemEdge {
    /// Names the place: pass it as `after` or `before`, with the same order.
    async fn cursor(&self) -> String {
        self.page.cursor(&self.page.page.items[self.index])
    }

    /// The system there.
    async fn node(&self) -> System {
        System::from(&self.page.page.items[self.index])
    }
}

/// A page of systems.
#[Object]
impl SystemConnection {
    /// The systems of the page, each with its cursor.
    async fn edges(&self) -> Vec<SystemEdge> {
        let indices = 0..self.0.page.items.len();
        indices.map(|index| SystemEdge { page: Arc::clone(&self.0), index }).collect()
    }

    /// The systems of the page.
    async fn nodes(&self) -> Vec<System> {
        self.0.page.items.iter().map(System::from).collect()
    }

    /// Where the page stands in the list.
    async fn page_info(&self) -> PageInfo {
        PageInfo::of(&self.0.page, &self.0.request, |system| self.0.cursor(system))
    }

    /// How many systems the whole list has. Counted only when it is asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let call = Call::of(ctx).await?;
        Ok(int(call.shown(self.0.service.count_systems(&self.0.tenant, &self.0.search).await)?))
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
    /// Resumes after this change: pass it as `after`.
    cursor: String,
    /// What was done.
    kind: SystemChangeKind,
    /// The system concerned.
    system_id: ID,
    /// The system as it was right after this change; null when deleted.
    system: Option<System>,
    /// When it was done.
    occurred_at: DateTime,
    /// The audit entry of this change.
    entry: AuditEntry,
}

/// What was done to a system.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum SystemChangeKind {
    /// It was created.
    Created,
    /// It was given another name.
    Renamed,
    /// Its key was generated.
    KeyGenerated,
    /// Its key was revoked.
    KeyRevoked,
    /// It was deleted, and its key with it.
    Deleted,
}

impl SystemChangeKind {
    /// What an entry tells that was done; `None` when it tells of something else than a change of a system.
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

    pub fn concerns_key(self) -> bool {
        !matches!(self, Self::Created | Self::Renamed)
    }
}

impl SystemChange {
    /// The change that an entry tells of; `None` when it tells of something else.
    pub(crate) fn of(service: &Service, entry: audit::AuditEntry) -> Option<Self> {
        let kind = SystemChangeKind::of(&entry)?;
        let id = entry.event.system?;
        Some(Self {
            cursor: cursors::of_audit(service.keyring(), &entry.tenant, entry.number),
            kind,
            system_id: id.to_string().into(),
            system: entry.event.image.clone().map(|image| System::from_image(id, image)),
            occurred_at: DateTime(entry.event.occurred_at),
            entry: AuditEntry::from(entry),
        })
    }
}
