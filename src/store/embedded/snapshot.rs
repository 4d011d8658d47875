//! Reading from one snapshot of the file.

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition};
use serde::de::DeserializeOwned;

use super::errors::storage;
use super::tables::decode;
use crate::store::{Page, PageEnd, Result};

/// A consistent view of the file.
pub(super) struct Snapshot(pub(super) ReadTransaction);

impl Snapshot {
    pub(super) fn of(database: &Database) -> Result<Self> {
        database.begin_read().map(Self).map_err(storage)
    }

    pub(super) fn get<'k, K: redb::Key + 'static, T: DeserializeOwned>(
        &self,
        table: TableDefinition<K, &[u8]>,
        key: impl std::borrow::Borrow<K::SelfType<'k>>,
    ) -> Result<Option<T>> {
        let table = self.0.open_table(table).map_err(storage)?;
        let row = table.get(key).map_err(storage)?;
        row.map(|row| decode(row.value())).transpose()
    }

    pub(super) fn text(&self, table: TableDefinition<&str, &str>, key: &str) -> Result<Option<String>> {
        let table = self.0.open_table(table).map_err(storage)?;
        Ok(table.get(key).map_err(storage)?.map(|value| value.value().to_owned()))
    }

    pub(super) fn contains(&self, table: TableDefinition<&str, ()>, key: &str) -> Result<bool> {
        let table = self.0.open_table(table).map_err(storage)?;
        Ok(table.get(key).map_err(storage)?.is_some())
    }
}

/// Builds a page from items read from its end `from`: the page is always in the order of the list.
pub(super) fn page_of<T>(mut items: Vec<T>, has_more: bool, from: PageEnd) -> Page<T> {
    if from == PageEnd::Last {
        items.reverse();
    }
    Page { items, has_more }
}
