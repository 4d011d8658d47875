//! Serves a listener: HTTP/1.1, over TLS or not, with limits on slow clients, and a graceful shutdown.
//!
//! hyper reads the requests, except the small ones of a quick handler.
//!
//! The stream with time-outs can go once hyper has them for idle connections, reads and writes:
//! <https://github.com/hyperium/hyper/issues/1628>.

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, Write as _},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{BoxError, Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::CONNECTION};
use http_body_util::BodyExt;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower::ServiceExt;
use zeroize::Zeroize;

use super::{
    connections::{ConnectionCaps, Connections, OpenConnection},
    small_requests::{self, ResponseWriter},
    threads::Threads,
    tls::{ClientCertificate, Tls, TlsStream},
};
use crate::{clock::Environment, metrics::ConnectionMetrics, service::draining::Draining, service::draining::Signal};

/// Limits on the connections of a listener.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// From the first byte of a request to the end of its head. A connection that sends nothing at all is closed after
    /// this time too, and so is one whose TLS handshake takes longer.
    pub head_timeout: Duration,
    /// Time between two requests of a connection. Longer than the usual 60 s of proxies, so that the proxy closes first: a
    /// request that is sent on a connection that the server closes at the same time fails.
    pub idle_timeout: Duration,
    /// Time for which a client may not read a response.
    pub write_timeout: Duration,
    /// Time from the shutdown to the end of the requests in flight.
    pub drain: Duration,
    /// Open connections.
    pub connections: ConnectionCaps,
    pub metrics: ConnectionMetrics,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(8),
            connections: ConnectionCaps::default(),
            metrics: ConnectionMetrics::default(),
        }
    }
}

/// Handles the requests of a listener.
pub trait Handler: Clone + Send + Sync + 'static {
    type Body: HttpBody<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static;

    /// The future is dropped if the client disconnects.
    fn handle(
        &self,
        request: Request<impl RequestBody>,
        client: &Client,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// `Some` if most requests take microseconds and have small responses. Then no response has a status without a body, or a
    /// header about the connection, its length or its date: these are added.
    fn quick(&self) -> Option<Quick> {
        None
    }
}

/// How requests that take microseconds are served: on threads of their own, without hyper if they are small, and with bodies
/// copied behind their heads, which costs less than a vectored write.
pub struct Quick {
    /// The headers that the handler reads. All others are left out of small requests.
    pub headers: Vec<HeaderName>,
    /// Has the time for `Date`.
    pub environment: Environment,
}

/// The body of a request.
pub trait RequestBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static> RequestBody for B {}

/// The other end of a connection.
pub struct Client {
    pub address: SocketAddr,
    /// The certificate that the client presented over TLS.
    pub certificate: Option<ClientCertificate>,
    tracker: TaskTracker,
}

/// A bound socket, and how connections to it are served.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    draining: Draining,
}

impl Listener {
    /// Each connection begins with a handshake if `tls` is given, and ends with the next response once `draining` has
    /// begun.
    pub fn new(tcp: TcpListener, tls: Option<Arc<Tls>>, draining: Draining) -> Self {
        Self { tcp, tls, draining }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::new(tcp, None, Draining::default())
    }
}

/// [`serve`] waits until all clones are dropped. For work that outlives its request, such as a WebSocket or a change whose
/// client has disconnected.
#[derive(Clone)]
pub struct InFlight(#[expect(dead_code, reason = "counted while it lives")] TaskTrackerToken);

/// Each request has the peer's address as `ConnectInfo<SocketAddr>`, and [`InFlight`].
impl Handler for Router {
    type Body = Body;

    async fn handle(&self, request: Request<impl RequestBody>, client: &Client) -> Response<Body> {
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(client.address));
        extensions.insert(InFlight(client.tracker.token()));
        self.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {})
    }
}

/// Connections that wait to be accepted, at most, unless the system allows fewer (`net.core.somaxconn`). tokio asks for 128:
/// when thousands of subscribers reconnect, the others would wait for a second.
const BACKLOG: u32 = 1024;

/// Listens on the address, without serving yet.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind`: a restart need not wait until connections of the process before have timed out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `shutdown` is cancelled. Then it accepts no connections but those that clients have opened already, closes
/// those that wait for another request, completes the requests in flight, and returns within [`ServeLimits::drain`].
pub async fn serve<H: Handler>(
    listener: impl Into<Listener>,
    handler: H,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let Listener { tcp: listener, tls, draining } = listener.into();
    let tracker = TaskTracker::new();
    let limits = Arc::new(limits);
    let open = Connections::new(limits.connections.clone(), limits.metrics.clone());
    let mut last_warning: Option<Instant> = None;
    let stop = Arc::new(Signal::default());
    let quick = handler.quick().map(Arc::new);
    let threads = quick.as_ref().and_then(|_| start_threads());
    // Dropped, and so aborted, when the drain times out or this future is dropped.
    let mut connections = JoinSet::new();
    let mut begin = |connections: &mut JoinSet<()>, stream: TcpStream, address: SocketAddr| {
        let Some(slot) = open.admit(address.ip()) else {
            if last_warning.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                last_warning = Some(Instant::now());
                tracing::warn!(peer = %address.ip(), "connections refused; too many are open");
            }
            if tls.is_none() {
                refuse(stream);
            }
            return;
        };
        let connection = Connection {
            handler: handler.clone(),
            client: Client { address, certificate: None, tracker: tracker.clone() },
            limits: Arc::clone(&limits),
            stop: Arc::clone(&stop),
            tls: tls.clone(),
            draining: draining.clone(),
            quick: quick.clone(),
        };
        let Some(runtime) = threads.as_ref().and_then(Threads::least_busy) else {
            connections.spawn(tracker.track_future(connection.serve(stream, slot)));
            return;
        };
        match move_to(runtime, stream) {
            Ok(stream) => {
                connections.spawn_on(tracker.track_future(connection.serve(stream, slot)), runtime);
            }
            Err(error) => tracing::error!(%error, "connection not accepted"),
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => begin(&mut connections, stream, address),
            // The peer disconnected before the connection was accepted.
            Err(error) if is_connection_error(&error) => {}
            // For example, out of file descriptors: an immediate retry would fail too.
            Err(error) => {
                tracing::error!(%error, "connection not accepted");
                shutdown.run_until_cancelled(sleep(Duration::from_millis(100))).await;
            }
        }
    }
    draining.begin();
    // Closing the socket would reset the connections that wait to be accepted. Its own calls say which do: the runtime may
    // not have noticed them yet. No more than may have waited: others may connect as fast as these are accepted.
    if let Ok(listener) = listener.into_std() {
        for _ in 0..=BACKLOG {
            match listener.accept() {
                Ok((stream, address)) => {
                    if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                        begin(&mut connections, stream, address);
                    }
                }
                Err(error) if is_connection_error(&error) => {}
                Err(_) => break,
            }
        }
    }
    stop.raise();
    tracker.close();
    if timeout(limits.drain, tracker.wait()).await.is_err() {
        tracing::warn!("shutdown timed out; aborting in-flight requests");
    }
}

fn start_threads() -> Option<Threads> {
    Threads::start()
        .inspect_err(|error| tracing::warn!(%error, "threads not started; connections share those of the process"))
        .ok()
}

/// Registers a stream with the runtime that is to serve it.
fn move_to(runtime: &Handle, stream: TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    let _entered = runtime.enter();
    TcpStream::from_std(stream)
}

/// Interval of warnings about refused connections.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The response to a connection beyond a limit. Sent without waiting for a request, if the connection takes it.
const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";

fn refuse(stream: TcpStream) {
    // A stream of tokio is ready to be written to only after it was polled.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(TOO_MANY_CONNECTIONS);
    }
}

/// How long a connection without any request is kept open when the shutdown begins: its client has just opened it, and
/// is about to send one.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

struct Connection<H> {
    handler: H,
    client: Client,
    limits: Arc<ServeLimits>,
    /// Asks connections to finish.
    stop: Arc<Signal>,
    tls: Option<Arc<Tls>>,
    draining: Draining,
    quick: Option<Arc<Quick>>,
}

impl<H: Handler> Connection<H> {
    /// Completes the handshake, if the listener has TLS. `None` if it fails, or takes too long when the shutdown begins.
    async fn open(&mut self, stream: TcpStream) -> Option<Transport> {
        let Some(tls) = &self.tls else { return Some(Transport::Plain(stream)) };
        let too_late = async {
            self.stop.raised().await;
            sleep(FIRST_REQUEST_TIMEOUT).await;
        };
        let accepted = tokio::select! {
            accepted = tls.accept(stream, self.limits.head_timeout) => accepted,
            () = too_late => return None,
        };
        match accepted {
            Ok((stream, certificate)) => {
                self.client.certificate = certificate;
                Some(Transport::Tls(Box::new(stream)))
            }
            Err(error) => {
                tracing::debug!(%error, peer = %self.client.address, "TLS handshake failed");
                None
            }
        }
    }

    async fn serve(mut self, stream: TcpStream, slot: OpenConnection) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let Some(stream) = self.open(stream).await else { return };
        let progress = Arc::new(AtomicU64::new(0));
        let mut stream = Stream {
            inner: Some((stream, slot)),
            unread: Bytes::new(),
            tracker: self.client.tracker.clone(),
            limits: Arc::clone(&self.limits),
            begun: None,
            wait: None,
            timer: None,
            stalled: None,
            progress: Arc::clone(&progress),
            ended: false,
        };
        let mut raises = pin!(self.stop.notified());
        // Once is enough: the notification wakes this task, and the flag says why. Before the flag is read, since it is set
        // before the waiters are notified.
        poll_fn(|context| Poll::Ready(raises.as_mut().poll(context).is_ready())).await;
        if let Some(quick) = &self.quick {
            // Boxed, or the tasks of other listeners would be as large.
            match Box::pin(self.answer_small_requests(quick, &mut stream, &progress)).await {
                Ok(Some(unread)) => stream.unread = unread,
                Ok(None) => {
                    // Over TLS, sends `close_notify`, without which the client takes the end for a failure.
                    let _ = stream.shutdown().await;
                    return;
                }
                Err(error) => return self.log(&error),
            }
        }
        let (connection, progress) = (&self, &progress);
        let service = service_fn(|request: Request<Incoming>| {
            advance(progress);
            async move {
                let mut response = connection.handler.handle(request, &connection.client).await;
                let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if upgraded {
                    progress.store(UPGRADED_PROGRESS, Ordering::Relaxed);
                } else {
                    connection.announce_end(response.headers_mut());
                }
                let progress = (!upgraded).then(|| Arc::clone(progress));
                Ok::<_, Infallible>(response.map(|body| Answer { body, progress }))
            }
        });
        let connection = http1::Builder::new()
            .writev(self.quick.is_none())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut finishing = false;
        let mut first_request: Option<Pin<Box<Sleep>>> = None;
        let result = poll_fn(|context| {
            // First, since what was read before is answered even at the shutdown.
            let ended = connection.as_mut().poll(context);
            if ended.is_pending() && !finishing && self.stop.is_raised() {
                let is_new = progress.load(Ordering::Relaxed) == 0;
                let timer = first_request.get_or_insert_with(|| Box::pin(sleep(FIRST_REQUEST_TIMEOUT)));
                if !is_new || timer.as_mut().poll(context).is_ready() {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                    return connection.as_mut().poll(context);
                }
            }
            ended
        })
        .await;
        if let Err(error) = result {
            self.log(&error);
        }
    }

    fn log(&self, error: &dyn std::error::Error) {
        tracing::debug!(%error, peer = %self.client.address, "a connection broke");
    }

    /// Returns true if the connection ends with this response, and then announces it.
    fn announce_end(&self, headers: &mut HeaderMap) -> bool {
        let is_last = self.draining.has_begun();
        if is_last {
            headers.insert(CONNECTION, const { HeaderValue::from_static("close") });
        }
        is_last
    }

    /// Answers small requests. Returns what was read of another request, which is hyper's, and nothing if the shutdown begins
    /// before the first request. Returns `None` when the connection is to be closed.
    async fn answer_small_requests(
        &self,
        quick: &Quick,
        stream: &mut Stream,
        progress: &AtomicU64,
    ) -> io::Result<Option<Bytes>> {
        let mut input = Vec::with_capacity(small_requests::MAX_BYTES);
        // Where the requests begin that have no answer yet.
        let mut begin = 0;
        let mut writer = ResponseWriter::default();
        loop {
            if input.is_empty() {
                let read = poll_fn(|context| match pin!(stream.read_buf(&mut input)).poll(context) {
                    Poll::Pending if self.stop.is_raised() => Poll::Ready(None),
                    read => read.map(Some),
                });
                match read.await {
                    None => return Ok((progress.load(Ordering::Relaxed) == 0).then(Bytes::new)),
                    Some(Ok(0)) => return Ok(None),
                    Some(Ok(_)) => {}
                    Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                    Some(Err(error)) => return Err(error),
                }
            }
            let unread = &input[begin..];
            let Some((request, length)) = small_requests::parse(unread, &quick.headers) else {
                return Ok(Some(Bytes::copy_from_slice(unread)));
            };
            begin += length;
            if begin == input.len() {
                // A connection may wait long for the next request, and this one may have a key.
                input.as_mut_slice().zeroize();
                input.clear();
                begin = 0;
            }
            advance(progress);
            let mut handling = pin!(self.handler.handle(request, &self.client));
            let response = poll_fn(|context| {
                if let Poll::Ready(response) = handling.as_mut().poll(context) {
                    return Poll::Ready(Ok(Some(response)));
                }
                // As hyper does: an end of the stream cancels the request, unless there are bytes of the next one.
                if !input.is_empty() {
                    return Poll::Pending;
                }
                match ready!(pin!(stream.read_buf(&mut input)).poll(context)) {
                    Ok(1..) => Poll::Pending,
                    ended => Poll::Ready(ended.map(|_| None)),
                }
            });
            let Some(response) = response.await? else { return Ok(None) };
            let (mut head, body) = response.into_parts();
            let is_last = self.announce_end(&mut head.headers);
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            stream.write_all(writer.write(&head, &body, quick.environment.now())).await?;
            stream.flush().await?;
            advance(progress);
            if is_last {
                return Ok(None);
            }
        }
    }
}

/// The progress of a connection that was upgraded. Odd, since it waits for no request.
const UPGRADED_PROGRESS: u64 = u64::MAX;

/// Counts one step. Only the connection's task writes, so no atomic addition is needed.
fn advance(progress: &AtomicU64) {
    progress.store(progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A body that counts a step when it was read completely. Until then the connection does not wait for a request.
struct Answer<B> {
    body: B,
    /// `None` if the connection was upgraded.
    progress: Option<Arc<AtomicU64>>,
}

impl<B: HttpBody + Unpin> HttpBody for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            advance(progress);
        }
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Transport {
    fn into_tcp(self) -> TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.into_inner().0,
        }
    }
}

/// Calls a method of the stream that a [`Transport`] contains.
macro_rules! forward {
    ($transport:expr, $method:ident($($argument:expr),*)) => {
        match $transport {
            Transport::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

/// A stream that fails if the peer does not send a request, or the rest of its head, in time, or does not read; and that
/// lingers when it is closed.
///
/// hyper has one time-out for both the wait for a request and its head, but an idle connection of a proxy may wait much
/// longer than a client may take to send a head. hyper also registers a timer for every request; here one timer remains,
/// and checks when it fires what to wait for next.
struct Stream {
    /// The slot is freed when the file descriptor is closed.
    inner: Option<(Transport, OpenConnection)>,
    /// What was read already, and is read again first.
    unread: Bytes,
    tracker: TaskTracker,
    limits: Arc<ServeLimits>,
    /// The progress at which the first bytes of a head arrived.
    begun: Option<u64>,
    /// The current wait and its deadline.
    wait: Option<(PendingRead, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Deadline of a write that waits for the peer to read.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Even while the connection waits for a request. Counts a step when a request is dispatched, and when hyper has read its
    /// response completely, or it was written without hyper.
    progress: Arc<AtomicU64>,
    /// Whether the peer closed its side, or the connection failed.
    ended: bool,
}

/// A wait for a request, or for the rest of its head.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PendingRead {
    progress: u64,
    begun: bool,
}

impl Stream {
    fn inner(&mut self) -> io::Result<&mut Transport> {
        self.inner.as_mut().map(|(stream, _)| stream).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The result of a write, or an error if it has waited too long.
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.limits.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready when the request, or the rest of its head, is overdue.
    fn overdue(&mut self, context: &mut Context<'_>, progress: u64) -> Poll<()> {
        let wait = PendingRead { progress, begun: self.begun == Some(progress) };
        let deadline = match self.wait {
            Some((same, deadline)) if same == wait => deadline,
            _ => {
                let ServeLimits { head_timeout, idle_timeout, .. } = *self.limits;
                let timeout = match wait {
                    PendingRead { begun: true, .. } => head_timeout,
                    PendingRead { progress: 0, .. } => head_timeout.min(idle_timeout),
                    PendingRead { .. } => idle_timeout,
                };
                let deadline = Instant::now() + timeout;
                self.wait = Some((wait, deadline));
                deadline
            }
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = if self.unread.is_empty() {
            forward!(self.inner()?, poll_read(context, buffer))
        } else {
            let length = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(length));
            Poll::Ready(Ok(()))
        };
        let progress = self.progress.load(Ordering::Relaxed);
        let waits = progress.is_multiple_of(2);
        if let Poll::Ready(result) = read {
            let got_bytes = result.is_ok() && buffer.filled().len() > filled;
            self.ended |= !got_bytes;
            if got_bytes && waits {
                self.begun = Some(progress);
            }
            return Poll::Ready(result);
        }
        if waits {
            ready!(self.overdue(context, progress));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if progress == UPGRADED_PROGRESS {
            // A registered timer keeps the task's memory until it fires.
            self.timer = None;
        }
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = forward!(self.inner()?, poll_write(context, bytes));
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = forward!(self.inner()?, poll_write_vectored(context, slices));
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(|(stream, _)| match stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Over TLS, written bytes wait here until the peer reads.
        let flushed = forward!(self.inner()?, poll_flush(context));
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = forward!(self.inner()?, poll_shutdown(context));
        self.written(context, closed)
    }
}

/// Closing a socket with unread bytes resets the connection, and the peer may lose the response that explains why: a 413
/// while the body still arrives, or a close frame after a message that is too large
/// ([RFC 9112, section 9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)). So it reads on for a while.
impl Drop for Stream {
    fn drop(&mut self) {
        const MAX_LINGER: Duration = Duration::from_secs(1);
        let Some((stream, slot)) = self.inner.take().filter(|_| !self.ended) else {
            return;
        };
        let mut stream = stream.into_tcp();
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tracker.spawn(timeout(MAX_LINGER, async move {
            stream.shutdown().await?;
            let mut discarded = [0; 4096];
            while stream.read(&mut discarded).await? > 0 {}
            drop((stream, slot));
            io::Result::Ok(())
        }));
    }
}
