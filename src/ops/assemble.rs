// SPDX-License-Identifier: Apache-2.0
//! Paths to resources: what is written under a hard link's first path must name all of its paths, and the last of
//! them may be the last path of the tree.
//!
//! While the paths of a group are incomplete, its place in the output is a hole. What comes after the first hole
//! goes, encoded, into a spill: a buffer that becomes an unlinked temporary file once it is large.
//!
//! ```text
//!   out: aaaaabbbbcc│hole 1│        spill: dddddeee│hole 2│fffff│hole 3│ggg
//! ```
//!
//! A group is complete when as many paths are known as the inode has links; a group with links outside of the tree
//! completes at the end. Whatever precedes the first incomplete hole is written out. So memory holds the groups,
//! as DESIGN allows, and no other resource.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use tempfile::SpooledTempFile;

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Resource, Writer};
use crate::tree::InodeId;

/// Bytes of the spill kept in memory: most trees never need a file.
const SPILL_MEMORY: usize = 1 << 20;

/// Bytes gathered before they go into the spill, and bytes copied out of it at once.
const COPY_BUFFER: usize = 64 << 10;

struct Group {
    resource: Resource,
    links: u64,
}

struct Hole {
    /// Length of the spill before the hole.
    at: u64,
    id: InodeId,
}

pub struct Assembler<W: Write> {
    early: bool,
    writer: Writer<W>,
    groups: HashMap<InodeId, Group>,
    holes: VecDeque<Hole>,
    spill: Writer<BufWriter<SpooledTempFile>>,
    /// Bytes in the spill, and how many of them were written out.
    spilled: u64,
    drained: u64,
}

impl<W: Write> Assembler<W> {
    /// With `early`, a group is complete when it has as many paths as its inode has links; without, at the end:
    /// where something is mounted twice, more paths than links may lead to an inode.
    pub fn new(out: W, early: bool) -> Self {
        Self {
            early,
            writer: Writer::new(out),
            groups: HashMap::new(),
            holes: VecDeque::new(),
            spill: Writer::new(new_spill()),
            spilled: 0,
            drained: 0,
        }
    }

    /// Adds a resource with one path; `link` is its inode and link count if others may follow.
    pub fn add(&mut self, resource: Resource, link: Option<(InodeId, u64)>) -> Result<()> {
        let Some((id, links)) = link else {
            return self.put(&resource);
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.resource.paths.extend(resource.paths);
            if self.early && group.resource.paths.len() as u64 >= group.links {
                self.drain(false)?;
            }
            return Ok(());
        }
        self.groups.insert(id, Group { resource, links });
        self.holes.push_back(Hole { at: self.spilled, id });
        Ok(())
    }

    /// Completes every group and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        self.drain(true)?;
        let mut out = self.writer.into_inner();
        out.flush().map_err(write_error)?;
        Ok(out)
    }

    fn put(&mut self, resource: &Resource) -> Result<()> {
        if self.holes.is_empty() {
            return self.writer.write(resource).map(drop).map_err(write_error);
        }
        self.spilled += self.spill.write(resource).map_err(spill_error)?;
        Ok(())
    }

    /// Writes out up to the first incomplete hole, or everything.
    fn drain(&mut self, all: bool) -> Result<()> {
        while let Some(hole) = self.holes.front() {
            let complete = self.early
                && self.groups.get(&hole.id).is_none_or(|group| group.resource.paths.len() as u64 >= group.links);
            if !complete && !all {
                return Ok(());
            }
            let (at, id) = (hole.at, hole.id);
            self.copy_spill(at)?;
            self.holes.pop_front();
            if let Some(group) = self.groups.remove(&id) {
                self.writer.write(&group.resource).map_err(write_error)?;
            }
        }
        self.copy_spill(self.spilled)?;
        if self.spilled > 0 {
            let spill = self.spill.get_mut();
            spill.rewind().and_then(|()| spill.get_mut().set_len(0)).map_err(spill_error)?;
            (self.spilled, self.drained) = (0, 0);
        }
        Ok(())
    }

    /// Writes out the spill from where it was left up to `end`.
    fn copy_spill(&mut self, end: u64) -> Result<()> {
        if self.drained == end {
            return Ok(());
        }
        let spill = self.spill.get_mut();
        // Whatever was gathered is in the file then.
        spill.seek(SeekFrom::Start(self.drained)).map_err(spill_error)?;
        let spill = spill.get_mut();
        let mut buffer = vec![0; (end - self.drained).min(COPY_BUFFER as u64) as usize];
        while self.drained < end {
            let want = (end - self.drained).min(buffer.len() as u64) as usize;
            spill.read_exact(&mut buffer[..want]).map_err(spill_error)?;
            self.writer.get_mut().write_all(&buffer[..want]).map_err(write_error)?;
            self.drained += want as u64;
        }
        spill.seek(SeekFrom::Start(self.spilled)).map(drop).map_err(spill_error)
    }
}

fn new_spill() -> BufWriter<SpooledTempFile> {
    BufWriter::with_capacity(COPY_BUFFER, tempfile::spooled_tempfile(SPILL_MEMORY))
}

fn write_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "writing the manifest").with_source(error)
}

fn spill_error(error: io::Error) -> Error {
    let message = format!("temporary file in {} (TMPDIR chooses another)", std::env::temp_dir().display());
    Error::new(ErrorKind::Io, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::FileType;
    use crate::manifest::{Mode, Reader};

    fn resource(path: &str) -> Resource {
        Resource {
            paths: vec![path.into()],
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mode: Mode::new(FileType::Fifo, 0o600),
            size: 0,
            digest: None,
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn assembled(paths: &[(&str, Option<(u64, u64)>)]) -> Vec<String> {
        let mut assembler = Assembler::new(Vec::new(), true);
        for (path, link) in paths {
            let link = link.map(|(ino, links)| (InodeId { dev: 1, ino }, links));
            assembler.add(resource(path), link).unwrap();
        }
        let bytes = assembler.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        let mut found = Vec::new();
        while let Some(resource) = reader.next().unwrap() {
            let paths: Vec<_> = resource.paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
            found.push(paths.join(" "));
        }
        found
    }

    #[test]
    fn groups_stand_at_their_first_path_whatever_comes_between() {
        let found = assembled(&[
            ("/a", None),
            ("/b", Some((1, 3))),
            ("/c", Some((2, 2))),
            ("/d", None),
            ("/e", Some((2, 2))),
            ("/f", Some((3, 9))),
            ("/g", Some((1, 3))),
            ("/h", Some((1, 3))),
            ("/i", None),
            ("/j", Some((3, 9))),
            ("/k", Some((4, 2))),
        ]);
        assert_eq!(found, ["/a", "/b /g /h", "/c /e", "/d", "/f /j", "/i", "/k"]);
    }

    #[test]
    fn a_spill_larger_than_its_memory_comes_back_whole() {
        let names: Vec<String> = (0..40_000).map(|n| format!("/m{n:05}-{}", "x".repeat(40))).collect();
        let mut paths: Vec<(&str, Option<(u64, u64)>)> = vec![("/a", Some((1, 2)))];
        paths.extend(names.iter().map(|name| (name.as_str(), None)));
        paths.push(("/z", Some((1, 2))));
        let found = assembled(&paths);
        assert_eq!(found[0], "/a /z");
        assert_eq!(found[1..], names);
    }

    #[test]
    fn groups_that_complete_between_others_leave_a_large_spill_in_order() {
        const GROUPS: u64 = 4000;
        let long = "x".repeat(300);
        let second = |n: u64| format!("/n{:05}-{long}", n * 7 % GROUPS);
        let mut paths: Vec<(String, Option<(u64, u64)>)> = Vec::new();
        for n in 0..GROUPS {
            paths.push((format!("/m{n:05}-{long}"), Some((n, 2))));
            paths.push((format!("/m{n:05}-{long}-single"), None));
        }
        // The second paths come in another order than the first ones.
        paths.extend((0..GROUPS).map(|n| (second(n), Some((n, 2)))));
        paths[2 * GROUPS as usize..].sort();
        let borrowed: Vec<_> = paths.iter().map(|(path, link)| (path.as_str(), *link)).collect();
        let mut expected = Vec::new();
        for n in 0..GROUPS {
            expected.push(format!("/m{n:05}-{long} {}", second(n)));
            expected.push(format!("/m{n:05}-{long}-single"));
        }
        assert_eq!(assembled(&borrowed), expected);
    }
}
