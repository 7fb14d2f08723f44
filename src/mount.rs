// SPDX-License-Identifier: Apache-2.0
//! containerd's mounts, made read-only where nobody sees them.
//!
//! Invariant: no mount made here is ever in a mount table that another process, or another thread of this one, can
//! see. A helper thread leaves the mount namespace, mounts, clones what it mounted into a detached tree, opens the
//! root of that and ends; the handle keeps the tree alive, and closing it, or being killed, dissolves it.
//!
//! Nothing is ever written: every mount is `ro,nosuid,nodev,noexec`, whatever the options say, and an overlay with an
//! `upperdir` becomes one without, because a second writable mount on a live upper directory is undefined.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::namespace;

/// A mount of containerd's: what a caller performs to reach a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, `overlay`, or the type of a filesystem.
    pub kind: String,
    /// The directory to bind; `overlay` for an overlay; else a device.
    pub source: String,
    /// Beneath the place where the caller mounts; mostly empty.
    pub target: String,
    /// Mount options, in order.
    pub options: Vec<String>,
}

impl Mount {
    /// The directories that an overlay shows, topmost first, its `upperdir` among them; empty for any other mount. They
    /// may be relative to the directory in which whoever mounted it was.
    pub fn overlay_directories(&self) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for option in self.options.iter().filter(|_| self.kind == "overlay") {
            if let Some(upper) = option.strip_prefix("upperdir=") {
                directories.insert(0, PathBuf::from(upper));
            } else if let Some(list) = ["lowerdir=", "lowerdir+="].iter().find_map(|name| option.strip_prefix(name)) {
                directories.extend(split_unescaped(list).iter().map(|path| PathBuf::from(unescape(path))));
            }
        }
        directories
    }

    /// Whether it shows a directory as it is.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }

    /// The directories that it shows: those of an overlay, or the one of a bind mount.
    pub fn directories(&self) -> Vec<PathBuf> {
        match self.is_bind() {
            true => vec![PathBuf::from(&self.source)],
            false => self.overlay_directories(),
        }
    }
}

/// How every mount is made. Reading needs nothing more.
const READ_ONLY: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Bytes of mount options that every kernel takes: it copies one page, 4 KiB at least, of which containerd leaves 512
/// bytes free, and so do we.
const OPTIONS_MAX: usize = 4096 - 512;

/// Options that are flags or propagation types, not data for the filesystem. None of them changes what is read
/// through a private read-only mount, so they are dropped.
const FLAGS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "rbind",
    "relatime",
    "ro",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
    "unbindable",
];

/// Overlay options that make sense only with an `upperdir`, or that an index needs; `index=off` replaces them.
const OVERLAY_WRITABLE: &[&str] = &["workdir=", "index=", "nfs_export=", "volatile"];

/// Mounts `mounts`, one over the other, and opens the root of the result. `at` is an existing directory on which
/// they are mounted meanwhile; it shows nothing of it.
///
/// # Errors
/// `InvalidInput` and `Unsupported` for mounts that cannot be made this way, `Io` for those that failed.
pub fn open(mounts: &[Mount], at: &Path) -> Result<OwnedFd> {
    if mounts.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "no mounts given"));
    }
    let plan = mounts.iter().map(Step::plan).collect::<Result<Vec<_>>>()?;
    let at = at.to_owned();
    let thread = std::thread::Builder::new()
        .name("private-mount".into())
        .spawn(move || mount_all(&plan, &at))
        .map_err(|error| Error::io("clone", "", error))?;
    thread.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the mounting thread panicked")))
}

/// Runs in a thread of its own, which ends afterwards.
fn mount_all(plan: &[Step], at: &Path) -> Result<OwnedFd> {
    namespace::leave_mounts().map_err(|errno| {
        Error::io("unshare(CLONE_FS|CLONE_NEWNS)", "", errno).context("a private mount needs root (CAP_SYS_ADMIN)")
    })?;
    for step in plan {
        step.perform(at)?;
    }
    // The clone, unlike the mounts themselves, keeps nested mounts in place when this namespace dies.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, at, flags).map_err(|errno| Error::io("open_tree", at, errno))?;
    rustix::fs::openat(&tree, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::io("openat", at, errno))
}

/// One mount, thought through.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    what: What,
    /// Beneath the mounting place; mostly empty.
    target: String,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Bind { source: String, recursive: bool },
    Overlay { lower: Vec<String>, options: Vec<String> },
    Other { kind: String, source: String, options: Vec<String> },
}

impl Step {
    fn plan(mount: &Mount) -> Result<Self> {
        let has = |name: &str| mount.options.iter().any(|option| option == name);
        if let Some(option) = mount.options.iter().find(|option| needs_more(option)) {
            return Err(unsupported(format!("mount option {option:?}")));
        }
        let options = || mount.options.iter().filter(|o| !FLAGS.contains(&o.as_str())).cloned();
        let what = match mount.kind.as_str() {
            kind if kind == "bind" || has("bind") || has("rbind") => {
                absolute(&mount.source)?;
                What::Bind { source: mount.source.clone(), recursive: has("rbind") || kind == "bind" && !has("bind") }
            }
            "overlay" => plan_overlay(options().collect())?,
            "" => return Err(Error::new(ErrorKind::InvalidInput, "a mount without a type")),
            kind if kind.contains(['/', '.']) || kind == "fuse" => {
                return Err(unsupported(format!("mount type {kind:?}")));
            }
            kind => What::Other { kind: kind.into(), source: mount.source.clone(), options: options().collect() },
        };
        Ok(Self { what, target: mount.target.clone() })
    }

    fn perform(&self, at: &Path) -> Result<()> {
        let place = Place { at, target: self.target.trim_matches('/') };
        match &self.what {
            What::Bind { source, recursive } => bind(source, &place, *recursive),
            What::Overlay { lower, options } => overlay(lower, options, &place),
            What::Other { kind, source, options } => mount(kind, source, &place, &options.join(",")),
        }
    }
}

/// Where a mount goes.
struct Place<'a> {
    at: &'a Path,
    /// Beneath `at`; mostly empty.
    target: &'a str,
}

impl Place<'_> {
    /// Calls `f` with an absolute path of what is topmost there at this moment.
    fn resolved<T>(&self, f: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        if self.target.is_empty() {
            return f(self.at);
        }
        let fd = resolve_in(self.at, self.target)?;
        f(&PathBuf::from(format!("/proc/thread-self/fd/{}", fd.as_raw_fd())))
    }
}

/// Options that stand for work that containerd does around the mount.
fn needs_more(option: &str) -> bool {
    ["loop", "remount"].contains(&option) || option.starts_with("uidmap=") || option.starts_with("gidmap=")
}

fn unsupported(what: String) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} cannot be mounted privately: mount it and give its path"))
}

fn absolute(path: &str) -> Result<()> {
    match path.starts_with('/') {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidInput, format!("mount source {path:?} is not an absolute path"))),
    }
}

/// The read-only form of an overlay: the upper directory becomes the topmost lower one.
fn plan_overlay(options: Vec<String>) -> Result<What> {
    let mut lower = Vec::new();
    let mut rest = Vec::new();
    for option in options {
        if let Some(upper) = option.strip_prefix("upperdir=") {
            lower.insert(0, escape_colons(upper));
        } else if let Some(list) = option.strip_prefix("lowerdir=") {
            lower.extend(split_unescaped(list));
        } else if !OVERLAY_WRITABLE.iter().any(|prefix| option.starts_with(prefix)) {
            rest.push(option);
        }
    }
    for path in lower.iter().filter(|path| !path.is_empty()) {
        absolute(path)?;
    }
    match lower.as_slice() {
        [] => Err(Error::new(ErrorKind::InvalidInput, "an overlay mount without a lowerdir")),
        // The kernel wants two; of one, a bind shows the same.
        [only] => Ok(What::Bind { source: unescape(only), recursive: false }),
        _ => {
            // Sharing a layer with a live, writable overlay is refused with an index.
            rest.push("index=off".into());
            Ok(What::Overlay { lower, options: rest })
        }
    }
}

/// Splits at colons that no backslash escapes; the parts keep their escapes.
fn split_unescaped(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in list.chars() {
        match c {
            ':' if !escaped => parts.push(String::new()),
            c => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

/// A colon means nothing in `upperdir`, but separates in `lowerdir`.
fn escape_colons(path: &str) -> String {
    split_unescaped(path).join("\\:")
}

fn unescape(path: &str) -> String {
    let mut chars = path.chars();
    let mut plain = String::new();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// Resolves `target` as if `at` were `/`: a symlink inside a container's tree cannot lead out of it.
fn resolve_in(at: &Path, target: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(at, flags, Mode::empty()).map_err(|errno| Error::io("open", at, errno))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&top, target, flags, Mode::empty(), resolve)
        .map_err(|errno| Error::io("openat2", target, errno).context("mount target"))
}

fn bind(source: &str, place: &Place<'_>, recursive: bool) -> Result<()> {
    place.resolved(|path| {
        match recursive {
            true => rustix::mount::mount_bind_recursive(source, path),
            false => rustix::mount::mount_bind(source, path),
        }
        .map_err(|errno| Error::io("mount(MS_BIND)", source, errno))
    })?;
    // Resolved again: the new mount is on top now.
    place.resolved(|path| {
        rustix::mount::mount_remount(path, MountFlags::BIND | READ_ONLY, "")
            .map_err(|errno| Error::io("mount(MS_REMOUNT|MS_BIND|MS_RDONLY)", source, errno))
    })
}

fn overlay(lower: &[String], options: &[String], place: &Place<'_>) -> Result<()> {
    let mut data = overlay_data(lower, options, 0);
    if data.len() > OPTIONS_MAX {
        let prefix = common_parent(lower);
        data = overlay_data(lower, options, prefix.len());
        if data.len() > OPTIONS_MAX {
            let message = format!("overlay options of {} bytes do not fit into a page, in whatever form", data.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        // The working directory is this thread's own; the place is absolute.
        let parent = unescape(prefix);
        rustix::process::chdir(&parent).map_err(|errno| Error::io("chdir", &parent, errno))?;
    }
    mount("overlay", "overlay", place, &data)
}

fn overlay_data(lower: &[String], options: &[String], skip: usize) -> String {
    let lower: Vec<&str> = lower.iter().map(|path| path.get(skip..).unwrap_or("")).collect();
    let mut data = format!("lowerdir={}", lower.join(":"));
    for option in options {
        data.push(',');
        data.push_str(option);
    }
    data
}

/// The longest prefix, up to and with a slash, that every path goes on after. Empty paths, which set data-only
/// layers apart, do not count.
fn common_parent(paths: &[String]) -> &str {
    let mut paths = paths.iter().filter(|path| !path.is_empty());
    let Some(first) = paths.next() else { return "" };
    let parent = |path: &str| path.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
    let mut prefix = &first[..parent(first)];
    for path in paths {
        while !path[..parent(path)].starts_with(prefix) {
            prefix = &prefix[..parent(prefix)];
        }
    }
    prefix
}

fn mount(kind: &str, source: &str, place: &Place<'_>, data: &str) -> Result<()> {
    let data =
        CString::new(data).map_err(|_| Error::new(ErrorKind::InvalidInput, "a mount option contains a NUL byte"))?;
    let mounted = |path: &Path| {
        rustix::mount::mount(source, path, kind, READ_ONLY, data.as_c_str()).map_err(|errno| {
            let error = Error::io("mount", source, errno).context(format!("{kind} mount"));
            match errno {
                Errno::NODEV => error.context("the kernel does not know this filesystem"),
                _ => error,
            }
        })
    };
    place.resolved(mounted)
}

#[cfg(test)]
mod tests;
