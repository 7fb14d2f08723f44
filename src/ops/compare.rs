// SPDX-License-Identifier: Apache-2.0
//! Two resources at one path to findings, and which paths are links of one another.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Write as _;

use super::finding::{Finding, FindingKind};
use crate::error::{Escaped, Result};
use crate::inode::{FileType, Xattr};
use crate::manifest::Resource;

/// Bytes of an xattr's value that a finding shows.
const SHOWN_VALUE: usize = 64;

/// Takes findings.
pub type Report<'a> = dyn FnMut(Finding) -> Result<()> + 'a;

/// Hands every difference between two resources to `report`, as seen at `path`. With another type nothing else is
/// comparable. With `subset`, xattrs that only `found` has are let pass.
pub fn compare(
    path: &[u8],
    expected: &Resource,
    found: &Resource,
    subset: bool,
    report: &mut Report<'_>,
) -> Result<()> {
    let mut differs = |kind, expected: String, found: String| {
        report(Finding { path: path.to_vec(), kind, xattr: Vec::new(), expected, found })
    };
    let (e, f) = (expected.mode, found.mode);
    if e.file_type() != f.file_type() {
        return differs(FindingKind::Type, e.file_type().name().into(), f.file_type().name().into());
    }
    if e.permissions() != f.permissions() {
        differs(FindingKind::Mode, format!("{:04o}", e.permissions()), format!("{:04o}", f.permissions()))?;
    }
    if expected.uid != found.uid {
        differs(FindingKind::Uid, expected.uid.to_string(), found.uid.to_string())?;
    }
    if expected.gid != found.gid {
        differs(FindingKind::Gid, expected.gid.to_string(), found.gid.to_string())?;
    }
    match e.file_type() {
        FileType::Regular => {
            if expected.size != found.size {
                differs(FindingKind::Size, expected.size.to_string(), found.size.to_string())?;
            }
            if expected.digest != found.digest {
                let text = |resource: &Resource| resource.digest.map_or_else(String::new, |d| d.to_string());
                differs(FindingKind::Digest, text(expected), text(found))?;
            }
        }
        FileType::Symlink if expected.target != found.target => {
            let text = |resource: &Resource| Escaped(&resource.target).to_string();
            differs(FindingKind::Target, text(expected), text(found))?;
        }
        FileType::CharDevice | FileType::BlockDevice if expected.device != found.device => {
            let text = |resource: &Resource| format!("{}:{}", resource.device.0, resource.device.1);
            differs(FindingKind::Device, text(expected), text(found))?;
        }
        _ => {}
    }
    compare_xattrs(path, &expected.xattrs, &found.xattrs, subset, report)
}

/// Both lists are sorted by name.
fn compare_xattrs(
    path: &[u8],
    expected: &[Xattr],
    found: &[Xattr],
    subset: bool,
    report: &mut Report<'_>,
) -> Result<()> {
    let mut differs = |kind, name: &[u8], expected: String, found: String| {
        report(Finding { path: path.to_vec(), kind, xattr: name.to_vec(), expected, found })
    };
    let (mut e, mut f) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        match (e.peek(), f.peek()) {
            (None, None) => return Ok(()),
            (Some(x), y) if y.is_none_or(|y| x.name < y.name) => {
                differs(FindingKind::XattrMissing, &x.name, shown(&x.value), String::new())?;
                e.next();
            }
            (x, Some(y)) if x.is_none_or(|x| y.name < x.name) => {
                if !subset {
                    differs(FindingKind::XattrExtra, &y.name, String::new(), shown(&y.value))?;
                }
                f.next();
            }
            (Some(x), Some(y)) => {
                if x.value != y.value {
                    differs(FindingKind::XattrDiffers, &x.name, shown(&x.value), shown(&y.value))?;
                }
                e.next();
                f.next();
            }
            // The guards above have taken every other pair.
            _ => return Ok(()),
        }
    }
}

/// A value as text where it is printable ASCII, else as hex; cut where it is long.
fn shown(value: &[u8]) -> String {
    let cut = &value[..value.len().min(SHOWN_VALUE)];
    let mut text = Vec::with_capacity(2 * cut.len() + 2);
    if cut.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        text.push(b'"');
        text.extend_from_slice(cut);
        text.push(b'"');
    } else {
        text.extend_from_slice(b"0x");
        for byte in cut {
            // Writing to a vector does not fail.
            let _ = write!(text, "{byte:02x}");
        }
    }
    if cut.len() < value.len() {
        let _ = write!(text, "… ({} bytes)", value.len());
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Finds hard links that were broken or made. `E` and `F` tell inodes on either side; a path without one has no
/// other path. Memory: the groups with several paths.
pub struct Links<E, F> {
    expected: HashMap<E, (Option<F>, Vec<u8>)>,
    found: HashMap<F, (Option<E>, Vec<u8>)>,
}

impl<E: Eq + Hash + Copy, F: Eq + Hash + Copy> Links<E, F> {
    pub fn new() -> Self {
        Self { expected: HashMap::new(), found: HashMap::new() }
    }

    /// To be called for every path that both sides have, in path order.
    pub fn check(&mut self, path: &[u8], e: Option<E>, f: Option<F>, report: &mut Report<'_>) -> Result<()> {
        let finding = |kind, expected: String, found: String| Finding {
            path: path.to_vec(),
            kind,
            xattr: Vec::new(),
            expected,
            found,
        };
        let linked = |to: &[u8]| format!("a hard link to {}", Escaped(to));
        if let Some(e) = e {
            let (first, to) = self.expected.entry(e).or_insert_with(|| (f, path.to_vec()));
            if to.as_slice() != path && (first.is_none() || *first != f) {
                report(finding(FindingKind::HardlinkBroken, linked(to), "a separate file".into()))?;
            }
        }
        if let Some(f) = f {
            let (first, to) = self.found.entry(f).or_insert_with(|| (e, path.to_vec()));
            if to.as_slice() != path && (first.is_none() || *first != e) {
                report(finding(FindingKind::HardlinkMade, "a separate file".into(), linked(to)))?;
            }
        }
        Ok(())
    }
}
