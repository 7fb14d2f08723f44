// SPDX-License-Identifier: Apache-2.0
//! `continuity image manifest|verify|repair|where|ls`.

mod repair;
mod show;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::build::{ManifestFormat, in_format};
use super::cancel::cancellable;
use super::io::Output;
use super::table::{NONE, cell, table};
use super::verify::Format;
use super::{Global, Outcome, progress};
use crate::containerd::Platform;
use crate::error::Escaped;
use crate::image::{ImageInfo, ImageSettings, Images, Selection, Verdict, Which};
use crate::layer::Limits;
use crate::manifest::text::si_size;
use repair::RepairArgs;
pub use show::{Events, line, resource_json, resource_text};

/// Columns of the list.
const COLUMNS: [&str; 8] = ["IMAGE", "PLATFORM", "LAYERS", "ENTRIES", "SIZE", "SNAPSHOTTER", "VERDICT", "VERIFIED-AT"];

/// Arguments of `image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Derive the manifest of an image from its layers; nothing is unpacked
    Manifest(ManifestArgs),
    /// Compare what is unpacked with the image
    Verify(VerifyArgs),
    /// Mend what is unpacked from the image's layers, in place, and verify again
    Repair(RepairArgs),
    /// Tell which layers touched a path
    Where(WhereArgs),
    /// List the images and the last verdict on each
    Ls(LsArgs),
}

/// Options of everything that reads layers.
#[derive(Debug, Clone, Args)]
pub struct LayerOptions {
    /// Most entries of an image's layers
    #[arg(long, value_name = "N", default_value_t = Limits::default().entries)]
    max_entries: u64,
    /// Most bytes of one layer, uncompressed
    #[arg(long, value_name = "N", default_value_t = Limits::default().bytes)]
    max_bytes: u64,
    /// Most bytes of a zstd window, up to 512 MiB; 0 for half of the memory
    #[arg(long, value_name = "N", default_value_t = Limits::default().window)]
    max_window: u64,
    /// Hashing threads; 0 for the cores, at most four
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

impl LayerOptions {
    /// Connects to containerd.
    pub fn connect(&self, global: &Global) -> Result<Images> {
        Ok(Images::connect(ImageSettings {
            address: global.containerd_address.clone(),
            namespace: global.namespace.clone(),
            limits: Limits { entries: self.max_entries, bytes: self.max_bytes, window: self.max_window },
            threads: self.threads,
        })?)
    }
}

/// Which of an image's snapshots are meant.
#[derive(Debug, Clone, Args)]
pub struct SelectionOptions {
    /// Only what this snapshotter has unpacked; without it, or if it is empty, every one that has the image
    #[arg(long, value_name = "NAME", env = "CONTAINERD_SNAPSHOTTER")]
    snapshotter: Option<String>,
    /// Only what is unpacked for this os/architecture[/variant]; without it, all that is unpacked
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

impl SelectionOptions {
    fn selection(&self) -> Selection {
        let snapshotter = self.snapshotter.clone().filter(|name| !name.is_empty());
        Selection { snapshotter, platform: self.platform.clone() }
    }
}

#[derive(Debug, Args)]
struct ManifestArgs {
    /// Reference of the image
    image: String,
    /// File to write; "-" or nothing for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The manifest of one layer's own directory, counted from 1, instead of the root filesystem's
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// os/architecture[/variant]; without, this machine's
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = ManifestFormat::Pb)]
    format: ManifestFormat,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Reference of the image
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    image: Option<String>,
    /// Every image of the namespace that is unpacked; it is an error if none is. Each layer is read once
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    selected: SelectionOptions,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Debug, Args)]
struct WhereArgs {
    /// Reference of the image
    image: String,
    /// Absolute path in the image
    path: OsString,
    /// os/architecture[/variant]; without, this machine's
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Debug, Args)]
struct LsArgs {
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

/// Runs `image`.
pub fn run(global: &Global, args: &ImageArgs) -> Result<Outcome> {
    match &args.command {
        Command::Manifest(args) => manifest(global, args),
        Command::Verify(args) => verify(global, args),
        Command::Repair(args) => repair::run(global, args),
        Command::Where(args) => trace(global, args),
        Command::Ls(args) => ls(global, args),
    }
}

fn manifest(global: &Global, args: &ManifestArgs) -> Result<Outcome> {
    let began = Instant::now();
    let mut output = Output::create(args.output.as_deref(), args.format == ManifestFormat::Pb)?;
    let images = args.layers.connect(global)?;
    let report = in_format(args.format, &mut output, |out| {
        cancellable(global, |progress| {
            Ok(images.manifest(&args.image, args.platform.as_ref(), args.layer, progress, out)?)
        })
    })?;
    output.finish()?;
    if !global.quiet {
        say!("{} entries, {:.2} s, {}", report.entries, began.elapsed().as_secs_f64(), report.digest);
    }
    Ok(Outcome::Intact)
}

fn verify(global: &Global, args: &VerifyArgs) -> Result<Outcome> {
    let which = match &args.image {
        Some(image) => Which::One(image.clone()),
        None => Which::All,
    };
    let selection = args.selected.selection();
    let images = args.layers.connect(global)?;
    let began = Instant::now();
    let mut events = Events::new(args.format);
    let report = cancellable(global, |progress| {
        Ok(images.verify(&which, &selection, progress, &mut |event| events.show(event))?)
    })?;
    progress::summary(global, report.entries, report.bytes, began, Some(report.findings));
    Ok(Outcome::of_findings(report.findings))
}

fn trace(global: &Global, args: &WhereArgs) -> Result<Outcome> {
    let images = args.layers.connect(global)?;
    let path = args.path.as_bytes();
    let touches =
        cancellable(global, |progress| Ok(images.trace(&args.image, args.platform.as_ref(), path, progress)?))?;
    if touches.is_empty() {
        bail!("no layer of {} has {}", Escaped(args.image.as_bytes()), Escaped(path));
    }
    let mut out = io::stdout().lock();
    for touch in &touches {
        let (touched, layer) = (touch.touched.name(), &touch.layer);
        let resource = touch.resource.as_ref();
        match args.format {
            Format::Text => match resource {
                Some(resource) => writeln!(out, "{touched} by {layer}: {}", resource_text(resource)),
                None => writeln!(out, "{touched} by {layer}"),
            },
            Format::Json => writeln!(
                out,
                "{}",
                json!({
                    "touched": touched,
                    "layer": show::layer_json(layer),
                    "resource": resource.map(resource_json),
                })
            ),
        }
        .context("write to standard output")?;
    }
    Ok(Outcome::Intact)
}

fn ls(global: &Global, args: &LsArgs) -> Result<Outcome> {
    let images = args.layers.connect(global)?.list()?;
    let text = match args.format {
        Format::Text => table(COLUMNS, images.iter().flat_map(rows)),
        Format::Json => images.iter().map(|image| format!("{}\n", image_json(image))).collect(),
    };
    io::stdout().lock().write_all(text.as_bytes()).context("write to standard output")?;
    for image in images.iter().filter(|image| !global.quiet && !image.problem.is_empty()) {
        say!("continuity: {}: {}", Escaped(image.name.as_bytes()), image.problem);
    }
    Ok(Outcome::Intact)
}

/// A row for each snapshotter that has the image, one at least.
fn rows(image: &ImageInfo) -> Vec<[String; COLUMNS.len()]> {
    let row = |verdict: Option<&Verdict>| {
        let last = verdict.and_then(|verdict| verdict.last.as_ref());
        [
            cell(&image.name),
            cell(&image.platform),
            image.layers.to_string(),
            image.entries.map_or_else(|| NONE.into(), |entries| entries.to_string()),
            si_size(image.size).replace(' ', ""),
            cell(verdict.map_or("", |verdict| &verdict.snapshotter)),
            cell(last.map_or("", |(state, ..)| state.name())),
            cell(last.map_or("", |(_, at, _)| at)),
        ]
    };
    match image.verdicts.as_slice() {
        [] => vec![row(None)],
        verdicts => verdicts.iter().map(|verdict| row(Some(verdict))).collect(),
    }
}

fn image_json(image: &ImageInfo) -> serde_json::Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let verdict = |verdict: &Verdict| {
        let last = verdict.last.as_ref();
        json!({
            "snapshotter": verdict.snapshotter,
            "verdict": last.map(|(state, ..)| state.name()),
            "verified_at": last.map(|(_, at, _)| at),
        })
    };
    json!({
        "image": image.name,
        "platform": some(&image.platform),
        "layers": image.layers,
        "entries": image.entries,
        "size": image.size,
        "unpacked": image.verdicts.iter().map(verdict).collect::<Vec<_>>(),
        "problem": some(&image.problem),
    })
}
