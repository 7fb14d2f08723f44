// SPDX-License-Identifier: Apache-2.0
//! `continuity container diff`.

use std::time::Instant;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::cancel::cancellable;
use super::image::{LayerOptions, line, resource_json, resource_text};
use super::verify::{Format, json_of};
use super::{Global, Outcome, progress};
use crate::error::{self, Escaped};
use crate::image::Change;
use crate::manifest::text::lossy;

/// Arguments of `container`.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what a container changed against its image
    Diff(DiffArgs),
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// Id of the container, running or not
    id: String,
    /// Form of the changes
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

/// Runs `container`.
pub fn run(global: &Global, args: &ContainerArgs) -> Result<Outcome> {
    let Command::Diff(args) = &args.command;
    let images = args.layers.connect(global)?;
    let began = Instant::now();
    let report = cancellable(global, |progress| {
        Ok(images.container_diff(&args.id, progress, &mut |change| show(&change, args.format))?)
    })?;
    progress::summary(global, report.entries, report.bytes, began, Some(report.changes));
    Ok(Outcome::of_findings(report.changes))
}

fn show(change: &Change, format: Format) -> error::Result<()> {
    let kind = change.kind.name();
    if format == Format::Json {
        return line(json!({
            "change": kind,
            "path": lossy(&change.path),
            "image": change.image.as_ref().map(resource_json),
            "container": change.container.as_ref().map(resource_json),
            "differences": change.differences.iter().map(json_of).collect::<Vec<_>>(),
        }));
    }
    let path = Escaped(&change.path);
    match (&change.image, &change.container) {
        (Some(image), Some(container)) => {
            line(format_args!("{kind} {path}: {} -> {}", resource_text(image), resource_text(container)))
        }
        (one, other) => {
            let resource = one.as_ref().or(other.as_ref()).map(resource_text).unwrap_or_default();
            line(format_args!("{kind} {path}: {resource}"))
        }
    }
}
