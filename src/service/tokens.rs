//! Service tokens and verifier tokens: create, rotate and revoke them.

use super::commit::Decision;
use super::error::Error;
use super::{Request, Service, origin};
use crate::domain::audit::{AuditAction, AuditActor};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{TenantId, TokenId};

impl Service {
    /// Revokes a token again in a restored store. Returns `false` if the store does not have it.
    pub(super) async fn replay_token_revocation(
        &self,
        request: Request,
        tenant: &TenantId,
        id: TokenId,
    ) -> Result<bool, Error> {
        let revoked = self.change(|_| async move {
            let found = self.store.find_token_by_id(id).await?.filter(|token| token.tenant == *tenant);
            let Some(token) = found else { return Ok(Decision::Unchanged(false)) };
            let action = if token.kind.is_service() {
                AuditAction::ServiceTokenRevoked
            } else {
                AuditAction::VerifierTokenRevoked
            };
            let event = self.event(&origin(AuditActor::command_line(), request), action).about_token(&token);
            Ok(Decision::commit(Batch::new(tenant.clone(), event).delete(&Row::Token(token)), true))
        });
        self.require_enforced(revoked.await?).await
    }
}
