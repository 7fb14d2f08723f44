// SPDX-License-Identifier: Apache-2.0
//! Paths of a tar, resolved beneath the root as containerd does it: by Go's `filepath` and continuity's `fs.RootPath`,
//! which follow one symlink at a time and clean what comes out as text, and by the kernel where it is asked for what
//! lies at a path.

use super::disk::Disk;
use super::refused;
use crate::error::Result;
use crate::inode::FileType;

/// Symlinks that one name may lead through.
const LINKS_MAX: usize = 255;

/// Symlinks that the kernel follows for one path.
const KERNEL_LINKS_MAX: usize = 40;

/// Bytes of a path, and of a name in it, that the kernel takes no more of: containerd names what it makes from the
/// host's root, and so no layer has a longer one.
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;

/// Components of a path beneath the root.
pub type Path = Vec<Vec<u8>>;

/// A path as text, without what is empty between its slashes.
#[derive(Clone, Default)]
pub struct Text {
    rooted: bool,
    parts: Path,
}

impl Text {
    pub fn new(path: &[u8]) -> Self {
        let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        Self { rooted: path.first() == Some(&b'/'), parts: parts.map(<[u8]>::to_vec).collect() }
    }

    /// A path that is known to begin at the root.
    pub fn rooted(parts: &[Vec<u8>]) -> Self {
        Self { rooted: true, parts: parts.to_vec() }
    }

    /// Cleaned as Go's `filepath.Clean` does: `.` goes, `..` takes one away; where there is none to take, it is the
    /// root, or stays at the beginning.
    pub fn clean(self) -> Self {
        let mut parts: Path = Vec::new();
        for part in self.parts {
            match part.as_slice() {
                b"." => {}
                b".." => match parts.last().map(Vec::as_slice) {
                    Some(b"..") => parts.push(part),
                    Some(_) => drop(parts.pop()),
                    None if self.rooted => {}
                    None => parts.push(part),
                },
                _ => parts.push(part),
            }
        }
        Self { parts, ..self }
    }

    fn join(mut self, parts: &[Vec<u8>]) -> Self {
        self.parts.extend_from_slice(parts);
        self.clean()
    }

    /// The last component and what is above it; none of nothing.
    pub fn split(mut self) -> Option<(Self, Vec<u8>)> {
        let last = self.parts.pop()?;
        Some((self, last))
    }
}

/// How far a path is resolved.
struct Progress<N> {
    /// None before the first component of a path that does not begin at the root.
    text: Option<Text>,
    /// What lies there, if it is known: nothing, or a node. Unknown after a symlink.
    found: Option<Option<N>>,
}

/// Resolves a path beneath the root. What does not exist is no symlink.
pub fn resolve<D: Disk>(disk: &D, mut path: Text) -> Result<Path> {
    let mut links = 0;
    loop {
        let before = links;
        path = follow(disk, path, &mut links)?;
        if links == before {
            break;
        }
    }
    check(&path.parts)?;
    Ok(path.parts)
}

/// Whether the kernel takes a path.
///
/// # Errors
/// `InvalidInput` for one that is too long.
pub fn check(path: &[Vec<u8>]) -> Result<()> {
    let bytes: usize = path.iter().map(|part| part.len() + 1).sum();
    match bytes > PATH_MAX || path.iter().any(|part| part.len() > NAME_MAX) {
        true => Err(refused("its path is too long")),
        false => Ok(()),
    }
}

/// One pass over the components: each that is a symlink is replaced by its target, which is not looked at further.
fn follow<D: Disk>(disk: &D, path: Text, links: &mut usize) -> Result<Text> {
    let root = Text { rooted: true, parts: Vec::new() };
    let mut at = Progress { text: path.rooted.then(|| root.clone()), found: path.rooted.then(|| Some(disk.root())) };
    for part in path.parts {
        let is_name = !matches!(part.as_slice(), b"." | b"..");
        if *links > LINKS_MAX {
            return Err(refused("it leads through too many symlinks"));
        }
        let above = at.text;
        // Beneath what is no symlink, one look is enough.
        let known = at.found.filter(|_| is_name);
        let is_clean = known.is_some();
        let found = match known {
            Some(found) => match &found {
                Some(node) if disk.inode(node).file_type() != FileType::Directory => return Err(not_a_directory()),
                Some(node) => disk.look_up(node, &part),
                None => None,
            },
            None => {
                let parts = above.as_ref().map_or(&[][..], |above| &above.parts);
                look_at(disk, &root.clone().join(parts).join(std::slice::from_ref(&part)).parts)?
            }
        };
        let target = found.as_ref().and_then(|node| {
            let inode = disk.inode(node);
            (inode.file_type() == FileType::Symlink).then(|| Text::new(&inode.target))
        });
        at = match (target, above) {
            (None, above) => {
                let mut above = above.unwrap_or_default();
                above.rooted = true;
                match is_clean {
                    true => above.parts.push(part),
                    false => above = above.join(&[part]),
                }
                Progress { text: Some(above), found: Some(found) }
            }
            (Some(target), above) => {
                *links += 1;
                let text = match above {
                    Some(above) if !target.rooted => above.join(&target.parts),
                    _ => target,
                };
                Progress { text: Some(text), found: None }
            }
        };
    }
    Ok(at.text.unwrap_or(root))
}

/// What lies at a path, as the kernel finds it: symlinks on the way are followed. One that leads out of the root leads
/// to nothing that a layer could know.
fn look_at<D: Disk>(disk: &D, path: &[Vec<u8>]) -> Result<Option<D::Node>> {
    let mut pending: Path = path.iter().rev().cloned().collect();
    let mut nodes = vec![disk.root()];
    let mut links = 0;
    while let Some(part) = pending.pop() {
        let Some(above) = nodes.last() else { return Ok(None) };
        if disk.inode(above).file_type() != FileType::Directory {
            return Err(not_a_directory());
        }
        match part.as_slice() {
            b"." => continue,
            b".." => {
                nodes.pop();
                continue;
            }
            _ => {}
        }
        let Some(node) = disk.look_up(above, &part) else { return Ok(None) };
        let inode = disk.inode(&node);
        if inode.file_type() != FileType::Symlink || pending.is_empty() {
            nodes.push(node);
            continue;
        }
        links += 1;
        if links > KERNEL_LINKS_MAX {
            return Err(refused("it leads through too many symlinks"));
        }
        let target = Text::new(&inode.target);
        if target.rooted {
            return Ok(None);
        }
        pending.extend(target.parts.into_iter().rev());
    }
    Ok(nodes.pop())
}

/// What lies at a resolved path.
pub fn find<D: Disk>(disk: &D, path: &[Vec<u8>]) -> Result<Option<D::Node>> {
    let mut node = disk.root();
    for part in path {
        if disk.inode(&node).file_type() != FileType::Directory {
            return Err(not_a_directory());
        }
        match disk.look_up(&node, part) {
            Some(found) => node = found,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

fn not_a_directory() -> crate::error::Error {
    refused("it lies beneath something that is no directory")
}
