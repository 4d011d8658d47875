//! What async-graphql leaves undone of a response: nulls where fields failed, and the order of fields.
//!
//! By [the specification](https://spec.graphql.org/October2021/#sec-Handling-Field-Errors) a field that failed is
//! null in the response, or, where its type does not allow that, the nearest field around it whose type does.
//! async-graphql 7.2 leaves the field out instead, whatever its type, and gives null for an object of which nothing
//! is left. Clients that are generated from the schema rely on the specification.
//!
//! Fields are [in the order](https://spec.graphql.org/October2021/#sec-Serialized-Map-Ordering) in which they are
//! selected; async-graphql gives them in the order in which their resolvers finish.

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

/// The output types of a schema: of each field, by the names of its type and of itself.
#[derive(Debug)]
pub struct OutputTypes {
    fields: HashMap<Name, HashMap<Name, Type>>,
    query: Name,
    mutation: Option<Name>,
    subscription: Option<Name>,
}

impl OutputTypes {
    /// Those of a schema in the schema definition language.
    ///
    /// # Errors
    ///
    /// When it does not parse.
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

    /// Puts the nulls that the errors of a response call for into its data.
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
            // An error that a resolver reports beside its value takes nothing away from it.
            if is_below_null || has_value(&response.data, path) {
                continue;
            }
            let top = Selected { of_type: root, sets: vec![&operation.selection_set.node] };
            let nullable = self.nullable(document, top, path);
            nulled.insert(nullify(&mut response.data, path, &nullable));
        }
    }

    /// For each place on the path whether its type allows null.
    fn nullable<'a>(&'a self, document: &'a ExecutableDocument, mut at: Selected<'a>, path: &[Segment]) -> Vec<bool> {
        let mut nullable = Vec::with_capacity(path.len());
        let mut list: Option<&Type> = None;
        for segment in path {
            match segment {
                Segment::Field(key) => {
                    let mut found = Found::default();
                    for set in &at.sets {
                        self.find(document, at.of_type, set, key, &mut found);
                    }
                    let Some(ty) = found.ty else { return nullable };
                    nullable.push(ty.nullable);
                    list = Some(ty);
                    at = Selected { of_type: named(&ty.base), sets: found.sets };
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

    /// The fields of a set that answer under this key. Those of one key agree on what can be null, or the document
    /// would not be valid (<https://spec.graphql.org/October2021/#SameResponseShape()>).
    fn find<'a>(
        &'a self,
        document: &'a ExecutableDocument,
        of_type: &'a Name,
        set: &'a SelectionSet,
        key: &str,
        found: &mut Found<'a>,
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

/// What is selected of one object.
struct Selected<'a> {
    of_type: &'a Name,
    sets: Vec<&'a SelectionSet>,
}

#[derive(Default)]
struct Found<'a> {
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
    /// That of an operation. Its fragments must not form a cycle.
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

    /// Puts the fields of all objects in order.
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

/// A part of a path, to be looked up by.
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

/// Puts null at the path, or at the nearest place above it that allows null and is there to take it; gives the path
/// of the null.
fn nullify<'p, 'k>(data: &mut Value, path: &'p [Segment<'k>], nullable: &[bool]) -> &'p [Segment<'k>] {
    let allows = |length: usize| {
        // The data as a whole may always be null.
        length == 0 || nullable.get(length - 1).copied().unwrap_or(false)
    };
    let mut length = path.len();
    loop {
        while !allows(length) {
            length -= 1;
        }
        match place(data, &path[..length]) {
            Ok(value) => {
                *value = Value::Null;
                return &path[..length];
            }
            Err(reached) => length = reached,
        }
    }
}

/// The value at the path, made where a field of an object is missing. The error is the length of the path as far
/// as it can be gone, which is shorter than the path.
fn place<'v>(data: &'v mut Value, path: &[Segment]) -> Result<&'v mut Value, usize> {
    let mut value = data;
    for (length, segment) in path.iter().enumerate() {
        let is_last = length + 1 == path.len();
        value = match segment {
            Segment::Field(key) => {
                // Null stands for an object of which nothing was left.
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
