//! The README, whose tables of settings are complete, and other texts that state the same.

use keymark::config::{SECRETS, SETTINGS};
use keymark::domain::passwords::PASSWORD_RULE;

const README: &str = include_str!("../../README.md");

#[test]
fn the_rule_for_passwords_is_the_same_in_the_schema_the_console_and_the_documentation() {
    for (place, text) in [
        ("the schema", include_str!("../../schema.graphql")),
        ("the console", include_str!("../../console/src/components/change-password-form.tsx")),
        ("docs/operations.md", include_str!("../../docs/operations.md")),
    ] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(PASSWORD_RULE), "{place} states another rule");
    }
}

#[test]
fn readme_lists_every_setting_with_its_variable_and_default() {
    let settings = SETTINGS.iter().map(|(flag, variable, default)| format!("| `{flag}` | `{variable}` | {default} |"));
    let secrets = SECRETS.iter().map(|(variable, default)| format!("| `{variable}` | {default} |"));
    let expected: Vec<String> = settings.chain(secrets).collect();
    let is_row = |line: &&str| line.starts_with("| `--") || line.starts_with("| `KEYMARK_");
    let found: Vec<&str> = README.lines().filter(is_row).collect();
    assert_eq!(found, expected, "the tables in README.md");
}
