// SPDX-License-Identifier: Apache-2.0
//! The table, the goals, and whether they are met.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::chart;
use crate::results::{Results, read};

/// Who the table is about.
const OURS: &str = "continuity";

/// What is held against what was measured: a line of `goals.tsv`.
struct Goal<'a> {
    text: &'a str,
    case: &'a str,
    cache: &'a str,
    measure: &'a str,
    /// Contender that the measure is divided by; "-" for none.
    against: &'a str,
    /// At most.
    goal: f64,
    /// At most, on a noisy machine and with small inputs: past it something has become slower.
    bound: Option<f64>,
}

/// Writes `table.md`, `results.csv` and `chart.svg` into `dir` and prints the goals. `about` says of whom and of what
/// the table is, and stands above it. With a bound that is not kept, an error.
pub fn write(results: &Path, goals: &Path, about: &Path, dir: &Path) -> Outcome {
    let results = Results(read(results)?);
    let goals = fs::read_to_string(goals)?;
    let goals = goals.lines().skip(1).filter(|line| !line.is_empty()).map(parse).collect::<Outcome<Vec<_>>>()?;
    let (verdicts, broken) = hold(&results, &goals)?;
    print!("{verdicts}");
    fs::create_dir_all(dir)?;
    fs::write(
        dir.join("table.md"),
        format!("{}\n{}\n{verdicts}\n{}", machine(), fs::read_to_string(about)?, table(&results)?),
    )?;
    fs::write(dir.join("results.csv"), csv(&results)?)?;
    fs::write(dir.join("chart.svg"), chart::draw(&results)?)?;
    match broken.as_slice() {
        [] => Ok(()),
        broken => Err(format!("slower or larger than it may become: {}", broken.join("; ")).into()),
    }
}

fn parse(line: &str) -> Outcome<Goal<'_>> {
    let cells: Vec<&str> = line.split('\t').collect();
    let &[text, case, cache, measure, against, goal, bound] = cells.as_slice() else {
        return Err(format!("not a goal: {line}").into());
    };
    let bound = match bound {
        "-" => None,
        bound => Some(bound.parse()?),
    };
    Ok(Goal { text, case, cache, measure, against, goal: goal.parse()?, bound })
}

/// The goals that were measured, as a table, and those whose bound is broken.
fn hold(results: &Results, goals: &[Goal<'_>]) -> Outcome<(String, Vec<String>)> {
    let mut out = String::from("| what | goal | measured | |\n|---|---|---|---|\n");
    let mut broken = Vec::new();
    for goal in goals {
        let measured = match goal.against {
            "-" => results.median(goal.case, goal.cache, OURS, goal.measure),
            against => results.ratio(goal.case, goal.cache, OURS, against, goal.measure),
        };
        let Some(measured) = measured else { continue };
        let verdict = if measured <= goal.goal { "met" } else { "**missed**" };
        writeln!(out, "| {} | ≤ {} | {} | {verdict} |", goal.text, goal.goal, short(measured))?;
        if goal.bound.is_some_and(|bound| measured > bound) {
            broken.push(format!("{}: {}", goal.text, short(measured)));
        }
    }
    Ok((out, broken))
}

/// One table of everything.
fn table(results: &Results) -> Outcome<String> {
    let mut out = String::new();
    writeln!(out, "| case | cache | who | runs | wall s | user s | system s | peak MiB | {OURS}'s wall / this |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for (case, cache) in results.cases() {
        for who in results.contenders(case, cache) {
            let runs = results.of(case, cache, who).count();
            write!(out, "| {case} | {cache} | {who} | {runs} |")?;
            for measure in ["wall", "user", "sys", "peak"] {
                let value = results.median(case, cache, who, measure).map_or_else(String::new, short);
                write!(out, " {value} |")?;
            }
            let ratio = results.ratio(case, cache, OURS, who, "wall").filter(|_| who != OURS);
            writeln!(out, " {} |", ratio.map_or_else(String::new, short))?;
        }
    }
    Ok(out)
}

/// Three digits or so, whatever the size.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Every run on a line.
fn csv(results: &Results) -> Outcome<String> {
    let mut out = String::from("case,cache,who,round,measure,value\n");
    for m in &results.0 {
        for (measure, value) in &m.values {
            writeln!(out, "{},{},{},{},{measure},{value}", m.case, m.cache, m.who, m.round)?;
        }
    }
    Ok(out)
}

/// What it was measured on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        cpu.lines().find(|line| line.starts_with(name)).and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown")
    };
    let sha = field("flags").split(' ').any(|flag| flag == "sha_ni") || field("Features").contains("sha2");
    format!(
        "{}, {} cores, SHA instructions: {}, Linux {}",
        field("model name").trim(),
        std::thread::available_parallelism().map_or(1, usize::from),
        if sha { "yes" } else { "no" },
        read("/proc/sys/kernel/osrelease").trim().split('-').next().unwrap_or_default()
    )
}
