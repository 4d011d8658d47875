//! The promise, on real clusters that fail: once a revocation or a deletion has answered `ENFORCED`, no instance accepts
//! the key. `history` says it exactly, and finds what breaks it.
//!
//! `KEYMARK_TORTURE_SECONDS` makes the run over the replica set last that long, with everything that can be made to fail;
//! `KEYMARK_TORTURE_SEED` repeats the choices of another run, though not its timing.

mod fleet;
mod history;
mod load;
mod nemesis;
mod proxy;
mod replica_set;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use self::fleet::Fleet;
use self::history::{Seen, seen, summary, violations};
use self::load::Load;
use self::nemesis::Fault;

/// Seconds of a lease: 0, where every verification reads the store; shorter and longer than an election.
const LEASES: [u64; 4] = [0, 2, 5, 12];
/// The same where time is short: what is down holds up the ends of keys for this long.
const SHORT_LEASE: u64 = 2;

/// The most lines about violations that are shown.
const SHOWN: usize = 40;

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn seeded() -> StdRng {
    let seed = number("KEYMARK_TORTURE_SEED").unwrap_or_else(rand::random);
    println!("KEYMARK_TORTURE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// What the checker saw: no violation, and not nothing.
async fn check(fleet: &Fleet) -> Seen {
    let events = fleet.history.look(Clone::clone);
    let seen = seen(&events, fleet.size());
    println!("{seen}");
    let violations = violations(&events);
    if !violations.is_empty() {
        let lines: Vec<_> = summary(&violations).into_iter().take(SHOWN).collect();
        let mut logs = String::new();
        for number in 0..fleet.size() {
            logs += &format!("instance {number} says:\n{}\n", fleet.log_of(number).await);
        }
        panic!("{} violations, such as:\n{}\n{logs}", violations.len(), lines.join("\n"));
    }
    for answers in &seen.by_instance {
        assert!(answers.accepted >= 20 && answers.refused_after_end >= 20, "too little was seen: {seen}");
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instance_of_three_accepts_a_key_whose_end_is_enforced_whatever_fails() {
    let mut rng = seeded();
    let torture = number("KEYMARK_TORTURE_SECONDS");
    let (mut faults, lease) = match torture {
        None => (Fault::SHORT.to_vec(), SHORT_LEASE),
        Some(_) => (Fault::ALL.to_vec(), *LEASES.choose(&mut rng).expect("some")),
    };
    println!("leases of {lease} s");
    let fleet = Arc::new(Fleet::of_three(lease).await);
    let load = Load::start(&fleet, &mut rng).await;
    let until = Duration::from_secs(torture.unwrap_or(0));
    loop {
        faults.shuffle(&mut rng);
        for fault in &faults {
            fault.inflict(&fleet, &mut rng).await;
        }
        if fleet.history.now() >= until {
            break;
        }
    }
    load.finish().await;
    let seen = check(&fleet).await;
    for fault in faults {
        let ends = seen.ends_amid.get(fault.name()).copied().unwrap_or(0);
        assert!(ends > 0, "no key was ended amid: {}", fault.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_over_the_embedded_store_accepts_no_key_whose_end_is_enforced() {
    let mut rng = seeded();
    let fleet = Arc::new(Fleet::embedded().await);
    let load = Load::start(&fleet, &mut rng).await;
    for fault in Fault::ALONE.repeat(3) {
        fault.inflict(&fleet, &mut rng).await;
    }
    load.finish().await;
    check(&fleet).await;
}

/// The load and the checker find what they are to find.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_that_are_kept_for_a_moment_are_caught() {
    let fleet = Arc::new(Fleet::embedded_and_stale(Duration::from_millis(300)).await);
    let load = Load::start(&fleet, &mut seeded()).await;
    Fault::KilledInstance.inflict(&fleet, &mut seeded()).await;
    load.finish().await;
    let violations = violations(&fleet.history.look(Clone::clone));
    assert!(violations.iter().any(|violation| violation.what == "accepted after its end was enforced"));
}
