//! What an index of 1,000,000 keys costs: resident memory, time to fill, look-ups per second on one thread.
//!
//! `cargo bench --bench memory` runs all; `-- current` or `-- revoked` one, each in a process of its own, so that
//! none is given memory that another freed.

use std::process::Command;
use std::time::{Duration, Instant};

use keymark::coherence::index::Index;
use keymark::domain::ids::{SystemId, TenantId};
use keymark::domain::keys::{Key, KeyDigest, Mark};
use keymark::domain::names::SystemName;
use keymark::domain::time::Timestamp;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 1_000_000;
const TENANTS: u64 = 1_000;
const PARTS: [&str; 2] = ["current", "revoked"];

fn main() {
    let asked = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    match asked.as_deref() {
        Some("current") => measure("current", None),
        Some("revoked") => measure("revoked", Some(Timestamp::from_millis(1_700_000_000_000))),
        Some(_) => {}
        None => PARTS.iter().for_each(|part| {
            let program = std::env::current_exe().expect("the path of this program");
            assert!(Command::new(program).arg(part).status().expect("a process").success());
        }),
    }
}

fn measure(what: &str, revoked_at: Option<Timestamp>) {
    let tenants: Vec<TenantId> = (0..TENANTS).map(|n| format!("tenant-{n}").parse().expect("a tenant")).collect();
    let before = resident_bytes();
    let index = Index::new();
    let (mut filling, mut longest) = (Duration::ZERO, Duration::ZERO);
    for n in 0..KEYS {
        let key = key(n, &tenants, revoked_at);
        let began = Instant::now();
        index.put(&key);
        let took = began.elapsed();
        filling += took;
        longest = longest.max(took);
    }
    let resident = resident_bytes().saturating_sub(before) as f64 / KEYS as f64;
    let held = index.bytes() as f64 / KEYS as f64;
    println!("{KEYS} keys, {what}, names of 20 bytes, {TENANTS} tenants");
    println!("  memory   {resident:>10.1} bytes a key resident, {held:.1} by its own count");
    println!("  filled   {:>10.2} s, the longest row {:.2} ms", filling.as_secs_f64(), longest.as_secs_f64() * 1e3);
    println!("  hits     {:>10.0} a second", look_ups(&index, 0, true));
    println!("  misses   {:>10.0} a second", look_ups(&index, KEYS, false));
}

/// Look-ups per second of digests from the `first` on, in an order that has nothing to do with that of the rows.
fn look_ups(index: &Index, first: u64, known: bool) -> f64 {
    const STEP: u64 = 618_033; // shares no factor with KEYS, so that each key has its turn
    let began = Instant::now();
    for n in 0..KEYS {
        let found = index.find(&digest(first + n * STEP % KEYS));
        assert_eq!(found.is_some(), known);
    }
    KEYS as f64 / began.elapsed().as_secs_f64()
}

fn key(n: u64, tenants: &[TenantId], revoked_at: Option<Timestamp>) -> Key {
    let mut system = [0; 16];
    system[8..].copy_from_slice(&n.to_be_bytes());
    Key {
        digest: digest(n),
        tenant: tenants[(n % TENANTS) as usize].clone(),
        system: SystemId::from_bytes(system),
        system_name: SystemName::parse(&format!("System {n:013}")).expect("a name"),
        mark: Mark::try_from(format!("{:04}", n % 10_000)).expect("a mark"),
        revision: 1,
        revoked_at,
    }
}

/// As uniform as a digest, and made anew in no time (SplitMix64).
fn digest(n: u64) -> KeyDigest {
    let mut bytes = [0; 32];
    for (lane, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
        let mut z = (n * 4 + lane + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    KeyDigest::from_bytes(bytes)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of the resident set");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
}
