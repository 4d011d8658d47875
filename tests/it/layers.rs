//! The layers of the source: which module may name which, and what the domain is free of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may name of the crate besides itself. `app` and `main` put everything together.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("metrics", &["process_metrics"]),
    ("process_metrics", &[]),
    ("clock", &["domain"]),
    ("files", &[]),
    ("store", &["domain", "clock", "files"]),
    ("coherence", &["domain", "clock", "store"]),
    ("auth", &["domain", "clock"]),
    ("service", &["domain", "clock", "auth", "store", "coherence", "audit_text", "files"]),
    ("verify", &["domain", "auth", "service", "store", "coherence"]),
    ("audit_text", &["domain"]),
    ("graphql", &["domain", "auth", "service"]),
    ("http", &["domain", "clock", "auth", "service", "verify", "graphql", "metrics", "audit_text"]),
    ("config", &["domain", "audit_text", "auth", "coherence", "service", "http"]),
    ("telemetry", &["config"]),
    ("admin", &["domain", "service", "audit_text"]),
    ("cli", &["domain", "admin", "app", "audit_text", "auth", "clock", "config", "files", "graphql", "telemetry"]),
];

/// Waiting, input and output, and the frameworks that do them.
const FOREIGN_TO_THE_DOMAIN: &[&str] =
    &["async ", ".await", "std::fs", "std::io", "tokio", "axum", "http::", "async_graphql", "mongodb", "redb"];

pub struct Source {
    pub module: String,
    pub path: PathBuf,
    /// Without comments.
    pub code: String,
}

pub fn sources() -> Vec<Source> {
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

/// A file's module, as its path in the crate: `["store", "mongo", "feed"]`.
type Module = Vec<String>;

/// The modules of the crate by their files, without the crate root.
fn modules() -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = sources().into_iter().map(|source| {
        let path = source.path.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        // Tests may import what they like.
        let code = source.code.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        (module, code)
    });
    modules.filter(|(module, _)| !["lib", "main"].contains(&module[0].as_str())).collect()
}

/// The modules whose files a module imports from.
fn imports(module: &Module, code: &str, modules: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut imports = BTreeSet::new();
    for (start, keyword) in ["crate::", "self::", "super::"].iter().flat_map(|keyword| code.match_indices(keyword)) {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let base = match keyword {
            "crate::" => Module::new(),
            "self::" => module.clone(),
            _ => module[..module.len() - 1].to_vec(),
        };
        let mut paths = Vec::new();
        expand(&base, &code[start + keyword.len()..], &mut paths);
        for mut path in paths {
            while !path.is_empty() && !modules.contains_key(&path) {
                path.pop();
            }
            // A child may use its ancestors: they are the folders that it is in.
            if !module.starts_with(&path) {
                imports.insert(path);
            }
        }
    }
    imports
}

/// Collects the paths of `a::{b, c::{d, e}}`, as far as they go. Returns the length of the text that was read.
fn expand(base: &Module, text: &str, paths: &mut Vec<Module>) -> usize {
    let mut path = base.clone();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            while !text[at..].starts_with('}') {
                at += text[at..].len() - text[at..].trim_start().len();
                if text[at..].starts_with('}') {
                    break;
                }
                at += expand(&path, &text[at..], paths);
                at += text[at..].find([',', '}']).unwrap();
                at += usize::from(text[at..].starts_with(','));
            }
            return at + 1;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        match &rest[..end] {
            "super" => drop(path.pop()),
            "" | "self" => {}
            name => path.push(name.to_owned()),
        }
        at += end;
        if !text[at..].starts_with("::") {
            paths.push(path);
            return at;
        }
        at += 2;
    }
}

/// A circle of imports through this module, if there is one.
fn circle(start: &Module, graph: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut seen = BTreeSet::new();
    let mut trails = vec![vec![start.clone()]];
    while let Some(trail) = trails.pop() {
        for next in &graph[trail.last().unwrap()] {
            if next == start {
                return Some(trail);
            }
            if seen.insert(next.clone()) {
                trails.push(trail.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let modules = modules();
    let graph = modules.iter().map(|(module, code)| (module.clone(), imports(module, code, &modules)));
    let graph: BTreeMap<_, _> = graph.collect();
    assert!(graph[&vec!["http".to_owned(), "graphql".to_owned()]].len() > 3, "imports are found");
    let circles = graph.keys().filter_map(|module| circle(module, &graph));
    let circles: Vec<_> =
        circles.map(|circle| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" -> ")).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}
