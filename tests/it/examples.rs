//! The examples in `docs/examples`, against a server.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::process::Command;

use crate::support::process::{Server, directory, run};
use crate::support::within;

const CODES: &str = "view,create,edit";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that `scripts/examples.sh` installed, with the packages of the example.
async fn python() -> PathBuf {
    let installed = Command::new(root().join("scripts/examples.sh")).output().await.expect("the script runs");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    String::from_utf8(installed.stdout).expect("a path").trim().into()
}

async fn gives_an_application_a_key(program: &Path, example: &str) {
    let place = directory();
    let server = Server::start(place.path()).await;
    let data = [("KEYMARK_DATA_DIR", place.path().to_str().expect("a path"))];
    let (status, said, log) = run(&data, &["token", "create", "Backend", "--permissions", CODES]).await;
    assert_eq!(status, 0, "{log}");
    let token = said.split_whitespace().find(|word| word.starts_with("kmt_")).expect("a token");

    let start = async |token: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg(root().join("docs/examples").join(example)).args(arguments);
        command.env("KEYMARK_URL", format!("{}/graphql", server.public)).env("KEYMARK_TOKEN", token);
        let output = within(command.kill_on_drop(true).output()).await.expect("the example runs");
        let text = |bytes| String::from_utf8(bytes).expect("text").trim().to_owned();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (is_done, key, said) = start(token, &["cus_42", "Billing of Acme"]).await;
    assert!(is_done && key.starts_with("km_"), "{said}");
    let request = server.client.post(format!("{}/v1/verify", server.verification)).json(&json!({ "apiKey": key }));
    let verdict: serde_json::Value = within(request.send()).await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&verdict["systemName"], &verdict["externalId"]), (&json!("Billing of Acme"), &json!("cus_42")));

    let (is_done, _, said) = start(token, &["cus_43", "Billing of Acme"]).await;
    assert!(!is_done && said.starts_with("NAME_TAKEN: "), "{said}");
    let (is_done, _, said) = start("kmt_unknown", &["cus_43", "Reports of Acme"]).await;
    assert!(!is_done && said.starts_with("UNAUTHENTICATED: ") && !said.contains("kmt_unknown"), "{said}");
    for (token, arguments) in [(token, &["cus_43"][..]), ("", &["cus_43", "Reports of Acme"])] {
        let (is_done, _, said) = start(token, arguments).await;
        assert!(!is_done && said.starts_with("usage: KEYMARK_TOKEN=") && said.lines().count() == 1, "{said}");
    }

    // The external id of another system: no key is generated.
    let (is_done, key, said) = start(token, &["cus_42", "Reports of Acme"]).await;
    assert!(!is_done && key.is_empty() && said.starts_with("NAME_TAKEN: "), "{said}");
    let query = json!({ "query": "{ systems { nodes { name keyMark } } }" });
    let request = server.client.post(format!("{}/graphql", server.public)).bearer_auth(token).json(&query);
    let systems: serde_json::Value = within(request.send()).await.expect("an answer").json().await.expect("JSON");
    let nodes = systems["data"]["systems"]["nodes"].as_array().expect("systems");
    let reports = nodes.iter().find(|node| node["name"] == "Reports of Acme").expect("the second system");
    assert_eq!(reports["keyMark"], serde_json::Value::Null);
}

#[tokio::test]
async fn backend_in_javascript_gives_an_application_a_key() {
    gives_an_application_a_key(Path::new("node"), "backend.mjs").await;
}

#[tokio::test]
async fn backend_in_python_gives_an_application_a_key() {
    gives_an_application_a_key(&python().await, "backend.py").await;
}
