//! The GraphQL API.

pub mod completion;
pub mod limits;
