//! What is made to fail while a fleet is used.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::fleet::Fleet;
use super::history::{Disturbance, Events, Moment, Verdict};
use super::proxy::{Ill, Way};
use super::replica_set::ReplicaSet;

/// How long everything is well before something fails.
const CALM: Duration = Duration::from_secs(1);
/// How long keys may fail to be ended while something fails: an election, and what clients need to notice.
const ENDURING: Duration = Duration::from_secs(120);
/// How long an instance may need until it serves as before, once nothing fails.
const RECOVERING: Duration = Duration::from_secs(120);
const LOOKING: Duration = Duration::from_millis(20);
/// Ends that are asked for and enforced before something is mended.
const ENDS_AMID: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGSTOP of an instance, and SIGCONT.
    StoppedInstance,
    /// SIGKILL of an instance, and a new start.
    KilledInstance,
    /// `replSetStepDown`.
    StepDown,
    /// SIGSTOP of the primary: it holds its connections and answers nothing. Then SIGCONT, when another one leads.
    StoppedPrimary,
    /// SIGKILL of the primary, and a new start.
    KilledPrimary,
    /// The primary reaches no other member, but instances reach it: for a while two members take themselves for it.
    IsolatedPrimary,
    /// An instance's connections, to all members or to one.
    Delay,
    Stall,
    HalfOpen,
    Cut,
}

impl Fault {
    /// Those that are over in seconds.
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
    /// Those of an instance that is alone.
    pub const ALONE: [Self; 2] = [Self::StoppedInstance, Self::KilledInstance];

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

    /// Makes this fail, waits until keys were ended all the same, mends it, and waits until everything is well.
    pub async fn inflict(self, fleet: &Fleet, rng: &mut StdRng) {
        tokio::time::sleep(CALM).await;
        let begun = fleet.history.now();
        let instance = rng.random_range(0..fleet.size());
        let set = || fleet.set.as_ref().expect("an embedded store has no replica set");
        println!("{begun:8.1?} {}", self.name());
        fleet.set_troubled(self.is_at_one_instance().then_some(instance));
        match self {
            Self::StoppedInstance => {
                fleet.signal_instance(instance, "STOP").await;
                self.endure(fleet, begun, rng).await;
                fleet.signal_instance(instance, "CONT").await;
            }
            Self::KilledInstance => {
                fleet.kill_instance(instance).await;
                self.endure(fleet, begun, rng).await;
                fleet.start_instance(instance).await;
            }
            Self::StepDown => {
                set().step_down().await;
                self.endure(fleet, begun, rng).await;
            }
            Self::StoppedPrimary => {
                let primary = &set().members[set().primary().await];
                primary.freeze();
                self.endure(fleet, begun, rng).await;
                primary.thaw();
            }
            Self::KilledPrimary => {
                let primary = set().primary().await;
                set().members[primary].kill();
                self.endure(fleet, begun, rng).await;
                set().start_again(primary).await;
            }
            Self::IsolatedPrimary => {
                let primary = set().primary().await;
                set().isolate(primary, Some(Ill::Stalled(None)));
                self.endure(fleet, begun, rng).await;
                set().isolate(primary, None);
            }
            Self::Delay | Self::Stall | Self::HalfOpen | Self::Cut => {
                let members = some_members(set(), rng).await;
                let ill = self.ill(rng);
                println!("         instance {instance} to members {members:?}: {ill:?}");
                members.iter().for_each(|member| set().disturb(instance, *member, Some(ill)));
                self.endure(fleet, begun, rng).await;
                members.iter().for_each(|member| set().disturb(instance, *member, None));
            }
        }
        fleet.set_troubled(None);
        let span = fleet.history.since(begun);
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

    fn ill(self, rng: &mut StdRng) -> Ill {
        let way = if rng.random() { Way::Up } else { Way::Down };
        match self {
            Self::Delay => Ill::Delayed(Duration::from_millis(rng.random_range(50..800))),
            Self::Stall => Ill::Stalled(if rng.random() { Some(way) } else { None }),
            Self::HalfOpen => Ill::HalfOpen(way),
            _ => Ill::Cut { after: rng.random_range(0..4) * 1000 },
        }
    }

    async fn endure(self, fleet: &Fleet, since: Moment, rng: &mut StdRng) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..2500))).await;
        // An instance that is alone ends nothing while it is down.
        if fleet.size() > 1 {
            let enforced = || {
                fleet.history.look(|events| {
                    let lately = events.ends.iter().rev().take_while(|end| end.span.returned > since);
                    lately.filter(|end| end.span.invoked > since && end.outcome.is_final()).count()
                })
            };
            if !comes_true(ENDURING, || enforced() >= ENDS_AMID).await {
                let log = fleet.log_of(0).await;
                panic!("{}: no key was ended within {ENDURING:?}; instance 0 says:\n{log}", self.name());
            }
        }
    }
}

/// The primary alone, or all members.
async fn some_members(set: &ReplicaSet, rng: &mut StdRng) -> Vec<usize> {
    if rng.random() { vec![set.primary().await] } else { (0..set.members.len()).collect() }
}

/// Waits until each instance accepts keys, and ends them.
async fn recover(fleet: &Fleet, since: Moment, after: Fault) {
    for instance in 0..fleet.size() {
        let accepts = |events: &Events| {
            let lately = events.verifications.iter().rev().take_while(|verified| verified.span.returned > since);
            let mut here = lately.filter(|verified| verified.instance == instance && verified.span.invoked > since);
            here.any(|verified| verified.verdict == Verdict::Accepted)
        };
        let ends = |events: &Events| {
            let lately = events.ends.iter().rev().take_while(|end| end.span.returned > since);
            let mut here = lately.filter(|end| end.instance == instance && end.span.invoked > since);
            here.any(|end| end.outcome.is_final())
        };
        let look = || fleet.history.look(|events| (accepts(events), ends(events)));
        if !comes_true(RECOVERING, || look() == (true, true)).await {
            let (accepts, ends) = look();
            let name = after.name();
            let log = fleet.log_of(instance).await;
            panic!(
                "instance {instance} does not recover from {name} within {RECOVERING:?}: it accepts keys: {accepts}, ends \
                 them: {ends}, and says:\n{log}"
            );
        }
    }
}

/// Whether it does within the limit.
async fn comes_true(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let met = tokio::time::timeout(limit, async {
        while !condition() {
            tokio::time::sleep(LOOKING).await;
        }
    });
    met.await.is_ok()
}
