//! Instances of Keymark over the same store.

use async_graphql::{Enum, ID, SimpleObject};

use super::DateTime;
use crate::service;

/// An instance of Keymark over the same store, as the one that responds knows it.
#[derive(SimpleObject)]
pub(crate) struct Instance {
    /// Id of the instance's cache: another one each time that it loads everything. Null while it cannot follow the store's
    /// changes.
    id: Option<ID>,
    /// Whether it is the instance that responds.
    is_current: bool,
    /// Where it reads from.
    state: InstanceState,
    /// Time at which it last renewed its lease.
    renewed_at: DateTime,
}

impl From<service::KnownInstance> for Instance {
    fn from(known: service::KnownInstance) -> Self {
        Self {
            id: known.incarnation.map(|incarnation| incarnation.to_string().into()),
            is_current: known.is_current,
            state: known.state.into(),
            renewed_at: DateTime(known.renewed_at),
        }
    }
}

/// Where an instance reads from.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "service::InstanceState")]
pub enum InstanceState {
    /// From its cache.
    Cached,
    /// From the store: it has no cache, or its cache is not current.
    Bypassed,
    /// Unknown: its lease has ended. It was stopped by force, or cannot reach the database.
    Silent,
}
