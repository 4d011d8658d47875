//! Use of keys: how often verifications accepted and refused each key, by hour and by day, and when last.
//!
//! Times are of the wall clock of the instance that verified the key. Hours and days are those of UTC.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::time::Duration;

use super::ids::{SystemId, TenantId};
use super::keys::Mark;
use super::leases::Incarnation;
use super::refusal::Refusal;
use super::time::Timestamp;

/// Number of a system's keys whose last use is kept: those that were presented last.
pub const MAX_KEYS_PER_SYSTEM: usize = 64;
/// Longest range of a series by hour.
pub const MAX_HOURS: Duration = Duration::from_hours(8 * 24);
/// Longest range of a series by day.
pub const MAX_DAYS: Duration = Duration::from_hours(400 * 24);

const HOUR_MILLIS: i64 = 3_600_000;
const HOURS_PER_DAY: u32 = 24;

/// Numbers of verifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    /// Refused because the key was revoked, expired or suspended.
    pub refused: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.refused = self.refused.saturating_add(other.refused);
    }
}

/// Use of a key that is yet to be added to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub tenant: TenantId,
    pub system: SystemId,
    pub mark: Mark,
    pub counts: Counts,
    pub last_used_at: Option<Timestamp>,
    pub last_refused_at: Option<Timestamp>,
}

impl KeyUse {
    /// Adds use of the same key.
    pub fn add(&mut self, other: &Self) {
        self.counts += other.counts;
        self.last_used_at = self.last_used_at.max(other.last_used_at);
        self.last_refused_at = self.last_refused_at.max(other.last_refused_at);
    }

    /// The bucket that the counts are added to: the one of the last time at which the key was presented.
    pub fn bucket(&self, resolution: Resolution) -> u32 {
        resolution.bucket_of(self.last_used_at.max(self.last_refused_at).unwrap_or_default())
    }
}

/// Uses that an instance adds to the store together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Identifies the process that counted.
    pub instance: Incarnation,
    /// Starts at 1 and increases with each flush of the instance. One that is added again has the same number.
    pub number: u64,
    /// When it is added.
    pub at: Timestamp,
    pub uses: Vec<KeyUse>,
}

/// Length of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    Hour,
    Day,
}

impl Resolution {
    const fn millis(self) -> i64 {
        match self {
            Self::Hour => HOUR_MILLIS,
            Self::Day => HOUR_MILLIS * HOURS_PER_DAY as i64,
        }
    }

    /// Number of the bucket with this time, counted from the Unix epoch.
    pub fn bucket_of(self, at: Timestamp) -> u32 {
        u32::try_from(at.as_millis().div_euclid(self.millis()).max(0)).unwrap_or(u32::MAX)
    }

    /// Number of the stored row that has the bucket: that of its day for an hour, and that of its month for a day.
    pub fn row_of(self, bucket: u32) -> u32 {
        match self {
            Self::Hour => bucket / HOURS_PER_DAY,
            Self::Day => month_of(bucket),
        }
    }

    fn start_of(self, bucket: u32) -> Timestamp {
        Timestamp::from_millis(i64::from(bucket) * self.millis())
    }
}

/// Months since January 1970, for a day since the first of that month.
fn month_of(day: u32) -> u32 {
    let at = jiff::Timestamp::from_second(i64::from(day) * 86_400).unwrap_or(jiff::Timestamp::MAX);
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    let months = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
    u32::try_from(months).expect("a date since 1970")
}

/// How long use is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRetention {
    pub hours: Duration,
    pub days: Duration,
}

impl UsageRetention {
    pub fn of(self, resolution: Resolution) -> Duration {
        match resolution {
            Resolution::Hour => self.hours,
            Resolution::Day => self.days,
        }
    }

    /// The first stored row that is kept at `now`.
    pub fn first_row(self, resolution: Resolution, now: Timestamp) -> u32 {
        resolution.row_of(resolution.bucket_of(now.minus(self.of(resolution))))
    }
}

/// The buckets of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRange {
    pub resolution: Resolution,
    pub first: u32,
    /// The bucket after the last one.
    pub end: u32,
}

impl UsageRange {
    /// The buckets that have a part of the time from `from` to `to`. Without `to` they end with the current one. Without
    /// `from` they begin 24 hours or 30 days before the end.
    ///
    /// # Errors
    ///
    /// `BAD_USER_INPUT` if the range is empty, longer than [`MAX_HOURS`] or [`MAX_DAYS`], or begins before what is kept.
    pub fn new(
        resolution: Resolution,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        now: Timestamp,
        retention: UsageRetention,
    ) -> Result<Self, Refusal> {
        let (default, longest) = match resolution {
            Resolution::Hour => (Duration::from_hours(24), MAX_HOURS),
            Resolution::Day => (Duration::from_hours(30 * 24), MAX_DAYS),
        };
        let (kept, longest) = (retention.of(resolution), in_days(longest));
        let oldest = now.minus(kept);
        let to = to.map_or(now, |to| to.min(now));
        let from = from.unwrap_or_else(|| to.minus(default).max(oldest));
        let refuse = |reason: String| Err(Refusal::BadUserInput(reason));
        if from >= to {
            return refuse("`from` must be before `to`, and in the past.".to_owned());
        }
        if in_days(to.since(from)) > longest {
            return refuse(format!("The range from `from` to `to` is too long: at most {longest} days."));
        }
        if from < oldest {
            let kept = in_days(kept);
            return refuse(format!("`from` is too early: use of this resolution is kept for {kept} days."));
        }
        let last = resolution.bucket_of(Timestamp::from_millis(to.as_millis() - 1));
        Ok(Self { resolution, first: resolution.bucket_of(from), end: last.saturating_add(1) })
    }

    /// The stored rows that have these buckets.
    pub fn rows(&self) -> impl Iterator<Item = u32> + use<> {
        self.resolution.row_of(self.first)..=self.resolution.row_of(self.end.saturating_sub(1).max(self.first))
    }

    pub fn contains(&self, bucket: u32) -> bool {
        (self.first..self.end).contains(&bucket)
    }

    /// Sums the counts of each bucket, those of one key or of all. A bucket without use is zero.
    pub fn series(&self, counted: &[BucketCounts], mark: Option<Mark>) -> Vec<(Timestamp, Counts)> {
        let buckets = (self.first..self.end).map(|bucket| (self.resolution.start_of(bucket), Counts::default()));
        let mut series: Vec<_> = buckets.collect();
        for found in counted.iter().filter(|found| mark.is_none_or(|mark| mark == found.mark)) {
            if let Some((_, counts)) = found.bucket.checked_sub(self.first).and_then(|at| series.get_mut(at as usize)) {
                *counts += found.counts;
            }
        }
        series
    }
}

/// Whole days, rounded up.
fn in_days(duration: Duration) -> u64 {
    duration.as_secs().div_ceil(86_400)
}

/// Use of one key in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketCounts {
    pub mark: Mark,
    pub bucket: u32,
    pub counts: Counts,
}

/// When the keys of a system were last presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageSummary {
    pub system: SystemId,
    /// Time of the last flush about the system.
    pub written_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    /// At most [`MAX_KEYS_PER_SYSTEM`], and those that came since the last purge.
    pub keys: HashMap<Mark, KeySummary>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySummary {
    pub last_used_at: Option<Timestamp>,
    pub last_refused_at: Option<Timestamp>,
    pub refusals: u64,
}

impl KeySummary {
    pub fn add(&mut self, added: &KeyUse) {
        self.last_used_at = self.last_used_at.max(added.last_used_at);
        self.last_refused_at = self.last_refused_at.max(added.last_refused_at);
        self.refusals = self.refusals.saturating_add(added.counts.refused);
    }
}

/// The keys beyond [`MAX_KEYS_PER_SYSTEM`], those that were presented last left out.
pub fn surplus_keys(keys: &HashMap<Mark, KeySummary>) -> Vec<Mark> {
    let mut by_last: Vec<_> =
        keys.iter().map(|(mark, key)| (key.last_used_at.max(key.last_refused_at), *mark)).collect();
    by_last.sort_unstable_by_key(|(last, mark)| (std::cmp::Reverse(*last), String::from(*mark)));
    by_last.into_iter().skip(MAX_KEYS_PER_SYSTEM).map(|(_, mark)| mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 14 November 2023, 22:13:20 UTC.
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_hours(1);
    const RETENTION: UsageRetention = UsageRetention { hours: MAX_HOURS, days: MAX_DAYS };

    fn range(resolution: Resolution, from: Option<Timestamp>, to: Option<Timestamp>) -> Result<UsageRange, Refusal> {
        UsageRange::new(resolution, from, to, NOW, RETENTION)
    }

    #[test]
    fn rows_of_days_are_calendar_months() {
        for (date, month) in [
            ("1970-01-31T23:59:59Z", 0),
            ("1970-02-01T00:00:00Z", 1),
            ("2023-12-31T23:00:00Z", 647),
            ("2024-02-29T12:00:00Z", 649),
            ("2024-03-01T00:00:00Z", 650),
        ] {
            let day = Resolution::Day.bucket_of(date.parse().unwrap());
            assert_eq!(Resolution::Day.row_of(day), month, "{date}");
        }
        assert_eq!(Resolution::Hour.row_of(Resolution::Hour.bucket_of(NOW)), Resolution::Day.bucket_of(NOW));
        assert_eq!(Resolution::Hour.bucket_of(Timestamp::from_millis(-1)), 0);
    }

    #[test]
    fn default_ranges_are_the_last_24_hours_and_30_days() {
        for (resolution, buckets) in [(Resolution::Hour, 25), (Resolution::Day, 31)] {
            let range = range(resolution, None, None).unwrap();
            assert_eq!(range.end - range.first, buckets, "and the part of one at its begin");
            assert!(range.contains(resolution.bucket_of(NOW)));
        }
    }

    #[test]
    fn range_has_the_buckets_that_it_touches() {
        let at = |hour| Timestamp::from_millis(HOUR_MILLIS * hour);
        let of_now = i64::from(Resolution::Hour.bucket_of(NOW));
        let within = range(Resolution::Hour, Some(at(of_now - 2)), Some(at(of_now - 1))).unwrap();
        assert_eq!((i64::from(within.first), i64::from(within.end)), (of_now - 2, of_now - 1));
        let future = range(Resolution::Hour, Some(at(of_now - 2)), Some(NOW.plus(10 * HOUR))).unwrap();
        assert_eq!(i64::from(future.end), of_now + 1, "nothing is counted in the future");
    }

    #[test]
    fn bad_ranges_are_refused_with_the_bound() {
        let refused = |resolution, from: Duration, to: Duration, kept| {
            let retention = UsageRetention { hours: kept, days: kept };
            let range = UsageRange::new(resolution, Some(NOW.minus(from)), Some(NOW.minus(to)), NOW, retention);
            range.unwrap_err().to_string()
        };
        let year = 366 * 24 * HOUR;
        assert!(refused(Resolution::Hour, HOUR, HOUR, year).contains("before `to`"));
        assert!(refused(Resolution::Hour, MAX_HOURS + HOUR, Duration::ZERO, year).contains("at most 8 days"));
        assert!(refused(Resolution::Day, MAX_DAYS + HOUR, Duration::ZERO, 2 * year).contains("at most 400 days"));
        assert!(refused(Resolution::Hour, 30 * HOUR, 20 * HOUR, 24 * HOUR).contains("kept for 1 days"));
        assert!(range(Resolution::Hour, Some(NOW.minus(MAX_HOURS)), None).is_ok());
        assert!(range(Resolution::Day, Some(NOW.minus(MAX_DAYS)), None).is_ok());
    }

    #[test]
    fn series_has_a_zero_for_each_bucket_without_use() {
        let range = range(Resolution::Hour, Some(NOW.minus(2 * HOUR)), None).unwrap();
        let mark = |text: &str| Mark::try_from(text.to_owned()).unwrap();
        let count = |text, bucket, accepted| {
            let counts = Counts { accepted, refused: 1 };
            BucketCounts { mark: mark(text), bucket: range.first + bucket, counts }
        };
        let counted = [count("aaaa", 0, 5), count("bbbb", 0, 7), count("aaaa", 2, 9)];
        let accepted =
            |mark| range.series(&counted, mark).iter().map(|(_, counts)| counts.accepted).collect::<Vec<_>>();
        assert_eq!(accepted(None), [12, 0, 9]);
        assert_eq!(accepted(Some(mark("bbbb"))), [7, 0, 0]);
        assert_eq!(range.series(&counted, None)[0].0.as_millis() % HOUR_MILLIS, 0);
    }

    #[test]
    fn keys_that_were_presented_last_are_kept() {
        let keys = (0..70).map(|n| {
            let mark = Mark::try_from(format!("{n:04}")).unwrap();
            (mark, KeySummary { last_used_at: Some(NOW.minus(HOUR * n)), ..KeySummary::default() })
        });
        let mut surplus: Vec<_> = surplus_keys(&keys.collect()).into_iter().map(String::from).collect();
        surplus.sort();
        assert_eq!(surplus, ["0064", "0065", "0066", "0067", "0068", "0069"]);
    }
}
