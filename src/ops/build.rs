// SPDX-License-Identifier: Apache-2.0
//! Tree to manifest.

use std::io::Write;

use super::assemble::Assembler;
use super::resource::resource_of;
use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::host;
use crate::inode::FileType;
use crate::manifest::is_clean;
use crate::tree::{InodeId, Progress, Root, Step, WalkOptions, walk};

/// Bytes of the manifest gathered before they are written.
const WRITE_BUFFER: usize = 64 << 10;

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Hashing threads; 0 means the cores, at most four.
    pub threads: usize,
    /// Records the root directory itself as the resource `/`.
    pub include_root: bool,
    /// Refuses what the manifest can't record or other readers would refuse.
    pub strict: bool,
    /// Files left out: the one that the manifest is written to.
    pub skip: Vec<InodeId>,
    /// Leaves out the extended attributes that are the [host's](crate::host), but for those that overlayfs has.
    pub without_hosts: bool,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// Paths recorded.
    pub entries: u64,
    /// Bytes of file contents hashed.
    pub bytes: u64,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// Walks `root` and writes its manifest, protobuf, to `out`, in path order and as it goes. `warn` hears, one
/// line each, of what is not recorded (sockets) or what other readers will refuse (names that are not UTF-8).
///
/// # Errors
/// What can't be read, naming the path; with `strict`, what `warn` would have heard; a failing `out`.
pub fn build(
    root: &Root,
    options: &BuildOptions,
    progress: &Progress,
    out: impl Write,
    warn: &mut dyn FnMut(String),
) -> Result<BuildReport> {
    let walk_options =
        WalkOptions { threads: options.threads, include_root: options.include_root, skip: options.skip.clone() };
    let before = progress.bytes();
    walk(root, &walk_options, progress, |steps| {
        let out = std::io::BufWriter::with_capacity(WRITE_BUFFER, HashingStream::new(out));
        let mut assembler = Assembler::new(out, !root.may_hold_mounts());
        let mut entries = 0;
        while let Some(step) = steps.next()? {
            let (path, node) = match step {
                Step::Entry { path, node } => (path, node?),
                Step::Unlisted { error, .. } => return Err(error),
            };
            if options.skip.contains(&node.metadata.id) {
                continue;
            }
            if let Some(flaw) = flaw(&path, node.metadata.file_type, &node.target) {
                if options.strict || flaw.fatal {
                    let message = format!("{}: {}", Escaped(&path), flaw.text);
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
                warn(format!("{}: {}", Escaped(&path), flaw.text));
            }
            if node.metadata.file_type == FileType::Socket {
                continue;
            }
            entries += 1;
            let link = node.metadata.link_id().map(|id| (id, node.metadata.links));
            let mut resource = resource_of(path, node);
            if options.without_hosts {
                resource.xattrs.retain(|xattr| !host::owns(&xattr.name) || host::is_overlays(&xattr.name));
            }
            assembler.add(resource, link)?;
        }
        let out = assembler.finish()?;
        let stream = out
            .into_inner()
            .map_err(|e| Error::new(ErrorKind::Io, "writing the manifest").with_source(std::io::Error::from(e)))?;
        let (mut out, digest, _) = stream.finish();
        out.flush().map_err(|e| Error::new(ErrorKind::Io, "writing the manifest").with_source(e))?;
        Ok(BuildReport { entries, bytes: progress.bytes() - before, digest })
    })
}

struct Flaw {
    text: &'static str,
    /// No reader, ours neither, could take it.
    fatal: bool,
}

fn flaw(path: &[u8], file_type: FileType, target: &[u8]) -> Option<Flaw> {
    let flaw = |text, fatal| Some(Flaw { text, fatal });
    if !is_clean(path) {
        return flaw("the path is longer or deeper than a manifest may record", true);
    }
    if file_type == FileType::Socket {
        return flaw("a socket can't be recorded and is left out", false);
    }
    let name = &path[path.iter().rposition(|&b| b == b'/').unwrap_or(0)..];
    if std::str::from_utf8(name).is_err() {
        return flaw("the name is not UTF-8: other readers will refuse the manifest", false);
    }
    if std::str::from_utf8(target).is_err() {
        return flaw("the target is not UTF-8: other readers will refuse the manifest", false);
    }
    None
}
