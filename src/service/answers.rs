//! The state that answers about a tenant's systems and audit log depend on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;

use super::Service;
use super::error::Error;
use crate::coherence::FeedEvent;
use crate::domain::audit::AuditHead;
use crate::domain::ids::TenantId;
use crate::domain::permissions::Permissions;

/// Bytes of an entity tag: HMAC-SHA-256 truncated to 128 bits (RFC 2104, section 5).
const TAG_BYTES: usize = 16;

/// The state of a tenant's systems and log, as far as it is known without reading them: while two reads return the same,
/// neither has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    head: AuditHead,
    /// The last change that another client of the database made, without an audit entry.
    foreign: u64,
    read_epoch: u64,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerSource {
    Cache,
    Computed,
    /// The client has it.
    Client,
}

/// The last change that was made without an audit entry, as far as the feed has delivered it: its time in the log, or a
/// random number if such changes may have been missed. 0 if there was none.
#[derive(Default)]
pub(super) struct ForeignChanges {
    last: AtomicU64,
    had_feed: AtomicBool,
}

impl Service {
    /// Reads the end of the tenant's log. Of the changes of other clients it includes those that the feed has delivered.
    pub async fn log_state(&self, tenant: &TenantId) -> Result<LogState, Error> {
        let (foreign, read_epoch) = (self.foreign_changes.last.load(Ordering::Acquire), self.store.read_epoch());
        Ok(LogState { head: self.store.audit_head(tenant).await?, foreign, read_epoch })
    }

    /// Whether the state is of the servers that are read from now.
    pub fn has_read_epoch(&self, state: &LogState) -> bool {
        self.store.read_epoch() == state.read_epoch
    }

    pub(super) fn note_foreign_change(&self, event: &FeedEvent) {
        let ForeignChanges { last, had_feed } = &self.foreign_changes;
        match event {
            FeedEvent::Change(change) if !change.foreign.is_empty() || change.has_foreign_system() => {
                last.store(change.at.get(), Ordering::Release);
            }
            FeedEvent::Change(_) => {}
            FeedEvent::Resumed if had_feed.swap(true, Ordering::Relaxed) => {
                last.store(self.environment.rng().random(), Ordering::Release);
            }
            FeedEvent::Resumed => {}
        }
    }

    pub fn count_answer(&self, source: AnswerSource) {
        let counters = &self.metrics.answers;
        match source {
            AnswerSource::Cache => counters.cached.inc(),
            AnswerSource::Computed => counters.computed.inc(),
            AnswerSource::Client => counters.not_modified.inc(),
        };
    }

    /// An entity tag, in quotes, of what depends on this state, these permissions and these parts. Instances with the same
    /// root secret return the same.
    pub fn entity_tag(&self, tenant: &TenantId, permissions: Permissions, state: &LogState, parts: &[&[u8]]) -> String {
        let LogState { head, foreign, read_epoch: _ } = state;
        let scope = format!(
            "answers/{tenant}/{}/{}/{}/{foreign}/{}\0",
            permissions.codes().join(","),
            head.number,
            head.hash,
            env!("CARGO_PKG_VERSION")
        );
        let parts = [&[scope.as_bytes()], parts].concat();
        let tag = self.keyring.current().cursors.mac(&parts);
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(&tag[..TAG_BYTES]))
    }
}
