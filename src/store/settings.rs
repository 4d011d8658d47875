//! Settings of the store itself, such as the fingerprint of its secret, and markers of what was done once.

use async_trait::async_trait;

use super::Result;

#[async_trait]
pub trait SettingsStore {
    /// Sees every value that was set before this call began, whatever happens to the database meanwhile.
    async fn find_setting(&self, name: &str) -> Result<Option<String>>;

    /// Sets the value if the current one is `expected` (`None`: unset). Returns whether it was.
    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool>;

    /// Returns the names and values of the settings whose names start with `prefix`, in any order.
    async fn list_settings(&self, prefix: &str) -> Result<Vec<(String, String)>>;

    /// Whether a batch with this marker was committed.
    async fn has_marker(&self, marker: &str) -> Result<bool>;
}
