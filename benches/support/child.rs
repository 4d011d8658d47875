//! A server in a process of its own, which ends with this one.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Server {
    process: Child,
    /// The server exits when it is closed.
    pub stdin: Option<ChildStdin>,
    pub stdout: BufReader<ChildStdout>,
    /// The first lines that it printed.
    pub lines: Vec<String>,
}

impl Server {
    /// Returns once the server has printed so many lines.
    pub fn start(mut command: Command, lines: usize) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program that starts");
        let stdin = process.stdin.take();
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let lines = (0..lines).map(|_| {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).expect("a line") > 0, "{command:?} ended");
            line.trim().to_owned()
        });
        Self { lines: lines.collect(), process, stdin, stdout }
    }

    /// Starts this program again, with `serve` and the arguments.
    pub fn start_self(arguments: &[&str], lines: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("serve").args(arguments);
        Self::start(command, lines)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = std::io::copy(&mut self.stdout, &mut std::io::sink());
        let _ = self.process.wait();
    }
}
