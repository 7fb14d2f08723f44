// SPDX-License-Identifier: Apache-2.0
//! The service: one engine, two sockets, until a signal.
//!
//! The root's lock is taken before a socket is touched, so a second daemon on the same root is refused while the
//! first goes on undisturbed. A stop answers the calls under way, but no connection that is silent delays it; a kill
//! leaves nothing that the next start does not repair.
//!
//! One thread serves both sockets; what blocks runs on a small pool whose threads end when they idle.

pub mod logging;
mod socket;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api::{continuity, snapshots};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::memory;
use socket::Socket;

/// Threads for what blocks: every place of both services, so that none waits for the other, and one that stops the
/// engine.
const BLOCKING_THREADS: usize = snapshots::PLACES_TO_START + snapshots::PLACES_ELSE + continuity::PLACES + 1;

/// Bytes of stack of one such thread; nothing recurses.
const STACK: usize = 512 * 1024;

/// How long such a thread outlives its work: an idle daemon should hold one thread's memory, not twenty.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// How long a stop takes at most, from the signal to the end: half the patience of systemd, `TimeoutStopSec`. Checks
/// and seals are given up at once, so only a disk that hangs makes it last.
const DRAIN: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// `FailedPrecondition`, naming root and process, if another daemon has the root, or if somebody serves one of the
/// sockets.
pub fn run(config: &Config) -> Result<()> {
    memory::share();
    raise_file_limit();
    let engine = Arc::new(Engine::open(&config.root, config.policy(), config.images())?);
    let runtime = runtime()?;
    let mut until = None;
    let served = runtime.block_on(serve(config, &engine, &mut until));
    let left = until.map_or(DRAIN, |until| until.saturating_duration_since(Instant::now()));
    // Work whose client is gone; it is as safe to give up as it is to be killed.
    runtime.shutdown_timeout(left);
    close(engine, until.map_or(DRAIN, |until| until.saturating_duration_since(Instant::now())));
    served
}

/// Ends the background work, if that was not done already, and the run cleanly, if both take no longer than `patience`:
/// they may wait for a disk. Without it the next start takes the stop for an unclean one, which costs time, or layers
/// that no image describes, but never proof.
fn close(engine: Arc<Engine>, patience: Duration) {
    let (closed, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        engine.shutdown();
        let result = engine.close();
        // The database goes with it, in order.
        drop(engine);
        closed.send(result)
    });
    let unclean = match done.recv_timeout(patience) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk did not answer within {patience:?}"),
    };
    log::warn!("no clean stop: {unclean}");
}

/// Lifts the soft limit of open files to the hard one: a deep tree, many connections and many mounts hold many.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::warn!("the limit of open files stays as it is: setrlimit: {errno}");
    }
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .thread_keep_alive(KEEP_ALIVE)
        .build()
        .map_err(|error| Error::io("epoll_create", "", error).context("starting the runtime"))
}

/// Sets `until`, when everything has to be over, at the signal.
async fn serve(config: &Config, engine: &Arc<Engine>, until: &mut Option<Instant>) -> Result<()> {
    // Before the sockets: a signal that comes right after READY must find its handler.
    let mut signals = Signals::new()?;
    let (_snapshots_socket, for_snapshots) = listen(&config.snapshots_address)?;
    let (_continuity_socket, for_continuity) = listen(&config.address)?;
    let info = continuity::Info { root: config.root.clone(), snapshots_address: config.snapshots_address.clone() };
    let (stop, stopping) = watch::channel(false);
    let servers = async {
        tokio::try_join!(
            snapshots::run(for_snapshots, Arc::clone(engine), stopped(stopping.clone())),
            continuity::run(for_continuity, Arc::clone(engine), info, stopped(stopping)),
        )
    };
    tokio::pin!(servers);
    log::info!(
        "serving {} on {} and {}",
        config.root.display(),
        config.snapshots_address.display(),
        config.address.display()
    );
    notify(sd_notify::NotifyState::Ready);
    let signal = tokio::select! {
        failed = &mut servers => return failed.map(|_| ()),
        signal = signals.next() => signal,
    };
    log::info!("{signal}: stopping");
    notify(sd_notify::NotifyState::Stopping);
    let deadline = *until.insert(Instant::now() + DRAIN);
    stop.send_replace(true);
    // First of all, because calls wait for its checks. It waits for threads itself.
    let stopping = Arc::clone(engine);
    tokio::task::spawn_blocking(move || stopping.shutdown());
    match tokio::time::timeout_at(deadline.into(), servers).await {
        Ok(served) => served.map(|_| ()),
        Err(_) => {
            log::warn!("calls were still under way after {DRAIN:?}: given up");
            Ok(())
        }
    }
}

fn listen(path: &Path) -> Result<(Socket, UnixListener)> {
    let (socket, listener) = Socket::bind(path)?;
    let listener = UnixListener::from_std(listener).map_err(|error| Error::io("epoll_ctl", path, error))?;
    Ok((socket, listener))
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the daemon with it.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Tells systemd, if it asked to be told.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("sd_notify: {error}");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(ErrorKind::Io, "sigaction").with_source(error);
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
