//! The work that benchmarks cause in the database.

use std::time::Duration;

use mongodb::bson::{Bson, doc};

use crate::processor_time::processor_time;

/// Work of all members of a replica set on this machine.
#[derive(Default)]
pub struct DatabaseLoad {
    pub commands: f64,
    /// Most of them are events of change streams.
    pub returned_documents: f64,
    pub processor_time: Duration,
}

impl DatabaseLoad {
    /// Since the members were started.
    pub async fn read(uri: &str) -> Self {
        let (hosts, _) = uri.trim_start_matches("mongodb://").split_once('/').expect("a URI with options");
        let mut load = Self::default();
        for host in hosts.split(',') {
            let direct = format!("mongodb://{host}/?directConnection=true");
            let admin = mongodb::Client::with_uri_str(direct).await.expect("a client").database("admin");
            let status = admin.run_command(doc! { "serverStatus": 1 }).await.expect("the status");
            let counters = status.get_document("opcounters").expect("counters");
            let commands = ["insert", "query", "update", "delete", "getmore", "command"];
            load.commands += commands.iter().map(|name| number(counters.get(*name))).sum::<f64>();
            let metrics = status.get_document("metrics").expect("metrics");
            load.returned_documents += number(metrics.get_document("document").expect("metrics").get("returned"));
            load.processor_time += processor_time(number(status.get("pid")) as u32);
        }
        load
    }

    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            commands: self.commands - earlier.commands,
            returned_documents: self.returned_documents - earlier.returned_documents,
            processor_time: self.processor_time - earlier.processor_time,
        }
    }
}

fn number(value: Option<&Bson>) -> f64 {
    value.and_then(|value| value.as_i64().or(value.as_i32().map(i64::from))).map_or(0.0, |value| value as f64)
}
