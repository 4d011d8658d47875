//! nginx as `docs/operations.md` configures it for rolling restarts.

use std::net::SocketAddr;

/// The configuration of the section about rolling restarts, in front of these instances.
pub fn configuration(listener: SocketAddr, instances: &[SocketAddr]) -> String {
    let document = include_str!("../../docs/operations.md");
    let section = document.split("## Rolling restarts").nth(1).expect("a section");
    let documented = section.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let servers: Vec<_> = documented.lines().filter(|line| line.trim_start().starts_with("server ")).collect();
    let address = "10.0.0.11:8081";
    assert!(servers[0].contains(address), "{documented}");
    let ours = instances.iter().map(|instance| servers[0].replace(address, &instance.to_string()));
    let text = documented.replace(&servers.join("\n"), &ours.collect::<Vec<_>>().join("\n"));
    let (upstream, location) = text.split_at(text.find("location").expect("a location"));
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};"));
    let paths = paths.concat();
    format!(
        "events {{ worker_connections 4096; }} http {{ access_log off; {paths} {upstream} server {{ listen {listener}; keepalive_requests 1000000;
        {location} }} }}"
    )
}
