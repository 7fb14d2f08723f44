// SPDX-License-Identifier: Apache-2.0
//! `continuity image repair`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::show::{layer_json, line, subject};
use super::{Global, LayerOptions, Outcome, SelectionOptions, cancellable};
use crate::cli::verify::{Format, json_of};
use crate::config::DEFAULT_ROOT;
use crate::containerd::Platform;
use crate::error::Escaped;
use crate::image::{LayerRef, RepairEvent, RepairOptions, RepairReport};

/// Arguments of `image repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Reference of the image
    image: String,
    #[command(flatten)]
    selected: SelectionOptions,
    /// Print what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Repair also what is in use; what users see of the change is undefined
    #[arg(long)]
    force: bool,
    /// Directory for contents on their way, and for what is removed (quarantine/)
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    root: PathBuf,
    /// Form of what is told
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

/// Runs `image repair`.
pub fn run(global: &Global, args: &RepairArgs) -> Result<Outcome> {
    let selection = args.selected.selection();
    let options = RepairOptions { root: args.root.clone(), dry_run: args.dry_run, force: args.force };
    let images = args.layers.connect(global)?;
    let mut events = Events {
        format: args.format,
        dry_run: args.dry_run,
        image: String::new(),
        snapshotter: String::new(),
        platform: None,
    };
    let report = cancellable(global, |progress| {
        Ok(images.repair(&args.image, &selection, &options, progress, &mut |event| events.show(event))?)
    })?;
    // What a dry run would change differs now.
    let differences = if args.dry_run { report.changes + report.left } else { report.left };
    Ok(Outcome::of_findings(differences))
}

/// Shows events as they come.
struct Events {
    format: Format,
    dry_run: bool,
    image: String,
    snapshotter: String,
    platform: Option<Platform>,
}

impl Events {
    fn show(&mut self, event: RepairEvent) -> crate::error::Result<()> {
        match event {
            RepairEvent::Begin { image, snapshotter, platform } => {
                (self.image, self.snapshotter, self.platform) = (image, snapshotter, platform);
                Ok(())
            }
            RepairEvent::Change { layer, action, kept } => match self.format {
                Format::Text => {
                    let kept = kept.map_or_else(String::new, |kept| format!(", kept as {}", Escaped::path(&kept)));
                    line(format_args!("{action}{}{kept}", in_layer(layer.as_ref())))
                }
                Format::Json => line(self.object(&json!({
                    "action": action.name(),
                    "path": crate::manifest::text::lossy(action.path()),
                    "layer": layer.as_ref().map(layer_json),
                    "kept": kept.map(|kept| kept.to_string_lossy().into_owned()),
                }))),
            },
            RepairEvent::Left(found) => match self.format {
                Format::Text => line(format_args!("left: {}{}", found.finding, in_layer(found.layer.as_ref()))),
                Format::Json => {
                    let mut object = json_of(&found.finding);
                    object["layer"] = found.layer.as_ref().map(layer_json).into();
                    line(self.object(&object))
                }
            },
            RepairEvent::End(report) => self.end(report),
            RepairEvent::Failed(error) => match self.format {
                Format::Text => line(format_args!("{}: could not be repaired: {error}", self.subject())),
                Format::Json => line(self.object(&json!({ "verdict": "unrepaired", "error": error.to_string() }))),
            },
        }
    }

    fn end(&self, RepairReport { changes, left }: RepairReport) -> crate::error::Result<()> {
        let verdict = match (self.dry_run, changes, left) {
            (_, 0, 0) => "intact",
            (true, ..) => "damaged",
            (false, _, 0) => "repaired",
            (false, ..) => "damaged",
        };
        match self.format {
            Format::Text => {
                let what = if self.dry_run { "changes planned" } else { "changes made" };
                line(format_args!("{}: {verdict}, {changes} {what}, {left} findings left", self.subject()))
            }
            Format::Json => line(self.object(&json!({ "verdict": verdict, "changes": changes, "left": left }))),
        }
    }

    fn subject(&self) -> String {
        subject(&self.image, &self.snapshotter, self.platform.as_ref())
    }

    /// What is told, with whose it is.
    fn object(&self, told: &Value) -> Value {
        let mut object = told.clone();
        object["image"] = self.image.as_str().into();
        object["snapshotter"] = self.snapshotter.as_str().into();
        object["platform"] = self.platform.as_ref().map(Platform::to_string).into();
        object
    }
}

fn in_layer(layer: Option<&LayerRef>) -> String {
    layer.map_or_else(String::new, |layer| format!(" ({layer})"))
}
