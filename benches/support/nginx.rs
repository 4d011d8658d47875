//! nginx as a process.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Ended when it is dropped.
pub struct Nginx {
    process: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx with the configuration for its directory. Returns when it listens at `address`, or `None` if it is not
    /// installed.
    pub fn start(address: SocketAddr, configuration: impl FnOnce(&Path) -> String) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration(directory.path())).expect("a file");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-g", "daemon off; pid nginx.pid; error_log stderr crit;"]);
        command.arg("-p").arg(directory.path()).arg("-c").arg(&file).stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        let mut process = command.spawn().ok()?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(process.try_wait().expect("a status").is_none(), "nginx ended");
            assert!(began.elapsed() < Duration::from_secs(10), "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, address, _directory: directory })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it by SIGTERM, and not by SIGKILL.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}
