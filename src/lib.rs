//! Keymark issues, verifies and revokes the API keys of tenants' client applications.

pub mod admin;
pub mod app;
pub mod audit_text;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod graphql;
pub mod http;
pub mod metrics;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod verify;
