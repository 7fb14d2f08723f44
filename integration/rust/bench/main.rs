// SPDX-License-Identifier: Apache-2.0
//! What `integration/bench` is made of: inputs, the floor, turns, and the table.
//!
//! ```text
//! bench-tool make usr|big|empty|deep|links N DIR      a tree, the same on every machine
//! bench-tool list DIR                                 its files, NUL-separated, each inode once
//! bench-tool floor DIR LIST THREADS                   opens, reads and hashes them, and nothing else
//! bench-tool inflate FILE...                          decompresses, and nothing else
//! bench-tool turns OPTIONS -- WHO COMMAND ...         runs the commands in turn, a JSON line each
//! bench-tool record OPTIONS MEASURE=NUMBER ...        a JSON line of what was measured elsewhere
//! bench-tool report RESULTS GOALS ABOUT DIR           table.md, results.csv and chart.svg, the goals held against it
//! ```

mod chart;
mod floor;
mod make;
mod report;
mod results;
mod turns;

use std::process::ExitCode;

/// What can go wrong, as a person reads it.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["make", shape, n, dir] => n.parse().map_err(Into::into).and_then(|n| make::tree(shape, n, dir.as_ref())),
        ["list", dir] => floor::list(dir.as_ref()),
        ["floor", dir, list, threads] => {
            threads.parse().map_err(Into::into).and_then(|n| floor::hash(dir.as_ref(), list.as_ref(), n))
        }
        ["inflate", files @ ..] => floor::inflate(files),
        ["turns", rest @ ..] => turns::run(rest),
        ["measure", command @ ..] => turns::measure(command),
        ["record", rest @ ..] => results::record(rest),
        ["report", results, goals, about, dir] => {
            report::write(results.as_ref(), goals.as_ref(), about.as_ref(), dir.as_ref())
        }
        _ => Err("usage: see the head of integration/rust/bench/main.rs".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-tool: {error}");
            ExitCode::from(2)
        }
    }
}
