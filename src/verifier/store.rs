// SPDX-License-Identifier: Apache-2.0
//! Manifests by digest, beneath `manifests/sha256/`.
//!
//! Invariant: a file there has the content that its name promises, whole, from the moment it has that name: it is
//! written under another name beside the directory, synced, renamed, and the directory is synced. A crash leaves at
//! most a file of the other kind, which the next start removes. What rots later is noticed by the reader.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::digest::{Digest, HashingStream};
use crate::error::{Error, ErrorKind, Result};

/// Begins the name of a manifest that is being written.
const INGEST: &str = "ingest-";

/// Buffer between the encoder and the file, in bytes.
const WRITE_BUFFER: usize = 64 << 10;

/// See the [module](self).
pub struct Store {
    /// Where manifests are while they are written.
    dir: PathBuf,
    /// Where they are by digest.
    sha256: PathBuf,
}

impl Store {
    /// Opens, or creates, the store beneath `root`, and removes what a crash left half written.
    pub fn open(root: &Path) -> Result<Self> {
        let dir = root.join("manifests");
        let sha256 = dir.join("sha256");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&sha256)
            .map_err(|error| Error::io("mkdir", &sha256, error))?;
        for entry in fs::read_dir(&dir).map_err(|error| Error::io("readdir", &dir, error))? {
            let entry = entry.map_err(|error| Error::io("readdir", &dir, error))?;
            if entry.file_name().to_string_lossy().starts_with(INGEST) {
                fs::remove_file(entry.path()).map_err(|error| Error::io("unlink", entry.path(), error))?;
            }
        }
        Ok(Self { dir, sha256 })
    }

    /// Begins a manifest.
    pub fn create(&self) -> Result<Ingest<'_>> {
        let file = tempfile::Builder::new()
            .prefix(INGEST)
            .permissions(fs::Permissions::from_mode(0o400))
            .tempfile_in(&self.dir)
            .map_err(|error| Error::io("create", &self.dir, error))?;
        Ok(Ingest { store: self, out: HashingStream::new(BufWriter::with_capacity(WRITE_BUFFER, file)) })
    }

    /// Opens a manifest whose content was just checked against its digest.
    ///
    /// # Errors
    /// `NotFound`, or `Corrupt` if the content is not what the digest says.
    pub fn read(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("no manifest {digest} is stored")),
            _ => Error::io("open", &path, error),
        })?;
        let mut hashing = HashingStream::new(file);
        io::copy(&mut hashing, &mut io::sink()).map_err(|error| Error::io("read", &path, error))?;
        let (mut file, found, _) = hashing.finish();
        if found != *digest {
            let message = format!("the stored manifest {digest} is damaged: its content is {found}");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        file.rewind().map_err(|error| Error::io("lseek", &path, error))?;
        Ok(file)
    }

    /// Every stored manifest and its size in bytes, in the order of the digests.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let failed = |error| Error::io("readdir", &self.sha256, error);
        let mut manifests = Vec::new();
        for entry in fs::read_dir(&self.sha256).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("sha256:{}", entry.file_name().to_string_lossy());
            let Some(digest) = Digest::parse(name.as_bytes()) else { continue };
            match entry.metadata() {
                Ok(metadata) => manifests.push((digest, metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("stat", entry.path(), error)),
            }
        }
        manifests.sort();
        Ok(manifests)
    }

    /// Removes a manifest.
    ///
    /// # Errors
    /// `NotFound` if it is not stored.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        fs::remove_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("no manifest {digest} is stored")),
            _ => Error::io("unlink", &path, error),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.sha256.join(digest.hex())
    }
}

/// A manifest on its way into the store; dropped, it is gone.
pub struct Ingest<'a> {
    store: &'a Store,
    out: HashingStream<BufWriter<NamedTempFile>>,
}

impl Ingest<'_> {
    /// Makes the manifest durable under its digest.
    pub fn publish(self) -> Result<Digest> {
        let Self { store, out } = self;
        let (out, digest, _) = out.finish();
        let failed = |call, error| Error::io(call, &store.dir, error);
        let file = out.into_inner().map_err(|error| failed("write", error.into_error()))?;
        file.as_file().sync_all().map_err(|error| failed("fsync", error))?;
        let path = store.path(&digest);
        file.persist(&path).map_err(|error| Error::io("rename", &path, error.error))?;
        let sha256 = File::open(&store.sha256).map_err(|error| Error::io("open", &store.sha256, error))?;
        sha256.sync_all().map_err(|error| Error::io("fsync", &store.sha256, error))?;
        Ok(digest)
    }
}

impl Write for Ingest<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.out.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn put(store: &Store, content: &[u8]) -> Digest {
        let mut ingest = store.create().unwrap();
        ingest.write_all(content).unwrap();
        ingest.publish().unwrap()
    }

    #[test]
    fn what_is_put_is_found_by_its_digest() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = put(&store, b"one");
        assert_eq!(digest, Digest::of(b"one"));
        assert_eq!(put(&store, b"one"), digest, "twice is once");
        put(&store, b"");
        let mut expected = vec![(digest, 3), (Digest::of(b""), 0)];
        expected.sort();
        assert_eq!(store.list().unwrap(), expected);
        let mut content = Vec::new();
        store.read(&digest).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, b"one");
        store.remove(&digest).unwrap();
        assert_eq!(store.read(&digest).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.remove(&digest).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_damaged_manifest_is_not_handed_out() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = put(&store, b"content");
        fs::write(store.path(&digest), b"Content").unwrap();
        let error = store.read(&digest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&digest.to_string()));
    }

    #[test]
    fn a_start_removes_what_was_half_written() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = put(&store, b"whole");
        let mut ingest = store.create().unwrap();
        ingest.write_all(b"half").unwrap();
        std::mem::forget(ingest);
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 2);
        let store = Store::open(root.path()).unwrap();
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 1);
        assert_eq!(store.list().unwrap(), [(digest, 5)]);
    }

    #[test]
    fn a_manifest_that_was_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        store.create().unwrap().write_all(b"half").unwrap();
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 1);
        assert_eq!(store.list().unwrap(), []);
    }
}
