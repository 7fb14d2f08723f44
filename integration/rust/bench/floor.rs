// SPDX-License-Identifier: Apache-2.0
//! The floor: what no program that has to hash these bytes can do without.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, openat};
use sha2::{Digest, Sha256};

use crate::Outcome;

/// Bytes read at once: what the program under test reads.
const READ_BUFFER: usize = 128 << 10;

/// Files that a thread takes at once, if there are many: few enough that none waits for the other at the end.
const TAKEN: usize = 64;

/// Writes the paths of the files beneath `dir` to standard output, relative to it, sorted within each directory,
/// each with a NUL; of the paths of one inode only the first.
pub fn list(dir: &Path) -> Outcome {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut seen = HashSet::new();
    list_directory(dir, Path::new(""), &mut seen, &mut out)?;
    Ok(out.flush()?)
}

fn list_directory(dir: &Path, relative: &Path, seen: &mut HashSet<u64>, out: &mut impl Write) -> Outcome {
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = relative.join(entry.file_name());
        let file_type = entry.file_type()?;
        if file_type.is_dir() {
            list_directory(&entry.path(), &path, seen, out)?;
        } else if file_type.is_file() {
            let metadata = entry.metadata()?;
            if metadata.nlink() == 1 || seen.insert(metadata.ino()) {
                out.write_all(path.as_os_str().as_bytes())?;
                out.write_all(&[0])?;
            }
        }
    }
    Ok(())
}

/// Opens, reads and hashes the files of a list, on so many threads, and prints how many bytes they have.
pub fn hash(dir: &Path, list: &Path, threads: usize) -> Outcome {
    let list = fs::read(list)?;
    std::env::set_current_dir(dir)?;
    // With their NUL: the kernel takes them as they lie.
    let paths: Vec<&[u8]> = list.split_inclusive(|&byte| byte == 0).collect();
    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let taken = (paths.len() / threads / 16).clamp(1, TAKEN);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&paths, taken, &next, &bytes))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked")?)
    })
    .map_err(|error: Box<dyn std::error::Error + Send + Sync>| error.to_string())?;
    println!("{} files, {} bytes", paths.len(), bytes.into_inner());
    Ok(())
}

fn work(
    paths: &[&[u8]],
    taken: usize,
    next: &AtomicUsize,
    bytes: &AtomicU64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NOATIME);
    let mut buffer = vec![0; READ_BUFFER];
    // The directory of the file before: the next one most often lies there too.
    let mut directory: (&[u8], Option<OwnedFd>) = (b"", None);
    // So that nothing is optimised away.
    let mut all = 0;
    loop {
        let from = next.fetch_add(taken, Ordering::Relaxed);
        if from >= paths.len() {
            println!("{all:02x}");
            return Ok(());
        }
        for path in &paths[from..paths.len().min(from + taken)] {
            let (parent, name) =
                path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1));
            if parent != directory.0 {
                let relative = if parent.is_empty() { b"." } else { parent };
                directory = (parent, Some(openat(CWD, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?));
            }
            let at = directory.1.as_ref().map_or(CWD, OwnedFd::as_fd);
            let file = openat(at, CStr::from_bytes_with_nul(name)?, FILE, Mode::empty())?;
            let mut hasher = Sha256::new();
            loop {
                let n = rustix::io::read(&file, buffer.as_mut_slice())?;
                hasher.update(&buffer[..n]);
                bytes.fetch_add(n as u64, Ordering::Relaxed);
                // A short read of a regular file was the end.
                if n < buffer.len() {
                    break;
                }
            }
            all ^= hasher.finalize()[0];
        }
    }
}

/// Decompresses gzip files with what the program under test uses.
pub fn inflate(files: &[&str]) -> Outcome {
    let mut buffer = vec![0; READ_BUFFER];
    for file in files {
        let source = BufReader::with_capacity(READ_BUFFER, File::open(file)?);
        let mut decoder = flate2::bufread::MultiGzDecoder::new(source);
        let mut bytes = 0;
        loop {
            match decoder.read(&mut buffer)? {
                0 => break,
                n => bytes += n,
            }
        }
        println!("{bytes} bytes");
    }
    Ok(())
}
