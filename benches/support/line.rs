use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Line {
    /// The benchmark that reports it.
    pub part: String,
    pub section: String,
    pub name: String,
    pub unit: String,
    pub better: Better,
    pub goal: Option<Goal>,
    pub measured: Measured,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub enum Goal {
    /// The median ratio is at least this.
    Ratio(f64),
    /// The median is at least this, or at most if less is better.
    Median(f64),
    /// The 99th percentile is at most this.
    P99(f64),
}

/// In the unit of the line.
#[derive(Serialize, Deserialize)]
pub enum Measured {
    /// Rounds of Keymark and of another program.
    Peer(String, Vec<(f64, f64)>),
    /// Rounds of Keymark and of a part of its work, or without the load that the section describes.
    Baseline(String, Vec<(f64, f64)>),
    /// Rounds of Keymark alone.
    Rounds(Vec<f64>),
    /// Times of single operations.
    Times(Vec<f64>),
}

/// The median of the rounds' ratios, the least and the largest of them, and both sides of the round with the median.
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub ours: f64,
    pub theirs: f64,
}

impl Line {
    /// How many times better Keymark is: more than 1 is more a second, or less time or memory. `None` if it is not
    /// compared.
    pub fn ratio(&self) -> Option<Ratio> {
        let (Measured::Peer(_, rounds) | Measured::Baseline(_, rounds)) = &self.measured else { return None };
        let mut rounds: Vec<_> = rounds
            .iter()
            .map(|(ours, theirs)| {
                (if self.better == Better::More { ours / theirs } else { theirs / ours }, ours, theirs)
            })
            .collect();
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (median, ours, theirs) = rounds[rounds.len() / 2];
        Some(Ratio { median, least: rounds[0].0, most: rounds[rounds.len() - 1].0, ours: *ours, theirs: *theirs })
    }

    /// At so many percent of what was measured alone.
    pub fn percentile(&self, percent: usize) -> f64 {
        let (Measured::Rounds(values) | Measured::Times(values)) = &self.measured else { return f64::NAN };
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        values[(values.len() * percent / 100).min(values.len() - 1)]
    }

    /// With as many digits as matter, and the unit.
    pub fn shown(&self, value: f64) -> String {
        let digits = match value {
            ..0.1 => 4,
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        format!("{value:.digits$} {}", self.unit)
    }

    pub fn shown_goal(&self) -> String {
        let bound = if self.better == Better::More { "at least" } else { "at most" };
        match self.goal {
            None => String::new(),
            Some(Goal::Ratio(ratio)) => format!("ratio at least {ratio}"),
            Some(Goal::Median(value)) => format!("{bound} {value} {}", self.unit),
            Some(Goal::P99(value)) => format!("p99 {bound} {value} {}", self.unit),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goal = if self.goal.is_some() { format!(" (goal: {})", self.shown_goal()) } else { String::new() };
        if let (Some(ratio), Measured::Peer(name, _) | Measured::Baseline(name, _)) = (self.ratio(), &self.measured) {
            let Ratio { median, least, most, ours, theirs } = ratio;
            let (ours, theirs) = (self.shown(ours), self.shown(theirs));
            writeln!(f, "    {}, against {name}{goal}", self.name)?;
            return write!(f, "        {median:.2} times as good ({least:.2} to {most:.2}): {ours}, {theirs}");
        }
        let at = |percent| self.shown(self.percentile(percent));
        write!(f, "    {:<34} ", self.name)?;
        match &self.measured {
            Measured::Times(_) => write!(f, "p50 {}, p90 {}, p99 {}{goal}", at(50), at(90), at(99)),
            Measured::Rounds(values) if values.len() > 1 => write!(f, "{} ({} to {}){goal}", at(50), at(0), at(100)),
            _ => write!(f, "{}{goal}", at(50)),
        }
    }
}
