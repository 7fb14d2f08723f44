// SPDX-License-Identifier: Apache-2.0
//! Work that cleans up after itself when it is told to end.

use std::thread;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::{Global, progress};
use crate::tree::Progress;

/// Runs `work`, showing its progress; SIGINT and SIGTERM cancel it, so that what it made elsewhere is removed.
pub fn cancellable<T>(global: &Global, work: impl FnOnce(&Progress) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    };
    let (mut interrupt, mut terminate) = (signals.0.context("sigaction")?, signals.1.context("sigaction")?);
    progress::shown(global, |progress| {
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(|| {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => progress.cancel(),
                        _ = terminate.recv() => progress.cancel(),
                        _ = ended => {}
                    }
                });
            });
            // Dropped when the work ends, even by a panic.
            let _done = done;
            work(progress)
        })
    })
}
