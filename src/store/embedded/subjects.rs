//! The index of audit entries by what filters ask for, and the times of blocks of entries.

use redb::{ReadableTable, Table};
use serde::Deserialize;

use super::rows::Storage;
use super::tables::ENTRIES_PER_BLOCK;
use crate::domain::audit::{AuditAction, AuditFilter, AuditOutcome, FilteredMembers};
use crate::domain::ids::{ActorId, SystemId};
use crate::domain::keys::Mark;
use crate::domain::time::Timestamp;

/// A subject of an entry: its system, its actor, the marks of its keys, its action, and `REFUSED` if it was refused.
///
/// One table holds all kinds, since none can be taken for another: ids begin with a prefix in lower case that ends with `_`,
/// marks have four characters, and names of actions have more and are in upper case.
pub(super) type Subject = String;

const REFUSED: &str = "REFUSED";

pub(super) fn subjects_of(event: &FilteredMembers) -> Vec<Subject> {
    let mut subjects = vec![name_of(event.action)];
    subjects.extend(event.system.map(|id| id.to_string()));
    subjects.extend(event.actor.map(|id| id.to_string()));
    subjects.extend(event.key_marks.iter().flatten().map(|mark| mark.as_str().to_owned()));
    if event.outcome == AuditOutcome::Refused {
        subjects.push(REFUSED.to_owned());
    }
    subjects
}

/// The subjects of which each matching entry has one, those of the most selective condition. `None` if the filter has no
/// condition with an index: most entries are done, so that outcome has none.
pub(super) fn subjects_of_filter(filter: &AuditFilter) -> Option<Vec<Subject>> {
    if let Some(mark) = filter.key_mark {
        return Some(vec![mark.as_str().to_owned()]);
    }
    let id = filter.system.map(|id| id.to_string()).or(filter.actor.map(|id| id.to_string()));
    if let Some(id) = id {
        return Some(vec![id]);
    }
    if filter.outcome == Some(AuditOutcome::Refused) {
        return Some(vec![REFUSED.to_owned()]);
    }
    let mut names: Vec<_> = filter.actions.as_ref()?.iter().copied().map(name_of).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// Whether the subjects of the filter decide alone which entries match.
pub(super) fn are_decisive(filter: &AuditFilter) -> bool {
    let AuditFilter { system, actor, actions, outcome, key_mark, from, to } = filter;
    let conditions = [
        system.is_some(),
        actor.is_some(),
        actions.is_some(),
        *outcome == Some(AuditOutcome::Refused),
        key_mark.is_some(),
    ];
    let is_one = conditions.into_iter().filter(|given| *given).count() == 1;
    is_one && *outcome != Some(AuditOutcome::Done) && from.is_none() && to.is_none()
}

pub(super) fn name_of(action: AuditAction) -> Subject {
    match serde_json::to_value(action) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("an action is serialized as its name"),
    }
}

/// Adds the time of an entry to those of its block.
pub(super) fn add_time(
    times: &mut Table<'_, (&'static str, u64), (i64, i64)>,
    (tenant, number): (&str, u64),
    (first, last): (i64, i64),
) -> Storage<()> {
    let block = (tenant, number / ENTRIES_PER_BLOCK);
    let before = times.get(block)?.map(|times| times.value());
    let (earliest, latest) = before.unwrap_or((first, last));
    let widened = (earliest.min(first), latest.max(last));
    if before != Some(widened) {
        times.insert(block, widened)?;
    }
    Ok(())
}

/// The members of an entry that a filter reads.
#[derive(Deserialize)]
pub(super) struct FilteredEntry {
    pub(super) event: FilteredEvent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilteredEvent {
    occurred_at: Timestamp,
    actor: FilteredActor,
    action: AuditAction,
    outcome: AuditOutcome,
    #[serde(default)]
    system: Option<SystemId>,
    #[serde(default)]
    key_mark: Option<Mark>,
    #[serde(default)]
    previous_key_mark: Option<Mark>,
}

impl FilteredEvent {
    pub(super) fn members(self) -> FilteredMembers {
        let Self { occurred_at, actor, action, outcome, system, key_mark, previous_key_mark } = self;
        let key_marks = [key_mark, previous_key_mark];
        FilteredMembers { system, actor: actor.id, action, outcome, key_marks, occurred_at }
    }
}

#[derive(Deserialize)]
struct FilteredActor {
    #[serde(default)]
    id: Option<ActorId>,
}
