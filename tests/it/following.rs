//! `keymark audit follow`.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::process::{Server, directory, keymark};
use crate::support::{at_both_places, mongod, within};

const PASSWORD: &str = "a passphrase for the tests";

/// Where the binary finds its store.
struct Place {
    variables: Vec<(&'static str, String)>,
    directory: TempDir,
}

impl Place {
    fn embedded() -> Self {
        let directory = directory();
        let variables = vec![("KEYMARK_DATA_DIR", directory.path().to_str().expect("UTF-8").to_owned())];
        Self { variables, directory }
    }

    async fn mongodb() -> Self {
        let options = mongod::fresh_database().await;
        let secret = "a root secret of 32 bytes or more, for all instances".to_owned();
        let variables = vec![
            ("KEYMARK_MONGODB_URI", options.uri),
            ("KEYMARK_MONGODB_DATABASE", options.database),
            ("KEYMARK_SECRET", secret),
        ];
        Self { variables, directory: directory() }
    }

    fn keymark(&self, arguments: &[&str]) -> Command {
        let mut command = keymark();
        command.envs(self.variables.iter().cloned()).env("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD).args(arguments);
        command
    }

    async fn start(&self) -> Server {
        Server::run(self.keymark(&[])).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"))
    }

    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = within(self.keymark(arguments).output()).await.expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    fn follow(&self, cursor: &Path) -> Follower {
        let mut command = self.keymark(&["audit", "follow", "--cursor-file", cursor.to_str().expect("UTF-8")]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Follower { child, lines }
    }
}

struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    async fn next(&mut self) -> Json {
        let line = within(self.lines.next_line()).await.expect("UTF-8").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Reads up to the entry of this action; returns all lines.
    async fn read_to(&mut self, action: &str) -> Vec<Json> {
        let mut lines = vec![self.next().await];
        while lines[lines.len() - 1]["event"]["action"] != action {
            lines.push(self.next().await);
        }
        lines
    }

    async fn terminate(mut self) {
        let id = self.child.id().expect("running").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
        assert!(within(self.child.wait()).await.expect("ended").success());
    }
}

async fn create(server: &Server, token: &str, name: &str) {
    let document = "mutation ($n: String!) { createSystem(name: $n) { system { id } } }";
    let created = server.graphql(Some(token), document, json!({ "n": name })).await;
    assert!(created["errors"].is_null(), "{created}");
}

at_both_places![entries_are_followed_from_the_first_and_again_from_the_cursor_file, cursors_of_other_logs_are_refused];

async fn entries_are_followed_from_the_first_and_again_from_the_cursor_file(place: Place) {
    let server = place.start().await;
    let token = server.sign_in("admin", PASSWORD).await;
    let cursor = place.directory.path().join("cursor.json");
    create(&server, &token, "Before").await;

    let mut follower = place.follow(&cursor);
    let mut lines = follower.read_to("SYSTEM_CREATED").await;
    assert_eq!(lines[0]["number"], 1);
    lines.extend(follower.read_to("AUDIT_EXPORTED").await);
    create(&server, &token, "While it follows").await;
    lines.extend(follower.read_to("SYSTEM_CREATED").await);
    follower.terminate().await;
    create(&server, &token, "While nobody follows").await;

    let mut follower = place.follow(&cursor);
    let more = follower.read_to("SYSTEM_CREATED").await;
    // The signal may have come before the cursor file was written: entries are written at least once.
    let last = lines[lines.len() - 1]["number"].as_u64().expect("a number");
    let first = more[0]["number"].as_u64().expect("a number");
    assert!(first <= last + 1, "no entry is left out: {first} after {last}");
    lines.truncate(usize::try_from(first - 1).expect("a length"));
    lines.extend(more);
    while lines[lines.len() - 1]["event"]["systemName"] != "While nobody follows" {
        lines.push(follower.next().await);
    }
    follower.terminate().await;

    let (code, export, said) = place.run(&["audit", "export"]).await;
    assert_eq!(code, 0, "{said}");
    let exported: Vec<Json> = export.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[..], exported[..lines.len()], "the lines are those of an export");
    server.stop().await;
}

async fn cursors_of_other_logs_are_refused(place: Place) {
    let server = place.start().await;
    let cursor = place.directory.path().join("cursor.json");
    let arguments = ["audit", "follow", "--cursor-file", cursor.to_str().expect("UTF-8")];
    let other = json!({ "tenant": "default", "number": 1, "hash": "ab".repeat(32) });
    for (content, expected) in [
        (other.to_string(), "does not contain entry 1 as it was followed before"),
        (other.to_string().replace("default", "acme"), "it is the cursor of tenant acme; use one file for each"),
        ("{}".to_owned(), "it is no cursor; name another file"),
    ] {
        std::fs::write(&cursor, &content).expect("written");
        let (code, lines, said) = place.run(&arguments).await;
        assert!(code == 1 && lines.is_empty() && said.contains(expected), "{said}");
        assert_eq!(std::fs::read_to_string(&cursor).expect("a file"), content, "it is left as it is");
    }
    let (code, _, said) = place.run(&["audit", "follow", "--tenant", "nobody"]).await;
    assert!(code == 1 && said.contains("tenant nobody not found"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn a_closed_pipe_ends_it_cleanly() {
    let place = Place::embedded();
    let server = place.start().await;
    let token = server.sign_in("admin", PASSWORD).await;
    let mut follower = place.follow(&place.directory.path().join("cursor.json"));
    follower.read_to("AUDIT_EXPORTED").await;
    drop(follower.lines);
    create(&server, &token, "Nobody reads it").await;
    assert!(within(follower.child.wait()).await.expect("ended").success());
    server.stop().await;
}

#[tokio::test]
async fn the_end_of_the_server_is_an_error_and_a_store_without_one_is_read_to_its_end() {
    let place = Place::embedded();
    let server = place.start().await;
    let cursor = place.directory.path().join("cursor.json");
    let mut follower = place.follow(&cursor);
    follower.read_to("AUDIT_EXPORTED").await;
    server.stop().await;
    assert_eq!(within(follower.child.wait()).await.expect("ended").code(), Some(1), "to be restarted");

    std::fs::remove_file(&cursor).expect("removed");
    let arguments = ["audit", "follow", "--cursor-file", cursor.to_str().expect("UTF-8")];
    let (code, lines, said) = place.run(&arguments).await;
    assert!(code == 0 && said.contains("no server runs on the store; ending after its last entry"), "{said}");
    let last = lines.lines().next_back().expect("a line");
    assert!(last.contains("AUDIT_EXPORTED"), "{last}");
    let (code, lines, said) = place.run(&arguments).await;
    assert_eq!((code, lines.as_str()), (0, ""), "{said}");
}
