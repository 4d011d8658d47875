//! Serves the console's and GraphiQL's files, which are embedded in the binary.

use std::borrow::Cow;

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        ETAG, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::accept::preferences;
use super::conditional::is_known;

/// The files that `make console` built, each with a `.br` and a `.gz` if these are smaller.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/console/dist"]
#[allow_missing = true]
struct Files;

const CONSOLE: &str = "index.html";
const GRAPHIQL: &str = "graphiql.html";

const CONSOLE_POLICY: &str = "default-src 'self'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'; \
     form-action 'self'; require-trusted-types-for 'script'";
/// GraphiQL's editor adds inline styles and starts workers by URL, which trusted types would refuse.
const GRAPHIQL_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     frame-ancestors 'none'; object-src 'none'; base-uri 'none'; form-action 'self'";

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// Content codings in order of preference, with the suffix of their files.
const CODINGS: [(&str, &str); 3] = [("br", ".br"), ("gzip", ".gz"), ("identity", "")];

/// Vite names the files under `assets/` by a hash of their content.
const HASHED_FOLDER: &str = "assets/";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

const NOT_BUILT_PAGE: &str = "<!doctype html><html lang=\"en\"><title>Keymark</title><h1>The console is not part of this \
     build</h1><p>Run <code>make console</code>, then build Keymark again. The API works without it.</p></html>";
const NOT_FOUND: &str = "<!doctype html><html lang=\"en\"><title>Not found – Keymark</title>\
     <link rel=\"icon\" href=\"/favicon.svg\"><h1>Not found</h1><p>There is nothing at this address. \
     <a href=\"/systems\">Go to the console</a></p></html>";
const NOT_ALLOWED: &str = "<!doctype html><html lang=\"en\"><title>Method not allowed – Keymark</title>\
     <h1>Method not allowed</h1><p>This address can only be read.</p></html>";

/// The console's page at its addresses, GraphiQL at `/graphiql` if it is enabled, the files of both, and 404 for anything
/// else. It is the router's fallback: merge it into a router without one.
pub fn routes(graphiql: bool) -> Router {
    Router::new().fallback(async move |request: Request| {
        let file = file_at(request.uri().path(), graphiql);
        let mut response = answer(file, &request);
        secure(&mut response, if file == Some(GRAPHIQL) { GRAPHIQL_POLICY } else { CONSOLE_POLICY });
        if request.method() == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        response
    })
}

/// The paths of the embedded files under `console/dist`; none if the console was not built.
pub fn embedded_files() -> impl Iterator<Item = Cow<'static, str>> {
    Files::iter()
}

/// The file for an address. Pages have addresses of their own, and encodings are negotiated, not requested by name.
fn file_at(path: &str, graphiql: bool) -> Option<&str> {
    match path {
        _ if is_page(without_tenant(path)) => Some(CONSOLE),
        "/graphiql" => graphiql.then_some(GRAPHIQL),
        _ => path.strip_prefix('/').filter(|file| ![".html", ".br", ".gz"].iter().any(|end| file.ends_with(end))),
    }
}

/// The path of a page, without the tenant that it is about: `/systems` for `/t/acme/systems`.
fn without_tenant(path: &str) -> &str {
    let tenant = path.strip_prefix("/t/").and_then(|rest| rest.split('/').next());
    match tenant.filter(|tenant| !tenant.is_empty()) {
        Some(tenant) => &path["/t/".len() + tenant.len()..],
        None => path,
    }
}

/// Whether the console has a page at a path, or may have one.
fn is_page(path: &str) -> bool {
    matches!(
        path,
        "" | "/"
            | "/systems"
            | "/review"
            | "/audit"
            | "/administration"
            | "/operators"
            | "/service-tokens"
            | "/verifier-tokens"
            | "/tenants"
            | "/my-sessions"
            | "/sign-in"
    ) || ["/systems/", "/operators/"].iter().any(|start| path.starts_with(start))
}

fn answer(file: Option<&str>, request: &Request) -> Response {
    let Some(file) = file else { return page(StatusCode::NOT_FOUND, NOT_FOUND) };
    let Some(plain) = Files::get(file) else {
        return match file {
            CONSOLE | GRAPHIQL => page(StatusCode::SERVICE_UNAVAILABLE, NOT_BUILT_PAGE),
            _ => page(StatusCode::NOT_FOUND, NOT_FOUND),
        };
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, NOT_ALLOWED);
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let (coding, encoded) = negotiate(file, request.headers()).unwrap_or(("identity", plain));
    let tag = entity_tag(&encoded);
    let mut response = if is_known(&tag, request.headers()) {
        let mut unchanged = Response::new(Body::empty());
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let mut found = with_body(StatusCode::OK, content_type(file), bytes_of(encoded));
        if coding != "identity" {
            found.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        found
    };
    let caching = if file.starts_with(HASHED_FOLDER) { IMMUTABLE } else { "no-cache" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    response.headers_mut().insert(ETAG, tag);
    response
}

/// The file in the encoding that the client prefers, ours deciding between equals (RFC 9110, section 12.5.3). `None` if
/// the client accepts none of those that exist: it then gets the file unencoded.
fn negotiate(file: &str, headers: &HeaderMap) -> Option<(&'static str, EmbeddedFile)> {
    let mut best: Option<(u16, &'static str, EmbeddedFile)> = None;
    for (coding, extension) in CODINGS {
        let weight = weight_of(coding, headers);
        if weight > best.as_ref().map_or(0, |(best, ..)| *best)
            && let Some(encoded) = Files::get(&format!("{file}{extension}"))
        {
            best = Some((weight, coding, encoded));
        }
    }
    best.map(|(_, coding, encoded)| (coding, encoded))
}

/// The weight of a coding in thousandths; 0 if the client does not list it.
fn weight_of(coding: &str, headers: &HeaderMap) -> u16 {
    let listed =
        |wanted: &str| preferences(headers, ACCEPT_ENCODING).find(|item| item.name == wanted).map(|item| item.weight);
    listed(coding).or_else(|| listed("*")).flatten().unwrap_or(0)
}

/// A strong entity tag. It is derived from the bytes that are sent, so each encoding of a file has its own.
fn entity_tag(encoded: &EmbeddedFile) -> HeaderValue {
    let hash = encoded.metadata.sha256_hash();
    let hex = hex::encode(&hash[..16]);
    HeaderValue::try_from(format!("\"{hex}\"")).expect("hexadecimal digits are a header's")
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "ttf" => "font/ttf",
        _ => "application/octet-stream",
    }
}

fn bytes_of(file: EmbeddedFile) -> Bytes {
    match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

fn page(status: StatusCode, html: &'static str) -> Response {
    let mut response = with_body(status, content_type(CONSOLE), Bytes::from_static(html.as_bytes()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_body(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response {
    let length = HeaderValue::from(bytes.len());
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

fn secure(response: &mut Response, policy: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
