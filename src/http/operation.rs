//! What both transports do with one GraphQL operation: read its parameters, bring it to execution, and put the
//! answer into shape.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{
    Executor, Name, Request, Response, ServerError, Value, Variables,
    parser::types::{OperationDefinition, OperationType},
};
use futures::FutureExt;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tracing::Instrument;

use crate::graphql::{
    completion::OutputTypes,
    limits::{Document, DocumentError, Documents},
    sharing::SelectionId,
};

use super::gate::Refusal;

/// Request errors that one answer lists; the rest is counted.
const MAX_ERRORS: usize = 50;

/// The parameters of a
/// [GraphQL-over-HTTP request](https://graphql.github.io/graphql-over-http/draft/#sec-Request-Parameters).
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) query: String,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Map<String, Json>,
    pub(super) extensions: Map<String, Json>,
}

impl Parameters {
    /// Members of other names are ignored, as the specification demands.
    ///
    /// # Errors
    ///
    /// Says which parameter is missing or of the wrong type.
    pub(super) fn from_json(mut members: Map<String, Json>) -> Result<Self, String> {
        let mut map = |name: &str| match members.remove(name) {
            None | Some(Json::Null) => Ok(Map::new()),
            Some(Json::Object(map)) => Ok(map),
            Some(_) => Err(format!("`{name}` must be an object.")),
        };
        let (variables, extensions) = (map("variables")?, map("extensions")?);
        let query = match members.remove("query") {
            Some(Json::String(query)) => query,
            None | Some(Json::Null) => return Err("`query` is missing.".to_owned()),
            Some(_) => return Err("`query` must be a string.".to_owned()),
        };
        let operation_name = match members.remove("operationName") {
            None | Some(Json::Null) => None,
            Some(Json::String(name)) => Some(name),
            Some(_) => return Err("`operationName` must be a string.".to_owned()),
        };
        Ok(Self { query, operation_name, variables, extensions })
    }
}

/// Values in one JSON text from a client, roughly: about what the largest documents' variables may hold, and what
/// takes a millisecond to parse.
const MAX_JSON_VALUES: usize = 10_000;

/// Why a JSON text is refused.
pub(super) enum JsonError {
    /// It has more values than any request needs; they take many times the memory of their text.
    TooManyValues,
    Malformed(serde_json::Error),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyValues => write!(f, "more than {MAX_JSON_VALUES} values"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

/// Parses JSON from a client; nested at most 128 deep.
pub(super) fn parse_json(text: &[u8]) -> Result<Json, JsonError> {
    let (mut values, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    if values > MAX_JSON_VALUES {
        return Err(JsonError::TooManyValues);
    }
    serde_json::from_slice(text).map_err(JsonError::Malformed)
}

/// An operation within the limits, ready to be executed.
pub(super) struct Operation {
    pub(super) kind: OperationType,
    pub(super) request: Request,
    pub(super) selected: Selected,
}

/// The operation of a document that is run.
pub(super) struct Selected {
    document: Arc<Document>,
    operation_name: Option<String>,
    /// Of a subscription that may be run again; a tree would take a KiB for the first of them.
    variables: Box<[(Name, Value)]>,
    /// `None` when it is not to be run again.
    pub(super) id: Option<SelectionId>,
}

impl Selected {
    /// A request that runs the same once more.
    pub(super) fn request(&self) -> Request {
        let variables = self.variables.iter().cloned().collect();
        // The text is not looked at where the document is parsed.
        let mut request = Request::new("").variables(Variables::from_value(Value::Object(variables)));
        request.operation_name.clone_from(&self.operation_name);
        request.set_parsed_query(self.document.parsed().clone());
        request
    }
}

impl Operation {
    /// # Errors
    ///
    /// A [request error](https://spec.graphql.org/October2021/#sec-Errors.Request-errors): nothing was executed.
    pub(super) fn prepare(documents: &Documents, parameters: Parameters) -> Result<Self, DocumentError> {
        let document = documents.parse(&parameters.query)?;
        let operation = document.operation(parameters.operation_name.as_deref())?;
        let operation = &operation.node;
        let kind = operation.ty;
        let variables = coerce(operation, Variables::from_json(Json::Object(parameters.variables)))?;
        documents.check_cost(&document, operation, &variables)?;

        let Parameters { query, operation_name, extensions, .. } = parameters;
        let id = SelectionId::of(&query, operation_name.as_deref(), document.parsed(), operation, &variables);
        let again =
            id.iter().flat_map(|_| variables.iter()).map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut request = Request::new(query).variables(variables);
        request.operation_name.clone_from(&operation_name);
        request.extensions.0 =
            extensions.into_iter().filter_map(|(name, value)| Some((name, Value::from_json(value).ok()?))).collect();
        request.set_parsed_query(document.parsed().clone());
        Ok(Self { kind, request, selected: Selected { document, operation_name, variables: again, id } })
    }
}

/// The part of [CoerceVariableValues()](https://spec.graphql.org/October2021/#CoerceVariableValues()) that
/// async-graphql leaves to the resolvers: values that are missing. The validator looks at those that are there.
fn coerce(operation: &OperationDefinition, mut variables: Variables) -> Result<Variables, DocumentError> {
    for definition in &operation.variable_definitions {
        let (name, ty) = (&definition.node.name.node, &definition.node.var_type.node);
        let complaint = match variables.get(name) {
            None if definition.node.default_value.is_some() => {
                if let Some(default) = &definition.node.default_value {
                    variables.insert(name.clone(), default.node.clone());
                }
                continue;
            }
            None if !ty.nullable => "was not provided",
            // Null and absent are the same to every argument here; but the validator passes over a value, with all
            // that is wrong in it, where one of its variables is absent.
            None => {
                variables.insert(name.clone(), Value::Null);
                continue;
            }
            Some(Value::Null) if !ty.nullable => "must not be null",
            _ => continue,
        };
        return Err(DocumentError::Invalid {
            message: format!("Variable \"${name}\" of required type \"{ty}\" {complaint}."),
            locations: vec![definition.pos],
        });
    }
    Ok(variables)
}

/// What came of an operation.
pub(super) enum Outcome {
    /// A request error: there is no `data`.
    Refused(Vec<ServerError>),
    /// It ran. `data` may be null all the same, where a field that must not be null failed.
    Executed(Response),
}

/// The body of an answer to an operation that was not executed.
#[derive(Serialize)]
pub(super) struct RequestErrors<'a> {
    pub(super) errors: &'a [ServerError],
}

impl Outcome {
    /// Every error gets a code, and none tells a client what it must not know: internal causes go to the log, and
    /// names of the schema are suggested to callers who are signed in alone.
    pub(super) fn of(mut response: Response, selected: &Selected, types: &OutputTypes, signed_in: bool) -> Self {
        let refused = response.data == Value::Null
            && !response.errors.is_empty()
            && response.errors.iter().all(|error| error.path.is_empty());
        if !refused {
            let Selected { document, operation_name, .. } = selected;
            if !response.errors.is_empty()
                && let Ok(operation) = document.operation(operation_name.as_deref())
            {
                types.complete(document.parsed(), &operation.node, &mut response);
            }
            if let Some(order) = document.response_order(operation_name.as_deref()) {
                order.arrange(&mut response.data);
            }
            for error in &mut response.errors {
                settle(error, signed_in);
            }
            return Self::Executed(response);
        }
        let excess = response.errors.len().saturating_sub(MAX_ERRORS);
        response.errors.truncate(MAX_ERRORS);
        if excess > 0 {
            let message = format!("{excess} more errors are not listed.");
            response.errors.push(ServerError::new(message, None));
        }
        for error in &mut response.errors {
            settle(error, signed_in);
        }
        Self::Refused(response.errors)
    }
}

fn settle(error: &mut ServerError, signed_in: bool) {
    if !signed_in && let Some(at) = error.message.find(" Did you mean ") {
        error.message.truncate(at);
    }
    let has_code = error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some());
    if has_code {
        return;
    }
    if error.path.is_empty() && error.source.is_none() {
        set_code(error, code_of_request_error(&error.message));
    } else if error.source.is_none() && is_input_error(&error.message) {
        set_code(error, "BAD_USER_INPUT");
    } else {
        tracing::error!(message = %error.message, path = ?error.path, "an error without a code");
        error.message = Refusal::internal().message;
        error.extensions = None;
        set_code(error, "INTERNAL");
    }
}

pub(super) fn set_code(error: &mut ServerError, code: &str) {
    error.extensions.get_or_insert_default().set("code", code.to_owned());
}

/// async-graphql's own limits say so in their messages alone.
fn code_of_request_error(message: &str) -> &'static str {
    let limits = [
        "Query is too complex",
        "Query is nested too deep",
        "The recursion depth of the query",
        "The number of directives on the field",
    ];
    if limits.iter().any(|limit| message.starts_with(limit)) { "QUERY_TOO_COMPLEX" } else { "BAD_USER_INPUT" }
}

/// Arguments that only a resolver parses, such as a scalar of ours, are refused by async-graphql in these words.
fn is_input_error(message: &str) -> bool {
    ["Expected input type \"", "Failed to parse \"", "Invalid value for argument"]
        .iter()
        .any(|start| message.starts_with(start))
}

/// Executes the request of a query or a mutation. `None` when it panicked.
///
/// A mutation runs in a task of its own: a client that hangs up does not cut it in half. `held` is dropped when
/// the operation is over, whether or not anybody waits for it.
pub(super) async fn execute<E: Executor>(
    executor: E,
    kind: OperationType,
    request: Request,
    held: impl Send + 'static,
) -> Option<Response> {
    let run = async move {
        let _held = held;
        executor.execute(request).await
    };
    let ran = if kind == OperationType::Mutation {
        tokio::spawn(run.in_current_span()).await.map_err(drop)
    } else {
        AssertUnwindSafe(run).catch_unwind().await.map_err(drop)
    };
    if ran.is_err() {
        tracing::error!("an operation panicked");
    }
    ran.ok()
}
