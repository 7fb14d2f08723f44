// SPDX-License-Identifier: Apache-2.0
//! `continuity snapshot ls|verify|manifest`.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::verify::{Format, json_of};
use super::{Global, Outcome, progress, remote};
use crate::api::continuity::finding;
use crate::api::continuity::proto::continuity::{self as pb, read_manifest_request, verify_event};
use crate::error::Escaped;
use crate::ops::Finding;
use crate::snapshotter::time;

/// Columns of the table.
const COLUMNS: [&str; 6] = ["KEY", "PARENT", "KIND", "STATE", "SOURCE", "VERIFIED-AT"];

/// Stands for what a snapshot does not have, so that every line has as many words as the first.
const NONE: &str = "-";

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
    /// Hashing threads; 0 for what the daemon is configured to use
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: u32,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
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
        Format::Text => table(&snapshots),
        Format::Json => snapshots.iter().map(|snapshot| format!("{}\n", snapshot_json(snapshot))).collect(),
    };
    io::stdout().lock().write_all(text.as_bytes()).context("write to standard output")?;
    Ok(Outcome::Intact)
}

/// One line a snapshot, columns aligned.
fn table(snapshots: &[pb::SnapshotInfo]) -> String {
    let or_none = |text: &str| if text.is_empty() { NONE.to_owned() } else { Escaped(text.as_bytes()).to_string() };
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(snapshots.iter().map(|snapshot| {
        [
            or_none(&snapshot.key),
            or_none(&snapshot.parent),
            or_none(&snapshot.kind),
            or_none(&snapshot.state),
            or_none(&snapshot.source),
            verified_at(snapshot).unwrap_or_else(|| NONE.into()),
        ]
    }));
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; COLUMNS.len()]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
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

fn verify(global: &Global, args: &VerifyArgs) -> Result<Outcome> {
    let began = Instant::now();
    let request = pb::VerifySnapshotRequest {
        key: args.key.clone(),
        threads: args.threads,
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
            table(&[one, two]),
            "KEY              PARENT           KIND       STATE     SOURCE  VERIFIED-AT\n\
             default/1/a b\\n  -                committed  verified  disk    1970-01-01T00:00:01Z\n\
             k                default/1/a b\\n  active     -         -       -\n"
        );
    }
}
