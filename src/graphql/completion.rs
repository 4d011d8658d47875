//! Completes async-graphql's responses as the specification requires: nulls for failed fields, and the order of fields.
//!
//! According to [the specification](https://spec.graphql.org/October2021/#sec-Handling-Field-Errors) a failed field is
//! null in the response. If its type is non-null, its nearest nullable ancestor is null instead. async-graphql 7.2
//! omits the failed field, whatever its type, and returns null for an object without any remaining field. Clients
//! generated from the schema rely on the specification.
//!
//! Fields are [in the order](https://spec.graphql.org/October2021/#sec-Serialized-Map-Ordering) in which they are
//! selected. async-graphql returns them in the order in which their resolvers finish.
//!
//! Both can go once async-graphql does it: <https://github.com/async-graphql/async-graphql/issues/1272> and
//! <https://github.com/async-graphql/async-graphql/issues/612>.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Name, PathSegment, Response, Value,
    parser::{
        self,
        types::{
            BaseType, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet, Type, TypeKind,
            TypeSystemDefinition,
        },
    },
};

/// The output types of a schema's fields, by the names of the parent type and the field.
#[derive(Debug)]
pub struct OutputTypes {
    fields: HashMap<Name, HashMap<Name, Type>>,
    query: Name,
    mutation: Option<Name>,
    subscription: Option<Name>,
}

impl OutputTypes {
    /// Reads a schema in the schema definition language.
    ///
    /// # Errors
    ///
    /// A syntax error.
    pub fn from_sdl(sdl: &str) -> Result<Self, parser::Error> {
        let mut types = Self { fields: HashMap::new(), query: Name::new("Query"), mutation: None, subscription: None };
        for definition in parser::parse_schema(sdl)?.definitions {
            match definition {
                TypeSystemDefinition::Schema(schema) => {
                    let schema = schema.node;
                    types.query = schema.query.map_or(types.query, |name| name.node);
                    types.mutation = schema.mutation.map(|name| name.node);
                    types.subscription = schema.subscription.map(|name| name.node);
                }
                TypeSystemDefinition::Type(definition) => {
                    let fields = match definition.node.kind {
                        TypeKind::Object(object) => object.fields,
                        TypeKind::Interface(interface) => interface.fields,
                        _ => continue,
                    };
                    let fields = fields.into_iter().map(|field| (field.node.name.node, field.node.ty.node)).collect();
                    types.fields.insert(definition.node.name.node, fields);
                }
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        Ok(types)
    }

    /// Adds the nulls that the errors of a response require to its data.
    pub fn complete(&self, document: &ExecutableDocument, operation: &OperationDefinition, response: &mut Response) {
        let root = match operation.ty {
            OperationType::Query => Some(&self.query),
            OperationType::Mutation => self.mutation.as_ref(),
            OperationType::Subscription => self.subscription.as_ref(),
        };
        let Some(root) = root else { return };
        let paths: Vec<Vec<Segment>> = response
            .errors
            .iter()
            .filter(|error| !error.path.is_empty())
            .map(|error| error.path.iter().map(Segment::of).collect())
            .collect();
        let mut nulled: HashSet<&[Segment]> = HashSet::new();
        for path in &paths {
            let is_below_null = (0..path.len()).any(|length| nulled.contains(&path[..length]));
            // A resolver may report an error in addition to a value. The value stays.
            if is_below_null || has_value(&response.data, path) {
                continue;
            }
            let top = SelectedObject { of_type: root, sets: vec![&operation.selection_set.node] };
            let nullable = self.nullability(document, top, path);
            nulled.insert(nullify(&mut response.data, path, &nullable));
        }
    }

    /// Returns for each segment of the path whether its type is nullable.
    fn nullability<'a>(
        &'a self,
        document: &'a ExecutableDocument,
        mut at: SelectedObject<'a>,
        path: &[Segment],
    ) -> Vec<bool> {
        let mut nullable = Vec::with_capacity(path.len());
        let mut list: Option<&Type> = None;
        for segment in path {
            match segment {
                Segment::Field(key) => {
                    let mut found = SelectedField::default();
                    for set in &at.sets {
                        self.find(document, at.of_type, set, key, &mut found);
                    }
                    let Some(ty) = found.ty else { return nullable };
                    nullable.push(ty.nullable);
                    list = Some(ty);
                    at = SelectedObject { of_type: named(&ty.base), sets: found.sets };
                }
                Segment::Index(_) => {
                    let Some(BaseType::List(item)) = list.map(|ty| &ty.base) else {
                        return nullable;
                    };
                    nullable.push(item.nullable);
                    list = Some(item);
                }
            }
        }
        nullable
    }

    /// Finds the fields of a set with this response key. Fields with the same key have the same nullability in a valid
    /// document (<https://spec.graphql.org/October2021/#SameResponseShape()>).
    fn find<'a>(
        &'a self,
        document: &'a ExecutableDocument,
        of_type: &'a Name,
        set: &'a SelectionSet,
        key: &str,
        found: &mut SelectedField<'a>,
    ) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) if field.node.response_key().node == key => {
                    found.ty = found.ty.or_else(|| {
                        let fields = self.fields.get(of_type)?;
                        fields.get(&field.node.name.node)
                    });
                    found.sets.push(&field.node.selection_set.node);
                }
                Selection::Field(_) => {}
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    let of_type = condition.map_or(of_type, |condition| &condition.node.on.node);
                    let set = &fragment.node.selection_set.node;
                    self.find(document, of_type, set, key, found);
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = document.fragments.get(name) {
                        let of_type = &fragment.node.type_condition.node.on.node;
                        let set = &fragment.node.selection_set.node;
                        self.find(document, of_type, set, key, found);
                    }
                }
            }
        }
    }
}

/// The type of an object and all its selection sets.
struct SelectedObject<'a> {
    of_type: &'a Name,
    sets: Vec<&'a SelectionSet>,
}

/// The type of a field and the selection sets of all its occurrences.
#[derive(Default)]
struct SelectedField<'a> {
    ty: Option<&'a Type>,
    sets: Vec<&'a SelectionSet>,
}

fn named(base: &BaseType) -> &Name {
    match base {
        BaseType::Named(name) => name,
        BaseType::List(item) => named(&item.base),
    }
}

/// The response keys of a selection set in the order in which they are selected, fragments followed.
#[derive(Debug, Default)]
pub struct ResponseOrder {
    keys: Vec<(Name, Self)>,
    positions: HashMap<Name, usize>,
}

impl ResponseOrder {
    /// Returns the response order of an operation. The document's fragments must not form a cycle.
    #[must_use]
    pub fn of(document: &ExecutableDocument, operation: &OperationDefinition) -> Self {
        let mut order = Self::default();
        order.add(document, &operation.selection_set.node);
        order
    }

    fn add(&mut self, document: &ExecutableDocument, set: &SelectionSet) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let key = &field.node.response_key().node;
                    let position = *self.positions.entry(key.clone()).or_insert_with(|| {
                        self.keys.push((key.clone(), Self::default()));
                        self.keys.len() - 1
                    });
                    let inner = &mut self.keys[position].1;
                    inner.add(document, &field.node.selection_set.node);
                }
                Selection::InlineFragment(fragment) => {
                    self.add(document, &fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = document.fragments.get(name) {
                        self.add(document, &fragment.node.selection_set.node);
                    }
                }
            }
        }
    }

    /// Sorts the fields of all objects.
    pub fn arrange(&self, data: &mut Value) {
        match data {
            Value::List(items) => items.iter_mut().for_each(|item| self.arrange(item)),
            Value::Object(fields) => {
                let (mut next, mut in_order) = (0, true);
                for (key, value) in fields.iter_mut() {
                    // Most objects are complete and in order already.
                    let is_next = self.keys.get(next).is_some_and(|(known, _)| known == key);
                    let position = if is_next {
                        next
                    } else if let Some(position) = self.positions.get(key) {
                        *position
                    } else {
                        continue;
                    };
                    in_order &= position >= next;
                    next = position + 1;
                    let inner = &self.keys[position].1;
                    if !inner.keys.is_empty() {
                        inner.arrange(value);
                    }
                }
                if !in_order {
                    fields.sort_by_cached_key(|key, _| self.positions.get(key).copied());
                }
            }
            _ => {}
        }
    }
}

/// A segment of an error's path, hashable.
#[derive(PartialEq, Eq, Hash)]
enum Segment<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> Segment<'a> {
    fn of(segment: &'a PathSegment) -> Self {
        match segment {
            PathSegment::Field(key) => Self::Field(key),
            PathSegment::Index(index) => Self::Index(*index),
        }
    }
}

fn has_value(data: &Value, path: &[Segment]) -> bool {
    let value = path.iter().try_fold(data, |value, segment| match (value, segment) {
        (Value::Object(fields), Segment::Field(key)) => fields.get(*key),
        (Value::List(items), Segment::Index(index)) => items.get(*index),
        _ => None,
    });
    value.is_some_and(|value| *value != Value::Null)
}

/// Sets null at the path, or at its nearest nullable ancestor that is present in the data. Returns the path of the
/// null.
fn nullify<'p, 'k>(data: &mut Value, path: &'p [Segment<'k>], nullable: &[bool]) -> &'p [Segment<'k>] {
    let is_nullable = |length: usize| {
        // The data as a whole is nullable.
        length == 0 || nullable.get(length - 1).copied().unwrap_or(false)
    };
    let mut length = path.len();
    loop {
        while !is_nullable(length) {
            length -= 1;
        }
        match value_at(data, &path[..length]) {
            Ok(value) => {
                *value = Value::Null;
                return &path[..length];
            }
            Err(reached) => length = reached,
        }
    }
}

/// Returns the value at the path. If only the last field is missing, inserts it. The error is the length of the longest
/// prefix of the path that is present, which is shorter than the path.
fn value_at<'v>(data: &'v mut Value, path: &[Segment]) -> Result<&'v mut Value, usize> {
    let mut value = data;
    for (length, segment) in path.iter().enumerate() {
        let is_last = length + 1 == path.len();
        value = match segment {
            Segment::Field(key) => {
                // async-graphql returns null for an object whose fields all failed.
                if *value == Value::Null {
                    *value = Value::Object(Default::default());
                }
                let Value::Object(fields) = value else {
                    return Err(length);
                };
                if is_last {
                    fields.entry(Name::new(key)).or_insert(Value::Null)
                } else {
                    fields.get_mut(*key).ok_or(length)?
                }
            }
            Segment::Index(index) => {
                let Value::List(items) = value else {
                    return Err(length);
                };
                items.get_mut(*index).ok_or(length)?
            }
        };
    }
    Ok(value)
}
