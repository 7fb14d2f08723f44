// SPDX-License-Identifier: Apache-2.0
//! `continuity status`.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::verify::Format;
use super::{Global, Outcome, remote};
use crate::api::continuity::proto::continuity as pb;
use crate::error::Escaped;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs `status`.
pub fn run(global: &Global, args: &StatusArgs) -> Result<Outcome> {
    let status = remote::talk(global, |client| async move {
        client.status(remote::soon(), &pb::StatusRequest::new()).await.map_err(remote::said)
    })?;
    let text = match args.format {
        Format::Text => text(&status),
        Format::Json => format!("{}\n", json_of(&status)),
    };
    io::stdout().lock().write_all(text.as_bytes()).context("write to standard output")?;
    Ok(Outcome::Intact)
}

fn text(status: &pb::StatusResponse) -> String {
    let rows = [
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("up", duration(status.uptime_seconds)),
        ("root", Escaped(status.root.as_bytes()).to_string()),
        ("snapshots socket", Escaped(status.snapshots_address.as_bytes()).to_string()),
        ("snapshots", format!("{} active, {} views, {} committed", status.active, status.views, status.committed)),
        (
            "seals",
            format!(
                "{} pending, {} sealed, {} verified, {} damaged, {} unproven",
                status.pending, status.sealed, status.verified, status.damaged, status.unproven
            ),
        ),
    ];
    rows.iter().map(|(name, value)| format!("{name:<18}{value}\n")).collect()
}

fn json_of(status: &pb::StatusResponse) -> serde_json::Value {
    json!({
        "version": status.version,
        "pid": status.pid,
        "uptime_seconds": status.uptime_seconds,
        "root": status.root,
        "snapshots_address": status.snapshots_address,
        "snapshots": { "active": status.active, "views": status.views, "committed": status.committed },
        "seals": {
            "pending": status.pending,
            "sealed": status.sealed,
            "verified": status.verified,
            "damaged": status.damaged,
            "unproven": status.unproven,
        },
    })
}

/// "3d 4h", "4h 5m", "5m 6s", "6s".
fn duration(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut left = Duration::from_secs(seconds).as_secs();
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        if left >= size || !parts.is_empty() {
            parts.push(format!("{}{unit}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_its_two_largest_units() {
        for (seconds, expected) in
            [(0, "0s"), (6, "6s"), (306, "5m 6s"), (3_600, "1h 0m"), (86_399, "23h 59m"), (273_906, "3d 4h")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn every_count_is_shown() {
        let status = pb::StatusResponse { damaged: 7, views: 3, root: "/r\n".into(), ..Default::default() };
        let text = text(&status);
        assert!(text.contains("7 damaged") && text.contains("3 views") && text.contains("/r\\n\n"), "{text}");
        assert_eq!(json_of(&status)["seals"]["damaged"], 7);
    }
}
