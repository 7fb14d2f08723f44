// SPDX-License-Identifier: Apache-2.0
//! Measurements as lines of JSON, and what they amount to.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// One run of one contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// What was done, to what: "usr build".
    pub case: String,
    /// "warm", "cold", or "-" where the cache is of no matter.
    pub cache: String,
    /// Who did it.
    pub who: String,
    /// Number of the round: runs of one round follow each other.
    pub round: u32,
    /// Measures: `wall`, `user`, `sys` in seconds, `peak` in MiB, and others that a case names.
    pub values: BTreeMap<String, f64>,
}

impl Measurement {
    /// A measure; `cpu` is user and system time together.
    pub fn value(&self, measure: &str) -> Option<f64> {
        match measure {
            "cpu" => Some(self.values.get("user")? + self.values.get("sys")?),
            _ => self.values.get(measure).copied(),
        }
    }
}

/// Appends a line to a file.
pub fn append(path: &Path, measurement: &Measurement) -> Outcome {
    let mut line = serde_json::to_string(measurement)?;
    line.push('\n');
    Ok(OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())?)
}

/// All lines of a file.
pub fn read(path: &Path) -> Outcome<Vec<Measurement>> {
    fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// `record RESULTS CASE CACHE WHO ROUND MEASURE=NUMBER...`
pub fn record(words: &[&str]) -> Outcome {
    let [results, case, cache, who, round, values @ ..] = words else {
        return Err("record RESULTS CASE CACHE WHO ROUND MEASURE=NUMBER...".into());
    };
    let values: Outcome<_> = values
        .iter()
        .map(|word| {
            let (measure, number) = word.split_once('=').ok_or_else(|| format!("{word}: no number"))?;
            Ok((measure.to_owned(), number.parse()?))
        })
        .collect();
    let [case, cache, who] = [case, cache, who].map(|word| (*word).to_owned());
    append(Path::new(results), &Measurement { case, cache, who, round: round.parse()?, values: values? })
}

/// The middle of the numbers; of an even count, the mean of the two in the middle. `None` of none.
pub fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        n if n % 2 == 1 => Some(numbers[middle]),
        _ => Some(f64::midpoint(numbers[middle - 1], numbers[middle])),
    }
}

/// Everything that was measured.
pub struct Results(pub Vec<Measurement>);

impl Results {
    /// Runs of one contender at one case.
    pub fn of<'a>(&'a self, case: &'a str, cache: &'a str, who: &'a str) -> impl Iterator<Item = &'a Measurement> {
        self.0.iter().filter(move |m| m.case == case && m.cache == cache && m.who == who)
    }

    /// Median of a measure.
    pub fn median(&self, case: &str, cache: &str, who: &str, measure: &str) -> Option<f64> {
        median(self.of(case, cache, who).filter_map(|m| m.value(measure)).collect())
    }

    /// Median of the ratios of the runs of each round: what else the machine does falls on both.
    pub fn ratio(&self, case: &str, cache: &str, who: &str, against: &str, measure: &str) -> Option<f64> {
        let ratios = self.of(case, cache, who).filter_map(|ours| {
            let theirs = self.of(case, cache, against).find(|m| m.round == ours.round)?;
            Some(ours.value(measure)? / theirs.value(measure)?)
        });
        median(ratios.collect())
    }

    /// Cases with their cache, in the order in which they were run.
    pub fn cases(&self) -> Vec<(&str, &str)> {
        let mut cases = Vec::new();
        for m in &self.0 {
            let case = (m.case.as_str(), m.cache.as_str());
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    /// Contenders of a case, in the order in which they ran first.
    pub fn contenders(&self, case: &str, cache: &str) -> Vec<&str> {
        let mut contenders = Vec::new();
        for m in self.0.iter().filter(|m| m.case == case && m.cache == cache) {
            if !contenders.contains(&m.who.as_str()) {
                contenders.push(m.who.as_str());
            }
        }
        contenders
    }
}
