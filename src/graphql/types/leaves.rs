//! Objects of which only leaf fields are selected, as in most lists.
//!
//! async-graphql resolves each field of each object in a boxed future of its own, and orders the results by when they
//! are ready. For rows that were read already this takes several times as long as the read. So their leaf fields are
//! looked up once for the selection, and read from each row without a future.

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Selection, SelectionSet};
use async_graphql::{ContextSelectionSet, Name, OutputType, Positioned, Value};

/// Reads a leaf field of a row.
pub(super) type Leaf<R> = fn(&R) -> Value;

/// A row from which the leaf fields of an object are read.
pub(super) trait LeafRow: Sized {
    /// The object of the schema that shows the row.
    type Object: OutputType;

    /// Reads a field of the object: as its resolver does, and without failing. `None` for fields that need more than the
    /// row.
    fn leaf(field: &str) -> Option<Leaf<Self>>;
}

/// The selected fields of an object, with their response keys.
pub(super) struct Leaves<R>(Vec<(Name, Leaf<R>)>);

impl<R: LeafRow> Leaves<R> {
    /// Returns the fields that are selected, in order; `None` if one of them is no leaf or has a directive.
    pub(super) fn selected(ctx: &ContextSelectionSet<'_>) -> Option<Self> {
        let mut leaves = Self(Vec::new());
        leaves.add(ctx, ctx.item)?;
        Some(leaves)
    }

    fn add(&mut self, ctx: &ContextSelectionSet<'_>, set: &Positioned<SelectionSet>) -> Option<()> {
        let object = R::Object::type_name();
        for selection in &set.node.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let leaf = R::leaf(&field.name.node).filter(|_| field.directives.is_empty())?;
                    self.0.push((field.response_key().node.clone(), leaf));
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = &ctx.query_env.fragments.get(&spread.node.fragment_name.node)?.node;
                    if fragment.type_condition.node.on.node.as_str() != object || !spread.node.directives.is_empty() {
                        return None;
                    }
                    self.add(ctx, &fragment.selection_set)?;
                }
                // Rare where the type is known.
                Selection::InlineFragment(_) => return None,
            }
        }
        Some(())
    }

    /// The object of a row.
    pub(super) fn object(&self, row: &R) -> Value {
        let mut fields = IndexMap::with_capacity(self.0.len());
        for (key, leaf) in &self.0 {
            // A key that is selected twice has the same field both times, in a valid document.
            fields.entry(key.clone()).or_insert_with(|| leaf(row));
        }
        Value::Object(fields)
    }
}
