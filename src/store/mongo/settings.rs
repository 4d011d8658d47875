//! Settings and markers: documents of the collection `meta`.

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;

use super::collections::META;
use super::errors::{corrupt, is_duplicate_key};
use super::reads::BY_ID;
use super::rows::{SETTING, marker_id, setting_id};
use super::store::MongoStore;
use crate::domain::leases::LENGTH_SETTING;
use crate::store::{Result, SettingsStore};

#[async_trait]
impl SettingsStore for MongoStore {
    async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        const CALL: &str = "find_setting";
        // The listing of leases may need it, and must not wait for the reads of requests.
        let database = if name == LENGTH_SETTING { &self.reserved } else { &self.database };
        let mut session = self.start_current_session_in(database, CALL).await?;
        let meta = database.collection::<Document>(META);
        let find = meta.find_one(doc! { "_id": setting_id(name) }).session(&mut session);
        let found = self.bounded(CALL, find).await?;
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

    async fn list_settings(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        // Strings compare by their bytes in UTF-8, and no character has greater ones than the last.
        let (from, to) = (setting_id(prefix), setting_id(&format!("{prefix}{}", char::MAX)));
        let find = self
            .meta
            .find(doc! { "_id": { "$gte": from, "$lt": to } })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        let found = self.collect("list_settings", find).await?;
        let name_of = |id: &str| id.strip_prefix(SETTING).unwrap_or_default().to_owned();
        let read = |found: Document| {
            let (id, value) = (found.get_str("_id").map_err(corrupt)?, found.get_str("value").map_err(corrupt)?);
            Ok((name_of(id), value.to_owned()))
        };
        found.into_iter().map(read).collect()
    }

    async fn has_marker(&self, marker: &str) -> Result<bool> {
        Ok(self.bounded("has_marker", self.meta.find_one(doc! { "_id": marker_id(marker) })).await?.is_some())
    }
}
