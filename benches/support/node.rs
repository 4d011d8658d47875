use std::path::Path;
use std::process::Command;

/// Runs a server of `benches/peers`. `None` if its packages are not installed.
pub fn node(script: &str, arguments: &[&str]) -> Option<Command> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    if !peers.join("node_modules").exists() {
        println!("{script} is not compared: its packages are not installed (npm ci in benches/peers)");
        return None;
    }
    let mut command = Command::new("node");
    command.env("NODE_ENV", "production").arg(peers.join(script)).args(arguments);
    Some(command)
}
