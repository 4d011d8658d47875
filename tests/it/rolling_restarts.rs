//! Instances that are replaced one after the other behind nginx, with the configuration in `docs/operations.md`.

#[path = "../../benches/support/rolling_nginx.rs"]
mod rolling_nginx;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use keymark::store::mongo::MongoOptions;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::support::gateways::free_address;
use crate::support::process::{Log, Server, directory, keymark};
use crate::support::{mongod, within};

const PASSWORD: &str = "given and long enough";
const INSTANCES: usize = 3;
const CLIENTS: usize = 8;
/// Requests between two steps, so that each meets the load.
const REQUESTS: usize = 300;

fn command(options: &MongoOptions, delay: &str) -> Command {
    let mut command = keymark();
    command.env("KEYMARK_MONGODB_URI", &options.uri).env("KEYMARK_MONGODB_DATABASE", &options.database);
    command.env("KEYMARK_SECRET", "a root secret of 32 bytes or more, for all instances");
    command.env("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD).env("KEYMARK_DRAIN_DELAY", delay);
    command
}

/// Starts an instance, and waits until it is ready.
async fn start(options: &MongoOptions, delay: &str, verify_listen: SocketAddr) -> Server {
    let server = Server::run_at(command(options, delay), &verify_listen.to_string()).await;
    let mut server = server.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    server.wait_for("serving").await;
    server
}

async fn nginx(directory: &std::path::Path, listener: SocketAddr, instances: &[SocketAddr]) -> (Child, Log) {
    let file = directory.join("configuration");
    std::fs::write(&file, rolling_nginx::configuration(listener, instances)).expect("written");
    let mut nginx = Command::new("nginx");
    nginx.args(["-e", "stderr", "-g", "daemon off; master_process off; pid nginx.pid; error_log stderr notice;"]);
    nginx.arg("-p").arg(directory).arg("-c").arg(&file).current_dir(directory);
    nginx.env("PATH", std::env::var("PATH").expect("a path") + ":/usr/local/sbin:/usr/sbin");
    nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = nginx.spawn().expect("scripts/need.sh installs nginx");
    let mut log = Log::collect(process.stderr.take());
    log.wait_for(r#"using the "epoll" event method"#).await;
    (process, log)
}

/// Creates a system; returns its key.
async fn generate_key(server: &Server) -> String {
    let token = server.sign_in("admin", PASSWORD).await;
    server.generate_key(&token, "Billing").await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_replaced_under_load_and_no_request_fails() {
    for delay in ["0s", "300ms"] {
        let options = mongod::fresh_database().await;
        let directory = directory();
        let addresses: Vec<_> = (0..INSTANCES).map(|_| free_address()).collect();
        let mut instances = Vec::new();
        for address in &addresses {
            instances.push(start(&options, delay, *address).await);
        }
        let key = generate_key(&instances[0]).await;
        let listener = free_address();
        let (_nginx, log) = nginx(directory.path(), listener, &addresses).await;

        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..CLIENTS).map(|n| {
            let (stop, done, key) = (Arc::clone(&stop), Arc::clone(&done), key.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().expect("a client");
                while !stop.load(Ordering::Relaxed) {
                    // A gateway asks with GET, a service with POST.
                    let request = if n % 2 == 0 {
                        client.get(format!("http://{listener}/v1/forward-auth")).header("x-api-key", &key)
                    } else {
                        let body = json!({ "apiKey": key }).to_string();
                        client.post(format!("http://{listener}/v1/verify")).body(body)
                    };
                    let response = within(request.send()).await.expect("an answer");
                    assert_eq!(response.status(), StatusCode::OK);
                    let text = within(response.text()).await.expect("a body");
                    assert!(n % 2 == 0 || text.contains(r#""code":"VALID""#), "{text}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        let run_for = async |requests: usize| {
            let end = done.load(Ordering::Relaxed) + requests;
            let failed = || clients.iter().any(tokio::task::JoinHandle::is_finished);
            within(async {
                while done.load(Ordering::Relaxed) < end && !failed() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            assert!(!failed(), "a request failed: {}", log.text());
        };
        run_for(REQUESTS).await;
        for (instance, address) in instances.iter_mut().zip(&addresses) {
            instance.signal("TERM").await;
            run_for(REQUESTS).await;
            let status = instance.ended().await;
            assert!(status.success(), "{status}");
            run_for(REQUESTS).await;
            *instance = start(&options, delay, *address).await;
            run_for(REQUESTS).await;
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            within(client).await.expect("no request failed");
        }
    }
}

#[tokio::test]
async fn instance_is_not_ready_while_it_serves_until_the_delay_has_passed() {
    let options = mongod::fresh_database().await;
    let mut server = start(&options, "5m", "127.0.0.1:0".parse().expect("an address")).await;
    let key = generate_key(&server).await;
    let (client, origins) = (reqwest::Client::new(), [server.public.clone(), server.verification.clone()]);
    let get = async |origin: &str, path: &str| {
        let response = within(client.get(format!("{origin}{path}")).send()).await.expect("an answer");
        let closes = response.headers().get("connection").is_some_and(|value| value == "close");
        (response.status().as_u16(), closes)
    };
    for origin in &origins {
        assert_eq!(get(origin, "/readyz").await, (200, false));
    }
    server.signal("TERM").await;
    server.wait_for("not ready, and serving until the delay has passed delay=300s").await;
    for origin in &origins {
        assert_eq!(get(origin, "/readyz").await, (503, true));
        assert_eq!(get(origin, "/healthz").await, (200, true));
    }
    assert_eq!(server.verdict(&key).await, "VALID");
    server.sign_in("admin", PASSWORD).await;
    // The second signal ends the delay.
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
}
