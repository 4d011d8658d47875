//! Runs parts of a benchmark in processes of their own, so that none reuses memory that another freed.

use std::process::Command;

/// Runs this program with the part as its argument.
pub fn run_part(part: &str, environment: &[(&str, String)]) {
    let program = std::env::current_exe().expect("the path of this program");
    let status = Command::new(program).arg(part).envs(environment.iter().cloned()).status();
    assert!(status.expect("a process").success());
}
