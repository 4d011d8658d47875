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
    let secrets = SECRETS.iter().map(|(variable, default, _)| format!("| `{variable}` | {default} |"));
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

/// The texts between `before` and `after` in a source.
fn between<'a>(source: &'a str, before: &str, after: char) -> Vec<&'a str> {
    source.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

#[test]
fn readme_lists_every_code_of_the_verification_and_of_closed_sockets() {
    let verify = include_str!("../../src/http/verify.rs").split("mod tests").next().unwrap();
    let refusals = include_str!("../../src/domain/verdict.rs");
    let mut codes: Vec<_> = between(verify, "\"code\":\"", '"').into_iter().filter(|code| *code != "{}").collect();
    codes.extend(between(refusals, "=> \"", '"'));
    assert!(codes.len() > 10 && codes.contains(&"SUSPENDED"), "{codes:?}");
    let (_, verification) = README.split_once("| status | `code` |").expect("the table");
    for code in codes {
        assert!(verification.contains(&format!("`{code}`")), "{code}");
    }
    let socket = include_str!("../../src/http/websocket.rs");
    let mut codes: Vec<_> =
        between(socket, "Ending::close(", ',').into_iter().chain(between(socket, "Self::close(", ',')).collect();
    codes.retain(|code| code.starts_with('4'));
    assert!(codes.len() > 7, "{codes:?}");
    let (_, closing) = README.split_once("| code | meaning | retry |").expect("the table");
    for code in codes {
        assert!(closing.contains(code), "{code}");
    }
}
