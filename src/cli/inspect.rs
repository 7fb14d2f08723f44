// SPDX-License-Identifier: Apache-2.0
//! `continuity ls`, `continuity stats` and `continuity dump`.

use std::io::{self, BufWriter, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::io::{Expectation, ReadSeek, open, open_seekable, warn_empty};
use super::{Global, Outcome};
use crate::ops;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Manifest; "-" for standard input
    manifest: PathBuf,
    #[command(flatten)]
    expected: Expectation,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Manifest; "-" for standard input
    manifest: PathBuf,
    #[command(flatten)]
    expected: Expectation,
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
    #[command(flatten)]
    expected: Expectation,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = DumpFormat::Text)]
    format: DumpFormat,
}

/// Runs `ls`.
pub fn ls(global: &Global, args: &LsArgs) -> Result<Outcome> {
    let manifest = open_shown(global, &args.manifest, &args.expected)?;
    ops::list(manifest, &mut BufWriter::new(io::stdout().lock()))?;
    Ok(Outcome::Intact)
}

/// Runs `stats`.
pub fn stats(global: &Global, args: &StatsArgs) -> Result<Outcome> {
    let stats = ops::stats(open(&args.manifest, args.expected.digest.as_ref())?.0)?;
    if stats.resources == 0 {
        warn_empty(global, &args.manifest);
    }
    write!(io::stdout().lock(), "{stats}").context("write to standard output")?;
    Ok(Outcome::Intact)
}

/// Runs `dump`. An invalid manifest prints nothing: it is read to the end before.
pub fn dump(global: &Global, args: &DumpArgs) -> Result<Outcome> {
    let mut manifest = open_shown(global, &args.manifest, &args.expected)?;
    ops::stats(&mut manifest)?;
    manifest.seek(SeekFrom::Start(0)).context("reading the manifest again")?;
    let mut out = BufWriter::new(io::stdout().lock());
    match args.format {
        DumpFormat::Text => ops::dump_text(manifest, &mut out)?,
        DumpFormat::Json => ops::dump_json(manifest, &mut out)?,
    }
    Ok(Outcome::Intact)
}

/// Opens a manifest that is shown, whatever it holds; that it holds nothing is said.
fn open_shown(global: &Global, path: &Path, expected: &Expectation) -> Result<Box<dyn ReadSeek>> {
    let mut manifest = open_seekable(path, expected.digest.as_ref())?;
    if manifest.seek(SeekFrom::End(0)).context("reading the manifest")? == 0 {
        warn_empty(global, path);
    }
    manifest.seek(SeekFrom::Start(0)).context("reading the manifest")?;
    Ok(manifest)
}
