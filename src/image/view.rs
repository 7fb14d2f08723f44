// SPDX-License-Identifier: Apache-2.0
//! A committed snapshot, seen through a view of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Images;
use crate::containerd::{ChainId, Lease};
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::labels;
use crate::layer::Unpacking;
use crate::mount::{self, Mount};
use crate::tree::Root;

/// Label of a view that is made to look at what may be damaged: our own snapshotter does not refuse it.
const UNVERIFIED: (&str, &str) = (labels::UNVERIFIED, labels::UNVERIFIED_VALUE);

/// How long a lease outlives a process that was killed. Longer than a check of a large image on a slow disk.
const LEASE_EXPIRY: Duration = Duration::from_secs(24 * 3600);

impl Images {
    pub(super) fn lease(&self) -> Result<Lease<'_>> {
        self.client.lease(LEASE_EXPIRY)
    }

    /// Makes a view of a committed snapshot, which goes with the lease; returns its mounts.
    pub(super) fn view(&self, lease: &mut Lease<'_>, snapshotter: &str, chain: ChainId) -> Result<Vec<Mount>> {
        let labels = BTreeMap::from([(UNVERIFIED.0.to_owned(), UNVERIFIED.1.to_owned())]);
        lease.view(snapshotter, &chain.to_string(), &labels)
    }

    /// What the kernel can mount: as it is, or what is left after containerd's mount manager has made the rest of it,
    /// which goes with the lease.
    ///
    /// # Errors
    /// `Unsupported` if that needs a mount manager, and containerd has none.
    pub(super) fn mountable(&self, lease: &mut Lease<'_>, mounts: Vec<Mount>) -> Result<Vec<Mount>> {
        let Some(mount) = mounts.iter().find(|mount| needs_mount_manager(mount)) else { return Ok(mounts) };
        lease.activate(&mounts).map_err(|error| match error.kind() {
            ErrorKind::Unsupported => {
                let message = format!(
                    "mounts of type {:?} are made by containerd's mount manager, which came with containerd 2.2",
                    mount.kind
                );
                Error::new(ErrorKind::Unsupported, message).with_source(error)
            }
            _ => error,
        })
    }

    /// Mounts where nobody sees it, read-only.
    pub(super) fn mount(&self, mounts: &[Mount]) -> Result<Root> {
        let failed = |error| Error::io("mkdtemp", std::env::temp_dir(), error);
        // The directory is only needed while it is mounted on.
        let place = tempfile::Builder::new().prefix("continuity-mount-").tempdir().map_err(failed)?;
        mount::open(mounts, place.path()).map(Root::from_fd)
    }
}

/// Whether somebody has to prepare something before the kernel can make this mount: a loop device, a filesystem, a
/// path that an earlier mount provides.
fn needs_mount_manager(mount: &Mount) -> bool {
    mount.kind.contains('/') || mount.kind == "erofs" || mount.options.iter().any(|option| option == "loop")
}

/// The snapshotter that stacks layers by copying directories. Its mounts are those of any that shows a directory.
const COPYING: &str = "native";

/// How the layers beneath these mounts of a snapshotter were unpacked.
pub(super) fn unpacking_of(mounts: &[Mount], snapshotter: &str) -> Unpacking {
    match mounts.iter().find(|mount| mount.kind == "overlay") {
        // The mark of an overlay in a user namespace, where containerd unpacks through the mount.
        Some(overlay) if overlay.options.iter().any(|option| option == "userxattr") => Unpacking::Kernel,
        Some(_) => Unpacking::Overlay,
        None if snapshotter == COPYING => Unpacking::Copied,
        None => Unpacking::Mounted,
    }
}

/// How layers of our own snapshotter were unpacked, which runs where containerd does.
pub(super) fn unpacking_here() -> Unpacking {
    match host::in_user_namespace() {
        true => Unpacking::Kernel,
        false => Unpacking::Overlay,
    }
}

/// The layers' own directories, topmost first, where a view shows them as an overlay of several.
pub(super) fn layer_directories(mounts: &[Mount]) -> Option<Vec<PathBuf>> {
    match mounts {
        [mount] if mount.kind == "overlay" => Some(mount.overlay_directories()),
        _ => None,
    }
}
