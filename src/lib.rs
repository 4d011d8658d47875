//! Keymark issues, verifies and revokes the API keys of tenants' client applications.
//!
//! # Map
//!
//! ```text
//! domain  <-  store (traits)  <-  coherence  <-  service  <-  verify, graphql  <-  http, cli  <-  app  <-  main
//!                  ^
//!         store::mongo, store::embedded   (named only in app and in tests)
//! ```
//!
//! The arrows are imports. A concept has the same file name in every layer that has a file for it: `systems.rs`,
//! `keys.rs`, `operators.rs`, `sessions.rs`, `audit.rs`, `usage.rs`, `leases.rs`, `feed.rs`. Files do not import each other
//! in a circle; `tests/it/layers.rs` checks both.
//!
//! | module | contents |
//! | --- | --- |
//! | [`domain`] | values and decisions |
//! | [`store`] | the traits of a database, one for each concept, and its two backends |
//! | [`auth`] | tokens, passwords, known browsers, limits on attempts |
//! | [`coherence`] | the in-memory cache, and the lease protocol that decides when a change is enforced |
//! | [`service`] | the operations: read, decide, commit one batch; and the subscribers of the feed |
//! | [`verify`] | the verdict on a presented key |
//! | [`graphql`] | the schema, the limits on documents, and the engine that executes operations |
//! | [`http`] | both listeners: all routes are in [`http::public_routes`] and [`http::verify::routes`] |
//! | [`admin`], [`cli`] | the command line, which opens the store or uses a running server's socket |
//! | [`config`], [`app`] | the settings, and the composition of all parts |
//! | [`clock`] | time and randomness, which everything else takes as arguments |
//! | [`files`] | durable changes of files |
//! | [`metrics`], [`telemetry`], [`audit_text`] | Prometheus metrics, the log, audit exports as text, and their verification |
//!
//! # Invariants
//!
//! - `domain` is synchronous, performs no I/O, and uses no framework.
//! - `graphql` and `http` use no store, and decide no rule of the domain.
//! - Only [`clock`] reads the system's clocks and randomness, and only [`cli`] the environment, for [`config`]
//!   (`clippy.toml`).
//! - The cache is read only through [`coherence::Coherence::read`], which checks the lease. A search in cached names first
//!   reads from the store where the audit log ends, and waits until the cache has that entry ([`coherence::search`]).
//! - Every change is committed as one batch of whole rows with one audit entry, through `service::commit`, which also makes
//!   each operation say whether it waits until the change is enforced.
//! - A whole API key is in no row, log, event or error; the only way out of its type is
//!   [`domain::keys::ApiKey::expose`].
//! - A root field's permission code is written once, in the directive that its guard reads.
//!
//! # Walkthroughs
//!
//! **A key is revoked.** `http::graphql::handle` receives `POST /graphql`.
//! `http::session_authenticator::SessionAuthenticator::authenticate` finds the caller;
//! `graphql::engine::Engine::prepare` parses the document and checks its limits, and `Engine::execute` runs the mutation in
//! a task of its own. The guard `graphql::permissions::Permitted` checks the permission code of the field's directive, and
//! `graphql::mutation::Mutation::revoke_key` calls `service::Service::revoke_key`. That loads the system, asks
//! `domain::systems::System::revoke_keys` for the decision, and commits a `domain::changes::Batch` with its audit entry
//! (`store::CommitStore::commit`). On every instance, `coherence::Coherence::follow` receives the change in the store's
//! feed, applies it to the `coherence::Cache` and to the `coherence::protocol::Protocol`, and passes it to the subscribers
//! (`service::feed`; `graphql::engine` makes the payload, once for all who select the same). Each instance then
//! acknowledges it with its next lease (`store::LeaseStore::put_lease`). The instance that makes the change lists the leases
//! (`store::LeaseStore::list_leases_at`). When all have applied it, the `coherence::Barrier` that the mutation waits at
//! opens, and the response is sent.
//!
//! **A key is verified.** `http::serve::serve` passes each request of the verification listener to
//! `http::verify::Routes::handle`, on the thread that the connection stays on (`http::threads`), and reads most requests
//! without hyper (`http::small_requests`). `handle` answers `POST /v1/verify` and `/v1/forward-auth`.
//! `verify::Verifier::verify` parses the key and refuses a malformed one; it digests the key under the pepper, looks the
//! digest up in the cache (`coherence::Coherence::read_with_check`), counts a use of a valid one in its row there, and
//! returns a `domain::verdict::Verdict`. While the cache is bypassed it reads the store (`store::KeyStore::find_key`, which
//! sees every change that was answered before). `service::Service::run_usage` adds the counts to the store.

pub mod admin;
pub mod app;
pub mod audit_text;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod coherence;
pub mod config;
pub mod domain;
pub mod files;
pub mod graphql;
pub mod http;
pub mod metrics;
mod process_metrics;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod verify;
