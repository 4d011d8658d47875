//! The layers of the source: which module may name which, and what the domain is free of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may name of the crate besides itself. `app` and `main` put everything together.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("metrics", &[]),
    ("recent", &[]),
    ("clock", &["domain"]),
    ("store", &["domain", "clock"]),
    ("coherence", &["domain", "clock", "store"]),
    ("auth", &["domain", "clock", "recent"]),
    ("service", &["domain", "clock", "auth", "store", "coherence", "audit_text"]),
    ("verify", &["domain", "service", "store", "coherence"]),
    ("audit_text", &["domain"]),
    ("graphql", &["domain", "recent", "auth", "service"]),
    ("http", &["domain", "recent", "auth", "service", "verify", "graphql", "metrics", "audit_text"]),
    ("config", &["domain", "auth", "coherence", "service", "http"]),
    ("telemetry", &["config"]),
    ("admin", &["domain", "service", "audit_text"]),
    ("cli", &["domain", "admin", "app", "audit_text", "config", "graphql", "telemetry"]),
];

/// Waiting, input and output, and the frameworks that do them.
const FOREIGN_TO_THE_DOMAIN: &[&str] =
    &["async ", ".await", "std::fs", "std::io", "tokio", "axum", "http::", "async_graphql", "mongodb", "redb"];

struct Source {
    module: String,
    path: PathBuf,
    /// Without comments.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let within = path.strip_prefix(&root).unwrap();
                let module = within.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                sources.push(Source { module, code: code.collect::<Vec<_>>().join("\n"), path });
            }
        }
    }
    sources
}

/// The modules of the crate that a source names.
fn named(code: &str) -> BTreeSet<&str> {
    let after = code.split("crate::").skip(1);
    let mut named = BTreeSet::new();
    for rest in after {
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let parts = if rest.starts_with('{') { list.split(',').collect() } else { vec![list] };
        for part in parts {
            let part = part.trim();
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
            named.extend((end > 0).then_some(&part[..end]));
        }
    }
    named
}

#[test]
fn no_module_names_one_that_stands_on_it() {
    for source in sources().iter().filter(|source| !["app", "main", "lib"].contains(&source.module.as_str())) {
        let rule = MAY_NAME.iter().find(|(module, _)| *module == source.module);
        let (_, allowed) = rule.unwrap_or_else(|| panic!("{} has no rule here", source.module));
        for name in named(&source.code) {
            let fine = name == source.module || allowed.contains(&name);
            assert!(fine, "{} names {name}", source.path.display());
        }
    }
}

#[test]
fn backends_of_the_store_are_named_in_the_composition_root_alone() {
    for source in sources().iter().filter(|source| source.module != "app") {
        for backend in ["store::mongo", "store::embedded"] {
            assert!(!source.code.contains(backend), "{} names {backend}", source.path.display());
        }
    }
}

#[test]
fn the_domain_waits_for_nothing_and_knows_no_framework() {
    for source in sources().iter().filter(|source| source.module == "domain") {
        for foreign in FOREIGN_TO_THE_DOMAIN {
            assert!(!source.code.contains(foreign), "{} has {foreign}", source.path.display());
        }
    }
}
