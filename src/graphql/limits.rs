//! Limits on GraphQL documents.
//!
//! Parsing and validating a document takes time too, and does not yield: ten fragments that spread each other eight
//! times fit into a kilobyte, and a validator would never finish with them. Therefore a document is measured first: its
//! tokens by a scan before parsing, then the parsed document by a count that visits every fragment once, however often
//! it is spread. Only a document within the limits reaches the validator.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
};

use async_graphql::{
    Name, Pos, Positioned, ServerError, Variables,
    parser::{
        self,
        types::{
            Directive, DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
            OperationType, Selection, SelectionSet,
        },
    },
};
use async_graphql_value::{ConstValue, Value};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use thiserror::Error;

use super::completion::ResponseOrder;
use crate::domain::refusal::ErrorCode;

/// Limits on one document. The defaults admit the introspection query of graphql-js (15 fields deep) and documents
/// several times larger than the ones that people write. The schema's description of `Query` lists those that clients
/// should know.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Size of the document's text in bytes.
    pub document_bytes: usize,
    /// Lexical tokens, counted before the document is parsed.
    pub tokens: usize,
    /// Nested brackets of any kind, counted before the document is parsed: the parser is recursive.
    pub nesting: usize,
    /// Operations of the document.
    pub operations: usize,
    /// Fragment definitions of the document.
    pub fragments: usize,
    /// Variables that one operation defines.
    pub variables: usize,
    /// Nested fields, those in fragments included.
    pub depth: usize,
    /// Nested fields and fragments. async-graphql's own limit is 32.
    pub levels: usize,
    /// Fields, fragment spreads, arguments and directives of all definitions. Those of a fragment count once for each
    /// spread.
    pub selections: u64,
    /// Root fields of one operation. Aliases count: 20 aliased sign-ins are 20 attempts.
    pub root_fields: u64,
    /// Arguments of one field or directive.
    pub arguments: usize,
    /// Directives at one location.
    pub directives: usize,
    /// Nested list fields of an introspection, as in `fields { type { fields } }`. The rule and its value are those of
    /// graphql-js's
    /// [`MaxIntrospectionDepthRule`](https://github.com/graphql/graphql-js/blob/16.x.x/src/validation/rules/MaxIntrospectionDepthRule.ts).
    pub introspection_lists: usize,
    /// Fields that the operation may resolve. Fields below a connection count once per item of the requested page, and
    /// each scan as [`SCAN_COST`] fields, and each series of use as [`USAGE_COST`].
    pub cost: u64,
    /// Values in the variables, nested ones included. Each 64 bytes of text count as one more.
    pub variable_values: u64,
    /// Values in the variables, multiplied by the number of places that use a variable: each place gets a copy.
    pub variable_copies: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 32 * 1024,
            tokens: 4_000,
            nesting: 64,
            operations: 30,
            fragments: 100,
            variables: 100,
            depth: 20,
            levels: 32,
            selections: 2_000,
            root_fields: 20,
            arguments: 20,
            directives: 10,
            introspection_lists: 3,
            cost: 100_000,
            variable_values: 4_000,
            variable_copies: 100_000,
        }
    }
}

/// Number of items of a connection's page if neither `first` nor `last` is set.
pub const DEFAULT_PAGE_SIZE: u8 = 50;

/// Maximum number of items of a connection's page. The connection's field refuses a larger one.
pub const MAX_PAGE_SIZE: u8 = 200;

/// Cost of a scan: a filtered page or count reads as much of the tenant's data as it takes to find what matches, or all
/// of it. Half of the limit is left for other fields when a document has five scans, and none with ten.
pub const SCAN_COST: u64 = 10_000;

/// Cost of a page or count whose filter names the items: at most so many rows of the store are read.
pub const LOOK_UP_COST: u64 = 200;

/// Cost of a `usage`, which reads up to 14 rows of the store. A page of 200 systems may have those of all.
pub const USAGE_COST: u64 = 400;

/// Number of items of [`BUCKETS`]: at most one for each of 400 days.
const MAX_BUCKETS: u64 = 400;
/// Number of items of [`SESSIONS`]: an operator has no more.
const MAX_SESSIONS: u64 = 100;
const SESSIONS: &str = "sessions";
const USAGE: &str = "usage";
/// Cost of a `systemCount`, which reads an index of the store. A page of 200 tenants may count their systems.
pub const SYSTEM_COUNT_COST: u64 = 100;
const SYSTEM_COUNT: &str = "systemCount";
const BUCKETS: &str = "buckets";

/// Connections that scan if this argument is set: once for the page, and again for [`COUNT`].
const SCANS: [(&str, &str); 4] =
    [("auditLog", "filter"), ("systems", "filter"), ("systems", "search"), ("tenants", "search")];
/// Members of a filter that name the items, so that nothing is scanned.
const LOOK_UPS: [&str; 2] = ["ids", "externalId"];
/// Fields of [`ORDER`] that no store has an index of: lists in this order scan too.
const SCANNED_ORDERS: [&str; 3] = ["LAST_USED_AT", "KEY_GENERATED_AT", "KEY_EXPIRES_AT"];
const ORDER: &str = "orderBy";
const COUNT: &str = "totalCount";

/// The reason for which a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// The document exceeds a limit: `QUERY_TOO_COMPLEX`.
    #[error("{0}")]
    TooComplex(String),
    /// The document cannot be parsed, or the operation to run cannot be determined: `BAD_USER_INPUT`.
    #[error("{message}")]
    Invalid {
        /// The message for the client.
        message: String,
        /// Positions in the document.
        locations: Vec<Pos>,
    },
}

impl DocumentError {
    fn too_many(what: &str, limit: impl std::fmt::Display) -> Self {
        Self::TooComplex(format!("The document has too many {what}. The maximum is {limit}."))
    }

    fn invalid(message: impl Into<String>, at: Option<Pos>) -> Self {
        Self::Invalid { message: message.into(), locations: at.into_iter().collect() }
    }
}

impl From<DocumentError> for ServerError {
    fn from(error: DocumentError) -> Self {
        let (code, message, locations) = match error {
            DocumentError::TooComplex(message) => (ErrorCode::QueryTooComplex, message, Vec::new()),
            DocumentError::Invalid { message, locations } => (ErrorCode::BadUserInput, message, locations),
        };
        let mut error = ServerError::new(message, None);
        error.locations = locations;
        error.extensions.get_or_insert_default().set("code", code.as_str());
        error
    }
}

/// A parsed document that is within the limits.
#[derive(Debug)]
pub struct Document {
    parsed: ExecutableDocument,
    /// Number of places that use a variable. Those in a fragment count once for each spread.
    variable_uses: u64,
    /// Whether the document selects `__schema` or `__type`.
    introspects: bool,
    /// Estimated memory of the text and the parsed document.
    weight_bytes: usize,
    /// Response orders by operation name. Computed at the first execution.
    orders: OnceLock<HashMap<Option<Name>, ResponseOrder>>,
}

impl Document {
    #[must_use]
    pub fn parsed(&self) -> &ExecutableDocument {
        &self.parsed
    }

    fn has_mutation(&self) -> bool {
        self.parsed.operations.iter().any(|(_, operation)| operation.node.ty == OperationType::Mutation)
    }

    /// Returns the order of fields in the response to a request with this `operationName`.
    pub fn response_order(&self, name: Option<&str>) -> Option<&ResponseOrder> {
        let orders = self.orders.get_or_init(|| {
            let operations = self.parsed.operations.iter();
            operations
                .map(|(name, operation)| {
                    let order = ResponseOrder::of(&self.parsed, &operation.node);
                    (name.cloned(), order)
                })
                .collect()
        });
        match name {
            Some(name) => orders.get(&Some(Name::new(name))),
            None => orders.values().next().filter(|_| orders.len() == 1),
        }
    }

    /// Returns the operation that a request with this `operationName` runs, as specified by
    /// [GetOperation()](https://spec.graphql.org/October2021/#GetOperation()).
    ///
    /// # Errors
    ///
    /// [`DocumentError::Invalid`] if no operation has the name, or if `name` is `None` and there are several.
    pub fn operation(&self, name: Option<&str>) -> Result<&Positioned<OperationDefinition>, DocumentError> {
        match (&self.parsed.operations, name) {
            (DocumentOperations::Single(operation), None) => Ok(operation),
            (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => { operations.values().next() }
                .ok_or_else(|| DocumentError::invalid("The document has no operation.", None)),
            (DocumentOperations::Multiple(_), None) => Err(DocumentError::invalid(
                "The document has several operations. Set `operationName` to the one to run.",
                None,
            )),
            (DocumentOperations::Multiple(operations), Some(name)) if operations.contains_key(name) => {
                Ok(&operations[name])
            }
            (_, Some(name)) => {
                Err(DocumentError::invalid(format!("The document has no operation named \"{name}\"."), None))
            }
        }
    }
}

/// Parses documents within the limits, and caches them.
#[derive(Debug)]
pub struct Documents {
    limits: Limits,
    cache: Cache<Box<str>, Arc<Document>, DocumentWeight>,
}

#[derive(Clone, Debug)]
struct DocumentWeight;

impl Weighter<Box<str>, Arc<Document>> for DocumentWeight {
    fn weight(&self, _: &Box<str>, document: &Arc<Document>) -> u64 {
        document.weight_bytes as u64
    }
}

impl Documents {
    /// Longer texts are parsed each time.
    const MAX_CACHED_TEXT_BYTES: usize = 8 * 1024;
    /// Memory of the cached documents.
    const MAX_CACHE_BYTES: u64 = 8 * 1024 * 1024;
    /// About how many documents these are.
    const EXPECTED_DOCUMENTS: usize = 1024;

    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let cache = Cache::with_weighter(Self::EXPECTED_DOCUMENTS, Self::MAX_CACHE_BYTES, DocumentWeight);
        Self { limits, cache }
    }

    /// Parses a document, or returns it from the cache.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooComplex`] if a limit is exceeded, [`DocumentError::Invalid`] if the text does not parse or
    /// its fragments form a cycle.
    pub fn parse(&self, text: &str) -> Result<Arc<Document>, DocumentError> {
        if text.len() > self.limits.document_bytes {
            return Err(DocumentError::too_many("bytes", self.limits.document_bytes));
        }
        let is_cached = text.len() <= Self::MAX_CACHED_TEXT_BYTES;
        if is_cached && let Some(document) = self.cache.get(text) {
            return Ok(document);
        }
        let document = Arc::new(parse_within(&self.limits, text)?);
        // A text in a mutation may be a password.
        if is_cached && !(document.has_mutation() && text.contains('"')) {
            self.cache.insert(text.into(), Arc::clone(&document));
        }
        Ok(document)
    }

    /// Checks the limits that depend on the variables.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooComplex`] if one is exceeded.
    pub fn check_cost(
        &self,
        document: &Document,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> Result<(), DocumentError> {
        let values = variables.values().fold(0_u64, |sum, value| sum.saturating_add(size_of_value(value)));
        if values > self.limits.variable_values {
            return Err(DocumentError::too_many("values in its variables", self.limits.variable_values));
        }
        if values.saturating_mul(document.variable_uses) > self.limits.variable_copies {
            return Err(DocumentError::TooComplex(
                "The document uses large variables in too many places. Use them less often, or make them smaller."
                    .to_owned(),
            ));
        }
        let mut estimator = CostEstimator {
            fragments: &document.parsed.fragments,
            introspects: document.introspects,
            variables,
            fragment_costs: HashMap::new(),
        };
        if estimator.set(&operation.selection_set.node).fields > self.limits.cost {
            return Err(DocumentError::TooComplex(format!(
                "The operation would resolve too many fields. The maximum is {}, where the fields of a connection count \
                 once per item of its page, a filtered, searched or scanned page or count as {SCAN_COST} fields, one \
                 with `ids` or `externalId` as {LOOK_UP_COST}, and `usage` as {USAGE_COST}. Select fewer fields or smaller pages, or send several requests.",
                self.limits.cost
            )));
        }
        Ok(())
    }
}

fn parse_within(limits: &Limits, text: &str) -> Result<Document, DocumentError> {
    let tokens = scan(limits, text)?;
    let parsed = parser::parse_query(text).map_err(|error| syntax_error(&error))?;
    let (weight, introspects) = measure(limits, &parsed, tokens)?;
    Ok(Document {
        variable_uses: weight.variable_uses,
        introspects,
        // A token becomes about one node of the tree, and a node takes up to some 200 bytes.
        weight_bytes: text.len() + 200 * tokens,
        orders: OnceLock::new(),
        parsed,
    })
}

fn syntax_error(error: &parser::Error) -> DocumentError {
    let text = error.to_string();
    // The parser's message quotes the line with a marker below it, and ends with what was expected there.
    let message = match text.rsplit_once("\n  = ") {
        Some((_, expected)) => format!("Syntax error: {expected}."),
        None => format!("Syntax error: {}.", text.trim_end_matches('.')),
    };
    DocumentError::Invalid { message, locations: error.positions().collect() }
}

/// Counts the tokens and checks the nesting of brackets, without parsing. Tokens are those of [the
/// specification](https://spec.graphql.org/October2021/#sec-Lexical-Tokens), except that a number with a fraction or an
/// exponent may count as several.
fn scan(limits: &Limits, text: &str) -> Result<usize, DocumentError> {
    let bytes = text.as_bytes();
    let run = |from: usize, of: fn(u8) -> bool| {
        bytes[from..].iter().position(|&byte| !of(byte)).map_or(bytes.len(), |length| from + length)
    };
    let (mut at, mut tokens, mut nesting) = (0, 0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at = run(at, |byte| byte != b'\n' && byte != b'\r');
                continue;
            }
            // An unclosed string is refused here: the parser would split the rest of the text into other tokens than this scan.
            b'"' => {
                at = end_of_string(bytes, at).ok_or_else(|| DocumentError::Invalid {
                    message: "Syntax error: unterminated string.".to_owned(),
                    locations: vec![position_after(&text[..at])],
                })?;
            }
            b'.' => at = run(at, |byte| byte == b'.'),
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                at = run(at, |byte| byte == b'_' || byte.is_ascii_alphanumeric());
            }
            b'(' | b'[' | b'{' => {
                nesting += 1;
                at += 1;
            }
            b')' | b']' | b'}' => {
                nesting = nesting.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
        tokens += 1;
        if tokens > limits.tokens {
            return Err(DocumentError::too_many("tokens", limits.tokens));
        }
        if nesting > limits.nesting {
            return Err(DocumentError::TooComplex(format!(
                "The document is nested too deeply. The maximum is {} brackets.",
                limits.nesting
            )));
        }
    }
    Ok(tokens)
}

/// Returns the index after the string that starts at `start`. `None` if it is not closed.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let block = bytes[start..].starts_with(b"\"\"\"");
    let mut at = start + if block { 3 } else { 1 };
    loop {
        match *bytes.get(at)? {
            b'\\' if !block => at += 2,
            b'\\' if bytes[at..].starts_with(b"\\\"\"\"") => at += 4,
            b'"' if !block => return Some(at + 1),
            b'"' if bytes[at..].starts_with(b"\"\"\"") => return Some(at + 3),
            b'\n' | b'\r' if !block => return None,
            _ => at += 1,
        }
    }
}

/// Returns the position after this text.
fn position_after(before: &str) -> Pos {
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Pos { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// Counts of a selection set, its fragments included.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// Fields of the set itself, not of the sets within.
    fields: u64,
    selections: u64,
    variable_uses: u64,
    depth: usize,
    levels: usize,
    introspection_lists: usize,
}

impl Weight {
    /// Adds the weight of a sibling.
    fn add(&mut self, other: Self) {
        self.fields = self.fields.saturating_add(other.fields);
        self.selections = self.selections.saturating_add(other.selections);
        self.variable_uses = self.variable_uses.saturating_add(other.variable_uses);
        self.depth = self.depth.max(other.depth);
        self.levels = self.levels.max(other.levels);
        self.introspection_lists = self.introspection_lists.max(other.introspection_lists);
    }
}

/// Checks the limits of a parsed document. Returns its weight, and whether it selects `__schema` or `__type`.
///
/// `tokens` is the number of tokens of the document's text.
fn measure(limits: &Limits, document: &ExecutableDocument, tokens: usize) -> Result<(Weight, bool), DocumentError> {
    if document.operations.iter().len() > limits.operations {
        return Err(DocumentError::too_many("operations", limits.operations));
    }
    if document.fragments.len() > limits.fragments {
        return Err(DocumentError::too_many("fragments", limits.fragments));
    }
    let mut visitor = WeightVisitor {
        limits,
        fragments: &document.fragments,
        fragment_weights: HashMap::with_capacity(document.fragments.len()),
        introspects: false,
        visited: 0,
        tokens,
    };
    let mut total = Weight::default();
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        if operation.variable_definitions.len() > limits.variables {
            return Err(DocumentError::too_many("variables", limits.variables));
        }
        for definition in &operation.variable_definitions {
            visitor.directives(&definition.node.directives)?;
        }
        total.add(visitor.directives(&operation.directives)?);
        let weight = visitor.set(&operation.selection_set.node, 0)?;
        if weight.fields > limits.root_fields {
            return Err(DocumentError::too_many("root fields in an operation", limits.root_fields));
        }
        // https://spec.graphql.org/October2021/#sec-Single-root-field
        if operation.ty == OperationType::Subscription && weight.fields > 1 {
            return Err(DocumentError::invalid(
                "A subscription must select exactly one root field.",
                Some(operation.selection_set.pos),
            ));
        }
        total.add(weight);
        visitor.check(&total)?;
    }
    // The validator visits fragments that no operation spreads, too.
    for (name, fragment) in &document.fragments {
        total.add(visitor.fragment(name, fragment, 0)?);
        visitor.check(&total)?;
    }
    Ok((total, visitor.introspects))
}

/// The progress of weighing a fragment.
enum FragmentWeight {
    /// The visit is inside the fragment: a spread of it is a cycle.
    InProgress,
    Done(Weight),
}

/// Visits every selection set of a document once.
struct WeightVisitor<'a> {
    limits: &'a Limits,
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    fragment_weights: HashMap<&'a str, FragmentWeight>,
    introspects: bool,
    /// Selections visited so far.
    visited: usize,
    tokens: usize,
}

impl<'a> WeightVisitor<'a> {
    fn check(&self, weight: &Weight) -> Result<(), DocumentError> {
        let limits = self.limits;
        if weight.selections > limits.selections {
            return Err(DocumentError::too_many(
                "selections, where a fragment counts once for each spread",
                limits.selections,
            ));
        }
        if weight.depth > limits.depth {
            return Err(DocumentError::TooComplex(format!(
                "The document is nested too deeply. The maximum is {} fields.",
                limits.depth
            )));
        }
        if weight.levels > limits.levels {
            return Err(self.too_many_levels());
        }
        Ok(())
    }

    fn too_many_levels(&self) -> DocumentError {
        DocumentError::TooComplex(format!(
            "The document is nested too deeply. The maximum is {} fields and fragments.",
            self.limits.levels
        ))
    }

    /// `level` is the depth of this visit, which bounds the recursion. The levels of a weight start at its own set.
    fn set(&mut self, set: &'a SelectionSet, level: usize) -> Result<Weight, DocumentError> {
        if level > self.limits.levels {
            return Err(self.too_many_levels());
        }
        // The work is bounded by the text: each selection has a token of its own, however often its fragment is spread.
        self.visited += set.items.len();
        debug_assert!(self.visited <= self.tokens, "a selection is visited twice");
        let mut weight = Weight::default();
        for selection in &set.items {
            weight.add(self.directives(selection.node.directives())?);
            weight.add(match &selection.node {
                Selection::Field(field) => self.field(&field.node, level)?,
                Selection::InlineFragment(fragment) => {
                    let inner = self.set(&fragment.node.selection_set.node, level + 1)?;
                    Weight { selections: inner.selections.saturating_add(1), levels: inner.levels + 1, ..inner }
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    // The validator reports unknown fragments.
                    let inner = match self.fragments.get_key_value(name) {
                        Some((name, fragment)) => self.fragment(name, fragment, level + 1)?,
                        None => Weight::default(),
                    };
                    Weight { selections: inner.selections.saturating_add(1), levels: inner.levels + 1, ..inner }
                }
            });
        }
        Ok(weight)
    }

    fn fragment(
        &mut self,
        name: &'a Name,
        fragment: &'a Positioned<FragmentDefinition>,
        level: usize,
    ) -> Result<Weight, DocumentError> {
        match self.fragment_weights.get(name.as_str()) {
            Some(FragmentWeight::Done(weight)) => return Ok(*weight),
            // https://spec.graphql.org/October2021/#sec-Fragment-spreads-must-not-form-cycles
            Some(FragmentWeight::InProgress) => {
                return Err(DocumentError::invalid(
                    format!("The fragment \"{name}\" spreads itself. Remove the cycle."),
                    Some(fragment.pos),
                ));
            }
            None => {}
        }
        self.fragment_weights.insert(name, FragmentWeight::InProgress);
        let mut weight = self.directives(&fragment.node.directives)?;
        weight.add(self.set(&fragment.node.selection_set.node, level)?);
        self.fragment_weights.insert(name, FragmentWeight::Done(weight));
        Ok(weight)
    }

    fn field(&mut self, field: &'a Field, level: usize) -> Result<Weight, DocumentError> {
        let name = field.name.node.as_str();
        let inner = if field.selection_set.node.items.is_empty() {
            Weight::default()
        } else {
            let inner = self.set(&field.selection_set.node, level + 1)?;
            Weight { levels: inner.levels + 1, ..inner }
        };
        if matches!(name, "__schema" | "__type") {
            self.introspects = true;
            if inner.introspection_lists >= self.limits.introspection_lists {
                return Err(DocumentError::TooComplex(
                    "The lists of the introspection are nested too deeply.".to_owned(),
                ));
            }
        }
        let arguments = self.arguments(&field.arguments)?;
        let is_list = matches!(name, "fields" | "inputFields" | "interfaces" | "possibleTypes");
        Ok(Weight {
            fields: 1,
            selections: inner.selections.saturating_add(arguments.selections).saturating_add(1),
            variable_uses: inner.variable_uses.saturating_add(arguments.variable_uses),
            depth: inner.depth + 1,
            levels: inner.levels,
            introspection_lists: inner.introspection_lists + usize::from(is_list),
        })
    }

    fn directives(&self, directives: &[Positioned<Directive>]) -> Result<Weight, DocumentError> {
        if directives.len() > self.limits.directives {
            return Err(DocumentError::too_many("directives at one location", self.limits.directives));
        }
        let mut weight = Weight { selections: directives.len() as u64, ..Weight::default() };
        for directive in directives {
            weight.add(self.arguments(&directive.node.arguments)?);
        }
        Ok(weight)
    }

    fn arguments(&self, arguments: &[(Positioned<Name>, Positioned<Value>)]) -> Result<Weight, DocumentError> {
        if arguments.len() > self.limits.arguments {
            return Err(DocumentError::too_many("arguments of one field or directive", self.limits.arguments));
        }
        Ok(Weight {
            selections: arguments.len() as u64,
            variable_uses: arguments.iter().map(|(_, value)| variables_in(&value.node)).sum(),
            ..Weight::default()
        })
    }
}

fn variables_in(value: &Value) -> u64 {
    match value {
        Value::Variable(_) => 1,
        Value::List(items) => items.iter().map(variables_in).sum(),
        Value::Object(fields) => fields.values().map(variables_in).sum(),
        _ => 0,
    }
}

/// Counts with a queue instead of recursion: a variable's value is nested as deeply as the JSON parser allows.
fn size_of_value(value: &ConstValue) -> u64 {
    let mut size = 0_u64;
    let mut queue = VecDeque::from([value]);
    while let Some(value) = queue.pop_front() {
        size += 1;
        match value {
            ConstValue::List(items) => queue.extend(items),
            ConstValue::Object(fields) => {
                size += fields.keys().map(|key| key.len() as u64 / 64).sum::<u64>();
                queue.extend(fields.values());
            }
            ConstValue::String(text) => size += text.len() as u64 / 64,
            _ => {}
        }
    }
    size
}

/// Estimates how many fields an operation resolves.
struct CostEstimator<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    introspects: bool,
    variables: &'a Variables,
    fragment_costs: HashMap<&'a str, Cost>,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    fields: u64,
    /// Whether the set selects `edges` or `nodes`, so that its parent field is a
    /// [connection](https://relay.dev/graphql/connections.htm).
    selects_items: bool,
    /// How often the set selects [`COUNT`]. Aliases count.
    counts: u64,
}

impl<'a> CostEstimator<'a> {
    fn set(&mut self, set: &'a SelectionSet) -> Cost {
        let mut cost = Cost::default();
        for selection in &set.items {
            let inner = match &selection.node {
                Selection::Field(field) => self.field(&field.node),
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node),
            };
            cost.fields = cost.fields.saturating_add(inner.fields);
            cost.selects_items |= inner.selects_items;
            cost.counts = cost.counts.saturating_add(inner.counts);
        }
        cost
    }

    fn fragment(&mut self, name: &str) -> Cost {
        if let Some(cost) = self.fragment_costs.get(name) {
            return *cost;
        }
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            return Cost::default();
        };
        let cost = self.set(&fragment.node.selection_set.node);
        self.fragment_costs.insert(name, cost);
        cost
    }

    fn field(&mut self, field: &'a Field) -> Cost {
        let name = field.name.node.as_str();
        let inner = self.set(&field.selection_set.node);
        let items = if inner.selects_items {
            self.page_size(field)
        } else if name == BUCKETS {
            MAX_BUCKETS
        } else if name == SESSIONS {
            MAX_SESSIONS
        } else if self.introspects {
            introspected_items(name)
        } else {
            1
        };
        let reads = inner.counts.saturating_add(1).saturating_mul(self.read_cost(field));
        Cost {
            fields: inner
                .fields
                .saturating_mul(items)
                .saturating_add(reads)
                .saturating_add(match name {
                    USAGE => USAGE_COST,
                    SYSTEM_COUNT => SYSTEM_COUNT_COST,
                    _ => 0,
                })
                .saturating_add(1),
            selects_items: matches!(name, "edges" | "nodes"),
            counts: u64::from(name == COUNT),
        }
    }

    /// The cost of a page, and of a count, apart from what is selected of it.
    fn read_cost(&self, field: &Field) -> u64 {
        if self.looks_up(field) {
            LOOK_UP_COST
        } else if self.scans(field) {
            SCAN_COST
        } else {
            0
        }
    }

    /// Whether the filter of a list of systems names them.
    fn looks_up(&self, field: &Field) -> bool {
        let filter = field.get_argument("filter").filter(|_| field.name.node == "systems");
        LOOK_UPS.iter().any(|member| match filter.map(|filter| &filter.node) {
            Some(Value::Object(fields)) => fields.get(*member).is_some_and(|value| match value {
                Value::Variable(name) => self.variables.get(name).is_some_and(|value| *value != ConstValue::Null),
                value => *value != Value::Null,
            }),
            Some(Value::Variable(name)) => match self.variables.get(name) {
                Some(ConstValue::Object(fields)) => fields.get(*member).is_some_and(|value| *value != ConstValue::Null),
                _ => false,
            },
            _ => false,
        })
    }

    /// Whether the arguments of a connection have it scan. Variables have their default values already.
    fn scans(&self, field: &Field) -> bool {
        let mut arguments = SCANS.iter().filter(|(name, _)| *name == field.name.node.as_str());
        let mut values = arguments.by_ref().filter_map(|(_, argument)| field.get_argument(argument));
        let restricted = values.any(|value| match &value.node {
            Value::Variable(name) => self.variables.get(name).is_some_and(restricts),
            Value::Object(fields) => !fields.is_empty(),
            Value::String(text) => !text.is_empty(),
            value => *value != Value::Null,
        });
        restricted || field.get_argument(ORDER).is_some_and(|order| self.scans_in_order(&order.node))
    }

    fn scans_in_order(&self, order: &Value) -> bool {
        let is_scanned = |field: &ConstValue| match field {
            ConstValue::Enum(name) => SCANNED_ORDERS.contains(&name.as_str()),
            ConstValue::String(name) => SCANNED_ORDERS.contains(&name.as_str()),
            _ => false,
        };
        let value_of = |value: &Value| match value {
            Value::Variable(name) => self.variables.get(name).cloned(),
            value => value.clone().into_const(),
        };
        match order {
            Value::Object(fields) => fields.get("field").and_then(value_of).as_ref().is_some_and(is_scanned),
            order => match value_of(order) {
                Some(ConstValue::Object(fields)) => fields.get("field").is_some_and(is_scanned),
                _ => false,
            },
        }
    }

    /// The size of the page that a connection's arguments request.
    fn page_size(&self, field: &Field) -> u64 {
        ["first", "last"]
            .into_iter()
            .filter_map(|name| match &field.get_argument(name)?.node {
                Value::Number(number) => number.as_u64(),
                Value::Variable(name) => match self.variables.get(name)? {
                    ConstValue::Number(number) => number.as_u64(),
                    _ => None,
                },
                _ => None,
            })
            .max()
            .unwrap_or(DEFAULT_PAGE_SIZE.into())
            .min(MAX_PAGE_SIZE.into())
    }
}

/// Whether a filter or search with this value may leave anything out.
fn restricts(value: &ConstValue) -> bool {
    match value {
        ConstValue::Null => false,
        ConstValue::Object(fields) => fields.values().any(|field| *field != ConstValue::Null),
        ConstValue::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// The approximate number of items that a list field of an introspection has in a schema of this size.
fn introspected_items(field: &str) -> u64 {
    match field {
        "types" => 40,
        "fields" => 8,
        "directives" | "enumValues" | "inputFields" | "interfaces" | "possibleTypes" => 4,
        "args" => 2,
        _ => 1,
    }
}
