//! Following the audit log of a tenant, for collectors of logs.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::Service;
use super::error::Error;
use super::feed::{Topic, retry_while_unavailable};
use crate::audit_text::{self, Format};
use crate::coherence::FeedEvent;
use crate::domain::audit::{AuditAction, AuditHead, Origin};
use crate::domain::changes::Batch;
use crate::domain::exports::ExportedEntry;
use crate::domain::ids::TenantId;

/// Entries per read.
const PAGE_SIZE: usize = 500;

/// Why a log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("tenant {0} not found")]
    NoTenant(TenantId),
    #[error(
        "the log of tenant {tenant} does not contain entry {number} as it was followed before: it was archived, the store was \
         restored from an older backup, or it is another store; remove the cursor file to begin with the first entry"
    )]
    OtherLog { tenant: TenantId, number: u64 },
    #[error(transparent)]
    Service(#[from] Error),
}

/// Follows the log of a tenant.
pub struct AuditFollower {
    service: Arc<Service>,
    tenant: TenantId,
    changes: broadcast::Receiver<FeedEvent>,
    last: AuditHead,
}

impl Service {
    /// Follows a log after this entry; without one, from its begin, which an entry records as an export. It begins after
    /// the archived entries.
    pub async fn follow_audit(
        self: &Arc<Self>,
        origin: &Origin,
        tenant: TenantId,
        after: Option<AuditHead>,
    ) -> Result<AuditFollower, FollowError> {
        let changes = self.feed.subscribe(Topic::Changes(tenant.clone()));
        let last = match after {
            Some(after) => {
                let number = after.number;
                let found = self.store.recheck_audit_entry(&tenant, number).await.map_err(Error::from)?;
                if found != Some(after) && self.audit_start(&tenant).await? != after {
                    return Err(FollowError::OtherLog { tenant, number });
                }
                after
            }
            None => {
                if self.audit_head(&tenant).await? == AuditHead::default() {
                    return Err(FollowError::NoTenant(tenant));
                }
                let event = self.event(origin, AuditAction::AuditExported);
                self.commit(Batch::new(tenant.clone(), event)).await?.without_waiting();
                self.audit_start(&tenant).await?
            }
        };
        Ok(AuditFollower { service: Arc::clone(self), tenant, changes, last })
    }
}

impl AuditFollower {
    /// Returns the next entries in JSON Lines, as an export has them; an empty text if there are none yet.
    ///
    /// # Errors
    ///
    /// [`FollowError::OtherLog`] if the next entry was archived meanwhile.
    pub async fn read(&mut self) -> Result<String, FollowError> {
        let (store, tenant) = (&self.service.store, &self.tenant);
        let entries = retry_while_unavailable(|| store.list_audit_after(tenant, self.last.number, PAGE_SIZE)).await?;
        let mut text = String::new();
        for entry in entries {
            let (head, before) = (entry.head(), self.last);
            if head.number != before.number + 1 {
                return Err(FollowError::OtherLog { tenant: tenant.clone(), number: before.number });
            }
            let exported = ExportedEntry { entry, previous_number: before.number, previous_hash: before.hash };
            text.push_str(&audit_text::line(&exported, Format::Jsonl));
            self.last = head;
        }
        Ok(text)
    }

    /// Waits until there may be more entries.
    pub async fn changed(&mut self) {
        // One that was missed is in the log. Never closed: the service keeps the sender.
        let _ = self.changes.recv().await;
    }
}
