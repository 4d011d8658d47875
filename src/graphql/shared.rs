//! Subscriptions with the same selection share their payloads.
//!
//! A subscription can detach its events ([`DetachedEvents`]) in place of resolving them, and be executed again for a
//! single one ([`ReplayedEvent`]), so that async-graphql keeps no state for it in between. The payload for an audit entry
//! depends only on the entry and the selection: the caller decides whether it is delivered, and the arguments of the root
//! field which entries are. So it is executed once for many subscribers.

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
use crate::domain::systems::System;
use crate::domain::usage::UsageSummary;
use crate::service::Caller;

/// An event that a subscription resolves to its payload.
#[derive(Clone)]
pub(super) enum SubscriptionEvent {
    Entry(Arc<AuditEntry>),
    /// The viewer, as of now.
    Caller(Arc<Caller>),
    /// A system with its last uses, as of now.
    Usage(Arc<(System, Arc<UsageSummary>)>),
}

/// An event, or the error that ends the subscription.
pub(super) type EventResult = Result<SubscriptionEvent, Error>;

/// In the data of a request: receives the events of its subscription, which then ends without a result.
#[derive(Default)]
pub(super) struct DetachedEvents(Mutex<Option<BoxStream<'static, EventResult>>>);

impl DetachedEvents {
    pub(super) fn set(&self, events: BoxStream<'static, EventResult>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    }

    /// The events; `None` if the subscription failed.
    pub(super) fn take(&self) -> Option<BoxStream<'static, EventResult>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// In the data of a request: the only event of its subscription. It comes from the [`DetachedEvents`] of the same
/// caller, whose permission was checked there.
pub(super) struct ReplayedEvent(pub EventResult);

/// Identifies a selection: two subscriptions with the same id have the same payload for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SelectionId([u8; 32]);

impl SelectionId {
    /// The selection of an operation; `None` unless it is a subscription to a single field, as the
    /// [specification](https://spec.graphql.org/October2021/#sec-Single-root-field) requires.
    ///
    /// Ignores variables that are used only in arguments of the root field, such as the cursor to resume after.
    pub(super) fn new(
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
        let mut used = UsedVariables::default();
        used.visit_directives(&root.node.directives);
        used.visit_selections(&root.node.selection_set.node);
        for fragment in document.fragments.values() {
            used.visit_directives(&fragment.node.directives);
            used.visit_selections(&fragment.node.selection_set.node);
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

/// The variables that are used in a part of a document.
#[derive(Default)]
struct UsedVariables<'a>(BTreeSet<&'a Name>);

impl<'a> UsedVariables<'a> {
    fn visit_selections(&mut self, selections: &'a SelectionSet) {
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(Positioned { node: Field { arguments, directives, selection_set, .. }, .. }) => {
                    arguments.iter().for_each(|(_, value)| self.visit_value(&value.node));
                    self.visit_directives(directives);
                    self.visit_selections(&selection_set.node);
                }
                // Fragments are visited once each, by the caller.
                Selection::FragmentSpread(spread) => self.visit_directives(&spread.node.directives),
                Selection::InlineFragment(inline) => {
                    self.visit_directives(&inline.node.directives);
                    self.visit_selections(&inline.node.selection_set.node);
                }
            }
        }
    }

    fn visit_directives(&mut self, directives: &'a [Positioned<Directive>]) {
        let arguments = directives.iter().flat_map(|directive| &directive.node.arguments);
        arguments.for_each(|(_, value)| self.visit_value(&value.node));
    }

    fn visit_value(&mut self, value: &'a Value) {
        match value {
            Value::Variable(name) => drop(self.0.insert(name)),
            Value::List(items) => items.iter().for_each(|item| self.visit_value(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.visit_value(field)),
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
        SelectionId::new(text, name, &document, &operation.node, &Variables::from_json(variables))
    }

    #[test]
    fn arguments_of_the_root_field_do_not_change_the_selection() {
        let text = "subscription ($a: String, $i: ID) { systemChanged(after: $a, systemId: $i) { kind } }";
        let known = id(text, None, json!({ "a": "1" }));
        assert!(known.is_some());
        assert_eq!(id(text, None, json!({ "a": "2", "i": "3", "other": 4 })), known);
    }

    #[test]
    fn whatever_changes_the_payload_changes_the_selection() {
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
