//! Serves a listener: HTTP/1.1 with bounds on slow clients, and an orderly end.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep, timeout},
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

/// An extension of every request: while a clone of it lives, [`serve`] waits for what it belongs to. For work that
/// outlives its request, such as a WebSocket or a change whose client hung up.
#[derive(Clone)]
pub struct InFlight(#[expect(dead_code, reason = "counted while it lives")] TaskTrackerToken);

/// Serves until `shutdown` is cancelled; then accepts nothing more, lets what is under way finish, and returns
/// within [`ServeLimits::drain`]. Connections that wait for a request are closed at once. Each request has the
/// peer's address as `ConnectInfo<SocketAddr>`, and [`InFlight`].
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let tracker = TaskTracker::new();
    // Cancelled when the time to finish is up, too, should this future be dropped.
    let cut = CancellationToken::new();
    let _cut_on_drop = cut.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    router: router.clone(),
                    peer,
                    limits: limits.clone(),
                    tracker: tracker.clone(),
                    shutdown: shutdown.clone(),
                };
                let cut = cut.clone();
                tracker.spawn(async move {
                    cut.run_until_cancelled(connection.serve(stream)).await;
                });
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
    tracker.close();
    if timeout(limits.drain, tracker.wait()).await.is_err() {
        tracing::warn!("connections were cut off: they did not finish in time");
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

struct Connection {
    router: Router,
    peer: SocketAddr,
    limits: ServeLimits,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let progress = Arc::new(AtomicU64::new(0));
        let stream = Stream {
            inner: Some(stream),
            tracker: self.tracker.clone(),
            head_timeout: self.limits.head_timeout,
            head: None,
            write_timeout: self.limits.write_timeout,
            stalled: None,
            progress: Arc::clone(&progress),
            ended: false,
        };
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(self.peer));
            extensions.insert(InFlight(self.tracker.token()));
            let router = self.router.clone();
            let progress = Arc::clone(&progress);
            progress.fetch_add(1, Ordering::Relaxed);
            async move {
                let response = router.oneshot(request).await;
                let upgraded =
                    response.as_ref().is_ok_and(|response| response.status() == StatusCode::SWITCHING_PROTOCOLS);
                if !upgraded {
                    progress.fetch_add(1, Ordering::Relaxed);
                }
                response
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle_timeout)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, peer = %self.peer, "a connection broke");
        }
    }
}

/// A TCP stream that gives up on a request whose head does not arrive in time and on a peer that does not read, and
/// that lingers when it is closed.
///
/// hyper has one time-out for both the wait for a request and the rest of its head. A proxy's idle connection may
/// wait far longer than a client may take to send a head.
struct Stream {
    inner: Option<TcpStream>,
    tracker: TaskTracker,
    head_timeout: Duration,
    /// The deadline of a head that has begun, and the progress at which it did.
    head: Option<(u64, Pin<Box<Sleep>>)>,
    write_timeout: Duration,
    /// The deadline of a write that waits for the peer to read.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Even while the connection waits for a request; raised when one is dispatched and when it is answered.
    progress: Arc<AtomicU64>,
    /// Whether the peer closed its side, or the connection broke.
    ended: bool,
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
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
        let reads_head = progress.is_multiple_of(2);
        if let Poll::Ready(result) = read {
            let got_bytes = result.is_ok() && buffer.filled().len() > filled;
            self.ended |= !got_bytes;
            let begun = self.head.as_ref().is_some_and(|(at, _)| *at == progress);
            if got_bytes && reads_head && !begun {
                let deadline = Instant::now() + self.head_timeout;
                match &mut self.head {
                    Some((at, timer)) => {
                        *at = progress;
                        timer.as_mut().reset(deadline);
                    }
                    none => *none = Some((progress, Box::pin(tokio::time::sleep_until(deadline)))),
                }
            }
            return Poll::Ready(result);
        }
        if let Some((at, timer)) = &mut self.head
            && *at == progress
            && reads_head
        {
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
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
