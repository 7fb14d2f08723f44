// SPDX-License-Identifier: Apache-2.0
//! `continuity verify` and `continuity diff`: findings, one a line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::io::{Expectation, open, open_with_resources, warn_empty};
use super::{Global, Outcome, progress};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::has_resources;
use crate::manifest::text::lossy;
use crate::ops::{self, Finding, VerifyOptions};
use crate::tree::Root;

/// Forms of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line each, path first
    Text,
    /// A JSON object each
    Json,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Directory to check
    root: PathBuf,
    /// Manifest to hold it against; "-" for standard input
    manifest: PathBuf,
    #[command(flatten)]
    expected: Expectation,
    /// Take a manifest without resources, as of an empty directory
    #[arg(long)]
    allow_empty: bool,
    /// Ignore paths and xattrs that the manifest lacks
    #[arg(long)]
    subset: bool,
    /// Hashing threads; 0 for the cores, at most four
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// What is expected; "-" for standard input
    first: PathBuf,
    /// What is found; "-" for standard input
    second: PathBuf,
    /// Digest that FIRST must have (sha256:<64 hex digits>), checked before anything is compared
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Digest>,
    /// Digest that SECOND must have
    #[arg(long, value_name = "DIGEST")]
    second_digest: Option<Digest>,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs `verify`.
pub fn run(global: &Global, args: &VerifyArgs) -> Result<Outcome> {
    let began = Instant::now();
    let root = Root::open(&args.root)?;
    let (manifest, id) = open_with_resources(&args.manifest, args.expected.digest.as_ref(), args.allow_empty)?;
    let options = VerifyOptions { subset: args.subset, threads: args.threads, skip: id.into_iter().collect() };
    let report = progress::shown(global, |progress| {
        ops::verify(&root, manifest, &options, progress, &mut |finding| print(&finding, args.format))
    })?;
    progress::summary(global, report.entries, report.bytes, began, Some(report.findings));
    Ok(Outcome::of_findings(report.findings))
}

/// Runs `diff`.
pub fn diff(global: &Global, args: &DiffArgs) -> Result<Outcome> {
    if args.first == args.second && args.first.as_os_str() == "-" {
        bail!("only one of the manifests can come from standard input");
    }
    let began = Instant::now();
    let (first, _) = open(&args.first, args.digest.as_ref())?;
    let (second, _) = open(&args.second, args.second_digest.as_ref())?;
    let (first, second) = (has_resources(first)?, has_resources(second)?);
    for (path, _) in [(&args.first, first.0), (&args.second, second.0)].iter().filter(|(_, has)| !has) {
        warn_empty(global, path);
    }
    let (first, second) = (first.1, second.1);
    let report = ops::diff(first, second, &mut |finding| print(&finding, args.format))?;
    progress::summary(global, report.entries, 0, began, Some(report.findings));
    Ok(Outcome::of_findings(report.findings))
}

/// Prints a finding to standard output.
pub fn print(finding: &Finding, format: Format) -> crate::error::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => writeln!(out, "{finding}"),
        Format::Json => writeln!(out, "{}", json_of(finding)),
    }
    .map_err(|e| Error::new(ErrorKind::Io, "write to standard output").with_source(e))
}

/// A finding as a JSON object. A path that is not UTF-8 stands twice: readable, and exactly in `path_bytes` (base64).
pub fn json_of(finding: &Finding) -> serde_json::Value {
    let mut object = json!({
        "path": lossy(&finding.path),
        "kind": finding.kind.name(),
        "expected": finding.expected,
        "found": finding.found,
    });
    if std::str::from_utf8(&finding.path).is_err() {
        object["path_bytes"] = STANDARD.encode(&finding.path).into();
    }
    if !finding.xattr.is_empty() {
        object["xattr"] = lossy(&finding.xattr).into();
    }
    object
}
