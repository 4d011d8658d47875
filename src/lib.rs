//! Keymark issues, verifies and revokes the API keys of tenants' client applications.
//!
//! # Map
//!
//! ```text
//! domain  <-  store (trait)  <-  coherence  <-  service  <-  verify, graphql  <-  http, cli  <-  app  <-  main
//!                  ^
//!         store::mongo, store::embedded   (named in app and in tests alone)
//! ```
//!
//! The same concept has the same file name in every layer: `systems.rs`, `keys.rs`, `operators.rs`, `audit.rs`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`domain`] | values and decisions |
//! | [`store`] | the trait of a database, and its backends |
//! | [`auth`] | tokens, passwords, throttling |
//! | [`coherence`] | memory of keys, operators, sessions and searched names, kept right by the feed; when a change is enforced |
//! | [`service`] | the operations: read, decide, commit one batch; and the feed, handed to subscribers |
//! | [`verify`] | the verdict on a presented key |
//! | [`graphql`] | the schema over the service, and the bounds on documents |
//! | [`http`] | both listeners: every route is in [`http::public_routes`] and [`http::verify::routes`] |
//! | [`admin`], [`cli`] | the command line, on a store or through a running server's socket |
//! | [`config`], [`app`] | settings, and how everything is put together from them |
//!
//! # What is never so
//!
//! - `domain` waits for nothing, reads and writes nothing, and names no framework.
//! - `graphql` and `http` name no backend of the store, and decide no rule of the domain.
//! - Nothing but [`clock`] asks the machine for the time of day or for randomness.
//! - Nothing is answered from memory but through [`coherence::Coherence::read`], which looks at the lease; and no search
//!   before the store has said where the log ends that memory must have reached ([`coherence::search`]).
//! - No change is committed without its audit entry, and none is patched in place: a batch writes whole rows.
//! - A whole API key is in no row, no log, no event and no error; its one exit is [`domain::keys::ApiKey::expose`].
//! - No permission code is compared twice: a root field's directive is what its guard reads.
//!
//! # Two walks
//!
//! **A key is revoked.** `POST /graphql` enters at `http::graphql::handle`: the gate
//! (`http::admission::SessionGate::admit`) finds the caller, `http::operation::Operation::prepare` parses and bounds the
//! document, and `graphql::mutation::Mutation::revoke_key` runs in a task of its own, after the guard
//! `graphql::permissions::Permitted` has read the field's directive. `service::Service::revoke_key` loads the system,
//! asks `domain::systems::System::revoke_key` for the decision, and commits one `domain::changes::Batch` with its audit
//! entry (`store::CommitStore::commit`). The store's feed brings the change to `coherence::Coherence::follow` on every instance,
//! which applies it to `coherence::Cache`, tells `coherence::protocol::Protocol`, and hands it to the streams that
//! `service::Service::entries` gave to subscribers (`http::following` shows it once for all who select the same). Each
//! instance then says in a lease how far it has come (`store::LeaseStore::put_lease`); when all have, the
//! `coherence::Barrier` that the mutation waits at opens, and it answers.
//!
//! **A key is verified.** `POST /v1/verify` and `/v1/forward-auth` enter at `http::verify::Routes::answer`, which
//! `http::serve::serve` calls for each request of the listener's connections. `verify::Verifier::verify` parses the key
//! (a malformed one is refused there), digests it under the pepper, looks the digest up in memory under the lease
//! (`coherence::Coherence::read`), and gives a `domain::verdict::Verdict`. While memory may not answer it reads the store
//! (`store::KeyStore::find_key`, which sees every change answered before).

pub mod admin;
pub mod app;
pub mod audit_text;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod coherence;
pub mod config;
pub mod domain;
pub mod graphql;
pub mod http;
pub mod metrics;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod verify;
