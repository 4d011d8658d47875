//! Documents that ask for too much, and documents within the limits that are costly to validate. The tests check that
//! the former are refused; the benchmark `documents` measures how long both take.

use std::fmt::Write;

/// `{ nested { nested { … name } } }`
pub fn nested(depth: usize) -> String {
    format!("{}name{}", "{ nested ".repeat(depth) + "{ ", " }".repeat(depth + 1))
}

/// Fragments that each spread the next several times.
pub fn fan_out(fragments: usize, spreads: usize) -> String {
    let mut text = "{ ...f0 }".to_owned();
    for number in 0..fragments {
        let spread = format!("...f{} ", number + 1).repeat(spreads);
        write!(text, " fragment f{number} on Query {{ {spread}}}").expect("written");
    }
    write!(text, " fragment f{fragments} on Query {{ hello }}").expect("written");
    text
}

/// Documents that are refused as too complex, each with what it does.
pub fn hostile() -> Vec<(&'static str, String)> {
    let aliases = |count: usize| (0..count).map(|n| format!("a{n}:hello ")).collect::<String>();
    let lists = "[".repeat(10_000) + &"]".repeat(10_000);
    vec![
        ("ten fragments, each spread eight times", fan_out(10, 8)),
        ("thirty fragments, each spread twice", fan_out(30, 2)),
        ("a fragment spread 1,500 times", fan_out(1, 1_500)),
        ("a fragment of 60 fields, spread 40 times", format!(
            "{{ nested {{ {}}} }} fragment f on Nested {{ {}}}", "...f ".repeat(40), "name ".repeat(60))),
        ("21 root fields", format!("{{ {} }}", aliases(21))),
        ("21 root fields in a fragment", format!("{{ ...f }} fragment f on Query {{ {} }}", aliases(21))),
        ("21 aliased mutations", format!("mutation {{ {} }}", aliases(21).replace("hello", "set(value: 1)"))),
        ("1,000 aliases", format!("{{ {} }}", aliases(1_000))),
        ("100,000 aliases", format!("{{ {} }}", aliases(100_000))),
        ("1,999 aliases of a leaf", format!("{{ nested {{ {} }} }}", aliases(1_999))),
        ("21 fields deep", nested(21)),
        ("100,000 fields deep", nested(100_000)),
        ("33 inline fragments deep", format!("{}hello{}", "{ ... ".repeat(33) + "{ ", "}".repeat(34))),
        ("11 directives", format!("{{ hello {} }}", "@skip(if: false) ".repeat(11))),
        ("1 MB of directives", format!("{{ hello {} }}", "@a ".repeat(350_000))),
        ("30 kB of directives", format!("{{ hello {} }}", "@a".repeat(15_000))),
        ("101 variables", format!("query ({}) {{ hello }}", (0..101).map(|n| format!("$v{n}: Int ")).collect::<String>())),
        ("3,000 variables", format!("query ({}) {{ hello }}", (0..3_000).map(|n| format!("$v{n}:I")).collect::<String>())),
        ("21 arguments", format!("{{ hello({}) }}", (0..21).map(|n| format!("a{n}: 1 ")).collect::<String>())),
        ("a list of 10,000 items", format!("{{ echo(text: [{}]) }}", "1 ".repeat(10_000))),
        ("1,900 nested lists", format!("{{ echo(text: {}{}) }}", "[".repeat(1_900), "]".repeat(1_900))),
        ("10,000 nested lists", format!("{{ echo(text: {lists}) }}")),
        ("a nested type", format!("query ($v: {}) {{ hello }}", lists.replacen(']', "Int]", 1))),
        ("31 operations", (0..31).map(|n| format!("query q{n} {{ hello }} ")).collect()),
        ("101 fragments", (0..101).map(|n| format!("fragment f{n} on Query {{ hello }} ")).collect::<String>() + "{ hello }"),
        ("1 MB of spaces", " ".repeat(1_000_000)),
        ("1 MB of comment", format!("#{}", "x".repeat(1_000_000))),
        ("1 MB of a string", format!("{{ echo(text: \"{}\") }}", "x".repeat(1_000_000))),
        ("1 MB of brackets", "{".repeat(1_000_000)),
        ("an introspection that goes in circles", "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }".to_owned()),
        ("circles behind fragments", "{ __schema { types { ...t } } } fragment t on __Type { fields { type { ...u } } } \
            fragment u on __Type { possibleTypes { interfaces { name } } }".to_owned()),
        ("an introspection of 900 names", format!("{{ __schema {{ types {{ fields {{ args {{ {} }} }} }} }} }}", (0..900).map(|n| format!("a{n}:name ")).collect::<String>())),
        ("20 pages of 200 rows of 26 fields", format!("{{ {} }}", (0..20).map(|n| format!(
            "p{n}: items(first: 200) {{ nodes {{ {} }} }} ", "id ".repeat(26))).collect::<String>())),
        ("pages within pages", "{ items(first: 200) { nodes { items(first: 200) { edges { node { items(last: 100) { nodes { id } } } } } } } }".to_owned()),
    ]
}

/// Documents within the limits that keep a validator busy, each with what it does.
pub fn costly_to_validate() -> Vec<(&'static str, String)> {
    let spread = "...f ".repeat(19);
    let wide = |count: usize, of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<String>();
    vec![
        (
            "unknown fields with long names",
            format!("{{ nested {{ {} }} }}", wide(60, &|n| format!("n{n}{} ", "x".repeat(500)))),
        ),
        (
            "unknown arguments with long names",
            format!("{{ nested {{ {} }} }}", wide(60, &|n| format!("nested(n{n}{}: 1) {{ name }} ", "x".repeat(500)))),
        ),
        ("unknown fields", format!("{{ nested {{ {} }} }}", wide(1_900, &|n| format!("n{n:x} ")))),
        ("one unknown field often", format!("{{ nested {{ {} }} }}", "x ".repeat(1_900))),
        ("conflicting fields", format!("{{ nested {{ {} }} }}", wide(600, &|n| format!("a:n{n:x} ")))),
        (
            "conflicting arguments",
            format!("{{ nested {{ {} }} }}", wide(45, &|n| format!("name({}) ", wide(20, &|m| format!("a{m}:{n} "))))),
        ),
        (
            "conflicts in a fragment spread often",
            format!(
                "{{ nested {{ {} }} }} fragment f on Nested {{ {} }}",
                wide(19, &|n| format!("n{n}: nested {{ ...f }} ")),
                wide(40, &|n| format!("a:n{n} "))
            ),
        ),
        (
            "a fragment spread often",
            format!(
                "{{ {spread} }} fragment f on Query {{ {} }}",
                wide(1, &|n| format!("a{n}: nested {{ {} }}", "name ".repeat(85)))
            ),
        ),
        (
            "inline fragments within each other",
            format!(
                "{}{}{}",
                "{ nested { ".to_owned() + &"... on Nested { name ".repeat(15),
                "name ".repeat(600),
                "}".repeat(17)
            ),
        ),
        (
            OPERATIONS,
            wide(30, &|n| format!("query q{n} {{ ...f0 }} "))
                + &wide(15, &|n| format!("fragment f{n} on Query {{ hello ...f{} }} ", n + 1))
                + "fragment f15 on Query { hello }",
        ),
        (
            "variables",
            format!(
                "query ({}) {{ nested {{ {} }} }}",
                wide(100, &|n| format!("$v{n}: String ")),
                wide(450, &|n| format!("echo(text: $v{}) ", n % 100))
            ),
        ),
        ("unused variables", format!("query ({}) {{ hello }}", wide(100, &|n| format!("$v{n}: String ")))),
        ("directives", format!("{{ nested {{ {} }} }}", wide(60, &|_| format!("name {} ", "@x(a: 1) ".repeat(9))))),
        ("a literal", format!("{{ items(filter: {{ colours: [{}] }}) {{ totalCount }} }}", "RED ".repeat(3_900))),
        ("a wrong literal", format!("{{ items(filter: {{ colours: [{}] }}) {{ totalCount }} }}", "1 ".repeat(3_900))),
        (
            "an object of many members",
            format!("{{ items(filter: {{ {} }}) {{ totalCount }} }}", wide(1_300, &|n| format!("m{n}:1 "))),
        ),
    ]
}

/// The operation to run of a document that is costly to validate.
pub fn operation_name(what: &str) -> Option<String> {
    (what == OPERATIONS).then(|| "q0".to_owned())
}

const OPERATIONS: &str = "operations that share fragments";
