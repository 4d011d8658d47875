//! `keymark audit …`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::operator::tenant;
use super::print;
use crate::admin::Command;
use crate::app::StartError;
use crate::audit_text::Format;
use crate::audit_text::verification::{self, Verified};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::ids::TenantId;
use crate::domain::signatures::PublicKey;
use crate::domain::time::Timestamp;

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Write a tenant's log to standard output, oldest entry first, and a signed checkpoint at the end.
    Export {
        /// The tenant.
        #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
        tenant: TenantId,
        /// Format of the entries.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: Format,
    },
    /// Write a tenant's entries to standard output as they are committed, as JSON Lines like those of an export, until
    /// SIGTERM, SIGINT or the end of the reader. Each entry is written at least once.
    Follow {
        /// The tenant.
        #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
        tenant: TenantId,
        /// A file that remembers the last entry that was written, to continue there. It is created if it is missing.
        #[arg(long, value_name = "FILE")]
        cursor_file: Option<PathBuf>,
    },
    /// Move the oldest entries of a tenant's log to a new file, an export in JSON Lines with a signed checkpoint at the end.
    /// They are removed from the log once the file is verified and durable. The server writes the file if one runs on the
    /// embedded store.
    Archive {
        /// The tenant.
        #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
        tenant: TenantId,
        /// Archive the entries before the first one that occurred at this time or later: a date in UTC such as 2026-01-31,
        /// or an RFC 3339 date and time. The last entry of the log always stays.
        #[arg(long, value_name = "DATE", value_parser = date)]
        before: Timestamp,
        /// The new file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Verify the chain of hashes, and report the first entry that was modified or is missing.
    Verify {
        /// Only this tenant's log.
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// Also compare with these checkpoints: a file with the output of `keymark audit checkpoint`, or an export in JSON
        /// Lines.
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        checkpoints: Option<PathBuf>,
        /// Verify this export instead, without the store and without the root secret. May be repeated, for archives and
        /// then an export: each has to continue the one before.
        #[arg(long, value_name = "EXPORT", conflicts_with = "tenant")]
        file: Vec<PathBuf>,
        /// The public key that may have signed the export, as `keymark audit key` prints it, or a file that contains it.
        /// May be repeated. Without it, the key that the export names is used: compare it yourself.
        #[arg(long, value_name = "PUBLIC", requires = "file", value_parser = public_keys)]
        key: Vec<PublicKeys>,
    },
    /// Take away again what an export shows as taken away, in a store that was restored from an older backup: revokes keys,
    /// deletes systems, removes operators and permission codes, and disables passwords. Ends all sessions as well, as
    /// `keymark restored` does, if that was not done yet.
    Replay {
        /// An export of the tenant's log that begins before the backup and is newer. It has no filter.
        #[arg(long, value_name = "EXPORT")]
        file: PathBuf,
    },
    /// Sign the end of each tenant's log, and print its newest checkpoint, one per line.
    Checkpoint,
    /// Print the public key that verifies checkpoints, and then those of previous root secrets, one per line.
    Key,
}

impl Audit {
    /// Runs a command that needs neither a store nor a configuration; `None` for the others.
    pub(super) fn run_offline(&self) -> Option<Result<(), StartError>> {
        match self {
            Self::Verify { file: files, key, .. } if !files.is_empty() => {
                let keys: Vec<_> = key.iter().flat_map(|keys| keys.0.iter().copied()).collect();
                Some(verify_files(files, &keys))
            }
            _ => None,
        }
    }

    pub(super) fn command(self) -> Result<Command, StartError> {
        Ok(match self {
            Self::Export { tenant, format } => Command::ExportAudit { tenant, jsonl: format == Format::Jsonl },
            Self::Follow { tenant, .. } => Command::FollowAudit { tenant, after: None, ends: false },
            Self::Verify { tenant, checkpoints: None, .. } => Command::VerifyAudit { tenant },
            Self::Verify { tenant, checkpoints: Some(file), .. } => {
                let checkpoints = open(&file).and_then(verification::read_checkpoints);
                let mut checkpoints = checkpoints.map_err(|error| in_file(&file, &error))?;
                checkpoints.retain(|checkpoint| tenant.as_ref().is_none_or(|tenant| *tenant == checkpoint.tenant));
                if checkpoints.is_empty() {
                    return Err(in_file(&file, &"no checkpoints found"));
                }
                Command::CompareAudit { tenant, checkpoints }
            }
            // A running server may have another working directory.
            Self::Archive { tenant, before, to } => {
                let file = std::path::absolute(&to).map_err(|error| in_file(&to, &error))?;
                Command::ArchiveAudit { tenant, before, file }
            }
            Self::Replay { file } => {
                Command::ReplayAudit { file: file.canonicalize().map_err(|error| in_file(&file, &error))? }
            }
            Self::Checkpoint => Command::CheckpointAudit,
            Self::Key => Command::ShowAuditKeys,
        })
    }
}

/// Verifies exports, of which each has to continue the one before, and prints what they prove.
fn verify_files(files: &[PathBuf], keys: &[PublicKey]) -> Result<(), StartError> {
    let mut previous: Option<(&PathBuf, Checkpoint)> = None;
    for file in files {
        let export = open(file).map_err(|error| in_file(file, &error))?;
        let Verified { entries, before, checkpoint: signed } =
            verification::verify(export, keys).map_err(|broken| in_file(file, &broken))?;
        if let Some((other, last)) = previous.filter(|(_, last)| last.tenant != signed.tenant || last.head() != before)
        {
            let (tenant, number, other) = (last.tenant, last.number, other.display());
            let reason = format!("it does not continue {other}, which ends with entry {number} of tenant {tenant}");
            return Err(in_file(file, &reason));
        }
        print(format_args!(
            "{}: {entries} of {} entries, as they were exported at {}; signed by key {}\n",
            signed.tenant, signed.number, signed.signed_at, signed.key_id
        ))?;
        previous = Some((file, signed));
    }
    if keys.is_empty() {
        print(format_args!("The key was not compared. Use --key with the output of `keymark audit key`.\n"))?;
    }
    Ok(())
}

fn open(file: &Path) -> std::io::Result<BufReader<File>> {
    File::open(file).map(BufReader::new)
}

fn in_file(file: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::Failed(format!("{}: {error}", file.display()))
}

fn date(text: &str) -> Result<Timestamp, String> {
    let midnight = format!("{text}T00:00:00Z");
    let parsed = text.parse().or_else(|_| midnight.parse());
    parsed.map_err(|_| "not a date such as 2026-01-31, or an RFC 3339 date and time".to_owned())
}

/// The keys of one `--key`.
#[derive(Clone)]
pub(super) struct PublicKeys(Vec<PublicKey>);

fn public_keys(text: &str) -> Result<PublicKeys, String> {
    let read = |text: &str| -> Option<Vec<PublicKey>> {
        let keys: Vec<_> = text.split_whitespace().map(|key| key.to_owned().try_into().ok()).collect::<Option<_>>()?;
        (!keys.is_empty()).then_some(keys)
    };
    let in_file = || std::fs::read_to_string(text).ok().as_deref().and_then(read);
    let keys = read(text).or_else(in_file);
    keys.map(PublicKeys).ok_or_else(|| "neither a public key of 64 hex digits nor a file that contains one".to_owned())
}
