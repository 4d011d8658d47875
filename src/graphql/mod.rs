//! The GraphQL API.

pub mod answers;
pub mod completion;
pub mod context;
pub mod engine;
pub mod error;
pub mod limits;
mod mutation;
pub mod operation;
pub mod permissions;
mod query;
mod shared;
mod subscription;
mod types;

use std::sync::Arc;

use async_graphql::{Schema, SchemaBuilder};

pub use self::mutation::Mutation;
pub use self::query::Query;
pub use self::subscription::Subscription;
use crate::service::Service;

pub type KeymarkSchema = Schema<Query, Mutation, Subscription>;

/// The schema, over the service.
pub fn schema(service: Arc<Service>, introspection: bool) -> KeymarkSchema {
    let schema = builder().data(service);
    if introspection { schema.finish() } else { schema.disable_introspection().finish() }
}

/// The schema in the schema definition language, as `keymark schema` prints it.
pub fn sdl() -> String {
    format!("{}\n", builder().finish().sdl().trim_end())
}

fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query, Mutation, Subscription)
}
