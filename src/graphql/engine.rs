//! Executes operations, for both transports: a query or a mutation has one outcome, and every operation is also a
//! stream of payloads.
//!
//! Subscribers with the same selection share their payloads. async-graphql runs a subscription only until its events
//! can be detached (see `graphql::shared`); its state of a running subscription is some 20 KiB, and is dropped
//! then. For each audit entry, the first subscriber whom it reaches executes the operation, and the others find the
//! payload in a cache.

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, ObjectType, Request, Response, Schema, ServerError, SubscriptionType};
use bytes::Bytes;
use futures::future::Either;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tracing::Instrument;

use super::answers::Reader;
use super::completion::OutputTypes;
use super::limits::{DocumentError, Documents, Limits};
use super::operation::{Operation, Outcome, Parameters, SelectedOperation, internal_error};
use super::shared::{DetachedEvents, EventResult, ReplayedEvent, SelectionId, SubscriptionEvent};
use crate::domain::ids::TenantId;

/// Bytes of the payloads that are kept for other subscribers.
const MAX_PAYLOADS_BYTES: u64 = 4 * 1024 * 1024;
/// About how many payloads these are.
const EXPECTED_PAYLOADS: usize = 4 * 1024;

/// A schema, with what is shared between its operations: parsed documents and payloads of subscriptions.
pub struct Engine<E> {
    executor: E,
    documents: Documents,
    types: OutputTypes,
    payloads: Cache<PayloadKey, Bytes, PayloadWeight>,
}

/// Shared by the operations of one client.
#[derive(Clone)]
pub struct OperationContext {
    attach: Arc<dyn Fn(Request) -> Request + Send + Sync>,
    is_signed_in: bool,
    reader: Option<Reader>,
}

impl OperationContext {
    /// `attach` adds to each operation the data that its resolvers read; on a WebSocket it runs for every operation.
    /// Errors suggest names of the schema only to clients that are signed in.
    pub fn new(is_signed_in: bool, attach: impl Fn(Request) -> Request + Send + Sync + 'static) -> Self {
        Self { attach: Arc::new(attach), is_signed_in, reader: None }
    }

    /// Adds the caller whose answers may be cached.
    #[must_use]
    pub fn with_reader(self, reader: Option<Reader>) -> Self {
        Self { reader, ..self }
    }

    pub fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }
}

/// An item of an operation's stream.
#[derive(Debug)]
pub enum Payload {
    /// The JSON of an execution result.
    Result(Bytes),
    /// Request errors: the operation was not executed, or cannot go on. The last item of its stream.
    Errors(Vec<ServerError>),
}

impl Payload {
    fn internal_error() -> Self {
        Self::Errors(vec![internal_error()])
    }

    /// The payload of a response. The first one decides whether the operation is executed; errors of a later one are
    /// a result without data.
    fn new(outcome: Outcome, is_first: bool) -> Self {
        let response = match outcome {
            Outcome::Executed(response) => response,
            Outcome::Refused(errors) if is_first => return Self::Errors(errors),
            Outcome::Refused(errors) => Response::from_errors(errors),
            Outcome::Failed => return Self::internal_error(),
        };
        serde_json::to_vec(&response).map_or_else(
            |error| {
                tracing::error!(%error, "response not serializable");
                Self::internal_error()
            },
            |payload| Self::Result(payload.into()),
        )
    }
}

impl<Q, M, S> Engine<Schema<Q, M, S>>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    /// # Panics
    ///
    /// If async-graphql cannot parse the SDL that it prints.
    pub fn new(schema: Schema<Q, M, S>, limits: Limits) -> Self {
        Self {
            types: OutputTypes::from_sdl(&schema.sdl()).expect("the SDL of a schema parses"),
            executor: schema,
            documents: Documents::new(limits),
            payloads: Cache::with_weighter(EXPECTED_PAYLOADS, MAX_PAYLOADS_BYTES, PayloadWeight),
        }
    }
}

impl<E: Executor> Engine<E> {
    /// Parses the document, and checks it and its variables against the limits.
    ///
    /// # Errors
    ///
    /// A [request error](https://spec.graphql.org/October2021/#sec-Errors.Request-errors): nothing is executed.
    pub fn prepare(&self, parameters: Parameters) -> Result<Operation, DocumentError> {
        Operation::prepare(&self.documents, parameters)
    }

    /// Executes a query or a mutation.
    ///
    /// A mutation runs in a task of its own, so that a client that disconnects does not cancel it halfway. `held` is
    /// dropped when the operation is over, whether or not the caller still waits.
    pub async fn execute(
        &self,
        operation: Operation,
        context: &OperationContext,
        held: impl Send + 'static,
    ) -> Outcome {
        let Operation { kind, request, selected, .. } = operation;
        let (executor, request) = (self.executor.clone(), (context.attach)(request));
        let run = async move {
            let _held = held;
            executor.execute(request).await
        };
        let executed = if kind == OperationType::Mutation {
            tokio::spawn(run.in_current_span()).await.map_err(drop)
        } else {
            AssertUnwindSafe(run).catch_unwind().await.map_err(drop)
        };
        let Ok(response) = executed else {
            tracing::error!("operation panicked");
            return Outcome::Failed;
        };
        self.outcome(response, &selected, context)
    }

    /// Executes any operation. `held` is dropped before the stream ends.
    pub fn stream(
        self: &Arc<Self>,
        operation: Operation,
        context: OperationContext,
        held: impl Send + 'static,
    ) -> BoxStream<'static, Payload> {
        let engine = Arc::clone(self);
        if operation.kind != OperationType::Subscription {
            let executed = async move { Payload::new(engine.execute(operation, &context, held).await, true) };
            return stream::once(executed).boxed();
        }
        let Operation { request, selected, .. } = operation;
        let running = RunningSubscription::start(&self.executor, (context.attach)(request), selected.id.is_some());
        let state = (running, engine, context, selected, held);
        // The future has room for the state once, since it takes it whole.
        let payloads = stream::unfold(state, |mut state| async move {
            let (running, engine, context, selected, _) = &mut state;
            let payload = running.next(engine, context, selected).await?;
            Some((payload, state))
        });
        let payloads = AssertUnwindSafe(payloads).catch_unwind().map(|payload| {
            payload.unwrap_or_else(|_| {
                tracing::error!("subscription panicked");
                Payload::internal_error()
            })
        });
        payloads.boxed()
    }

    fn outcome(&self, response: Response, selected: &SelectedOperation, context: &OperationContext) -> Outcome {
        Outcome::new(response, selected, &self.types, context.is_signed_in)
    }

    /// Executes the subscription for one event, unless another subscriber has. Only results without errors are shared.
    fn payload_of<'a>(
        &'a self,
        event: EventResult,
        context: &'a OperationContext,
        selected: &'a SelectedOperation,
    ) -> impl Future<Output = Option<Payload>> + Send + 'a {
        let key = match (&event, selected.id) {
            (Ok(SubscriptionEvent::Entry(entry)), Some(selection)) => {
                Some(PayloadKey { selection, tenant: entry.tenant.clone(), number: entry.number })
            }
            _ => None,
        };
        if let Some(payload) = key.as_ref().and_then(|key| self.payloads.get(key)) {
            return Either::Left(ready(Some(Payload::Result(payload))));
        }
        // Boxed, since it is rare and large: it would be part of each subscriber's future.
        Either::Right(Box::pin(async move {
            let request = (context.attach)(selected.request()).data(ReplayedEvent(event));
            let response = self.executor.execute_stream(request, None).next().await?;
            let is_shared = response.errors.is_empty();
            let payload = Payload::new(self.outcome(response, selected, context), false);
            if let (Some(key), true, Payload::Result(payload)) = (key, is_shared, &payload) {
                self.payloads.insert(key, payload.clone());
            }
            Some(payload)
        }))
    }
}

/// A subscription: run by async-graphql at first, then by its events alone.
enum RunningSubscription {
    Starting { responses: BoxStream<'static, Response>, detached: Option<Arc<DetachedEvents>>, is_first: bool },
    Detached(BoxStream<'static, EventResult>),
}

impl RunningSubscription {
    fn start<E: Executor>(executor: &E, request: Request, may_detach: bool) -> Self {
        let detached = may_detach.then(Arc::<DetachedEvents>::default);
        let request = match &detached {
            Some(detached) => request.data(Arc::clone(detached)),
            None => request,
        };
        Self::Starting { responses: executor.execute_stream(request, None), detached, is_first: true }
    }

    async fn next<E: Executor>(
        &mut self,
        engine: &Engine<E>,
        context: &OperationContext,
        selected: &SelectedOperation,
    ) -> Option<Payload> {
        loop {
            match self {
                Self::Starting { responses, detached, is_first } => {
                    if let Some(response) = responses.next().await {
                        let is_first = std::mem::replace(is_first, false);
                        return Some(Payload::new(engine.outcome(response, selected, context), is_first));
                    }
                    *self = Self::Detached(detached.as_ref().and_then(|detached| detached.take())?);
                }
                Self::Detached(events) => {
                    let event = events.next().await?;
                    if let Some(payload) = engine.payload_of(event, context, selected).await {
                        return Some(payload);
                    }
                }
            }
        }
    }
}

/// One audit entry in one selection.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PayloadKey {
    selection: SelectionId,
    tenant: TenantId,
    number: u64,
}

#[derive(Clone)]
struct PayloadWeight;

impl Weighter<PayloadKey, Bytes> for PayloadWeight {
    fn weight(&self, _: &PayloadKey, payload: &Bytes) -> u64 {
        (size_of::<(PayloadKey, Bytes)>() + payload.len()) as u64
    }
}
