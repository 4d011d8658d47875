//! TLS of both listeners, on the binary: versions, files, reloads and client certificates.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value as Json, json};
use tokio::process::Command;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::certificates::{Authority, Issued, TlsClient};
use crate::support::process::{Server, directory, keymark, run};
use crate::support::within;

const PASSWORD: &str = "given and long enough";
const VARIABLES: [(&str, &str); 1] = [("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD)];

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn address(origin: &str) -> SocketAddr {
    origin.rsplit('/').next().expect("an address").parse().expect("an address")
}

fn der(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("PEM")
}

/// Starts a server whose verification listener has this certificate.
async fn verification_over_tls(directory: &Path, Issued { certificate, key }: &Issued, more: &[&str]) -> Server {
    let files = ["--verify-tls-cert", text(certificate), "--verify-tls-key", text(key)];
    Server::start_with(directory, &VARIABLES, &[&files, more].concat()).await
}

/// Starts a server both of whose listeners have this certificate.
async fn both_over_tls(directory: &Path, issued: &Issued) -> Server {
    let more = ["--tls-cert", text(&issued.certificate), "--tls-key", text(&issued.key)];
    verification_over_tls(directory, issued, &more).await
}

/// Creates a system; returns its key.
async fn generate_key(server: &Server) -> String {
    let token = server.sign_in("admin", PASSWORD).await;
    server.generate_key(&token, "Billing").await.1
}

/// Runs a program; returns its exit code and all that it printed.
async fn output(program: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = within(output).await.unwrap_or_else(|error| panic!("{program}: {error}: see scripts/need.sh"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("an exit code"), text)
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_served_and_older_versions_are_refused() {
    let (authority, directory) = (Authority::new(), directory());
    let server = both_over_tls(directory.path(), &authority.issue("server")).await;
    let ca = authority.certificate();
    for origin in [&server.public, &server.verification] {
        let address = address(origin).to_string();
        let handshake = async |version: &str| {
            let arguments = ["s_client", "-connect", &address, "-CAfile", text(&ca), "-verify_return_error", version];
            output("openssl", &[&arguments[..], &["-alpn", "h2,http/1.1", "-cipher", "DEFAULT:@SECLEVEL=0"]].concat())
                .await
        };
        for (version, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let (code, said) = handshake(version).await;
            assert_eq!(code, 0, "{said}");
            assert!(said.contains(&format!("New, {protocol}, Cipher is")), "{said}");
            assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        }
        for version in ["-tls1", "-tls1_1"] {
            let (code, said) = handshake(version).await;
            assert!(code == 1 && said.contains(" alert "), "{version}: {said}");
        }
    }
}

#[tokio::test]
async fn responses_over_tls_have_hsts_and_cookies_of_this_host_alone() {
    let (authority, directory) = (Authority::new(), directory());
    let server = both_over_tls(directory.path(), &authority.issue("server")).await;
    let ca = authority.certificate();
    let curl = async |url: &str, more: &[&str]| {
        let (code, said) = output("curl", &[&["-sSi", "--cacert", text(&ca), url][..], more].concat()).await;
        assert_eq!(code, 0, "{said}");
        said.to_ascii_lowercase()
    };
    let body = json!({
        "query": "mutation ($p: String!) { signIn(username: \"admin\", password: $p) { viewer { username } } }",
        "variables": { "p": PASSWORD },
    });
    let localhost = server.public.replace("127.0.0.1", "localhost");
    let graphql = format!("{localhost}/graphql");
    let origin = format!("origin: {localhost}");
    let body = body.to_string();
    let signed_in = curl(&graphql, &["-H", "content-type: application/json", "-H", &origin, "-d", &body]).await;
    assert!(signed_in.contains("strict-transport-security: max-age=31536000"), "{signed_in}");
    let cookie =
        signed_in.lines().find(|line| line.starts_with("set-cookie: __host-keymark-session=")).expect("a cookie");
    for part in ["; secure", "; httponly", "; path=/"] {
        assert!(cookie.contains(part) && !cookie.contains("domain"), "{cookie}");
    }
    for origin in [&server.public, &server.verification] {
        assert!(curl(&format!("{origin}/healthz"), &[]).await.starts_with("http/1.1 200"));
        let plain = curl(&origin.replace("https:", "http:"), &[]).await;
        assert!(plain.starts_with("http/1.1 400") && plain.contains("https only"), "{plain}");
    }
}

#[tokio::test]
async fn subscriptions_work_over_tls() {
    let (authority, directory) = (Authority::new(), directory());
    let server = both_over_tls(directory.path(), &authority.issue("server")).await;
    let client = TlsClient::connect(&authority.connector(None), address(&server.public)).await.expect("a connection");
    let mut request = "wss://localhost/graphql".into_client_request().expect("a request");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("graphql-transport-ws"));
    let (mut socket, response) = within(client_async(request, client.into_stream())).await.expect("upgraded");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);

    let mut api = TlsClient::connect(&authority.connector(None), address(&server.public)).await.expect("a connection");
    let mut execute = async |token: &str, query: &str| {
        let body = json!({ "query": query }).to_string();
        let head = "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        let length = body.len();
        let request = format!("{head}{token}\r\ncontent-length: {length}\r\n\r\n{body}");
        api.send(&request).await.expect("sent");
        api.receive().await.expect("an answer").json()
    };
    let sign_in = format!("mutation {{ signIn(username: \"admin\", password: \"{PASSWORD}\") {{ token }} }}");
    let signed_in = execute("", &sign_in).await;
    let token = format!("Bearer {}", signed_in.pointer("/data/signIn/token").and_then(Json::as_str).expect("a token"));
    let header = format!("\r\nauthorization: {token}");
    let mut say = async |message: Json| within(socket.send(Message::text(message.to_string()))).await.expect("sent");
    say(json!({ "type": "connection_init", "payload": { "authorization": token } })).await;
    let query = "subscription { systemChanged { system { name } } }";
    say(json!({ "type": "subscribe", "id": "1", "payload": { "query": query } })).await;
    // The server has begun the subscription when it answers a ping that was sent after it.
    say(json!({ "type": "ping" })).await;
    let mut received = async |kind: &str| loop {
        let message = within(socket.next()).await.expect("a message").expect("a message");
        let message: Json = serde_json::from_str(message.to_text().expect("text")).unwrap_or_default();
        if message["type"] == kind {
            break message;
        }
    };
    received("pong").await;
    execute(&header, "mutation { createSystem(name: \"Over TLS\") { system { id } } }").await;
    assert_eq!(received("next").await["payload"]["data"]["systemChanged"]["system"]["name"], "Over TLS");
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let (authority, directory) = (Authority::new(), directory());
    let (first, second) = (authority.issue("first"), authority.issue("second"));
    authority.openssl("ec -in first.key -aes128 -passout pass:secret -out locked.key");
    authority.openssl("pkcs8 -topk8 -in first.key -passout pass:secret -out encrypted.key");
    let (empty, broken) = (authority.path("empty"), authority.path("broken"));
    std::fs::write(&empty, "").expect("written");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("written");
    let missing = authority.path("missing");
    let encrypted = authority.path("encrypted.key");
    for (setting, certificate, key, reason) in [
        ("cert", &missing, &first.key, "No such file or directory"),
        ("cert", &empty, &first.key, "contains no certificate in PEM"),
        ("cert", &first.key, &first.key, "contains no certificate in PEM"),
        ("cert", &broken, &first.key, "the first certificate cannot be read"),
        ("key", &first.certificate, &missing, "No such file or directory"),
        ("key", &first.certificate, &empty, "contains no private key in PEM"),
        ("key", &first.certificate, &encrypted, "the key is encrypted; write it without a passphrase"),
        ("key", &first.certificate, &second.key, "does not belong to the certificate in"),
    ] {
        for prefix in ["", "verify-"] {
            let [cert_flag, key_flag] = ["cert", "key"].map(|name| format!("--{prefix}tls-{name}"));
            let arguments = ["serve", &cert_flag, text(certificate), &key_flag, text(key)];
            let data = [("KEYMARK_DATA_DIR", text(directory.path()))];
            let (code, _, said) = run(&data, &arguments).await;
            assert_eq!((code, said.lines().count()), (2, 1), "{said}");
            let named = if setting == "cert" { certificate } else { key };
            let expected = format!("keymark: --{prefix}tls-{setting}: {}: {reason}", named.display());
            assert!(said.starts_with(&expected), "{said}");
            let (code, out, _) = run(&data, &[&["doctor"], &arguments[1..]].concat()).await;
            assert!(code == 1 && out.contains(&format!("failed   --{prefix}tls-{setting}: ")), "{out}");
        }
    }
    let arguments = ["serve", "--verify-tls-cert", text(&first.certificate), "--verify-tls-key", text(&first.key)];
    let (code, _, said) = run(&[], &[&arguments[..], &["--verify-client-ca", text(&empty)]].concat()).await;
    assert!(code == 2 && said.contains("--verify-client-ca: ") && said.contains("no certificate"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing was created");
}

#[tokio::test]
async fn listener_with_tls_may_leave_loopback() {
    let (authority, directory) = (Authority::new(), directory());
    let Issued { certificate, key } = authority.issue("server");
    let data = [("KEYMARK_DATA_DIR", text(directory.path()))];
    let listen = ["doctor", "--listen", "0.0.0.0:0", "--verify-listen", "127.0.0.1:0"];
    assert_eq!(run(&data, &listen).await.0, 2);
    let files = ["--tls-cert", text(&certificate), "--tls-key", text(&key)];
    let (code, out, _) = run(&data, &[&listen[..], &files].concat()).await;
    assert!(code == 0 && out.contains("ok       --tls-cert: the certificate and its key belong together"), "{out}");
}

#[tokio::test]
async fn expired_certificate_is_reported() {
    let (authority, directory) = (Authority::new(), directory());
    let expired = authority.issue_expired("expired");
    let server = verification_over_tls(directory.path(), &expired, &[]).await;
    assert!(server.log().contains("TLS certificate has expired; clients refuse it"), "{}", server.log());
    assert!(TlsClient::connect(&authority.connector(None), address(&server.verification)).await.is_err());
    server.stop().await;
    let files = ["doctor", "--tls-cert", text(&expired.certificate), "--tls-key", text(&expired.key)];
    let (code, out, _) = run(&[("KEYMARK_DATA_DIR", text(directory.path()))], &files).await;
    assert!(code == 1 && out.contains("failed   --tls-cert: the certificate has expired at "), "{out}");
}

/// Verifies a key all the time, on connections that are kept and on new ones.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<usize>>,
}

impl Load {
    fn start(authority: &Authority, address: SocketAddr, key: &str) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let tasks = (0..6).map(|n| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let (connector, key) = (authority.connector(None), key.to_owned());
            tokio::spawn(async move {
                let connect = async || TlsClient::connect(&connector, address).await.expect("a connection");
                let (mut client, mut valid) = (connect().await, 0);
                while !stop.load(Ordering::Relaxed) {
                    if n % 2 == 1 {
                        client = connect().await;
                    }
                    let answer = client.verify(&key).await.expect("an answer");
                    assert_eq!((answer.status, &answer.json()["code"]), (200, &json!("VALID")), "{}", answer.body);
                    assert!(!answer.head.contains("connection: close"), "{}", answer.head);
                    valid += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                valid
            })
        });
        let tasks = tasks.collect();
        Self { stop, done, tasks }
    }

    /// Waits until this many more verifications have been answered.
    async fn run_for(&self, verifications: usize) {
        let end = self.done.load(Ordering::Relaxed) + verifications;
        within(async {
            while self.done.load(Ordering::Relaxed) < end {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert!(within(task).await.expect("no request failed") > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_certificate_is_used_and_no_request_fails() {
    let (authority, directory) = (Authority::new(), directory());
    let (served, next, other) = (authority.issue("served"), authority.issue("next"), authority.issue("other"));
    let mut server = verification_over_tls(directory.path(), &served, &["--log", "info"]).await;
    let verification = address(&server.verification);
    let key = generate_key(&server).await;
    let connector = authority.connector(None);
    let presented =
        async || TlsClient::connect(&connector, verification).await.expect("connected").server_certificate();
    let metric = async |name: &str| {
        let mut client = TlsClient::connect(&connector, verification).await.expect("connected");
        let text = client.get("/metrics").await.expect("metrics").body;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().expect("a value").parse::<i64>().expect("a number")
    };
    let before = der(&served.certificate);
    let mut kept = TlsClient::connect(&connector, verification).await.expect("connected");
    assert_eq!(kept.verify(&key).await.expect("an answer").status, 200);
    let load = Load::start(&authority, verification, &key);
    load.run_for(100).await;

    // Only the certificate, as while somebody copies both: it does not belong to the key.
    std::fs::copy(&next.certificate, &served.certificate).expect("copied");
    server.signal("HUP").await;
    server.wait_for("TLS certificate not reloaded; the one before stays in use").await;
    load.run_for(100).await;
    assert_eq!(presented().await, before);

    next.replace(&served.certificate, &served.key);
    server.signal("HUP").await;
    server.wait_for("TLS certificate reloaded").await;
    load.run_for(100).await;
    assert_eq!(presented().await, der(&next.certificate));
    let (failed, reloaded) =
        (r#"keymark_tls_reloads_total{listener="verification",outcome="failed"}"#, r#"outcome="reloaded"}"#);
    assert_eq!((metric(failed).await, metric(&failed.replace(r#"outcome="failed"}"#, reloaded)).await), (1, 1));
    let expiry = metric("keymark_tls_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > 1_700_000_000, "{expiry}");

    // The connection of before is still open.
    assert_eq!(kept.verify(&key).await.expect("an answer").status, 200);
    assert_eq!(kept.server_certificate(), before);
    other.replace(&served.certificate, &served.key);
    server.signal("HUP").await;
    load.run_for(100).await;
    load.end().await;
    assert_eq!(metric("keymark_tls_handshakes_failed_total").await, 0);
    server.stop().await;
}

#[tokio::test]
async fn files_behind_a_replaced_symlink_are_found_without_a_signal() {
    let (authority, directory) = (Authority::new(), directory());
    // The volume of a Secret: `..data` is a link to a folder, which the kubelet replaces.
    let volume = |name: &str, issued: &Issued| {
        let folder = authority.path(name);
        std::fs::create_dir(&folder).expect("created");
        issued.replace(&folder.join("tls.crt"), &folder.join("tls.key"));
        folder
    };
    let (first, second) = (authority.issue("first"), authority.issue("second"));
    let (data, draft) = (authority.path("..data"), authority.path("..data_tmp"));
    symlink(volume("1", &first), &data).expect("linked");
    let files = Issued { certificate: data.join("tls.crt"), key: data.join("tls.key") };
    let mut server = verification_over_tls(directory.path(), &files, &[]).await;
    symlink(volume("2", &second), &draft).expect("linked");
    std::fs::rename(&draft, &data).expect("renamed");
    server.wait_for("TLS certificate reloaded").await;
    let client =
        TlsClient::connect(&authority.connector(None), address(&server.verification)).await.expect("connected");
    assert_eq!(client.server_certificate(), der(&second.certificate));
}

#[tokio::test]
async fn client_certificate_gives_access_and_its_lack_does_not() {
    let (authority, directory, clients, others) = (Authority::new(), directory(), Authority::new(), Authority::new());
    let served = authority.issue("server");
    let ca = clients.certificate();
    let mut server = verification_over_tls(directory.path(), &served, &["--verify-client-ca", text(&ca)]).await;
    let verification = address(&server.verification);
    let key = generate_key(&server).await;
    let connect = async |identity: Option<&Issued>| {
        TlsClient::connect(&authority.connector(identity), verification).await.expect("connected")
    };
    let mut certified = connect(Some(&clients.issue("gateway"))).await;
    assert_eq!(certified.verify(&key).await.expect("an answer").json()["code"], "VALID");
    assert_eq!(certified.get("/metrics").await.expect("an answer").status, 200);

    let mut nobody = connect(None).await;
    let refused = nobody.verify(&key).await.expect("an answer");
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("FORBIDDEN")));
    assert_eq!(nobody.get("/metrics").await.expect("an answer").status, 403);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(nobody.get(path).await.expect("an answer").status, 200, "{path}");
    }
    // In TLS 1.3 the client learns of the refusal only when it reads.
    for refused in [others.issue("stranger"), clients.issue_expired("late")] {
        let mut client = connect(Some(&refused)).await;
        assert!(client.verify(&key).await.is_err());
    }

    // Another CA replaces the first one: connections stay, and give no access.
    std::fs::copy(others.certificate(), &ca).expect("copied");
    server.signal("HUP").await;
    server.wait_for("TLS certificate reloaded").await;
    assert_eq!(certified.verify(&key).await.expect("an answer").status, 403);
    let mut other = connect(Some(&others.issue("other"))).await;
    assert_eq!(other.verify(&key).await.expect("an answer").status, 200);
    server.stop().await;
}

#[tokio::test]
async fn client_certificate_admits_beside_a_token_and_networks() {
    let (authority, directory, clients) = (Authority::new(), directory(), Authority::new());
    let served = authority.issue("server");
    let ca = clients.certificate();
    let gateway = clients.issue("gateway");
    for (variable, value) in [("KEYMARK_VERIFIER_TOKEN", "0123456789abcdef"), ("KEYMARK_VERIFY_ALLOW", "10.0.0.0/8")] {
        let variables = [VARIABLES[0], (variable, value)];
        let arguments = [
            "--verify-tls-cert",
            text(&served.certificate),
            "--verify-tls-key",
            text(&served.key),
            "--verify-client-ca",
            text(&ca),
        ];
        let server = Server::start_with(directory.path(), &variables, &arguments).await;
        let verification = address(&server.verification);
        for (identity, status) in [(Some(&gateway), 200), (None, 403)] {
            let mut client = TlsClient::connect(&authority.connector(identity), verification).await.expect("connected");
            assert_eq!(client.get("/metrics").await.expect("an answer").status, status, "{variable}");
        }
        server.stop().await;
    }
    let mut command = keymark();
    command.env("KEYMARK_DATA_DIR", directory.path());
    command.args(["--verify-tls-cert", text(&served.certificate), "--verify-tls-key", text(&served.key)]);
    command.args([
        "--verify-client-ca",
        text(&ca),
        "doctor",
        "--verify-listen",
        "0.0.0.0:0",
        "--listen",
        "127.0.0.1:0",
    ]);
    let output = within(command.output()).await.expect("the binary runs");
    assert!(output.status.success(), "a CA suffices beyond loopback: {}", String::from_utf8_lossy(&output.stdout));
}
