//! Committing changes: decide on what was read, commit one batch, and decide again if the rows changed meanwhile.

use tracing::field;

use super::error::Error;
use super::{Enforcement, Service};
use crate::coherence::Barrier;
use crate::domain::audit::AuditEvent;
use crate::domain::changes::Batch;
use crate::domain::refusal::Refusal;
use crate::store::{Conflict, StoreError};

/// How often a change is decided before it is refused with `CONFLICT`: more than the changes that can be in progress on
/// one row.
const MAX_ATTEMPTS: u32 = 200;

/// What one attempt at a change decided, from the rows that it read.
pub(super) enum Decision<T> {
    /// Commit the batch, and return the value once it is committed.
    Commit(Box<Batch>, T),
    /// Nothing needs to be changed.
    Unchanged(T),
    /// The change was made by an earlier request. Its client may have got no response and repeat it, so the outcome is
    /// returned only once that change is enforced. It is decided again by [`Reads::Linearizable`] first.
    Repeat(Result<T, Refusal>),
    /// The change cannot be made. Decided again by [`Reads::Linearizable`] first, since the client may take the refusal as
    /// proof.
    Refuse(Refusal),
    /// The rows that were read do not fit together: another change was committed between two reads.
    Retry,
}

/// How strong the reads of a decision are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// What a majority has. Through a failover such a read may miss a change that was reported as committed; a batch that
    /// was decided on it conflicts.
    Majority,
    /// Every change that was reported before the read.
    Linearizable,
}

impl<T> Decision<T> {
    pub(super) fn commit(batch: Batch, value: T) -> Self {
        Self::Commit(Box::new(batch.requires_live_keys()), value)
    }
}

/// The value of a change that was committed. Each operation says whether it waits until the change is enforced on every
/// instance: with [`Service::wait_until_enforced`], [`Service::require_enforced`] or [`without_waiting`].
///
/// [`without_waiting`]: Self::without_waiting
#[must_use = "an operation says whether it waits until its change is enforced"]
pub(super) struct Committed<T> {
    value: T,
    /// `None` if nothing was left to enforce.
    barrier: Option<Barrier>,
}

impl<T> Committed<T> {
    /// Whether a batch was committed.
    pub(super) fn has_changed(&self) -> bool {
        self.barrier.is_some()
    }

    /// The value, for a change that an instance may learn of later than the client: one that no cache contradicts.
    pub(super) fn without_waiting(self) -> T {
        self.value
    }
}

impl Service {
    /// Makes a change: calls `decide` and commits its batch, and begins again when a row that the decision relies on, or
    /// a marker that it sets, was written meanwhile.
    ///
    /// # Errors
    ///
    /// The errors of `decide` and of [`commit`](Self::commit); `CONFLICT` after [`MAX_ATTEMPTS`].
    pub(super) async fn change<T, F>(&self, decide: impl Fn(Reads) -> F) -> Result<Committed<T>, Error>
    where
        F: Future<Output = Result<Decision<T>, Error>>,
    {
        let mut reads = Reads::Majority;
        for _ in 0..MAX_ATTEMPTS {
            let (batch, value) = match (decide(reads).await?, reads) {
                (Decision::Commit(batch, value), _) => (batch, value),
                (Decision::Unchanged(value), _) => return Ok(Committed { value, barrier: None }),
                (Decision::Repeat(_) | Decision::Refuse(_), Reads::Majority) => {
                    reads = Reads::Linearizable;
                    continue;
                }
                (Decision::Repeat(outcome), Reads::Linearizable) => {
                    // The barrier begins after the read, and so covers every change that the read saw.
                    let repeat = Committed { value: (), barrier: Some(self.coherence.begin_repeat()) };
                    self.require_enforced(repeat).await?;
                    return Ok(Committed { value: outcome?, barrier: None });
                }
                (Decision::Refuse(refusal), Reads::Linearizable) => return Err(refusal.into()),
                (Decision::Retry, _) => continue,
            };
            match self.commit(*batch).await {
                Ok(committed) => return Ok(Committed { value, barrier: committed.barrier }),
                Err(Error::Refused(Refusal::Conflict) | Error::Internal(StoreError::Conflict(Conflict::Marker))) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Refusal::Conflict.into())
    }

    /// Commits a batch, in one attempt.
    ///
    /// # Errors
    ///
    /// `CONFLICT` if a row is not as the batch expects; `NAME_TAKEN`; the store's errors.
    pub(super) async fn commit(&self, batch: Batch) -> Result<Committed<()>, Error> {
        // The barrier must exist before the commit: the change may come through the feed before the store returns.
        let mut barrier = self.coherence.begin(batch.event.id);
        let entry = self.store.commit(batch).await.map_err(|error| match error {
            StoreError::Conflict(Conflict::Row) => Refusal::Conflict.into(),
            StoreError::Conflict(Conflict::NameTaken) => Refusal::NameTaken.into(),
            StoreError::Conflict(Conflict::ExternalIdTaken) => Refusal::ExternalIdTaken.into(),
            StoreError::Conflict(Conflict::UsernameTaken) => Refusal::UsernameTaken.into(),
            StoreError::Conflict(Conflict::TokenNameTaken) => Refusal::TokenNameTaken.into(),
            StoreError::Conflict(Conflict::TenantNotEmpty) => Refusal::TenantNotEmpty.into(),
            error => Error::from(error),
        })?;
        barrier.committed();
        let AuditEvent { actor, action, outcome, system, system_name, request_id, .. } = &entry.event;
        tracing::info!(
            tenant = %entry.tenant, number = entry.number, ?action, ?outcome, actor = ?actor.name,
            actor_id = actor.id.map(field::display), system = system.map(field::display), system_name = system_name.as_ref().map(field::debug),
            request = %request_id, "audit entry written"
        );
        Ok(Committed { value: (), barrier: Some(barrier) })
    }

    /// Waits until no instance uses the state before the change, up to the limit in the settings. The [`Enforcement`]
    /// says how the wait ended.
    pub(super) async fn wait_until_enforced<T>(&self, committed: Committed<T>) -> (T, Enforcement) {
        let enforcement = match committed.barrier {
            Some(barrier) => barrier.enforced(self.settings.enforcement_wait).await,
            None => Enforcement::NOTHING_TO_ENFORCE,
        };
        if !enforcement.is_enforced {
            tracing::warn!(until = ?enforcement.pending_until, "change committed, enforcement not confirmed in time");
        }
        (committed.value, enforcement)
    }

    /// Waits like [`wait_until_enforced`](Self::wait_until_enforced), for a response that has no place to report how the
    /// wait ended.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnforced`] if the wait timed out. The change is committed all the same.
    pub(super) async fn require_enforced<T>(&self, committed: Committed<T>) -> Result<T, Error> {
        let (value, enforcement) = self.wait_until_enforced(committed).await;
        if enforcement.is_enforced { Ok(value) } else { Err(Error::NotEnforced) }
    }
}
