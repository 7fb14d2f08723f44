// SPDX-License-Identifier: Apache-2.0
//! `continuity build`.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::io::Output;
use super::remote::{BuildMounts, build_mounts};
use super::{Global, Outcome, progress};
use crate::ops::{self, BuildOptions};
use crate::tree::Root;

/// Bytes of the manifest kept in memory before it is printed in another form than its own.
const SPOOL_MEMORY: usize = 1 << 20;

/// Forms of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ManifestFormat {
    /// Protobuf: the manifest itself
    Pb,
    /// One JSON document
    Json,
    /// Protobuf text
    Text,
}

/// Arguments of `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Directory to record
    #[arg(required_unless_present = "mounts")]
    root: Option<PathBuf>,
    /// File to write; "-" or nothing for standard output. It is left out of the manifest
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Hashing threads; 0 for the cores, at most four
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Record the directory itself as "/"
    #[arg(long)]
    include_root: bool,
    /// Fail on sockets and on names that are not UTF-8
    #[arg(long)]
    strict: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = ManifestFormat::Pb)]
    format: ManifestFormat,
    /// Ask the daemon to mount these and record what they show ("-" for standard input)
    #[arg(long, value_name = "FILE.json", conflicts_with = "root")]
    mounts: Option<PathBuf>,
}

/// Runs `build`.
pub fn run(global: &Global, args: &BuildArgs) -> Result<Outcome> {
    if let Some(mounts) = &args.mounts {
        return run_mounts(global, args, mounts);
    }
    let began = Instant::now();
    let root = args.root.as_deref().context("a directory to record is needed")?;
    let root = Root::open(root)?;
    let mut output = Output::create(args.output.as_deref(), args.format == ManifestFormat::Pb)?;
    let options = BuildOptions {
        threads: args.threads,
        include_root: args.include_root,
        strict: args.strict,
        skip: output.inodes(),
        without_hosts: false,
    };
    let report = in_format(args.format, &mut output, |out| {
        progress::shown(global, |progress| {
            let mut warn = |warning: String| {
                if !global.quiet {
                    say!("continuity: warning: {warning}");
                }
            };
            ops::build(&root, &options, progress, out, &mut warn)
        })
        .map_err(Into::into)
    })?;
    output.finish()?;
    progress::summary(global, report.entries, report.bytes, began, None);
    Ok(Outcome::Intact)
}

/// The same for what the daemon is to mount.
fn run_mounts(global: &Global, args: &BuildArgs, file: &Path) -> Result<Outcome> {
    let what = BuildMounts { file, threads: args.threads, include_root: args.include_root, strict: args.strict };
    let mut output = Output::create(args.output.as_deref(), args.format == ManifestFormat::Pb)?;
    let outcome = in_format(args.format, &mut output, |out| build_mounts(global, what, out))?;
    output.finish()?;
    Ok(outcome)
}

/// Lets `write` write protobuf, and gives `output` the form that was asked for.
pub fn in_format<T>(
    format: ManifestFormat,
    output: &mut Output,
    write: impl FnOnce(&mut dyn Write) -> Result<T>,
) -> Result<T> {
    if format == ManifestFormat::Pb {
        return write(output);
    }
    let mut spool = tempfile::spooled_tempfile(SPOOL_MEMORY);
    let written = write(&mut spool)?;
    spool.seek(SeekFrom::Start(0)).context("spooling the manifest")?;
    match format {
        ManifestFormat::Json => ops::dump_json(spool, output)?,
        _ => ops::dump_text(spool, output)?,
    }
    Ok(written)
}
