//! The cost of an index of 1,000,000 keys: resident memory, time to fill, look-ups per second on one thread.
//!
//! `cargo bench --bench memory` runs both parts, each in its own process, so that none reuses memory that another freed;
//! `-- current` or `-- revoked` runs one.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/keys.rs"]
mod keys;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/requested_part.rs"]
mod requested_part;
#[path = "support/resident.rs"]
mod resident;
#[path = "support/run_part.rs"]
mod run_part;

use std::time::{Duration, Instant};

use keymark::coherence::key_index::KeyIndex;
use keymark::domain::ids::TenantId;
use keymark::domain::time::Timestamp;
use keys::{digest, key};
use lines::{Better, Measured, report};
use mimalloc::MiMalloc;
use requested_part::requested_part;
use resident::resident;
use run_part::run_part;
use zeroizing_alloc::ZeroAlloc;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const KEYS: u64 = 1_000_000;
const TENANTS: u64 = 1_000;
const PARTS: [&str; 2] = ["current", "revoked"];

fn main() {
    match requested_part().as_deref() {
        Some("current") => measure("current", None),
        Some("revoked") => measure("revoked", Some(Timestamp::from_millis(1_700_000_000_000))),
        Some(_) => {}
        None => PARTS.iter().for_each(|part| run_part(part, &[])),
    }
}

fn measure(what: &str, revoked_at: Option<Timestamp>) {
    let tenants: Vec<TenantId> = (0..TENANTS).map(|n| format!("tenant-{n}").parse().expect("a tenant")).collect();
    let before = resident(std::process::id());
    let index = KeyIndex::default();
    let (mut filling, mut longest) = (Duration::ZERO, Duration::ZERO);
    for n in 0..KEYS {
        let key = key(n, &tenants[(n % TENANTS) as usize], revoked_at);
        let began = Instant::now();
        index.put(&key);
        let took = began.elapsed();
        filling += took;
        longest = longest.max(took);
    }
    let resident = resident(std::process::id()).saturating_sub(before) as f64 / KEYS as f64;
    let held = index.bytes() as f64 / KEYS as f64;
    let section = format!("{KEYS} {what} keys in the index, names of 20 bytes, {TENANTS} tenants");
    let line = |name, unit, better, value| report(&section, name, unit, better, None, Measured::Rounds(vec![value]));
    line("memory", "resident bytes a key", Better::Less, resident);
    line("memory by its own count", "bytes a key", Better::Less, held);
    line("filled", "s", Better::Less, filling.as_secs_f64());
    line("longest row", "ms", Better::Less, longest.as_secs_f64() * 1e3);
    line("hits on one thread", "a second", Better::More, look_ups(&index, 0, true));
    line("misses on one thread", "a second", Better::More, look_ups(&index, KEYS, false));
}

/// Look-ups per second of digests from `first` on, in an order unrelated to that of the rows.
fn look_ups(index: &KeyIndex, first: u64, known: bool) -> f64 {
    const STEP: u64 = 618_033; // coprime to KEYS, so that each key is looked up once
    let began = Instant::now();
    for n in 0..KEYS {
        let found = index.find(&digest(first + n * STEP % KEYS));
        assert_eq!(found.is_some(), known);
    }
    KEYS as f64 / began.elapsed().as_secs_f64()
}
