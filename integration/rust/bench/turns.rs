// SPDX-License-Identifier: Apache-2.0
//! Commands run in turn: A B A B.
//!
//! Each command is started by a process of its own, so that the kernel's sums over ended children are of this one
//! command and of what it started. What is started so is never reported smaller than its starter, a few MiB.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::Outcome;
use crate::results::{Measurement, append};

/// What a run of `turns` is told before its `--`.
#[derive(Default)]
struct Options {
    results: PathBuf,
    case: String,
    cold: bool,
    rounds: u32,
    /// Shell command between two runs, not measured.
    after: Option<String>,
}

/// `turns --results FILE --case NAME --rounds N [--cold] [--after COMMAND] -- WHO COMMAND [WHO COMMAND]...`
///
/// A command is a shell's. `WHO=N` joins the first N rounds only: for the slow ones that no goal is about.
pub fn run(words: &[&str]) -> Outcome {
    let (options, contenders) = parse(words)?;
    if !options.cold {
        let (_, first) = contenders.first().ok_or("nobody to run")?;
        run_once(first)?;
        after(&options)?;
    }
    for round in 1..=options.rounds {
        for (who, command) in &contenders {
            let (who, rounds) = match who.split_once('=') {
                Some((who, rounds)) => (who, rounds.parse()?),
                None => (*who, options.rounds),
            };
            if round > rounds {
                continue;
            }
            if options.cold {
                drop_caches()?;
            }
            let values = run_once(command).map_err(|e| format!("{} ({who}): {e}", options.case))?;
            let cache = if options.cold { "cold" } else { "warm" };
            eprintln!(
                "  {} ({cache}) {round}: {who}: {:.3} s, {:.3} user, {:.3} system, {:.1} MiB",
                options.case, values["wall"], values["user"], values["sys"], values["peak"]
            );
            let measurement =
                Measurement { case: options.case.clone(), cache: cache.into(), who: who.into(), round, values };
            append(&options.results, &measurement)?;
            after(&options)?;
        }
    }
    Ok(())
}

fn parse<'a>(words: &[&'a str]) -> Outcome<(Options, Vec<(&'a str, &'a str)>)> {
    let mut options = Options { rounds: 1, ..Options::default() };
    let mut words = words.iter();
    loop {
        let option = *words.next().ok_or("no --")?;
        let mut value = || words.next().copied().ok_or_else(|| format!("{option} wants a value"));
        match option {
            "--results" => options.results = value()?.into(),
            "--case" => options.case = value()?.into(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--after" => options.after = Some(value()?.into()),
            "--cold" => options.cold = true,
            "--" => break,
            other => return Err(format!("{other}: no such option").into()),
        }
    }
    let contenders: Vec<_> = words.as_slice().chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Ok((options, contenders))
}

/// Has another of this program measure a command, and reads what it found.
fn run_once(command: &str) -> Outcome<BTreeMap<String, f64>> {
    let output = Command::new("/proc/self/exe")
        .args(["measure", "/bin/sh", "-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    match output.status.success() {
        true => Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?),
        false => Err(format!("failed: {command}").into()),
    }
}

/// Runs a command and prints, as the last line, what it took. Its own output goes where ours goes.
pub fn measure(command: &[&str]) -> Outcome {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let begin = Instant::now();
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status()?;
    let wall = begin.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let values: BTreeMap<&str, f64> = BTreeMap::from([
        ("wall", wall),
        ("user", seconds(usage.user_time())),
        ("sys", seconds(usage.system_time())),
        ("peak", usage.max_rss() as f64 / 1024.0),
    ]);
    println!("{}", serde_json::to_string(&values)?);
    Ok(())
}

fn after(options: &Options) -> Outcome {
    match &options.after {
        Some(command) if !Command::new("/bin/sh").args(["-c", command]).status()?.success() => {
            Err(format!("failed: {command}").into())
        }
        _ => Ok(()),
    }
}

/// Forgets what the page cache holds of disks, and names and inodes too.
fn drop_caches() -> Outcome {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(|e| format!("drop_caches: {e}: only root can"))?;
    Ok(())
}
