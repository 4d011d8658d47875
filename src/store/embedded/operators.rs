//! Look-ups and lists of operators.

use async_trait::async_trait;
use redb::ReadableTable;

use super::errors::storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{OPERATORS, OPERATORS_BY_USERNAME, decode};
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::operators::{Operator, Username};
use crate::store::errors::skip_unreadable;
use crate::store::{OperatorStore, Result};

#[async_trait]
impl OperatorStore for EmbeddedStore {
    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.read(|snapshot| snapshot.get(OPERATORS, id.to_string().as_str()))
    }

    async fn find_operator_to_change(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.find_operator(id).await
    }

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        self.read(|snapshot| snapshot.find_operator_by_username(username))
    }

    async fn recheck_operator(&self, username: &Username) -> Result<Option<Operator>> {
        self.find_operator_by_username(username).await
    }

    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let tenant = tenant.cloned();
        self.read_blocking(move |snapshot| snapshot.list_operators(tenant.as_ref())).await
    }
}

impl Snapshot {
    fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        match self.text(OPERATORS_BY_USERNAME, username.as_str())? {
            None => Ok(None),
            Some(id) => self.get(OPERATORS, id.as_str()),
        }
    }

    fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let operators = self.0.open_table(OPERATORS).map_err(storage)?;
        let mut listed = Vec::new();
        for row in operators.iter().map_err(storage)? {
            let operator: Option<Operator> = skip_unreadable(decode(row.map_err(storage)?.1.value()))?;
            listed.extend(operator.filter(|operator| tenant.is_none_or(|tenant| operator.tenant == *tenant)));
        }
        listed.sort_by(|one, other| one.username.as_str().cmp(other.username.as_str()));
        Ok(listed)
    }
}
