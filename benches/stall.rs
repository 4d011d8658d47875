//! Measures how soon instances verify from their caches again after the database has not responded for 30 s, under more
//! load than the database can bear: three processes over one `mongod`, which is stopped and continued.
//!
//! `cargo bench --bench stall`. `KEYMARK_BINARY` is the path of another build to compare with, and `STALL_RATE` the
//! verifications a second, by default three times the linearizable reads of one key that the database bears.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/replica_set.rs"]
mod replica_set;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lines::{Better, Goal, Measured, report};
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, CollectionOptions, ReadConcern};
use program::Program;
use replica_set::ReplicaSet;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

const INSTANCES: usize = 3;
const SYSTEMS: usize = 200;
/// Longer than a lease.
const STALL: Duration = Duration::from_secs(30);
/// From the start of the load to the stall.
const WARM_UP: Duration = Duration::from_secs(10);
/// From the return of the database to the end of the load.
const OBSERVED: Duration = Duration::from_secs(60);
const GOAL_SECONDS: f64 = 5.0;
/// A gateway gives up after this time.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// The connections that one instance opens for requests by default.
const READERS: u32 = 50;
const READ_TIME: Duration = Duration::from_secs(5);
const LOAD_MULTIPLE: u32 = 3;
/// Between two batches of verifications.
const TICK: Duration = Duration::from_millis(10);
/// Between two reads of the metrics.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    let set = ReplicaSet::start(1).await;
    let mut programs = Vec::new();
    for _ in 0..INSTANCES {
        programs.push(Program::start(&set.uri(), "127.0.0.1:0", &[]).await);
    }
    let token = programs[0].sign_in().await;
    let mut keys = Vec::new();
    for number in 0..SYSTEMS {
        let system = programs[0].create_system(&token, &format!("System {number}")).await;
        keys.push(programs[0].generate_key(&token, &system).await);
    }
    let rate = match std::env::var("STALL_RATE") {
        Ok(rate) => rate.parse().expect("a number"),
        Err(_) => LOAD_MULTIPLE * bearable_reads(&set.uri()).await,
    };

    let began = Instant::now();
    let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let targets: Vec<_> = programs.iter().map(|program| program.origins[1].clone()).collect();
    let load = tokio::spawn(load(targets.clone(), keys, rate, Arc::clone(&outcomes)));
    sleep(WARM_UP).await;
    signal(&set, Signal::STOP);
    sleep(STALL).await;
    signal(&set, Signal::CONT);
    let returned = Instant::now();
    let cached = timeout(OBSERVED, caches_in_use(&targets)).await.map_or(OBSERVED, |()| returned.elapsed());
    sleep(OBSERVED.saturating_sub(returned.elapsed())).await;
    load.abort();

    let outcomes = outcomes.lock().expect("nothing panicked").clone();
    let failed = outcomes.iter().filter(|outcome| !outcome.is_valid).map(|outcome| outcome.sent);
    let served = failed.max().map_or(Duration::ZERO, |last| last.saturating_duration_since(returned));
    let stalled = outcomes.iter().filter(|outcome| outcome.sent > began + WARM_UP && outcome.sent < returned);
    let refused = stalled.clone().filter(|outcome| !outcome.is_valid).count() as f64 / stalled.count() as f64;
    let section = format!(
        "{INSTANCES} instances, {rate} verifications a second, the database stopped for {} s; {} s means never",
        STALL.as_secs(),
        OBSERVED.as_secs(),
    );
    let line = |name, unit, goal, value| {
        report(&section, name, unit, Better::Less, goal, Measured::Rounds(vec![value]));
    };
    line("until every verification succeeds", "s", Some(Goal::Median(GOAL_SECONDS)), served.as_secs_f64());
    line("until all verify from their caches", "s", Some(Goal::Median(GOAL_SECONDS)), cached.as_secs_f64());
    line("refused while it was stopped", "%", None, 100.0 * refused);
}

fn signal(set: &ReplicaSet, signal: Signal) {
    for (process, _) in &set.members {
        kill_process(Pid::from_child(process), signal).expect("it runs");
    }
}

/// A verification that has its response, or none.
#[derive(Clone, Copy)]
struct Outcome {
    sent: Instant,
    is_valid: bool,
}

/// Sends verifications at this rate, whether or not those before have their responses.
async fn load(targets: Vec<String>, keys: Vec<String>, rate: u32, outcomes: Arc<Mutex<Vec<Outcome>>>) {
    let client = reqwest::Client::builder().timeout(CLIENT_TIMEOUT).build().expect("a client");
    let (began, mut ticks) = (Instant::now(), interval(TICK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut count: usize = 0;
    loop {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as usize;
        for number in count..due {
            let url = format!("{}/v1/verify", targets[number % targets.len()]);
            let request = client.post(url).json(&json!({ "apiKey": keys[number % keys.len()] }));
            let outcomes = Arc::clone(&outcomes);
            tokio::spawn(async move {
                let sent = Instant::now();
                let is_valid = match request.send().await {
                    Ok(response) => response.text().await.is_ok_and(|text| text.contains(r#""valid":true"#)),
                    Err(_) => false,
                };
                outcomes.lock().expect("nothing panicked").push(Outcome { sent, is_valid });
            });
        }
        count = due;
    }
}

/// Waits until each instance uses its cache.
async fn caches_in_use(targets: &[String]) {
    let client = reqwest::Client::builder().timeout(CLIENT_TIMEOUT).build().expect("a client");
    for target in targets {
        let is_used = async || {
            let metrics = client.get(format!("{target}/metrics")).send().await.ok()?.text().await.ok()?;
            let value = metrics.lines().find_map(|line| line.strip_prefix("keymark_memory_answers "));
            Some(value.expect("the gauge").parse::<f64>().expect("a number") > 0.0)
        };
        while is_used().await != Some(true) {
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Counts the linearizable reads of one key a second, over as many connections as the instances open together.
async fn bearable_reads(uri: &str) -> u32 {
    let mut options = ClientOptions::parse(uri).await.expect("a URI");
    let readers = READERS * INSTANCES as u32;
    options.max_pool_size = Some(readers);
    let database = mongodb::Client::with_options(options).expect("a client").database(program::DATABASE);
    let concern = CollectionOptions::builder().read_concern(ReadConcern::linearizable()).build();
    let keys = database.collection_with_options::<Document>("keys", concern);
    let id = keys.find_one(doc! {}).await.expect("a read").expect("a key").get("_id").cloned().expect("an id");
    let until = Instant::now() + READ_TIME;
    let readers = (0..readers).map(async |_| {
        let mut reads: u32 = 0;
        while Instant::now() < until {
            keys.find_one(doc! { "_id": id.clone() }).await.expect("a read");
            reads += 1;
        }
        reads
    });
    let reads: u32 = futures::future::join_all(readers).await.into_iter().sum();
    reads / READ_TIME.as_secs() as u32
}
