//! A replica set of three members, each behind a [`Proxy`].

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mongodb::bson::{Bson, doc};

use super::proxy::{Impairment, Proxy};
use crate::support::mongod::{Mongod, within};

/// How long an election may take.
const MAX_ELECTION: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub struct ReplicaSet {
    pub members: Vec<Mongod>,
    proxies: Vec<Proxy>,
}

impl ReplicaSet {
    /// Starts a set for this many instances.
    pub async fn start(instances: usize) -> Self {
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(Mongod::not_initiated().await);
        }
        let instance_names = (0..instances).map(instance_name);
        let callers: Vec<_> = instance_names.chain(members.iter().map(member_name)).collect();
        let mut proxies = Vec::new();
        for member in &members {
            let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, member.port()));
            proxies.push(Proxy::start(upstream, callers.clone()).await);
        }
        let hosts = proxies.iter().zip(0..).map(|(proxy, id)| doc! { "_id": id, "host": proxy.address.to_string() });
        // Most of a run is spent waiting for elections. With a shorter timeout, load alone would cause some.
        let settings = doc! { "electionTimeoutMillis": 3000, "heartbeatIntervalMillis": 1000 };
        let set = doc! { "_id": "rs0", "members": hosts.map(Bson::from).collect::<Vec<_>>(), "settings": settings };
        members[0].admin(doc! { "replSetInitiate": set }).await;
        let set = Self { members, proxies };
        for member in &set.members {
            configure(member).await;
        }
        set.primary().await;
        set
    }

    /// Restarts a member that was killed.
    pub async fn start_again(&self, member: usize) {
        self.members[member].start_again();
        configure(&self.members[member]).await;
    }

    /// The connection string of an instance.
    pub fn uri(&self, instance: usize) -> String {
        let hosts: Vec<_> = self.proxies.iter().map(|proxy| proxy.address.to_string()).collect();
        format!("mongodb://{}/?replicaSet=rs0&appName={}", hosts.join(","), instance_name(instance))
    }

    /// The primary. All members must be reachable.
    pub async fn primary(&self) -> usize {
        within(MAX_ELECTION, async {
            loop {
                for (number, member) in self.members.iter().enumerate() {
                    let hello = member.admin(doc! { "hello": 1 }).await;
                    if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                        return number;
                    }
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
        .await
    }

    /// Makes the primary step down, which a busy set may refuse at first.
    pub async fn step_down(&self) {
        within(MAX_ELECTION, async {
            loop {
                let primary = self.members[self.primary().await].client().await;
                let command = doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5 };
                if primary.database("admin").run_command(command).await.is_ok() {
                    return;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
        .await;
    }

    /// Impairs an instance's connections to a member; `None` restores them.
    pub fn impair(&self, instance: usize, member: usize, impairment: Option<Impairment>) {
        self.set(member, &instance_name(instance), impairment);
    }

    /// Impairs the connections between a member and the others; `None` restores them. Instances still reach all members.
    pub fn isolate(&self, member: usize, impairment: Option<Impairment>) {
        for other in (0..self.members.len()).filter(|other| *other != member) {
            self.set(member, &member_name(&self.members[other]), impairment);
            self.set(other, &member_name(&self.members[member]), impairment);
        }
    }

    fn set(&self, member: usize, caller: &str, impairment: Option<Impairment>) {
        match impairment {
            Some(impairment) => self.proxies[member].impair(caller, impairment),
            None => self.proxies[member].restore(caller),
        }
    }
}

/// Shortens the lifetime of transactions. One that an instance cannot finish, because it is stopped, killed or cut off,
/// blocks the writers of its tenant on every instance until the server aborts it: after a minute by default, which is too
/// long for a run.
async fn configure(member: &Mongod) {
    member.admin(doc! { "setParameter": 1, "transactionLifetimeLimitSeconds": 5 }).await;
}

fn instance_name(number: usize) -> String {
    format!("instance-{number}")
}

fn member_name(member: &Mongod) -> String {
    format!(":{}\0", member.port())
}
