//! The README: its tables of settings are complete.

use keymark::config::{SECRETS, SETTINGS};

const README: &str = include_str!("../../README.md");

#[test]
fn readme_lists_every_setting_with_its_variable_and_default() {
    let settings = SETTINGS.iter().map(|(flag, variable, default)| format!("| `{flag}` | `{variable}` | {default} |"));
    let secrets = SECRETS.iter().map(|(variable, default)| format!("| `{variable}` | {default} |"));
    let expected: Vec<String> = settings.chain(secrets).collect();
    let is_row = |line: &&str| line.starts_with("| `--") || line.starts_with("| `KEYMARK_");
    let found: Vec<&str> = README.lines().filter(is_row).collect();
    assert_eq!(found, expected, "the tables in README.md");
}
