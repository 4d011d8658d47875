//! Bounds on what one GraphQL document may ask for.
//!
//! Parsing and validating a document is work too, and it does not yield: ten fragments that spread each other
//! eight times fit into a kilobyte and keep a validator busy for good. So a document is measured first: by a scan
//! of its tokens before it is parsed, then by a count over the parsed document that visits every fragment once,
//! whatever the number of its spreads. Only a document that passes reaches the validator.

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

use super::completion::ResponseOrder;
use crate::recent::Recent;

/// What a document may hold. The defaults pass the introspection query of graphql-js (15 fields deep) and
/// documents several times the size of any that a person writes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the document's text.
    pub document_bytes: usize,
    /// Lexical tokens, counted before the document is parsed.
    pub tokens: usize,
    /// Brackets of any kind within brackets, counted before the document is parsed.
    pub nesting: usize,
    /// Operations in a document.
    pub operations: usize,
    /// Fragment definitions in a document.
    pub fragments: usize,
    /// Variables that one operation defines.
    pub variables: usize,
    /// Fields within fields, fragments followed.
    pub depth: usize,
    /// Fields and fragments within each other; async-graphql itself stops at 32.
    pub levels: usize,
    /// Fields, fragment spreads, arguments and directives of all definitions, with every fragment counted again
    /// wherever it is spread.
    pub selections: u64,
    /// Fields that one operation selects at its root. Aliases count: 20 aliased sign-ins are 20 attempts.
    pub root_fields: u64,
    /// Arguments of one field or directive.
    pub arguments: usize,
    /// Directives at one place.
    pub directives: usize,
    /// List fields within each other in an introspection, as in `fields { type { fields } }`; the rule and its
    /// bound are graphql-js's
    /// [`MaxIntrospectionDepthRule`](https://github.com/graphql/graphql-js/blob/16.x.x/src/validation/rules/MaxIntrospectionDepthRule.ts).
    pub introspection_lists: usize,
    /// Fields that the operation may resolve: those below a connection count once for each row of the page that is
    /// asked for.
    pub cost: u64,
    /// Values in the variables, nested ones too; each 64 bytes of text count as one more.
    pub variable_values: u64,
    /// Values in the variables times the places that use a variable, since each place gets a copy.
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

/// Rows of a connection's page when neither `first` nor `last` is given.
const DEFAULT_PAGE: u64 = 50;

/// Rows of the largest page: a connection's field refuses more itself, and says what is wrong with it.
const LARGEST_PAGE: u64 = 200;

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// It asks for more than a limit allows: `QUERY_TOO_COMPLEX`.
    TooComplex(String),
    /// It is not a document, or no operation of it can be chosen: `BAD_USER_INPUT`.
    Invalid {
        /// For the person who wrote it.
        message: String,
        /// Where in the document.
        locations: Vec<Pos>,
    },
}

impl DocumentError {
    fn too_many(what: &str, limit: impl std::fmt::Display) -> Self {
        Self::TooComplex(format!("The document has too many {what}: at most {limit}."))
    }

    fn invalid(message: impl Into<String>, at: Option<Pos>) -> Self {
        Self::Invalid { message: message.into(), locations: at.into_iter().collect() }
    }
}

impl From<DocumentError> for ServerError {
    fn from(error: DocumentError) -> Self {
        let (code, message, locations) = match error {
            DocumentError::TooComplex(message) => ("QUERY_TOO_COMPLEX", message, Vec::new()),
            DocumentError::Invalid { message, locations } => ("BAD_USER_INPUT", message, locations),
        };
        let mut error = ServerError::new(message, None);
        error.locations = locations;
        error.extensions.get_or_insert_default().set("code", code.to_owned());
        error
    }
}

/// A parsed document that is within the limits.
#[derive(Debug)]
pub struct Document {
    parsed: ExecutableDocument,
    /// Places that use a variable, each fragment counted wherever it is spread.
    variable_uses: u64,
    /// Whether it selects `__schema` or `__type`.
    introspects: bool,
    /// What its text and its tree take in memory, roughly.
    weight_bytes: usize,
    /// Of its operations, once one was executed.
    orders: OnceLock<HashMap<Option<Name>, ResponseOrder>>,
}

impl Document {
    /// The parsed document.
    #[must_use]
    pub fn parsed(&self) -> &ExecutableDocument {
        &self.parsed
    }

    /// The order of fields in a response to the operation that a request with this `operationName` runs.
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

    /// The operation that a request with this `operationName` runs, by
    /// [GetOperation()](https://spec.graphql.org/October2021/#GetOperation()).
    ///
    /// # Errors
    ///
    /// When there is none of that name, or several and no name.
    pub fn operation(&self, name: Option<&str>) -> Result<&Positioned<OperationDefinition>, DocumentError> {
        match (&self.parsed.operations, name) {
            (DocumentOperations::Single(operation), None) => Ok(operation),
            (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => { operations.values().next() }
                .ok_or_else(|| DocumentError::invalid("The document has no operation.", None)),
            (DocumentOperations::Multiple(_), None) => Err(DocumentError::invalid(
                "The document has several operations: `operationName` must say which to run.",
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

/// Parses documents within the limits, and remembers those parsed lately.
#[derive(Debug)]
pub struct Documents {
    limits: Limits,
    recent: Recent<Box<str>, Arc<Document>>,
}

impl Documents {
    /// Longer texts are parsed each time.
    const MAX_TEXT_BYTES: usize = 8 * 1024;
    /// Memory of one generation of those remembered.
    const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, recent: Recent::new(Self::MAX_BYTES) }
    }

    /// The document of this text.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooComplex`] beyond a limit, [`DocumentError::Invalid`] when it does not parse or its
    /// fragments form a cycle.
    pub fn parse(&self, text: &str) -> Result<Arc<Document>, DocumentError> {
        if text.len() > self.limits.document_bytes {
            return Err(DocumentError::too_many("bytes", self.limits.document_bytes));
        }
        let rememberable = text.len() <= Self::MAX_TEXT_BYTES;
        if rememberable && let Some(document) = self.recent.find(text) {
            return Ok(document);
        }
        let document = Arc::new(parse_within(&self.limits, text)?);
        if rememberable {
            self.recent.keep(text.into(), Arc::clone(&document), document.weight_bytes);
        }
        Ok(document)
    }

    /// Whether the operation stays within the limits with these variables.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooComplex`] when it does not.
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
            return Err(DocumentError::TooComplex("The document uses large variables in too many places.".to_owned()));
        }
        let mut costs = Costs {
            fragments: &document.parsed.fragments,
            introspects: document.introspects,
            variables,
            known: HashMap::new(),
        };
        if costs.of(&operation.selection_set.node).fields > self.limits.cost {
            return Err(DocumentError::TooComplex(format!(
                "The operation would resolve too many fields: at most {}, those of a connection counted once for \
                 each row of its page.",
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
    // The parser draws the line with a marker below it; what it expected there is said last.
    let message = match text.rsplit_once("\n  = ") {
        Some((_, expected)) => format!("Syntax error: {expected}."),
        None => format!("Syntax error: {}.", text.trim_end_matches('.')),
    };
    DocumentError::Invalid { message, locations: error.positions().collect() }
}

/// Counts tokens and nested brackets without parsing. Tokens are those of
/// [the specification](https://spec.graphql.org/October2021/#sec-Lexical-Tokens), except that a number with a
/// fraction or an exponent may count as several.
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
            // The parser would go on to read the rest of the text otherwise than it was counted here.
            b'"' => {
                at = end_of_string(bytes, at).ok_or_else(|| DocumentError::Invalid {
                    message: "Syntax error: a string is not closed.".to_owned(),
                    locations: vec![position(&text[..at])],
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
                "The document is nested too deep: at most {} brackets.",
                limits.nesting
            )));
        }
    }
    Ok(tokens)
}

/// The index behind the string that starts at `start`; none when it is not closed.
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

/// Of what follows this text.
fn position(before: &str) -> Pos {
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Pos { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// What a selection set amounts to, its fragments followed.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// Fields at the top of the set.
    fields: u64,
    selections: u64,
    variable_uses: u64,
    depth: usize,
    levels: usize,
    introspection_lists: usize,
}

impl Weight {
    /// Takes in what stands beside it.
    fn add(&mut self, other: Self) {
        self.fields = self.fields.saturating_add(other.fields);
        self.selections = self.selections.saturating_add(other.selections);
        self.variable_uses = self.variable_uses.saturating_add(other.variable_uses);
        self.depth = self.depth.max(other.depth);
        self.levels = self.levels.max(other.levels);
        self.introspection_lists = self.introspection_lists.max(other.introspection_lists);
    }
}

/// `tokens` is the number of tokens of the document's text.
fn measure(limits: &Limits, document: &ExecutableDocument, tokens: usize) -> Result<(Weight, bool), DocumentError> {
    if document.operations.iter().len() > limits.operations {
        return Err(DocumentError::too_many("operations", limits.operations));
    }
    if document.fragments.len() > limits.fragments {
        return Err(DocumentError::too_many("fragments", limits.fragments));
    }
    let mut measure = Measure {
        limits,
        fragments: &document.fragments,
        known: HashMap::with_capacity(document.fragments.len()),
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
            measure.directives(&definition.node.directives)?;
        }
        total.add(measure.directives(&operation.directives)?);
        let weight = measure.set(&operation.selection_set.node, 0)?;
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
        measure.check(&total)?;
    }
    // The validator visits fragments that no operation spreads, too.
    for (name, fragment) in &document.fragments {
        total.add(measure.fragment(name, fragment, 0)?);
        measure.check(&total)?;
    }
    Ok((total, measure.introspects))
}

/// A fragment's weight, or that it is being weighed: to meet it again then is a cycle.
enum Known {
    InProgress,
    Weighed(Weight),
}

struct Measure<'a> {
    limits: &'a Limits,
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    known: HashMap<&'a str, Known>,
    introspects: bool,
    /// Selections visited so far.
    visited: usize,
    tokens: usize,
}

impl<'a> Measure<'a> {
    fn check(&self, weight: &Weight) -> Result<(), DocumentError> {
        let limits = self.limits;
        if weight.selections > limits.selections {
            return Err(DocumentError::too_many(
                "selections, those of fragments counted wherever they are spread",
                limits.selections,
            ));
        }
        if weight.depth > limits.depth {
            return Err(DocumentError::TooComplex(format!(
                "The document is nested too deep: at most {} fields.",
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
            "The document is nested too deep: at most {} fields and fragments.",
            self.limits.levels
        ))
    }

    /// `level` is how deep this visit is, which bounds the recursion; a weight has its own levels.
    fn set(&mut self, set: &'a SelectionSet, level: usize) -> Result<Weight, DocumentError> {
        if level > self.limits.levels {
            return Err(self.too_many_levels());
        }
        // Bounds the work by the text: a selection has a token of its own, however often its fragment is spread.
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
                    // An unknown fragment is the validator's to report.
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
        match self.known.get(name.as_str()) {
            Some(Known::Weighed(weight)) => return Ok(*weight),
            // https://spec.graphql.org/October2021/#sec-Fragment-spreads-must-not-form-cycles
            Some(Known::InProgress) => {
                return Err(DocumentError::invalid(
                    format!("The fragment \"{name}\" spreads itself."),
                    Some(fragment.pos),
                ));
            }
            None => {}
        }
        self.known.insert(name, Known::InProgress);
        let mut weight = self.directives(&fragment.node.directives)?;
        weight.add(self.set(&fragment.node.selection_set.node, level)?);
        self.known.insert(name, Known::Weighed(weight));
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
                return Err(DocumentError::TooComplex("The introspection is nested too deep.".to_owned()));
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
            return Err(DocumentError::too_many("directives at one place", self.limits.directives));
        }
        let mut weight = Weight { selections: directives.len() as u64, ..Weight::default() };
        for directive in directives {
            weight.add(self.arguments(&directive.node.arguments)?);
        }
        Ok(weight)
    }

    fn arguments(&self, arguments: &[(Positioned<Name>, Positioned<Value>)]) -> Result<Weight, DocumentError> {
        if arguments.len() > self.limits.arguments {
            return Err(DocumentError::too_many("arguments at one place", self.limits.arguments));
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

/// Counted with a queue, not by recursion: a variable's value comes nested as deep as the JSON parser lets it.
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

/// How many fields an operation may resolve.
struct Costs<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    introspects: bool,
    variables: &'a Variables,
    known: HashMap<&'a str, Cost>,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    fields: u64,
    /// Whether the set selects `edges` or `nodes`: then the field around it is a
    /// [connection](https://relay.dev/graphql/connections.htm).
    rows: bool,
}

impl<'a> Costs<'a> {
    fn of(&mut self, set: &'a SelectionSet) -> Cost {
        let mut cost = Cost::default();
        for selection in &set.items {
            let inner = match &selection.node {
                Selection::Field(field) => self.of_field(&field.node),
                Selection::InlineFragment(fragment) => self.of(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => self.of_fragment(&spread.node.fragment_name.node),
            };
            cost.fields = cost.fields.saturating_add(inner.fields);
            cost.rows |= inner.rows;
        }
        cost
    }

    fn of_fragment(&mut self, name: &str) -> Cost {
        if let Some(cost) = self.known.get(name) {
            return *cost;
        }
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            return Cost::default();
        };
        let cost = self.of(&fragment.node.selection_set.node);
        self.known.insert(name, cost);
        cost
    }

    fn of_field(&mut self, field: &'a Field) -> Cost {
        let name = field.name.node.as_str();
        let inner = self.of(&field.selection_set.node);
        let times = if inner.rows {
            self.page(field)
        } else if self.introspects {
            introspected(name)
        } else {
            1
        };
        Cost { fields: inner.fields.saturating_mul(times).saturating_add(1), rows: matches!(name, "edges" | "nodes") }
    }

    /// The rows that a connection's arguments ask for.
    fn page(&self, field: &Field) -> u64 {
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
            .unwrap_or(DEFAULT_PAGE)
            .min(LARGEST_PAGE)
    }
}

/// How many items a list field of an introspection has, roughly, in a schema of this size.
fn introspected(field: &str) -> u64 {
    match field {
        "types" => 40,
        "fields" => 8,
        "directives" | "enumValues" | "inputFields" | "interfaces" | "possibleTypes" => 4,
        "args" => 2,
        _ => 1,
    }
}
