# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A btrfs of our own, for containerd's snapshotter of that name: a file, on a loop device. The mount is of our private
# namespace and the device is freed with its last mount, so both are gone however this ends.

# Where the snapshotter has its root. A directory without a btrfs on it makes containerd leave the snapshotter out.
readonly btrfs_root=$work/btrfs

# Size of the file, which is sparse: what the largest image takes is far less.
readonly BTRFS_SIZE=4G

# Before containerd starts.
mount_btrfs() {
	truncate -s "$BTRFS_SIZE" "$work/btrfs.image"
	mkfs.btrfs --quiet "$work/btrfs.image"
	mkdir -p "$btrfs_root"
	mount -t btrfs -o loop "$work/btrfs.image" "$btrfs_root"
}

# After containerd has ended.
unmount_btrfs() {
	umount "$btrfs_root"
	rm -f "$work/btrfs.image"
	rmdir "$btrfs_root"
}
