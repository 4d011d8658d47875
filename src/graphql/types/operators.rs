//! Operators.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, ID, Object, Result, SimpleObject};

use super::connection::PageInfo;
use super::payloads::Enforcement;
use super::read_together::ReadTogether;
use super::sessions::current_of;
use super::tenants::SystemCounts;
use super::{DateTime, Paging, Session, Tenant, int};
use crate::domain::cursors;
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::operators::{self, Username};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::permissions::Permission;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::graphql::context::Authenticated;
use crate::graphql::error::refuse;
use crate::service;
use crate::service::Service;
use crate::service::operators::NewPassword;

/// A person who signs in.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Operator {
    /// Globally unique id.
    pub id: ID,
    /// Name to sign in with, unique across tenants.
    username: String,
    /// Whether the operator is of the platform, and may act in every tenant.
    is_platform: bool,
    /// Permission codes that the operator holds. No code implies another.
    permissions: Vec<String>,
    /// Time at which the operator was added.
    created_at: DateTime,
    /// Time at which the operator was suspended. Null if they are not. A suspended operator cannot sign in.
    suspended_at: Option<DateTime>,
    #[graphql(skip)]
    operator: Arc<operators::Operator>,
    #[graphql(skip)]
    last_uses: Arc<LastUses>,
    #[graphql(skip)]
    system_count: Arc<SystemCounts>,
}

#[ComplexObject]
impl Operator {
    /// The tenant that the operator belongs to.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Tenant> {
        let call = Authenticated::new(ctx).await?;
        let found = call.convert(call.service.find_tenant(&self.operator.tenant).await)?;
        let tenant = found.ok_or_else(|| refuse(&Refusal::TenantNotFound))?;
        Ok(Tenant::new(&tenant, Arc::clone(&self.system_count)))
    }

    /// Time of the operator's last request on any instance, to the minute; it arrives within two minutes. Null if there is
    /// none, or none within 400 days.
    async fn last_active_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let call = Authenticated::new(ctx).await?;
        self.check_visible(&call).await?;
        let operators = self.last_uses.items();
        let read = async {
            let uses = call.service.find_last_uses_of_operators(operators).await?.into_iter();
            Ok(operators.iter().copied().zip(uses).filter_map(|(operator, used)| Some((operator, used?))).collect())
        };
        Ok(self.last_uses.find(&call, &self.operator.id, read).await?.copied().map(DateTime))
    }

    /// Where the operator is signed in, newest first. At most 100.
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<Session>> {
        let call = Authenticated::new(ctx).await?;
        self.check_visible(&call).await?;
        let open = call.convert(call.service.list_open_sessions(&self.operator).await)?;
        let current = current_of(call.caller);
        Ok(open.into_iter().map(|open| Session::new(open, current)).collect())
    }
}

impl Operator {
    /// Refuses a caller who only changes operators, unless it is the operator themselves.
    async fn check_visible(&self, call: &Authenticated<'_>) -> Result<()> {
        if call.caller.id() == self.operator.id.into() {
            return Ok(());
        }
        let permission = Permission::ViewOperators;
        call.convert(call.service.require_permission(call.caller, call.request, permission).await)
    }

    fn new(operator: Arc<operators::Operator>, last_uses: Arc<LastUses>, system_count: Arc<SystemCounts>) -> Self {
        Self {
            id: operator.id.to_string().into(),
            username: operator.username.to_string(),
            is_platform: operator.is_platform,
            permissions: operator.permissions.codes(),
            created_at: DateTime(operator.created_at),
            suspended_at: operator.suspended_at.map(DateTime),
            operator,
            last_uses,
            system_count,
        }
    }
}

impl From<Arc<operators::Operator>> for Operator {
    fn from(operator: Arc<operators::Operator>) -> Self {
        let last_uses = Arc::new(LastUses::of([operator.id]));
        let system_count = Arc::new(SystemCounts::of([operator.tenant.clone()]));
        Self::new(operator, last_uses, system_count)
    }
}

type LastUses = ReadTogether<OperatorId, Timestamp>;

pub(crate) struct OperatorConnection(Arc<OperatorPage>);

/// A page with the request for it. Cursors are encoded only where they are selected.
struct OperatorPage {
    service: Arc<Service>,
    tenant: TenantId,
    request: PageRequest<Username>,
    page: Page<Arc<operators::Operator>>,
    total_count: usize,
    last_uses: Arc<LastUses>,
    /// The number of the tenant's systems, which all operators of the page share.
    system_count: Arc<SystemCounts>,
}

impl OperatorPage {
    fn cursor(&self, operator: &operators::Operator) -> String {
        cursors::encode_operator(self.service.keyring(), &self.tenant, operator.username.clone())
    }

    fn node(&self, index: usize) -> Operator {
        let (last_uses, system_count) = (Arc::clone(&self.last_uses), Arc::clone(&self.system_count));
        Operator::new(Arc::clone(&self.page.items[index]), last_uses, system_count)
    }
}

pub(super) struct OperatorEdge {
    page: Arc<OperatorPage>,
    index: usize,
}

/// An operator and its cursor.
#[Object]
impl OperatorEdge {
    /// Cursor of this edge. Pass it as `after` or `before`.
    async fn cursor(&self) -> String {
        self.page.cursor(&self.page.page.items[self.index])
    }

    /// The operator.
    async fn node(&self) -> Operator {
        self.page.node(self.index)
    }
}

/// A page of operators, ordered by username.
#[Object]
impl OperatorConnection {
    /// Operators of the page, with their cursors.
    async fn edges(&self) -> Vec<OperatorEdge> {
        let indices = 0..self.0.page.items.len();
        indices.map(|index| OperatorEdge { page: Arc::clone(&self.0), index }).collect()
    }

    /// Operators of the page, without their cursors.
    async fn nodes(&self) -> Vec<Operator> {
        (0..self.0.page.items.len()).map(|index| self.0.node(index)).collect()
    }

    /// Cursors of the page's ends, and whether there are further pages.
    async fn page_info(&self) -> PageInfo {
        PageInfo::of(&self.0.page, &self.0.request, |operator| self.0.cursor(operator))
    }

    /// Number of operators that match the search, on all pages.
    async fn total_count(&self) -> i32 {
        int(self.0.total_count as u64)
    }
}

impl OperatorConnection {
    /// Lists the operators of the tenant that the caller acts in, whose usernames contain the text.
    pub(crate) async fn load(call: &Authenticated<'_>, search: &str, paging: Paging) -> Result<Self> {
        let (tenant, keys) = (&call.caller.tenant, call.service.keyring());
        let request = paging.request(|cursor| cursors::decode_operator(keys, tenant, cursor))?;
        let mut operators = call.convert(call.service.operators_of(tenant).await)?;
        // Usernames are in lower case.
        let search = search.to_lowercase();
        operators.retain(|operator| operator.username.as_str().contains(&search));
        let total_count = operators.len();
        let page = Page::of_list(operators, &request, |operator| operator.username.clone());
        let last_uses = Arc::new(LastUses::of(page.items.iter().map(|operator| operator.id)));
        let system_count = Arc::new(SystemCounts::of([tenant.clone()]));
        let (service, tenant) = (Arc::clone(call.service), tenant.clone());
        Ok(Self(Arc::new(OperatorPage { service, tenant, request, page, total_count, last_uses, system_count })))
    }
}

/// Result of `setOperatorPermissions`, `suspendOperator` and `resumeOperator`.
#[derive(SimpleObject)]
pub(crate) struct OperatorPayload {
    /// The operator after the change.
    operator: Operator,
    /// Whether every instance enforces the change already.
    enforcement: Enforcement,
}

impl From<(operators::Operator, service::Enforcement)> for OperatorPayload {
    fn from((operator, enforcement): (operators::Operator, service::Enforcement)) -> Self {
        Self { operator: Arc::new(operator).into(), enforcement: enforcement.into() }
    }
}

/// Result of `addOperator` and `resetOperatorPassword`.
#[derive(SimpleObject)]
pub(crate) struct AddOperatorPayload {
    /// The operator.
    operator: Operator,
    /// One-time password, which the operator has to change within 24 hours. It is shown only in this response and cannot be
    /// retrieved again: if the response is lost, reset the password.
    password: String,
    /// Whether every instance knows the operator already, and refuses their earlier sessions.
    enforcement: Enforcement,
}

impl From<NewPassword> for AddOperatorPayload {
    fn from(NewPassword { password, operator, enforcement }: NewPassword) -> Self {
        Self {
            operator: Arc::new(operator).into(),
            password: password.expose().to_owned(),
            enforcement: enforcement.into(),
        }
    }
}

/// Result of `removeOperator`.
#[derive(SimpleObject)]
pub(crate) struct RemoveOperatorPayload {
    /// Id of the removed operator.
    pub removed_operator_id: ID,
    /// Whether every instance refuses the operator's sessions already.
    pub enforcement: Enforcement,
}

/// Result of `endSessions`.
#[derive(SimpleObject)]
pub(crate) struct EndSessionsPayload {
    /// Number of sessions that were ended.
    pub ended: i32,
    /// Whether every instance refuses the sessions already.
    pub enforcement: Enforcement,
}

impl From<(u64, service::Enforcement)> for EndSessionsPayload {
    fn from((ended, enforcement): (u64, service::Enforcement)) -> Self {
        Self { ended: int(ended), enforcement: enforcement.into() }
    }
}
