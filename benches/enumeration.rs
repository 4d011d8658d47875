//! Compares the time of refused sign-ins with known and with unknown usernames, by the [Mann-Whitney U
//! test](https://en.wikipedia.org/wiki/Mann%E2%80%93Whitney_U_test). Then measures how long an owner waits for a sign-in
//! while others guess at the account.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/instance.rs"]
mod instance;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/millis.rs"]
mod millis;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use instance::Instance;
use keymark::domain::operators::Password;
use keymark::domain::refusal::Refusal;
use keymark::service::error::Error;
use keymark::service::sessions::SignIn;
use keymark::store::Store;
use keymark::store::embedded::EmbeddedStore;
use lines::{Better, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// So many that none of them is throttled.
const OPERATORS: u32 = 40;
/// Sign-ins with known usernames, and as many with unknown ones.
const ATTEMPTS: u32 = 1_000;
/// Networks that guess at an account.
const ATTACKERS: u32 = 200;
/// Sign-ins of its owner.
const SIGN_INS: u32 = 50;

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).expect("a store"));
    let instance = Instance::start(&store, true).await;
    for i in 0..OPERATORS {
        instance.operator("default", &format!("known-{i}")).await;
    }
    assert!(instance.coherence.read(|_| ()).is_some(), "memory answers, as it does in the program");
    let mut rng = StdRng::seed_from_u64(1);
    let mut order: Vec<bool> = [true, false].into_iter().flat_map(|kind| vec![kind; ATTEMPTS as usize]).collect();
    order.shuffle(&mut rng);
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (at, is_known) in (0..).zip(order) {
        let kind = if is_known { "known" } else { "other" };
        let username = format!("{kind}-{}", rng.random_range(0..OPERATORS));
        let times = if is_known { &mut known } else { &mut unknown };
        times.push(refused(&instance, &username, IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + at))).await);
    }
    let (above, z) = mann_whitney(&known, &unknown);
    let section = "refused sign-ins, with known and with unknown usernames in random order";
    report(section, "known username", "ms", Better::Less, None, Measured::Times(millis(&known)));
    report(section, "unknown username", "ms", Better::Less, None, Measured::Times(millis(&unknown)));
    let share = Measured::Rounds(vec![above * 100.0]);
    report(section, "pairs in which the known one is slower; 50 if nothing differs", "%", Better::Less, None, share);
    println!("    z = {z:.1}");
    wait_while_others_guess(&instance).await;
}

/// How long sign-ins of an owner take, including the waits between retries.
async fn wait_while_others_guess(instance: &Instance) {
    let known = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000));
    signed_in(instance, known).await;
    let measure = async |is_known: bool| {
        let mut times = Vec::new();
        for i in 0..SIGN_INS {
            let fresh = IpAddr::V4(Ipv4Addr::from_bits(0x0c00_0000 + u32::from(is_known) * SIGN_INS + i));
            times.push(signed_in(instance, if is_known { known } else { fresh }).await);
        }
        Measured::Rounds(millis(&times))
    };
    let quiet = measure(true).await;
    let guesses = (0..ATTACKERS).map(|i| async move {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0d00_0000 + i));
        loop {
            let sign_in = attempt("wrong horse battery");
            let _ = instance.service.sign_in(instance.service.request(Some(address)), sign_in).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let measured = async { (measure(true).await, measure(false).await) };
    let (known, fresh) = tokio::select! {
        measured = measured => measured,
        _ = join_all(guesses) => unreachable!("the guesses go on"),
    };
    let section = format!("sign-ins with the correct password while {ATTACKERS} networks guess ten times a second");
    for (name, times) in [("nobody guesses", quiet), ("known network", known), ("fresh network", fresh)] {
        report(&section, name, "ms", Better::Less, None, times);
    }
}

fn attempt(password: &str) -> SignIn {
    let password = Password::unchecked(password.to_owned());
    SignIn { username: "known-0".to_owned(), password, devices: Vec::new(), replaced: None, user_agent: None }
}

/// Signs in from this address, and retries after the stated waits.
async fn signed_in(instance: &Instance, address: IpAddr) -> Duration {
    let began = Instant::now();
    loop {
        match instance.service.sign_in(instance.service.request(Some(address)), attempt(instance::PASSWORD)).await {
            Ok(_) => return began.elapsed(),
            Err(Error::Refused(Refusal::RateLimited { retry_after_seconds })) => {
                tokio::time::sleep(Duration::from_secs(retry_after_seconds)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// How long it takes to be refused for a wrong password.
async fn refused(instance: &Instance, username: &str, address: IpAddr) -> Duration {
    let request = instance.service.request(Some(address));
    let password = Password::unchecked("wrong horse battery".to_owned());
    let sign_in =
        SignIn { username: username.to_owned(), password, devices: Vec::new(), replaced: None, user_agent: None };
    let began = Instant::now();
    let answer = instance.service.sign_in(request, sign_in).await;
    let took = began.elapsed();
    assert!(answer.is_err_and(|error| error.to_string() == "The username or the password is wrong."));
    took
}

/// How likely one of the first is above one of the second, and by how many standard deviations that is off a half.
fn mann_whitney(first: &[Duration], second: &[Duration]) -> (f64, f64) {
    let mut all: Vec<_> = first.iter().map(|time| (time, 1.0)).chain(second.iter().map(|time| (time, 0.0))).collect();
    all.sort_unstable_by_key(|(time, _)| **time);
    let ranks: f64 = (1..).zip(&all).map(|(rank, (_, is_first))| f64::from(rank) * is_first).sum();
    let (n, m) = (first.len() as f64, second.len() as f64);
    let u = ranks - n * (n + 1.0) / 2.0;
    (u / (n * m), (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt())
}
