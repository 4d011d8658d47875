//! `GET /audit/export`: the tenant's audit log, as far as a filter goes, as one stream.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{Stream, TryStreamExt, stream};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use serde::Deserialize;

use super::admission::{SessionGate, failure};
use super::gate::Refusal;
use crate::audit_text::{self, Format};
use crate::domain::audit::{AuditActor, AuditFilter};
use crate::domain::pages::{PageEnd, PageRequest};
use crate::domain::permissions::Permission;
use crate::domain::refusal::{self, ErrorCode};
use crate::service::error::Error;
use crate::service::{Caller, Service};

/// Entries that are read at once.
const ENTRIES_A_READ: usize = 500;

pub fn routes(gate: SessionGate) -> Router {
    Router::new().route("/audit/export", get(export)).with_state(gate)
}

/// The members of `AuditFilter`, and the format. `actions` is a list separated by commas.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameters {
    format: Format,
    system_id: Option<String>,
    actor_id: Option<String>,
    actions: Option<String>,
    outcome: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Parameters {
    fn filter(&self) -> Result<AuditFilter, Refusal> {
        fn read<T>(name: &str, text: Option<&String>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
            let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
            parse(text).map(Some).ok_or_else(|| bad_request(format!("`{name}` is malformed.")))
        }
        let named = |text: &str| serde_json::from_value(text.into()).ok();
        Ok(AuditFilter {
            system: read("systemId", self.system_id.as_ref(), |text| text.parse().ok())?,
            actor: read("actorId", self.actor_id.as_ref(), |text| text.parse().ok())?,
            actions: read("actions", self.actions.as_ref(), |text| text.split(',').map(named).collect())?,
            outcome: read("outcome", self.outcome.as_ref(), |text| serde_json::from_value(text.into()).ok())?,
            from: read("from", self.from.as_ref(), |text| text.parse().ok())?,
            to: read("to", self.to.as_ref(), |text| text.parse().ok())?,
        })
    }
}

async fn export(
    State(gate): State<SessionGate>,
    parts: Parts,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let sender = gate.identify(&parts).await?;
    let refused = |error: &Error| failure(error, sender.request);
    let caller = sender.caller.ok_or_else(|| refused(&refusal::Refusal::Unauthenticated.into()))?;
    gate.service().demand(&caller, sender.request, Permission::View).await.map_err(|error| refused(&error))?;
    let Query(parameters) = parameters.map_err(|error| bad_request(error.body_text()))?;
    let filter = parameters.filter()?;
    let tenant = &caller.operator.tenant;
    let noted = gate.service().record_audit_export(tenant, AuditActor::operator(&caller.operator), sender.request);
    noted.await.map_err(|error| refused(&error))?;
    let format = parameters.format;
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        (CONTENT_DISPOSITION, format.disposition()),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let parts = stream_parts(Arc::clone(gate.service()), caller, filter, format);
    let body = Body::from_stream(parts.map_err(|error| {
        tracing::error!(cause = ?error.cause(), "an export was cut off");
        CutOff
    }));
    Ok((headers, body).into_response())
}

/// The text of the export, oldest entry first, a page of entries at a time; to its end, or until the caller may not see
/// it any more.
fn stream_parts(
    service: Arc<Service>,
    caller: Arc<Caller>,
    filter: AuditFilter,
    format: Format,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let head = stream::once(async move { Ok(Bytes::from(audit_text::head(format))) });
    let pages = stream::try_unfold(Some(None), move |before| {
        let (service, caller, filter) = (Arc::clone(&service), Arc::clone(&caller), filter.clone());
        async move {
            let Some(before) = before else { return Ok(None) };
            service.refresh_caller(&caller).await?.check(Permission::View)?;
            let request = PageRequest { after: None, before, limit: ENTRIES_A_READ, from: PageEnd::Last };
            let page = service.list_audit(&caller.operator.tenant, &filter, &request).await?;
            let Some(newest) = page.items.first() else { return Ok(None) };
            let next = page.has_more.then_some(Some(newest.number));
            let text = page.items.iter().rev().map(|entry| audit_text::line(entry, format)).collect::<String>();
            Ok(Some((Bytes::from(text), next)))
        }
    });
    futures::StreamExt::chain(head, pages)
}

fn bad_request(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, ErrorCode::BadUserInput.as_str(), message)
}

/// Ends a body before its end, so that the client notices.
#[derive(Debug)]
struct CutOff;

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the export was cut off")
    }
}

impl std::error::Error for CutOff {}
