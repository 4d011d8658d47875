//! Bugs that a test can plant in the protocol or its driver, to show that the checker of the simulation finds them.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// A bug in the protocol or its driver. The checker must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A change is reported as enforced when it is committed.
    NoWait,
    /// A lease starts when its probe is received.
    TtlStart,
    /// A lease starts when the write of its probe is acknowledged.
    StampLate,
    /// The deadline is loaded after the entry is read.
    LoadLate,
    /// The deadline is that of the current cache, not of the cache that is read.
    OtherDeadline,
    /// The clock is read before the verification begins.
    ClockEarly,
    /// A change is dated with the time when the previous one was received.
    ReceivedEarly,
    /// After a loss, the feed continues at the end of the log, with the same cache.
    Skip,
    /// While the cache is reloaded, it is used until the deadline of the old one.
    KeptDeadline,
    /// Probes of a former incarnation renew the lease.
    FormerIncarnation,
    /// A probe of the next incarnation counts as sent after a commit although it was sent before.
    EarlyProbe,
    /// A change is applied to the protocol before the cache.
    AckEarly,
    /// An instance scans without having joined.
    Unjoined,
    /// An instance scans as soon as its join lease is put, and does not wait until the feed delivers it.
    JoinUnreceived,
    /// The join lease has the incarnation of the instance's own lease.
    JoinAsItself,
    /// Scanned rows overwrite changes that were applied meanwhile.
    Fill,
    /// The scan reads rows from before the feed was opened.
    StaleRead,
    /// A repeat does not wait.
    Idempotent,
    /// A repeat waits for a probe that was sent before the repeat was detected.
    RepeatEarly,
    /// Waits for the length of a lease without the margin for drift.
    Drift,
    /// Leases and waits are measured by the boot clock alone, which is slewed.
    BootClockAlone,
    /// Leases and waits are measured by the raw clock alone, which stops while the machine sleeps.
    RawClockAlone,
    /// The holder of a lease compares the boot clock and the raw clock, but adds no time asleep to the latter: slewing
    /// and sleep during one lease then add up.
    RawWithoutSleep,
    /// The holder of a lease uses it until all clocks show that it has ended.
    SlowHolder,
    /// Leases of others have ended as soon as one of the clocks shows it.
    FastWaiter,
    /// Leases of others are taken to be as long as its own.
    OwnLength,
    /// Without the feed, a change waits for the longest lease that is known, and no leases are listed.
    Unlisted,
    /// A lease without a length is taken to be as long as its own.
    UnstatedOwn,
    /// The leases are listed as of any earlier time.
    StaleListing,
    /// A listing counts although it began before the change was received.
    UncoveredListing,
    /// A lease is taken to be as old as the first of its incarnation that was listed.
    KeptAge,
    /// A lease is deleted although it was renewed since it was found to be stale.
    DeletedRenewed,
    /// A process that shuts down deletes its lease while it still uses the cache.
    ReleasedEarly,
}

pub(super) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Runs `work` with the bug planted on this thread.
pub(super) fn with_planted<T>(bug: Bug, work: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(bug));
    let result = work();
    PLANTED.set(None);
    result
}
