//! Settings and markers: documents of the collection `meta`.

use async_trait::async_trait;
use mongodb::bson::doc;

use super::errors::{corrupt, is_duplicate_key};
use super::store::MongoStore;
use crate::store::{Result, SettingsStore};

#[async_trait]
impl SettingsStore for MongoStore {
    async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        let found =
            self.bounded("find_setting", self.meta_linearizable.find_one(doc! { "_id": setting_id(name) })).await?;
        found.map(|found| found.get_str("value").map(str::to_owned).map_err(corrupt)).transpose()
    }

    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool> {
        let id = setting_id(name);
        match expected {
            Some(expected) => {
                let filter = doc! { "_id": id, "value": expected };
                let change = self.meta.update_one(filter, doc! { "$set": { "value": value } });
                Ok(self.bounded("replace_setting", change).await?.matched_count == 1)
            }
            None => {
                match self.bounded("replace_setting", self.meta.insert_one(doc! { "_id": id, "value": value })).await {
                    Ok(_) => Ok(true),
                    Err(error) if is_duplicate_key(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn has_marker(&self, marker: &str) -> Result<bool> {
        Ok(self.bounded("has_marker", self.meta.find_one(doc! { "_id": marker_id(marker) })).await?.is_some())
    }
}

fn setting_id(name: &str) -> String {
    format!("setting/{name}")
}

pub(super) fn marker_id(marker: &str) -> String {
    format!("marker/{marker}")
}
