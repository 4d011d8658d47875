//! One GraphQL operation: its parameters, its preparation for execution, and its outcome.

use std::sync::Arc;

use async_graphql::parser::types::{OperationDefinition, OperationType};
use async_graphql::{Context, MaybeUndefined, Name, Request, Response, ServerError, Value, Variables};
use async_graphql_value::Value as InputValue;
use serde_json::{Map, Value as Json};

use super::answers::is_function_of_the_log;
use super::completion::OutputTypes;
use super::limits::{Document, DocumentError, Documents};
use super::shared::SelectionId;

/// Request errors listed in one response; the others are counted.
const MAX_ERRORS: usize = 50;
/// Values in one JSON text from a client, counted by their separators. Larger than the variables of the largest
/// documents, and parsed within about a millisecond.
const MAX_JSON_VALUES: usize = 10_000;
/// The message of an error whose cause the client must not learn.
pub const INTERNAL_MESSAGE: &str = "Something went wrong on the server.";

/// The parameters of a
/// [GraphQL-over-HTTP request](https://graphql.github.io/graphql-over-http/draft/#sec-Request-Parameters).
#[derive(Debug, Default)]
pub struct Parameters {
    query: String,
    operation_name: Option<String>,
    variables: Map<String, Json>,
    extensions: Map<String, Json>,
}

impl Parameters {
    /// Ignores members with other names, as the specification requires.
    ///
    /// # Errors
    ///
    /// Which parameter is missing or has the wrong type.
    pub fn from_json(mut members: Map<String, Json>) -> Result<Self, String> {
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

#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Values take many times the memory of their text.
    #[error("more than {MAX_JSON_VALUES} values")]
    TooManyValues,
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

/// Parses JSON from a client, nested at most 128 levels deep.
///
/// # Errors
///
/// If the text has too many values, or is not JSON.
pub fn parse_json(text: &[u8]) -> Result<Json, JsonError> {
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
    Ok(serde_json::from_slice(text)?)
}

/// An operation within the limits, ready to be executed.
pub struct Operation {
    pub kind: OperationType,
    /// Whether the answer depends on nothing but the tenant's systems and audit log. See [`answers`](super::answers).
    pub is_function_of_the_log: bool,
    pub(super) request: Request,
    pub(super) selected: SelectedOperation,
}

/// The operation of a document that is executed.
pub(super) struct SelectedOperation {
    document: Arc<Document>,
    operation_name: Option<Box<str>>,
    /// Empty unless this is a subscription that may be executed again. A slice, since a map takes a KiB for its first
    /// entry.
    variables: Box<[(Name, Value)]>,
    /// `None` unless this is a subscription that may be executed again.
    pub(super) id: Option<SelectionId>,
}

impl SelectedOperation {
    /// A request that executes the operation again.
    pub(super) fn request(&self) -> Request {
        let variables = self.variables.iter().cloned().collect();
        // The text is not read, since the parsed document is set.
        let mut request = Request::new("").variables(Variables::from_value(Value::Object(variables)));
        request.operation_name = self.operation_name.as_deref().map(ToOwned::to_owned);
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
        let (variables, omitted) = coerce(operation, Variables::from_json(Json::Object(parameters.variables)))?;
        documents.check_cost(&document, operation, &variables)?;

        let is_function_of_the_log = is_function_of_the_log(&document, operation, &variables);
        let Parameters { query, operation_name, extensions, .. } = parameters;
        let id = SelectionId::new(&query, operation_name.as_deref(), document.parsed(), operation, &variables);
        let again =
            id.iter().flat_map(|_| variables.iter()).map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut request = Request::new(query).variables(variables).data(omitted);
        request.operation_name.clone_from(&operation_name);
        request.extensions.0 =
            extensions.into_iter().filter_map(|(name, value)| Some((name, Value::from_json(value).ok()?))).collect();
        request.set_parsed_query(document.parsed().clone());
        Ok(Self {
            kind,
            is_function_of_the_log,
            request,
            selected: SelectedOperation {
                document,
                operation_name: operation_name.map(Into::into),
                variables: again,
                id,
            },
        })
    }
}

/// Variables for which the client sent no value, and that have no default. An argument that is one of them is omitted
/// ([CoerceArgumentValues()](https://spec.graphql.org/October2021/#CoerceArgumentValues())).
pub(super) struct OmittedVariables(Vec<Name>);

/// The value of an optional argument of the current field, which is undefined if it is an omitted variable.
pub(super) fn given<T>(ctx: &Context<'_>, argument: &str, value: MaybeUndefined<T>) -> MaybeUndefined<T> {
    let used = ctx.item.node.arguments.iter().find(|(name, _)| name.node == argument);
    match used.map(|(_, value)| &value.node) {
        Some(InputValue::Variable(name))
            if ctx.data_opt::<OmittedVariables>().is_some_and(|omitted| omitted.0.contains(name)) =>
        {
            MaybeUndefined::Undefined
        }
        _ => value,
    }
}

/// The part of [CoerceVariableValues()](https://spec.graphql.org/October2021/#CoerceVariableValues()) that
/// async-graphql leaves to the resolvers: missing values. Its validator checks the values that are present.
fn coerce(
    operation: &OperationDefinition,
    mut variables: Variables,
) -> Result<(Variables, OmittedVariables), DocumentError> {
    let mut omitted = Vec::new();
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
            // Where a variable is absent, the validator skips the whole value that contains it, with all its errors. Few
            // arguments here distinguish null from absent: see `given`.
            None => {
                omitted.push(name.clone());
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
    Ok((variables, OmittedVariables(omitted)))
}

/// The outcome of an operation.
pub enum Outcome {
    /// A request error: there is no `data`.
    Refused(Vec<ServerError>),
    /// It was executed. `data` may still be null, if a field that cannot be null failed.
    Executed(Response),
    /// It panicked.
    Failed,
}

impl Outcome {
    /// Completes a response, and gives each error a code. Internal causes go to the log only, and names of the schema
    /// are suggested only to callers who are signed in.
    pub(super) fn new(
        mut response: Response,
        selected: &SelectedOperation,
        types: &OutputTypes,
        is_signed_in: bool,
    ) -> Self {
        let refused = response.data == Value::Null
            && !response.errors.is_empty()
            && response.errors.iter().all(|error| error.path.is_empty());
        if !refused {
            let SelectedOperation { document, operation_name, .. } = selected;
            if !response.errors.is_empty()
                && let Ok(operation) = document.operation(operation_name.as_deref())
            {
                types.complete(document.parsed(), &operation.node, &mut response);
            }
            if let Some(order) = document.response_order(operation_name.as_deref()) {
                order.arrange(&mut response.data);
            }
            for error in &mut response.errors {
                finish_error(error, is_signed_in);
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
            finish_error(error, is_signed_in);
        }
        Self::Refused(response.errors)
    }
}

fn finish_error(error: &mut ServerError, is_signed_in: bool) {
    if !is_signed_in && let Some(at) = error.message.find(" Did you mean ") {
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
        tracing::error!(message = %error.message, path = ?error.path, "error without a code");
        INTERNAL_MESSAGE.clone_into(&mut error.message);
        error.extensions = None;
        set_code(error, "INTERNAL");
    }
}

/// An error with `extensions.code`.
pub fn error_with_code(message: impl Into<String>, code: &str) -> ServerError {
    let mut error = ServerError::new(message, None);
    set_code(&mut error, code);
    error
}

/// An error whose cause is in the log only.
pub fn internal_error() -> ServerError {
    error_with_code(INTERNAL_MESSAGE, "INTERNAL")
}

fn set_code(error: &mut ServerError, code: &str) {
    error.extensions.get_or_insert_default().set("code", code.to_owned());
}

/// Limits of async-graphql itself can be recognized only by their messages.
fn code_of_request_error(message: &str) -> &'static str {
    let limits = [
        "Query is too complex",
        "Query is nested too deep",
        "The recursion depth of the query",
        "The number of directives on the field",
    ];
    if limits.iter().any(|limit| message.starts_with(limit)) { "QUERY_TOO_COMPLEX" } else { "BAD_USER_INPUT" }
}

/// Arguments that only a resolver parses, such as a custom scalar, are rejected by async-graphql with these messages.
fn is_input_error(message: &str) -> bool {
    ["Expected input type \"", "Failed to parse \"", "Invalid value for argument"]
        .iter()
        .any(|start| message.starts_with(start))
}
