//! The one writer of the file, on a thread of its own.
//!
//! What waits is committed together: one two-phase commit with its fsyncs serves every batch in the queue. After a
//! commit that failed the file's handle is dead: it is closed before anybody is told, and nothing is read or written
//! until the file has been opened anew.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::{Database, WriteTransaction};
use tokio::sync::{oneshot, watch};

use super::changes;
use crate::store::{Result, StoreError};

/// Most jobs that share a commit.
const JOBS_A_COMMIT: usize = 128;
/// Most jobs that wait; further ones are refused.
const JOBS_WAITING: usize = 1024;
/// How often a dead file is tried again.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

/// Opens the file.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// Tells the caller how its job ended, once the commit has: the job's own answer, or what went wrong.
type Reply = Box<dyn FnOnce(Result<(), &Failure>) + Send>;

/// Why a transaction was not committed, or may not have been.
enum Failure {
    /// Nothing of it is in the file.
    Before(redb::Error),
    /// The file may hold it or not.
    During(redb::Error),
}

impl Failure {
    fn error(&self) -> &redb::Error {
        match self {
            Self::Before(error) | Self::During(error) => error,
        }
    }

    fn for_caller(&self) -> StoreError {
        match self {
            Self::Before(error) => StoreError::Unavailable(error.to_string().into()),
            Self::During(error) => StoreError::OutcomeUnknown(error.to_string().into()),
        }
    }
}

/// Works inside a transaction. `Err` of storage ends the transaction for all jobs in it; a refusal is an answer, for
/// which the job must have written nothing.
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Reply, (Reply, redb::Error)> + Send>;

/// The open file; `None` between a failed commit and the next opening.
pub(super) struct Handle {
    database: RwLock<Option<Database>>,
    /// The sequence of the last committed change.
    last: watch::Sender<u64>,
}

impl Handle {
    /// The file for reading; hold it for one read and across no await.
    pub(super) fn read(&self) -> Result<Reading<'_>> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() {
            Ok(Reading(guard))
        } else {
            Err(StoreError::Unavailable("the file is closed after a failed commit".into()))
        }
    }

    /// Moves to the sequence of each committed change.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn replace(&self, database: Option<Database>) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }
}

pub(super) struct Reading<'a>(RwLockReadGuard<'a, Option<Database>>);

impl std::ops::Deref for Reading<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("a reading is made of an open file alone")
    }
}

/// Sends jobs to the writer; the thread ends, and the file closes, when the last of these is gone.
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    pub handle: Arc<Handle>,
}

impl Writer {
    /// Takes the opened file over.
    pub(super) fn start(database: Database, opener: Opener) -> Result<Self, redb::Error> {
        let last = changes::last_sequence(&database)?;
        let handle = Arc::new(Handle { database: RwLock::new(Some(database)), last: watch::Sender::new(last) });
        let (jobs, queue) = sync_channel(JOBS_WAITING);
        let writing = Arc::clone(&handle);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&queue, &writing, &opener))
            .map_err(redb::Error::Io)?;
        Ok(Self { jobs, handle })
    }

    /// Runs `work` in a transaction and waits until it is committed durably.
    pub(super) async fn submit<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&WriteTransaction) -> Result<Result<T>, redb::Error> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel::<Result<T>>();
        // Whoever asked may have gone; the change stands all the same.
        let job: Job = Box::new(move |txn| match work(txn) {
            Ok(done) => Ok(Box::new(move |committed| {
                let _ = sender.send(match committed {
                    Ok(()) => done,
                    Err(failure) => Err(failure.for_caller()),
                });
            })),
            Err(error) => {
                let reply: Reply = Box::new(move |committed| {
                    if let Err(failure) = committed {
                        let _ = sender.send(Err(failure.for_caller()));
                    }
                });
                Err((reply, error))
            }
        });
        self.jobs.try_send(job).map_err(|_| StoreError::Unavailable("too many changes are waiting".into()))?;
        answer.await.map_err(|_| StoreError::Unavailable("the store is closed".into()))?
    }
}

fn run(queue: &Receiver<Job>, handle: &Handle, opener: &Opener) {
    loop {
        let open = handle.database.read().unwrap_or_else(PoisonError::into_inner).is_some();
        let first = if open {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(REOPEN_INTERVAL)
        };
        if matches!(first, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        if !open {
            reopen(handle, opener);
        }
        let Ok(first) = first else { continue };
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(JOBS_A_COMMIT - 1));
        if let Err(failure) = commit(handle, jobs) {
            let error = failure.error();
            tracing::error!(%error, "the store could not commit; its file is closed and opened again");
        }
    }
}

fn reopen(handle: &Handle, opener: &Opener) {
    let opened = opener().and_then(|database| Ok((changes::last_sequence(&database)?, database)));
    match opened {
        Ok((last, database)) => {
            handle.replace(Some(database));
            // A commit that was reported as failed may have reached the file: followers read from there.
            handle.last.send_replace(last);
            tracing::info!("the store's file is open again");
        }
        Err(error) => tracing::warn!(%error, "the store's file cannot be opened yet"),
    }
}

/// Commits the jobs together and answers each. On a failure the handle is closed before the answers go out.
fn commit(handle: &Handle, jobs: Vec<Job>) -> Result<(), Failure> {
    let mut replies = Vec::with_capacity(jobs.len());
    let outcome = match handle.read() {
        Ok(database) => commit_on(&database, jobs, &mut replies),
        // Closed still: whoever waits for one of these jobs learns it from the job's being dropped.
        Err(_) => return Ok(()),
    };
    match outcome {
        Ok(last) => {
            handle.last.send_replace(last);
            replies.into_iter().for_each(|reply| reply(Ok(())));
            Ok(())
        }
        Err(failure) => {
            handle.replace(None);
            replies.into_iter().for_each(|reply| reply(Err(&failure)));
            Err(failure)
        }
    }
}

/// Gives the sequence of the last committed change.
fn commit_on(database: &Database, jobs: Vec<Job>, replies: &mut Vec<Reply>) -> Result<u64, Failure> {
    let mut txn = database.begin_write().map_err(|error| Failure::Before(error.into()))?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    for job in jobs {
        match job(&txn) {
            Ok(reply) => replies.push(reply),
            Err((reply, error)) => {
                replies.push(reply);
                return Err(Failure::Before(error));
            }
        }
    }
    let last = changes::last_written(&txn).map_err(Failure::Before)?;
    txn.commit().map_err(|error| Failure::During(error.into()))?;
    Ok(last)
}
