//! Faults injected while a fleet is under load.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::fleet::Fleet;
use super::history::{Disturbance, Events, Moment, Verdict};
use super::proxy::{Direction, Impairment};
use super::replica_set::ReplicaSet;

/// Time without faults before each fault.
const QUIET_PERIOD: Duration = Duration::from_secs(1);
/// How long no key may be ended during a fault: an election, and the time that clients take to notice it.
const MAX_OUTAGE: Duration = Duration::from_secs(120);
/// How long an instance may take to recover after a fault.
const MAX_RECOVERY: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Ends requested and enforced during a fault before it is repaired.
const MIN_ENDS_DURING_FAULT: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGSTOP of an instance, then SIGCONT.
    StoppedInstance,
    /// SIGKILL of an instance, then a restart.
    KilledInstance,
    /// `replSetStepDown`.
    StepDown,
    /// SIGSTOP of the primary, which keeps its connections open without responding. SIGCONT after another was elected.
    StoppedPrimary,
    /// SIGKILL of the primary, then a restart.
    KilledPrimary,
    /// The primary reaches no other member, but instances reach it: for a while two members act as primary.
    IsolatedPrimary,
    /// Impaired connections of an instance, to all members or to the primary.
    Delay,
    Stall,
    HalfOpen,
    Cut,
}

impl Fault {
    /// Faults that take seconds.
    pub const SHORT: [Self; 5] = [Self::StoppedInstance, Self::KilledInstance, Self::StepDown, Self::Stall, Self::Cut];
    pub const ALL: [Self; 10] = [
        Self::StoppedInstance,
        Self::KilledInstance,
        Self::StepDown,
        Self::StoppedPrimary,
        Self::KilledPrimary,
        Self::IsolatedPrimary,
        Self::Delay,
        Self::Stall,
        Self::HalfOpen,
        Self::Cut,
    ];
    /// Faults for a fleet of one instance.
    pub const SINGLE_INSTANCE: [Self; 2] = [Self::StoppedInstance, Self::KilledInstance];

    pub fn name(self) -> &'static str {
        match self {
            Self::StoppedInstance => "SIGSTOP of an instance",
            Self::KilledInstance => "SIGKILL of an instance",
            Self::StepDown => "step-down",
            Self::StoppedPrimary => "SIGSTOP of the primary",
            Self::KilledPrimary => "SIGKILL of the primary",
            Self::IsolatedPrimary => "isolated primary",
            Self::Delay => "delay",
            Self::Stall => "stall",
            Self::HalfOpen => "half-open",
            Self::Cut => "cut",
        }
    }

    /// Injects the fault, waits until keys were ended in spite of it, repairs it, and waits for recovery.
    pub async fn run(self, fleet: &Fleet, rng: &mut StdRng) {
        tokio::time::sleep(QUIET_PERIOD).await;
        let began = fleet.history.now();
        let instance = rng.random_range(0..fleet.size());
        let set = || fleet.set.as_ref().expect("an embedded store has no replica set");
        println!("{began:8.1?} {}", self.name());
        fleet.set_faulty(self.is_at_one_instance().then_some(instance));
        match self {
            Self::StoppedInstance => {
                fleet.signal_instance(instance, "STOP").await;
                self.wait_for_ends(fleet, began, rng).await;
                fleet.signal_instance(instance, "CONT").await;
            }
            Self::KilledInstance => {
                fleet.kill_instance(instance).await;
                self.wait_for_ends(fleet, began, rng).await;
                fleet.start_instance(instance).await;
            }
            Self::StepDown => {
                set().step_down().await;
                self.wait_for_ends(fleet, began, rng).await;
            }
            Self::StoppedPrimary => {
                let primary = &set().members[set().primary().await];
                primary.freeze();
                self.wait_for_ends(fleet, began, rng).await;
                primary.thaw();
            }
            Self::KilledPrimary => {
                let primary = set().primary().await;
                set().members[primary].kill();
                self.wait_for_ends(fleet, began, rng).await;
                set().start_again(primary).await;
            }
            Self::IsolatedPrimary => {
                let primary = set().primary().await;
                set().isolate(primary, Some(Impairment::Stalled(None)));
                self.wait_for_ends(fleet, began, rng).await;
                set().isolate(primary, None);
            }
            Self::Delay | Self::Stall | Self::HalfOpen | Self::Cut => {
                let members = some_members(set(), rng).await;
                let impairment = self.impairment(rng);
                println!("         instance {instance} to members {members:?}: {impairment:?}");
                members.iter().for_each(|member| set().impair(instance, *member, Some(impairment)));
                self.wait_for_ends(fleet, began, rng).await;
                members.iter().for_each(|member| set().impair(instance, *member, None));
            }
        }
        fleet.set_faulty(None);
        let span = fleet.history.since(began);
        fleet.history.record(|events| events.disturbances.push(Disturbance { name: self.name(), span }));
        recover(fleet, span.returned, self).await;
    }

    fn is_at_one_instance(self) -> bool {
        match self {
            Self::StoppedInstance | Self::KilledInstance => true,
            Self::StepDown | Self::StoppedPrimary | Self::KilledPrimary | Self::IsolatedPrimary => false,
            Self::Delay | Self::Stall | Self::HalfOpen | Self::Cut => true,
        }
    }

    fn impairment(self, rng: &mut StdRng) -> Impairment {
        let direction = if rng.random() { Direction::Up } else { Direction::Down };
        match self {
            Self::Delay => Impairment::Delayed(Duration::from_millis(rng.random_range(50..800))),
            Self::Stall => Impairment::Stalled(if rng.random() { Some(direction) } else { None }),
            Self::HalfOpen => Impairment::HalfOpen(direction),
            _ => Impairment::Cut { after: rng.random_range(0..4) * 1000 },
        }
    }

    async fn wait_for_ends(self, fleet: &Fleet, since: Moment, rng: &mut StdRng) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..2500))).await;
        // A fleet of one instance ends no key while that instance is down.
        let is_ended = || fleet.size() == 1 || ends_since(fleet, since) >= MIN_ENDS_DURING_FAULT;
        if !becomes_true(MAX_OUTAGE, is_ended).await {
            let log = fleet.log_of(0).await;
            panic!("{}: no key was ended within {MAX_OUTAGE:?}; log of instance 0:\n{log}", self.name());
        }
    }
}

/// Number of ends that were requested and enforced since then.
pub fn ends_since(fleet: &Fleet, since: Moment) -> usize {
    fleet.history.inspect(|events| {
        let recent = events.ends.iter().rev().take_while(|end| end.span.returned > since);
        recent.filter(|end| end.span.invoked > since && end.outcome.is_final()).count()
    })
}

/// The primary alone, or all members.
async fn some_members(set: &ReplicaSet, rng: &mut StdRng) -> Vec<usize> {
    if rng.random() { vec![set.primary().await] } else { (0..set.members.len()).collect() }
}

/// Waits until each instance accepts and ends keys again.
async fn recover(fleet: &Fleet, since: Moment, after: Fault) {
    for instance in 0..fleet.size() {
        let accepts = |events: &Events| {
            let recent = events.verifications.iter().rev().take_while(|verified| verified.span.returned > since);
            let mut here = recent.filter(|verified| verified.instance == instance && verified.span.invoked > since);
            here.any(|verified| verified.verdict == Verdict::Accepted)
        };
        let ends = |events: &Events| {
            let recent = events.ends.iter().rev().take_while(|end| end.span.returned > since);
            let mut here = recent.filter(|end| end.instance == instance && end.span.invoked > since);
            here.any(|end| end.outcome.is_final())
        };
        let observed = || fleet.history.inspect(|events| (accepts(events), ends(events)));
        if !becomes_true(MAX_RECOVERY, || observed() == (true, true)).await {
            let (accepts, ends) = observed();
            let name = after.name();
            let log = fleet.log_of(instance).await;
            panic!(
                "instance {instance} did not recover from {name} within {MAX_RECOVERY:?}: accepts keys: {accepts}, ends \
                 keys: {ends}; its log:\n{log}"
            );
        }
    }
}

/// Polls the condition. Returns false if it is not met within `limit`.
pub async fn becomes_true(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let polling = tokio::time::timeout(limit, async {
        while !condition() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
    polling.await.is_ok()
}
