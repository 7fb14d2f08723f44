// SPDX-License-Identifier: Apache-2.0
//! Two manifests to one: what the first says where it counts, what the second says where it does not.

use std::io::{Read, Write};

use super::assemble::Assembler;
use super::diff::join_manifests;
use super::rules::{Rules, Settled, settled};
use crate::error::Result;
use crate::manifest::{ManifestEntry, Resource};
use crate::tree::InodeId;

/// Which manifest a hard link group comes from, in place of a device.
const EXPECTED: u64 = 0;
const FOUND: u64 = 1;

/// Writes the first manifest as the rules want it; where no difference from the second counts, it is as the second
/// says.
///
/// # Errors
/// Either manifest is invalid or can't be read; the rules failed; `out` can't be written.
pub fn reconcile(rules: &dyn Rules, expected: impl Read, found: impl Read, out: impl Write) -> Result<()> {
    let mut assembler = Assembler::new(out, true);
    join_manifests(expected, found, &mut |expected, found| match (expected, found) {
        (Some(expected), found) => match (settled(rules, expected, found.map(|found| &*found.resource))?, found) {
            (Some(expected), _) => assembler.add(alone(&expected), link(&expected, EXPECTED)),
            (None, Some(found)) => assembler.add(alone(found), link(found, FOUND)),
            (None, None) => Ok(()),
        },
        (None, Some(found)) => match rules.settle(found.path(), None, Some(&found.resource))? {
            Settled::Same => assembler.add(alone(found), link(found, FOUND)),
            _ => Ok(()),
        },
        (None, None) => Ok(()),
    })?;
    assembler.finish().map(drop)
}

/// The resource at one of its paths.
fn alone(entry: &ManifestEntry) -> Resource {
    Resource { paths: vec![entry.path().to_vec()], ..(*entry.resource).clone() }
}

fn link(entry: &ManifestEntry, manifest: u64) -> Option<(InodeId, u64)> {
    let links = entry.resource.paths.len() as u64;
    entry.link_id().map(|number| (InodeId { dev: manifest, ino: number }, links))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::ops::{BuildOptions, build, diff};

    /// No difference counts at these paths, and no mode anywhere else but here.
    struct Forgiving;

    impl Rules for Forgiving {
        fn settle(&self, path: &[u8], expected: Option<&Resource>, found: Option<&Resource>) -> Result<Settled> {
            let forgiven: [&[u8]; 3] = [b"/forgiven", b"/allowed", b"/allowed-too"];
            Ok(match (path, expected, found) {
                (path, ..) if forgiven.contains(&path) => Settled::Same,
                (b"/mode", Some(expected), Some(found)) => {
                    Settled::Expect(Box::new(Resource { mode: found.mode, ..expected.clone() }))
                }
                _ => Settled::Differs,
            })
        }
    }

    use crate::tree::{Progress, Root};

    fn manifest_of(dir: &Path) -> Vec<u8> {
        let mut out = Vec::new();
        let root = Root::open(dir).unwrap();
        build(&root, &BuildOptions::default(), &Progress::default(), &mut out, &mut |_| {}).unwrap();
        out
    }

    #[test]
    fn only_what_does_not_count_is_taken_from_the_second() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [a.path(), b.path()] {
            for name in ["mode", "contents", "linked"] {
                fs::write(dir.join(name), name).unwrap();
            }
            fs::hard_link(dir.join("linked"), dir.join("other")).unwrap();
        }
        for name in ["forgiven", "missed"] {
            fs::write(a.path().join(name), "").unwrap();
        }
        for name in ["allowed", "extra"] {
            fs::write(b.path().join(name), "").unwrap();
        }
        fs::hard_link(b.path().join("allowed"), b.path().join("allowed-too")).unwrap();
        fs::set_permissions(b.path().join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(b.path().join("contents"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(b.path().join("contents"), "others").unwrap();
        let (expected, found) = (manifest_of(a.path()), manifest_of(b.path()));
        let mut out = Vec::new();
        reconcile(&Forgiving, expected.as_slice(), found.as_slice(), &mut out).unwrap();
        // The tree once what matters is mended in the second.
        fs::remove_file(b.path().join("extra")).unwrap();
        fs::write(b.path().join("missed"), "").unwrap();
        fs::write(b.path().join("contents"), "contents").unwrap();
        fs::set_permissions(b.path().join("contents"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(out, manifest_of(b.path()));
        let mut left = Vec::new();
        diff(out.as_slice(), found.as_slice(), &mut |finding| {
            left.push(finding.to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(left.len(), 5, "{left:?}");
    }
}
