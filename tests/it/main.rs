//! Tests of everything that Keymark guarantees, from the outside.
//!
//! Most tests run an instance in this process and send requests through its routers
//! ([`support::actors`]). A test goes into the file of the first row that fits:
//!
//! | file | tests |
//! | --- | --- |
//! | `contract/` | what every `Store` guarantees, by concept; each case runs on every backend (`backends`) |
//! | `mongo_store/`, `embedded_store`, `embedded_faults` | what one backend guarantees beyond that |
//! | `cluster/` | several server processes under faults: no revoked key is accepted |
//! | `enforcement` | a change is in effect on every instance once it is reported as enforced; leases, lost feeds |
//! | `processes`, `starts` | the binary: command line, signals, crashes, refused starts |
//! | `health` | `keymark health`, the version, completions and manual pages |
//! | `tls`, `rolling_restarts` | TLS on the binary: files, reloads, client certificates; instances that are replaced under load |
//! | `backups` | copies of a running embedded store, and restoring them |
//! | `migration` | moves between the embedded store and MongoDB |
//! | `gateways` | nginx, Caddy and HAProxy with the files in `docs/gateways/` |
//! | `transport/` | GraphQL over HTTP and WebSocket, time-outs, document limits, for a schema of its own |
//! | `verification`, `abuse` | verdicts, forward-auth, access to the listener; floods of bad keys |
//! | `exhaustion` | what one operator, tenant or address can take of an instance |
//! | `foreign_rows` | rows that another client wrote, that cannot be read, or that are in a newer format |
//! | `old_digests` | the replacement of the root secret |
//! | `fuzz` | arbitrary and slightly wrong bytes, for everything that parses bytes of others |
//! | `systems`, `keys`, `pages`, `search` | the fields for systems and keys; pages and cursors; searches by name |
//! | `first_release` | stores that release 0.1.0 wrote |
//! | `review` | filters of systems, and orders by use and by times of keys |
//! | `external_ids` | external ids of systems: unique, searched, looked up, and in verdicts |
//! | `key_life` | rotation, ends by time, suspension, descriptions and reasons |
//! | `audit_log` | entries, filters, export, the hash chain |
//! | `following`, `archives` | `keymark audit follow` and `keymark audit archive` |
//! | `checkpoints`, `tampering` | signed ends of logs and of exports; a log that was changed in the store |
//! | `subscriptions`, `fan_out` | changes in order, resumption, the end of sessions; many and slow subscribers |
//! | `usage` | counts of verifications, and when keys were last used |
//! | `tenants` | tenants: their changes, suspension, and callers who act in another one |
//! | `sign_in`, `authorisation` | sessions, passwords, throttling; each root field with each permission and foreign ids |
//! | `operators` | adding, changing, suspending and removing operators, by the API and the command line; their sessions |
//! | `injection` | texts of clients are never operators or patterns |
//! | `browsers`, `console_files` | cookies, origins, CORS; the embedded console |
//! | `monitoring` | metrics, the dashboard and the alerts |
//! | `hygiene`, `secrets` | no secret is logged, stored or compared with `==` |
//! | `schema`, `readme`, `layers` | checked-in files and the source agree with the program |
//!
//! Wait for events, never for a time: subscribe first, act, then await the event ([`support::within`]). Measure time in
//! `benches/`.

#![expect(unreachable_pub, reason = "one crate: `pub` is what other files of it use")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start processes, and read the machine's clock and their own variables"
)]

mod abuse;
mod answers;
mod archives;
mod audit_log;
mod authorisation;
mod backends;
mod backups;
mod browsers;
mod checkpoints;
mod cluster;
mod console_files;
mod contract;
mod embedded_faults;
mod embedded_store;
mod enforcement;
mod examples;
mod exhaustion;
mod external_ids;
mod fan_out;
mod first_release;
mod following;
mod foreign_rows;
mod fuzz;
mod gateways;
mod health;
mod hygiene;
mod injection;
mod instances;
mod key_life;
mod keys;
mod layers;
mod migration;
mod mongo_store;
mod monitoring;
mod old_digests;
mod operators;
mod pages;
mod processes;
mod readme;
mod restores;
mod review;
mod rolling_restarts;
mod schema;
mod search;
mod secrets;
mod sign_in;
mod starts;
mod subscriptions;
mod support;
mod systems;
mod tampering;
mod tenants;
mod tls;
mod tokens;
mod transport;
mod usage;
mod verification;
mod verifier_tokens;
