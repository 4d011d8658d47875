//! Operators.

use async_trait::async_trait;

use super::Result;
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::operators::{Operator, Username};

#[async_trait]
pub trait OperatorStore {
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>>;

    /// As strong as [`find_operator`](Self::find_operator), for one change rather than for every request.
    async fn find_operator_to_change(&self, id: OperatorId) -> Result<Option<Operator>>;

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>>;

    /// Looks an operator up for a refusal that a client may take as proof, such as that it has these permissions
    /// already.
    ///
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn recheck_operator(&self, username: &Username) -> Result<Option<Operator>>;

    /// Returns the operators of one tenant, or of all tenants, ordered by username.
    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>>;
}
