//! Subscriptions, of which async-graphql keeps nothing while they wait, and whose entries are shown once for all who
//! select the same: the first subscriber whom an entry reaches runs the operation for it, and the others find the payload.

use std::sync::Arc;

use async_graphql::{Executor, Request, Response};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::gate::{Admission, Gate};
use super::graphql::Transport;
use super::operation::{Outcome, Selected};
use crate::domain::ids::TenantId;
use crate::graphql::sharing::{Given, Handover, News, SelectionId, Told};
use crate::recent::Recent;

/// What a subscription shows at one time.
pub(super) enum Shown {
    Response { first: bool, response: Box<Response> },
    Payload(Bytes),
}

/// A subscription from its start to its end. async-graphql's state of it lasts until its news is handed over, and is
/// some 20 KiB.
pub(super) enum Following {
    Beginning { results: BoxStream<'static, Response>, handover: Arc<Handover>, first: bool },
    Told(BoxStream<'static, Told>),
    Over,
}

impl Following {
    pub(super) fn new<E: Executor>(executor: &E, request: Request) -> Self {
        let handover = Arc::new(Handover::default());
        let results = executor.execute_stream(request.data(Arc::clone(&handover)), None);
        Self::Beginning { results, handover, first: true }
    }

    pub(super) async fn next<E: Executor, G: Gate>(
        &mut self,
        transport: &Transport<E, G>,
        admission: &Admission,
        selected: &Selected,
    ) -> Option<Shown> {
        loop {
            match self {
                Self::Beginning { results, handover, first } => {
                    if let Some(response) = results.next().await {
                        let first = std::mem::replace(first, false);
                        return Some(Shown::Response { first, response: Box::new(response) });
                    }
                    *self = handover.take().map_or(Self::Over, Self::Told);
                }
                Self::Told(told) => match told.next().await {
                    Some(told) => {
                        if let Some(shown) = show(transport, admission, selected, told).await {
                            return Some(shown);
                        }
                    }
                    None => *self = Self::Over,
                },
                Self::Over => return None,
            }
        }
    }
}

/// Shows what a subscriber is told. Only what is free of errors is shared.
async fn show<E: Executor, G: Gate>(
    transport: &Transport<E, G>,
    admission: &Admission,
    selected: &Selected,
    told: Told,
) -> Option<Shown> {
    let key = match (&told, selected.id) {
        (Ok(News::Entry(entry)), Some(selection)) => {
            Some(Key { selection, tenant: entry.tenant.clone(), number: entry.number })
        }
        _ => None,
    };
    if let Some(payload) = key.as_ref().and_then(|key| transport.payloads.find(key)) {
        return Some(Shown::Payload(payload));
    }
    // Rarely come by, and large: not to be part of every subscriber's future.
    Box::pin(async {
        let request = admission.attach(selected.request()).data(Given(told));
        let response = transport.executor.execute_stream(request, None).next().await?;
        let (Some(key), true) = (key, response.errors.is_empty()) else {
            return Some(Shown::Response { first: false, response: Box::new(response) });
        };
        let response = match Outcome::of(response, selected, &transport.types, admission.signed_in()) {
            Outcome::Executed(response) => response,
            Outcome::Refused(errors) => Response::from_errors(errors),
        };
        let Ok(payload) = serde_json::to_vec(&response) else {
            return Some(Shown::Response { first: false, response: Box::new(response) });
        };
        let payload = Bytes::from(payload);
        let weight = size_of::<(Key, Bytes)>() + payload.len();
        transport.payloads.keep(key, payload.clone(), weight);
        Some(Shown::Payload(payload))
    })
    .await
}

/// One entry in one selection.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    selection: SelectionId,
    tenant: TenantId,
    number: u64,
}

/// The payloads made last.
pub(super) type Payloads = Recent<Key, Bytes>;

/// Bytes of one generation of the payloads.
pub(super) const MAX_PAYLOADS_BYTES: usize = 2 * 1024 * 1024;
