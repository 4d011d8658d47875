//! `keymark health`, the version, and what a release contains besides the binary.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::certificates::{Authority, Issued};
use crate::support::process::{Server, directory, run};

#[tokio::test]
async fn health_succeeds_while_the_server_of_the_configuration_is_ready() {
    let directory = directory();
    let mut server = Server::start(directory.path()).await;
    server.wait_for(" serving version=").await;
    let (listen, public) = (server.address().to_string(), server.public.clone());
    let anywhere = listen.replace("127.0.0.1", "0.0.0.0");
    let ready = (0, "ready\n".to_owned(), String::new());
    let variables = [("KEYMARK_LISTEN", listen.as_str())];
    assert_eq!(run(&variables, &["health"]).await, ready);
    assert_eq!(run(&[("KEYMARK_LISTEN", &anywhere), ("KEYMARK_INSECURE_HTTP", "on")], &["health"]).await, ready);
    assert_eq!(run(&[], &["health", "--url", &public]).await, ready);
    server.stop().await;

    let (code, out, err) = run(&variables, &["health"]).await;
    assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
    assert!(err.starts_with(&format!("keymark: not ready: {public}/readyz: ")), "{err}");
    let (code, _, err) = run(&[], &["health", "--url", "keymark:8080"]).await;
    assert!(code == 2 && err.contains("expected a URL such as http://127.0.0.1:8080/readyz"), "{err}");
}

#[tokio::test]
async fn health_accepts_the_certificate_of_the_listener_whatever_its_name_and_end() {
    let (authority, directory) = (Authority::new(), directory());
    let Issued { certificate, key } = authority.issue_expired("expired");
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
    let files = [("KEYMARK_TLS_CERT", certificate), ("KEYMARK_TLS_KEY", key)];
    let mut server = Server::start_with(directory.path(), &files, &[]).await;
    server.wait_for(" serving version=").await;
    let listen = server.address().to_string();
    let ready = (0, "ready\n".to_owned(), String::new());
    assert_eq!(run(&[files[0], files[1], ("KEYMARK_LISTEN", &listen)], &["health"]).await, ready);
    assert_eq!(run(&[], &["health", "--url", &server.public]).await, ready);
    let (code, _, err) = run(&[("KEYMARK_LISTEN", listen.as_str())], &["health"]).await;
    assert!(code == 1 && err.starts_with("keymark: not ready: http://"), "plain HTTP: {err}");
    server.stop().await;
}

#[tokio::test]
async fn health_reports_why_a_server_is_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listen = listener.local_addr().expect("an address").to_string();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.expect("a request");
        let response = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 11\r\n\r\nnot loaded\n";
        stream.write_all(response.as_bytes()).await.expect("written");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let (code, out, err) = run(&[("KEYMARK_LISTEN", &listen)], &["health"]).await;
    let expected = format!("keymark: not ready: http://{listen}/readyz: 503 Service Unavailable: not loaded\n");
    assert_eq!((code, out.as_str(), err), (1, "", expected));
    let request = answering.await.expect("answered");
    assert!(request.starts_with("GET /readyz HTTP/1.1\r\n") && request.contains(&format!("host: {listen}\r\n")));
}

#[tokio::test]
async fn version_names_the_release_and_its_source() {
    let (code, out, _) = run(&[], &["--version"]).await;
    let expected = format!("keymark {} (debug build)\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((code, out), (0, expected), "a release build names its commit: scripts/dist-twice.sh");
}

#[tokio::test]
async fn completions_and_manual_pages_cover_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&[], &["completions", shell]).await;
        assert!(code == 0 && out.contains("verifier-token") && out.contains("health"), "{shell}: {out}");
    }
    let directory = directory();
    assert_eq!(run(&[], &["man", directory.path().to_str().unwrap()]).await.0, 0);
    let page =
        |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap_or_else(|_| panic!("no {name}"));
    assert!(page("keymark.1").contains("KEYMARK_SECRET") && page("keymark.1").contains("verify\\-listen"));
    assert!(page("keymark-operator-add.1").contains("password\\-stdin"));
}
