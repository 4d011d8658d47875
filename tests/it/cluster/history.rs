//! The history of requests and responses, timed by one clock, and the checker, which finds responses that violate the
//! guarantee.
//!
//! A key *ends* when it is revoked or its system is deleted. The guarantee for each key is:
//!
//! 1. Once a revocation of the key, or the deletion of its system, has returned `ENFORCED`, or a repeat has returned that
//!    there is nothing left to do, no verification that begins afterwards accepts the key, and if one rejects it, the
//!    verdict is `REVOKED`.
//! 2. From when the key's generation has returned `ENFORCED` until its first revocation begins, no verification rejects
//!    it; and no verification returns `REVOKED` before the first revocation begins.
//! 3. Any other outcome of a revocation (`PENDING`, an error, no response) guarantees nothing: it may take effect at any
//!    time after the request. The same holds for a generation.
//!
//! A verification may always fail as undecided.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time since the history began.
pub type Moment = Duration;

/// Identifies a key in reports, which never contain the key itself.
pub type KeyNumber = usize;

/// From just before a request was sent until just after its response was received.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub invoked: Moment,
    pub returned: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Revoked,
    NotFound,
    Malformed,
    Unavailable,
    /// No response.
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub struct Verification {
    pub span: Span,
    pub key: KeyNumber,
    pub instance: usize,
    pub verdict: Verdict,
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Enforced,
    /// A repeat of a change that is enforced.
    AlreadyEnforced,
    /// Pending, failed, or without a response: it may have been made, or may be made later.
    Open,
}

impl Outcome {
    pub fn is_final(self) -> bool {
        self != Self::Open
    }
}

/// The generation of a key, its revocation, or the deletion of its system.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub span: Span,
    pub key: KeyNumber,
    pub instance: usize,
    pub outcome: Outcome,
}

/// The duration of a fault.
#[derive(Clone, Debug)]
pub struct Disturbance {
    pub name: &'static str,
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
pub struct Events {
    pub verifications: Vec<Verification>,
    pub generations: Vec<Change>,
    /// Revocations and deletions.
    pub ends: Vec<Change>,
    pub disturbances: Vec<Disturbance>,
}

/// Records events.
pub struct History {
    began: Instant,
    events: Mutex<Events>,
}

impl History {
    pub fn begin() -> Self {
        Self { began: Instant::now(), events: Mutex::default() }
    }

    pub fn now(&self) -> Moment {
        self.began.elapsed()
    }

    /// The span of an operation that was invoked at `invoked` and returns now.
    pub fn since(&self, invoked: Moment) -> Span {
        Span { invoked, returned: self.now() }
    }

    pub fn record(&self, add: impl FnOnce(&mut Events)) {
        add(&mut self.events.lock().unwrap());
    }

    pub fn inspect<T>(&self, read: impl FnOnce(&Events) -> T) -> T {
        read(&self.events.lock().unwrap())
    }
}

/// A verdict that violates the guarantee.
#[derive(Clone, Copy)]
pub struct Violation {
    pub what: &'static str,
    pub verification: Verification,
    /// The change that the verdict contradicts.
    pub change: Option<Change>,
}

/// The changes of one key that determine which verdicts are allowed.
#[derive(Clone, Copy, Default)]
struct KeyHistory {
    /// The first generation that was reported as enforced.
    generated: Option<Change>,
    /// The first attempt to end the key.
    end_attempted: Option<Change>,
    /// The first end that was reported as enforced.
    ended: Option<Change>,
}

fn first(known: Option<Change>, new: Change, at: impl Fn(&Change) -> Moment) -> Option<Change> {
    match known {
        Some(known) if at(&known) <= at(&new) => Some(known),
        _ => Some(new),
    }
}

fn key_histories(events: &Events) -> BTreeMap<KeyNumber, KeyHistory> {
    let mut keys = BTreeMap::<KeyNumber, KeyHistory>::new();
    for change in events.generations.iter().filter(|change| change.outcome == Outcome::Enforced) {
        let key = keys.entry(change.key).or_default();
        key.generated = first(key.generated, *change, |change| change.span.returned);
    }
    for change in &events.ends {
        let key = keys.entry(change.key).or_default();
        key.end_attempted = first(key.end_attempted, *change, |change| change.span.invoked);
        if change.outcome.is_final() {
            key.ended = first(key.ended, *change, |change| change.span.returned);
        }
    }
    keys
}

impl KeyHistory {
    fn check(&self, verification: &Verification) -> Option<Violation> {
        let Span { invoked, returned } = verification.span;
        let violation = |what, change| Some(Violation { what, verification: *verification, change });
        let after_end = self.ended.filter(|end| invoked > end.span.returned);
        let before_end = self.end_attempted.is_none_or(|attempt| returned < attempt.span.invoked);
        match verification.verdict {
            Verdict::Unavailable | Verdict::Lost => None,
            Verdict::Accepted if after_end.is_some() => violation("accepted after its end was enforced", after_end),
            Verdict::Accepted => None,
            Verdict::Malformed => violation("reported as malformed", self.generated),
            Verdict::NotFound if after_end.is_some() => violation("not found after its end", after_end),
            Verdict::NotFound => {
                let generated = self.generated.filter(|change| before_end && invoked > change.span.returned)?;
                violation("not found after its generation was enforced", Some(generated))
            }
            Verdict::Revoked if before_end => {
                violation("reported as revoked before a revocation was requested", self.generated)
            }
            Verdict::Revoked => None,
        }
    }
}

pub fn violations(events: &Events) -> Vec<Violation> {
    let keys = key_histories(events);
    let unknown = KeyHistory::default();
    let history = |verification: &Verification| keys.get(&verification.key).unwrap_or(&unknown);
    events.verifications.iter().filter_map(|verification| history(verification).check(verification)).collect()
}

/// One line for the violations of one kind, by one key at one instance.
pub fn summary(violations: &[Violation]) -> Vec<String> {
    let mut groups = BTreeMap::<_, Vec<&Violation>>::new();
    for violation in violations {
        let Verification { instance, key, .. } = violation.verification;
        groups.entry((violation.what, instance, key)).or_default().push(violation);
    }
    let line = |((what, instance, key), group): (_, Vec<&Violation>)| {
        let from = group.iter().map(|violation| violation.verification.span.invoked).min().unwrap_or_default();
        let until = group.iter().map(|violation| violation.verification.span.returned).max().unwrap_or_default();
        let times = group.len();
        let change = group[0].change.map_or_else(String::new, |Change { span, instance, .. }| {
            format!("; requested from instance {instance} at {:.3?}, response at {:.3?}", span.invoked, span.returned)
        });
        format!("key {key} {what} by instance {instance}, {times} times from {from:.3?} to {until:.3?}{change}")
    };
    groups.into_iter().map(line).collect()
}

/// How much happened: without enough events, finding no violation means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub keys: usize,
    pub by_instance: Vec<VerdictCounts>,
    pub ends: usize,
    /// Attempts to end a key whose outcome is open.
    pub open_ends: usize,
    pub longest_end: Duration,
    /// Ends that were requested and enforced during a fault, by fault.
    pub ends_during: BTreeMap<&'static str, usize>,
}

/// Verdicts of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    pub accepted: usize,
    /// Rejections after the key's end was enforced, where accepting would have been a violation.
    pub refused_after_end: usize,
    pub refused: usize,
    pub undecided: usize,
}

pub fn coverage(events: &Events, instances: usize) -> Coverage {
    let keys = key_histories(events);
    let enforced = || events.ends.iter().filter(|end| end.outcome.is_final());
    let mut coverage = Coverage {
        keys: keys.len(),
        by_instance: vec![VerdictCounts::default(); instances],
        ends: enforced().count(),
        open_ends: events.ends.len() - enforced().count(),
        longest_end: enforced().map(|end| end.span.returned - end.span.invoked).max().unwrap_or_default(),
        ends_during: BTreeMap::new(),
    };
    for Verification { span, key, instance, verdict } in &events.verifications {
        let counts = &mut coverage.by_instance[*instance];
        let ended = keys.get(key).and_then(|key| key.ended);
        match verdict {
            Verdict::Accepted => counts.accepted += 1,
            Verdict::Unavailable | Verdict::Lost => counts.undecided += 1,
            _ if ended.is_some_and(|end| span.invoked > end.span.returned) => counts.refused_after_end += 1,
            _ => counts.refused += 1,
        }
    }
    for Disturbance { name, span } in &events.disturbances {
        let is_during = |end: &&Change| end.span.invoked > span.invoked && end.span.returned < span.returned;
        *coverage.ends_during.entry(name).or_default() += enforced().filter(is_during).count();
    }
    coverage
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, by_instance, ends, open_ends, longest_end, ends_during } = self;
        writeln!(f, "{keys} keys; {ends} ends enforced, the longest in {longest_end:.2?}; {open_ends} left open")?;
        for (number, VerdictCounts { accepted, refused_after_end, refused, undecided }) in
            by_instance.iter().enumerate()
        {
            writeln!(
                f,
                "instance {number}: {accepted} accepted, {refused_after_end} refused after their end, {refused} \
                 refused otherwise, {undecided} undecided"
            )?;
        }
        write!(f, "ends enforced during: {ends_during:?}")
    }
}

fn span(invoked: u64, returned: u64) -> Span {
    Span { invoked: Duration::from_secs(invoked), returned: Duration::from_secs(returned) }
}

fn change(invoked: u64, returned: u64, outcome: Outcome) -> Change {
    Change { span: span(invoked, returned), key: 7, instance: 0, outcome }
}

/// The violations when key 7, generated from 1 to 2, is ended by `ends` and verified with this verdict.
fn violations_of(ends: &[Change], (invoked, returned): (u64, u64), verdict: Verdict) -> Vec<&'static str> {
    let verification = Verification { span: span(invoked, returned), key: 7, instance: 1, verdict };
    let events = Events {
        verifications: vec![verification],
        generations: vec![change(1, 2, Outcome::Enforced)],
        ends: ends.to_vec(),
        disturbances: Vec::new(),
    };
    violations(&events).iter().map(|violation| violation.what).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn acceptance_after_the_end_was_enforced_is_a_violation() {
    let late = ["accepted after its end was enforced"];
    for outcome in [Outcome::Enforced, Outcome::AlreadyEnforced] {
        let end = [change(10, 20, outcome)];
        assert_eq!(violations_of(&end, (21, 22), Verdict::Accepted), late);
        assert_eq!(violations_of(&end, (21, 99), Verdict::Accepted), late);
        assert_eq!(violations_of(&end, (19, 30), Verdict::Accepted), NONE, "it began before the end was enforced");
        assert_eq!(violations_of(&end, (15, 16), Verdict::Accepted), NONE);
        assert_eq!(violations_of(&end, (21, 22), Verdict::Revoked), NONE);
        assert_eq!(violations_of(&end, (21, 22), Verdict::Unavailable), NONE);
        assert_eq!(violations_of(&end, (21, 22), Verdict::NotFound), ["not found after its end"]);
    }
    let twice = [change(30, 40, Outcome::AlreadyEnforced), change(10, 20, Outcome::Enforced)];
    assert_eq!(violations_of(&twice, (21, 22), Verdict::Accepted), late, "the first response counts");
}

#[test]
fn end_without_a_response_stays_open_forever() {
    let end = [change(10, 20, Outcome::Open)];
    for verdict in [Verdict::Accepted, Verdict::Revoked, Verdict::NotFound] {
        assert_eq!(violations_of(&end, (1000, 1001), verdict), NONE);
    }
    let repeated = [change(10, 20, Outcome::Open), change(30, 40, Outcome::Enforced)];
    assert_eq!(violations_of(&repeated, (25, 26), Verdict::Accepted), NONE);
    assert_eq!(violations_of(&repeated, (25, 26), Verdict::Revoked), NONE);
    assert_eq!(violations_of(&repeated, (41, 42), Verdict::Accepted).len(), 1);
}

#[test]
fn rejection_of_a_key_that_was_not_ended_is_a_violation() {
    let end = [change(10, 20, Outcome::Enforced)];
    for ends in [&[][..], &end] {
        let unknown = ["not found after its generation was enforced"];
        assert_eq!(violations_of(ends, (3, 4), Verdict::NotFound), unknown);
        assert_eq!(violations_of(ends, (1, 4), Verdict::NotFound), NONE, "it began before the generation was enforced");
        let early = ["reported as revoked before a revocation was requested"];
        assert_eq!(violations_of(ends, (3, 4), Verdict::Revoked), early);
        assert_eq!(violations_of(ends, (3, 4), Verdict::Malformed), ["reported as malformed"]);
        assert_eq!(violations_of(ends, (3, 4), Verdict::Accepted), NONE);
        assert_eq!(violations_of(ends, (3, 4), Verdict::Lost), NONE);
    }
    assert_eq!(violations_of(&end, (3, 11), Verdict::Revoked), NONE, "a revocation was already requested");
}

#[test]
fn generation_that_is_not_enforced_guarantees_nothing() {
    let verification = Verification { span: span(3, 4), key: 7, instance: 0, verdict: Verdict::NotFound };
    let generations = vec![change(1, 2, Outcome::Open)];
    let events = Events { verifications: vec![verification], generations, ..Events::default() };
    assert!(violations(&events).is_empty());
}

#[test]
fn keys_are_checked_separately_and_coverage_is_counted() {
    let verify =
        |key, invoked, instance, verdict| Verification { span: span(invoked, invoked + 1), key, instance, verdict };
    let events = Events {
        verifications: vec![
            verify(8, 30, 0, Verdict::Accepted),
            verify(7, 30, 1, Verdict::Revoked),
            verify(7, 12, 1, Verdict::Revoked),
            verify(7, 30, 1, Verdict::Unavailable),
        ],
        generations: vec![Change { key: 8, ..change(1, 2, Outcome::Enforced) }, change(1, 2, Outcome::Enforced)],
        ends: vec![change(10, 12, Outcome::Open), change(13, 20, Outcome::Enforced)],
        disturbances: vec![
            Disturbance { name: "stop", span: span(9, 21) },
            Disturbance { name: "kill", span: span(14, 21) },
        ],
    };
    assert!(violations(&events).is_empty());
    let expected = Coverage {
        keys: 2,
        by_instance: vec![
            VerdictCounts { accepted: 1, ..VerdictCounts::default() },
            VerdictCounts { refused_after_end: 1, refused: 1, undecided: 1, ..VerdictCounts::default() },
        ],
        ends: 1,
        open_ends: 1,
        longest_end: Duration::from_secs(7),
        ends_during: BTreeMap::from([("stop", 1), ("kill", 0)]),
    };
    assert_eq!(coverage(&events, 2), expected);
}
