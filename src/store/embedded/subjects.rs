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

/// For each condition of the filter that has an index, the subjects of which each matching entry has one. Outcome has one
/// for refused attempts alone, since most entries are done.
pub(super) fn subjects_of_filter(filter: &AuditFilter) -> Vec<Vec<Subject>> {
    let AuditFilter { system, actor, actions, outcome, key_mark, from: _, to: _ } = filter;
    let actions = actions.as_ref().map(|actions| {
        let mut names: Vec<_> = actions.iter().copied().map(name_of).collect();
        names.sort_unstable();
        names.dedup();
        names
    });
    let conditions = [
        key_mark.map(|mark| vec![mark.as_str().to_owned()]),
        system.map(|id| vec![id.to_string()]),
        actor.map(|id| vec![id.to_string()]),
        (*outcome == Some(AuditOutcome::Refused)).then(|| vec![REFUSED.to_owned()]),
        actions,
    ];
    conditions.into_iter().flatten().collect()
}

/// Whether the subjects of the filter decide alone which entries match.
pub(super) fn are_decisive(filter: &AuditFilter) -> bool {
    filter.outcome != Some(AuditOutcome::Done) && filter.from.is_none() && filter.to.is_none()
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
