// SPDX-License-Identifier: Apache-2.0
//! `continuity apply`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::io::{Expectation, open_with_resources};
use super::verify::{Format, print};
use super::{Global, Outcome, progress};
use crate::ops::{self, ApplyOptions, PerformOptions, Performed, Source};
use crate::tree::Root;

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Directory to change
    root: PathBuf,
    /// Manifest that says what it is to be; "-" for standard input
    manifest: PathBuf,
    /// Directory that holds the files' contents, under the same paths
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Print what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove paths and xattrs that the manifest lacks
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    expected: Expectation,
    /// Take a manifest without resources: with --prune, it removes everything
    #[arg(long)]
    allow_empty: bool,
}

/// Runs `apply`.
pub fn run(global: &Global, args: &ApplyArgs) -> Result<Outcome> {
    let began = Instant::now();
    let root = Root::open(&args.root)?;
    let source = args.source.as_deref().map(Root::open).transpose()?;
    let (manifest, id) = open_with_resources(&args.manifest, args.expected.digest.as_ref(), args.allow_empty)?;
    if args.prune
        && let Some(source) = &args.source
        && source.canonicalize()?.starts_with(args.root.canonicalize()?)
    {
        bail!("--source lies in the directory that --prune would clear: keep it outside");
    }
    let skip = id.into_iter().collect();
    let options = ApplyOptions { source: source.is_some(), prune: args.prune, skip, ..ApplyOptions::default() };
    let plan = progress::shown(global, |progress| ops::plan(&root, manifest, &options, progress))?;
    if args.dry_run {
        let mut out = io::stdout().lock();
        for action in &plan.actions {
            writeln!(out, "{action}").context("write to standard output")?;
        }
    }
    let mut unresolved = plan.unresolved.len() as u64;
    for finding in &plan.unresolved {
        print(finding, Format::Text)?;
    }
    if args.dry_run {
        return Ok(Outcome::of_findings(plan.actions.len() as u64 + unresolved));
    }
    let options = PerformOptions { source: source.as_ref().map(|root| root as &dyn Source), ..Default::default() };
    let report = progress::shown(global, |progress| {
        plan.perform(&root, &options, progress, &mut |performed| match performed {
            Performed::Done { .. } => Ok(()),
            Performed::Unresolved(finding) => print(&finding, Format::Text),
        })
    })?;
    unresolved += report.unresolved;
    progress::summary(global, plan.entries, plan.bytes, began, Some(unresolved));
    if !global.quiet {
        say!("{} changes made, {unresolved} differences left", report.done);
    }
    Ok(Outcome::of_findings(unresolved))
}
