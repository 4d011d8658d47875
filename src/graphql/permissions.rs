//! Permission codes as directives: each root field says its code once, and what enforces it reads that value.

use async_graphql::parser::types::OperationType;
use async_graphql::registry::{MetaType, Registry};
use async_graphql::{Context, Guard, Result, TypeDirective, Value};

use super::asker::{Asker, Call};
use super::error::{from_service, with_code};
use super::sharing::Given;
use crate::domain::permissions::Permission;
use crate::domain::refusal::ErrorCode;

/// Root fields that ask for no code. Those that need a signed-in operator see to it themselves.
pub const PUBLIC: [(&str, &str); 5] = [
    ("Query", "viewer"),
    ("Mutation", "signIn"),
    ("Mutation", "signOut"),
    ("Mutation", "changePassword"),
    ("Subscription", "viewerChanged"),
];

/// The field requires an operator who holds this permission code.
#[TypeDirective(location = "FieldDefinition", name = "requiresPermission")]
pub fn requires_permission(code: String) {}

/// What a root field asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Public,
    Needs(Permission),
}

/// The rule of a root field: what its directive says, or `None` when it has no directive and is not [`PUBLIC`].
pub fn rule_of(registry: &Registry, root: &str, field: &str) -> Option<Rule> {
    let MetaType::Object { fields, .. } = registry.types.get(root)? else { return None };
    let directive = fields.get(field)?.directive_invocations.iter().find(|d| d.name == "requiresPermission");
    match directive {
        Some(directive) => match directive.args.get("code") {
            Some(Value::String(code)) => code.parse().ok().map(Rule::Needs),
            _ => None,
        },
        None => PUBLIC.contains(&(root, field)).then_some(Rule::Public),
    }
}

fn current_rule(ctx: &Context<'_>) -> Option<Rule> {
    let root = match ctx.query_env.operation.node.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    };
    rule_of(&ctx.schema_env.registry, root, &ctx.item.node.name.node)
}

/// Guards a whole root type: a field without a rule answers nobody.
pub struct Permitted;

impl Guard for Permitted {
    async fn check(&self, ctx: &Context<'_>) -> Result<()> {
        let asker = ctx.data_unchecked::<Asker>();
        if ctx.query_env.operation.node.ty == OperationType::Mutation && !asker.may_change {
            let message = "A change that relies on the cookie must come from the console's own origin.";
            return Err(with_code(message, ErrorCode::Forbidden));
        }
        // The stream that this came by has asked, and asks again before each entry.
        if ctx.data_opt::<Given>().is_some() {
            return Ok(());
        }
        match current_rule(ctx) {
            Some(Rule::Public) => Ok(()),
            Some(Rule::Needs(permission)) => {
                let call = Call::of(ctx).await?;
                let checked = call.service.require_permission(call.caller, call.request, permission).await;
                checked.map_err(|error| from_service(error, call.request))
            }
            None => Err(with_code("This field has no rule, so nobody may ask for it.", ErrorCode::Internal)),
        }
    }
}

/// The code that the current field needs, for a subscription to watch while it runs.
pub fn needed(ctx: &Context<'_>) -> Result<Permission> {
    match current_rule(ctx) {
        Some(Rule::Needs(permission)) => Ok(permission),
        _ => Err(with_code("This field needs no code.", ErrorCode::Internal)),
    }
}
