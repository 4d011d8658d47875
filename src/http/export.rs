//! `GET /audit/export`: streams the entries of the tenant that match a filter. `GET /audit/key`: the public key
//! that verifies the checkpoints of exports.

use std::error::Error as _;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::TryStreamExt;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::request::Parts;
use serde::{Deserialize, Serialize};

use super::error::ErrorResponse;
use super::session_authenticator::{SessionAuthenticator, service_error, tenant_of};
use crate::audit_text::Format;
use crate::domain::audit::AuditFilter;
use crate::domain::permissions::Permission;
use crate::domain::refusal::{ErrorCode, Refusal};
use crate::domain::signatures::{KeyId, PublicKey};
use crate::service::audit::Exporter;
use crate::service::callers::RequestedTenant;
use crate::service::error::Error;

pub fn routes(authenticator: SessionAuthenticator) -> Router {
    // Otherwise a HEAD would be recorded as an export.
    let export = get(export).head(refuse_head);
    Router::new().route("/audit/export", export).route("/audit/key", get(key)).with_state(authenticator)
}

async fn refuse_head() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")]).into_response()
}

/// A public key, which anybody may have.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    key_id: KeyId,
    algorithm: &'static str,
    public_key: PublicKey,
}

impl From<PublicKey> for Key {
    fn from(public_key: PublicKey) -> Self {
        Self { key_id: public_key.id(), algorithm: "Ed25519", public_key }
    }
}

#[derive(Serialize)]
struct Keys {
    #[serde(flatten)]
    current: Key,
    /// The keys of previous root secrets, which verify older checkpoints.
    previous: Vec<Key>,
}

async fn key(State(authenticator): State<SessionAuthenticator>) -> Response {
    let mut keys = authenticator.service().keyring().public_keys().into_iter();
    let current = keys.next().expect("a keyring has a current key").into();
    let keys = Keys { current, previous: keys.map(Key::from).collect() };
    ([(CACHE_CONTROL, "no-cache")], Json(keys)).into_response()
}

/// The fields of the GraphQL input `AuditFilter`, the format, and the tenant, since a link cannot send a header. `actions`
/// is separated by commas.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameters {
    format: Format,
    tenant: Option<String>,
    system_id: Option<String>,
    actor_id: Option<String>,
    actions: Option<String>,
    outcome: Option<String>,
    key_mark: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Parameters {
    fn filter(&self) -> Result<AuditFilter, ErrorResponse> {
        fn read<T>(
            name: &str,
            text: Option<&String>,
            parse: impl Fn(&str) -> Option<T>,
        ) -> Result<Option<T>, ErrorResponse> {
            let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
            parse(text).map(Some).ok_or_else(|| bad_request(format!("The parameter `{name}` is malformed.")))
        }
        let action = |text: &str| serde_json::from_value(text.into()).ok();
        Ok(AuditFilter {
            system: read("systemId", self.system_id.as_ref(), |text| text.parse().ok())?,
            actor: read("actorId", self.actor_id.as_ref(), |text| text.parse().ok())?,
            actions: read("actions", self.actions.as_ref(), |text| text.split(',').map(action).collect())?,
            outcome: read("outcome", self.outcome.as_ref(), |text| serde_json::from_value(text.into()).ok())?,
            key_mark: read("keyMark", self.key_mark.as_ref(), |text| text.to_owned().try_into().ok())?,
            from: read("from", self.from.as_ref(), |text| text.parse().ok())?,
            to: read("to", self.to.as_ref(), |text| text.parse().ok())?,
        })
    }
}

async fn export(
    State(authenticator): State<SessionAuthenticator>,
    parts: Parts,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ErrorResponse> {
    let named = parameters.as_ref().ok().and_then(|Query(parameters)| parameters.tenant.as_deref());
    let tenant = match named.filter(|tenant| !tenant.is_empty()) {
        Some(tenant) => RequestedTenant::parse(Some(tenant)),
        None => tenant_of(&parts.headers),
    };
    let context = authenticator.identify_in(&parts, tenant).await?;
    let (service, request) = (authenticator.service(), context.request);
    let refused = |error: &Error| service_error(error, request);
    let caller = context.find_caller(service).await.map_err(|error| refused(&error))?;
    let caller = caller.cloned().ok_or_else(|| refused(&Refusal::Unauthenticated.into()))?;
    service.require_permission(&caller, request, Permission::View).await.map_err(|error| refused(&error))?;
    let Query(parameters) = parameters.map_err(|error| bad_request(error.body_text()))?;
    let (filter, format) = (parameters.filter()?, parameters.format);
    let export = service.export_audit(request, Exporter::Operator(caller), filter, format).await;
    let body = Body::from_stream(export.map_err(|error| refused(&error))?.map_err(|error| {
        tracing::error!(%error, cause = error.source(), "audit export aborted");
        Aborted
    }));
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        (CONTENT_DISPOSITION, format.disposition()),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

fn bad_request(message: impl Into<String>) -> ErrorResponse {
    ErrorResponse::new(StatusCode::BAD_REQUEST, ErrorCode::BadUserInput.as_str(), message)
}

/// Ends the body early, so that the client notices. The cause is in the log.
#[derive(Debug, thiserror::Error)]
#[error("audit export aborted")]
struct Aborted;
