//! Values and decisions: what a system, a key, an operator and an audit entry are, and which changes are allowed.
//!
//! Nothing here waits, reads, writes or names a framework. Time and randomness come in as arguments.

pub mod audit;
pub mod changes;
pub mod cursors;
pub mod hex;
pub mod ids;
pub mod keys;
pub mod leases;
pub mod operators;
pub mod pages;
pub mod permissions;
pub mod quota;
pub mod refusal;
pub mod secrets;
pub mod sessions;
pub mod system_names;
pub mod systems;
pub mod time;
pub mod verdict;
