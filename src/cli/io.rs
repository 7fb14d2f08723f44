// SPDX-License-Identifier: Apache-2.0
//! Files and `-`: inputs that can be read twice, outputs that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use tempfile::{NamedTempFile, SpooledTempFile};

use super::Global;
use crate::digest::{Digest, HashingStream};
use crate::error::{ErrorKind, Escaped};
use crate::manifest::{Reader, with_resources};
use crate::tree::{InodeId, TEMPORARY_PREFIX};

/// Bytes of standard input kept in memory before they go to a temporary file.
const SPOOL_MEMORY: usize = 1 << 20;

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What every command that reads a manifest can be told about it.
#[derive(Debug, Clone, Args)]
pub struct Expectation {
    /// Digest that the manifest must have (sha256:<64 hex digits>), checked before anything is done
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<Digest>,
}

/// Opens a manifest for one reading, with its inode, if it has one of its own.
pub fn open(path: &Path, digest: Option<&Digest>) -> Result<(Box<dyn Read>, Option<InodeId>)> {
    let (source, id): (Box<dyn Read>, _) = match is_standard(path) {
        true => (Box::new(io::stdin().lock()), inode_of(io::stdin().as_fd())),
        false => {
            let file = open_file(path)?;
            let id = inode_of(file.as_fd());
            (Box::new(file), id)
        }
    };
    match digest {
        None => Ok((source, id)),
        // What was checked is what is read, whatever becomes of the file meanwhile.
        Some(_) => Ok((Box::new(spool(path, source, digest)?), id)),
    }
}

/// The same of one that must have resources, unless nothing is what is meant.
pub fn open_with_resources(
    path: &Path,
    digest: Option<&Digest>,
    allow_empty: bool,
) -> Result<(Box<dyn Read>, Option<InodeId>)> {
    let (source, id) = open(path, digest)?;
    if allow_empty {
        return Ok((source, id));
    }
    let source = with_resources(source, &name_of(path)).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => anyhow!("{error} (see --allow-empty)"),
        _ => error.into(),
    })?;
    Ok((Box::new(source), id))
}

/// A manifest's name, for a person.
pub fn name_of(path: &Path) -> String {
    if is_standard(path) { "manifest on standard input".into() } else { format!("manifest {}", Escaped::path(path)) }
}

/// Says that a manifest has no resources, where that is no reason not to show it.
pub fn warn_empty(global: &Global, path: &Path) {
    if !global.quiet {
        say!("continuity: warning: {} has no resources", name_of(path));
    }
}

/// Something that can be read from the start again.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// Opens a manifest for several readings; standard input is spooled, and what must have a digest.
pub fn open_seekable(path: &Path, digest: Option<&Digest>) -> Result<Box<dyn ReadSeek>> {
    if is_standard(path) {
        return Ok(Box::new(spool(path, io::stdin().lock(), digest)?));
    }
    let mut file = open_file(path)?;
    match file.stream_position() {
        Ok(_) if digest.is_none() => Ok(Box::new(file)),
        _ => Ok(Box::new(spool(path, file, digest)?)),
    }
}

/// Keeps what is read of a manifest for another reading. It is checked on the way: what is no manifest must not fill
/// the disk.
fn spool(path: &Path, source: impl Read, digest: Option<&Digest>) -> Result<SpooledTempFile> {
    let mut spool = tempfile::spooled_tempfile(SPOOL_MEMORY);
    let mut tee = Tee { source: HashingStream::new(source), copy: &mut spool };
    let mut reader = Reader::new(&mut tee);
    while reader.next().map_err(|error| error.context(name_of(path)))?.is_some() {}
    let (_, found, _) = tee.source.finish();
    if let Some(expected) = digest.filter(|expected| **expected != found) {
        bail!("{}: its digest is {found}, not {expected}: it was changed or cut off", name_of(path));
    }
    spool.seek(SeekFrom::Start(0)).context("spooling the manifest")?;
    Ok(spool)
}

/// Copies what is read through it.
struct Tee<'a, R> {
    source: R,
    copy: &'a mut SpooledTempFile,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..n])?;
        Ok(n)
    }
}

fn open_file(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("open {}", Escaped::path(path)))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        bail!("{} is a directory, not a manifest", Escaped::path(path));
    }
    Ok(file)
}

fn inode_of(fd: impl AsFd) -> Option<InodeId> {
    let stat = rustix::fs::fstat(fd).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    regular.then_some(InodeId::of(&stat))
}

/// An output that replaces `FILE` only when it is complete; standard output and devices are written as it goes.
pub enum Output {
    /// Standard output, or a file that is not a regular one.
    Stream(Box<dyn Write>, Option<InodeId>),
    /// A temporary file beside its destination.
    File { temporary: BufWriter<NamedTempFile>, destination: PathBuf },
}

impl Output {
    /// Opens an output; none and `-` mean standard output, which must not be a terminal if `binary`.
    pub fn create(path: Option<&Path>, binary: bool) -> Result<Self> {
        let Some(path) = path.filter(|path| !is_standard(path)) else {
            if binary && io::stdout().is_terminal() {
                bail!("not writing a binary manifest to a terminal: use -o FILE, or --format text");
            }
            let id = inode_of(io::stdout().as_fd());
            return Ok(Self::Stream(Box::new(io::stdout().lock()), id));
        };
        // Through a symlink, as a shell's redirection would.
        let destination = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&destination).is_ok_and(|m| !m.is_file()) {
            let file = File::options().write(true).open(path);
            let file = file.with_context(|| format!("open {}", Escaped::path(path)))?;
            return Ok(Self::Stream(Box::new(file), None));
        }
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let temporary = builder.prefix(TEMPORARY_PREFIX).permissions(mode).tempfile_in(parent);
        let temporary = temporary.with_context(|| format!("create a file in {}", Escaped::path(parent)))?;
        Ok(Self::File { temporary: BufWriter::new(temporary), destination })
    }

    /// Inodes that are this output, or will be replaced by it.
    pub fn inodes(&self) -> Vec<InodeId> {
        match self {
            Self::Stream(_, id) => id.iter().copied().collect(),
            Self::File { temporary, destination } => {
                let old = File::open(destination).ok().and_then(|file| inode_of(file.as_fd()));
                inode_of(temporary.get_ref().as_file().as_fd()).into_iter().chain(old).collect()
            }
        }
    }

    /// Puts the output in place.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Stream(mut out, _) => out.flush().context("write"),
            Self::File { temporary, destination } => {
                let shown = Escaped::path(&destination).to_string();
                let temporary = temporary.into_inner().map_err(io::IntoInnerError::into_error).context("write")?;
                temporary.as_file().sync_all().with_context(|| format!("fsync {shown}"))?;
                temporary.persist(&destination).with_context(|| format!("rename to {shown}"))?;
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(out, _) => out.write(data),
            Self::File { temporary, .. } => temporary.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(out, _) => out.flush(),
            Self::File { temporary, .. } => temporary.flush(),
        }
    }
}
