//! A server process over MongoDB, as it is installed: this build, or the one whose path is in `KEYMARK_BINARY`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

pub const DATABASE: &str = "programs";
const PASSWORD: &str = "correct horse battery";

/// Killed when it is dropped.
pub struct Program {
    pub process: Child,
    /// The server does not start without, and writes no more once it runs.
    _output: BufReader<ChildStdout>,
    client: reqwest::Client,
    /// The origins of the console's listener and of the verification listener.
    pub origins: [String; 2],
}

impl Program {
    /// Starts the server with this address of its verification listener, and more arguments. Returns when it is ready.
    pub async fn start(uri: &str, verify_listen: &str, arguments: &[&str]) -> Self {
        let binary = std::env::var("KEYMARK_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_keymark").to_owned());
        let mut command = Command::new(binary);
        command.args(["--listen", "127.0.0.1:0", "--verify-listen", verify_listen]).args(arguments).env_clear().envs([
            ("KEYMARK_SECRET", "a root secret of a benchmark, long enough"),
            ("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD),
            ("KEYMARK_MONGODB_URI", uri),
            ("KEYMARK_MONGODB_DATABASE", DATABASE),
        ]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a program that starts");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut origin = || {
            let mut line = String::new();
            assert!(output.read_line(&mut line).expect("a line") > 0, "the server ended");
            let address = line.split_whitespace().last().expect("an address");
            address.trim_end_matches("/v1/verify").trim_end_matches('/').to_owned()
        };
        let origins = [origin(), origin()];
        let this = Self { process, _output: output, client: reqwest::Client::new(), origins };
        while !this.is_ready().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        this
    }

    async fn is_ready(&self) -> bool {
        let response = self.client.get(format!("{}/readyz", self.origins[0])).send().await;
        response.is_ok_and(|response| response.status().is_success())
    }

    /// Signs in as the first operator. Returns the token.
    pub async fn sign_in(&self) -> String {
        let document = "mutation ($password: String!) { signIn(username: \"admin\", password: $password) { token } }";
        let data = self.send(None, document, json!({ "password": PASSWORD })).await;
        data["signIn"]["token"].as_str().expect("a token").to_owned()
    }

    pub async fn send(&self, token: Option<&str>, document: &str, variables: Json) -> Json {
        let body = json!({ "query": document, "variables": variables });
        let mut request = self.client.post(format!("{}/graphql", self.origins[0])).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let mut response: Json = request.send().await.expect("a response").json().await.expect("JSON");
        assert!(response.get("errors").is_none(), "{response}");
        response["data"].take()
    }

    /// Creates a system. Returns its id.
    pub async fn create_system(&self, token: &str, name: &str) -> String {
        let document = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
        let created = self.send(Some(token), document, json!({ "name": name })).await;
        created["createSystem"]["system"]["id"].as_str().expect("an id").to_owned()
    }

    pub async fn generate_key(&self, token: &str, system: &str) -> String {
        let document = "mutation ($system: ID!) { generateKey(systemId: $system) { apiKey } }";
        let generated = self.send(Some(token), document, json!({ "system": system })).await;
        generated["generateKey"]["apiKey"].as_str().expect("a key").to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
