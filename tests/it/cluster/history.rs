//! What was asked and answered, by one clock; and the checker, which finds answers that break the promise.
//!
//! The promise, for each key:
//!
//! 1. Once a revocation of it, or the deletion of its system, has answered `ENFORCED`, or a repeat has answered that
//!    there is nothing left to do, no verification that begins afterwards accepts it, and one that rejects it says
//!    `REVOKED`.
//! 2. From when its generation has answered `ENFORCED` until its first revocation begins, nothing rejects it; and
//!    nothing calls it revoked before.
//! 3. Any other answer to a revocation, `PENDING`, an error or none, proves nothing: it may take effect at any time after
//!    it was asked for. The same for a generation.
//!
//! That a verification cannot be decided is always allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A time, since the history began.
pub type Moment = Duration;

/// Which key: keys are numbered, and appear in no report.
pub type KeyNumber = usize;

/// From just before an operation was asked for until just after its answer was there.
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
    /// It could not be decided.
    Unavailable,
    /// No answer.
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub struct Verification {
    pub span: Span,
    pub key: KeyNumber,
    pub instance: usize,
    pub verdict: Verdict,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Enforced,
    /// A repeat: it has been made before, and is enforced.
    AlreadyEnforced,
    /// Pending, failed, or not answered: it may be made, or may have been.
    Open,
}

impl Outcome {
    pub fn is_final(self) -> bool {
        self != Self::Open
    }
}

/// A key was generated, revoked, or lost its system.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub span: Span,
    pub key: KeyNumber,
    pub instance: usize,
    pub outcome: Outcome,
}

/// A time in which something was made to fail.
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

/// Takes down what happens.
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

    /// The span of an operation that was invoked then and has returned now.
    pub fn since(&self, invoked: Moment) -> Span {
        Span { invoked, returned: self.now() }
    }

    pub fn record(&self, take_down: impl FnOnce(&mut Events)) {
        take_down(&mut self.events.lock().unwrap());
    }

    pub fn look<T>(&self, at: impl FnOnce(&Events) -> T) -> T {
        at(&self.events.lock().unwrap())
    }
}

/// An answer that breaks the promise.
#[derive(Clone, Copy)]
pub struct Violation {
    pub what: &'static str,
    pub verification: Verification,
    /// The change whose answer was not kept to.
    pub change: Option<Change>,
}

/// What is known of one key.
#[derive(Clone, Copy, Default)]
struct Life {
    /// The first answer that it is good everywhere.
    good: Option<Change>,
    /// The first attempt to end it.
    doubted: Option<Change>,
    /// The first answer that it is ended everywhere.
    dead: Option<Change>,
}

fn first(known: Option<Change>, new: Change, at: impl Fn(&Change) -> Moment) -> Option<Change> {
    match known {
        Some(known) if at(&known) <= at(&new) => Some(known),
        _ => Some(new),
    }
}

fn lives(events: &Events) -> BTreeMap<KeyNumber, Life> {
    let mut lives = BTreeMap::<KeyNumber, Life>::new();
    for change in events.generations.iter().filter(|change| change.outcome == Outcome::Enforced) {
        let life = lives.entry(change.key).or_default();
        life.good = first(life.good, *change, |change| change.span.returned);
    }
    for change in &events.ends {
        let life = lives.entry(change.key).or_default();
        life.doubted = first(life.doubted, *change, |change| change.span.invoked);
        if change.outcome.is_final() {
            life.dead = first(life.dead, *change, |change| change.span.returned);
        }
    }
    lives
}

impl Life {
    fn violation(&self, verification: &Verification) -> Option<Violation> {
        let Span { invoked, returned } = verification.span;
        let broken = |what, change| Some(Violation { what, verification: *verification, change });
        let after_death = self.dead.filter(|dead| invoked > dead.span.returned);
        let before_doubt = self.doubted.is_none_or(|doubted| returned < doubted.span.invoked);
        match verification.verdict {
            Verdict::Unavailable | Verdict::Lost => None,
            Verdict::Accepted if after_death.is_some() => broken("accepted after its end was enforced", after_death),
            Verdict::Accepted => None,
            Verdict::Malformed => broken("called malformed", self.good),
            Verdict::NotFound if after_death.is_some() => broken("forgotten after its end", after_death),
            Verdict::NotFound => {
                let good = self.good.filter(|good| before_doubt && invoked > good.span.returned)?;
                broken("unknown after its generation was enforced", Some(good))
            }
            Verdict::Revoked if before_doubt => broken("called revoked before anybody asked for it", self.good),
            Verdict::Revoked => None,
        }
    }
}

/// Every answer that breaks the promise.
pub fn violations(events: &Events) -> Vec<Violation> {
    let lives = lives(events);
    let unknown = Life::default();
    let life = |verification: &Verification| lives.get(&verification.key).unwrap_or(&unknown);
    events.verifications.iter().filter_map(|verification| life(verification).violation(verification)).collect()
}

/// Violations of one kind, of one key at one instance, in a line each.
pub fn summary(violations: &[Violation]) -> Vec<String> {
    let mut alike = BTreeMap::<_, Vec<&Violation>>::new();
    for violation in violations {
        let Verification { instance, key, .. } = violation.verification;
        alike.entry((violation.what, instance, key)).or_default().push(violation);
    }
    let line = |((what, instance, key), alike): (_, Vec<&Violation>)| {
        let from = alike.iter().map(|violation| violation.verification.span.invoked).min().unwrap_or_default();
        let until = alike.iter().map(|violation| violation.verification.span.returned).max().unwrap_or_default();
        let times = alike.len();
        let change = alike[0].change.map_or_else(String::new, |Change { span, instance, .. }| {
            format!("; instance {instance} was asked at {:.3?} and answered at {:.3?}", span.invoked, span.returned)
        });
        format!("key {key} {what} by instance {instance}, {times} times from {from:.3?} to {until:.3?}{change}")
    };
    alike.into_iter().map(line).collect()
}

/// How much the checker had to see: where nothing happened, nothing can be wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub keys: usize,
    pub by_instance: Vec<Answers>,
    pub ends: usize,
    /// Attempts to end a key that proved nothing.
    pub open_ends: usize,
    pub longest_end: Duration,
    /// Ends that were asked for and enforced while something was made to fail, by what that was.
    pub ends_amid: BTreeMap<&'static str, usize>,
}

/// What one instance answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub accepted: usize,
    /// Rejected, of verifications that began after the key's end was enforced: these could have been violations.
    pub refused_after_end: usize,
    pub refused: usize,
    pub undecided: usize,
}

pub fn seen(events: &Events, instances: usize) -> Seen {
    let lives = lives(events);
    let enforced = || events.ends.iter().filter(|end| end.outcome.is_final());
    let mut seen = Seen {
        keys: lives.len(),
        by_instance: vec![Answers::default(); instances],
        ends: enforced().count(),
        open_ends: events.ends.len() - enforced().count(),
        longest_end: enforced().map(|end| end.span.returned - end.span.invoked).max().unwrap_or_default(),
        ends_amid: BTreeMap::new(),
    };
    for Verification { span, key, instance, verdict } in &events.verifications {
        let answers = &mut seen.by_instance[*instance];
        let dead = lives.get(key).and_then(|life| life.dead);
        match verdict {
            Verdict::Accepted => answers.accepted += 1,
            Verdict::Unavailable | Verdict::Lost => answers.undecided += 1,
            _ if dead.is_some_and(|dead| span.invoked > dead.span.returned) => answers.refused_after_end += 1,
            _ => answers.refused += 1,
        }
    }
    for Disturbance { name, span } in &events.disturbances {
        let amid = |end: &&Change| end.span.invoked > span.invoked && end.span.returned < span.returned;
        *seen.ends_amid.entry(name).or_default() += enforced().filter(amid).count();
    }
    seen
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, by_instance, ends, open_ends, longest_end, ends_amid } = self;
        writeln!(f, "{keys} keys; {ends} ends enforced, the longest in {longest_end:.2?}; {open_ends} left open")?;
        for (number, Answers { accepted, refused_after_end, refused, undecided }) in by_instance.iter().enumerate() {
            writeln!(
                f,
                "instance {number}: {accepted} accepted, {refused_after_end} refused after their end, {refused} \
                 refused otherwise, {undecided} undecided"
            )?;
        }
        write!(f, "ends enforced amid: {ends_amid:?}")
    }
}

fn span(invoked: u64, returned: u64) -> Span {
    Span { invoked: Duration::from_secs(invoked), returned: Duration::from_secs(returned) }
}

fn change(invoked: u64, returned: u64, outcome: Outcome) -> Change {
    Change { span: span(invoked, returned), key: 7, instance: 0, outcome }
}

/// The violations when key 7, generated from 1 to 2, is ended like this and verified like that.
fn broken_by(ends: &[Change], (invoked, returned): (u64, u64), verdict: Verdict) -> Vec<&'static str> {
    let verification = Verification { span: span(invoked, returned), key: 7, instance: 1, verdict };
    let events = Events {
        verifications: vec![verification],
        generations: vec![change(1, 2, Outcome::Enforced)],
        ends: ends.to_vec(),
        disturbances: Vec::new(),
    };
    violations(&events).iter().map(|violation| violation.what).collect()
}

const FINE: [&str; 0] = [];

#[test]
fn an_accept_that_begins_after_the_end_was_enforced_is_found() {
    let late = ["accepted after its end was enforced"];
    for outcome in [Outcome::Enforced, Outcome::AlreadyEnforced] {
        let end = [change(10, 20, outcome)];
        assert_eq!(broken_by(&end, (21, 22), Verdict::Accepted), late);
        assert_eq!(broken_by(&end, (21, 99), Verdict::Accepted), late);
        assert_eq!(broken_by(&end, (19, 30), Verdict::Accepted), FINE, "it began before");
        assert_eq!(broken_by(&end, (15, 16), Verdict::Accepted), FINE);
        assert_eq!(broken_by(&end, (21, 22), Verdict::Revoked), FINE);
        assert_eq!(broken_by(&end, (21, 22), Verdict::Unavailable), FINE);
        assert_eq!(broken_by(&end, (21, 22), Verdict::NotFound), ["forgotten after its end"]);
    }
    let twice = [change(30, 40, Outcome::AlreadyEnforced), change(10, 20, Outcome::Enforced)];
    assert_eq!(broken_by(&twice, (21, 22), Verdict::Accepted), late, "the first answer counts");
}

#[test]
fn an_end_without_an_answer_stays_open_for_ever() {
    let end = [change(10, 20, Outcome::Open)];
    for verdict in [Verdict::Accepted, Verdict::Revoked, Verdict::NotFound] {
        assert_eq!(broken_by(&end, (1000, 1001), verdict), FINE);
    }
    let repeated = [change(10, 20, Outcome::Open), change(30, 40, Outcome::Enforced)];
    assert_eq!(broken_by(&repeated, (25, 26), Verdict::Accepted), FINE);
    assert_eq!(broken_by(&repeated, (25, 26), Verdict::Revoked), FINE);
    assert_eq!(broken_by(&repeated, (41, 42), Verdict::Accepted).len(), 1);
}

#[test]
fn a_reject_of_a_key_that_nobody_ended_is_found() {
    let end = [change(10, 20, Outcome::Enforced)];
    for ends in [&[][..], &end] {
        let unknown = ["unknown after its generation was enforced"];
        assert_eq!(broken_by(ends, (3, 4), Verdict::NotFound), unknown);
        assert_eq!(broken_by(ends, (1, 4), Verdict::NotFound), FINE, "it began before the generation was enforced");
        let early = ["called revoked before anybody asked for it"];
        assert_eq!(broken_by(ends, (3, 4), Verdict::Revoked), early);
        assert_eq!(broken_by(ends, (3, 4), Verdict::Malformed), ["called malformed"]);
        assert_eq!(broken_by(ends, (3, 4), Verdict::Accepted), FINE);
        assert_eq!(broken_by(ends, (3, 4), Verdict::Lost), FINE);
    }
    assert_eq!(broken_by(&end, (3, 11), Verdict::Revoked), FINE, "it was still being asked");
}

#[test]
fn a_generation_that_is_not_enforced_promises_nothing() {
    let verification = Verification { span: span(3, 4), key: 7, instance: 0, verdict: Verdict::NotFound };
    let generations = vec![change(1, 2, Outcome::Open)];
    let events = Events { verifications: vec![verification], generations, ..Events::default() };
    assert!(violations(&events).is_empty());
}

#[test]
fn keys_are_told_apart_and_what_was_seen_is_counted() {
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
    let expected = Seen {
        keys: 2,
        by_instance: vec![
            Answers { accepted: 1, ..Answers::default() },
            Answers { refused_after_end: 1, refused: 1, undecided: 1, ..Answers::default() },
        ],
        ends: 1,
        open_ends: 1,
        longest_end: Duration::from_secs(7),
        ends_amid: BTreeMap::from([("stop", 1), ("kill", 0)]),
    };
    assert_eq!(seen(&events, 2), expected);
}
