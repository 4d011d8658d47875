//! `keymark migrate`.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use zeroize::Zeroizing;

use super::print;
use crate::app::{self, Moved, RecordKind, StartError, Target};
use crate::config::{self, Config, StoreConfig};

/// Characters of a full bar.
const BAR_WIDTH: u64 = 30;

#[derive(Args)]
#[command(group(ArgGroup::new("target").required(true).args(["to_mongodb", "to_embedded"])))]
pub(super) struct Migrate {
    /// Move everything to an empty MongoDB database: its URI or, since other users can read command lines, a file that
    /// contains it.
    #[arg(long, value_name = "URI")]
    to_mongodb: Option<String>,
    /// Name of the MongoDB database.
    #[arg(long, value_name = "NAME", default_value = "keymark", requires = "to_mongodb")]
    to_database: String,
    /// Move everything to an embedded store in this directory.
    #[arg(long, value_name = "DIR")]
    to_embedded: Option<PathBuf>,
}

pub(super) async fn run(config: Config, migrate: Migrate) -> Result<(), StartError> {
    let target = match (migrate.to_mongodb, migrate.to_embedded) {
        (Some(uri), _) => {
            let uri = match uri.starts_with("mongodb") {
                true => Zeroizing::new(uri),
                false => config::uri_in_file("--to-mongodb", Path::new(&uri))?,
            };
            Target::Mongo { uri, database: migrate.to_database }
        }
        (None, Some(directory)) => Target::Embedded { directory },
        (None, None) => unreachable!("clap requires one of them"),
    };
    let mut bar = Bar { is_terminal: stderr().is_terminal(), percent: None };
    let secret = match (&config.store, &config.secret) {
        (StoreConfig::Embedded { directory, .. }, None) => app::secret_file(directory),
        _ => None,
    };
    let moved = app::migrate(&config.store, target, &mut |kind, done, total| bar.show(kind, done, total)).await?;
    print(format_args!("{:<14} {:>12} {:>12}\n", "", "source", "target"))?;
    for Moved { kind, source, target } in moved {
        print(format_args!("{:<14} {source:>12} {target:>12}\n", kind.name()))?;
    }
    let hint = secret.map(|secret| format!(": start Keymark on it with KEYMARK_SECRET_FILE={}", secret.display()));
    print(format_args!(
        "The hash chains of all audit logs are intact.\nThe target needs the same root secret{}\n",
        hint.as_deref().unwrap_or(".")
    ))
}

/// A bar on a terminal, and otherwise a line for each kind of record.
struct Bar {
    is_terminal: bool,
    percent: Option<u64>,
}

impl Bar {
    fn show(&mut self, kind: RecordKind, done: u64, total: u64) {
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        if self.percent == Some(percent) && done > 0 {
            return;
        }
        self.percent = Some(percent);
        let is_complete = done == total;
        // Standard error may be closed.
        let _ = if self.is_terminal {
            let full = percent * BAR_WIDTH / 100;
            let bar: String = (0..BAR_WIDTH).map(|at| if at < full { '#' } else { ' ' }).collect();
            let end = if is_complete { "\n" } else { "" };
            write!(stderr(), "\r{:<14} [{bar}] {percent:>3}% {done:>10} of {total}{end}", kind.name())
        } else if is_complete {
            writeln!(stderr(), "{}: {total}", kind.name())
        } else {
            Ok(())
        };
    }
}
