// SPDX-License-Identifier: Apache-2.0
//! Work on the blocking pool whose messages go to a ttrpc stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use ttrpc::r#async::ServerStreamSender;
use ttrpc::proto::Codec;

use crate::api::continuity::TICK;
use crate::api::in_flight::Call;
use crate::api::status::ttrpc as status;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::memory;
use crate::tree::Progress;

/// Messages between the work and the socket. A full queue holds the work back.
const QUEUE: usize = 4;

/// Where the work puts its messages.
pub struct Outlet<M>(mpsc::Sender<M>);

impl<M> Outlet<M> {
    /// Waits while the client reads more slowly than the work goes on.
    ///
    /// # Errors
    /// `Cancelled` if the client is gone.
    pub fn send(&self, message: M) -> Result<()> {
        self.0.blocking_send(message).map_err(|_| Error::new(ErrorKind::Cancelled, "the client is gone"))
    }
}

/// One streaming request.
pub struct Work<M> {
    /// Where the messages go.
    pub to: ServerStreamSender<M>,
    /// Who does the work.
    pub engine: Arc<Engine>,
    /// True once the daemon stops.
    pub stopping: watch::Receiver<bool>,
    /// One of these is waited for, and held from the beginning to the end.
    pub places: Arc<Semaphore>,
    /// How long a message waits for its client to read.
    pub patience: Duration,
    /// See [`Work::ticking`].
    pub tick: Option<fn(&Progress) -> M>,
    /// Counts as long as this request lives.
    pub _call: Call,
}

/// Cancels the work when the request ends, however it ends.
struct CancelOnDrop(Arc<Progress>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<M> Work<M>
where
    M: Codec + Send + 'static,
    <M as Codec>::E: std::fmt::Display,
{
    /// Sends progress every [`TICK`] while the work goes on or waits for its turn.
    pub fn ticking(mut self, message: fn(&Progress) -> M) -> Self {
        self.tick = Some(message);
        self
    }

    /// Runs `f` and sends what it puts into its outlet, then what it returns: no progress comes after that.
    ///
    /// # Errors
    /// What `f` failed with, as a status; what the transport failed with, if the client is gone.
    pub async fn run<F>(self, f: F) -> ttrpc::Result<()>
    where
        F: FnOnce(&Engine, &Progress, &Outlet<M>) -> Result<Option<M>> + Send + 'static,
    {
        let progress = Arc::new(Progress::default());
        let cancel = CancelOnDrop(Arc::clone(&progress));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut place = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
        let place = loop {
            tokio::select! {
                place = &mut place => break place,
                () = self.ticked(&mut ticks) => self.send_progress(&progress).await?,
                () = stopped(self.stopping.clone()) => return Err(status(stopping())),
            }
        };
        let (sender, mut messages) = mpsc::channel(QUEUE);
        let engine = Arc::clone(&self.engine);
        let theirs = Arc::clone(&progress);
        let work = tokio::task::spawn_blocking(move || {
            // Held until the work has ended, not merely until nobody waits for it.
            let _place = place;
            let done = f(&engine, &theirs, &Outlet(sender));
            memory::trim();
            done
        });
        let stopped = loop {
            tokio::select! {
                biased;
                () = stopped(self.stopping.clone()) => break true,
                message = messages.recv() => match message {
                    Some(message) => self.send(&message).await?,
                    None => break false,
                },
                () = self.ticked(&mut ticks) => self.send_progress(&progress).await?,
            }
        };
        drop(messages);
        if stopped {
            drop(cancel);
        }
        let internal = |panicked| Err(Error::new(ErrorKind::Io, "internal error").with_source(panicked));
        match work.await.unwrap_or_else(internal) {
            // What was in the queue is lost, also if the work ended well.
            Ok(_) if stopped => Err(status(stopping())),
            Err(error) if stopped && error.kind() == ErrorKind::Cancelled => Err(status(stopping())),
            Err(error) => Err(status(error)),
            Ok(Some(last)) => self.send(&last).await,
            Ok(None) => Ok(()),
        }
    }

    async fn ticked(&self, ticks: &mut Interval) {
        match self.tick {
            Some(_) => drop(ticks.tick().await),
            None => std::future::pending().await,
        }
    }

    async fn send_progress(&self, progress: &Progress) -> ttrpc::Result<()> {
        match self.tick {
            Some(message) => self.send(&message(progress)).await,
            None => Ok(()),
        }
    }

    /// Sends one message, unless the daemon stops or the client does not read.
    async fn send(&self, message: &M) -> ttrpc::Result<()> {
        tokio::select! {
            biased;
            sent = self.to.send(message) => sent,
            () = stopped(self.stopping.clone()) => Err(status(stopping())),
            () = tokio::time::sleep(self.patience) => {
                log::warn!("a client read nothing for {:?}: its request is cancelled", self.patience);
                Err(status(Error::new(ErrorKind::Cancelled, "the client does not read")))
            }
        }
    }
}

/// Ready once the daemon stops.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the server with it.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "the daemon is stopping")
}
