// SPDX-License-Identifier: Apache-2.0
//! How many calls a server is answering, so that a stop waits for those, and not for connections that are silent.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

/// How long nothing must be under way before the connections are given up: an answer that is complete still has to
/// reach its socket, and a call that arrived before the stop has to be seen.
const SETTLE: Duration = Duration::from_millis(250);

/// A counter of calls.
#[derive(Clone, Default)]
pub struct InFlight(watch::Sender<usize>);

/// Counts until it is dropped.
pub struct Call(InFlight);

impl InFlight {
    /// A call begins.
    pub fn begin(&self) -> Call {
        self.0.send_modify(|calls| *calls += 1);
        Call(self.clone())
    }

    /// Ready once `server` is, or nothing was under way for a moment. Poll it only once a stop was asked for.
    pub async fn drained<T>(&self, server: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            ended = server => Some(ended),
            () = self.settled() => None,
        }
    }

    async fn settled(&self) {
        let mut calls = self.0.subscribe();
        loop {
            // An error means that the sender is gone, and we hold it.
            let _ = calls.wait_for(|calls| *calls == 0).await;
            tokio::select! {
                _ = calls.changed() => {}
                () = tokio::time::sleep(SETTLE) => return,
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.send_modify(|calls| *calls -= 1);
    }
}
