//! Small HTTP/1.1 requests, read and answered without hyper.
//!
//! hyper prepares each request for a body in pieces, an upgrade, and a client that disconnects meanwhile. For a request that
//! takes microseconds, that is a quarter of its time in this process. So requests that arrive whole, and say nothing about
//! the connection or the length of their body but the usual, are read here, with the parser that hyper has too.
//! Whatever else arrives is hyper's, which alone decides what it means.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, response};
use http_body_util::Full;
use httparse::{Header, ParserConfig, Status};
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::domain::time::Timestamp;

/// How many bytes are read for a request with its head. Larger ones are never whole here.
pub(super) const MAX_BYTES: usize = 4096;
const MAX_HEADERS: usize = 32;
/// Digits of `Content-Length`: enough for [`MAX_BYTES`].
const MAX_LENGTH_DIGITS: usize = 4;
/// Headers that concern the connection, or the length of the body.
const HEADERS_OF_OTHERS: [&str; 5] = ["transfer-encoding", "expect", "upgrade", "te", "trailer"];

/// The request that the bytes begin with, and its length in bytes. It has those of its headers that are in `headers`.
/// `None`: it is not whole, or not small.
pub(super) fn parse(bytes: &[u8], headers: &[HeaderName]) -> Option<(Request<Full<Bytes>>, usize)> {
    let mut parsed = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let status = ParserConfig::default().parse_request_with_uninit_headers(&mut head, bytes, &mut parsed);
    let Ok(Status::Complete(head_length)) = status else { return None };
    let is_http_1_1 = head.version == Some(1);
    let target = head.path.filter(|target| is_http_1_1 && target.starts_with('/'))?;
    let mut request = Request::new(());
    *request.method_mut() = match head.method? {
        "GET" => Method::GET,
        "POST" => Method::POST,
        _ => return None,
    };
    *request.uri_mut() = target.parse().ok()?;
    let mut length = None;
    for Header { name, value } in &*head.headers {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("content-length") {
            if length.replace(parse_length(value)?).is_some() {
                return None;
            }
        } else if HEADERS_OF_OTHERS.into_iter().any(is)
            || (is("connection") && !value.eq_ignore_ascii_case(b"keep-alive"))
        {
            return None;
        } else if let Some(name) = headers.iter().find(|header| is(header.as_str())) {
            request.headers_mut().append(name.clone(), HeaderValue::from_bytes(value).ok()?);
        }
    }
    let end = head_length + length.unwrap_or(0);
    let body = Bytes::copy_from_slice(bytes.get(head_length..end)?);
    Some((request.map(|()| Full::new(body)), end))
}

fn parse_length(value: &[u8]) -> Option<usize> {
    let is_short = (1..=MAX_LENGTH_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_short.then(|| value.iter().fold(0, |length, digit| 10 * length + usize::from(digit - b'0')))
}

/// Writes responses, with the headers for their length and date.
#[derive(Default)]
pub(super) struct ResponseWriter {
    /// `Date` of the responses in this second since the epoch.
    date: (i64, String),
    bytes: Vec<u8>,
}

impl ResponseWriter {
    /// The response as it is sent at `now`.
    pub(super) fn write(&mut self, head: &response::Parts, body: &[u8], now: Timestamp) -> &[u8] {
        self.bytes.clear();
        self.extend(&[b"HTTP/1.1 ", head.status.as_str().as_bytes(), b" "]);
        self.extend(&[head.status.canonical_reason().unwrap_or_default().as_bytes(), b"\r\n"]);
        for (name, value) in &head.headers {
            self.extend(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        self.update_date(now);
        self.extend(&[b"content-length: ", body.len().to_string().as_bytes(), b"\r\ndate: "]);
        self.bytes.extend_from_slice(self.date.1.as_bytes());
        self.extend(&[b"\r\n\r\n", body]);
        &self.bytes
    }

    fn extend(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    fn update_date(&mut self, now: Timestamp) {
        let second = now.as_millis().div_euclid(1000);
        if self.date.0 != second || self.date.1.is_empty() {
            let time = jiff::Timestamp::from_second(second).unwrap_or_default();
            let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&time).expect("a year of four digits");
            self.date = (second, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;

    use futures::executor::block_on;
    use http::header::HOST;
    use http::{HeaderMap, Response, StatusCode, Uri};
    use http_body_util::{BodyExt, Collected};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    static HEADERS: [HeaderName; 2] = [HOST, HeaderName::from_static("x-api-key")];

    /// A request as a handler sees it. Its body is `None` if it is not whole.
    type Seen = (Method, Uri, HeaderMap, Option<Bytes>);

    async fn see<B: hyper::body::Body>(request: Request<B>) -> Seen {
        let (mut head, body) = request.into_parts();
        for name in head.headers.keys().cloned().collect::<Vec<_>>() {
            if !HEADERS.contains(&name) {
                head.headers.remove(name);
            }
        }
        (head.method, head.uri, head.headers, body.collect().await.ok().map(Collected::to_bytes))
    }

    fn response() -> Response<Full<Bytes>> {
        Response::builder().header("a", "b").header("a", "").body(Full::from("body")).unwrap()
    }

    /// What the requests are to hyper, and what it writes.
    fn serve_with_hyper(bytes: &[u8]) -> (Vec<Seen>, Vec<u8>) {
        let (seen, mut written) = (RefCell::new(Vec::new()), Vec::new());
        let answer = async |request: Request<Incoming>| {
            let request = see(request).await;
            seen.borrow_mut().push(request);
            Ok::<_, Infallible>(response())
        };
        let stream = TokioIo::new(tokio::io::join(bytes, &mut written));
        let served = http1::Builder::new().half_close(true).serve_connection(stream, service_fn(answer));
        // Fails if the bytes are not HTTP.
        let _ = block_on(served);
        (seen.into_inner(), written)
    }

    /// The same without hyper, as far as the requests are small.
    fn serve_small(mut bytes: &[u8]) -> (Vec<Seen>, Vec<u8>) {
        let (mut seen, mut written, mut writer) = (Vec::new(), Vec::new(), ResponseWriter::default());
        while let Some((request, length)) = parse(bytes, &HEADERS) {
            seen.push(block_on(see(request)));
            bytes = &bytes[length..];
            let (head, body) = response().into_parts();
            let body = block_on(body.collect()).unwrap().to_bytes();
            written.extend_from_slice(writer.write(&head, &body, Timestamp::default()));
        }
        (seen, written)
    }

    fn without_dates(answers: &[u8]) -> String {
        let text = str::from_utf8(answers).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    }

    /// Header lines that a small request may have.
    const USUAL_LINES: [&str; 5] = ["", "a: b\r\n", "X-Api-Key: a\r\n", "host: a\r\n", "connection: Keep-Alive\r\n"];
    /// Others, of which some are not allowed at all.
    const OTHER_LINES: [&str; 15] = [
        "connection: close\r\n",
        "connection: upgrade\r\n",
        "content-length: 0\r\n",
        "content-length: 4\r\n",
        "content-length: 004\r\n",
        "content-length: 0004, 4\r\n",
        "Content-Length: -1\r\n",
        "content-length: 99999999999999999999\r\n",
        "expect: 100-continue\r\n",
        "te: trailers\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "upgrade: websocket\r\n",
        " folded: a\r\n",
        "a : b\r\n",
    ];

    /// Requests with two of these lines and, rarely, one wrong byte. Most are small.
    fn requests() -> impl Strategy<Value = Vec<u8>> {
        let line = || prop_oneof![8 => select(&USUAL_LINES[..]), 1 => select(&OTHER_LINES[..])];
        let body = prop_oneof![4 => Just(""), 4 => Just("body"), 1 => Just("4\r\nbody\r\n0\r\n\r\n")];
        let edit = proptest::option::weighted(0.1, (any::<Index>(), any::<u8>()));
        let method = prop_oneof![4 => Just("GET"), 4 => Just("POST"), 1 => Just("HEAD")];
        let request = (method, line(), line(), body, edit);
        let request = request.prop_map(|(method, first, second, body, edit)| {
            let length = if body == "body" { "content-length: 4\r\n" } else { "" };
            let text = format!("{method} /a?b HTTP/1.1\r\nhost: a\r\n{first}{length}{second}\r\n{body}");
            let mut bytes = text.into_bytes();
            if let Some((index, byte)) = edit {
                *index.get_mut(&mut bytes) = byte;
            }
            bytes
        });
        vec(request, 1..4).prop_map(|requests| requests.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn small_requests_are_to_hyper_what_they_are_here_and_answered_alike(bytes in requests()) {
            let (seen, written) = serve_small(&bytes);
            let (seen_by_hyper, written_by_hyper) = serve_with_hyper(&bytes);
            prop_assert!(seen_by_hyper.starts_with(&seen), "{seen:?}, and by hyper {seen_by_hyper:?}");
            prop_assert!(without_dates(&written_by_hyper).starts_with(&without_dates(&written)));
        }
    }

    fn post(fields: &str, body: &str) -> String {
        format!("POST /v1/verify?a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}")
    }

    #[tokio::test]
    async fn small_request_has_its_body_and_the_headers_that_are_read() {
        let fields = "X-API-Key: a\r\nAccept: */*\r\nConnection: Keep-Alive\r\nx-api-key: b\r\nContent-Length: 4\r\n";
        let first = post(fields, "body");
        let (request, length) = parse((first.clone() + "GET").as_bytes(), &HEADERS).unwrap();
        assert_eq!(length, first.len());
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/v1/verify?a"));
        let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(headers, [("host", &b"localhost"[..]), ("x-api-key", b"a"), ("x-api-key", b"b")]);
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
        let (request, _) = parse(b"GET / HTTP/1.1\r\n\r\n", &HEADERS).unwrap();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "");
    }

    #[test]
    fn parts_and_whatever_concerns_the_connection_are_left_to_hyper() {
        let whole = post("content-length: 4\r\n", "body");
        for end in 0..whole.len() {
            assert!(parse(&whole.as_bytes()[..end], &HEADERS).is_none(), "{end}");
        }
        for fields in [
            "content-length: 4\r\ncontent-length: 4\r\n",
            "content-length: 4, 4\r\n",
            "content-length: +4\r\n",
            "content-length: 0x4\r\n",
            "content-length: 00004\r\n",
            "content-length:\r\n",
            "content-length : 4\r\n",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "content-length: 4\r\nTransfer-Encoding: identity\r\n",
            "content-length: 4\r\nexpect: 100-continue\r\n",
            "content-length: 4\r\nconnection: close\r\n",
            "content-length: 4\r\nconnection: keep-alive, upgrade\r\n",
            "content-length: 4\r\nupgrade: h2c\r\n",
            "content-length: 4\r\nte: trailers\r\n",
            "content-length: 4\r\ntrailer: a\r\n",
            "content-length: 4\r\n folded: a\r\n",
            "content-length: 4\r\na\0: a\r\n",
        ] {
            assert!(parse(post(fields, "body").as_bytes(), &HEADERS).is_none(), "{fields:?}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS);
        for text in [
            post(&many, ""),
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            "HEAD / HTTP/1.1\r\n\r\n".to_owned(),
            "CONNECT a:1 HTTP/1.1\r\n\r\n".to_owned(),
            "GET http://localhost/ HTTP/1.1\r\n\r\n".to_owned(),
            "OPTIONS * HTTP/1.1\r\n\r\n".to_owned(),
        ] {
            assert!(parse(text.as_bytes(), &HEADERS).is_none(), "{text:?}");
        }
    }

    #[test]
    fn response_is_written_with_its_length_and_the_date() {
        let response = Response::builder().status(StatusCode::NOT_FOUND).header("a", "b").header("a", "c").body(());
        let (head, ()) = response.unwrap().into_parts();
        let mut writer = ResponseWriter::default();
        for (millis, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (999, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_700_000_000_000, "Tue, 14 Nov 2023 22:13:20 GMT"),
        ] {
            let written = writer.write(&head, b"body", Timestamp::from_millis(millis));
            let expected =
                format!("HTTP/1.1 404 Not Found\r\na: b\r\na: c\r\ncontent-length: 4\r\ndate: {date}\r\n\r\nbody");
            assert_eq!(str::from_utf8(written), Ok(expected.as_str()));
        }
    }
}
