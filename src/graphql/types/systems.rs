//! Systems, their lists, and their changes.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::enum_value;
use async_graphql::{
    ComplexObject, Context, ContextSelectionSet, Enum, ID, InputObject, Object, OutputType, Positioned, Result,
    ScalarType, ServerResult, SimpleObject, Value,
};

use super::actors::AuditActor;
use super::connection::PageInfo;
use super::leaves::{Leaf, LeafRow, Leaves};
use super::usage::{LastUses, RequestedRange, Usage, UsageResolution};
use super::{AuditEntry, DateTime, int};
use crate::domain::audit::{AuditAction, KeyImage, SystemImage};
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::Mark;
use crate::domain::pages::{Page, PageRequest};
use crate::domain::refusal::Refusal;
use crate::domain::system_lists::{ListField, ListOrder, Selection, SystemQuery};
use crate::domain::system_names::Search;
use crate::domain::usage::UsageSummary;
use crate::domain::{audit, cursors, keys, system_lists, systems};
use crate::graphql::context::Authenticated;
use crate::service::Service;

/// A registered client application of the tenant, with at most one current API key, and one that retires.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct System {
    /// Globally unique id, for `Query.system` and `Query.node`.
    pub id: ID,
    /// Display name, as it was entered. Unique within the tenant, ignoring case and width (NFKC case folding: `ＡＢＣ`
    /// equals `abc`).
    name: String,
    /// What the system is for. Null if nobody described it.
    description: Option<String>,
    /// The platform's own id of this application, as it was set, for look-ups and verdicts. Unique within the tenant,
    /// compared exactly. Null if it has none.
    external_id: Option<String>,
    /// Whether the system has a current key, and whether its keys are accepted.
    key_state: KeyState,
    /// Mark of the current key: its last 4 characters. Null if the system has no current key.
    key_mark: Option<String>,
    /// The current key, the newest. Null if there is none.
    current_key: Option<ApiKey>,
    /// The key before the current one, which is accepted until the overlap of its rotation ends. Null if there is none.
    retiring_key: Option<ApiKey>,
    /// The key that ended last. Null if none has ended, or if release 0.1 ended it.
    last_key: Option<EndedKey>,
    /// Time at which the system was suspended. Null if it is not.
    suspended_at: Option<DateTime>,
    /// Why the system was suspended. Null if it is not, or if no reason was given.
    suspended_reason: Option<String>,
    /// Revision of the system. Starts at 1, and increases by 1 with each change of the system or its keys.
    revision: i32,
    /// Time at which the system was created.
    created_at: DateTime,
    /// Time of the last change of the system or its keys. Use of a key does not count as a change.
    updated_at: DateTime,
    #[graphql(skip)]
    system: SystemId,
    #[graphql(skip)]
    last_uses: Arc<LastUses>,
}

#[ComplexObject]
impl System {
    /// Time at which a verification last accepted a key of the system, to the second, as far as the instances have written
    /// it: usually within 10 seconds. Null if none ever did.
    async fn last_used_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        self.last_uses.last_used_at(ctx, self.system).await
    }

    /// Use of all keys of the system.
    ///
    /// Errors: `BAD_USER_INPUT` if the range is empty or too long, or begins before what is kept.
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Start of the range. Defaults to 24 hours before its end for `HOUR`, and 30 days for `DAY`. The \
                          range begins with the hour or day that contains it."
        )]
        from: Option<DateTime>,
        #[graphql(
            desc = "End of the range, at most 8 days after its start for `HOUR`, and 400 days for `DAY`. Defaults \
                          to now."
        )]
        to: Option<DateTime>,
        #[graphql(desc = "Length of the buckets.", default_with = "UsageResolution::Hour")] resolution: UsageResolution,
    ) -> Result<Usage> {
        Usage::find(ctx, self.system, None, RequestedRange { from, to, resolution }).await
    }
}

/// Whether a system has a current key, and whether its keys are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "system_lists::KeyState")]
pub enum KeyState {
    /// The system has no current key. One can be generated.
    NotGenerated,
    /// The system has a current key, and verifications accept it.
    Active,
    /// The system is suspended: verifications refuse its keys, if it has any, until it is resumed.
    Suspended,
}

/// A live key of a system.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct ApiKey {
    #[graphql(skip)]
    of: KeyOf,
    /// Whether it is the current key or the one that retires.
    role: KeyRole,
    /// Mark of the key: its last 4 characters.
    mark: String,
    /// Time at which the key was generated.
    generated_at: DateTime,
    /// Who generated the key.
    generated_by: AuditActor,
    /// Time from which the key is refused. Of a retiring key, the end of the overlap. Null if the key has no end.
    expires_at: Option<DateTime>,
}

/// The key that an object is about.
struct KeyOf {
    system: SystemId,
    mark: Mark,
    last_uses: Arc<LastUses>,
}

#[ComplexObject]
impl ApiKey {
    /// Time at which a verification last accepted the key, to the second, as far as the instances have written it: usually
    /// within 10 seconds, and within 2 seconds during a rotation. Null if none ever did.
    async fn last_used_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let KeyOf { system, mark, last_uses } = &self.of;
        Ok(last_uses.of_key(ctx, *system, *mark).await?.last_used_at.map(DateTime))
    }

    /// Use of the key.
    ///
    /// Errors: `BAD_USER_INPUT` if the range is empty or too long, or begins before what is kept.
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Start of the range. Defaults to 24 hours before its end for `HOUR`, and 30 days for `DAY`. The \
                          range begins with the hour or day that contains it."
        )]
        from: Option<DateTime>,
        #[graphql(
            desc = "End of the range, at most 8 days after its start for `HOUR`, and 400 days for `DAY`. Defaults \
                          to now."
        )]
        to: Option<DateTime>,
        #[graphql(desc = "Length of the buckets.", default_with = "UsageResolution::Hour")] resolution: UsageResolution,
    ) -> Result<Usage> {
        Usage::find(ctx, self.of.system, Some(self.of.mark), RequestedRange { from, to, resolution }).await
    }
}

/// What a live key is to its system.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "keys::KeyRole")]
pub enum KeyRole {
    /// The newest key.
    Current,
    /// The key before the newest one, until the overlap of the rotation ends.
    Retiring,
}

/// What became of a system's key.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct EndedKey {
    #[graphql(skip)]
    of: KeyOf,
    /// Mark of the key: its last 4 characters.
    mark: String,
    /// Time at which the key ended.
    ended_at: DateTime,
    /// How the key ended.
    end: KeyEnd,
    /// Why an operator ended it. Null if no reason was given, and for an end by time.
    reason: Option<String>,
}

#[ComplexObject]
impl EndedKey {
    /// Time at which a verification last refused the key, to the second, as far as the instances have written it. Null if
    /// none did.
    async fn last_refused_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let KeyOf { system, mark, last_uses } = &self.of;
        Ok(last_uses.of_key(ctx, *system, *mark).await?.last_refused_at.map(DateTime))
    }

    /// Number of verifications that refused the key, as far as the instances have written it.
    async fn refusals(&self, ctx: &Context<'_>) -> Result<i32> {
        let KeyOf { system, mark, last_uses } = &self.of;
        Ok(int(last_uses.of_key(ctx, *system, *mark).await?.refusals))
    }
}

/// How a key ended.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "keys::KeyEnd")]
pub enum KeyEnd {
    /// An operator revoked it, or ended its overlap early.
    Revoked,
    /// Its expiry was reached.
    Expired,
    /// The overlap of its rotation was over.
    RotatedOut,
    /// Its system was deleted.
    SystemDeleted,
}

impl ApiKey {
    fn new(system: SystemId, last_uses: &Arc<LastUses>, role: keys::KeyRole, image: KeyImage) -> Self {
        Self {
            of: KeyOf { system, mark: image.mark, last_uses: Arc::clone(last_uses) },
            role: role.into(),
            mark: image.mark.to_string(),
            generated_at: DateTime(image.generated_at),
            generated_by: image.generated_by.into(),
            expires_at: image.expires_at.map(DateTime),
        }
    }
}

impl EndedKey {
    fn new(system: SystemId, last_uses: &Arc<LastUses>, key: systems::EndedKey) -> Self {
        Self {
            of: KeyOf { system, mark: key.mark, last_uses: Arc::clone(last_uses) },
            mark: key.mark.to_string(),
            ended_at: DateTime(key.ended_at),
            end: key.end.into(),
            reason: key.reason.map(|reason| reason.as_str().to_owned()),
        }
    }
}

impl System {
    fn from_image(id: SystemId, image: SystemImage, last_uses: Arc<LastUses>) -> Self {
        let (suspended_at, suspended_reason) =
            image.suspended.map_or((None, None), |suspension| (Some(suspension.at), suspension.reason));
        Self {
            id: id.to_string().into(),
            name: image.name,
            description: image.description.map(|description| description.as_str().to_owned()),
            external_id: image.external_id.map(|external_id| external_id.to_string()),
            key_state: system_lists::KeyState::of(suspended_at.is_some(), image.key_mark.is_some()).into(),
            key_mark: image.key_mark.map(|mark| mark.to_string()),
            current_key: image.current_key.map(|key| ApiKey::new(id, &last_uses, keys::KeyRole::Current, key)),
            retiring_key: image.retiring_key.map(|key| ApiKey::new(id, &last_uses, keys::KeyRole::Retiring, key)),
            last_key: image.last_key.map(|key| EndedKey::new(id, &last_uses, key)),
            suspended_at: suspended_at.map(DateTime),
            suspended_reason: suspended_reason.map(|reason| reason.as_str().to_owned()),
            revision: int(image.revision),
            created_at: DateTime(image.created_at),
            updated_at: DateTime(image.updated_at),
            system: id,
            last_uses,
        }
    }

    /// A system whose last uses were read already.
    pub(crate) fn with_last_uses(system: &systems::System, summary: Arc<UsageSummary>) -> Self {
        Self::from_image(system.id, SystemImage::of(system), LastUses::known(summary))
    }
}

impl From<&systems::System> for System {
    fn from(system: &systems::System) -> Self {
        Self::from_image(system.id, SystemImage::of(system), LastUses::of([system.id]))
    }
}

/// Conditions on systems. Those that are set must all hold.
#[derive(InputObject)]
pub(crate) struct SystemFilter {
    /// Systems in this state.
    key_state: Option<KeyState>,
    /// Systems whose keys were last used before this time, and those that were created before it and never used. Use
    /// is known some seconds after it happens.
    unused_since: Option<DateTime>,
    /// Systems whose current key expires before this time.
    expires_before: Option<DateTime>,
    /// Systems whose current key was generated before this time.
    generated_before: Option<DateTime>,
    /// Systems whose current or retiring key was generated by this operator. An unknown id matches nothing.
    generated_by_id: Option<ID>,
    /// Systems whose current or retiring key has this mark, in the same case. A text that is no mark matches nothing.
    key_mark: Option<String>,
    /// Systems with one of these ids: at most 200. Unknown ids match nothing. They are looked up, so the page costs 200
    /// fields and not 10,000.
    ids: Option<Vec<ID>>,
    /// The system with this external id, compared exactly. It is looked up, as with `ids`.
    external_id: Option<String>,
}

impl SystemFilter {
    /// # Errors
    ///
    /// `BAD_USER_INPUT` for too many ids.
    pub(crate) fn parse(self, search: Search) -> Result<SystemQuery, Refusal> {
        let max = Selection::MAX_IDS;
        if self.ids.as_ref().is_some_and(|ids| ids.len() > max) {
            return Err(Refusal::BadUserInput(format!(
                "filter.ids must have at most {max} ids. Send several requests."
            )));
        }
        let selection = Selection {
            ids: self.ids.as_ref().map(|ids| ids.iter().filter_map(|id| id.parse().ok()).collect()),
            external_id: None,
        };
        let selection = match self.external_id.as_deref().map(ExternalId::parse) {
            None => selection,
            Some(Ok(Some(external_id))) => Selection { external_id: Some(external_id), ..selection },
            // No system has an external id like this.
            Some(Ok(None) | Err(_)) => Selection::nothing(),
        };
        Ok(match self.conditions() {
            Some(filter) => SystemQuery { search, filter, selection },
            None => Search::Nothing.into(),
        })
    }

    /// The conditions besides the selection; `None` if nothing can match.
    fn conditions(self) -> Option<system_lists::SystemFilter> {
        Some(system_lists::SystemFilter {
            key_state: self.key_state.map(Into::into),
            unused_since: self.unused_since.map(|at| at.0),
            expires_before: self.expires_before.map(|at| at.0),
            generated_before: self.generated_before.map(|at| at.0),
            generated_by: self.generated_by_id.map(|id| id.parse()).transpose().ok()?,
            key_mark: self.key_mark.map(keys::Mark::try_from).transpose().ok()?,
        })
    }
}

/// Sort order of a list of systems.
#[derive(Clone, Copy, InputObject)]
pub struct SystemOrder {
    /// Field to sort by. Systems that are equal in it are sorted by id. Systems without a value come last in either
    /// direction.
    field: SystemOrderField,
    /// Direction of the order.
    direction: OrderDirection,
}

/// Field that systems are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum SystemOrderField {
    /// The name, ignoring case and width (NFKC case folding), by code point.
    Name,
    /// Time of the last change of the system or its key.
    UpdatedAt,
    /// Time at which the system was created.
    CreatedAt,
    /// Time of the last use of the system's keys. Use is known some seconds after it happens.
    LastUsedAt,
    /// Time at which the current key was generated.
    KeyGeneratedAt,
    /// Time at which the current key expires.
    KeyExpiresAt,
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

impl From<SystemOrderField> for ListField {
    fn from(field: SystemOrderField) -> Self {
        match field {
            SystemOrderField::Name => Self::Stored(systems::SystemOrderField::Name),
            SystemOrderField::UpdatedAt => Self::Stored(systems::SystemOrderField::UpdatedAt),
            SystemOrderField::CreatedAt => Self::Stored(systems::SystemOrderField::CreatedAt),
            SystemOrderField::LastUsedAt => Self::LastUsedAt,
            SystemOrderField::KeyGeneratedAt => Self::KeyGeneratedAt,
            SystemOrderField::KeyExpiresAt => Self::KeyExpiresAt,
        }
    }
}

impl From<SystemOrder> for ListOrder {
    fn from(order: SystemOrder) -> Self {
        Self { field: order.field.into(), direction: order.direction.into() }
    }
}

pub(crate) struct SystemConnection(Arc<SystemPage>);

/// A page with the request for it. Cursors are encoded only where they are selected.
struct SystemPage {
    service: Arc<Service>,
    tenant: TenantId,
    query: SystemQuery,
    order: ListOrder,
    request: PageRequest<systems::SystemSortKey>,
    /// Each system with its position.
    page: Page<(systems::SystemSortKey, systems::System)>,
    last_uses: Arc<LastUses>,
}

impl SystemPage {
    fn node(&self, system: &systems::System) -> System {
        System::from_image(system.id, SystemImage::of(system), Arc::clone(&self.last_uses))
    }

    fn cursor(&self, position: &systems::SystemSortKey) -> String {
        cursors::encode_system(self.service.keyring(), &self.tenant, self.order, position.clone())
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
        self.page.cursor(&self.page.page.items[self.index].0)
    }

    /// The system.
    async fn node(&self) -> System {
        self.page.node(&self.page.page.items[self.index].1)
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
    async fn nodes(&self) -> SystemNodes {
        SystemNodes(Arc::clone(&self.0))
    }

    /// Cursors of the page's ends, and whether there are further pages.
    async fn page_info(&self) -> PageInfo {
        PageInfo::of(&self.0.page, &self.0.request, |(position, _)| self.0.cursor(position))
    }

    /// Number of systems that match search and filter, on all pages. Counted only if selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let call = Authenticated::new(ctx).await?;
        Ok(int(call.convert(self.0.service.count_systems(call.caller, &self.0.query).await)?))
    }
}

impl SystemConnection {
    pub(crate) fn new(
        service: &Arc<Service>,
        tenant: &TenantId,
        query: SystemQuery,
        order: ListOrder,
        request: PageRequest<systems::SystemSortKey>,
        page: Page<(systems::SystemSortKey, systems::System)>,
    ) -> Self {
        let (service, tenant) = (Arc::clone(service), tenant.clone());
        let last_uses = LastUses::of(page.items.iter().map(|(_, system)| system.id));
        Self(Arc::new(SystemPage { service, tenant, query, order, request, page, last_uses }))
    }
}

/// The systems of a page, as a list of [`System`].
struct SystemNodes(Arc<SystemPage>);

impl OutputType for SystemNodes {
    fn type_name() -> Cow<'static, str> {
        Vec::<System>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<System>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<System>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let systems = self.0.page.items.iter().map(|(_, system)| system);
        match Leaves::selected(ctx) {
            Some(leaves) => Ok(Value::List(systems.map(|system| leaves.object(system)).collect())),
            None => {
                let systems: Vec<System> = systems.map(|system| self.0.node(system)).collect();
                systems.resolve(ctx, field).await
            }
        }
    }
}

/// The fields of [`System`] that are members of the row.
impl LeafRow for systems::System {
    type Object = System;

    fn leaf(field: &str) -> Option<Leaf<Self>> {
        Some(match field {
            "__typename" => |_| Value::from(System::type_name()),
            "id" => |system| Value::String(system.id.to_string()),
            "name" => |system| Value::from(system.name.as_str()),
            "description" => |system| Value::from(system.description.as_ref().map(|text| text.as_str().to_owned())),
            "externalId" => |system| Value::from(system.external_id.as_ref().map(ToString::to_string)),
            "keyState" => |system| {
                let state = system_lists::KeyState::of(system.suspended.is_some(), system.key.is_some());
                enum_value(KeyState::from(state))
            },
            "keyMark" => |system| Value::from(system.key.as_ref().map(|key| key.mark.to_string())),
            "revision" => |system| Value::from(int(system.revision)),
            "createdAt" => |system| DateTime(system.created_at).to_value(),
            "updatedAt" => |system| DateTime(system.updated_at).to_value(),
            _ => return None,
        })
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
    /// The keys of the system were revoked.
    KeyRevoked,
    /// A new current key was generated, and the one before retires or has ended.
    KeyRotated,
    /// The overlap of a rotation was ended early.
    RotationEnded,
    /// The end of one of the keys was changed.
    KeyExpiryChanged,
    /// A key reached its end: it expired, or the overlap of its rotation was over.
    KeyExpired,
    /// The current key ends in 30, 7 or 1 days.
    KeyExpiryWarned,
    /// The system was suspended.
    Suspended,
    /// The system was resumed.
    Resumed,
    /// The description of the system was changed.
    Described,
    /// The external id of the system was changed.
    ExternalIdChanged,
    /// The system was deleted together with its keys.
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
            AuditAction::KeyRotated => Some(Self::KeyRotated),
            AuditAction::RotationEnded => Some(Self::RotationEnded),
            AuditAction::KeyExpiryChanged => Some(Self::KeyExpiryChanged),
            AuditAction::KeyExpired => Some(Self::KeyExpired),
            AuditAction::KeyExpiryWarned => Some(Self::KeyExpiryWarned),
            AuditAction::SystemSuspended => Some(Self::Suspended),
            AuditAction::SystemResumed => Some(Self::Resumed),
            AuditAction::SystemDescribed => Some(Self::Described),
            AuditAction::ExternalIdChanged => Some(Self::ExternalIdChanged),
            AuditAction::SystemDeleted => Some(Self::Deleted),
            _ => None,
        }
        .filter(|_| entry.event.system.is_some())
    }

    /// Returns true if the change may add, remove or limit a key.
    pub fn concerns_key(self) -> bool {
        !matches!(self, Self::Created | Self::Renamed | Self::Described | Self::ExternalIdChanged)
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
            system: entry.event.image.clone().map(|image| System::from_image(id, image, LastUses::of([id]))),
            occurred_at: DateTime(entry.event.occurred_at),
            entry: AuditEntry::from(entry),
        })
    }
}
