//! Server processes on one store, and the requests to them, all of which are recorded in a [`History`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
#[cfg(feature = "upgrade-test")]
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use http::header::WWW_AUTHENTICATE;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::history::{Change, History, KeyNumber, Moment, Outcome, Verdict, Verification};
use super::replica_set::ReplicaSet;
use crate::support::mongod::within;
use crate::support::process::{self, PROGRAM, Server, program};

const SECRET: &str = "a root secret of 32 bytes or more, for all instances";
const PASSWORD: &str = "a password for the operator of the fleet";

/// How long an instance may take to become ready.
const MAX_START: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Timeout of a mutation, in addition to the lease. After it the outcome is open and another instance is tried.
const MUTATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any fault: the verdicts of a stopped instance when it continues are the most likely violations.
const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(180);

/// Lines of an instance's log that are printed when a test fails.
const MAX_LOG_LINES: usize = 100;

pub struct Fleet {
    pub history: History,
    pub set: Option<ReplicaSet>,
    instances: Vec<Instance>,
    token: String,
    client: reqwest::Client,
    next_key: AtomicUsize,
    next_system: AtomicUsize,
    /// The instance with a fault; `usize::MAX` if there is none.
    faulty: AtomicUsize,
    stale: Option<StaleCache>,
    /// Whether the load rotates keys.
    pub rotates: bool,
    mutation_timeout: Duration,
    /// Data directory of the embedded store.
    _directory: TempDir,
}

struct Instance {
    /// The binary that the next start runs.
    program: RwLock<PathBuf>,
    variables: Vec<(&'static str, String)>,
    /// The lengths of its leases in seconds, one after the other.
    leases: Vec<u64>,
    starts: AtomicUsize,
    /// `None` while it is down.
    server: tokio::sync::Mutex<Option<Server>>,
    addresses: RwLock<Addresses>,
}

#[derive(Clone, Default)]
struct Addresses {
    public: String,
    verification: String,
}

/// A planted bug: verdicts are cached for a while, as if each instance had a cache without invalidation.
struct StaleCache {
    ttl: Duration,
    verdicts: Mutex<HashMap<(usize, KeyNumber), (Instant, Verdict)>>,
}

pub struct Key {
    pub number: KeyNumber,
    pub system: String,
    text: String,
}

/// An endpoint for verifications.
#[derive(Clone, Copy)]
pub enum Endpoint {
    Verify,
    ForwardAuth,
}

#[derive(Clone, Copy)]
pub enum End {
    Revoke,
    /// Only the retiring key.
    Rotation,
    Delete,
}

impl Fleet {
    /// Three instances over a replica set of three members. `leases` are the lengths of their leases in seconds: an
    /// instance uses the next one each time it starts.
    pub async fn of_three(leases: [u64; 3]) -> Self {
        Self::of_three_from(leases, Path::new(PROGRAM)).await
    }

    /// The same, with instances of another release, which does not rotate keys.
    #[cfg(feature = "upgrade-test")]
    pub async fn of_release(leases: [u64; 3], program: &Path) -> Self {
        Self { rotates: false, ..Self::of_three_from(leases, program).await }
    }

    async fn of_three_from(leases: [u64; 3], program: &Path) -> Self {
        let set = ReplicaSet::start(3).await;
        let variables = |instance| {
            vec![
                ("KEYMARK_MONGODB_URI", set.uri(instance)),
                ("KEYMARK_MONGODB_DATABASE", "cluster".to_owned()),
                ("KEYMARK_PROBE_INTERVAL", "250ms".to_owned()),
            ]
        };
        let variables = (0..3).map(variables).collect();
        let longest = leases.into_iter().max().expect("three");
        let mutation_timeout = MUTATION_TIMEOUT + Duration::from_secs(longest);
        Self { mutation_timeout, ..Self::start(variables, &leases, Some(set), program, process::directory()).await }
    }

    /// One instance over the embedded store.
    pub async fn embedded() -> Self {
        let directory = process::directory();
        let data = directory.path().to_str().expect("UTF-8").to_owned();
        Self::start(vec![vec![("KEYMARK_DATA_DIR", data)]], &[12], None, Path::new(PROGRAM), directory).await
    }

    /// One instance over the embedded store, with the planted bug.
    pub async fn embedded_and_stale(ttl: Duration) -> Self {
        Self { stale: Some(StaleCache { ttl, verdicts: Mutex::default() }), ..Self::embedded().await }
    }

    async fn start(
        variables: Vec<Vec<(&'static str, String)>>,
        leases: &[u64],
        set: Option<ReplicaSet>,
        program: &Path,
        directory: TempDir,
    ) -> Self {
        let instances = variables.into_iter().enumerate().map(|(number, variables)| Instance {
            program: RwLock::new(program.to_owned()),
            variables,
            leases: leases.iter().copied().cycle().skip(number).take(leases.len()).collect(),
            starts: AtomicUsize::new(0),
            server: tokio::sync::Mutex::default(),
            addresses: RwLock::default(),
        });
        let mut fleet = Self {
            history: History::begin(),
            set,
            instances: instances.collect(),
            token: String::new(),
            client: reqwest::Client::new(),
            next_key: AtomicUsize::new(0),
            next_system: AtomicUsize::new(0),
            faulty: AtomicUsize::new(usize::MAX),
            stale: None,
            rotates: true,
            mutation_timeout: MUTATION_TIMEOUT,
            _directory: directory,
        };
        futures::future::join_all((0..fleet.size()).map(|number| fleet.start_instance(number))).await;
        let server = fleet.instances[0].server.lock().await;
        let token = server.as_ref().expect("started").sign_in("admin", PASSWORD).await;
        drop(server);
        fleet.token = token;
        fleet
    }

    pub fn size(&self) -> usize {
        self.instances.len()
    }

    /// Sets the instance that has a fault now.
    pub fn set_faulty(&self, instance: Option<usize>) {
        self.faulty.store(instance.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub fn is_faulty(&self, instance: usize) -> bool {
        self.faulty.load(Ordering::Relaxed) == instance
    }

    /// Starts an instance that is down and waits until it is ready.
    pub async fn start_instance(&self, number: usize) {
        let instance = &self.instances[number];
        let mut command = program(&instance.program.read().unwrap());
        command.env("KEYMARK_SECRET", SECRET).env("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD);
        command.env("KEYMARK_LOG", "warn");
        command.envs(instance.variables.iter().map(|(name, value)| (name, value)));
        let start = instance.starts.fetch_add(1, Ordering::Relaxed);
        command.env("KEYMARK_LEASE", format!("{}s", instance.leases[start % instance.leases.len()]));
        let server = within(MAX_START, Server::run(command)).await;
        let server = server.unwrap_or_else(|(status, log)| panic!("instance {number}: {status}: {log}"));
        let ready = format!("{}/readyz", server.public);
        within(MAX_START, async {
            while !self.client.get(&ready).send().await.is_ok_and(|response| response.status().is_success()) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
        .await;
        let addresses = Addresses { public: server.public.clone(), verification: server.verification.clone() };
        *instance.addresses.write().unwrap() = addresses;
        *instance.server.lock().await = Some(server);
    }

    /// Ends an instance with SIGTERM, and starts this release in its place.
    #[cfg(feature = "upgrade-test")]
    pub async fn upgrade_instance(&self, number: usize) {
        let instance = &self.instances[number];
        let server = instance.server.lock().await.take().expect("it runs");
        let (status, log) = server.stop().await;
        assert!(status.success(), "instance {number}: {status}: {log}");
        *instance.program.write().unwrap() = PROGRAM.into();
        self.start_instance(number).await;
    }

    /// Tries to start another release as one more instance. Returns its exit status and log, unless it runs.
    #[cfg(feature = "upgrade-test")]
    pub async fn try_release(&self, release: &Path) -> Option<(ExitStatus, String)> {
        let mut command = program(release);
        command.env("KEYMARK_SECRET", SECRET).env("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD);
        command.envs(self.instances[0].variables.iter().map(|(name, value)| (name, value)));
        within(MAX_START, Server::run(command)).await.err()
    }

    /// Kills an instance with SIGKILL.
    pub async fn kill_instance(&self, number: usize) {
        self.instances[number].server.lock().await.take().expect("it runs").kill().await;
    }

    /// The last lines of an instance's log.
    pub async fn log_of(&self, number: usize) -> String {
        let server = self.instances[number].server.lock().await;
        let log = server.as_ref().map(Server::log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(MAX_LOG_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub async fn signal_instance(&self, number: usize, signal: &str) {
        self.instances[number].server.lock().await.as_ref().expect("it runs").signal(signal).await;
    }

    fn addresses(&self, instance: usize) -> Addresses {
        self.instances[instance].addresses.read().unwrap().clone()
    }

    pub async fn verify(&self, instance: usize, key: &Key, endpoint: Endpoint) -> Verdict {
        let invoked = self.history.now();
        let cached = self.stale.as_ref().and_then(|stale| stale.verdict(instance, key));
        let verdict = match cached {
            Some(verdict) => verdict,
            None => self.request_verdict(instance, key, endpoint).await.unwrap_or(Verdict::Lost),
        };
        let verification = Verification { span: self.history.since(invoked), key: key.number, instance, verdict };
        self.history.record(|events| events.verifications.push(verification));
        if let (Some(stale), None) = (&self.stale, cached) {
            stale.keep(instance, key, verdict);
        }
        verdict
    }

    async fn request_verdict(&self, instance: usize, key: &Key, endpoint: Endpoint) -> reqwest::Result<Verdict> {
        let address = self.addresses(instance).verification;
        let request = match endpoint {
            Endpoint::Verify => {
                let body = json!({ "apiKey": key.text }).to_string();
                self.client.post(format!("{address}/v1/verify")).body(body)
            }
            Endpoint::ForwardAuth => {
                self.client.get(format!("{address}/v1/forward-auth")).header("x-api-key", &key.text)
            }
        };
        let response = request.timeout(VERIFICATION_TIMEOUT).send().await?;
        let code = match (response.status().as_u16(), endpoint) {
            (503, _) => "UNAVAILABLE".to_owned(),
            (200, Endpoint::ForwardAuth) => "VALID".to_owned(),
            (401, Endpoint::ForwardAuth) => format!("{:?}", response.headers().get(WWW_AUTHENTICATE)),
            (200, Endpoint::Verify) => {
                let response: Json = response.json().await?;
                let code = response["code"].as_str().expect("a code").to_owned();
                assert_eq!(response["valid"], code == "VALID", "{response}");
                code
            }
            (status, _) => panic!("a verification returned {status}"),
        };
        let verdicts = [
            ("VALID", Verdict::Accepted),
            ("REVOKED", Verdict::Revoked),
            // The end of a rotation without overlap.
            ("EXPIRED", Verdict::Revoked),
            ("NOT_FOUND", Verdict::NotFound),
            ("MALFORMED", Verdict::Malformed),
            ("UNAVAILABLE", Verdict::Unavailable),
        ];
        let verdict = verdicts.into_iter().find(|(text, _)| code.contains(text));
        Ok(verdict.unwrap_or_else(|| panic!("a verification returned {code}")).1)
    }

    /// The data of a mutation, or its error code; `None` if there was no response.
    async fn mutate(&self, instance: usize, document: &str, variables: Json) -> Option<Result<Json, String>> {
        let body = json!({ "query": document, "variables": variables }).to_string();
        let request = self.client.post(format!("{}/graphql", self.addresses(instance).public));
        let request = request.header("content-type", "application/json").bearer_auth(&self.token).body(body);
        let response: Json = request.timeout(self.mutation_timeout).send().await.ok()?.json().await.ok()?;
        match response.pointer("/errors/0/extensions/code").and_then(Json::as_str) {
            Some(code) => Some(Err(code.to_owned())),
            None => Some(Ok(response["data"].clone())),
        }
    }

    /// Creates a system and returns its id, or `None` unless the response confirms it.
    pub async fn create_system(&self, instance: usize) -> Option<String> {
        let name = format!("system-{}", self.next_system.fetch_add(1, Ordering::Relaxed));
        let document = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
        let data = self.mutate(instance, document, json!({ "name": name })).await?.ok()?;
        Some(text(&data, "/createSystem/system/id"))
    }

    /// Generates a key for the system, or returns `None` unless the response contains it.
    pub async fn generate(&self, instance: usize, system: &str) -> Option<Key> {
        let document = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey enforcement { state } } }";
        let invoked = self.history.now();
        let data = self.mutate(instance, document, json!({ "id": system })).await?.ok()?;
        let number = self.next_key.fetch_add(1, Ordering::Relaxed);
        let outcome = outcome(&text(&data, "/generateKey/enforcement/state"));
        let generation = self.change(invoked, number, instance, outcome);
        self.history.record(|events| events.generations.push(generation));
        Some(Key { number, system: system.to_owned(), text: text(&data, "/generateKey/apiKey") })
    }

    /// Rotates a key and returns the new one, or `None` unless the response contains it. Without an overlap this ends the
    /// key.
    pub async fn rotate(&self, instance: usize, key: &Key, overlap_seconds: u64) -> Option<Key> {
        let document = "mutation ($id: ID!, $overlap: Int!) { rotateKey(systemId: $id, overlapSeconds: $overlap) {
            apiKey enforcement { state } } }";
        let invoked = self.history.now();
        let variables = json!({ "id": key.system, "overlap": overlap_seconds });
        let data = self.mutate(instance, document, variables).await.and_then(Result::ok);
        let outcome = data.as_ref().map_or(Outcome::Open, |data| outcome(&text(data, "/rotateKey/enforcement/state")));
        if overlap_seconds == 0 {
            let end = self.change(invoked, key.number, instance, outcome);
            self.history.record(|events| events.ends.push(end));
        }
        let text = text(&data?, "/rotateKey/apiKey");
        let number = self.next_key.fetch_add(1, Ordering::Relaxed);
        let generation = self.change(invoked, number, instance, outcome);
        self.history.record(|events| events.generations.push(generation));
        Some(Key { number, system: key.system.clone(), text })
    }

    /// Tries once to end keys of one system: all of them, or the retiring one.
    pub async fn end(&self, instance: usize, keys: &[Arc<Key>], how: End) -> Outcome {
        let (field, document) = match how {
            End::Revoke => ("revokeKey", "mutation ($id: ID!) { revokeKey(systemId: $id) { enforcement { state } } }"),
            End::Rotation => {
                ("endRotation", "mutation ($id: ID!) { endRotation(systemId: $id) { enforcement { state } } }")
            }
            End::Delete => ("deleteSystem", "mutation ($id: ID!) { deleteSystem(id: $id) { enforcement { state } } }"),
        };
        let invoked = self.history.now();
        let outcome = match self.mutate(instance, document, json!({ "id": keys[0].system })).await {
            Some(Ok(data)) => outcome(&text(&data, &format!("/{field}/enforcement/state"))),
            Some(Err(code)) if ["KEY_NOT_GENERATED", "NOT_FOUND"].contains(&code.as_str()) => Outcome::AlreadyEnforced,
            Some(Err(_)) | None => Outcome::Open,
        };
        for key in keys {
            let end = self.change(invoked, key.number, instance, outcome);
            self.history.record(|events| events.ends.push(end));
        }
        outcome
    }

    fn change(&self, invoked: Moment, key: KeyNumber, instance: usize, outcome: Outcome) -> Change {
        Change { span: self.history.since(invoked), key, instance, outcome }
    }
}

fn text(response: &Json, pointer: &str) -> String {
    response
        .pointer(pointer)
        .and_then(Json::as_str)
        .unwrap_or_else(|| panic!("no {pointer} in the response"))
        .to_owned()
}

fn outcome(state: &str) -> Outcome {
    match state {
        "ENFORCED" => Outcome::Enforced,
        "PENDING" => Outcome::Open,
        other => panic!("unknown state of an enforcement: {other}"),
    }
}

impl StaleCache {
    fn verdict(&self, instance: usize, key: &Key) -> Option<Verdict> {
        let (since, verdict) = *self.verdicts.lock().unwrap().get(&(instance, key.number))?;
        (since.elapsed() < self.ttl).then_some(verdict)
    }

    fn keep(&self, instance: usize, key: &Key, verdict: Verdict) {
        self.verdicts.lock().unwrap().insert((instance, key.number), (Instant::now(), verdict));
    }
}
