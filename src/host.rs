// SPDX-License-Identifier: Apache-2.0
//! What a host puts on files by itself, and which of an image's extended attributes it keeps.
//!
//! **An attribute that no layer carries is the host's, not damage**, unless it is of a kind that images bring. Security
//! modules label every file, network filesystems show access lists, btrfs shows its compression, XFS shows POSIX ACLs a
//! second time: all of that may come, change and go without a byte of the image being different.

use std::path::Path;
use std::sync::LazyLock;

/// Namespaces, or single attributes, that images bring; everything else is the host's.
const IMAGE: [&[u8]; 4] = [b"user.", b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];

/// Begins the names of what overlayfs keeps in a layer's directory.
pub const TRUSTED_OVERLAY: &[u8] = b"trusted.overlay.";

/// The same where it is mounted with `userxattr`, as in a user namespace.
pub const USER_OVERLAY: &[u8] = b"user.overlay.";

/// Attributes that a security module rewrites, by the beginning of their names, and what exists where it is active.
const REWRITTEN: [(&[u8], &str); 4] = [
    (b"security.selinux", "/sys/fs/selinux/enforce"),
    (b"security.SMACK64", "/sys/fs/smackfs/load2"),
    (b"security.ima", "/sys/kernel/security/ima"),
    (b"security.evm", "/sys/kernel/security/evm"),
];

/// For each of [`REWRITTEN`], whether the module is active. Asked once: none of them comes or goes at run time.
static ACTIVE: LazyLock<[bool; REWRITTEN.len()]> =
    LazyLock::new(|| REWRITTEN.map(|(_, path)| Path::new(path).exists()));

/// Whether an extended attribute of this name is the host's own, overlayfs' among them.
pub fn owns(name: &[u8]) -> bool {
    is_overlays(name)
        || !IMAGE
            .iter()
            .any(|image| name.strip_prefix(*image).is_some_and(|rest| image.ends_with(b".") || rest.is_empty()))
}

/// Whether an extended attribute is one that overlayfs keeps in a layer's directory, in either of its namespaces.
pub fn is_overlays(name: &[u8]) -> bool {
    overlays(name).is_some()
}

/// What overlayfs calls one of its extended attributes, without the namespace.
pub fn overlays(name: &[u8]) -> Option<&[u8]> {
    [TRUSTED_OVERLAY, USER_OVERLAY].into_iter().find_map(|prefix| name.strip_prefix(prefix))
}

/// Whether an attribute that a layer carries can be expected on the disk as it was written: not where a security
/// module of this host rewrites it.
pub fn keeps(name: &[u8]) -> bool {
    keeps_with(name, &*ACTIVE)
}

fn keeps_with(name: &[u8], active: &[bool]) -> bool {
    !REWRITTEN.iter().zip(active).any(|((begin, _), active)| *active && name.starts_with(begin))
}

/// Whether overlays of this host show contents that lie below a file without its own.
pub fn follows_metacopy() -> bool {
    static FOLLOWS: LazyLock<bool> = LazyLock::new(|| overlay_has("metacopy"));
    *FOLLOWS
}

/// Whether overlays of this host show what a directory was moved with.
pub fn follows_redirect() -> bool {
    static FOLLOWS: LazyLock<bool> =
        LazyLock::new(|| overlay_has("redirect_always_follow") || overlay_has("redirect_dir"));
    *FOLLOWS
}

/// Whether a parameter of the overlay module is on.
fn overlay_has(parameter: &str) -> bool {
    let value = std::fs::read_to_string(Path::new("/sys/module/overlay/parameters").join(parameter));
    value.is_ok_and(|value| value.trim() == "Y")
}

/// Whether this process runs in a user namespace other than the first, where devices cannot be made and
/// `trusted.*` cannot be set. Asked once: this process stays where it was started.
pub fn in_user_namespace() -> bool {
    // Unreadable: a kernel without user namespaces.
    static HERE: LazyLock<bool> =
        LazyLock::new(|| maps_less_than_all(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default()));
    *HERE
}

/// The map of the first user namespace is the whole range.
fn maps_less_than_all(uid_map: &str) -> bool {
    let fields: Vec<&str> = uid_map.split_whitespace().collect();
    !matches!(fields.as_slice(), [] | ["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_images_bring_is_not_the_hosts() {
        for name in [
            "security.selinux",
            "security.SMACK64EXEC",
            "security.ima",
            "security.evm",
            "security.sehash",
            "security.capability2",
            "system.nfs4_acl",
            "system.posix_acl_access_2",
            "btrfs.compression",
            "lustre.lov",
            "trusted.SGI_ACL_FILE",
            "com.apple.provenance",
            "trusted.overlay.origin",
            "user.overlay.impure",
        ] {
            assert!(owns(name.as_bytes()), "{name}");
        }
        for name in [
            "user.origin",
            "user.overlays",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ] {
            assert!(!owns(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_label_is_kept_where_no_module_rewrites_it() {
        let active = [true, false, false, false];
        assert!(!keeps_with(b"security.selinux", &active));
        assert!(keeps_with(b"security.SMACK64", &active));
        assert!(keeps_with(b"security.capability", &[true; 4]));
        assert!(keeps_with(b"user.origin", &[true; 4]));
    }

    #[test]
    fn a_user_namespace_maps_less_than_all() {
        assert!(!maps_less_than_all("         0          0 4294967295\n"));
        assert!(!maps_less_than_all(""));
        assert!(maps_less_than_all("         0       1000          1\n"));
        assert!(maps_less_than_all("         0     100000      65536\n"));
    }
}
