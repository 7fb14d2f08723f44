// SPDX-License-Identifier: Apache-2.0
//! `continuity image repair`.

use anyhow::Result;
use clap::Args;

use super::LayerOptions;
use super::show::{layer_json, line};
use crate::cli::cancel::cancellable;
use crate::cli::verify::Format;
use crate::cli::{Global, Outcome};
use crate::error::{self, Escaped};
use crate::image::{RepairEvent, RepairOptions, Selection};
use crate::manifest::text::lossy;

/// Arguments of `image repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Reference of the image
    image: String,
    /// Only what this snapshotter has unpacked; without, every one that has the image
    #[arg(long, value_name = "NAME")]
    snapshotter: Option<String>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Repair also what a running container uses
    #[arg(long)]
    force: bool,
    /// Form of the changes
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

/// Runs `image repair`.
pub fn run(global: &Global, args: &RepairArgs) -> Result<Outcome> {
    let images = args.layers.connect(global)?;
    let selection = Selection { snapshotter: args.snapshotter.clone(), platform: None };
    let options = RepairOptions { dry_run: args.dry_run, force: args.force };
    let report = cancellable(global, |progress| {
        Ok(images.repair(&args.image, &selection, &options, progress, &mut |event| show(&event, args.format))?)
    })?;
    let left = if args.dry_run { report.changes } else { report.left };
    Ok(Outcome::of_findings(left))
}

fn show(event: &RepairEvent, format: Format) -> error::Result<()> {
    match (format, event) {
        (Format::Text, RepairEvent::Begin { image, snapshotter }) => {
            line(format_args!("{} in {}:", Escaped(image.as_bytes()), Escaped(snapshotter.as_bytes())))
        }
        (Format::Text, RepairEvent::Change { layer, action, quarantined }) => match quarantined {
            Some(place) => line(format_args!("{action}, kept as {} ({layer})", Escaped::path(place))),
            None => line(format_args!("{action} ({layer})")),
        },
        (Format::Text, RepairEvent::End { changes, left }) => match left {
            None => line(format_args!("{changes} changes planned, nothing done")),
            Some(0) => line(format_args!("{changes} changes; verified: intact")),
            Some(left) => line(format_args!("{changes} changes; verified: still damaged, {left} left")),
        },
        (Format::Json, RepairEvent::Begin { image, snapshotter }) => {
            line(serde_json::json!({ "image": image, "snapshotter": snapshotter }))
        }
        (Format::Json, RepairEvent::Change { layer, action, quarantined }) => line(serde_json::json!({
            "path": lossy(action.path()),
            "change": action.to_string(),
            "layer": layer_json(layer),
            "quarantined": quarantined.as_ref().map(|place| place.to_string_lossy()),
        })),
        (Format::Json, RepairEvent::End { changes, left }) => {
            line(serde_json::json!({ "changes": changes, "left": left }))
        }
    }
}
