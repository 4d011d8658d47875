//! Serves a listener: HTTP/1.1 with bounds on slow clients, and an orderly end.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Response, StatusCode};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower::ServiceExt;

/// Bounds on the connections of a listener.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection may stay open between two requests. Longer than the usual 60 s of proxies, so that it
    /// is the proxy who closes: one that closes under a request makes it fail.
    pub idle_timeout: Duration,
    /// How long a client may leave an answer unread.
    pub write_timeout: Duration,
    /// From the shutdown to the end of what is still under way then.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(8),
        }
    }
}

/// What answers the requests of a listener's connections.
pub trait Handler: Clone + Send + Sync + 'static {
    type Body: HttpBody<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;
    /// Whether a body is copied behind its head: for a small one that costs less than to hand the kernel a list of two.
    const SMALL_BODIES: bool;

    /// Dropped when the client hangs up.
    fn handle(&self, request: Request<Incoming>, client: &Client) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// The other end of a connection.
pub struct Client {
    pub address: SocketAddr,
    tracker: TaskTracker,
}

/// While a clone of it lives, [`serve`] waits for what it belongs to. For work that outlives its request, such as a
/// WebSocket or a change whose client hung up.
#[derive(Clone)]
pub struct InFlight(#[expect(dead_code, reason = "counted while it lives")] TaskTrackerToken);

/// Each request has the peer's address as `ConnectInfo<SocketAddr>`, and [`InFlight`].
impl Handler for Router {
    type Body = Body;
    const SMALL_BODIES: bool = false;

    async fn handle(&self, request: Request<Incoming>, client: &Client) -> Response<Body> {
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(client.address));
        extensions.insert(InFlight(client.tracker.token()));
        self.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {})
    }
}

/// Serves until `shutdown` is cancelled; then accepts nothing more, lets what is under way finish, and returns
/// within [`ServeLimits::drain`]. Connections that wait for a request are closed at once.
pub async fn serve<H: Handler>(listener: TcpListener, handler: H, limits: ServeLimits, shutdown: CancellationToken) {
    let tracker = TaskTracker::new();
    let stop = Arc::new(Stop::default());
    // Cut off when the time to finish is up, or should this future be dropped.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let connection = Connection {
                    handler: handler.clone(),
                    client: Client { address, tracker: tracker.clone() },
                    limits: limits.clone(),
                    stop: Arc::clone(&stop),
                };
                connections.spawn(tracker.track_future(connection.serve(stream)));
            }
            // The peer was gone before it was accepted.
            Err(error) if is_connection_error(&error) => {}
            // No file descriptors left, for instance: it would fail again at once.
            Err(error) => {
                tracing::error!(%error, "connections cannot be accepted");
                shutdown.run_until_cancelled(sleep(Duration::from_millis(100))).await;
            }
        }
    }
    drop(listener);
    stop.raise();
    tracker.close();
    if timeout(limits.drain, tracker.wait()).await.is_err() {
        tracing::warn!("connections were cut off: they did not finish in time");
    }
}

/// Tells connections to finish. A cancellation token would do, but costs every one of their wake-ups a lock or two.
#[derive(Default)]
struct Stop {
    raised: AtomicBool,
    raises: Notify,
}

impl Stop {
    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.raises.notify_waiters();
    }

    fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

struct Connection<H> {
    handler: H,
    client: Client,
    limits: ServeLimits,
    stop: Arc<Stop>,
}

impl<H: Handler> Connection<H> {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let progress = Arc::new(AtomicU64::new(0));
        let stream = Stream {
            inner: Some(stream),
            tracker: self.client.tracker.clone(),
            limits: self.limits,
            begun: None,
            wait: None,
            timer: None,
            stalled: None,
            progress: Arc::clone(&progress),
            ended: false,
        };
        let (handler, client, progress) = (&self.handler, &self.client, &progress);
        let service = service_fn(|request: Request<Incoming>| {
            advance(progress);
            async move {
                let response = handler.handle(request, client).await;
                let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if upgraded {
                    progress.store(UPGRADED, Ordering::Relaxed);
                }
                let progress = (!upgraded).then(|| Arc::clone(progress));
                Ok::<_, Infallible>(response.map(|body| Answer { body, progress }))
            }
        });
        let connection = http1::Builder::new()
            .writev(!H::SMALL_BODIES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut raises = pin!(self.stop.raises.notified());
        let (mut waits, mut finishing) = (false, false);
        let result = poll_fn(|context| {
            // Once is enough: it wakes this very task, and the flag says why. In this order, since the flag is raised
            // before whoever waits is woken.
            if !waits {
                waits = true;
                let _ = raises.as_mut().poll(context);
            }
            if !finishing && self.stop.is_raised() {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(context)
        })
        .await;
        if let Err(error) = result {
            tracing::debug!(%error, peer = %self.client.address, "a connection broke");
        }
    }
}

/// The progress of a connection that is no longer HTTP's. Odd: it waits for no request.
const UPGRADED: u64 = u64::MAX;

/// Counts one step. Only the connection's own task does, so that no atomic addition is needed.
fn advance(progress: &AtomicU64) {
    progress.store(progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A body that says when all of it was handed over. What is read before is no wait for a request.
struct Answer<B> {
    body: B,
    /// `None` where the connection is no longer HTTP's.
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

/// A TCP stream that gives up on a peer that sends no request, or not all of its head, in time, and on one that does
/// not read, and that lingers when it is closed.
///
/// hyper has one time-out for both the wait for a request and the rest of its head. A proxy's idle connection may
/// wait far longer than a client may take to send a head. hyper also sets a timer anew for every request; here one
/// timer stays and looks, when it goes off, what it is to wait for now.
struct Stream {
    inner: Option<TcpStream>,
    tracker: TaskTracker,
    limits: ServeLimits,
    /// The progress at which the first bytes of a head came.
    begun: Option<u64>,
    /// What is waited for, and until when.
    wait: Option<(Wait, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The deadline of a write that waits for the peer to read.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Even while the connection waits for a request; raised when one is dispatched and when its answer was handed over.
    progress: Arc<AtomicU64>,
    /// Whether the peer closed its side, or the connection broke.
    ended: bool,
}

/// A wait for a request or for the rest of its head.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wait {
    progress: u64,
    begun: bool,
}

impl Stream {
    fn inner(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// What came of a write, or that it has waited for too long.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.limits.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready when the request that is waited for, or the rest of its head, is overdue.
    fn overdue(&mut self, context: &mut Context<'_>, progress: u64) -> Poll<()> {
        let wait = Wait { progress, begun: self.begun == Some(progress) };
        let deadline = match self.wait {
            Some((same, deadline)) if same == wait => deadline,
            _ => {
                let timeout = if wait.begun { self.limits.head_timeout } else { self.limits.idle_timeout };
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
        let read = self.inner()?.poll_read(context, buffer);
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
        if progress == UPGRADED {
            // It would keep the memory of the task that set it until it goes off.
            self.timer = None;
        }
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.inner()?.poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.inner()?.poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }
}

/// To close a socket with bytes unread resets the connection, and the peer may never see the answer that explains
/// why: a 413 to a body that is still coming, a close frame to a message too large
/// ([RFC 9112, section 9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)). So read on for a while.
impl Drop for Stream {
    fn drop(&mut self) {
        const LINGER: Duration = Duration::from_secs(1);
        let Some(mut stream) = self.inner.take().filter(|_| !self.ended) else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tracker.spawn(timeout(LINGER, async move {
            stream.shutdown().await?;
            let mut discarded = [0; 4096];
            while stream.read(&mut discarded).await? > 0 {}
            io::Result::Ok(())
        }));
    }
}
