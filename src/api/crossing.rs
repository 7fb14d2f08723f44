// SPDX-License-Identifier: Apache-2.0
//! From an asynchronous call to the synchronous engine.
//!
//! The number of calls at work is bounded, and a call keeps its place until its work ends, even if the client
//! is gone by then: clients that come and go can't pile up work.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};

/// A bounded number of places.
#[derive(Clone)]
pub struct Crossing(Arc<Semaphore>);

impl Crossing {
    /// A crossing for `places` calls at a time; more wait.
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Runs `work` where it may block.
    ///
    /// # Errors
    /// What `work` fails with; `Io` if it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let closed = |_| Error::new(ErrorKind::Unavailable, "the daemon is stopping");
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(closed)?;
        let work = move || {
            let result = work();
            drop(place);
            result
        };
        let panicked = |error| Error::new(ErrorKind::Io, "internal error").with_source(error);
        tokio::task::spawn_blocking(work).await.map_err(panicked)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_call_keeps_its_place_when_its_client_goes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let crossing = Crossing::new(1);
            let (release, wait) = mpsc::channel::<()>();
            let first = tokio::spawn({
                let crossing = crossing.clone();
                async move { crossing.run(move || wait.recv().map_err(|_| Error::new(ErrorKind::Io, "gone"))).await }
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            first.abort();
            let second = crossing.run(|| Ok(7));
            tokio::pin!(second);
            assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
            release.send(()).unwrap();
            assert_eq!(second.await.unwrap(), 7);
        });
    }

    #[test]
    fn a_panic_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result: Result<()> = runtime.block_on(Crossing::new(1).run(|| panic!("for the test")));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Io);
    }
}
