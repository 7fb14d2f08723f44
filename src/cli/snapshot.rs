// SPDX-License-Identifier: Apache-2.0
//! `continuity snapshot ls|verify|manifest`.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::cancel::cancellable;
use super::image::{Events, LayerOptions};
use super::table::{cell, table};
use super::verify::{Format, json_of};
use super::{Global, Outcome, progress, remote};
use crate::api::continuity::finding;
use crate::api::continuity::proto::continuity::{self as pb, read_manifest_request, verify_event};
use crate::error::Escaped;
use crate::ops::Finding;
use crate::snapshotter::time;

/// Columns of the table.
const COLUMNS: [&str; 6] = ["KEY", "PARENT", "KIND", "STATE", "SOURCE", "VERIFIED-AT"];

/// Arguments of `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the daemon's snapshots and what is known about them
    Ls(LsArgs),
    /// Hold every layer beneath a snapshot against its seal
    Verify(VerifyArgs),
    /// Write the layer manifest that a snapshot is sealed with
    Manifest(ManifestArgs),
}

#[derive(Debug, Args)]
struct LsArgs {
    /// containerd's filters, such as kind==committed; a snapshot that matches any is listed
    filters: Vec<String>,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Key of the snapshot, or the name it has in the namespace
    key: String,
    /// Hold it against its image, in this snapshotter of containerd's; without, against its seal, by the daemon
    #[arg(long, value_name = "NAME")]
    snapshotter: Option<String>,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Debug, Args)]
struct ManifestArgs {
    /// Key of the snapshot, or the name it has in the namespace
    key: String,
}

/// Runs `snapshot`.
pub fn run(global: &Global, args: &SnapshotArgs) -> Result<Outcome> {
    match &args.command {
        Command::Ls(args) => ls(global, args),
        Command::Verify(args) => verify(global, args),
        Command::Manifest(args) => manifest(global, args),
    }
}

fn ls(global: &Global, args: &LsArgs) -> Result<Outcome> {
    let request = pb::ListSnapshotsRequest { filters: args.filters.clone(), ..Default::default() };
    let snapshots = remote::talk(global, |client| async move {
        let mut stream = client.list_snapshots(remote::whenever(), &request).await.map_err(remote::said)?;
        let mut snapshots = Vec::new();
        while let Some(snapshot) = stream.recv().await.map_err(remote::said)? {
            snapshots.push(snapshot);
        }
        Ok(snapshots)
    })?;
    let text = match args.format {
        Format::Text => table(COLUMNS, snapshots.iter().map(row)),
        Format::Json => snapshots.iter().map(|snapshot| format!("{}\n", snapshot_json(snapshot))).collect(),
    };
    io::stdout().lock().write_all(text.as_bytes()).context("write to standard output")?;
    Ok(Outcome::Intact)
}

fn row(snapshot: &pb::SnapshotInfo) -> [String; COLUMNS.len()] {
    [
        cell(&snapshot.key),
        cell(&snapshot.parent),
        cell(&snapshot.kind),
        cell(&snapshot.state),
        cell(&snapshot.source),
        cell(&verified_at(snapshot).unwrap_or_default()),
    ]
}

fn verified_at(snapshot: &pb::SnapshotInfo) -> Option<String> {
    (snapshot.verified_at != 0).then(|| time::rfc3339(snapshot.verified_at))
}

fn snapshot_json(snapshot: &pb::SnapshotInfo) -> serde_json::Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "key": snapshot.key,
        "parent": some(&snapshot.parent),
        "kind": snapshot.kind,
        "created_at": time::rfc3339(snapshot.created_at),
        "updated_at": time::rfc3339(snapshot.updated_at),
        "labels": snapshot.labels,
        "label_count": snapshot.label_count,
        "state": some(&snapshot.state),
        "manifest": some(&snapshot.manifest),
        "source": some(&snapshot.source),
        "verified_at": verified_at(snapshot),
        "size": snapshot.size,
        "inodes": snapshot.inodes,
        "id": snapshot.id,
    })
}

/// The check against the image that explains the snapshot.
fn verify_by_image(global: &Global, args: &VerifyArgs, snapshotter: &str) -> Result<Outcome> {
    let images = args.layers.connect(global)?;
    let began = Instant::now();
    let mut events = Events::new(args.format);
    let report = cancellable(global, |progress| {
        Ok(images.verify_snapshot(snapshotter, &args.key, progress, &mut |event| events.show(event))?)
    })?;
    progress::summary(global, report.entries, report.bytes, began, Some(report.findings));
    Ok(Outcome::of_findings(report.findings))
}

fn verify(global: &Global, args: &VerifyArgs) -> Result<Outcome> {
    if let Some(snapshotter) = &args.snapshotter {
        return verify_by_image(global, args, snapshotter);
    }
    let began = Instant::now();
    let request = pb::VerifySnapshotRequest {
        key: args.key.clone(),
        threads: u32::try_from(args.layers.threads).unwrap_or(u32::MAX),
        namespace: global.namespace.clone(),
        ..Default::default()
    };
    let summary = progress::shown(global, |shown| {
        remote::talk(global, |client| async move {
            let mut events = client.verify_snapshot(remote::whenever(), &request).await.map_err(remote::said)?;
            let mut layer = String::new();
            while let Some(event) = events.recv().await.map_err(remote::said)? {
                match event.event {
                    Some(verify_event::Event::Progress(now)) => remote::show(shown, &now),
                    Some(verify_event::Event::Snapshot(key)) => layer = key,
                    Some(verify_event::Event::Finding(wire)) => {
                        let Some(finding) = finding(wire) else {
                            bail!("the daemon found what this version has no name for")
                        };
                        print(&finding, &layer, args.format)?;
                    }
                    Some(verify_event::Event::Summary(summary)) => return Ok(summary),
                    None => {}
                }
            }
            bail!(remote::cut_short())
        })
    })?;
    progress::summary(global, summary.entries, summary.bytes, began, Some(summary.findings));
    Ok(Outcome::of_findings(summary.findings))
}

/// A finding as `verify` prints it, and the layer it is in.
fn print(finding: &Finding, layer: &str, format: Format) -> Result<()> {
    let line: Box<dyn Display> = match format {
        Format::Text => Box::new(format!("{finding} (layer {})", Escaped(layer.as_bytes()))),
        Format::Json => {
            let mut object = json_of(finding);
            object["snapshot"] = layer.into();
            Box::new(object)
        }
    };
    writeln!(io::stdout().lock(), "{line}").context("write to standard output")
}

fn manifest(global: &Global, args: &ManifestArgs) -> Result<Outcome> {
    if io::stdout().is_terminal() {
        bail!("not writing a binary manifest to a terminal: redirect it, or pipe it into `continuity ls -`");
    }
    let name = read_manifest_request::Manifest::Snapshot(args.key.clone());
    let request =
        pb::ReadManifestRequest { manifest: Some(name), namespace: global.namespace.clone(), ..Default::default() };
    remote::talk(global, |client| async move {
        let mut chunks = client.read_manifest(remote::whenever(), &request).await.map_err(remote::said)?;
        let mut out = BufWriter::new(io::stdout().lock());
        while let Some(chunk) = chunks.recv().await.map_err(remote::said)? {
            out.write_all(&chunk.data).context("write to standard output")?;
        }
        out.flush().context("write to standard output")
    })?;
    Ok(Outcome::Intact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_has_no_empty_cell() {
        let one = pb::SnapshotInfo {
            key: "default/1/a b\n".into(),
            kind: "committed".into(),
            state: "verified".into(),
            source: "disk".into(),
            verified_at: 1_000_000_000,
            ..Default::default()
        };
        let two = pb::SnapshotInfo {
            key: "k".into(),
            parent: "default/1/a b\n".into(),
            kind: "active".into(),
            ..Default::default()
        };
        assert_eq!(
            table(COLUMNS, [&one, &two].into_iter().map(row)),
            "KEY              PARENT           KIND       STATE     SOURCE  VERIFIED-AT\n\
             default/1/a b\\n  -                committed  verified  disk    1970-01-01T00:00:01Z\n\
             k                default/1/a b\\n  active     -         -       -\n"
        );
    }
}
