//! The audit entries that meet several conditions, found by their indexes alone.
//!
//! A zigzag join: in turn, each condition skips to its first entry that is not before the one that the others have
//! reached. So the time depends on the entries of the rarest condition, and an entry that the index shows to meet only some
//! conditions is not read.

use std::iter::Peekable;
use std::vec;

use redb::{Range, ReadOnlyTable};

use super::errors::storage;
use super::store::Progress;
use super::subjects::Subject;
use crate::store::Result;

/// Rows that are passed one by one, before the rest are skipped by a search from the root of the index.
const STEPS_BEFORE_SEARCH: usize = 16;

type SubjectKey = (&'static str, &'static str, u64);
pub(super) type SubjectIndex = ReadOnlyTable<SubjectKey, ()>;

/// The direction of a scan, in which the *places* of entries grow.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Upwards,
    Downwards,
}

impl Direction {
    /// The place of the entry with this number; and the other way round, the number of the entry at this place.
    pub(super) fn place(self, number: u64) -> u64 {
        match self {
            Self::Upwards => number,
            Self::Downwards => !number,
        }
    }

    pub(super) fn next<T>(self, rows: &mut impl DoubleEndedIterator<Item = T>) -> Option<T> {
        match self {
            Self::Upwards => rows.next(),
            Self::Downwards => rows.next_back(),
        }
    }
}

/// Entries of consecutive numbers.
pub(super) struct Stretch {
    pub(super) low: u64,
    pub(super) high: u64,
    /// Whether the times of all of them match.
    pub(super) is_within: bool,
}

/// The entries that meet one condition.
pub(super) enum Condition<'a> {
    /// The entries that have one of these subjects.
    Subjects(Vec<Rows<'a>>),
    /// The entries in these stretches, which are in the order of the scan.
    Stretches(Direction, Peekable<vec::IntoIter<Stretch>>),
}

impl Condition<'_> {
    /// Skips to the first entry at this place or after it, and returns its place.
    fn skip_to(&mut self, place: u64, progress: &mut Progress) -> Result<Option<u64>> {
        match self {
            Self::Subjects(subjects) => {
                let mut first = None;
                for rows in subjects {
                    rows.skip_to(place, progress)?;
                    first = [first, rows.place].into_iter().flatten().min();
                }
                Ok(first)
            }
            Self::Stretches(direction, stretches) => {
                let ends = |stretch: &Stretch| [stretch.low, stretch.high].map(|number| direction.place(number));
                while stretches.next_if(|stretch| ends(stretch).into_iter().all(|end| end < place)).is_some() {}
                Ok(stretches.peek().map(|stretch| ends(stretch).into_iter().min().unwrap_or(place).max(place)))
            }
        }
    }
}

/// The rows of a subject in the index, in the order of the scan.
pub(super) struct Rows<'a> {
    index: &'a SubjectIndex,
    tenant: &'a str,
    subject: Subject,
    direction: Direction,
    /// The least and the greatest number that an entry of the rest may have.
    low: u64,
    high: u64,
    /// The rows after the current one.
    rest: Option<Range<'static, SubjectKey, ()>>,
    /// The place of the entry in the current row; `None` after the last row.
    place: Option<u64>,
}

impl<'a> Rows<'a> {
    /// The rows with numbers in `low..=high`.
    pub(super) fn new(
        index: &'a SubjectIndex,
        (tenant, subject): (&'a str, Subject),
        (low, high): (u64, u64),
        direction: Direction,
    ) -> Result<Self> {
        let mut rows = Self { index, tenant, subject, direction, low, high, rest: None, place: None };
        rows.search()?;
        Ok(rows)
    }

    /// Goes to the first row between the bounds.
    fn search(&mut self) -> Result<()> {
        let key = |number| (self.tenant, self.subject.as_str(), number);
        let rest = (self.low <= self.high).then(|| self.index.range(key(self.low)..=key(self.high)));
        self.rest = rest.transpose().map_err(storage)?;
        self.step()
    }

    fn step(&mut self) -> Result<()> {
        let row = self.rest.as_mut().and_then(|rest| self.direction.next(rest)).transpose().map_err(storage)?;
        self.place = row.map(|(key, _)| self.direction.place(key.value().2));
        Ok(())
    }

    fn skip_to(&mut self, place: u64, progress: &mut Progress) -> Result<()> {
        for _ in 0..STEPS_BEFORE_SEARCH {
            if self.place.is_none_or(|reached| reached >= place) {
                return Ok(());
            }
            progress.row()?;
            self.step()?;
        }
        if self.place.is_some_and(|reached| reached < place) {
            let bound = match self.direction {
                Direction::Upwards => &mut self.low,
                Direction::Downwards => &mut self.high,
            };
            *bound = self.direction.place(place);
            self.search()?;
        }
        Ok(())
    }
}

/// Passes the numbers of the entries that meet all conditions, of which there is at least one, to `visit`, until it returns
/// false.
pub(super) fn visit_common(
    mut conditions: Vec<Condition<'_>>,
    direction: Direction,
    progress: &mut Progress,
    mut visit: impl FnMut(u64, &mut Progress) -> Result<bool>,
) -> Result<()> {
    let mut from = 0;
    loop {
        let mut reached = from;
        for condition in &mut conditions {
            match condition.skip_to(reached, progress)? {
                Some(place) => reached = place,
                None => return Ok(()),
            }
        }
        if reached == from {
            if !visit(direction.place(reached), progress)? {
                return Ok(());
            }
            reached = match reached.checked_add(1) {
                Some(next) => next,
                None => return Ok(()),
            };
        }
        from = reached;
    }
}
