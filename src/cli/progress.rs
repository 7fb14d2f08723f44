// SPDX-License-Identifier: Apache-2.0
//! What a person sees while work is under way, and the line at its end.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Global;
use crate::manifest::text::si_size;
use crate::tree::Progress;

/// Time between two looks at the counters.
const TICK: Duration = Duration::from_millis(100);

/// Runs `work`; on a terminal, unless quiet, its progress shows on standard error: files, bytes, rate.
pub fn shown<T>(global: &Global, work: impl FnOnce(&Progress) -> T) -> T {
    let progress = Progress::default();
    if global.quiet || !std::io::stderr().is_terminal() {
        return work(&progress);
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let began = Instant::now();
    let (stop, stopped) = channel::<()>();
    thread::scope(|scope| {
        let (bar, progress) = (&bar, &progress);
        scope.spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let bytes = progress.bytes();
                let rate = bytes as f64 / began.elapsed().as_secs_f64();
                let message = format!("{} entries, {}, {}/s", progress.entries(), si_size(bytes), si_size(rate as u64));
                bar.set_message(message);
                bar.tick();
            }
            bar.finish_and_clear();
        });
        // Dropped when the work ends, even by a panic: the ticker hears of it and goes.
        let _stop = stop;
        work(progress)
    })
}

/// The summary line: entries, bytes, seconds and, where there can be any, findings.
pub fn summary(global: &Global, entries: u64, bytes: u64, began: Instant, findings: Option<u64>) {
    if global.quiet {
        return;
    }
    let seconds = began.elapsed().as_secs_f64();
    let findings = findings.map(|n| format!(", {n} findings")).unwrap_or_default();
    say!("{entries} entries, {bytes} bytes, {seconds:.2} s{findings}");
}
