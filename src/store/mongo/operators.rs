//! Look-ups and lists of operators.

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;

use super::migrations;
use super::reads::{BY_ID, find_first, list_of};
use super::rows::to_bson;
use super::store::MongoStore;
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::operators::{Operator, Username};
use crate::store::{OperatorStore, Result};

#[async_trait]
impl OperatorStore for MongoStore {
    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>> {
        find_first(&self.operator_reads, &[id]).await
    }

    async fn find_operator_to_change(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.find_one_current("find_operator_to_change", &self.operators, doc! { "_id": to_bson(&id)? }, BY_ID).await
    }

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        let filter = doc! { "username": username.as_str() };
        self.find_one("find_operator_by_username", &self.operators, filter, migrations::OPERATORS_USERNAME).await
    }

    async fn recheck_operator(&self, username: &Username) -> Result<Option<Operator>> {
        let filter = doc! { "username": username.as_str() };
        self.find_one_current("recheck_operator", &self.operators, filter, migrations::OPERATORS_USERNAME).await
    }

    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let (filter, index) = match tenant {
            Some(tenant) => (doc! { "tenant": tenant.as_str() }, migrations::OPERATORS_TENANT),
            None => (Document::new(), migrations::OPERATORS_USERNAME),
        };
        let find = self
            .operators
            .find(filter)
            .sort(doc! { "username": 1 })
            .hint(Hint::Name(index.to_owned()))
            .max_time(self.limits.call);
        list_of(self.collect("list_operators", find).await?)
    }
}
