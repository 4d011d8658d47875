//! A TCP proxy in front of one member of a replica set, which treats each caller as it is told.
//!
//! The set's configuration names the proxies as its members, so that drivers, which follow that configuration, and the
//! members among themselves come through them (MongoDB's own mongobridge stands there, too). Whose connection it is
//! stands in its first message, the `hello`: instances give the `appName` of their URI, and members with test commands
//! on the port that they listen on, in `hostInfo`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest first message that is believed, in bytes.
const LONGEST_HELLO: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the caller to the member.
    Up,
    /// From the member to the caller.
    Down,
}

/// What happens to a caller's connections, open and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Everything takes this much longer, each way.
    Delayed(Duration),
    /// Nothing gets through, `None`: either way; and everything does, late, when this ends.
    Stalled(Option<Way>),
    /// What goes this way vanishes. A connection that has lost something ends when this ends.
    HalfOpen(Way),
    /// Each connection ends after so many more bytes; 0: at once.
    Cut { after: usize },
}

type Ills = HashMap<String, Ill>;

/// Listens until it is dropped; its connections end with it.
pub struct Proxy {
    pub address: SocketAddr,
    ills: watch::Sender<Ills>,
    _stop_on_drop: DropGuard,
}

impl Proxy {
    /// `callers` are the bytes by which callers are known: each has its own in its first message.
    pub async fn start(upstream: SocketAddr, callers: Vec<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ills, seen) = watch::channel(Ills::new());
        let (callers, stop) = (Arc::<[String]>::from(callers), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            // A connection that cannot be taken is one that was cut.
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let serving = serve(client, upstream, Arc::clone(&callers), seen.clone());
                tokio::spawn(stopped.clone().run_until_cancelled_owned(serving));
            }
        }));
        Self { address, ills, _stop_on_drop: stop.drop_guard() }
    }

    pub fn make_ill(&self, caller: &str, ill: Ill) {
        self.ills.send_modify(|ills| _ = ills.insert(caller.to_owned(), ill));
    }

    pub fn heal(&self, caller: &str) {
        self.ills.send_modify(|ills| _ = ills.remove(caller));
    }
}

/// Carries one connection until either end, or an ill, ends it.
async fn serve(mut client: TcpStream, upstream: SocketAddr, callers: Arc<[String]>, ills: watch::Receiver<Ills>) {
    let Ok(hello) = first_message(&mut client).await else { return };
    let is_from = |caller: &&String| hello.windows(caller.len()).any(|window| window == caller.as_bytes());
    let caller = callers.iter().find(is_from).cloned().unwrap_or_default();
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = Pump { way: Way::Up, caller: caller.clone(), ills: ills.clone(), unsent: hello, lossy: false };
    let down = Pump { way: Way::Down, caller, ills, unsent: Vec::new(), lossy: false };
    // How a connection ended is known to those whom it connected.
    let _: io::Result<()> = tokio::select! {
        ended = up.run(from_client, to_server) => ended,
        ended = down.run(from_server, to_client) => ended,
    };
}

/// The first message of MongoDB's wire protocol: it begins with its length.
async fn first_message(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    client.read_exact(&mut message).await?;
    let length = u32::from_le_bytes(message[..].try_into().expect("4 bytes")) as usize;
    if !(4..=LONGEST_HELLO).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(length, 0);
    client.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// One direction of a connection.
struct Pump {
    way: Way,
    caller: String,
    ills: watch::Receiver<Ills>,
    unsent: Vec<u8>,
    /// It has lost bytes, and what follows them means nothing any more.
    lossy: bool,
}

impl Pump {
    async fn run(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        // How much may still go through before a cut.
        let mut left = None;
        loop {
            let ill = self.ills.borrow_and_update().get(&self.caller).copied();
            if !matches!(ill, Some(Ill::Cut { .. })) {
                left = None;
            }
            match ill {
                Some(Ill::HalfOpen(way)) if way == self.way => {
                    self.lossy |= !self.unsent.is_empty();
                    self.unsent.clear();
                }
                _ if self.lossy => return Ok(()),
                Some(Ill::Stalled(way)) if way.is_none_or(|way| way == self.way) => {
                    self.changed().await?;
                    continue;
                }
                Some(Ill::Cut { after }) => {
                    let left = left.get_or_insert(after);
                    let through = self.unsent.len().min(*left);
                    to.write_all(&self.unsent[..through]).await?;
                    *left -= through;
                    if *left == 0 {
                        return Ok(());
                    }
                    self.unsent.clear();
                }
                Some(Ill::Delayed(by)) if !self.unsent.is_empty() => {
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
                changed = self.ills.changed() => changed.map_err(|_| io::ErrorKind::ConnectionAborted)?,
            }
        }
    }

    async fn changed(&mut self) -> io::Result<()> {
        self.ills.changed().await.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }
}

/// A member that answers each message with itself.
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

/// Long enough for what is to come to come, and short enough to wait for what is not.
const A_MOMENT: Duration = Duration::from_millis(200);

struct Caller(TcpStream);

impl Caller {
    async fn of(proxy: &Proxy, name: &str) -> Self {
        let mut caller = Self(TcpStream::connect(proxy.address).await.expect("connected"));
        let length = u32::try_from(name.len() + 4).expect("short");
        caller.send(&[&length.to_le_bytes(), name.as_bytes()].concat()).await;
        caller
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("sent");
    }

    /// How many bytes come, until `expected` have; 0: in a moment. An error when the connection is cut before.
    async fn receive(&mut self, expected: usize) -> Result<usize, usize> {
        let mut buffer = vec![0; 1024];
        let mut received = 0;
        while received < expected.max(1) {
            let limit = if expected == 0 { A_MOMENT } else { Duration::from_secs(30) };
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
async fn each_ill_does_what_it_says_and_to_its_caller_alone() {
    let proxy = Proxy::start(echo().await, vec!["one".to_owned(), "two".to_owned()]).await;
    let mut two = Caller::of(&proxy, "two").await;
    assert_eq!(two.receive(7).await, Ok(7));

    for ill in [Ill::Stalled(None), Ill::Stalled(Some(Way::Up)), Ill::Stalled(Some(Way::Down))] {
        let mut one = Caller::of(&proxy, "one").await;
        assert_eq!(one.receive(7).await, Ok(7));
        proxy.make_ill("one", ill);
        one.send(b"late").await;
        assert_eq!(one.receive(0).await, Ok(0), "{ill:?}");
        let mut new = Caller::of(&proxy, "one").await;
        assert_eq!(new.receive(0).await, Ok(0), "{ill:?}");
        proxy.heal("one");
        assert_eq!((one.receive(4).await, new.receive(7).await), (Ok(4), Ok(7)), "{ill:?}");
    }

    for way in [Way::Up, Way::Down] {
        let mut one = Caller::of(&proxy, "one").await;
        assert_eq!(one.receive(7).await, Ok(7));
        proxy.make_ill("one", Ill::HalfOpen(way));
        one.send(b"lost").await;
        assert_eq!(one.receive(0).await, Ok(0));
        proxy.heal("one");
        assert_eq!(one.receive(1).await, Err(0));
        assert_eq!(Caller::of(&proxy, "one").await.receive(7).await, Ok(7));
    }

    let mut one = Caller::of(&proxy, "one").await;
    assert_eq!(one.receive(7).await, Ok(7));
    proxy.make_ill("one", Ill::Cut { after: 3 });
    one.send(b"ab").await;
    assert_eq!(one.receive(2).await, Ok(2));
    one.send(b"cd").await;
    assert!(one.receive(2).await.is_err());
    proxy.make_ill("one", Ill::Cut { after: 0 });
    assert_eq!(Caller::of(&proxy, "one").await.receive(7).await, Err(0));

    proxy.make_ill("one", Ill::Delayed(A_MOMENT * 2));
    let mut one = Caller::of(&proxy, "one").await;
    assert_eq!((one.receive(0).await, one.receive(7).await), (Ok(0), Ok(7)));

    two.send(b"unharmed").await;
    assert_eq!(two.receive(8).await, Ok(8));
    drop(proxy);
    assert_eq!(two.receive(1).await, Err(0));
}
