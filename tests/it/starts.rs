//! Requirements of a start, and what a failed start leaves behind.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keymark::config::{SECRETS, SETTINGS};
use serde_json::json;

use crate::support::process::{Server, directory, directory_of_mode, keymark, run};
use crate::support::within;

const SECRET: (&str, &str) = ("KEYMARK_SECRET", "a root secret of 32 bytes or more, for all instances");

/// The files in a directory, in no particular order.
fn contents(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn a_failed_first_start_leaves_the_first_password_to_the_next() {
    for occupied in ["--listen", "--verify-listen"] {
        let directory = directory();
        let data = directory.path().to_str().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let free = if occupied == "--listen" { "--verify-listen" } else { "--listen" };
        let arguments = [occupied, &address, free, "127.0.0.1:0"];
        let (code, out, err) = run(&[("KEYMARK_DATA_DIR", data)], &arguments).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
        assert!(err.starts_with(&format!("keymark: {occupied}: {address}: ")), "{err}");

        let server = Server::start(directory.path()).await;
        assert_eq!(server.announced("Operator"), Some("admin"));
        let password = server.announced("Password").expect("a printed password").to_owned();
        server.sign_in("admin", &password).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_first_password_that_breaks_the_rules_stops_only_a_start_that_would_use_it() {
    let directory = directory();
    let variables = [
        ("KEYMARK_DATA_DIR", directory.path().to_str().unwrap()),
        ("KEYMARK_INITIAL_ADMIN_PASSWORD", "admin admin admin"),
        ("KEYMARK_LISTEN", "127.0.0.1:0"),
        ("KEYMARK_VERIFY_LISTEN", "127.0.0.1:0"),
    ];
    let refusal = "KEYMARK_INITIAL_ADMIN_PASSWORD: This password contains the username. A password has";
    let (code, out, err) = run(&variables, &["serve"]).await;
    assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{err}");
    assert!(err.starts_with(&format!("keymark: {refusal}")), "{err}");
    let (code, out, _) = run(&variables, &["doctor"]).await;
    assert!(code == 1 && out.contains(&format!("failed   first operator: {refusal}")), "{out}");
    assert_eq!(contents(directory.path()).len(), 0, "nothing was created");

    let (code, _, err) = run(&variables, &["operator", "add", "ada"]).await;
    assert_eq!(code, 0, "a command does not use it: {err}");
    let (code, out, err) = run(&variables, &["doctor"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let server = Server::start_with(directory.path(), &variables[1..2], &[]).await;
    assert_eq!(server.announced("Operator"), None, "a later start does not use it");
    server.stop().await;
}

#[tokio::test]
async fn a_secret_may_be_any_bytes_and_all_of_them_matter() {
    let directory = directory();
    let secret = |last: u8| [&[0xff, 0xfe, 0x80].repeat(12)[..], &[last]].concat();
    let start = |secret: Vec<u8>| {
        let mut command = keymark();
        command.env("KEYMARK_DATA_DIR", directory.path()).env("KEYMARK_SECRET", OsStr::from_bytes(&secret));
        Server::run(command)
    };
    for _ in 0..2 {
        let server = start(secret(0x81)).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
        let (status, log) = server.stop().await;
        assert!(status.success(), "{log}");
    }
    assert!(!directory.path().join("secret").exists(), "none is created if one is configured");
    let (status, said) = start(secret(0x82)).await.err().expect("refused");
    assert_eq!((status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("the store belongs to another root secret"), "{said}");
}

#[tokio::test]
async fn a_verifier_token_that_is_not_utf_8_is_refused_and_not_ignored() {
    let directory = directory();
    for name in ["KEYMARK_VERIFIER_TOKEN", "KEYMARK_INITIAL_ADMIN_PASSWORD"] {
        let mut command = keymark();
        command.env("KEYMARK_DATA_DIR", directory.path()).env(name, OsStr::from_bytes(&[0xff; 20]));
        let (status, said) = Server::run(command).await.err().expect("refused");
        assert_eq!((status.code(), said.as_str()), (Some(2), format!("keymark: {name}: is not UTF-8\n").as_str()));
    }
    assert_eq!(contents(directory.path()).len(), 0);
}

#[tokio::test]
async fn plain_http_beyond_loopback_needs_an_https_origin_or_a_switch() {
    let directory = directory();
    let data = directory.path().to_str().unwrap();
    let listen = ["--listen", "0.0.0.0:0", "--verify-listen", "127.0.0.1:0"];
    for (arguments, code) in [
        (&["--insecure-http", "doctor"][..], 0),
        (&["doctor", "--insecure-http=on"], 0),
        (&["doctor", "--public-origin", "https://keys.example.com"], 0),
        (&["doctor", "--insecure-http=off"], 2),
        (&["doctor", "--public-origin", "http://keys.example.com"], 2),
        (&["doctor"], 2),
    ] {
        let (found, out, err) = run(&[("KEYMARK_DATA_DIR", data)], &[arguments, &listen].concat()).await;
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        assert_eq!(err.starts_with("keymark: --listen: 0.0.0.0:0 is not loopback"), code == 2, "{arguments:?}: {err}");
    }
}

#[tokio::test]
async fn listeners_serve_the_configured_host_names() {
    let directory = directory();
    let arguments =
        ["--public-origin", "https://keys.example.com:8443", "--allowed-hosts", "keymark, *.internal.example"];
    let server = Server::start_with(directory.path(), &[], &arguments).await;
    for (host, status) in [
        ("keys.example.com:8443", 200),
        ("keys.example.com", 200),
        ("keymark:8080", 200),
        ("keymark.internal.example", 200),
        ("localhost", 200),
        ("rebound.example", 421),
        ("www.keys.example.com", 421),
    ] {
        for url in [format!("{}/schema.graphql", server.public), format!("{}/metrics", server.verification)] {
            let answer = within(server.client.get(&url).header("host", host).send()).await.expect("an answer");
            assert_eq!(answer.status(), status, "{host} at {url}");
        }
    }
    let (_, log) = server.stop().await;
    assert_eq!(log.matches("request for an unknown host refused; see --allowed-hosts").count(), 2, "{log}");
}

#[tokio::test]
async fn commands_that_need_a_store_do_not_create_one() {
    let parent = directory();
    let (missing, empty) = (parent.path().join("missing"), parent.path().join("empty"));
    std::fs::create_dir(&empty).expect("a directory");
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o700)).expect("its own");
    for directory in [&missing, &empty] {
        let data = directory.to_str().unwrap();
        for arguments in [
            &["operator", "list"][..],
            &["operator", "remove", "ada"],
            &["operator", "set-permissions", "ada", "all"],
            &["operator", "set-password", "ada"],
            &["audit", "verify"],
            &["audit", "export"],
        ] {
            let (code, out, err) = run(&[("KEYMARK_DATA_DIR", data)], arguments).await;
            let expected = format!("keymark: --data-dir: no store in {data}\n");
            assert_eq!((code, out.as_str(), err), (2, "", expected), "{arguments:?}");
        }
        let variables =
            [("KEYMARK_DATA_DIR", data), ("KEYMARK_LISTEN", "127.0.0.1:0"), ("KEYMARK_VERIFY_LISTEN", "127.0.0.1:0")];
        let (code, out, err) = run(&variables, &["doctor"]).await;
        assert!(code == 0 && out.contains("ok       store: will be created"), "{out}{err}");
    }
    assert_eq!(contents(parent.path()), [empty.as_path()]);
    assert_eq!(contents(&empty).len(), 0);
}

#[tokio::test]
async fn an_invalid_uri_or_database_name_is_a_configuration_error() {
    let uri = "mongodb://127.0.0.1:1/?replicaSet=rs0";
    for (setting, arguments) in [
        ("--mongodb-uri", ["--mongodb-uri", "nonsense", "--mongodb-database", "keymark"]),
        ("--mongodb-uri", ["--mongodb-uri", "http://127.0.0.1:27017/", "--mongodb-database", "keymark"]),
        ("--mongodb-database", ["--mongodb-uri", uri, "--mongodb-database", "admin"]),
        ("--mongodb-database", ["--mongodb-uri", uri, "--mongodb-database", "a.b"]),
        ("--mongodb-database", ["--mongodb-uri", uri, "--mongodb-database", ""]),
    ] {
        let (code, out, err) = run(&[SECRET], &arguments).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{arguments:?}: {err}");
        assert!(err.starts_with(&format!("keymark: {setting}: ")), "{arguments:?}: {err}");
    }
}

#[tokio::test]
async fn the_uri_of_mongodb_may_be_in_a_file_and_a_password_in_the_command_line_is_reported() {
    let directory = directory();
    let file = directory.path().join("uri");
    // Nothing listens at port 1, so each start gets as far as connecting.
    let uri = "mongodb://ada:hunter2@127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=1";
    std::fs::write(&file, format!("{uri}\n")).expect("written");
    let in_file = ("KEYMARK_MONGODB_URI_FILE", file.to_str().unwrap());
    let unreachable = |err: &str| err.contains("keymark: --mongodb-uri: ");
    let reported =
        |err: &str| err.contains("--mongodb-uri contains a password, which other users of this machine can read");
    for (variables, arguments, is_reported) in [
        (vec![SECRET, in_file], vec![], false),
        (vec![SECRET, ("KEYMARK_MONGODB_URI", uri)], vec!["doctor"], false),
        (vec![SECRET], vec!["--mongodb-uri", uri], true),
        (vec![SECRET], vec!["operator", "list", "--mongodb-uri", uri], true),
        (vec![SECRET], vec!["--mongodb-uri", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1"], false),
    ] {
        let (code, out, err) = run(&variables, &arguments).await;
        assert!(code == 1 && (unreachable(&err) || out.contains("failed   store")), "{arguments:?}: {out}{err}");
        assert_eq!(reported(&err), is_reported, "{arguments:?}: {err}");
        assert!(!err.contains("hunter2") && !out.contains("hunter2"), "{arguments:?}: {err}");
    }
    // A mistyped URI is taken for the name of a file.
    let mistyped = ["migrate", "--to-mongodb", "mongo://ada:hunter2@127.0.0.1:1/"];
    let (code, _, err) = run(&[SECRET], &mistyped).await;
    assert_eq!((code, err.as_str()), (2, "keymark: --to-mongodb: No such file or directory (os error 2)\n"));
    let (code, _, err) = run(&[SECRET, in_file, ("KEYMARK_MONGODB_URI", uri)], &["serve"]).await;
    assert_eq!((code, err.as_str()), (2, "keymark: --mongodb-uri: KEYMARK_MONGODB_URI_FILE is set as well\n"));
    let (code, _, err) = run(&[SECRET, ("KEYMARK_MONGODB_URI_FILE", "/nowhere/hunter2")], &["serve"]).await;
    assert!(code == 2 && err.starts_with("keymark: KEYMARK_MONGODB_URI_FILE: ") && !err.contains("hunter2"), "{err}");
}

#[tokio::test]
async fn errors_in_the_configuration_file_name_the_setting_without_its_value() {
    let directory = directory();
    let file = directory.path().join("settings.toml");
    let data = directory.path().join("data");
    for (text, line, key) in [
        ("log = \"info\"\nlisten = [\"hunter2\"]\n", 2, "listen"),
        ("mongodb-uri = { hunter2 = 1 }\n", 1, "mongodb-uri"),
        ("\nsession-lifetime = 1.5\n", 2, "session-lifetime"),
        ("keyprefix = \"hunter2\"\n", 1, "keyprefix"),
    ] {
        std::fs::write(&file, text).expect("written");
        let variables = [("KEYMARK_CONFIG", file.to_str().unwrap()), ("KEYMARK_DATA_DIR", data.to_str().unwrap())];
        let (code, out, err) = run(&variables, &["serve"]).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{text}: {err}");
        assert!(err.starts_with(&format!("keymark: {}, line {line}, {key}: ", file.display())), "{text}: {err}");
        assert!(!err.contains("hunter2"), "{text}: {err}");
    }
    for (text, line) in [("listen = 127.0.0.1:8080\n", 1), ("graphiql = true\nkey-prefix = hunter2 # or km\n", 2)] {
        std::fs::write(&file, text).expect("written");
        let variables = [("KEYMARK_CONFIG", file.to_str().unwrap()), ("KEYMARK_DATA_DIR", data.to_str().unwrap())];
        let (code, _, err) = run(&variables, &["serve"]).await;
        let key = text.lines().last().and_then(|line| line.split(' ').next()).expect("a key");
        let expected = format!("keymark: {}, line {line}, {key}: put the value in quotes\n", file.display());
        assert_eq!((code, err), (2, expected), "{text}");
    }
    assert!(!data.exists());
}

#[tokio::test]
async fn variables_that_are_no_setting_are_refused() {
    let directory = directory();
    for command in ["serve", "doctor"] {
        let variables = [("KEYMARK_DATA_DIR", directory.path().to_str().unwrap()), ("KEYMARK_VERIFY_ALOW", "hunter2")];
        let (code, out, err) = run(&variables, &[command]).await;
        let expected = "keymark: KEYMARK_VERIFY_ALOW: is not a setting; `keymark serve --help` lists the variables\n";
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", expected));
    }
    assert_eq!(contents(directory.path()).len(), 0);
}

#[tokio::test]
async fn help_of_serve_lists_all_settings_and_that_of_other_commands_points_to_it() {
    let (code, serve, _) = run(&[], &["serve", "--help"]).await;
    assert_eq!(code, 0);
    for (flag, variable, _) in SETTINGS {
        assert!(serve.contains(&format!("{flag} <VALUE>")) || serve.contains(&format!("{flag}[=<VALUE>]")), "{flag}");
        assert!(serve.contains(&format!("[env: {variable}]")), "{variable}");
    }
    for (variable, ..) in SECRETS {
        assert!(serve.contains(&format!("  {variable}\n")), "{variable}");
    }
    for command in [&["doctor"][..], &["tenant"], &["tenant", "create"], &["audit", "verify"], &["operator", "add"]] {
        let (code, help, _) = run(&[], &[command, &["--help"]].concat()).await;
        assert!(code == 0 && help.contains("All settings of `keymark serve --help` apply as well."), "{help}");
        assert!(!help.contains("--verify-listen"), "{help}");
    }
    let (_, help, _) = run(&[], &["tenant", "create", "--help"]).await;
    assert!(help.contains("--name <NAME>"), "{help}");
}

#[tokio::test]
async fn a_switch_in_the_configuration_file_may_be_a_boolean() {
    let directory = directory();
    let file = directory.path().join("settings.toml");
    for (value, status) in [("true", 200), ("\"on\"", 200), ("false", 404), ("\"off\"", 404)] {
        std::fs::write(&file, format!("introspection = {value}\n")).expect("written");
        let variables = [("KEYMARK_CONFIG", file.to_str().unwrap())];
        let server = Server::start_with(directory.path(), &variables, &[]).await;
        let schema = server.client.get(format!("{}/schema.graphql", server.public)).send();
        assert_eq!(within(schema).await.expect("an answer").status(), status, "{value}");
        let answer = server.graphql(None, "{ __typename }", json!({})).await;
        assert!(answer.is_object(), "{answer}");
        server.stop().await;
    }
}

#[tokio::test]
async fn the_files_of_a_store_are_private_whatever_the_mode_of_its_directory() {
    let directory = directory_of_mode(0o755);
    let server = Server::start(directory.path()).await;
    let mut files: Vec<_> = contents(directory.path())
        .iter()
        .map(|path| {
            let mode = std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
            format!("{} {mode:o}", path.file_name().expect("a name").to_str().expect("UTF-8"))
        })
        .collect();
    files.sort();
    assert_eq!(files, ["keymark.pid 600", "keymark.redb 600", "keymark.sock 600", "secret 600"]);
    server.stop().await;
}
