//! A schema with a field for each outcome of an operation, and an authenticator that accepts one bearer token and
//! puts off another.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use async_graphql::{
    Context, Enum, Error, ErrorExtensions, InputObject, Object, Schema, SimpleObject, Subscription, scalar,
};
use axum::{Router, body::Body};
use futures::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response, StatusCode, header, request::Parts};
use keymark::clock::Environment;
use keymark::graphql::engine::OperationContext;
use keymark::http::{
    authenticator::{Authenticator, SocketSession},
    error::ErrorResponse,
    graphql::{TransportLimits, routes},
    serve::{Client, Handler, Listener, Quick, RequestBody, ServeLimits, serve},
    tls::Tls,
};
use keymark::service::draining::Draining;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The state that resolvers and tests share.
#[derive(Default)]
pub struct World {
    pub value: AtomicI32,
    /// Notified by resolvers that start, and by streams that are dropped.
    pub started: Notify,
    pub dropped: Notify,
    /// Wakes the resolvers that wait.
    pub go_on: Notify,
    pub session_over: CancellationToken,
}

/// The caller of a request, attached by the authenticator.
#[derive(Clone, Copy)]
struct Caller(&'static str);

#[derive(Serialize, Deserialize)]
struct Even(i32);
scalar!(Even);

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Red,
    Green,
}

#[derive(InputObject)]
struct Filter {
    colours: Option<Vec<Colour>>,
    name: Option<String>,
}

#[derive(SimpleObject)]
struct Item {
    id: i32,
    name: String,
}

struct Items(i32);

#[Object]
impl Items {
    async fn nodes(&self) -> Vec<Item> {
        let item = |id| Item { id, name: format!("item {id}") };
        (0..self.0).map(item).collect()
    }

    async fn total_count(&self) -> i32 {
        self.0
    }
}

struct Nested;

#[Object]
impl Nested {
    async fn nested(&self) -> Self {
        Self
    }

    async fn name(&self) -> &str {
        "nested"
    }

    /// Resolves after the fields that need not wait.
    async fn later(&self) -> bool {
        tokio::task::yield_now().await;
        true
    }

    async fn forbidden_later(&self) -> async_graphql::Result<Option<i32>> {
        tokio::task::yield_now().await;
        Err(coded("No.", "FORBIDDEN"))
    }

    async fn maybe(&self) -> Option<Self> {
        Some(Self)
    }

    async fn list(&self) -> Vec<Self> {
        vec![Self, Self]
    }

    async fn sparse(&self) -> Vec<Option<Self>> {
        vec![Some(Self), None, Some(Self)]
    }

    async fn broken(&self) -> async_graphql::Result<i32> {
        Err(coded("Broken.", "INTERNAL"))
    }

    async fn maybe_broken(&self) -> async_graphql::Result<Option<i32>> {
        Err(coded("Broken.", "INTERNAL"))
    }

    async fn maybe_no_object(&self) -> async_graphql::Result<Option<Self>> {
        Err(coded("Broken.", "INTERNAL"))
    }

    /// Returns a value, and adds an error.
    async fn warned(&self, ctx: &Context<'_>) -> i32 {
        let error = coded("Mind the gap.", "CONFLICT").into_server_error(ctx.item.pos);
        ctx.add_error(ctx.set_error_path(error));
        7
    }
}

fn coded(message: &str, code: &'static str) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code))
}

fn panic_on_purpose() -> i32 {
    panic!("on purpose")
}

pub struct Query;

#[Object]
impl Query {
    async fn hello(&self) -> &str {
        "world"
    }

    async fn echo(&self, text: String) -> String {
        text
    }

    async fn optional_echo(&self, text: Option<String>) -> Option<String> {
        text
    }

    async fn caller(&self, ctx: &Context<'_>) -> &str {
        ctx.data_unchecked::<Caller>().0
    }

    async fn nested(&self) -> Nested {
        Nested
    }

    async fn items(&self, first: Option<i32>, filter: Option<Filter>) -> Items {
        let _ = filter.map(|filter| (filter.colours, filter.name));
        Items(first.unwrap_or(50))
    }

    async fn even(&self, number: EvenNumber) -> i32 {
        number.0.0
    }

    async fn later(&self) -> bool {
        tokio::task::yield_now().await;
        true
    }

    async fn forbidden(&self) -> async_graphql::Result<Option<i32>> {
        Err(coded("No.", "FORBIDDEN"))
    }

    async fn forbidden_and_not_null(&self) -> async_graphql::Result<i32> {
        Err(coded("No.", "FORBIDDEN"))
    }

    async fn leak(&self) -> async_graphql::Result<Option<i32>> {
        Err(std::io::Error::other("mongodb://admin:hunter2@db refused").into())
    }

    async fn panics(&self) -> i32 {
        panic_on_purpose()
    }

    async fn cookie(&self, ctx: &Context<'_>) -> bool {
        ctx.insert_http_header(header::SET_COOKIE, "a=1");
        ctx.append_http_header(header::SET_COOKIE, "b=2");
        true
    }

    async fn waits(&self, ctx: &Context<'_>) -> bool {
        wait(ctx).await
    }
}

/// A scalar whose values only its parser can check.
struct EvenNumber(Even);

#[async_graphql::Scalar]
impl async_graphql::ScalarType for EvenNumber {
    fn parse(value: async_graphql::Value) -> async_graphql::InputValueResult<Self> {
        let number: i32 = async_graphql::from_value(value)?;
        if number % 2 == 0 { Ok(Self(Even(number))) } else { Err("not an even number".into()) }
    }

    fn to_value(&self) -> async_graphql::Value {
        self.0.0.into()
    }
}

async fn wait(ctx: &Context<'_>) -> bool {
    let world = ctx.data_unchecked::<Arc<World>>();
    let go_on = world.go_on.notified();
    world.started.notify_one();
    go_on.await;
    true
}

pub struct Mutation;

#[Object]
impl Mutation {
    async fn set(&self, ctx: &Context<'_>, value: i32) -> i32 {
        let world = ctx.data_unchecked::<Arc<World>>();
        world.value.store(value, Ordering::SeqCst);
        value
    }

    async fn set_later(&self, ctx: &Context<'_>, value: i32) -> i32 {
        wait(ctx).await;
        let world = ctx.data_unchecked::<Arc<World>>();
        world.value.store(value, Ordering::SeqCst);
        world.dropped.notify_one();
        value
    }

    async fn panics(&self) -> i32 {
        panic_on_purpose()
    }
}

pub struct Updates;

/// Notifies the world when the stream that owns it is dropped.
struct Dropped(Arc<World>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

#[Subscription]
impl Updates {
    async fn count(&self, to: i32) -> impl Stream<Item = i32> {
        stream::iter(1..=to)
    }

    async fn caller(&self, ctx: &Context<'_>) -> impl Stream<Item = &'static str> {
        stream::iter([ctx.data_unchecked::<Caller>().0])
    }

    /// One event, then none.
    async fn forever(&self, ctx: &Context<'_>) -> impl Stream<Item = i32> {
        let dropped = Dropped(ctx.data_unchecked::<Arc<World>>().clone());
        stream::iter([0]).chain(stream::pending().inspect(move |_: &i32| {
            let _ = &dropped;
        }))
    }

    /// An endless stream of events of 64 KiB.
    async fn flood(&self) -> impl Stream<Item = String> {
        stream::repeat_with(|| "x".repeat(64 * 1024))
    }

    async fn loses_permission(&self) -> impl Stream<Item = async_graphql::Result<i32>> {
        stream::iter([Ok(1), Err(coded("No.", "FORBIDDEN"))])
    }

    async fn panics(&self) -> impl Stream<Item = i32> {
        stream::iter([1, 2]).map(|number| {
            assert!(number < 2, "on purpose");
            number
        })
    }
}

#[derive(Clone)]
pub struct ToyAuthenticator(Arc<World>);

impl ToyAuthenticator {
    fn context(&self, caller: &'static str) -> OperationContext {
        let world = self.0.clone();
        OperationContext::new(caller != "nobody", move |request| request.data(Caller(caller)).data(world.clone()))
    }
}

impl Authenticator for ToyAuthenticator {
    async fn authenticate(&self, parts: &Parts) -> Result<OperationContext, ErrorResponse> {
        match parts.headers.get(header::AUTHORIZATION) {
            None => Ok(self.context("nobody")),
            Some(token) if token == "Bearer good" => Ok(self.context("alice")),
            Some(token) if token == "Bearer later" => {
                Err(ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "Not now.").retry_after(7))
            }
            Some(_) => Err(ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "The token is not valid.")),
        }
    }

    async fn check_upgrade(&self, parts: &Parts) -> Result<(), ErrorResponse> {
        match parts.headers.get(header::ORIGIN) {
            Some(origin) if origin != "https://own.example" => {
                Err(ErrorResponse::new(StatusCode::FORBIDDEN, "FORBIDDEN", "Foreign origin."))
            }
            _ => Ok(()),
        }
    }

    async fn authenticate_socket(
        &self,
        _parts: &Parts,
        payload: &Map<String, Json>,
    ) -> Result<SocketSession, ErrorResponse> {
        match payload.get("authorization").and_then(Json::as_str) {
            Some("Bearer good") => Ok(SocketSession {
                context: self.context("alice"),
                ended: self.0.session_over.clone().cancelled_owned().boxed(),
                is_checked: Arc::default(),
                slot: None,
            }),
            Some("Bearer later") => Err(ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "Not now.")),
            _ => Err(ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "Sign in first.")),
        }
    }
}

pub fn router(world: &Arc<World>, limits: TransportLimits, shutdown: CancellationToken) -> Router {
    let schema = Schema::build(Query, Mutation, Updates).finish();
    routes(schema, ToyAuthenticator(world.clone()), limits, shutdown)
}

/// A router whose requests count as quick.
#[derive(Clone)]
pub struct QuickRouter(pub Router);

impl Handler for QuickRouter {
    type Body = Body;

    async fn handle(&self, request: Request<impl RequestBody>, client: &Client) -> Response<Body> {
        let mut response = Handler::handle(&self.0, request, client).await;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response
    }

    fn quick(&self) -> Option<Quick> {
        let headers = vec![header::ACCEPT, header::CONTENT_TYPE, header::HOST];
        Some(Quick { headers, environment: Environment::system() })
    }
}

/// A server on a port of its own.
pub struct Server {
    pub world: Arc<World>,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(limits: TransportLimits, serve_limits: ServeLimits) -> Self {
        Self::start_on(limits, serve_limits, None, Draining::default(), |router| router).await
    }

    pub async fn start_on<H: Handler>(
        limits: TransportLimits,
        serve_limits: ServeLimits,
        tls: Option<Arc<Tls>>,
        draining: Draining,
        handler_of: impl FnOnce(Router) -> H,
    ) -> Self {
        let world = Arc::new(World::default());
        let shutdown = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let handler = handler_of(router(&world, limits, shutdown.clone()));
        let serving =
            tokio::spawn(serve(Listener::new(listener, tls, draining), handler, serve_limits, shutdown.clone()));
        Self { world, address, shutdown, serving }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
