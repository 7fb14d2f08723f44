// SPDX-License-Identifier: Apache-2.0
//! `continuity ls`, `continuity stats` and `continuity dump`.

use std::io::{self, BufWriter, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::Outcome;
use super::io::{open, open_seekable};
use crate::ops;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Manifest; "-" for standard input
    manifest: PathBuf,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Manifest; "-" for standard input
    manifest: PathBuf,
}

/// Forms of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DumpFormat {
    /// Protobuf text
    Text,
    /// One JSON document
    Json,
}

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Manifest; "-" or nothing for standard input
    #[arg(default_value = "-")]
    manifest: PathBuf,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = DumpFormat::Text)]
    format: DumpFormat,
}

/// Runs `ls`.
pub fn ls(args: &LsArgs) -> Result<Outcome> {
    ops::list(open_seekable(&args.manifest)?, &mut BufWriter::new(io::stdout().lock()))?;
    Ok(Outcome::Intact)
}

/// Runs `stats`.
pub fn stats(args: &StatsArgs) -> Result<Outcome> {
    let stats = ops::stats(open(&args.manifest)?.0)?;
    use io::Write;
    write!(io::stdout().lock(), "{stats}").context("write to standard output")?;
    Ok(Outcome::Intact)
}

/// Runs `dump`. An invalid manifest prints nothing: it is read to the end before.
pub fn dump(args: &DumpArgs) -> Result<Outcome> {
    let mut manifest = open_seekable(&args.manifest)?;
    ops::stats(&mut manifest)?;
    manifest.seek(SeekFrom::Start(0)).context("reading the manifest again")?;
    let mut out = BufWriter::new(io::stdout().lock());
    match args.format {
        DumpFormat::Text => ops::dump_text(manifest, &mut out)?,
        DumpFormat::Json => ops::dump_json(manifest, &mut out)?,
    }
    Ok(Outcome::Intact)
}
