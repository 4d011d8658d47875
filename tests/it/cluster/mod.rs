//! Fault injection on real clusters: once a revocation or a deletion has returned `ENFORCED`, no instance accepts the
//! key. `history` defines this guarantee precisely and checks it.
//!
//! `KEYMARK_TORTURE_SECONDS` makes the run over the replica set last that long, with every kind of fault;
//! `KEYMARK_TORTURE_SEED` repeats the random choices of another run, though not its timing.

mod fleet;
mod history;
mod load;
mod nemesis;
mod proxy;
mod replica_set;
#[cfg(feature = "upgrade-test")]
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use self::fleet::Fleet;
use self::history::{Coverage, coverage, summary, violations};
use self::load::Load;
use self::nemesis::Fault;

/// Lease lengths in seconds: 0, so that every verification reads the store; shorter and longer than an election.
const LEASE_SECONDS: [u64; 4] = [0, 2, 5, 12];
/// Lease lengths in seconds of the short run: an instance that is down delays revocations for this long.
const SHORT_LEASE_SECONDS: [u64; 3] = [2, 3, 2];

/// Violations that are printed.
const MAX_REPORTED: usize = 40;

/// Reads a number from an environment variable.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn seeded() -> StdRng {
    let seed = number("KEYMARK_TORTURE_SEED").unwrap_or_else(rand::random);
    println!("KEYMARK_TORTURE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Checks that there is no violation, and that enough happened for that to mean something.
async fn check(fleet: &Fleet) -> Coverage {
    let events = fleet.history.inspect(Clone::clone);
    let coverage = coverage(&events, fleet.size());
    println!("{coverage}");
    let violations = violations(&events);
    if !violations.is_empty() {
        let lines: Vec<_> = summary(&violations).into_iter().take(MAX_REPORTED).collect();
        let mut logs = String::new();
        for number in 0..fleet.size() {
            logs += &format!("log of instance {number}:\n{}\n", fleet.log_of(number).await);
        }
        panic!("{} violations, including:\n{}\n{logs}", violations.len(), lines.join("\n"));
    }
    for counts in &coverage.by_instance {
        assert!(counts.accepted >= 20 && counts.refused_after_end >= 20, "too few verifications: {coverage}");
    }
    coverage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instance_of_a_failing_cluster_accepts_a_key_after_its_revocation_is_enforced() {
    let mut rng = seeded();
    let torture = number("KEYMARK_TORTURE_SECONDS");
    let (mut faults, leases) = match torture {
        None => (Fault::SHORT.to_vec(), SHORT_LEASE_SECONDS),
        Some(_) => (Fault::ALL.to_vec(), [(); 3].map(|()| *LEASE_SECONDS.choose(&mut rng).expect("some"))),
    };
    println!("leases of {leases:?} s");
    let fleet = Arc::new(Fleet::of_three(leases).await);
    let load = Load::start(&fleet, &mut rng).await;
    let until = Duration::from_secs(torture.unwrap_or(0));
    loop {
        faults.shuffle(&mut rng);
        for fault in &faults {
            fault.run(&fleet, &mut rng).await;
        }
        if fleet.history.now() >= until {
            break;
        }
    }
    load.finish().await;
    let coverage = check(&fleet).await;
    for fault in faults {
        let ends = coverage.ends_during.get(fault.name()).copied().unwrap_or(0);
        assert!(ends > 0, "no key was ended during: {}", fault.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_instance_accepts_no_key_after_its_revocation_is_enforced() {
    let mut rng = seeded();
    let fleet = Arc::new(Fleet::embedded().await);
    let load = Load::start(&fleet, &mut rng).await;
    for fault in Fault::SINGLE_INSTANCE.repeat(3) {
        fault.run(&fleet, &mut rng).await;
    }
    load.finish().await;
    check(&fleet).await;
}

/// The load and the checker detect a planted bug.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_verdicts_are_detected() {
    let fleet = Arc::new(Fleet::embedded_and_stale(Duration::from_millis(300)).await);
    let load = Load::start(&fleet, &mut seeded()).await;
    Fault::KilledInstance.run(&fleet, &mut seeded()).await;
    load.finish().await;
    let violations = violations(&fleet.history.inspect(Clone::clone));
    assert!(violations.iter().any(|violation| violation.what == "accepted after its end was enforced"));
}
