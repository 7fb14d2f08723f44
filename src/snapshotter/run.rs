// SPDX-License-Identifier: Apache-2.0
//! What tells one run of the daemon from another, to know whether files may have been lost between the two.
//!
//! Files that were written and not synced are in the kernel's memory, as long as their filesystem stays mounted. So
//! a daemon that was killed has lost nothing, and one whose machine lost power has. The difference is the mount: its
//! number is unique between two boots, and the boot has a number too. Another mount may be the same filesystem
//! all the while (in a mount namespace of its own, say); then layers are compared with their images once too often.
//!
//! Before Linux 6.8 the number of a mount may come again, once that mount is gone. There the device has to be the same,
//! too; what such a kernel does not tell is a filesystem that lost its writes and was mounted again without a reboot.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// Asks statx(2) for a mount's number that no later mount gets: since Linux 6.8. rustix has no name for it.
const MOUNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The kernel's number of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The name of a run on the mount that `root` lies on; empty if this kernel cannot tell, which is the name of none.
pub(super) fn name(root: &Path) -> String {
    let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    match (boot.trim(), mount(root)) {
        ("", _) | (_, None) => String::new(),
        (boot, Some(mount)) => format!("boot {boot} {mount}"),
    }
}

fn mount(root: &Path) -> Option<String> {
    let stat = |wanted: StatxFlags| {
        let found = rustix::fs::statx(CWD, root, AtFlags::SYMLINK_NOFOLLOW, wanted).ok()?;
        (found.stx_mask & wanted.bits() != 0).then_some(found)
    };
    let unique = stat(MOUNT_ID_UNIQUE).map(|found| format!("mount {}", found.stx_mnt_id));
    unique.or_else(|| {
        let found = stat(StatxFlags::MNT_ID)?;
        Some(format!("device {}:{} mount {}", found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_mount_is_another_run() {
        let dir = tempfile::tempdir().unwrap();
        if mount(dir.path()).is_none() {
            assert_eq!(name(dir.path()), "");
            return;
        }
        let (here, there) = (name(dir.path()), name(Path::new("/proc")));
        assert_eq!(here, name(dir.path()));
        assert!(!here.is_empty() && here != there, "{here} {there}");
    }
}
