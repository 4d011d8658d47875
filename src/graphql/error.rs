//! GraphQL errors: a message for people and a stable code.

use std::error::Error as _;

use async_graphql::{Error, ErrorExtensions};

use crate::domain::refusal::{ErrorCode, Refusal};
use crate::service::Request;
use crate::service::error::Error as ServiceError;

/// Converts an error of the service. Its cause is logged with the request's id, and is not part of the response.
pub fn from_service(error: ServiceError, request: Request) -> Error {
    if let Some(cause) = error.source() {
        tracing::error!(request = %request.id, code = error.code().as_str(), %cause, "request failed");
    }
    Error::new(error.to_string()).extend_with(|_, extensions| {
        extensions.set("code", error.code().as_str());
        match &error {
            ServiceError::Refused(Refusal::Forbidden(permission)) => extensions.set("permission", permission.code()),
            ServiceError::Refused(Refusal::OtherRevision { current }) => extensions.set("revision", *current),
            ServiceError::Refused(refusal) => {
                if let Some(seconds) = refusal.retry_after_seconds() {
                    extensions.set("retryAfterSeconds", seconds);
                }
            }
            ServiceError::Unavailable(_)
            | ServiceError::DiskFull(_)
            | ServiceError::OutcomeUnknown(_)
            | ServiceError::NotEnforced
            | ServiceError::NewerFormat(_)
            | ServiceError::Internal(_) => {
                extensions.set("requestId", request.id.to_string());
            }
        }
    })
}

/// Converts a refusal that the GraphQL layer decides itself.
pub fn refuse(refusal: &Refusal) -> Error {
    with_code(refusal.to_string(), refusal.code())
}

pub fn with_code(message: impl Into<String>, code: ErrorCode) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code.as_str()))
}
