//! Answers of queries, cached as bytes until the tenant's audit log grows.
//!
//! Each change of a tenant's systems appends one entry to its audit log. So an answer that depends on nothing but these
//! systems and the log is a function of the request, the caller's permission codes, and the end of the log. Such an
//! answer is cached under all of these, and returned only while the end of the log is the one that was read after the
//! request arrived: it is as fresh as one that is computed. [`is_function_of_the_log`] lists what qualifies.
//!
//! An answer is cached only if the end of the log was the same before and after it was computed, in reads that cannot
//! have gone back in time between: see [`Store::read_epoch`](crate::store::Store::read_epoch). Otherwise it could miss a
//! change that the log has.
//!
//! The first time that a question is asked by POST, its answer is not cached: many questions are never asked again, and on
//! MongoDB each read of the end of the log is a request to the database.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_graphql::parser::types::{Field, FragmentDefinition, OperationDefinition, OperationType, Selection};
use async_graphql::{Name, Positioned, Value, Variables};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::limits::Document;
use crate::domain::ids::{AuditEntryId, SystemId, TenantId};
use crate::domain::permissions::{Permission, Permissions};
use crate::service::answers::LogState;
use crate::service::{Caller, Service};

/// Longer requests, in bytes of the body or the query string, are answered each time.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// About how many bytes an answer has, to size the cache's index.
const EXPECTED_ANSWER_BYTES: usize = 4 * 1024;

/// Number of hashes of questions that are remembered, to recognize those that are asked again. A power of two.
const REMEMBERED_QUESTIONS: usize = 8 * 1024;

/// Root fields that may be selected. Each reads the tenant's systems or its audit log.
const ROOT_FIELDS: [&str; 4] = ["systems", "system", "node", "auditLog"];

/// Fields below them that depend on nothing else, whatever type they belong to. Sorted.
const FIELDS: [&str; 56] = [
    "__typename",
    "action",
    "actor",
    "count",
    "createdAt",
    "currentKey",
    "cursor",
    "description",
    "edges",
    "end",
    "endCursor",
    "endedAt",
    "errorCode",
    "expiresAt",
    "externalId",
    "generatedAt",
    "generatedBy",
    "hasNextPage",
    "hasPreviousPage",
    "hash",
    "id",
    "isPlatform",
    "keyExpiresAt",
    "keyMark",
    "keyState",
    "kind",
    "lastKey",
    "mark",
    "name",
    "node",
    "nodes",
    "number",
    "occurredAt",
    "operatorId",
    "operatorName",
    "outcome",
    "pageInfo",
    "permissions",
    "previousKeyMark",
    "previousName",
    "reason",
    "requestId",
    "retiringKey",
    "revision",
    "role",
    "sourceAddress",
    "startCursor",
    "suspendedAt",
    "suspendedReason",
    "systemId",
    "systemName",
    "tenantName",
    "tokenId",
    "tokenName",
    "totalCount",
    "updatedAt",
];

/// A caller, as the request was authenticated.
#[derive(Clone)]
pub struct Reader {
    pub service: Arc<Service>,
    pub caller: Arc<Caller>,
}

/// A request, with the part of its caller that an answer depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The body, or the query string if `by_get`.
    request: Bytes,
    by_get: bool,
    tenant: TenantId,
    permissions: Permissions,
}

impl Reader {
    /// The caller's question, with the body or, if `by_get`, the query string. `None` if its answer is not cached.
    pub fn question(&self, request: &Bytes, by_get: bool) -> Option<Question> {
        // All of [`ROOT_FIELDS`] require it, and no other code changes what they return.
        self.caller.check(Permission::View).ok()?;
        let is_short = request.len() <= MAX_REQUEST_BYTES;
        is_short.then(|| Question {
            request: request.clone(),
            by_get,
            tenant: self.caller.tenant.clone(),
            permissions: self.caller.permissions(),
        })
    }

    /// Whether the caller, whose body may have arrived long after its head, may still ask the question.
    async fn may_ask(&self, question: &Question) -> bool {
        let refreshed = self.service.refresh_caller(&self.caller).await;
        refreshed.is_ok_and(|caller| caller.permissions() == question.permissions && caller.tenant == question.tenant)
    }

    /// The end of the log, as of a read that begins now. `None` if it cannot be read.
    pub async fn log_state(&self, question: &Question) -> Option<LogState> {
        self.service.log_state(&question.tenant).await.ok()
    }

    /// An entity tag of the answer to the question at this state of the log
    /// ([RFC 9110, section 8.8.3](https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3)).
    pub fn entity_tag(&self, question: &Question, state: &LogState, media_type: &str) -> String {
        let Question { request, tenant, permissions, .. } = question;
        self.service.entity_tag(tenant, *permissions, state, &[media_type.as_bytes(), b"\0", request])
    }
}

struct Answer {
    state: LogState,
    body: Bytes,
}

/// The cached answers of one instance.
pub struct Answers {
    cache: Cache<Question, Arc<Answer>, AnswerWeight>,
    /// The hash of the last question in each slot, which its lowest bits choose.
    asked: Box<[AtomicU64]>,
    hasher: RandomState,
}

#[derive(Clone)]
struct AnswerWeight;

impl Weighter<Question, Arc<Answer>> for AnswerWeight {
    fn weight(&self, question: &Question, answer: &Arc<Answer>) -> u64 {
        let fixed = size_of::<(Question, Arc<Answer>, Answer)>();
        (fixed + question.request.len() + answer.body.len()) as u64
    }
}

/// What is known of the answer to a question.
pub enum Known {
    /// It is this, at this state of the log.
    Answer(LogState, Bytes),
    /// The log is in this state, for which no answer is cached.
    Log(LogState),
    Nothing,
    /// There is one, but the end of the log cannot be read.
    Unreadable,
}

impl Answers {
    /// Caches answers of `max_bytes` together, with their requests.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            cache: Cache::with_weighter(max_bytes / EXPECTED_ANSWER_BYTES, max_bytes as u64, AnswerWeight),
            asked: (0..REMEMBERED_QUESTIONS).map(|_| AtomicU64::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Returns true if the question was asked before, as far as that is remembered, and remembers it.
    pub fn is_asked_again(&self, question: &Question) -> bool {
        let hash = self.hasher.hash_one(question);
        let slot = usize::try_from(hash % REMEMBERED_QUESTIONS as u64).expect("less than the number of slots");
        self.asked[slot].swap(hash, Ordering::Relaxed) == hash
    }

    /// Finds the answer to the question. Reads the end of the log only if one is cached, and finds nothing if the caller may
    /// not ask it any more.
    pub async fn find(&self, reader: &Reader, question: &Question) -> Known {
        let Some(answer) = self.cache.get(question) else { return Known::Nothing };
        if !reader.may_ask(question).await {
            return Known::Nothing;
        }
        match reader.log_state(question).await {
            Some(state) if answer.state == state => Known::Answer(state, answer.body.clone()),
            Some(state) => Known::Log(state),
            None => Known::Unreadable,
        }
    }

    /// Caches the answer that was computed after the log had been read in the state `before`, unless the log has changed
    /// since.
    pub async fn keep(&self, reader: &Reader, question: Question, before: LogState, body: Bytes) {
        let after = reader.log_state(&question).await;
        // Once more: a server that took over during this read may be the one that the answer was read from.
        if after == Some(before) && reader.service.has_read_epoch(&before) {
            // The body of a request may be a small part of a large buffer.
            let question = Question { request: Bytes::copy_from_slice(&question.request), ..question };
            self.cache.insert(question, Arc::new(Answer { state: before, body }));
        }
    }
}

/// Whether the answer to the operation depends only on the tenant's systems and audit log, and on the caller's permission
/// codes.
pub fn is_function_of_the_log(document: &Document, operation: &OperationDefinition, variables: &Variables) -> bool {
    let fragments = &document.parsed().fragments;
    let mut pending: Vec<(bool, &Positioned<Selection>)> =
        operation.selection_set.node.items.iter().map(|selection| (true, selection)).collect();
    let mut visited: Vec<(bool, &Name)> = Vec::new();
    while let Some((is_root, selection)) = pending.pop() {
        let set = match &selection.node {
            Selection::Field(field) => {
                let name = field.node.name.node.as_str();
                let qualifies = match is_root {
                    true => {
                        name == "__typename" || ROOT_FIELDS.contains(&name) && root_qualifies(&field.node, variables)
                    }
                    false => FIELDS.binary_search(&name).is_ok(),
                };
                if !qualifies {
                    return false;
                }
                pending.extend(field.node.selection_set.node.items.iter().map(|selection| (false, selection)));
                continue;
            }
            Selection::InlineFragment(fragment) => &fragment.node.selection_set,
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                let Some(Positioned { node: FragmentDefinition { selection_set, .. }, .. }) = fragments.get(name)
                else {
                    return false;
                };
                if visited.contains(&(is_root, name)) {
                    continue;
                }
                visited.push((is_root, name));
                selection_set
            }
        };
        pending.extend(set.node.items.iter().map(|selection| (is_root, selection)));
    }
    operation.ty == OperationType::Query
}

/// Whether the arguments of a root field refer to neither the use of keys nor objects that are no part of the log.
fn root_qualifies(field: &Field, variables: &Variables) -> bool {
    let argument = |name: &str| {
        let value = field.get_argument(name)?;
        // A variable that is not set is null.
        value.node.clone().into_const_with(|name| Ok::<_, ()>(variables.get(&name).cloned().unwrap_or_default())).ok()
    };
    match field.name.node.as_str() {
        "systems" => {
            let by_use = argument("orderBy").is_some_and(|order| is(member(&order, "field"), "LAST_USED_AT"));
            let unused = argument("filter")
                .is_some_and(|filter| member(&filter, "unusedSince").is_some_and(|since| *since != Value::Null));
            !by_use && !unused
        }
        "node" => argument("id").is_some_and(|id| match id {
            Value::String(id) => id.parse::<SystemId>().is_ok() || id.parse::<AuditEntryId>().is_ok(),
            _ => false,
        }),
        _ => true,
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(members) => members.get(name),
        _ => None,
    }
}

fn is(value: Option<&Value>, text: &str) -> bool {
    match value {
        Some(Value::Enum(name)) => name == text,
        Some(Value::String(value)) => value == text,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use async_graphql::parser::types::{BaseType, TypeKind, TypeSystemDefinition};
    use serde_json::json;

    use super::super::limits::{Documents, Limits};
    use super::super::operation::Parameters;
    use super::*;
    use crate::domain::permissions::VIEW;

    fn qualifies(query: &str, variables: serde_json::Value) -> bool {
        let serde_json::Value::Object(members) = json!({ "query": query, "variables": variables }) else {
            unreachable!()
        };
        let parameters = Parameters::from_json(members).unwrap();
        let documents = Documents::new(Limits::default());
        super::super::operation::Operation::prepare(&documents, parameters).unwrap().is_function_of_the_log
    }

    #[test]
    fn lists_look_ups_and_the_log_qualify() {
        let (system, entry) = ("sys_01h00000000000000000000000", "aud_01h00000000000000000000000");
        for query in [
            "{ systems(first: 20, search: \"a\", orderBy: { field: NAME, direction: ASC }) { nodes { id name keyState } } }",
            "{ systems(filter: { unusedSince: null, keyMark: \"abcd\" }) { totalCount } again: systems { edges { cursor } } }",
            &format!("{{ system(id: \"{system}\") {{ currentKey {{ expiresAt generatedBy {{ name }} }} }} }}"),
            &format!("{{ node(id: \"{system}\") {{ __typename id ... on System {{ name }} }} }}"),
            &format!("{{ node(id: \"{entry}\") {{ ...f }} }} fragment f on AuditEntry {{ hash cursor }}"),
            "{ ...f __typename } fragment f on Query { auditLog { nodes { actor { isPlatform } } } }",
        ] {
            assert!(qualifies(query, json!({})), "{query}");
        }
        let query =
            "query ($id: ID!, $filter: SystemFilter) { node(id: $id) { id } systems(filter: $filter) { totalCount } }";
        assert!(qualifies(query, json!({ "id": system, "filter": { "ids": [] } })));
        assert!(!qualifies(query, json!({ "id": "op_01h00000000000000000000000" })));
        assert!(!qualifies(query, json!({ "id": system, "filter": { "unusedSince": "2026-01-01T00:00:00Z" } })));
    }

    #[test]
    fn nothing_of_the_viewer_of_use_of_time_or_of_other_objects_qualifies() {
        for query in [
            "{ viewer { id } }",
            "{ systems { totalCount } viewer { id } }",
            "{ systems { nodes { lastUsedAt } } }",
            "{ systems { nodes { usage { accepted } } } }",
            "{ systems { nodes { currentKey { lastUsedAt } } } }",
            "{ systems { nodes { lastKey { refusals } } } }",
            "{ systems(orderBy: { field: LAST_USED_AT, direction: DESC }) { nodes { id } } }",
            "query ($f: SystemOrderField = LAST_USED_AT) { systems(orderBy: { field: $f, direction: ASC }) { totalCount } }",
            "{ systems(filter: { unusedSince: \"2026-01-01T00:00:00Z\" }) { totalCount } }",
            "{ node(id: \"acme\") { id } }",
            "{ operators { totalCount } }",
            "{ tenant { id } }",
            "{ auditCursor }",
            "{ __schema { types { name } } }",
            "{ ...f } fragment f on Query { auditLog { totalCount } instances { id } }",
            "mutation { deleteSystem(id: \"a\") { deletedId } }",
        ] {
            assert!(!qualifies(query, json!({})), "{query}");
        }
    }

    #[test]
    fn every_root_field_requires_the_code_that_a_question_requires() {
        let sdl = super::super::sdl();
        let query = sdl.split("type Query {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the root type");
        for field in ROOT_FIELDS {
            let starts = [format!("\t{field}("), format!("\t{field}:")];
            let found = starts.iter().find_map(|start| query.split_once(start.as_str())).expect(field).1;
            let codes = found.split_once("@requiresPermission(code: \"").expect(field).1;
            assert!(codes.starts_with(&format!("{VIEW}\")\n")), "{field}: {codes}");
        }
    }

    /// Fields of the types below [`ROOT_FIELDS`] that depend on the use of keys.
    const FIELDS_OF_USE: [&str; 4] = ["lastRefusedAt", "lastUsedAt", "refusals", "usage"];
    /// Objects that `node` returns for other ids than those that qualify.
    const OTHER_NODES: [&str; 5] = ["Operator", "ServiceToken", "Session", "Tenant", "VerifierToken"];

    #[test]
    fn every_field_below_the_root_fields_is_known() {
        assert!(FIELDS.is_sorted());
        let schema = async_graphql::parser::parse_schema(super::super::sdl()).unwrap();
        let objects = schema.definitions.iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(definition) => match &definition.node.kind {
                TypeKind::Object(object) => Some((definition.node.name.node.as_str(), object)),
                _ => None,
            },
            _ => None,
        });
        let objects: std::collections::HashMap<_, _> = objects.collect();
        let (mut reached, mut fields) = (BTreeSet::new(), BTreeSet::from(["__typename"]));
        let mut pending = vec!["SystemConnection", "AuditEntryConnection", "System", "AuditEntry"];
        while let Some(name) = pending.pop() {
            let Some(object) = objects.get(name) else { continue };
            if !reached.insert(name) {
                continue;
            }
            assert!(!OTHER_NODES.contains(&name), "{name} is reached by another way than `node`");
            for field in object.fields.iter().map(|field| &field.node) {
                let field_name = field.name.node.as_str();
                if FIELDS_OF_USE.contains(&field_name) {
                    continue;
                }
                fields.insert(field_name);
                let mut base = &field.ty.node.base;
                while let BaseType::List(item) = base {
                    base = &item.base;
                }
                if let BaseType::Named(name) = base {
                    pending.push(name);
                }
            }
        }
        assert_eq!(Vec::from_iter(fields), FIELDS, "decide for each new field whether it depends on the log alone");
    }
}
