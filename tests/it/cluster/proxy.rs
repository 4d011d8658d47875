//! A TCP proxy in front of one member of a replica set that can impair the connections of each caller.
//!
//! The set's configuration names the proxies as its members, so both drivers and the members themselves connect through
//! them, as with MongoDB's own mongobridge. The first message of a connection, `hello`, identifies the caller: instances
//! send the `appName` of their URI, and members with test commands enabled send their port in `hostInfo`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Limit on the first message of a connection.
const MAX_HELLO_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the caller to the member.
    Up,
    /// From the member to the caller.
    Down,
}

/// An impairment of a caller's connections, open and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// Adds this latency in each direction.
    Delayed(Duration),
    /// Holds back all bytes in one direction, or in both if `None`, and delivers them when the impairment ends.
    Stalled(Option<Direction>),
    /// Discards all bytes in this direction. A connection that has lost bytes is closed when the impairment ends.
    HalfOpen(Direction),
    /// Closes each connection after this many more bytes.
    Cut { after: usize },
}

type Impairments = HashMap<String, Impairment>;

/// Listens until it is dropped, which closes its connections.
pub struct Proxy {
    pub address: SocketAddr,
    impairments: watch::Sender<Impairments>,
    _stop_on_drop: DropGuard,
}

impl Proxy {
    /// Each of `callers` is a text that identifies a caller in its first message.
    pub async fn start(upstream: SocketAddr, callers: Vec<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (impairments, receiver) = watch::channel(Impairments::new());
        let (callers, stop) = (Arc::<[String]>::from(callers), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            // A connection that cannot be accepted was closed by the caller.
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let serving = serve(client, upstream, Arc::clone(&callers), receiver.clone());
                tokio::spawn(stopped.clone().run_until_cancelled_owned(serving));
            }
        }));
        Self { address, impairments, _stop_on_drop: stop.drop_guard() }
    }

    pub fn impair(&self, caller: &str, impairment: Impairment) {
        self.impairments.send_modify(|impairments| _ = impairments.insert(caller.to_owned(), impairment));
    }

    pub fn restore(&self, caller: &str) {
        self.impairments.send_modify(|impairments| _ = impairments.remove(caller));
    }
}

/// Forwards one connection until either end or an impairment closes it.
async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    callers: Arc<[String]>,
    impairments: watch::Receiver<Impairments>,
) {
    let Ok(hello) = first_message(&mut client).await else { return };
    let is_from = |caller: &&String| hello.windows(caller.len()).any(|window| window == caller.as_bytes());
    let caller = callers.iter().find(is_from).cloned().unwrap_or_default();
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = Pump {
        direction: Direction::Up,
        caller: caller.clone(),
        impairments: impairments.clone(),
        unsent: hello,
        lossy: false,
    };
    let down = Pump { direction: Direction::Down, caller, impairments, unsent: Vec::new(), lossy: false };
    // Both ends notice for themselves how the connection ended.
    let _: io::Result<()> = tokio::select! {
        ended = up.run(from_client, to_server) => ended,
        ended = down.run(from_server, to_client) => ended,
    };
}

/// Reads the first message of MongoDB's wire protocol, which begins with its length.
async fn first_message(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    client.read_exact(&mut message).await?;
    let length = u32::from_le_bytes(message[..].try_into().expect("4 bytes")) as usize;
    if !(4..=MAX_HELLO_BYTES).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(length, 0);
    client.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// One direction of a connection.
struct Pump {
    direction: Direction,
    caller: String,
    impairments: watch::Receiver<Impairments>,
    unsent: Vec<u8>,
    /// Bytes were discarded, so the bytes after them are meaningless.
    lossy: bool,
}

impl Pump {
    async fn run(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        // Bytes that may still pass before a cut.
        let mut left = None;
        loop {
            let impairment = self.impairments.borrow_and_update().get(&self.caller).copied();
            if !matches!(impairment, Some(Impairment::Cut { .. })) {
                left = None;
            }
            match impairment {
                Some(Impairment::HalfOpen(direction)) if direction == self.direction => {
                    self.lossy |= !self.unsent.is_empty();
                    self.unsent.clear();
                }
                _ if self.lossy => return Ok(()),
                Some(Impairment::Stalled(direction))
                    if direction.is_none_or(|direction| direction == self.direction) =>
                {
                    self.changed().await?;
                    continue;
                }
                Some(Impairment::Cut { after }) => {
                    let left = left.get_or_insert(after);
                    let through = self.unsent.len().min(*left);
                    to.write_all(&self.unsent[..through]).await?;
                    *left -= through;
                    if *left == 0 {
                        return Ok(());
                    }
                    self.unsent.clear();
                }
                Some(Impairment::Delayed(by)) if !self.unsent.is_empty() => {
                    tokio::time::sleep(by).await;
                    to.write_all(&self.unsent).await?;
                    self.unsent.clear();
                }
                _ => {
                    to.write_all(&self.unsent).await?;
                    self.unsent.clear();
                }
            }
            tokio::select! {
                read = from.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    length => self.unsent.extend_from_slice(&buffer[..length]),
                },
                changed = self.impairments.changed() => changed.map_err(|_| io::ErrorKind::ConnectionAborted)?,
            }
        }
    }

    async fn changed(&mut self) -> io::Result<()> {
        self.impairments.changed().await.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }
}

/// A server that returns each message.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

/// Long enough for expected bytes to arrive, and short enough to wait for bytes that must not.
const SHORT_WAIT: Duration = Duration::from_millis(200);

struct Caller(TcpStream);

impl Caller {
    async fn connect(proxy: &Proxy, name: &str) -> Self {
        let mut caller = Self(TcpStream::connect(proxy.address).await.expect("connected"));
        let length = u32::try_from(name.len() + 4).expect("short");
        caller.send(&[&length.to_le_bytes(), name.as_bytes()].concat()).await;
        caller
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("sent");
    }

    /// Number of bytes received, at least `expected`; if that is 0, those received within [`SHORT_WAIT`]. An error if the
    /// connection is closed before.
    async fn receive(&mut self, expected: usize) -> Result<usize, usize> {
        let mut buffer = vec![0; 1024];
        let mut received = 0;
        while received < expected.max(1) {
            let limit = if expected == 0 { SHORT_WAIT } else { Duration::from_secs(30) };
            match tokio::time::timeout(limit, self.0.read(&mut buffer)).await {
                Ok(Ok(length @ 1..)) => received += length,
                Ok(Ok(0) | Err(_)) => return Err(received),
                Err(_) => break,
            }
        }
        Ok(received)
    }
}

#[tokio::test]
async fn each_impairment_affects_only_its_caller_and_works_as_documented() {
    let proxy = Proxy::start(echo().await, vec!["one".to_owned(), "two".to_owned()]).await;
    let mut two = Caller::connect(&proxy, "two").await;
    assert_eq!(two.receive(7).await, Ok(7));

    for impairment in [
        Impairment::Stalled(None),
        Impairment::Stalled(Some(Direction::Up)),
        Impairment::Stalled(Some(Direction::Down)),
    ] {
        let mut one = Caller::connect(&proxy, "one").await;
        assert_eq!(one.receive(7).await, Ok(7));
        proxy.impair("one", impairment);
        one.send(b"late").await;
        assert_eq!(one.receive(0).await, Ok(0), "{impairment:?}");
        let mut new = Caller::connect(&proxy, "one").await;
        assert_eq!(new.receive(0).await, Ok(0), "{impairment:?}");
        proxy.restore("one");
        assert_eq!((one.receive(4).await, new.receive(7).await), (Ok(4), Ok(7)), "{impairment:?}");
    }

    for direction in [Direction::Up, Direction::Down] {
        let mut one = Caller::connect(&proxy, "one").await;
        assert_eq!(one.receive(7).await, Ok(7));
        proxy.impair("one", Impairment::HalfOpen(direction));
        one.send(b"lost").await;
        assert_eq!(one.receive(0).await, Ok(0));
        proxy.restore("one");
        assert_eq!(one.receive(1).await, Err(0));
        assert_eq!(Caller::connect(&proxy, "one").await.receive(7).await, Ok(7));
    }

    let mut one = Caller::connect(&proxy, "one").await;
    assert_eq!(one.receive(7).await, Ok(7));
    proxy.impair("one", Impairment::Cut { after: 3 });
    one.send(b"ab").await;
    assert_eq!(one.receive(2).await, Ok(2));
    one.send(b"cd").await;
    assert!(one.receive(2).await.is_err());
    proxy.impair("one", Impairment::Cut { after: 0 });
    assert_eq!(Caller::connect(&proxy, "one").await.receive(7).await, Err(0));

    proxy.impair("one", Impairment::Delayed(SHORT_WAIT * 2));
    let mut one = Caller::connect(&proxy, "one").await;
    assert_eq!((one.receive(0).await, one.receive(7).await), (Ok(0), Ok(7)));

    two.send(b"unharmed").await;
    assert_eq!(two.receive(8).await, Ok(8));
    drop(proxy);
    assert_eq!(two.receive(1).await, Err(0));
}
