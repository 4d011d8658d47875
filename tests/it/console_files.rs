//! The console's files, as embedded in the binary. `make console` builds them.

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use keymark::http::console;
use tower::ServiceExt as _;

const CONSOLE_ADDRESSES: [&str; 19] = [
    "/",
    "/systems",
    "/systems/new",
    "/systems/01J",
    "/systems/01J/edit",
    "/systems/01J/key",
    "/review",
    "/audit",
    "/administration",
    "/operators",
    "/operators/alice@example.com",
    "/service-tokens",
    "/verifier-tokens",
    "/tenants",
    "/my-sessions",
    "/sign-in",
    "/t/acme",
    "/t/acme/",
    "/t/acme/systems/01J/key",
];

struct Console {
    graphiql: bool,
}

impl Console {
    async fn ask(&self, method: Method, address: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        console::routes(self.graphiql).oneshot(request).await.expect("a response")
    }

    async fn get(&self, address: &str) -> Response<Body> {
        self.ask(Method::GET, address, &[]).await
    }

    async fn get_accepting(&self, address: &str, codings: &str) -> Response<Body> {
        self.ask(Method::GET, address, &[("accept-encoding", codings)]).await
    }
}

const CONSOLE: Console = Console { graphiql: true };

fn header_of<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("an ASCII header"))
}

async fn text_of(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The address of the console's own script, as its page names it.
async fn script() -> String {
    let page = text_of(CONSOLE.get("/").await).await;
    let start = page.find("/assets/").expect("the page names a script: run `make console`");
    let address = &page[start..];
    address[..address.find('"').expect("an attribute ends")].to_owned()
}

fn assert_secure(response: &Response<Body>) {
    let policy = header_of(response, "content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    for part in ["frame-ancestors 'none'", "object-src 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe-eval") && !policy.contains("http"), "{policy}");
    assert_eq!(header_of(response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header_of(response, "referrer-policy"), Some("no-referrer"));
    assert_eq!(header_of(response, "x-frame-options"), Some("DENY"));
    assert_eq!(header_of(response, "cross-origin-opener-policy"), Some("same-origin"));
    assert!(header_of(response, "permissions-policy").is_some());
}

#[tokio::test]
async fn console_is_served_at_each_of_its_addresses() {
    for address in CONSOLE_ADDRESSES {
        let response = CONSOLE.get(address).await;
        assert_eq!(response.status(), StatusCode::OK, "{address}: run `make console`");
        assert_secure(&response);
        let policy = header_of(&response, "content-security-policy").expect("a policy");
        assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(header_of(&response, "content-type"), Some("text/html; charset=utf-8"));
        assert!(text_of(response).await.contains("<div id=\"console\">"), "{address}");
    }
}

#[tokio::test]
async fn graphiql_is_served_unless_disabled() {
    let response = CONSOLE.get("/graphiql").await;
    assert_eq!(response.status(), StatusCode::OK, "run `make console`");
    assert_secure(&response);
    assert!(text_of(response).await.contains("<div id=\"graphiql\">"));

    let response = Console { graphiql: false }.get("/graphiql").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_secure(&response);
}

#[tokio::test]
async fn pages_load_nothing_from_other_hosts() {
    for address in ["/", "/graphiql"] {
        let page = text_of(CONSOLE.get(address).await).await;
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("=\"//"), "{page}");
    }
}

#[tokio::test]
async fn hashed_files_are_immutable_and_others_are_revalidated() {
    let response = CONSOLE.get(&script().await).await;
    assert_eq!(header_of(&response, "cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(header_of(&response, "content-type"), Some("text/javascript; charset=utf-8"));
    assert_secure(&response);
    for address in ["/", "/graphiql", "/favicon.svg"] {
        assert_eq!(header_of(&CONSOLE.get(address).await, "cache-control"), Some("no-cache"), "{address}");
    }
}

#[tokio::test]
async fn response_has_the_encoding_that_the_client_prefers() {
    let script = script().await;
    for (accepted, expected) in [
        ("gzip, deflate, br, zstd", Some("br")),
        ("gzip", Some("gzip")),
        ("br;q=0.5, gzip;q=0.9", Some("gzip")),
        ("br;q=0, gzip", Some("gzip")),
        ("BR; Q=1", Some("br")),
        ("*", Some("br")),
        ("br;q=0, *;q=0.1", Some("gzip")),
        ("identity, br;q=0.2", None),
        ("gzip;q=0, br;q=0", None),
        ("*;q=0", None),
        ("zstd", None),
        ("br;q=much", None),
        ("", None),
    ] {
        let response = CONSOLE.get_accepting(&script, accepted).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(&response, "content-encoding"), expected, "{accepted}");
        assert_eq!(header_of(&response, "vary"), Some("accept-encoding"));
    }
    assert_eq!(header_of(&CONSOLE.get(&script).await, "content-encoding"), None);
}

#[tokio::test]
async fn unchanged_file_is_not_sent_again() {
    let script = script().await;
    let brotli = CONSOLE.get_accepting(&script, "br").await;
    let tag = header_of(&brotli, "etag").expect("a tag");
    assert!(tag.starts_with('"'), "{tag} is strong");
    for known in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
        let headers = [("accept-encoding", "br"), ("if-none-match", known)];
        let response = CONSOLE.ask(Method::GET, &script, &headers).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header_of(&response, "etag"), Some(tag));
        assert_eq!(header_of(&response, "cache-control"), header_of(&brotli, "cache-control"));
        assert_eq!(header_of(&response, "vary"), header_of(&brotli, "vary"));
        assert_secure(&response);
        assert_eq!(text_of(response).await, "");
    }
    let headers = [("accept-encoding", "gzip"), ("if-none-match", tag)];
    let gzip = CONSOLE.ask(Method::GET, &script, &headers).await;
    assert_eq!(gzip.status(), StatusCode::OK, "another encoding is another representation");
    assert_ne!(header_of(&gzip, "etag"), Some(tag));
}

#[tokio::test]
async fn head_returns_the_headers_of_get_without_a_body() {
    let script = script().await;
    for address in ["/", &script, "/nowhere"] {
        let get = CONSOLE.get(address).await;
        let head = CONSOLE.ask(Method::HEAD, address, &[]).await;
        assert_eq!(head.status(), get.status());
        assert_eq!(head.headers(), get.headers());
        let length = header_of(&get, "content-length").expect("a length").to_owned();
        assert_eq!(text_of(get).await.len().to_string(), length);
        assert_eq!(text_of(head).await, "");
    }
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for address in ["/", "/systems/new", "/graphiql", &script().await] {
            let response = CONSOLE.ask(method.clone(), address, &[]).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {address}");
            assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
            assert_secure(&response);
        }
    }
}

#[tokio::test]
async fn unknown_paths_are_not_found_with_the_same_security_headers() {
    let script = script().await;
    for address in [
        "/nowhere",
        "/systemsandmore",
        "/audit/export/more",
        "/t/",
        "/t//systems",
        "/t/acme/graphiql",
        "/t/acme/elsewhere",
        "/t/acme/favicon.svg",
        "/tenants/acme",
        "/index.html",
        "/graphiql.html",
        "/assets",
        "/assets/",
        "/assets/none.js",
        "/../Cargo.toml",
        "/assets/../../../Cargo.toml",
        "/assets/%2e%2e/index.html",
        "//etc/passwd",
        "/.vite/manifest.json",
        &format!("{script}.br"),
        &format!("{script}.gz"),
        &format!("{script}.map"),
    ] {
        let response = CONSOLE.get(address).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{address}");
        assert_secure(&response);
        assert_eq!(header_of(&response, "cache-control"), Some("no-store"));
        assert!(text_of(response).await.contains("Not found"), "{address}");
    }
}

#[test]
fn only_files_that_browsers_load_are_embedded() {
    let files: Vec<_> = console::embedded_files().collect();
    assert!(!files.is_empty(), "run `make console`");
    for file in files {
        let file = file.trim_end_matches(".br").trim_end_matches(".gz");
        assert!(!file.starts_with('.'), "{file}");
        assert!([".html", ".js", ".css", ".svg", ".ttf"].iter().any(|end| file.ends_with(end)), "{file}");
    }
}
