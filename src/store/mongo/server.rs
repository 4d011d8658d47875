//! Checks that the server is the primary of a replica set of a supported version.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::{ClientOptions, ServerAddress};

use super::errors::{ConnectError, TimedOut, is_refusal};
use super::options::Limits;
use super::rows::number_of;
use crate::store::Result;

/// The wire version of MongoDB 6.0, the oldest release that is tested.
const MIN_WIRE_VERSION: i32 = 17;

pub(super) async fn check_server(
    client: &Client,
    seed: Option<ServerAddress>,
    set_name: Option<&str>,
    limits: Limits,
) -> Result<(), ConnectError> {
    let hello = match tokio::time::timeout(limits.call, hello(client)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) if is_refusal(&error) => return Err(ConnectError::Refused(Box::new(error))),
        Ok(Err(error)) => return Err(why_unreachable(seed, set_name, limits, error).await),
        Err(_) => return Err(ConnectError::Unreachable(TimedOut::new("hello").into())),
    };
    check_hello(&hello)
}

async fn hello(client: &Client) -> mongodb::error::Result<Document> {
    client.database("admin").run_command(doc! { "hello": 1 }).await
}

/// Checks the server's reply to `hello` (<https://www.mongodb.com/docs/v6.0/reference/command/hello/>).
fn check_hello(hello: &Document) -> Result<(), ConnectError> {
    let is_true = |member| hello.get_bool(member).unwrap_or(false);
    let wire_version = hello.get("maxWireVersion").and_then(number_of).unwrap_or(0);
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return Err(ConnectError::Sharded);
    }
    if is_true("isreplicaset") {
        return Err(ConnectError::NotInitiated);
    }
    if !hello.contains_key("setName") {
        return Err(ConnectError::Standalone);
    }
    if wire_version < i64::from(MIN_WIRE_VERSION) {
        return Err(ConnectError::TooOld);
    }
    if is_true("isWritablePrimary") { Ok(()) } else { Err(ConnectError::NotPrimary) }
}

/// The driver found no primary. Asks the first host directly whether it belongs to a replica set, and to which one: the
/// driver ignores servers outside of the set that the URI names.
async fn why_unreachable(
    seed: Option<ServerAddress>,
    set_name: Option<&str>,
    limits: Limits,
    error: Error,
) -> ConnectError {
    let options = ClientOptions::builder()
        .hosts(seed.into_iter().collect::<Vec<_>>())
        .direct_connection(true)
        .connect_timeout(limits.call / 2)
        .server_selection_timeout(limits.call / 2)
        .build();
    let Ok(direct) = Client::with_options(options) else { return ConnectError::Unreachable(Box::new(error)) };
    let Ok(Ok(hello)) = tokio::time::timeout(limits.call, hello(&direct)).await else {
        return ConnectError::Unreachable(Box::new(error));
    };
    match (check_hello(&hello), set_name, hello.get_str("setName")) {
        (Err(cause @ (ConnectError::NotInitiated | ConnectError::Standalone)), ..) => cause,
        (_, Some(named), Ok(found)) if named != found => {
            ConnectError::OtherSet { named: named.to_owned(), found: found.to_owned() }
        }
        _ => ConnectError::Unreachable(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;

    use super::*;

    fn message(hello: Document) -> String {
        match check_hello(&hello) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn servers_other_than_a_primary_are_refused_with_the_remedy() {
        let primary = doc! { "setName": "rs0", "isWritablePrimary": true, "maxWireVersion": 17 };
        assert_eq!(message(primary.clone()), "accepted");
        let but = |member: &str, value: Bson| {
            let mut hello = primary.clone();
            hello.insert(member, value);
            message(hello)
        };
        insta::assert_snapshot!(
            message(doc! { "isWritablePrimary": true, "maxWireVersion": 17 }),
            @"This MongoDB is a standalone server, which has no transactions: start mongod with --replSet rs0 and run rs.initiate() once."
        );
        insta::assert_snapshot!(
            message(doc! { "isWritablePrimary": true, "msg": "isdbgrid", "maxWireVersion": 17 }),
            @"This MongoDB is a sharded cluster (mongos): give the URI of one replica set; to outgrow it, spread the tenants over several deployments."
        );
        insta::assert_snapshot!(
            message(doc! { "isreplicaset": true, "maxWireVersion": 17 }),
            @"The replica set of this MongoDB is not initiated yet: run rs.initiate() once."
        );
        insta::assert_snapshot!(but("maxWireVersion", 13.into()), @"This MongoDB is too old: use 6.0 or later.");
        insta::assert_snapshot!(
            but("isWritablePrimary", false.into()),
            @"The URI names one member alone, and it is not the primary: name all members and leave directConnection out."
        );
    }
}
