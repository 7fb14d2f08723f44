// SPDX-License-Identifier: Apache-2.0
//! The daemon, seen from the command line.

use std::future::Future;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::{Context, with_timeout};

use super::{Global, Outcome, mounts, progress};
use crate::api::continuity::proto::continuity::{self as pb, build_event, target};
use crate::api::continuity::proto::continuity_ttrpc::ContinuityClient;
use crate::error::Escaped;
use crate::tree::Progress;

/// How long the daemon may take over a call that has one answer, in nanoseconds.
const ANSWER_NANOS: i64 = 30_000_000_000;

/// Runs one conversation with the daemon on this thread.
pub fn talk<T, F>(global: &Global, conversation: impl FnOnce(ContinuityClient) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async { conversation(connect(&global.address)?).await })
}

fn connect(address: &Path) -> Result<ContinuityClient> {
    let stream = UnixStream::connect(address)
        .with_context(|| format!("no daemon at {}: is `continuity daemon` running?", Escaped::path(address)))?;
    let socket = Socket::try_from(stream).context("the daemon's socket")?;
    Ok(ContinuityClient::new(Client::new(socket)))
}

/// For a call that has one answer.
pub fn soon() -> Context {
    with_timeout(ANSWER_NANOS)
}

/// For a call that takes as long as it takes.
pub fn whenever() -> Context {
    Context::default()
}

/// What the daemon said, without the protocol's dressing.
pub fn said(error: ttrpc::Error) -> anyhow::Error {
    match error {
        // The message was escaped where it was made.
        ttrpc::Error::RpcStatus(status) => anyhow!("{}", status.message()),
        ttrpc::Error::Socket(_) | ttrpc::Error::RemoteClosed | ttrpc::Error::Eof => {
            anyhow!("the daemon closed the connection")
        }
        other => anyhow!("the daemon's connection: {other}"),
    }
}

/// An answer that ended before its last message.
pub fn cut_short() -> anyhow::Error {
    anyhow!("the daemon's answer ended before its summary")
}

/// Shows what the daemon says about its progress.
pub fn show(shown: &Progress, now: &pb::Progress) {
    shown.set(now.entries, now.bytes);
}

/// What `build --mounts` asks the daemon for.
#[derive(Debug, Clone, Copy)]
pub struct BuildMounts<'a> {
    /// JSON file with the mounts; `-` for standard input.
    pub file: &'a Path,
    /// Hashing threads; 0 for the daemon's default.
    pub threads: usize,
    /// Records the root as `/`.
    pub include_root: bool,
    /// Refuses what the manifest can't record.
    pub strict: bool,
}

/// Has the daemon mount what `what.file` lists, where nobody sees it, and writes the manifest of it to `out`.
pub fn build_mounts(global: &Global, what: BuildMounts<'_>, out: &mut dyn Write) -> Result<Outcome> {
    let began = Instant::now();
    let mounts = mounts::read(what.file)?;
    let request = pb::BuildRequest {
        target: protobuf::MessageField::some(pb::Target {
            target: Some(target::Target::Mounts(pb::Mounts { mounts, ..Default::default() })),
            ..Default::default()
        }),
        threads: u32::try_from(what.threads).unwrap_or(u32::MAX),
        strict: what.strict,
        include_root: what.include_root,
        ..Default::default()
    };
    let built = progress::shown(global, |shown| {
        talk(global, |client| async move {
            let mut events = client.build(whenever(), &request).await.map_err(said)?;
            while let Some(event) = events.recv().await.map_err(said)? {
                match event.event {
                    Some(build_event::Event::Progress(now)) => show(shown, &now),
                    Some(build_event::Event::Chunk(data)) => out.write_all(&data).context("write")?,
                    Some(build_event::Event::Warning(warning)) if !global.quiet => {
                        say!("continuity: warning: {warning}");
                    }
                    Some(build_event::Event::Summary(summary)) => return Ok(summary),
                    _ => {}
                }
            }
            bail!(cut_short())
        })
    })?;
    progress::summary(global, built.summary.entries, built.summary.bytes, began, None);
    Ok(Outcome::Intact)
}
