//! Values of items that are shown together, such as those of a page.

use std::collections::HashMap;
use std::hash::Hash;

use async_graphql::{Error as FieldError, Result};
use tokio::sync::OnceCell;

use crate::graphql::context::Authenticated;
use crate::service::error::Error;

/// The values of items, which are read for all of them when the first is needed.
pub(super) struct ReadTogether<K, V> {
    items: Vec<K>,
    /// A failure is kept too: each item would repeat the read of all of them, one after the other.
    values: OnceCell<Result<HashMap<K, V>, FieldError>>,
}

impl<K: Clone + Eq + Hash, V> ReadTogether<K, V> {
    pub(super) fn of(items: impl IntoIterator<Item = K>) -> Self {
        Self { items: items.into_iter().collect(), values: OnceCell::new() }
    }

    /// The value of one item, which was read already.
    pub(super) fn known(item: K, value: V) -> Self {
        Self { items: vec![item.clone()], values: OnceCell::new_with(Some(Ok([(item, value)].into()))) }
    }

    pub(super) fn items(&self) -> &[K] {
        &self.items
    }

    /// Returns the value of an item, if it has one. `read` returns those of all [`items`](Self::items), and runs unless it
    /// has run before.
    pub(super) async fn find(
        &self,
        call: &Authenticated<'_>,
        item: &K,
        read: impl Future<Output = Result<HashMap<K, V>, Error>>,
    ) -> Result<Option<&V>> {
        let values = self.values.get_or_init(async || call.convert(read.await)).await;
        values.as_ref().map(|values| values.get(item)).map_err(Clone::clone)
    }
}
