//! The single writer of the file, on a thread of its own.
//!
//! Queued jobs are committed together: one two-phase commit, with its fsyncs, serves all of them. A database handle is
//! unusable after a failed commit: the file is reopened before the jobs' callers are notified. If that fails too, nothing
//! is read or written until it succeeds.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::{Database, WriteTransaction};
use tokio::sync::{oneshot, watch};

use super::audit_heads::AuditHeads;
use super::changes;
use crate::store::{Result, StoreError};

/// Maximum number of jobs that share a commit.
const MAX_JOBS_PER_COMMIT: usize = 128;
/// Maximum number of queued changes; further ones are refused.
const MAX_QUEUED_CHANGES: usize = 1024;
/// Maximum number of queued jobs that count sign-in attempts. They have their own share of the queue, so that a flood of
/// them fails no change.
const MAX_QUEUED_COUNTS: usize = 512;
/// Interval between attempts to reopen the file.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

pub(super) type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// Sends the caller the result of its job after the commit: the job's own result, or the failure of the commit.
type Reply = Box<dyn FnOnce(Result<(), &Failure>) + Send>;

/// Why a transaction was not committed, or may not have been.
enum Failure {
    /// The file holds nothing of the transaction.
    Before(redb::Error),
    /// The file may hold the transaction.
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
            Self::Before(error) if is_disk_full(error) => StoreError::DiskFull(error.to_string().into()),
            Self::Before(error) => StoreError::Unavailable(error.to_string().into()),
            Self::During(error) => StoreError::OutcomeUnknown(error.to_string().into()),
        }
    }
}

fn is_disk_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// Work inside a transaction. `Err` ends the transaction for all jobs in it. A job that is refused returns `Ok` and must
/// have written nothing.
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Reply, (Reply, redb::Error)> + Send>;

/// The open file.
pub(super) struct Handle {
    /// `None` if the file could not be reopened after a failed commit.
    database: RwLock<Option<Database>>,
    /// The sequence of the last committed change.
    last: watch::Sender<u64>,
    pub(super) heads: AuditHeads,
}

impl Handle {
    /// Returns the file for reading. Hold it for one read, and not across an `await`.
    pub(super) fn read(&self) -> Result<ReadGuard<'_>> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() {
            Ok(ReadGuard(guard))
        } else {
            Err(StoreError::Unavailable("the file could not be reopened after a failed commit".into()))
        }
    }

    /// Receives the sequence of each committed change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Closes the file, if it is open, and opens it. Reads wait meanwhile. Returns the sequence of the last change in the
    /// file, or `None` if it cannot be opened.
    fn reopen(&self, opener: &Opener) -> Option<u64> {
        let opened = {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // Closed first: the file can be opened only once.
            *database = None;
            let opened = opener().and_then(|opened| Ok((changes::last_sequence(&opened)?, opened)));
            opened.map(|(last, opened)| {
                *database = Some(opened);
                last
            })
        };
        self.heads.clear();
        match opened {
            Ok(last) => {
                // A commit that was reported as failed may have reached the file: followers read it from there.
                self.last.send_replace(last);
                tracing::info!("store file reopened");
                Some(last)
            }
            Err(error) => {
                tracing::warn!(%error, "store file not reopened");
                None
            }
        }
    }
}

pub(super) struct ReadGuard<'a>(RwLockReadGuard<'a, Option<Database>>);

impl std::ops::Deref for ReadGuard<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("a guard exists only for an open file")
    }
}

/// Sends jobs to the writer thread. The thread ends and the file is closed when this is dropped.
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    queued_changes: Arc<AtomicUsize>,
    queued_counts: Arc<AtomicUsize>,
    pub handle: Arc<Handle>,
}

impl Writer {
    /// Starts the thread on an opened file.
    pub(super) fn start(database: Database, opener: Opener) -> Result<Self, redb::Error> {
        let last = changes::last_sequence(&database)?;
        let handle = Arc::new(Handle {
            database: RwLock::new(Some(database)),
            last: watch::Sender::new(last),
            heads: AuditHeads::default(),
        });
        let (jobs, queue) = sync_channel(MAX_QUEUED_CHANGES + MAX_QUEUED_COUNTS);
        let writing = Arc::clone(&handle);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&queue, &writing, &opener))
            .map_err(redb::Error::Io)?;
        Ok(Self { jobs, queued_changes: Arc::default(), queued_counts: Arc::default(), handle })
    }

    /// Runs `work` in a transaction and waits until it is committed durably.
    pub(super) async fn submit<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&WriteTransaction) -> Result<Result<T>, redb::Error> + Send + 'static,
    {
        self.run(Share::take(&self.queued_changes, MAX_QUEUED_CHANGES)?, work).await
    }

    /// The same for what counts attempts.
    pub(super) async fn submit_count<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&WriteTransaction) -> Result<Result<T>, redb::Error> + Send + 'static,
    {
        self.run(Share::take(&self.queued_counts, MAX_QUEUED_COUNTS)?, work).await
    }

    async fn run<T, W>(&self, share: Share, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&WriteTransaction) -> Result<Result<T>, redb::Error> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel::<Result<T>>();
        // The caller may have been dropped; the change is committed all the same.
        let work = move |txn: &WriteTransaction| {
            drop(share);
            work(txn)
        };
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
        self.jobs.try_send(job).map_err(|_| StoreError::Unavailable("too many changes are queued".into()))?;
        answer.await.map_err(|_| StoreError::Unavailable("the store is closed".into()))?
    }
}

/// A place in the queue, for as long as the job waits.
struct Share(Arc<AtomicUsize>);

impl Share {
    fn take(queued: &Arc<AtomicUsize>, limit: usize) -> Result<Self> {
        let share = Self(Arc::clone(queued));
        let refused = queued.fetch_add(1, Ordering::Relaxed) >= limit;
        if refused { Err(StoreError::Unavailable("too many changes are queued".into())) } else { Ok(share) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
            handle.reopen(opener);
        }
        let Ok(first) = first else { continue };
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(MAX_JOBS_PER_COMMIT - 1));
        commit(handle, opener, jobs);
    }
}

/// Commits the jobs together and replies to each. On failure, the file is reopened before the replies are sent.
fn commit(handle: &Handle, opener: &Opener, jobs: Vec<Job>) {
    let mut replies = Vec::with_capacity(jobs.len());
    let before = *handle.last.borrow();
    let outcome = match handle.read() {
        Ok(database) => commit_on(&database, jobs, &mut replies),
        // The file is still closed: dropping the jobs fails their callers.
        Err(_) => return,
    };
    match outcome {
        Ok(last) => {
            handle.heads.committed();
            handle.last.send_replace(last);
            replies.into_iter().for_each(|reply| reply(Ok(())));
        }
        Err(failure) => {
            tracing::error!(error = %failure.error(), "commit failed; reopening the store file");
            let failure = match (handle.reopen(opener), failure) {
                // The file does not hold the transaction, and the next one replaces what was written of it.
                (Some(last), Failure::During(error)) if last == before => Failure::Before(error),
                (_, failure) => failure,
            };
            replies.into_iter().for_each(|reply| reply(Err(&failure)));
        }
    }
}

/// Returns the sequence of the last committed change.
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
