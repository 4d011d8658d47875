//! A load generator for HTTP/1.1.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Stands for a number in a [`Numbered`] request, which has another number each time.
pub const NUMBER: &str = "1000000000";

pub fn post_request(path: &str, body: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{authorization}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends the request again and again on so many connections, one at a time on each. Returns the answers per second.
pub async fn load(address: SocketAddr, request: &[u8], connections: usize, duration: Duration) -> f64 {
    let clients = join_all((0..connections).map(|_| Client::connect(address))).await;
    load_with(clients, request, duration).await
}

/// The same, on these connections.
pub async fn load_with<S>(clients: Vec<Client<S>>, request: &[u8], duration: Duration) -> f64
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let clients = clients.into_iter().map(|mut client| {
        let mut request = Numbered::new(request);
        tokio::spawn(async move {
            let (began, mut count) = (Instant::now(), 0u64);
            while began.elapsed() < duration {
                client.exchange(request.next()).await;
                count += 1;
            }
            count
        })
    });
    let counts = try_join_all(clients).await.expect("clients");
    counts.iter().sum::<u64>() as f64 / duration.as_secs_f64()
}

/// A request that differs from all others of this process if it has [`NUMBER`] in it.
pub struct Numbered {
    request: Vec<u8>,
    at: Option<usize>,
}

impl Numbered {
    pub fn new(request: &[u8]) -> Self {
        let at = request.windows(NUMBER.len()).position(|part| part == NUMBER.as_bytes());
        Self { request: request.to_vec(), at }
    }

    pub fn next(&mut self) -> &[u8] {
        static NEXT: AtomicU64 = AtomicU64::new(1_000_000_001);
        if let Some(at) = self.at {
            let next = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
            self.request[at..at + NUMBER.len()].copy_from_slice(next.as_bytes());
        }
        &self.request
    }
}

/// The body of the answer.
pub async fn answer_of(address: SocketAddr, request: &[u8]) -> String {
    let answer = whole_answer_of(address, request).await;
    answer.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
}

/// The answer with its head.
pub async fn whole_answer_of(address: SocketAddr, request: &[u8]) -> String {
    let mut client = Client::connect(address).await;
    client.exchange(request).await;
    String::from_utf8(client.buffer[..client.length].to_vec()).expect("text")
}

/// As little of an HTTP client as will do, so that the servers are measured: the first answer is read with care, and
/// all others must be as long.
pub struct Client<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
    /// Size of a response in bytes; 0 before the first.
    length: usize,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: vec![0; 64 * 1024], length: 0 }
    }

    pub async fn exchange(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("a request");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("an answer");
            assert!(read > 0, "the server hung up");
            filled += read;
            if self.length == 0 {
                let whole = body_of(&self.buffer[..filled]).is_some();
                self.length = if whole { filled } else { 0 };
            }
            if filled >= self.length && self.length > 0 {
                assert_eq!(filled, self.length, "an answer of another length");
                let is_answered =
                    [b"HTTP/1.1 200", b"HTTP/1.1 304"].iter().any(|status| self.buffer.starts_with(*status));
                return assert!(is_answered, "an answer of another kind");
            }
        }
    }
}

/// Where the body is, once all of it is there.
fn body_of(answer: &[u8]) -> Option<std::ops::Range<usize>> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..head]).expect("a head of text").to_ascii_lowercase();
    if text.starts_with("http/1.1 304") {
        return Some(head + 4..head + 4);
    }
    assert!(text.starts_with("http/1.1 200"), "{text}");
    let length = text.split("content-length: ").nth(1).expect("a length").split("\r\n").next().expect("a line");
    let end = head + 4 + length.parse::<usize>().expect("a number");
    (answer.len() >= end).then_some(head + 4..end)
}
