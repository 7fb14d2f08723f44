// SPDX-License-Identifier: Apache-2.0
//! What a manifest says, for people: `ls`, `stats`, `dump`.

use std::io::{self, Read, Seek, Write};

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::inode::FileType;
use crate::manifest::text::{JsonWriter, si_size, write_text};
use crate::manifest::{Reader, Resource};

/// Spaces between two columns.
const GAP: usize = 2;

/// Lists every path: mode, owner, group, size, path. Reads twice, once to check all of it and to measure the
/// columns, so an invalid manifest prints nothing and a large one takes no memory.
///
/// # Errors
/// The manifest is invalid; reading or writing fails.
pub fn list(mut manifest: impl Read + Seek, out: &mut dyn Write) -> Result<()> {
    let mut widths = [0; 4];
    let start = manifest.stream_position().map_err(read_error)?;
    let mut reader = Reader::new(&mut manifest);
    while let Some(resource) = reader.next()? {
        for (width, cell) in widths.iter_mut().zip(cells(&resource)) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    manifest.seek(io::SeekFrom::Start(start)).map_err(read_error)?;
    let mut reader = Reader::new(&mut manifest);
    while let Some(resource) = reader.next()? {
        let mut line = String::new();
        for (width, cell) in widths.into_iter().zip(cells(&resource)) {
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        for path in &resource.paths {
            match resource.mode.file_type() {
                FileType::Symlink => writeln!(out, "{line}{} -> {}", Escaped(path), Escaped(&resource.target)),
                _ => writeln!(out, "{line}{}", Escaped(path)),
            }
            .map_err(write_error)?;
        }
    }
    out.flush().map_err(write_error)
}

/// Mode, owner, group, size.
fn cells(resource: &Resource) -> [String; 4] {
    let name_or = |name: &[u8], id: u32| match name {
        b"" => id.to_string(),
        name => Escaped(name).to_string(),
    };
    [
        resource.mode.to_string(),
        name_or(&resource.user, resource.uid),
        name_or(&resource.group, resource.gid),
        si_size(resource.size),
    ]
}

/// Writes protobuf text.
///
/// # Errors
/// The manifest is invalid; reading or writing fails.
pub fn dump_text(manifest: impl Read, out: &mut dyn Write) -> Result<()> {
    let mut reader = Reader::new(manifest);
    while let Some(resource) = reader.next()? {
        write_text(&resource, out).map_err(write_error)?;
    }
    out.flush().map_err(write_error)
}

/// Writes one JSON document, see [`JsonWriter`].
///
/// # Errors
/// The manifest is invalid; reading or writing fails.
pub fn dump_json(manifest: impl Read, out: &mut dyn Write) -> Result<()> {
    let mut reader = Reader::new(manifest);
    let mut json = JsonWriter::new(out).map_err(write_error)?;
    while let Some(resource) = reader.next()? {
        json.write(&resource).map_err(write_error)?;
    }
    json.finish().map_err(write_error)
}

/// Counts over a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Inodes.
    pub resources: u64,
    /// Directories.
    pub directories: u64,
    /// Paths of regular files; each path of a hard link counts.
    pub files: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Bytes of regular files, each inode once.
    pub size: u64,
    /// Paths beyond the first of an inode.
    pub hardlinks: u64,
    /// Device inodes, character and block.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Extended attributes.
    pub xattrs: u64,
}

/// Counts.
///
/// # Errors
/// The manifest is invalid or can't be read.
pub fn stats(manifest: impl Read) -> Result<Stats> {
    let mut reader = Reader::new(manifest);
    let mut stats = Stats::default();
    while let Some(resource) = reader.next()? {
        let paths = resource.paths.len() as u64;
        stats.resources += 1;
        stats.hardlinks += paths - 1;
        stats.size = stats.size.saturating_add(resource.size);
        stats.xattrs += resource.xattrs.len() as u64;
        match resource.mode.file_type() {
            FileType::Directory => stats.directories += 1,
            FileType::Regular => stats.files += paths,
            FileType::Symlink => stats.symlinks += paths,
            FileType::CharDevice | FileType::BlockDevice => stats.devices += 1,
            FileType::Fifo => stats.fifos += 1,
            FileType::Socket => {}
        }
    }
    Ok(stats)
}

impl std::fmt::Display for Stats {
    /// The reference's rows first, in its columns.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = [
            ("resources", self.resources.to_string()),
            ("directories", self.directories.to_string()),
            ("files", self.files.to_string()),
            ("symlinks", self.symlinks.to_string()),
            ("size", si_size(self.size)),
            ("hard links", self.hardlinks.to_string()),
            ("devices", self.devices.to_string()),
            ("fifos", self.fifos.to_string()),
            ("xattrs", self.xattrs.to_string()),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<13}{value}")?;
        }
        Ok(())
    }
}

fn read_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "reading the manifest").with_source(error)
}

fn write_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "writing").with_source(error)
}
