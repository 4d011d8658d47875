//! The README, whose tables of settings are complete, and other texts that state the same.

use keymark::config::{SECRETS, SETTINGS};
use keymark::domain::passwords::PASSWORD_RULE;

const README: &str = include_str!("../../README.md");

#[test]
fn the_rule_for_passwords_is_the_same_in_the_schema_the_console_and_the_documentation() {
    for (place, text) in [
        ("the schema", include_str!("../../schema.graphql")),
        ("the console", include_str!("../../console/src/text/password-rule.ts")),
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

#[test]
fn tests_that_security_md_names_exist() {
    let (_, table) = include_str!("../../SECURITY.md").split_once("## What is tested").expect("the section");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = table.split('`').skip(1).step_by(2).filter(|path| path.ends_with(".rs") || path.ends_with('/'));
    let mut found = 0;
    for path in paths.skip_while(|path| !path.ends_with(".rs")) {
        let exists = root.join("tests/it").join(path).exists() || root.join(path).exists();
        assert!(exists, "SECURITY.md names {path}");
        found += 1;
    }
    assert!(found > 30, "{found}");
}
