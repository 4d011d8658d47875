//! Measures verifications while the instances of a replica set are restarted one after the other behind nginx, which
//! `docs/operations.md` configures. Fails if one request fails.
//!
//! `cargo bench --bench restarts`. `KEYMARK_BINARY` is the path of another build.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/nginx.rs"]
mod nginx;
#[path = "support/program.rs"]
mod program;
#[path = "support/replica_set.rs"]
mod replica_set;
#[path = "support/rolling_nginx.rs"]
mod rolling_nginx;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lines::{Better, Goal, Measured, report};
use nginx::Nginx;
use program::Program;
use replica_set::ReplicaSet;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

const INSTANCES: usize = 3;
const SYSTEMS: usize = 200;
/// Verifications a second.
const RATE: u32 = 2_000;
const DRAIN_DELAY: &str = "1s";
/// Before the first restart, and after each one.
const PAUSE: Duration = Duration::from_secs(5);
/// A gateway gives up after this time.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Failures that are printed.
const SHOWN_FAILURES: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let set = ReplicaSet::start(1).await;
    let (uri, addresses) = (set.uri(), free_addresses(INSTANCES + 1));
    let (listener, addresses) = addresses.split_last().expect("an address of nginx");
    let start =
        async |address: &SocketAddr| Program::start(&uri, &address.to_string(), &["--drain-delay", DRAIN_DELAY]).await;
    let mut programs = Vec::new();
    for address in addresses {
        programs.push(start(address).await);
    }
    let token = programs[0].sign_in().await;
    let mut keys = Vec::new();
    for number in 0..SYSTEMS {
        let system = programs[0].create_system(&token, &format!("System {number}")).await;
        keys.push(programs[0].generate_key(&token, &system).await);
    }
    let configuration = rolling_nginx::configuration(*listener, addresses);
    let nginx = Nginx::start(*listener, |_| configuration).expect("scripts/need.sh installs nginx");

    let stop = CancellationToken::new();
    let load = tokio::spawn(load(nginx.address, keys, stop.clone()));
    sleep(PAUSE).await;
    let (mut stops, mut starts) = (Vec::new(), Vec::new());
    for (program, address) in programs.iter_mut().zip(addresses) {
        let began = Instant::now();
        kill_process(Pid::from_child(&program.process), Signal::TERM).expect("it runs");
        let status = program.process.wait().expect("a status");
        assert!(status.success(), "{status}");
        stops.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        *program = start(address).await;
        starts.push(began.elapsed().as_secs_f64());
        sleep(PAUSE).await;
    }
    stop.cancel();
    let outcomes = load.await.expect("nothing panicked");

    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let times: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).copied().collect();
    let longest = times.iter().copied().fold(0.0, f64::max);
    let section = format!(
        "{RATE} verifications a second through nginx, {INSTANCES} instances restarted in turn, drain delay {DRAIN_DELAY}"
    );
    let line = |name, unit, better, goal, measured| report(&section, name, unit, better, goal, measured);
    let (sent, failed) = (outcomes.len() as f64, failures.len() as f64);
    line("verifications", "requests", Better::More, None, Measured::Rounds(vec![sent]));
    line("failed", "requests", Better::Less, Some(Goal::Median(0.0)), Measured::Rounds(vec![failed]));
    line("from the scheduled time to the answer", "ms", Better::Less, None, Measured::Times(times));
    line("the longest of them", "ms", Better::Less, None, Measured::Rounds(vec![longest]));
    line("from SIGTERM to the end of a process", "s", Better::Less, None, Measured::Rounds(stops));
    line("from its start until it is ready", "s", Better::Less, None, Measured::Rounds(starts));
    for failure in failures.iter().take(SHOWN_FAILURES) {
        eprintln!("a request failed: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Milliseconds from the time for which a request was scheduled to its answer; or why it failed.
type Outcome = Result<f64, String>;

/// Sends verifications on a fixed schedule, whether or not those before have their answers.
async fn load(nginx: SocketAddr, keys: Vec<String>, stop: CancellationToken) -> Vec<Outcome> {
    let client = reqwest::Client::builder().timeout(CLIENT_TIMEOUT).no_proxy().build().expect("a client");
    let (mut running, began) = (JoinSet::new(), Instant::now());
    for number in 0_u32.. {
        let scheduled = began + Duration::from_secs(1) * number / RATE;
        sleep_until(scheduled.into()).await;
        if stop.is_cancelled() {
            break;
        }
        let key = &keys[number as usize % keys.len()];
        // A gateway sends GET, a service POST.
        let request = if number.is_multiple_of(2) {
            client.get(format!("http://{nginx}/v1/forward-auth")).header("x-api-key", key)
        } else {
            client.post(format!("http://{nginx}/v1/verify")).json(&json!({ "apiKey": key }))
        };
        running.spawn(async move {
            let response = request.send().await.map_err(|error| format!("{error:?}"))?;
            let status = response.status();
            let text = response.text().await.map_err(|error| format!("{error:?}"))?;
            let is_valid = number.is_multiple_of(2) || text.contains(r#""valid":true"#);
            if status == 200 && is_valid {
                Ok(scheduled.elapsed().as_secs_f64() * 1e3)
            } else {
                Err(format!("{status}: {text}"))
            }
        });
    }
    running.join_all().await
}

/// Addresses at which nothing listens, below the ports that Linux assigns for port 0: no client takes one while the
/// instance at it restarts.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let first = 12_000 + u16::try_from(std::process::id() % 10_000).expect("small");
    let addresses = (first..).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    addresses.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect()
}
