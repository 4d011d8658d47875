//! Enforces permission codes. Each root field declares its code once, in a directive that the guard reads.

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::registry::{MetaType, Registry};
use async_graphql::{Context, Guard, Result, TypeDirective, Value};

use super::context::{Authenticated, RequestContext};
use super::error::{from_service, with_code};
use super::shared::ReplayedEvent;
use crate::domain::permissions::Permissions;
use crate::domain::refusal::ErrorCode;
use crate::service::Service;
use crate::service::error::Error;

/// Root fields that require no permission code. Those that require a signed-in operator check that in their resolvers.
pub const PUBLIC: [(&str, &str); 6] = [
    ("Query", "viewer"),
    ("Mutation", "signIn"),
    ("Mutation", "signOut"),
    ("Mutation", "changePassword"),
    ("Mutation", "endSessions"),
    ("Subscription", "viewerChanged"),
];

/// The field requires an operator who holds this permission code. Repeated: all of the codes.
#[TypeDirective(location = "FieldDefinition", name = "requiresPermission", repeatable)]
pub fn requires_permission(code: String) {}

/// The permission rule of a root field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Public,
    /// All of these, at least one.
    Requires(Permissions),
}

/// Returns the rule of a root field. `None` if it has no directive and is not [`PUBLIC`].
pub fn rule_of(registry: &Registry, root: &str, field: &str) -> Option<Rule> {
    let MetaType::Object { fields, .. } = registry.types.get(root)? else { return None };
    let directives = fields.get(field)?.directive_invocations.iter().filter(|d| d.name == "requiresPermission");
    let codes = directives.map(|directive| match directive.args.get("code") {
        Some(Value::String(code)) => code.parse().ok(),
        _ => None,
    });
    let permissions = codes.collect::<Option<Permissions>>()?;
    match permissions == Permissions::NONE {
        false => Some(Rule::Requires(permissions)),
        true => PUBLIC.contains(&(root, field)).then_some(Rule::Public),
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

/// Guards all fields of a root type. A field without a rule is refused.
pub struct Permitted;

impl Guard for Permitted {
    async fn check(&self, ctx: &Context<'_>) -> Result<()> {
        let context = ctx.data_unchecked::<RequestContext>();
        if ctx.query_env.operation.node.ty == OperationType::Mutation && !context.allows_changes {
            let message = "A mutation that relies on the session cookie must come from the console's origin. Use a bearer \
                           token instead.";
            return Err(with_code(message, ErrorCode::Forbidden));
        }
        // The stream that this event comes from has checked, and checks again before each event.
        if ctx.data_opt::<ReplayedEvent>().is_some() {
            return Ok(());
        }
        if let Some(rule) = current_rule(ctx)
            && (rule != Rule::Public || ctx.query_env.operation.node.ty == OperationType::Mutation)
        {
            let service = ctx.data_unchecked::<Arc<Service>>();
            match context.refresh_caller(service).await {
                // They need no caller, and ignore one whose session has ended.
                Err(Error::Refused(_)) if ["signIn", "signOut"].contains(&ctx.item.node.name.node.as_str()) => {}
                refreshed => refreshed.map_err(|error| from_service(error, context.request))?,
            }
        }
        match current_rule(ctx) {
            Some(Rule::Public) => Ok(()),
            Some(Rule::Requires(permissions)) => {
                let call = Authenticated::new(ctx).await?;
                for permission in permissions.iter() {
                    let checked = call.service.require_permission(call.caller, call.request, permission).await;
                    checked.map_err(|error| from_service(error, call.request))?;
                }
                Ok(())
            }
            None => Err(with_code("The schema has no permission rule for this field.", ErrorCode::Internal)),
        }
    }
}

/// Returns the permissions that the current field requires, for a subscription to check while it runs.
pub fn needed(ctx: &Context<'_>) -> Result<Permissions> {
    match current_rule(ctx) {
        Some(Rule::Requires(permissions)) => Ok(permissions),
        _ => Err(with_code("The schema requires no permission code for this field.", ErrorCode::Internal)),
    }
}
