//! Keymark issues, verifies and revokes the API keys of tenants' client applications.

pub mod auth;
pub mod clock;
pub mod domain;
pub mod graphql;
pub mod http;
pub mod service;
pub mod store;
pub mod verify;
