# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Filesystems of our own: each in a sparse file, on a loop device. The mount is of our private namespace and the device
# is freed with its last mount, so both are gone however this ends.

# Where containerd's btrfs snapshotter has its root. A directory without a btrfs on it makes containerd leave it out.
readonly btrfs_root=$work/btrfs

# mount_disk TYPE DIRECTORY SIZE: makes one as mkfs does, in DIRECTORY.image, and mounts it.
mount_disk() {
	truncate -s "$3" "$2.image"
	"mkfs.$1" -q "$2.image"
	mkdir -p "$2"
	mount -t "$1" -o loop "$2.image" "$2"
}

# unmount_disk DIRECTORY: takes it away, with all that is on it.
unmount_disk() {
	umount "$1"
	rm -f "$1.image"
	rmdir "$1"
}
