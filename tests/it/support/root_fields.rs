//! The root fields of the schema, and calls of them that are generated from it.

use std::collections::BTreeMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};
use keymark::graphql::permissions::PUBLIC;

/// A value for arguments that a call does not test: no id, and a valid name.
const SOME_ID: &str = r#""sys_00000000000000000000000000""#;
const SOME_TEXT: &str = r#""something""#;

/// A root field of the schema.
pub struct RootField {
    pub root: String,
    pub name: String,
    /// The permission codes of its directives.
    pub codes: Vec<String>,
    /// A selection of the field with all required arguments.
    pub plain: Call,
    /// Calls with a variable in one place each, for every place in the field's arguments.
    pub places: Vec<Place>,
}

/// A document, and whether its field has an argument `after`.
#[derive(Clone)]
pub struct Call {
    root: String,
    field: String,
    arguments: Vec<String>,
    selection: String,
}

impl Call {
    /// The document with a further argument.
    pub fn with(mut self, argument: String) -> Self {
        self.arguments.push(argument);
        self
    }

    /// `variable` has the type of the variable `$value` if there is one.
    pub fn document(&self, variable: Option<&str>) -> String {
        let Self { root, field, arguments, selection } = self;
        let variable = variable.map(|ty| format!("($value: {ty})")).unwrap_or_default();
        let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        format!("{}{variable} {{ {field}{arguments}{selection} }}", root.to_lowercase())
    }
}

/// A place in the arguments of a root field.
pub struct Place {
    /// Such as `filter.systemId`.
    pub path: String,
    /// The name of the scalar or enum in this place.
    pub ty: String,
    pub call: Call,
}

impl Place {
    /// The document with the variable `$value` in this place.
    pub fn document(&self) -> String {
        self.call.document(Some(&format!("{}!", self.ty)))
    }
}

impl RootField {
    pub fn is_public(&self) -> bool {
        PUBLIC.contains(&(self.root.as_str(), self.name.as_str()))
    }

    pub fn has_argument(&self, name: &str) -> bool {
        self.places.iter().any(|place| place.path == name)
    }
}

/// All root fields, in the order of the schema.
pub fn root_fields() -> Vec<RootField> {
    let schema = Schema::read();
    let mut fields = Vec::new();
    for root in ["Query", "Mutation", "Subscription"] {
        for field in schema.fields(root) {
            let name = field.name.node.to_string();
            let directives = field.directives.iter().filter(|d| d.node.name.node == "requiresPermission");
            let codes = directives.map(|d| {
                let code = d.node.get_argument("code").expect("a code").node.to_string();
                code.trim_matches('"').to_owned()
            });
            let codes = codes.collect();
            let call = |without: Option<&str>| Call {
                root: root.to_owned(),
                field: name.clone(),
                arguments: required(&field.arguments.iter().map(|a| &a.node).collect::<Vec<_>>(), without),
                selection: schema.selection(&field.ty.node, 3),
            };
            let places = field.arguments.iter().flat_map(|argument| {
                let argument = &argument.node;
                let named = argument.name.node.as_str();
                schema.places(&argument.ty.node).into_iter().map(move |(path, ty, literal)| Place {
                    path: format!("{named}{path}"),
                    ty,
                    call: call(Some(named)).with(format!("{named}: {literal}")),
                })
            });
            let places = places.collect();
            fields.push(RootField { root: root.to_owned(), codes, plain: call(None), places, name: name.clone() });
        }
    }
    schema.assert_arguments_only_at(&["Query", "Mutation", "Subscription"]);
    fields
}

/// Values for the required arguments. Panics for a type that is not known here.
fn required(arguments: &[&InputValueDefinition], without: Option<&str>) -> Vec<String> {
    let is_required = |a: &&&InputValueDefinition| !a.ty.node.nullable && a.default_value.is_none();
    let arguments = arguments.iter().filter(is_required).filter(|a| without != Some(a.name.node.as_str()));
    let values = arguments.map(|argument| {
        let value = match argument.ty.node.base.to_string().as_str() {
            "ID" => SOME_ID,
            "String" => SOME_TEXT,
            "[String!]" => "[]",
            other => panic!("no value is known for a required argument of type {other}"),
        };
        format!("{}: {value}", argument.name.node)
    });
    values.collect()
}

struct Schema(BTreeMap<String, (TypeKind, Vec<String>)>);

impl Schema {
    fn read() -> Self {
        let definitions = parse_schema(keymark::graphql::sdl()).expect("the schema parses").definitions;
        let types = definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(definition) => {
                let definition = definition.node;
                let implements = match &definition.kind {
                    TypeKind::Object(object) => object.implements.iter().map(|name| name.node.to_string()).collect(),
                    _ => Vec::new(),
                };
                Some((definition.name.node.to_string(), (definition.kind, implements)))
            }
            _ => None,
        });
        Self(types.collect())
    }

    /// Output fields of an object or interface. Scalars and enums have none.
    fn fields(&self, name: &str) -> Vec<&FieldDefinition> {
        match self.0.get(name).map(|(kind, _)| kind) {
            Some(TypeKind::Object(object)) => object.fields.iter().map(|field| &field.node).collect(),
            Some(TypeKind::Interface(interface)) => interface.fields.iter().map(|field| &field.node).collect(),
            _ => Vec::new(),
        }
    }

    /// All fields of a type, and of those that implement it, so many levels deep.
    fn selection(&self, ty: &Type, levels: usize) -> String {
        let name = base_name(ty);
        let fields = self.fields(name);
        if fields.is_empty() {
            return String::new();
        }
        let mut selected = vec!["__typename".to_owned()];
        for field in fields {
            let is_leaf = self.fields(base_name(&field.ty.node)).is_empty();
            if is_leaf || levels > 1 {
                selected.push(format!("{}{}", field.name.node, self.selection(&field.ty.node, levels - 1)));
            }
        }
        for (other, _) in self.0.iter().filter(|(_, (_, implements))| implements.iter().any(|i| i == name)) {
            let leaves = self.fields(other).into_iter().filter(|f| self.fields(base_name(&f.ty.node)).is_empty());
            let leaves: Vec<_> = leaves.map(|field| field.name.node.to_string()).collect();
            selected.push(format!("... on {other} {{ {} }}", leaves.join(" ")));
        }
        format!(" {{ {} }}", selected.join(" "))
    }

    /// The path, the type and a literal with `$value`, for each scalar or enum that a value of this type contains.
    fn places(&self, ty: &Type) -> Vec<(String, String, String)> {
        match &ty.base {
            BaseType::List(item) => {
                let within = self.places(item).into_iter();
                within.map(|(path, ty, literal)| (path, ty, format!("[{literal}]"))).collect()
            }
            BaseType::Named(name) => match self.0.get(name.as_str()).map(|(kind, _)| kind) {
                Some(TypeKind::InputObject(input)) => {
                    let members: Vec<_> = input.fields.iter().map(|field| &field.node).collect();
                    let mut places = Vec::new();
                    for member in &members {
                        let named = member.name.node.as_str();
                        if members.iter().any(|other| !other.ty.node.nullable && other.name.node != named) {
                            // Its members are enums, which have no text of the client in them.
                            assert_eq!(name.as_str(), "SystemOrder", "extend this generator");
                            continue;
                        }
                        places.extend(self.places(&member.ty.node).into_iter().map(|(path, ty, literal)| {
                            (format!(".{named}{path}"), ty, format!("{{ {named}: {literal} }}"))
                        }));
                    }
                    places
                }
                _ => vec![(String::new(), name.to_string(), "$value".to_owned())],
            },
        }
    }

    /// Panics if a field of another type has arguments: calls of root fields would not cover them. Times and enums have no
    /// text of the client in them.
    fn assert_arguments_only_at(&self, roots: &[&str]) {
        let has_text = |argument: &InputValueDefinition| {
            let ty = base_name(&argument.ty.node);
            ty != "DateTime" && !matches!(self.0.get(ty), Some((TypeKind::Enum(_), _)))
        };
        for name in self.0.keys().filter(|name| !roots.contains(&name.as_str())) {
            for field in self.fields(name) {
                let texts = field.arguments.iter().filter(|argument| has_text(&argument.node)).count();
                assert_eq!(texts, 0, "extend the generator to {name}.{}", field.name.node);
            }
        }
    }
}

fn base_name(ty: &Type) -> &str {
    let mut base = &ty.base;
    loop {
        match base {
            BaseType::List(item) => base = &item.base,
            BaseType::Named(name) => return name.as_str(),
        }
    }
}
