//! A replica set of three members, each behind a [`Proxy`].

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mongodb::bson::{Bson, doc};

use super::proxy::{Ill, Proxy};
use crate::support::mongod::{Mongod, within};

/// How long the set may take to have a primary.
const ELECTING: Duration = Duration::from_secs(60);
const ASKING: Duration = Duration::from_millis(20);

pub struct ReplicaSet {
    pub members: Vec<Mongod>,
    proxies: Vec<Proxy>,
}

impl ReplicaSet {
    /// A set for so many instances.
    pub async fn start(instances: usize) -> Self {
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(Mongod::not_initiated().await);
        }
        let of_instances = (0..instances).map(instance_name);
        let callers: Vec<_> = of_instances.chain(members.iter().map(member_name)).collect();
        let mut proxies = Vec::new();
        for member in &members {
            let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, member.port()));
            proxies.push(Proxy::start(upstream, callers.clone()).await);
        }
        let hosts = proxies.iter().zip(0..).map(|(proxy, id)| doc! { "_id": id, "host": proxy.address.to_string() });
        // Elections are what most runs wait for. Shorter ones would come about by load alone.
        let settings = doc! { "electionTimeoutMillis": 3000, "heartbeatIntervalMillis": 1000 };
        let set = doc! { "_id": "rs0", "members": hosts.map(Bson::from).collect::<Vec<_>>(), "settings": settings };
        members[0].admin(doc! { "replSetInitiate": set }).await;
        let set = Self { members, proxies };
        for member in &set.members {
            set_up(member).await;
        }
        set.primary().await;
        set
    }

    /// Starts a member that was killed.
    pub async fn start_again(&self, member: usize) {
        self.members[member].start_again();
        set_up(&self.members[member]).await;
    }

    /// The connection string of an instance.
    pub fn uri(&self, instance: usize) -> String {
        let hosts: Vec<_> = self.proxies.iter().map(|proxy| proxy.address.to_string()).collect();
        format!("mongodb://{}/?replicaSet=rs0&appName={}", hosts.join(","), instance_name(instance))
    }

    /// The member that leads. All members have to answer.
    pub async fn primary(&self) -> usize {
        within(ELECTING, async {
            loop {
                for (number, member) in self.members.iter().enumerate() {
                    let hello = member.admin(doc! { "hello": 1 }).await;
                    if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                        return number;
                    }
                }
                tokio::time::sleep(ASKING).await;
            }
        })
        .await
    }

    /// Has another member elected. A set that is busy may refuse at first.
    pub async fn step_down(&self) {
        within(ELECTING, async {
            loop {
                let primary = self.members[self.primary().await].client().await;
                let command = doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5 };
                if primary.database("admin").run_command(command).await.is_ok() {
                    return;
                }
                tokio::time::sleep(ASKING).await;
            }
        })
        .await;
    }

    /// What becomes of an instance's connections to a member.
    pub fn disturb(&self, instance: usize, member: usize, ill: Option<Ill>) {
        self.set(member, &instance_name(instance), ill);
    }

    /// Parts a member from the others. Instances still reach all of them.
    pub fn isolate(&self, member: usize, ill: Option<Ill>) {
        for other in (0..self.members.len()).filter(|other| *other != member) {
            self.set(member, &member_name(&self.members[other]), ill);
            self.set(other, &member_name(&self.members[member]), ill);
        }
    }

    fn set(&self, member: usize, caller: &str, ill: Option<Ill>) {
        match ill {
            Some(ill) => self.proxies[member].make_ill(caller, ill),
            None => self.proxies[member].heal(caller),
        }
    }
}

/// A transaction that an instance has begun and cannot end, being stopped, killed or cut off, keeps the writers of its
/// tenant waiting on every instance until the server ends it: after a minute by default, which no run has time for.
async fn set_up(member: &Mongod) {
    member.admin(doc! { "setParameter": 1, "transactionLifetimeLimitSeconds": 5 }).await;
}

fn instance_name(number: usize) -> String {
    format!("instance-{number}")
}

fn member_name(member: &Mongod) -> String {
    format!(":{}\0", member.port())
}
