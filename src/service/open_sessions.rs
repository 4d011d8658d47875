//! Open sessions of operators: list and end them.

use std::cmp::Reverse;
use std::sync::Arc;

use super::activity::{self, Subject};
use super::commit::Decision;
use super::error::Error;
use super::operators::Target;
use super::{Caller, Enforcement, Request, Service};
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row, RowId};
use crate::domain::ids::OperatorId;
use crate::domain::operators::Operator;
use crate::domain::permissions::Permission;
use crate::domain::refusal::Refusal;
use crate::domain::sessions::{Session, SessionId};
use crate::domain::time::Timestamp;

/// A session that has not ended.
#[derive(Clone, Debug)]
pub struct OpenSession {
    pub session: Session,
    /// When it was last used on any instance, to the minute.
    pub last_used_at: Timestamp,
}

/// Which sessions a caller ends.
#[derive(Clone, Copy)]
pub enum Ending {
    /// One of the caller's own, or of an operator of the tenant.
    One(SessionId),
    /// All of an operator.
    AllOf(OperatorId),
    /// The caller's own, except for the one that the request belongs to.
    OwnOthers,
}

impl Service {
    /// The operator's sessions that an instance may accept. This one may have to learn yet that another was used lately, so
    /// whoever ends sessions ends those too that seem idle.
    async fn list_valid_sessions(&self, operator: &Operator) -> Result<Vec<Session>, Error> {
        let now = self.environment.now();
        let mut sessions = self.store.list_sessions(operator.id).await?;
        sessions.retain(|session| session.is_valid_for(operator, now));
        Ok(sessions)
    }

    /// The operator's sessions that have not ended, newest first.
    pub async fn list_open_sessions(&self, operator: &Operator) -> Result<Vec<OpenSession>, Error> {
        let now = self.environment.now();
        let mut sessions = self.list_valid_sessions(operator).await?;
        sessions.sort_by_key(|session| Reverse(session.created_at));
        let subjects: Vec<_> = sessions.iter().map(|session| Subject::Session(session.id)).collect();
        let uses = self.find_last_uses(&subjects).await?;
        let idle = self.longest_idle(self.find_tenant(&operator.tenant).await?.as_deref());
        let open = sessions.into_iter().zip(uses).map(|(session, used)| {
            let last_used_at = used.unwrap_or(session.created_at);
            OpenSession { session, last_used_at }
        });
        Ok(open.filter(|open| idle.is_none_or(|idle| now < activity::end(open.last_used_at, idle))).collect())
    }

    /// Finds a session that has not ended, of the caller or of an operator of the tenant that the caller acts in.
    pub async fn find_open_session(
        &self,
        caller: &Caller,
        id: SessionId,
    ) -> Result<Option<(OpenSession, Operator)>, Error> {
        let Some(session) = self.store.find_session(id).await? else { return Ok(None) };
        let operator = self.store.find_operator(session.operator).await?;
        let is_visible = |operator: &Operator| is_own(caller, operator.id) || operator.tenant == caller.tenant;
        let Some(operator) = operator.filter(is_visible) else { return Ok(None) };
        let mut sessions = self.list_open_sessions(&operator).await?;
        sessions.retain(|open| open.session.id == id);
        Ok(sessions.pop().map(|open| (open, operator)))
    }

    /// Ends sessions on every instance. Returns their number.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for a session that is not the caller's own, unless they may end those of others, and for an unknown
    /// operator; `FORBIDDEN` for all sessions of another operator without the code, and for those of an operator of the
    /// platform from others; `FORBIDDEN` for [`Ending::OwnOthers`] of a service token.
    pub async fn end_sessions(
        self: &Arc<Self>,
        caller: &Caller,
        request: Request,
        ending: Ending,
    ) -> Result<(u64, Enforcement), Error> {
        // The log of the operator's tenant has the entry.
        let at_home = caller.acting_in(caller.home());
        match ending {
            Ending::One(id) => self.end_one_session(caller, &at_home, request, id).await,
            Ending::AllOf(id) if is_own(caller, id) => {
                self.end_all_sessions(Target::Caller(&at_home, request, id)).await.map(|(_, ended, done)| (ended, done))
            }
            Ending::AllOf(id) => {
                self.require_permission(caller, request, Permission::EditOperators).await?;
                self.end_all_sessions(Target::Caller(caller, request, id)).await.map(|(_, ended, done)| (ended, done))
            }
            Ending::OwnOthers => self.end_other_sessions(&at_home, request).await,
        }
    }

    /// Ends all sessions of an operator. Returns their number.
    pub async fn end_all_sessions(self: &Arc<Self>, target: Target<'_>) -> Result<(Operator, u64, Enforcement), Error> {
        let origin = &target.origin();
        let ended = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Refuse(target.not_found()));
            };
            let count = self.list_valid_sessions(&operator).await?.len() as u64;
            if count == 0 {
                return Ok(Decision::Repeat(Ok((operator, 0))));
            }
            let without = operator.without_sessions(self.environment.now());
            let event = self.event(origin, AuditAction::SessionsEnded).about_operator(&without).with_count(count);
            let batch = Batch::new(without.tenant.clone(), event).replace(Row::Operator(without.clone()));
            Ok(Decision::commit(batch, (without, count)))
        });
        let ((operator, count), enforcement) = self.wait_until_enforced(ended.await?).await;
        self.purge_ended_sessions(operator.id, operator.password_version);
        Ok((operator, count, enforcement))
    }

    async fn end_one_session(
        &self,
        caller: &Caller,
        at_home: &Caller,
        request: Request,
        id: SessionId,
    ) -> Result<(u64, Enforcement), Error> {
        let may_end_others = caller.check(Permission::EditOperators).is_ok();
        let ended = self.change(|_| async move {
            let (session, now) = (self.store.find_session_to_change(id).await?, self.environment.now());
            let operator = match &session {
                Some(session) => self.store.find_operator_to_change(session.operator).await?,
                None => None,
            };
            let found = session.zip(operator).filter(|(session, operator)| {
                let is_visible = is_own(caller, operator.id) || (may_end_others && operator.tenant == caller.tenant);
                is_visible && session.is_valid_for(operator, now)
            });
            let Some((_, operator)) = found else { return Ok(Decision::Repeat(Err(Refusal::SessionNotFound))) };
            let is_own = is_own(caller, operator.id);
            if operator.is_platform && !is_own {
                caller.check_platform()?;
            }
            let origin = if is_own { at_home } else { caller }.origin(request);
            let event = self.event(&origin, AuditAction::SessionsEnded).about_operator(&operator);
            let batch = Batch::new(operator.tenant.clone(), event).delete_if_present(RowId::Session(id));
            Ok(Decision::commit(batch, 1))
        });
        Ok(self.wait_until_enforced(ended.await?).await)
    }

    async fn end_other_sessions(&self, caller: &Caller, request: Request) -> Result<(u64, Enforcement), Error> {
        let (operator, current) = caller.signed_in()?;
        let ended = self.change(|_| async move {
            // First, so that the list does not miss a session that began before a failover.
            let Some(operator) = self.store.find_operator_to_change(operator.id).await? else {
                return Ok(Decision::Repeat(Ok(0)));
            };
            let sessions = self.list_valid_sessions(&operator).await?;
            let others: Vec<_> = sessions.iter().map(|session| session.id).filter(|id| *id != current.id).collect();
            if others.is_empty() {
                return Ok(Decision::Repeat(Ok(0)));
            }
            let count = others.len() as u64;
            let event = self
                .event(&caller.origin(request), AuditAction::SessionsEnded)
                .about_operator(&operator)
                .with_count(count);
            let batch = Batch::new(operator.tenant.clone(), event);
            let batch = others.into_iter().fold(batch, |batch, id| batch.delete_if_present(RowId::Session(id)));
            Ok(Decision::commit(batch, count))
        });
        Ok(self.wait_until_enforced(ended.await?).await)
    }
}

/// Whether the caller is this operator.
fn is_own(caller: &Caller, operator: OperatorId) -> bool {
    caller.id() == operator.into()
}
