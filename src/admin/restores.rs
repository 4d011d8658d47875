//! The commands that follow a restore of the store from a backup.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Output, message};
use crate::domain::audit::Origin;
use crate::domain::replays::{Loss, LossEntry};
use crate::domain::restores::Restore;
use crate::service::Service;
use crate::service::replays::ReplayError;

/// `keymark restored`.
pub(super) async fn mark_restored(service: &Service, origin: &Origin) -> Result<String, String> {
    let restores = service.mark_restored(origin).await.map_err(message)?;
    let mut text = description(&restores);
    text.push_str(
        "Keys, systems, operators, permission codes and passwords are as in the backup. Take away again what was taken away \
         since, with the newest export of each tenant: keymark audit replay --file EXPORT\n",
    );
    Ok(text)
}

/// `keymark audit replay`: writes a line for each loss in the export.
pub(super) async fn replay(
    service: &Arc<Service>,
    origin: &Origin,
    file: PathBuf,
    out: &mut impl Output,
) -> Result<(), String> {
    let path = file.display().to_string();
    let replay = service.begin_replay(origin, file).await.map_err(|error| match error {
        ReplayError::Service(error) => message(error),
        error => format!("{path}: {error}"),
    })?;
    let mut write = async |text: String| out.write(text).await.map_err(|error| error.to_string());
    let tenant = &replay.tenant;
    write(description(&replay.restores)).await?;
    if replay.losses.is_empty() {
        write(format!("{tenant}: nothing left to replay up to entry {}\n", replay.end.number)).await?;
    }
    for entry in &replay.losses {
        let is_done = service.replay(origin, tenant, &entry.loss).await.map_err(message)?;
        write(line(entry, is_done)).await?;
    }
    service.finish_replay(&replay).await.map_err(message)
}

/// Describes the restores of a log, one per line.
pub(super) fn description<'a>(restores: impl IntoIterator<Item = &'a Restore>) -> String {
    let line = |restore: &Restore| {
        let Restore { tenant, epoch, number, restored_at, replaced, .. } = restore;
        let replaced = match replaced.last() {
            Some(checkpoint) => format!("which had {} entries or more", checkpoint.number),
            None => "if there was any".to_owned(),
        };
        format!(
            "{tenant}: epoch {epoch}: a backup restored by {restored_at} replaced the log after entry {number}, {replaced}\n"
        )
    };
    restores.into_iter().map(line).collect()
}

fn line(entry: &LossEntry, is_done: bool) -> String {
    let LossEntry { number, loss, name } = entry;
    let (done, absent) = match loss {
        Loss::Key { system, mark } => (
            format!("revoked key …{mark} of system {system} ({name})"),
            format!("system {system} ({name}) does not have key …{mark}"),
        ),
        Loss::KeyTime { system, mark, expires_at } => {
            let end = expires_at.map_or("no end".to_owned(), |end| format!("the end {end}"));
            (
                format!("set {end} for key …{mark} of system {system} ({name})"),
                format!("system {system} ({name}) does not have key …{mark}, or it ends no later than with {end}"),
            )
        }
        Loss::Suspension { system, is_suspended } => {
            let state = if *is_suspended { "suspended" } else { "resumed" };
            (
                format!("suspended system {system} ({name})"),
                format!("system {system} ({name}) does not exist, or is {state} already"),
            )
        }
        Loss::System(system) => {
            (format!("deleted system {system} ({name})"), format!("system {system} ({name}) does not exist"))
        }
        Loss::Operator(_) => (format!("removed operator {name}"), format!("operator {name} does not exist")),
        Loss::Permissions { remaining, .. } => {
            let codes = remaining.codes().join(",");
            let codes = if codes.is_empty() { "none" } else { &codes };
            (
                format!("took permission codes from operator {name}, except {codes}"),
                format!("operator {name} does not exist, or has no permission code except {codes}"),
            )
        }
        Loss::OperatorSuspension { is_suspended, .. } => {
            let state = if *is_suspended { "suspended" } else { "resumed" };
            (format!("suspended operator {name}"), format!("operator {name} does not exist, or is {state} already"))
        }
        Loss::Token(token) => (
            format!("revoked token {token} ({name}), which was revoked or rotated"),
            format!("token {token} ({name}) does not exist"),
        ),
        Loss::TenantSuspension { is_suspended } => {
            let state = if *is_suspended { "suspended" } else { "resumed" };
            ("suspended the tenant".to_owned(), format!("the tenant does not exist, or is {state} already"))
        }
        Loss::Tenant => ("deleted the tenant".to_owned(), "the tenant does not exist".to_owned()),
        Loss::Password(_) => (
            format!("disabled the password of operator {name}; set another: keymark operator set-password {name}"),
            format!("operator {name} does not exist"),
        ),
    };
    if is_done { format!("entry {number}: {done}\n") } else { format!("entry {number}: nothing to do, {absent}\n") }
}
