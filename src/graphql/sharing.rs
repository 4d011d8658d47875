//! What lets subscribers who select the same share what they are shown.
//!
//! A subscription can hand over its news ([`Handover`]) in the place of results, and be run again for a single one
//! ([`Given`]): meanwhile async-graphql keeps nothing of it. What it shows of an audit entry follows from the entry and
//! the selection alone: who asks decides whether anything is shown, and the arguments of the root field which entries. So
//! it is run once for many subscribers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::{
    Directive, ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Error, Name, Positioned, Variables};
use async_graphql_value::Value;
use futures::stream::BoxStream;
use sha2::{Digest, Sha256};

use crate::domain::audit::AuditEntry;
use crate::service::Caller;

/// What a subscription tells of.
#[derive(Clone)]
pub enum News {
    Entry(Arc<AuditEntry>),
    /// The viewer, as they are now.
    Caller(Arc<Caller>),
}

/// What a subscriber is told, or at last why there is no more.
pub type Told = Result<News, Error>;

/// In the data of a request, takes what a subscription tells; the subscription then ends without a result.
#[derive(Default)]
pub struct Handover(Mutex<Option<BoxStream<'static, Told>>>);

impl Handover {
    pub(super) fn give(&self, told: BoxStream<'static, Told>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// What was handed over; `None` when the subscription failed.
    pub fn take(&self) -> Option<BoxStream<'static, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// In the data of a request, all that its subscription tells. It came to this caller by a [`Handover`]: nobody is asked
/// once more whether they may see it.
pub struct Given(pub Told);

/// Two subscriptions of the same selection show the same of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SelectionId([u8; 32]);

impl SelectionId {
    /// The selection of an operation; `None` unless it is a subscription to one field, as the
    /// [specification](https://spec.graphql.org/October2021/#sec-Single-root-field) wants it.
    ///
    /// Variables that stand in arguments of the root field alone, such as the cursor to resume after, do not count.
    pub fn of(
        text: &str,
        operation_name: Option<&str>,
        document: &ExecutableDocument,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> Option<Self> {
        let [Positioned { node: Selection::Field(root), .. }] = &operation.selection_set.node.items[..] else {
            return None;
        };
        if operation.ty != OperationType::Subscription {
            return None;
        }
        let mut used = Used::default();
        used.in_directives(&root.node.directives);
        used.in_selections(&root.node.selection_set.node);
        for fragment in document.fragments.values() {
            used.in_directives(&fragment.node.directives);
            used.in_selections(&fragment.node.selection_set.node);
        }
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(text);
        add(operation_name.unwrap_or_default());
        for name in used.0 {
            add(name);
            add(&variables.get(name).map(ToString::to_string).unwrap_or_default());
        }
        Some(Self(hash.finalize().into()))
    }
}

/// The variables that stand somewhere.
#[derive(Default)]
struct Used<'a>(BTreeSet<&'a Name>);

impl<'a> Used<'a> {
    fn in_selections(&mut self, selections: &'a SelectionSet) {
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(Positioned { node: Field { arguments, directives, selection_set, .. }, .. }) => {
                    arguments.iter().for_each(|(_, value)| self.in_value(&value.node));
                    self.in_directives(directives);
                    self.in_selections(&selection_set.node);
                }
                // The fragments themselves are looked through once, all of them.
                Selection::FragmentSpread(spread) => self.in_directives(&spread.node.directives),
                Selection::InlineFragment(inline) => {
                    self.in_directives(&inline.node.directives);
                    self.in_selections(&inline.node.selection_set.node);
                }
            }
        }
    }

    fn in_directives(&mut self, directives: &'a [Positioned<Directive>]) {
        let arguments = directives.iter().flat_map(|directive| &directive.node.arguments);
        arguments.for_each(|(_, value)| self.in_value(&value.node));
    }

    fn in_value(&mut self, value: &'a Value) {
        match value {
            Value::Variable(name) => drop(self.0.insert(name)),
            Value::List(items) => items.iter().for_each(|item| self.in_value(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.in_value(field)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    fn id(text: &str, name: Option<&str>, variables: serde_json::Value) -> Option<SelectionId> {
        let document = parse_query(text).unwrap();
        let mut operations = document.operations.iter();
        let (_, operation) = operations.find(|(known, _)| name.is_none() || known.map(Name::as_str) == name).unwrap();
        SelectionId::of(text, name, &document, &operation.node, &Variables::from_json(variables))
    }

    #[test]
    fn what_only_chooses_the_entries_makes_no_other_selection() {
        let text = "subscription ($a: String, $i: ID) { systemChanged(after: $a, systemId: $i) { kind } }";
        let known = id(text, None, json!({ "a": "1" }));
        assert!(known.is_some());
        assert_eq!(id(text, None, json!({ "a": "2", "i": "3", "other": 4 })), known);
    }

    #[test]
    fn whatever_changes_what_is_shown_makes_another_selection() {
        let within = "subscription ($a: Boolean!) { systemChanged { kind @skip(if: $a) } }";
        let nested = "subscription ($a: Boolean!) { systemChanged { ... @include(if: $a) { entry { id } } kind } }";
        let spread = "subscription ($a: Boolean!) { systemChanged { ...f } } fragment f on SystemChange {
            kind @skip(if: $a) }";
        let root = "subscription ($a: Boolean!) { systemChanged @skip(if: $a) { kind } }";
        for text in [within, nested, spread, root] {
            let [yes, no] = [true, false].map(|a| id(text, None, json!({ "a": a })).expect("one field"));
            assert_ne!(yes, no, "{text}");
        }
        let two = "subscription a { systemChanged { kind } } subscription b { systemChanged { cursor } }";
        assert_ne!(id(two, Some("a"), json!({})), id(two, Some("b"), json!({})));
        let alias = "subscription { a: systemChanged { kind } }";
        assert_ne!(id(alias, None, json!({})), id("subscription { b: systemChanged { kind } }", None, json!({})));
    }

    #[test]
    fn only_subscriptions_to_one_field_are_shared() {
        for text in [
            "{ viewer { id } }",
            "subscription { systemChanged { kind } viewerChanged { id } }",
            "subscription { ...f } fragment f on Subscription { systemChanged { kind } }",
        ] {
            assert_eq!(id(text, None, json!({})), None, "{text}");
        }
    }
}
