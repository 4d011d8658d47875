//! The GraphQL API.

pub mod limits;
