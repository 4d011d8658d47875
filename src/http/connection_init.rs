//! The payload of `connection_init`: what is wrong with one that has no usable credentials.

use serde_json::{Map, Value as Json};

use super::front::bearer;

/// Where clients of other servers put their token.
const MISPLACED: &[(&str, &str)] = &[
    ("token", r#"The payload has "token". Send {"authorization": "Bearer <token>"} instead"#),
    ("accessToken", r#"The payload has "accessToken". Send {"authorization": "Bearer <token>"} instead"#),
    ("access_token", r#"The payload has "access_token". Send {"authorization": "Bearer <token>"} instead"#),
    ("authToken", r#"The payload has "authToken". Send {"authorization": "Bearer <token>"} instead"#),
    ("headers", r#"The payload has "headers". Send {"authorization": "Bearer <token>"} without it"#),
];

/// Describes the credentials of a socket that was refused: what is wrong, and what to send. `None` if there are some of the
/// right form, which are then invalid.
///
/// The description fits into a close frame, and contains nothing of the payload.
pub fn describe_problem(payload: &Map<String, Json>, cookie: SocketCookie) -> Option<&'static str> {
    match payload.get("authorization").or_else(|| payload.get("Authorization")) {
        Some(Json::String(value)) if bearer(value).is_some_and(|token| !token.is_empty()) => None,
        Some(Json::String(_)) => {
            Some(r#""authorization" has no "Bearer " and token. Send {"authorization": "Bearer <token>"}"#)
        }
        Some(_) => Some(r#""authorization" is not a string. Send {"authorization": "Bearer <token>"}"#),
        None => {
            let misplaced = MISPLACED.iter().find(|(name, _)| payload.contains_key(*name));
            if let Some((_, problem)) = misplaced {
                return Some(problem);
            }
            match cookie {
                SocketCookie::Used => None,
                SocketCookie::NotAllowed => {
                    Some(r#"This origin's cookie is not used. Send the payload {"authorization": "Bearer <token>"}"#)
                }
                SocketCookie::Absent if payload.is_empty() => {
                    Some(r#"connection_init has no credentials. Send the payload {"authorization": "Bearer <token>"}"#)
                }
                SocketCookie::Absent => {
                    Some(r#"The payload has no "authorization". Send {"authorization": "Bearer <token>"}"#)
                }
            }
        }
    }
}

/// The session's cookie of the request that opened a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketCookie {
    Absent,
    Used,
    /// The cookie is of a page that may send tokens only.
    NotAllowed,
}
