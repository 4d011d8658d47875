//! Embeds the console's files and the version of the source.
//!
//! Only a release build embeds them: a debug build reads the files as they are when it runs, and is not built anew for each
//! commit.

use std::process::Command;

/// In an archive of the source, `git archive` has replaced its text by the commit and its date.
const SOURCE: &str = "source-version.txt";

#[expect(clippy::disallowed_methods, reason = "cargo passes the profile to build scripts in the environment")]
fn main() {
    let embeds = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let version = env!("CARGO_PKG_VERSION");
    if embeds {
        println!("cargo::rerun-if-changed=console/dist");
        println!("cargo::rerun-if-changed={SOURCE}");
        let source = archived().or_else(committed).unwrap_or_else(|| "unknown source".to_owned());
        println!("cargo::rustc-env=SOURCE_VERSION={version} ({source})");
    } else {
        println!("cargo::rerun-if-changed=build.rs");
        println!("cargo::rustc-env=SOURCE_VERSION={version} (debug build)");
    }
}

/// Commit and date of the archive that the source comes from.
fn archived() -> Option<String> {
    let text = std::fs::read_to_string(SOURCE).ok()?;
    shortened(&text)
}

/// Commit and date of the source in a clone.
fn committed() -> Option<String> {
    // Its log changes with each commit and checkout.
    println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?.trim());
    shortened(&git(&["log", "-1", "--format=%H %cs"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn shortened(source: &str) -> Option<String> {
    let (commit, date) = source.trim().split_once(' ')?;
    let commit = commit.get(..12).filter(|commit| commit.chars().all(|c| c.is_ascii_hexdigit()))?;
    Some(format!("{commit} {date}"))
}
