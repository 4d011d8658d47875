//! The real binary.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use super::within;

/// The binary of this release.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_keymark");

/// A directory with the permissions that the server gives to its own.
pub fn directory() -> tempfile::TempDir {
    directory_of_mode(0o700)
}

pub fn directory_of_mode(mode: u32) -> tempfile::TempDir {
    let mode = std::fs::Permissions::from_mode(mode);
    tempfile::Builder::new().permissions(mode).tempdir().expect("a directory")
}

/// A command that runs the binary without the environment of this process.
pub fn keymark() -> Command {
    program(Path::new(PROGRAM))
}

/// The same for the binary of any release.
pub fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().current_dir(std::env::temp_dir()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A command whose process, the program in the first argument, finds a disk of this size in the directory. Others find it
/// below `/proc/ID/root`.
pub fn on_disk_of(size: &str, directory: &Path) -> Command {
    let mut command = program(Path::new("unshare"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mount = "mount -t tmpfs -o size=$0,mode=700 tmpfs \"$1\" && shift && exec \"$@\"";
    command.args(["--map-root-user", "--mount", "sh", "-c", mount, size]).arg(directory);
    command
}

/// The output of a process, collected as it arrives.
pub struct Log(watch::Receiver<String>);

impl Log {
    pub fn collect(outputs: impl IntoIterator<Item = impl AsyncRead + Send + Unpin + 'static>) -> Self {
        let (collected, log) = watch::channel(String::new());
        let collected = Arc::new(collected);
        for mut output in outputs {
            let collected = Arc::clone(&collected);
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                while let Ok(length @ 1..) = output.read(&mut buffer).await {
                    collected.send_modify(|log| log.push_str(&String::from_utf8_lossy(&buffer[..length])));
                }
            });
        }
        Self(log)
    }

    /// The output so far.
    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until the output contains `text`; panics if the process closes its output before.
    pub async fn wait_for(&mut self, text: &str) {
        let found = within(self.0.wait_for(|log| log.contains(text))).await.is_ok();
        assert!(found, "the process ended before it printed {text:?}: {}", self.text());
    }

    /// The whole output, once the process has closed it.
    pub async fn read_to_end(mut self) -> String {
        within(async { while self.0.changed().await.is_ok() {} }).await;
        self.text()
    }
}

/// A running server.
pub struct Server {
    child: Child,
    pub public: String,
    pub verification: String,
    /// The lines that it printed when it started.
    pub printed: Vec<String>,
    output: BufReader<ChildStdout>,
    log: Log,
    pub client: reqwest::Client,
}

impl Server {
    /// Starts a server over the embedded store in this directory.
    pub async fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[], &[]).await
    }

    pub async fn start_with(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = keymark();
        command.env("KEYMARK_DATA_DIR", directory).envs(variables.iter().copied()).args(arguments);
        Self::run(command).await.unwrap_or_else(|(status, log)| panic!("it did not start: {status}: {log}"))
    }

    /// Starts a server; returns its exit status and log if it ends instead.
    pub async fn run(command: Command) -> Result<Self, (ExitStatus, String)> {
        Self::run_at(command, "127.0.0.1:0").await
    }

    /// The same, with this address of the verification listener.
    pub async fn run_at(mut command: Command, verify_listen: &str) -> Result<Self, (ExitStatus, String)> {
        command.args(["--listen", "127.0.0.1:0", "--verify-listen", verify_listen]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let log = Log::collect(child.stderr.take());
        // The announcement is written at once, so its lines are there together.
        let mut printed = vec![line(&mut output).await];
        if printed[0].is_empty() {
            let status = within(child.wait()).await.expect("ended");
            return Err((status, log.read_to_end().await));
        }
        printed.push(line(&mut output).await);
        let rest = output.buffer().to_vec();
        printed.extend(String::from_utf8(rest).expect("UTF-8").lines().map(str::to_owned));
        let origin = |line: &str| {
            let url = line.split_whitespace().last().expect("an address");
            url.trim_end_matches("/v1/verify").trim_end_matches('/').to_owned()
        };
        let (public, verification) = (origin(&printed[0]), origin(&printed[1]));
        Ok(Self { child, public, verification, printed, output, log, client: reqwest::Client::new() })
    }

    /// The value that it printed after `name` when it started.
    pub fn announced(&self, name: &str) -> Option<&str> {
        self.printed.iter().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("running")
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has logged `text`.
    pub async fn wait_for(&mut self, text: &str) {
        self.log.wait_for(text).await;
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.public.rsplit('/').next().expect("an address").parse().expect("an address")
    }

    pub async fn graphql(&self, token: Option<&str>, document: &str, variables: Json) -> Json {
        let body = json!({ "query": document, "variables": variables }).to_string();
        let mut request = self.client.post(format!("{}/graphql", self.public));
        request = request.header("content-type", "application/json").body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        within(async { request.send().await.expect("an answer").json().await.expect("JSON") }).await
    }

    /// Signs in; returns the token.
    pub async fn sign_in(&self, username: &str, password: &str) -> String {
        let document = "mutation ($u: String!, $p: String!) { signIn(username: $u, password: $p) { token } }";
        let answer = self.graphql(None, document, json!({ "u": username, "p": password })).await;
        answer.pointer("/data/signIn/token").and_then(Json::as_str).unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Creates a system and generates its key; returns the id of the system, and the key.
    pub async fn generate_key(&self, token: &str, name: &str) -> (Json, String) {
        let create = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
        let created = self.graphql(Some(token), create, json!({ "name": name })).await;
        let id = created.pointer("/data/createSystem/system/id").unwrap_or_else(|| panic!("{created}")).clone();
        let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
        let generated = self.graphql(Some(token), generate, json!({ "id": id })).await;
        let key = generated.pointer("/data/generateKey/apiKey").and_then(Json::as_str);
        (id, key.unwrap_or_else(|| panic!("no key")).to_owned())
    }

    /// Verifies a key; returns the code of the verdict.
    pub async fn verdict(&self, api_key: &str) -> String {
        let body = json!({ "apiKey": api_key }).to_string();
        let request = self.client.post(format!("{}/v1/verify", self.verification)).body(body);
        let answer: Json = within(async { request.send().await.expect("an answer").json().await.expect("JSON") }).await;
        answer["code"].as_str().expect("a code").to_owned()
    }

    /// Sends the signal of this name.
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().await;
        assert!(sent.expect("kill").success());
    }

    /// Waits until it ends; returns its exit status and log.
    pub async fn wait(mut self) -> (ExitStatus, String) {
        let status = within(self.child.wait()).await.expect("ended");
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).await.expect("UTF-8");
        (status, self.log.read_to_end().await)
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.expect("ended")
    }

    pub async fn stop(self) -> (ExitStatus, String) {
        self.signal("TERM").await;
        self.wait().await
    }

    /// Kills it with SIGKILL.
    pub async fn kill(mut self) {
        within(self.child.kill()).await.expect("killed");
    }
}

async fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    within(output.read_line(&mut line)).await.expect("UTF-8");
    line.trim_end().to_owned()
}

/// Runs the binary to its end; returns its exit code, standard output and standard error.
pub async fn run<S: AsRef<OsStr>>(variables: &[(&str, &str)], arguments: &[S]) -> (i32, String, String) {
    let output = keymark().envs(variables.iter().copied()).args(arguments).output();
    let output = within(output).await.expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}
