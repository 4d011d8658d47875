//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on its thread. On a runtime with several threads, a task may run on another one each time it is woken,
//! and threads wake each other by system calls: for a request that computes for microseconds, that is much of its cost.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One thread verifies some 100,000 keys a second, and its runtime has three file descriptors.
const MAX_THREADS: usize = 8;
/// A runtime does not notify of the end of its last task.
const LAST_TASK_INTERVAL: Duration = Duration::from_millis(10);

/// As many threads as processors. When this is dropped, each ends with its last task: work that was begun by a request may
/// outlive the connection, such as an audit entry.
pub(super) struct Threads {
    runtimes: Vec<Handle>,
    _stop: DropGuard,
}

impl Threads {
    /// # Errors
    ///
    /// The system has no more threads or file descriptors.
    pub(super) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut threads = Self { runtimes: Vec::new(), _stop: stop.clone().drop_guard() };
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        for number in 0..processors.min(MAX_THREADS) {
            let stopped = stop.clone().cancelled_owned();
            // The runtime never leaves its thread: it would panic if it were dropped in a task, as when no thread starts.
            let (built, runtime) = mpsc::sync_channel(1);
            thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
                let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = built.send(Err(error));
                        return;
                    }
                };
                let _ = built.send(Ok(runtime.handle().clone()));
                runtime.block_on(async {
                    stopped.await;
                    while Handle::current().metrics().num_alive_tasks() > 0 {
                        sleep(LAST_TASK_INTERVAL).await;
                    }
                });
            })?;
            threads.runtimes.push(runtime.recv().map_err(io::Error::other)??);
        }
        Ok(threads)
    }

    /// The runtime of the thread that has the fewest tasks.
    pub(super) fn least_busy(&self) -> Option<&Handle> {
        self.runtimes.iter().min_by_key(|runtime| runtime.metrics().num_alive_tasks())
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn tasks_are_spread_and_outlive_the_threads_owner() {
        let threads = Threads::start().unwrap();
        let runtimes = threads.runtimes.clone();
        let (dropped, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for _ in 0..3 * runtimes.len() {
            tasks.spawn_on(dropped.clone().cancelled_owned(), threads.least_busy().unwrap());
        }
        assert!(runtimes.iter().all(|runtime| runtime.metrics().num_alive_tasks() == 3));
        drop(threads);
        dropped.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }
}
