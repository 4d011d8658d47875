//! Keymark issues, verifies and revokes the API keys of tenants' client applications.

pub mod domain;
pub mod graphql;
pub mod http;
pub mod store;
