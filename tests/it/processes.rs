//! The program as a process: start, shutdown, crash, and the command line.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::sync::Arc;

use keymark::domain::keys::ApiKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use crate::support::process::{Server, directory, keymark, run};
use crate::support::sockets::{Event, Socket};
use crate::support::{mongod, within};

const SECRET: &str = "a root secret of 32 bytes or more, for all instances";
const OTHER_SECRET: &str = "another root secret of 32 bytes or more, unknown to the store";
const CREATE: &str = "mutation ($n: String!) { createSystem(name: $n) { system { id } } }";

#[tokio::test]
async fn the_limit_on_open_files_is_raised_to_its_maximum() {
    let directory = directory();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_keymark")]);
    command.env_clear().env("PATH", "/bin:/usr/bin").env("KEYMARK_DATA_DIR", directory.path()).kill_on_drop(true);
    let server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("limits");
    let of_files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let [soft, hard]: [&str; 2] = of_files.split_whitespace().skip(3).take(2).collect::<Vec<_>>().try_into().unwrap();
    assert!(soft == hard && soft != "64", "{of_files}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn core_dumps_are_disabled() {
    let directory = directory();
    let mut command = keymark();
    command.env("KEYMARK_DATA_DIR", directory.path());
    // As root, everything belongs to root.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(directory.path(), Some(65534), None).expect("given away");
        command.uid(65534);
    }
    let server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("limits");
    let of_cores = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit of core files");
    let limits: Vec<_> = of_cores.split_whitespace().skip(4).take(2).collect();
    assert_eq!(limits, ["0", "0"], "{of_cores}");
    // proc(5): the files of a process that cannot be dumped belong to root.
    let owner = std::fs::metadata(format!("/proc/{}/environ", server.id())).expect("an environment").uid();
    assert_eq!(owner, 0);
    server.stop().await;
}

#[tokio::test]
async fn the_first_start_prints_a_generated_password_once() {
    let directory = directory();
    let server = Server::start(directory.path()).await;
    assert_eq!(server.announced("Operator"), Some("admin"));
    let password = server.announced("Password").expect("a password").to_owned();
    assert_eq!(password.len(), 20);
    assert_eq!(server.announced("Valid for"), Some("24 hours; choose another one when you sign in to the console"));
    let token = server.sign_in("admin", &password).await;
    let viewer =
        server.graphql(Some(&token), "{ viewer { tenantId permissions mustChangePassword } }", json!({})).await;
    assert_eq!(viewer["data"]["viewer"]["mustChangePassword"], true);
    assert_eq!(viewer["data"]["viewer"]["permissions"].as_array().map(Vec::len), Some(8));
    assert_eq!(viewer["data"]["viewer"]["tenantId"], "default");
    let (status, log) = server.stop().await;
    assert!(status.success() && !log.contains(&password), "{log}");
    assert!(log.contains("first password generated; it has to be changed valid_for=86400s"), "{log}");

    let again = Server::start(directory.path()).await;
    assert_eq!((again.announced("Operator"), again.announced("Password")), (None, None));
    assert_eq!(again.printed.len(), 2);
    again.sign_in("admin", &password).await;
    let viewer = again.graphql(Some(&token), "{ viewer { username mustChangePassword } }", json!({})).await;
    assert_eq!(viewer["data"]["viewer"]["username"], "admin", "the session survived the restart");
    assert_eq!(viewer["data"]["viewer"]["mustChangePassword"], true);
    let change = "mutation ($c: String!, $n: String!) {
        changePassword(currentPassword: $c, newPassword: $n) { viewer { mustChangePassword } }
    }";
    let passwords = json!({ "c": password, "n": "chosen by a person" });
    let changed = again.graphql(Some(&token), change, passwords).await;
    assert_eq!(changed["data"]["changePassword"]["viewer"]["mustChangePassword"], false, "{changed}");
    again.stop().await;
}

#[tokio::test]
async fn a_configured_first_password_is_used_and_not_printed() {
    let directory = directory();
    let variables = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
    let server = Server::start_with(directory.path(), &variables, &[]).await;
    assert_eq!((server.announced("Operator"), server.announced("Password")), (Some("admin"), None));
    let token = server.sign_in("admin", "given and long enough").await;
    let data = directory.path().to_str().unwrap();
    let removed = run(&[("KEYMARK_DATA_DIR", data)], &["operator", "remove", "admin"]).await;
    assert_eq!(removed.0, 0, "{}", removed.2);
    let viewer = server.graphql(Some(&token), "{ viewer { username } }", json!({})).await;
    assert_eq!(viewer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    server.stop().await;

    let again = Server::start_with(directory.path(), &variables, &[]).await;
    assert_eq!(again.announced("Operator"), None);
    let listed = run(&[("KEYMARK_DATA_DIR", data)], &["operator", "list"]).await;
    assert_eq!((listed.0, listed.1.as_str()), (0, ""), "removing the last operator never brings admin back");
    again.stop().await;
}

#[tokio::test]
async fn the_secret_of_an_embedded_store_is_private_and_required() {
    let parent = directory();
    let directory = parent.path().join("data");
    let server = Server::start(&directory).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("secret"))), (0o700, 0o600));
    assert_eq!(mode(&directory.join("keymark.sock")), 0o600);
    server.stop().await;
    assert!(!directory.join("keymark.sock").exists());

    let data = directory.to_str().unwrap();
    let (code, _, said) = run(&[("KEYMARK_DATA_DIR", data), ("KEYMARK_SECRET", OTHER_SECRET)], &["serve"]).await;
    assert_eq!(code, 2);
    assert_eq!(said.lines().count(), 1, "{said}");
    let reason = said.split_inclusive(';').map(str::trim).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(reason, @r"
    keymark: KEYMARK_SECRET: the store belongs to another root secret;
    if this one replaces it, add the old one to KEYMARK_PREVIOUS_SECRETS
    ");
    let taken_over = Server::start_with(
        &directory,
        &[
            ("KEYMARK_SECRET", OTHER_SECRET),
            ("KEYMARK_PREVIOUS_SECRETS", &std::fs::read_to_string(directory.join("secret")).unwrap()),
        ],
        &[],
    )
    .await;
    taken_over.stop().await;
}

#[tokio::test]
async fn doctor_compares_the_root_secret_with_that_of_the_running_server() {
    let directory = directory();
    let data = ("KEYMARK_DATA_DIR", directory.path().to_str().unwrap());
    let server = Server::start(directory.path()).await;
    let secret = directory.path().join("secret");
    let own = std::fs::read_to_string(&secret).expect("a secret");
    let matching = "ok       root secret: matches that of the running server";
    for (variables, code, line) in [
        (vec![], 0, matching),
        (vec![("KEYMARK_SECRET", own.as_str())], 0, matching),
        (vec![("KEYMARK_SECRET", OTHER_SECRET), ("KEYMARK_PREVIOUS_SECRETS", &own)], 0, matching),
        (vec![("KEYMARK_SECRET", OTHER_SECRET)], 1, "failed   root secret: the server uses another root secret;"),
    ] {
        let variables = [&variables[..], &[data]].concat();
        let (found, out, err) = run(&variables, &["doctor"]).await;
        assert!(found == code && out.contains(line), "{out}{err}");
    }
    std::fs::remove_file(&secret).expect("removed");
    let (code, out, err) = run(&[data], &["doctor"]).await;
    let missing = format!("failed   root secret: KEYMARK_SECRET: {} is missing", secret.display());
    assert!(code == 1 && out.contains(&missing), "{out}{err}");
    assert!(!secret.exists());
    server.stop().await;
}

#[tokio::test]
async fn a_missing_secret_of_an_existing_store_is_reported_and_nothing_is_written() {
    let directory = directory();
    let data = ("KEYMARK_DATA_DIR", directory.path().to_str().unwrap());
    Server::start(directory.path()).await.stop().await;
    let secret = directory.path().join("secret");
    let own = std::fs::read_to_string(&secret).expect("a secret");
    std::fs::remove_file(&secret).expect("removed");
    let files = || {
        let entries = std::fs::read_dir(directory.path()).expect("a directory").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("a file"))).collect();
        files.sort();
        files
    };
    let before = files();
    for arguments in [&["serve"][..], &["operator", "list"], &["operator", "add", "ada"], &["audit", "verify"]] {
        let (code, out, err) = run(&[data], arguments).await;
        let says = format!(
            "keymark: KEYMARK_SECRET: {} is missing, and the store beside it belongs to the secret in it: restore the file \
             from a backup, or set KEYMARK_SECRET if the store was created with it\n",
            secret.display()
        );
        assert_eq!((code, out.as_str(), err), (2, "", says), "{arguments:?}");
    }
    let (code, out, _) = run(&[data], &["doctor"]).await;
    assert!(code == 1 && out.contains("failed   store: KEYMARK_SECRET: ") && out.contains(" is missing"), "{out}");
    assert!(files() == before, "nothing was written");
    let server = Server::start_with(directory.path(), &[("KEYMARK_SECRET", &own)], &[]).await;
    server.stop().await;
}

#[tokio::test]
async fn an_invalid_configuration_is_one_line_and_exit_code_2() {
    let directory = directory();
    let data = directory.path().to_str().unwrap();
    let mut said = Vec::new();
    for (variables, arguments) in [
        (vec![("KEYMARK_SECRET", "short")], vec!["serve"]),
        (vec![("KEYMARK_LISTEN", "0.0.0.0:0")], vec![]),
        (vec![("KEYMARK_VERIFY_LISTEN", "0.0.0.0:0")], vec![]),
        (vec![("KEYMARK_INITIAL_ADMIN_PASSWORD", "short")], vec![]),
        (vec![], vec!["--session-lifetime", "soon"]),
        (vec![], vec!["--log", "loud=very"]),
        (vec![("KEYMARK_SECRET", SECRET), ("KEYMARK_SECRET_FILE", "x")], vec![]),
        (vec![("KEYMARK_LISTEN", "nowhere")], vec!["doctor"]),
        (vec![("KEYMARK_CONFIG", "/nowhere/keymark.toml")], vec![]),
        (vec![("KEYMARK_MONGODB_URI", "mongodb://127.0.0.1:1/")], vec!["operator", "list"]),
    ] {
        let variables: Vec<_> = variables.into_iter().chain([("KEYMARK_DATA_DIR", data)]).collect();
        let (code, out, err) = run(&variables, &arguments).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{arguments:?}: {err}");
        said.push(err.trim_end().to_owned());
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    keymark: KEYMARK_SECRET: a root secret has at least 32 bytes
    keymark: --listen: 0.0.0.0:0 is not loopback, and Keymark serves plain HTTP: set --tls-cert and --tls-key, or --public-origin to the https origin of a proxy that terminates TLS, or --insecure-http to do without TLS
    keymark: --verify-listen: 0.0.0.0:0 is not loopback: set KEYMARK_VERIFIER_TOKEN, --verify-allow or --verify-client-ca
    keymark: KEYMARK_INITIAL_ADMIN_PASSWORD: This password is too short. A password has at least 12 characters (at most 1024 bytes), is none of the 10,000 most common ones, even if repeated or with digits and signs around it, and contains neither the username nor keymark.
    keymark: --session-lifetime: `soon` is not a duration such as 90s, 12h or 30d: expected number at 0
    keymark: --log: `loud=very` is neither off, error, warn, info, debug or trace, nor directives such as info,keymark::http=debug
    keymark: KEYMARK_SECRET: KEYMARK_SECRET_FILE is set as well
    keymark: --listen: `nowhere` is not an IP address and port such as 127.0.0.1:8080
    keymark: --config: /nowhere/keymark.toml: No such file or directory (os error 2)
    keymark: KEYMARK_SECRET: is required with MongoDB: at least 32 random bytes, the same for every instance
    "#);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was created");
}

#[tokio::test]
async fn a_second_server_reports_which_process_uses_the_store() {
    let directory = directory();
    let server = Server::start(directory.path()).await;
    let mut command = keymark();
    command.env("KEYMARK_DATA_DIR", directory.path());
    let (status, said) = Server::run(command).await.err().expect("refused");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains(&format!("process {} is using it", server.id())), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    server.stop().await;
}

#[tokio::test]
async fn commands_work_with_and_without_a_running_server() {
    let directory = directory();
    let data = [("KEYMARK_DATA_DIR", directory.path().to_str().unwrap())];
    let added = run(&data, &["operator", "add", "ada", "--permissions", "all"]).await;
    assert_eq!(added.0, 0, "{}", added.2);
    let password = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("Password: ")).expect("a password");
        line.trim_end_matches(" (shown once)").to_owned()
    };
    let first = password(&added.1);

    let server = Server::start(directory.path()).await;
    assert_eq!(server.announced("Operator"), None, "a store with an operator gets no admin");
    server.sign_in("ada", &first).await;
    let changed = run(&data, &["operator", "set-password", "ada"]).await;
    server.sign_in("ada", &password(&changed.1)).await;
    for (arguments, code, says) in [
        (&["operator", "add", "ada"][..], 1, "Another operator has this username."),
        (&["operator", "remove", "nobody"], 1, "operator nobody not found"),
        (&["operator", "add", "not a name"], 2, "a username is"),
        (&["operator", "set-permissions", "ada", "fly"], 2, "`fly` is not"),
        (&["operator", "add", "bob", "--tenant", "Not/One"], 2, "a tenant is 1 to 63"),
        (&["nonsense"], 2, "unrecognized subcommand"),
    ] {
        let (status, _, said) = run(&data, arguments).await;
        assert!(status == code && said.contains(says), "{arguments:?}: {status} {said}");
    }
    let mut with_password = keymark();
    with_password.envs(data).args(["operator", "add", "bob", "--password-stdin"]);
    let mut child =
        with_password.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a password by pipe\nand more").await.unwrap();
    assert!(within(child.wait_with_output()).await.unwrap().status.success());
    server.sign_in("bob", "a password by pipe").await;

    let doctor = run(&data, &["doctor"]).await;
    assert!(doctor.0 == 0 && doctor.1.contains("in use by a running server"), "{}{}", doctor.1, doctor.2);
    let mut verdicts: Vec<_> = doctor.1.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let counted = verdicts.pop().expect("a line with the numbers");
    let warnings = verdicts.iter().filter(|line| line.starts_with("warning  password cost")).count();
    assert_eq!(counted, format!("{} ok, {warnings} warnings, 0 failed", verdicts.len() - warnings));
    let subjects: Vec<_> = verdicts.iter().map(|line| &line["warning  ".len()..]).collect();
    let expected =
        ["configuration", "password cost", "data directory", "store", "audit log", "root secret", "API keys"];
    assert_eq!(subjects, expected, "{}", doctor.1);
    server.stop().await;

    let doctor =
        run(&[data[0], ("KEYMARK_LISTEN", "127.0.0.1:0"), ("KEYMARK_VERIFY_LISTEN", "127.0.0.1:0")], &["doctor"]).await;
    assert!(
        doctor.0 == 0 && doctor.1.ends_with(", 0 failed\n") && doctor.1.contains("the chain is intact"),
        "{}",
        doctor.1
    );
    let verified = run(&data, &["audit", "verify"]).await;
    assert!(verified.0 == 0 && verified.1.starts_with("default: "), "{}{}", verified.1, verified.2);
    let exported = run(&data, &["audit", "export", "--format", "csv"]).await;
    assert!(exported.0 == 0 && exported.1.starts_with("number,occurredAt,"), "{}", exported.1);
    let schema = run(&[], &["schema"]).await;
    assert_eq!((schema.0, schema.1), (0, keymark::graphql::sdl()));
}

#[tokio::test]
async fn output_that_cannot_be_written_is_no_panic() {
    let directory = directory();
    let free = ["--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"];
    let run_into = async |output: Stdio, arguments: &[&str]| {
        let mut command = keymark();
        command.env("KEYMARK_DATA_DIR", directory.path()).args(arguments).stdout(output).stderr(Stdio::piped());
        let ended = command.spawn().expect("a process").wait_with_output().await.expect("its output");
        (ended.status.code(), String::from_utf8(ended.stderr).expect("text"))
    };
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    for arguments in [&["schema"][..], &["completions", "bash"], &[&["doctor"], &free[..]].concat()] {
        let (code, message) = run_into(closed.try_clone().expect("a copy").into(), arguments).await;
        assert!(code == Some(0) && message.is_empty(), "{arguments:?}: {message}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let (code, message) = run_into(full.into(), arguments).await;
        assert!(code == Some(1), "{arguments:?}: {message}");
        assert!(message.starts_with("keymark: cannot write to standard output: "), "{arguments:?}: {message}");
    }
}

#[tokio::test]
async fn doctor_measures_the_password_cost_and_advises_one_that_can_be_configured() {
    let directory = directory();
    let data = ("KEYMARK_DATA_DIR", directory.path().to_str().unwrap());
    let free = ["--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0", "doctor"];
    let check = async |cost: &str| {
        let (code, out, err) = run(&[data], &[&["--password-cost", cost], &free[..]].concat()).await;
        assert_eq!(code, 0, "{out}{err}");
        out.lines().find(|line| line.contains("  password cost: ")).expect("a measurement").to_owned()
    };
    let cheapest = check("m=7168,t=5,p=1").await;
    assert!(cheapest.contains("m=7168,t=5,p=1 takes ") && cheapest.contains("50 to 100 ms are advised"), "{cheapest}");
    // 300 ms on a common machine.
    let costly = check("m=262144,t=2,p=1").await;
    let advised = costly.split("use --password-cost ").nth(1).expect("another cost").split_once(", which").unwrap().0;
    check(advised).await;
}

#[tokio::test]
async fn a_flood_of_sign_ins_hashes_on_half_of_the_processors_and_in_bounded_memory() {
    const COST_MIB: usize = 64;
    let directory = directory();
    let arguments = ["--password-cost", "m=65536,t=1,p=1", "--trusted-proxies", "127.0.0.1"];
    let server = Server::start_with(directory.path(), &[], &arguments).await;
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
    };
    let guess = |i: usize| {
        let body =
            json!({ "query": format!("mutation {{ signIn(username: \"a{i}\", password: \"x\") {{ token }} }}") });
        let request =
            server.client.post(format!("{}/graphql", server.public)).header("x-forwarded-for", format!("10.0.{i}.1"));
        let request = request.header("content-type", "application/json").body(body.to_string());
        async move { within(async { request.send().await.expect("an answer").text().await.expect("text") }).await }
    };
    // The first one allocates what every request needs.
    guess(0).await;
    let before = peak();
    let answers = futures::future::join_all((1..40).map(guess)).await;
    assert!(answers.iter().all(|answer| answer.contains("INVALID_CREDENTIALS")), "{answers:?}");
    let concurrent = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
    let limit = before + (concurrent - 1) * COST_MIB + COST_MIB / 2;
    assert!(peak() <= limit, "{} MiB, after {before} MiB, with {concurrent} at a time", peak());
    server.stop().await;
}

#[tokio::test]
async fn sigterm_and_sigint_drain_requests_and_close_connections() {
    for signal in ["TERM", "INT"] {
        let directory = directory();
        let variables = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
        let server = Server::start_with(directory.path(), &variables, &[]).await;
        let token = server.sign_in("admin", "given and long enough").await;
        let payload = json!({ "authorization": format!("Bearer {token}") });
        let mut socket = Socket::open(server.address(), &[], payload).await;
        socket.acknowledged().await.expect("acknowledged");
        let mut idle = TcpStream::connect(server.address()).await.unwrap();

        // A request whose body is incomplete when the signal arrives.
        let body = json!({ "query": CREATE, "variables": { "n": "In flight" } }).to_string();
        let (first, rest) = body.split_at(10);
        let mut request = TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        request.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 25];
        within(request.read_exact(&mut answer)).await.expect("the server reads the body");
        assert!(answer.starts_with(b"HTTP/1.1 100 Continue"));
        request.write_all(first.as_bytes()).await.unwrap();

        server.signal(signal).await;
        assert_eq!(socket.event().await, Event::Closed(1001));
        request.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(request.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains("200 OK") && answer.contains("createSystem"), "{answer}");
        let mut nothing = Vec::new();
        within(idle.read_to_end(&mut nothing)).await.unwrap();
        assert!(nothing.is_empty(), "an idle connection is closed");
        let address = server.address();
        let (status, log) = server.wait().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");

        let again = Server::start(directory.path()).await;
        let list = again.graphql(Some(&token), "{ systems { nodes { name } } }", json!({})).await;
        assert_eq!(list["data"]["systems"]["nodes"], json!([{ "name": "In flight" }]));
        again.stop().await;
    }
}

#[tokio::test]
async fn a_silent_client_of_the_command_socket_does_not_delay_shutdown() {
    let directory = directory();
    let server = Server::start(directory.path()).await;
    let mut silent = UnixStream::connect(directory.path().join("keymark.sock")).await.expect("a socket");
    let data = [("KEYMARK_DATA_DIR", directory.path().to_str().unwrap())];
    let listed = run(&data, &["operator", "list"]).await;
    assert_eq!(listed.0, 0, "the silent client does not block others: {}", listed.2);
    let (status, log) = server.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let mut answer = Vec::new();
    // The connection is over, whether it ended with an error or was reset.
    let _ = within(silent.read_to_end(&mut answer)).await;
    assert!(!directory.path().join("keymark.sock").exists());
}

#[tokio::test]
async fn aggregated_refused_attempts_are_written_at_shutdown() {
    let directory = directory();
    let data = [("KEYMARK_DATA_DIR", directory.path().to_str().unwrap())];
    let server = Server::start(directory.path()).await;
    let mut add = keymark();
    add.envs(data).args(["operator", "add", "ada", "--password-stdin"]);
    let mut child = add.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"given and long enough\n").await.unwrap();
    assert!(within(child.wait()).await.unwrap().success());
    let token = server.sign_in("ada", "given and long enough").await;
    for _ in 0..25 {
        let refused = server.graphql(Some(&token), CREATE, json!({ "n": "Billing" })).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN");
    }
    let counts = |export: &str| -> Vec<u64> {
        let events = export.lines().map(|line| serde_json::from_str::<Json>(line).expect("an entry")["event"].take());
        let refused = events.filter(|event| event["action"] == "PERMISSION_REFUSED");
        refused.map(|event| event["count"].as_u64().expect("a number")).collect()
    };
    let before = run(&data, &["audit", "export"]).await;
    assert_eq!(counts(&before.1), [1; 10], "{}", before.2);
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
    let after = run(&data, &["audit", "export"]).await;
    let counts = counts(&after.1);
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (11, 25), "{counts:?}");
    let verified = run(&data, &["audit", "verify"]).await;
    assert_eq!(verified.0, 0, "{}", verified.2);
}

#[tokio::test]
async fn failed_sign_ins_of_unknown_usernames_are_logged_with_the_network_alone() {
    let directory = directory();
    let server = Server::start_with(directory.path(), &[], &[]).await;
    let sign_in = r#"mutation { signIn(username: "TypedByMistake", password: "wrong") { token } }"#;
    for _ in 0..11 {
        assert!(server.graphql(None, sign_in, json!({})).await["errors"].is_array());
    }
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
    for event in ["sign-in with an unknown username network=127.0.0.1", "sign-in limited network=127.0.0.1"] {
        assert!(log.contains(event), "{event} in {log}");
    }
    assert!(!log.to_lowercase().contains("typedbymistake"), "{log}");
}

#[tokio::test]
async fn acknowledged_changes_survive_every_crash() {
    let directory = directory();
    let variables = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
    let mut server = Server::start_with(directory.path(), &variables, &[]).await;
    let token: Arc<str> = server.sign_in("admin", "given and long enough").await.into();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..15 {
        let (sender, mut names) = tokio::sync::mpsc::unbounded_channel();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (client, address, token, sender) =
                    (server.client.clone(), format!("{}/graphql", server.public), Arc::clone(&token), sender.clone());
                tokio::spawn(async move {
                    for i in 0.. {
                        let name = format!("System {round} {writer} {i}");
                        let body = json!({ "query": CREATE, "variables": { "n": name } }).to_string();
                        let request =
                            client.post(&address).bearer_auth(&token).header("content-type", "application/json");
                        let Ok(answer) = request.body(body).send().await else { return };
                        let Ok(answer) = answer.json::<Json>().await else { return };
                        assert!(answer["data"]["createSystem"]["system"]["id"].is_string(), "{answer}");
                        sender.send(name).expect("the test listens");
                    }
                })
            })
            .collect();
        drop(sender);
        // Crash after a different number of acknowledged writes each round, while others are in flight.
        for _ in 0..=round * 2 {
            acknowledged.push(within(names.recv()).await.expect("a write"));
        }
        server.kill().await;
        while let Some(name) = within(names.recv()).await {
            acknowledged.push(name);
        }
        for writer in writers {
            within(writer).await.expect("no write was refused");
        }
        server = Server::start(directory.path()).await;
        let document = "query ($after: String) { systems(first: 200, after: $after) {
            nodes { name } pageInfo { hasNextPage endCursor } } }";
        let (mut found, mut after) = (std::collections::HashSet::new(), json!(null));
        loop {
            let page = server.graphql(Some(&token), document, json!({ "after": after })).await;
            let page = &page["data"]["systems"];
            found.extend(
                page["nodes"].as_array().expect("a page").iter().map(|node| node["name"].as_str().unwrap().to_owned()),
            );
            if page["pageInfo"]["hasNextPage"] != true {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        let lost: Vec<_> = acknowledged.iter().filter(|name| !found.contains(*name)).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
        assert!(
            found.len() <= acknowledged.len() + 4 * (round + 1),
            "at most the writes in flight were committed besides"
        );
    }
    let data = [("KEYMARK_DATA_DIR", directory.path().to_str().unwrap())];
    let verified = run(&data, &["audit", "verify"]).await;
    assert_eq!(verified.0, 0, "the audit log is intact: {}", verified.2);
    server.stop().await;
}

#[tokio::test]
async fn mongodb_requires_the_secret_and_the_first_password() {
    let options = mongod::fresh_database().await;
    let place =
        [("KEYMARK_MONGODB_URI", options.uri.as_str()), ("KEYMARK_MONGODB_DATABASE", options.database.as_str())];
    let [secret, password] = [("KEYMARK_SECRET", SECRET), ("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
    // `doctor` does not bind the store to a secret.
    let look = ["doctor", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"];
    let (code, looked, _) = run(&[place[0], place[1], ("KEYMARK_SECRET", OTHER_SECRET)], &look).await;
    assert!(
        code == 1 && looked.contains("failed   first operator: KEYMARK_INITIAL_ADMIN_PASSWORD: is required"),
        "{looked}"
    );
    let (code, _, without_secret) = run(&place, &["serve"]).await;
    assert_eq!(code, 2);
    // It gets as far as listening, so it must not use ports that may be taken.
    let anywhere = ["serve", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"];
    let (code, _, without_password) = run(&[place[0], place[1], secret], &anywhere).await;
    assert_eq!(code, 2, "{without_password}");
    insta::assert_snapshot!(format!("{without_secret}{without_password}"), @r"
    keymark: KEYMARK_SECRET: is required with MongoDB: at least 32 random bytes, the same for every instance
    keymark: KEYMARK_INITIAL_ADMIN_PASSWORD: is required for the first start with MongoDB, since standard output may be a log
    ");

    let unfit = ("KEYMARK_INITIAL_ADMIN_PASSWORD", "Password1234!");
    let (code, _, said) = run(&[place[0], place[1], secret, unfit], &anywhere).await;
    assert!(code == 2 && said.contains("KEYMARK_INITIAL_ADMIN_PASSWORD: This password is too common."), "{said}");

    let start = |secret: &'static str| {
        let mut command = keymark();
        command.envs(place).envs([("KEYMARK_SECRET", secret), password]);
        Server::run(command)
    };
    let started = tokio::join!(start(SECRET), start(SECRET));
    let (Ok(one), Ok(other)) = started else { panic!("both start") };
    let token = one.sign_in("admin", "given and long enough").await;
    let generated = "mutation { createSystem(name: \"Billing\") { system { id } } }";
    let id = other.graphql(Some(&token), generated, json!({})).await;
    let id = &id["data"]["createSystem"]["system"]["id"];
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let key = one.graphql(Some(&token), generate, json!({ "id": id })).await;
    let key = key["data"]["generateKey"]["apiKey"].as_str().expect("a key").to_owned();
    assert_eq!(other.verdict(&key).await, "VALID");
    other
        .graphql(
            Some(&token),
            "mutation ($id: ID!) { revokeKey(systemId: $id) { system { id } } }",
            json!({ "id": id }),
        )
        .await;
    assert_eq!(one.verdict(&key).await, "REVOKED");

    let listed = run(&[place[0], place[1], secret], &["operator", "list"]).await;
    assert_eq!(listed.1.lines().count(), 1, "one of the two first starts created the operator: {}", listed.1);
    let (status, said) = start(OTHER_SECRET).await.err().expect("refused");
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("the store belongs to another root secret") && said.lines().count() == 1, "{said}");
    for server in [one, other] {
        let (status, log) = server.stop().await;
        assert!(status.success(), "{log}");
        assert!(!log.contains("given and long enough") && !log.contains(SECRET));
    }
}

#[tokio::test]
async fn an_unreachable_database_is_reported_in_one_line() {
    let mut command = keymark();
    command
        .env("KEYMARK_SECRET", SECRET)
        .env("KEYMARK_MONGODB_URI", "mongodb://user:hunter2@127.0.0.1:1/?replicaSet=rs0");
    let (status, said) = Server::run(command).await.err().expect("refused");
    assert_eq!((status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("keymark: --mongodb-uri: ") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_server_survives_the_loss_of_its_database() {
    let mongod = mongod::Mongod::replica_set().await;
    let options = mongod.fresh_database();
    let mut command = keymark();
    command.envs([
        ("KEYMARK_SECRET", SECRET),
        ("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough"),
        ("KEYMARK_MONGODB_URI", &options.uri),
        ("KEYMARK_MONGODB_DATABASE", &options.database),
        ("KEYMARK_LEASE", "1s"),
        ("KEYMARK_PROBE_INTERVAL", "250ms"),
    ]);
    let server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let token = server.sign_in("admin", "given and long enough").await;
    let payload = json!({ "authorization": format!("Bearer {token}") });
    let mut socket = Socket::open(server.address(), &[], payload).await;
    socket.acknowledged().await.expect("acknowledged");
    mongod.kill();
    let key = ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(1));
    let create = |name: &'static str| server.graphql(Some(&token), CREATE, json!({ "n": name }));
    assert_eq!(create("While it is down").await["errors"][0]["extensions"]["code"], "UNAVAILABLE");
    // Served from the cache until the lease expires.
    within(async { while server.verdict(key.expose()).await == "NOT_FOUND" {} }).await;
    assert_eq!(server.verdict(key.expose()).await, "UNAVAILABLE");
    mongod.restart().await;
    // Until the driver has found the primary again, each request times out.
    within(async { while create("When it is back").await["data"].is_null() {} }).await;
    let list = server.graphql(Some(&token), "{ systems { nodes { name } } }", json!({})).await;
    assert_eq!(list["data"]["systems"]["nodes"], json!([{ "name": "When it is back" }]));
    server.stop().await;
}

#[tokio::test]
async fn introspection_and_graphiql_can_be_switched_off() {
    let directory = directory();
    let variables = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough"), ("KEYMARK_GRAPHIQL", "off")];
    let server = Server::start_with(directory.path(), &variables, &["--introspection", "off"]).await;
    let token = server.sign_in("admin", "given and long enough").await;
    let answer = server.graphql(Some(&token), "{ __schema { types { name } } }", json!({})).await;
    assert!(!answer.to_string().contains("SystemConnection"), "{answer}");
    let typo = server.graphql(None, "{ sistems { nodes { id } } }", json!({})).await;
    assert!(!typo.to_string().contains("Did you mean"), "{typo}");
    for path in ["/graphiql", "/schema.graphql"] {
        let status = server.client.get(format!("{}{path}", server.public)).send().await.unwrap().status();
        assert_eq!(status, 404, "{path}");
    }
    assert_eq!(server.client.get(format!("{}/healthz", server.public)).send().await.unwrap().status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn flags_take_precedence_over_variables_and_these_over_the_file() {
    let directory = directory();
    let file = directory.path().join("keymark.toml");
    std::fs::write(&file, "key-prefix = \"file\"\nlog-format = \"json\"\nsession-lifetime = \"1h\"\n").unwrap();
    let variables = [
        ("KEYMARK_CONFIG", file.to_str().unwrap()),
        ("KEYMARK_KEY_PREFIX", "variable"),
        ("KEYMARK_SESSION_LIFETIME", "2h"),
        ("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough"),
    ];
    let server = Server::start_with(directory.path(), &variables, &["--key-prefix", "flag"]).await;
    let token = server.sign_in("admin", "given and long enough").await;
    let created = server.graphql(Some(&token), CREATE, json!({ "n": "Billing" })).await;
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let id = &created["data"]["createSystem"]["system"]["id"];
    let key = server.graphql(Some(&token), generate, json!({ "id": id })).await;
    assert!(key["data"]["generateKey"]["apiKey"].as_str().unwrap().starts_with("flag_"));
    let public = server.public.clone();
    let (_, log) = server.stop().await;
    for line in log.lines() {
        let entry: Json = serde_json::from_str(line).expect("a log line is JSON");
        assert!(entry["timestamp"].is_string() && entry["level"].is_string(), "{line}");
    }
    let lines = || log.lines().map(|line| serde_json::from_str::<Json>(line).expect("a log line is JSON"));
    let serving = lines().find(|line| line["message"] == "serving").expect("a line at the start");
    assert_eq!(serving["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&serving["store"], &serving["keys"]), (&json!("embedded"), &json!(0)));
    assert_eq!(format!("http://{}", serving["listen"].as_str().expect("an address")), public);
    let generated = lines().find(|line| line["action"] == "KeyGenerated").expect("an audit entry");
    assert_eq!((&generated["actor"], &generated["system"]), (&json!("\"admin\""), id));
    assert!(generated["request"].as_str().is_some_and(|request| request.starts_with("req_")), "{generated}");
}

#[tokio::test]
async fn verifications_are_logged_at_debug_without_the_key() {
    let directory = directory();
    let password = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
    let mut server = Server::start_with(directory.path(), &password, &["--log", "debug"]).await;
    let token = server.sign_in("admin", "given and long enough").await;
    let created = server.graphql(Some(&token), CREATE, json!({ "n": "Billing" })).await;
    let id = created.pointer("/data/createSystem/system/id").and_then(Json::as_str).expect("an id");
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let generated = server.graphql(Some(&token), generate, json!({ "id": id })).await;
    let key = generated.pointer("/data/generateKey/apiKey").and_then(Json::as_str).expect("a key");
    let (secret, mark) = key.split_at(key.len() - 4);
    assert_eq!(server.verdict(key).await, "VALID");
    server.wait_for(&format!(r#"key verified verdict="VALID" tenant=default system={id} mark="{mark}""#)).await;
    let unknown = ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(1));
    assert_eq!(server.verdict(unknown.expose()).await, "NOT_FOUND");
    server.wait_for(r#"key verified verdict="NOT_FOUND""#).await;
    let log = server.stop().await.1;
    assert!(!log.contains(secret) && !log.contains(unknown.expose()), "{log}");
}
