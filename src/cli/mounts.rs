// SPDX-License-Identifier: Apache-2.0
//! containerd's mounts as JSON: what Go's encoding/json makes of `[]mount.Mount`, and the same in lower case.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::api::continuity::proto::continuity as pb;
use crate::error::Escaped;

/// Bytes of a file of mounts; a ttrpc message holds 4 MiB.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Mount {
    #[serde(alias = "Type", rename = "type")]
    kind: String,
    #[serde(alias = "Source", default)]
    source: String,
    #[serde(alias = "Target", default)]
    target: String,
    /// Go writes a nil slice as null.
    #[serde(alias = "Options", default)]
    options: Option<Vec<String>>,
}

/// Reads mounts from a file; `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<pb::Mount>> {
    let mut text = Vec::new();
    let shown = || Escaped::path(path).to_string();
    let from: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).with_context(|| format!("open {}", shown()))?),
    };
    from.take(MAX_BYTES + 1).read_to_end(&mut text).with_context(|| format!("read {}", shown()))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("{}: more than {MAX_BYTES} bytes of mounts", shown());
    }
    parse(&text).with_context(|| format!("{}: not a JSON list of mounts", shown()))
}

/// A list of mounts, or an object that has one as `mounts`.
fn parse(text: &[u8]) -> Result<Vec<pb::Mount>> {
    let list = match serde_json::from_slice(text)? {
        Value::Object(mut object) => match object.remove("mounts").or_else(|| object.remove("Mounts")) {
            Some(list) => list,
            None => bail!("an object without \"mounts\""),
        },
        other => other,
    };
    let mounts: Vec<Mount> = serde_json::from_value(list)?;
    if mounts.is_empty() {
        bail!("an empty list");
    }
    let wire = |mount: Mount| pb::Mount {
        type_: mount.kind,
        source: mount.source,
        target: mount.target,
        options: mount.options.unwrap_or_default(),
        ..Default::default()
    };
    Ok(mounts.into_iter().map(wire).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_same_mount_reads_the_same() {
        let go = r#"{"Type":"overlay","Source":"overlay","Target":"","Options":["index=off","lowerdir=/a:/b"]}"#;
        let lower = r#"{"type":"overlay","source":"overlay","options":["index=off","lowerdir=/a:/b"]}"#;
        let expected = pb::Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: vec!["index=off".into(), "lowerdir=/a:/b".into()],
            ..Default::default()
        };
        for text in [
            format!("[{go}]"),
            format!("[{lower}]"),
            format!(r#"{{"mounts":[{lower}]}}"#),
            format!(r#"{{"Mounts":[{go}],"other":1}}"#),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), std::slice::from_ref(&expected), "{text}");
        }
        let nil = parse(br#"[{"Type":"tmpfs","Source":"tmpfs","Target":"/t","Options":null}]"#).unwrap();
        assert_eq!((nil[0].target.as_str(), nil[0].options.len()), ("/t", 0));
    }

    #[test]
    fn what_is_no_list_of_mounts_is_refused() {
        for text in ["", "x", "[]", "{}", "[1]", r#"[{"source":"/a"}]"#, r#"{"mounts":[]}"#, r#"[{"type":1}]"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
