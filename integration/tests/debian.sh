# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# An image as it is used: Debian, as debootstrap installs it, with three layers of umoci on top. What is derived from the layers,
# however they are packed, is what containerd unpacked and what the reference builds; no snapshotter gives a false alarm; and
# it takes less time than unpacking once more and comparing.

# Runs of each command that is timed; the median counts.
readonly RUNS=3

suite_setup() {
	rm -rf "$work/continuity" "$work/containerd" "$work/debian"
	mkdir -p "$work/debian"
	cd "$work/debian"
	mount_disk btrfs "$btrfs_root" 4G
	start_daemon
	start_containerd
	debian_layout "$work/debian/layout"
	cp -al layout packed
	recompress packed gzip 'gzip -1'
	import_layout packed gzip
	cp -al layout packed
	recompress packed zstd 'zstd -1' application/vnd.oci.image.layer.v1.tar+zstd
	import_layout packed zstd
	cp -al layout packed
	to_docker packed docker
	import_layout packed docker
	cp -al layout packed
	import_layout packed debian
	ctr images import --snapshotter overlayfs --base-name "$DEBIAN" debian.tar
	mkdir rootfs
	ctr images mount --snapshotter overlayfs "$DEBIAN:debian" "$work/debian/rootfs"
	oracle build rootfs >reference.pb
}

# import_layout LAYOUT NAME: takes the directory away.
import_layout() {
	tar -C "$1" -cf "$2.tar" .
	rm -rf "$1"
	ctr images import --base-name "$DEBIAN" --no-unpack "$2.tar"
	[[ $2 == debian ]] || rm "$2.tar"
}

suite_teardown() {
	ctr images unmount --rm "$work/debian/rootfs" || true
	stop_containerd
	stop_daemon
	unmount_disk "$btrfs_root"
	rm -rf "$work/containerd" "$work/continuity" "$work/debian"
}

# image COMMAND...: our commands about images, at our containerd.
image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

# That the image has what it is here for: nothing is easier to derive than nothing.
case_it_holds_what_packages_hold() {
	local rootfs=$work/debian/rootfs file
	for file in bin/ping usr/bin/dpkg opt/app/capable; do
		getfattr --absolute-names -n security.capability "$rootfs/$file" || fail "$file has no capability"
	done
	(($(find "$rootfs" -type f -perm -4000 | wc -l) > 5)) || fail "hardly any setuid"
	(($(find "$rootfs" -type f -links +1 | wc -l) >= 3)) || fail "no hard links"
	same "$(stat -c '%F %t %T' "$rootfs/dev/continuity")" 'character special file f0 11170'
	same "$(stat -c '%F %t %T' "$rootfs/dev/null")" 'character special file 1 5'
	same "$(stat -c %u:%g "$rootfs/usr/share/doc/new")" 4294967294:2147483648
	[[ ! -e $rootfs/dev/zero && ! -e $rootfs/usr/bin/perl && ! -e $rootfs/usr/share/locale ]] || fail "nothing was deleted"
	(($(image manifest "$DEBIAN:debian" | continuity ls - | wc -l) > 3000)) || fail "hardly any file"
}

# How the layers are packed: as umoci does, and otherwise.
readonly -a PACKED=(debian gzip zstd docker)
each_derived=("${PACKED[@]}")
case_derived() {
	image manifest "$DEBIAN:$1" -o derived.pb
	continuity diff derived.pb "$work/debian/reference.pb" >differences || {
		head -n 20 differences >&2
		fail "what was derived is not what containerd unpacked"
	}
	cmp derived.pb "$work/debian/reference.pb"
	continuity build "$work/debian/rootfs" | cmp - derived.pb
}

mapfile -t each_intact < <(for snapshotter in overlayfs native continuity btrfs; do printf "$snapshotter %s\n" "${PACKED[@]}"; done)
case_intact() {
	local snapshotter name
	read -r snapshotter name <<<"$1"
	ctr images import --snapshotter "$snapshotter" --base-name "$DEBIAN" "$work/debian/debian.tar" >/dev/null
	exits 0 image verify "$DEBIAN:$name" --snapshotter "$snapshotter" >verdict
	holds verdict "$DEBIAN:$name in $snapshotter: intact"
}

# btrfs keeps every layer as a subvolume of its own that shows those below; the top one is what a view is made of.
case_a_damaged_file_is_found_on_btrfs() {
	local top
	ctr images import --snapshotter btrfs --base-name "$DEBIAN" "$work/debian/debian.tar" >/dev/null
	top=$(dirname "$(find "$btrfs_root/snapshots" -mindepth 2 -maxdepth 2 -name opt -exec test -e {}/app \; -print)")
	btrfs property set "$top" ro false
	flip_byte "$top/usr/bin/apt" 1000
	exits 1 image verify "$DEBIAN:debian" --snapshotter btrfs >findings
	exits 2 image repair --root "$work/debian/state" "$DEBIAN:debian" --snapshotter btrfs 2>error
	holds error 'there is no directory of its layers to repair'
	flip_byte "$top/usr/bin/apt" 1000
	btrfs property set -f "$top" ro true
	grep -E '^/usr/bin/apt: digest.* \(layer 1 sha256:[0-9a-f]{64} "debian_base"' findings || fail "$(cat findings)"
	exits 0 image verify "$DEBIAN:debian" --snapshotter btrfs
}

# Deriving against unpacking with umoci, and verifying against the reference's verification of the same mount, in turn.
# `image verify` derives once more; `continuity verify` is what it does after that.
case_less_time_than_to_unpack_and_compare() {
	local run name derive unpack verify compare reference
	for ((run = 0; run < RUNS; run++)); do
		timed derive image manifest "$DEBIAN:debian" -o derived.pb
		timed unpack umoci unpack --image "$work/debian/layout:debian" bundle
		rm -rf bundle
		timed verify image verify "$DEBIAN:debian" --snapshotter overlayfs
		timed compare continuity verify "$work/debian/rootfs" "$work/debian/reference.pb"
		timed reference oracle verify "$work/debian/rootfs" "$work/debian/reference.pb"
	done
	for name in derive unpack verify compare reference; do
		printf -v "$name" %s "$(sort -n "$name" | sed -n "$((RUNS / 2 + 1))p")"
	done
	note "image manifest $derive ms, umoci unpack $unpack ms: ratio $(ratio "$derive" "$unpack")"
	note "image verify $verify ms, the reference's verify $reference ms: ratio $(ratio "$verify" "$reference")"
	note "of it, comparing $compare ms: ratio $(ratio "$compare" "$reference")"
	note "image manifest and image verify against umoci unpack and the reference's verify: ratio $(ratio $((derive + verify)) $((unpack + reference)))"
	if ! is_optimised "$work/bin/continuity"; then
		note "a debug binary: nothing is held against these"
		return
	fi
	((derive + verify < unpack + reference)) || fail "it takes more time"
}

# timed FILE COMMAND...: adds the milliseconds that COMMAND takes, which must succeed, to FILE.
timed() {
	local file=$1 start=${EPOCHREALTIME/./}
	shift
	"$@" >output 2>&1 || {
		cat output >&2
		fail "$*"
	}
	say $(((${EPOCHREALTIME/./} - start) / 1000)) >>"$file"
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f\n", a / b }'; }
