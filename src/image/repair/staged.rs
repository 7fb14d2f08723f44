// SPDX-License-Identifier: Apache-2.0
//! The contents that a repair needs, taken from the layers' blobs before anything is changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Part;
use crate::containerd::Image;
use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::Images;
use crate::image::derive::of_layer;
use crate::layer::{Entry, EntryKind, Rootfs, read};
use crate::manifest::Resource;
use crate::ops::Source;
use crate::tree::Progress;

/// One temporary file without a name, which nothing has to clean up, and what lies where in it.
pub struct Staged {
    file: File,
    /// Offset of each, in bytes.
    offsets: HashMap<Digest, u64>,
    end: u64,
}

/// Contents that are still looked for.
#[derive(Default)]
struct Wanted {
    digests: HashSet<Digest>,
    /// Sizes that one of them has: others need not be hashed.
    sizes: HashSet<u64>,
}

impl Images {
    /// Reads what the plans need from the blobs of the layers that have it, each once.
    ///
    /// # Errors
    /// As [`Images::open_layer`] and [`read`].
    pub(super) fn stage(
        &self,
        parts: &[Part],
        image: &Image,
        rootfs: &Rootfs,
        root: &Path,
        progress: &Progress,
    ) -> Result<Staged> {
        let file = tempfile::tempfile_in(root).map_err(|error| Error::io("open", root, error))?;
        let mut staged = Staged { file, offsets: HashMap::new(), end: 0 };
        let mut wanted = Wanted::default();
        let mut likely = BTreeSet::new();
        for part in parts {
            for (path, resource) in part.plan.contents().filter(|(_, resource)| resource.size > 0) {
                wanted.digests.extend(resource.digest);
                wanted.sizes.insert(resource.size);
                likely.extend(part.layer_index(path, image, rootfs));
            }
        }
        // A hard link may lie in one layer and its contents in another.
        let others = (0..image.layers.len()).rev().filter(|n| !likely.contains(n));
        for layer in likely.iter().copied().chain(others).filter_map(|n| image.layers.get(n)) {
            if wanted.digests.is_empty() {
                break;
            }
            let (blob, expected) = self.open_layer(image, layer).map_err(|error| of_layer(error, image, layer))?;
            read(blob, &expected, &self.settings.limits, progress, &mut |entry, contents| {
                staged.take(&entry, contents, &mut wanted)
            })
            .map_err(|error| of_layer(error, image, layer))?;
        }
        match wanted.digests.iter().next() {
            None => Ok(staged),
            Some(digest) => {
                let message = format!("no layer of {} has the contents {digest}", image.name);
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }
}

impl Staged {
    /// Keeps an entry's contents if they are wanted.
    fn take(&mut self, entry: &Entry, contents: &mut dyn Read, wanted: &mut Wanted) -> Result<()> {
        let EntryKind::File(size) = entry.kind else { return Ok(()) };
        if !wanted.sizes.contains(&size) {
            return Ok(());
        }
        let failed = |error: io::Error| match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => Error::new(ErrorKind::Io, "staging contents").with_source(error),
        };
        self.file.seek(SeekFrom::Start(self.end)).map_err(failed)?;
        let mut hashed = HashingStream::new(contents);
        // What is not wanted after all is overwritten by the next.
        io::copy(&mut hashed, &mut self.file).map_err(failed)?;
        let (_, digest, bytes) = hashed.finish();
        if wanted.digests.remove(&digest) {
            self.offsets.insert(digest, self.end);
            self.end += bytes;
        }
        Ok(())
    }
}

impl Source for Staged {
    fn contents(&self, path: &[u8], resource: &Resource) -> Result<Box<dyn Read + '_>> {
        let offset = resource.digest.and_then(|digest| self.offsets.get(&digest).copied());
        match offset {
            _ if resource.size == 0 => Ok(Box::new(io::empty())),
            Some(offset) => Ok(Box::new(Slice { file: &self.file, offset, left: resource.size })),
            None => Err(Error::new(ErrorKind::NotFound, format!("{}: its contents were not staged", Escaped(path)))),
        }
    }
}

/// A part of a file.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
