//! A MongoDB replica set for benchmarks.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use tempfile::TempDir;

/// A replica set on this machine, of the `mongod` that `scripts/mongod.sh` installs; gone when this is dropped.
pub struct ReplicaSet {
    pub members: Vec<(Child, TempDir)>,
    ports: Vec<u16>,
}

impl ReplicaSet {
    pub async fn start(members: usize) -> Self {
        // All are held until the last is found, so that they differ.
        let free: Vec<_> =
            (0..members).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = free.iter().map(|port| port.local_addr().expect("an address").port()).collect();
        drop(free);
        let members = ports.iter().map(|port| start_member(*port)).collect();
        // The first one refuses the configuration unless it reaches all of them.
        for port in &ports {
            while tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let this = Self { members, ports };
        let direct = format!("mongodb://127.0.0.1:{}/?directConnection=true", this.ports[0]);
        let admin = mongodb::Client::with_uri_str(direct).await.expect("a client").database("admin");
        let hosts = this.ports.iter().zip(0_i32..).map(|(port, id)| {
            Bson::from(doc! { "_id": id, "host": format!("127.0.0.1:{port}"), "priority": if id == 0 { 2 } else { 1 } })
        });
        let config = doc! { "_id": "rs0", "members": hosts.collect::<Vec<_>>() };
        admin.run_command(doc! { "replSetInitiate": config }).await.expect("a replica set");
        while !is_writable(&admin.run_command(doc! { "hello": 1 }).await.unwrap_or_default()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        this
    }

    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }
}

impl Drop for ReplicaSet {
    fn drop(&mut self) {
        for (process, _) in &mut self.members {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn start_member(port: u16) -> (Child, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let process = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/mongod"))
        .args(["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25", "--port"])
        .arg(port.to_string())
        .arg("--dbpath")
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("scripts/mongod.sh installs mongod");
    (process, directory)
}

fn is_writable(hello: &Document) -> bool {
    hello.get_bool("isWritablePrimary").unwrap_or(false)
}
