// SPDX-License-Identifier: Apache-2.0
//! Two manifests to one: what the first says where it matters, what the second says where it does not.

use std::io::{Read, Write};

use super::assemble::Assembler;
use super::compare::compare;
use super::diff::{join_manifests, one_sided};
use super::finding::{Finding, FindingKind};
use crate::error::Result;
use crate::inode::Xattr;
use crate::manifest::{ManifestEntry, Resource};
use crate::tree::InodeId;

/// Which manifest a hard link group comes from, in place of a device.
const EXPECTED: u64 = 0;
const FOUND: u64 = 1;

/// Writes the first manifest, except for those differences from the second that `matters` says no to: a path that is
/// missing or extra, an owner, permissions, an extended attribute. There it is as the second says.
///
/// # Errors
/// Either manifest is invalid or can't be read; `matters` failed; `out` can't be written.
pub fn reconcile(
    expected: impl Read,
    found: impl Read,
    matters: &mut dyn FnMut(&Finding) -> Result<bool>,
    out: impl Write,
) -> Result<()> {
    let mut assembler = Assembler::new(out, true);
    join_manifests(expected, found, &mut |expected, found| match (expected, found) {
        (Some(expected), Some(found)) => {
            let resource = reconciled(expected, &found.resource, matters)?;
            assembler.add(resource, link(expected, EXPECTED))
        }
        (Some(expected), None) if matters(&one_sided(expected, FindingKind::Missing))? => {
            assembler.add(alone(expected), link(expected, EXPECTED))
        }
        (None, Some(found)) if !matters(&one_sided(found, FindingKind::Extra))? => {
            assembler.add(alone(found), link(found, FOUND))
        }
        _ => Ok(()),
    })?;
    assembler.finish().map(drop)
}

/// What is expected at a path, with those attributes of what was found that do not matter.
fn reconciled(
    expected: &ManifestEntry,
    found: &Resource,
    matters: &mut dyn FnMut(&Finding) -> Result<bool>,
) -> Result<Resource> {
    let mut resource = alone(expected);
    compare(expected.path(), &expected.resource, found, false, &mut |finding| {
        if matters(&finding)? {
            return Ok(());
        }
        match finding.kind {
            FindingKind::Mode => resource.mode = found.mode,
            FindingKind::Uid => resource.uid = found.uid,
            FindingKind::Gid => resource.gid = found.gid,
            FindingKind::XattrMissing | FindingKind::XattrExtra | FindingKind::XattrDiffers => {
                let is_it = |xattr: &&Xattr| xattr.name == finding.xattr;
                resource.xattrs.retain(|xattr| !is_it(&xattr));
                resource.xattrs.extend(found.xattrs.iter().find(is_it).cloned());
                resource.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(resource)
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
    use crate::tree::{Progress, Root};

    fn manifest_of(dir: &Path) -> Vec<u8> {
        let mut out = Vec::new();
        let root = Root::open(dir).unwrap();
        build(&root, &BuildOptions::default(), &Progress::default(), &mut out, &mut |_| {}).unwrap();
        out
    }

    #[test]
    fn only_what_does_not_matter_is_taken_from_the_second() {
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
        let mut matters = |finding: &Finding| {
            let forgiven: [&[u8]; 4] = [b"/mode", b"/forgiven", b"/allowed", b"/allowed-too"];
            Ok(!forgiven.contains(&finding.path.as_slice()))
        };
        let mut out = Vec::new();
        reconcile(expected.as_slice(), found.as_slice(), &mut matters, &mut out).unwrap();
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
