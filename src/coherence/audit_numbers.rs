//! Detection of changes that are missing from a feed.

use std::collections::HashMap;

use crate::domain::audit::AuditEntry;
use crate::domain::ids::TenantId;
use crate::store::StoreError;

/// The highest audit number of each tenant that one feed has delivered.
///
/// The numbers of a tenant are consecutive in the store, and the feed delivers changes in commit order. A gap
/// therefore means that the feed missed a change, and that the cache may lack it too.
#[derive(Default)]
pub(super) struct AuditNumbers(HashMap<TenantId, u64>);

impl AuditNumbers {
    /// Returns an error if changes are missing before this entry. The first entry of a tenant is always accepted, and
    /// so is one that is delivered again, as may happen when the feed resumes.
    pub(super) fn check(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let Some(last) = self.0.get_mut(&entry.tenant) else {
            self.0.insert(entry.tenant.clone(), entry.number);
            return Ok(());
        };
        if entry.number > *last + 1 {
            let (last, number) = (*last, entry.number);
            let gap = format!("the feed skipped changes: audit entry {number} of a tenant follows {last}");
            return Err(StoreError::Unavailable(gap.into()));
        }
        *last = entry.number.max(*last);
        Ok(())
    }
}
