//! Settings and markers.

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

use super::errors::storage;
use super::rows::Storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{MARKERS, SETTINGS};
use crate::store::{Result, SettingsStore};

#[async_trait]
impl SettingsStore for EmbeddedStore {
    async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        self.read(|snapshot| snapshot.text(SETTINGS, name))
    }

    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool> {
        let (name, expected, value) = (name.to_owned(), expected.map(str::to_owned), value.to_owned());
        self.writer.submit(move |txn| replace_setting(txn, &name, expected.as_deref(), &value).map(Ok)).await
    }

    async fn list_settings(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let prefix = prefix.to_owned();
        self.read_blocking(move |snapshot| snapshot.list_settings(&prefix)).await
    }

    async fn has_marker(&self, marker: &str) -> Result<bool> {
        self.read(|snapshot| snapshot.contains(MARKERS, marker))
    }
}

impl Snapshot {
    fn list_settings(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let settings = self.0.open_table(SETTINGS).map_err(storage)?;
        let mut found = Vec::new();
        for row in settings.range(prefix..).map_err(storage)? {
            let (name, value) = row.map_err(storage)?;
            if !name.value().starts_with(prefix) {
                break;
            }
            found.push((name.value().to_owned(), value.value().to_owned()));
        }
        Ok(found)
    }
}

fn replace_setting(txn: &WriteTransaction, name: &str, expected: Option<&str>, value: &str) -> Storage<bool> {
    let mut settings = txn.open_table(SETTINGS)?;
    let as_expected = settings.get(name)?.as_ref().map(|found| found.value()) == expected;
    if as_expected {
        settings.insert(name, value)?;
    }
    Ok(as_expected)
}
