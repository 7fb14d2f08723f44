# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The images of odd-images, which are easy to misread, with three containerds and three snapshotters: what
# containerd takes is intact, wherever it lies. See odd-images/README.md for what each has.

readonly ODD_IMAGES='acl-default-two-layers acl-minimal cap3-root0 cfg-label-null cfg-noos devlink empty-L
foreign-present global-header-removes global-whiteout gnu-prefix gzip-trailing-zeros ix-386-arm ix-noplat-two
ix-v3-then-plain man-noschema pax-plus setgid-parents-two-layers symlink-chain-dotdot symlink-suid
uid-minus-one-merge x-then-g xattr-unknown-ns zstd-long27'

# "image containerd snapshotter", as patterns: what that containerd may refuse to unpack. Nothing that all refuse.
readonly NOT_TAKEN='ix-386-arm 2.1 *'

# How long the daemon may take to ask containerd about a small image.
readonly SEAL_SECONDS=10

mapfile -t each_image < <(for version in 1.6 1.7 2.1; do
	for name in $ODD_IMAGES; do say "$version $name"; done
done)

suite_teardown() { leave_services; }

image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

case_image() {
	local version name
	read -r version name <<<"$1"
	need_containerd "$version"
	serve_with "$version"
	if [[ $name == gzip-trailing-zeros ]]; then with_pigz; fi
	in_every_snapshotter "$name" "$version" ctr images import
}

# From 2.0 on containerd pulls and imports by its transfer service, which unpacks by itself.
each_by_the_transfer_service=(acl-default-two-layers global-whiteout ix-v3-then-plain setgid-parents-two-layers)
case_by_the_transfer_service() {
	need_containerd 2.1
	serve_with 2.1
	in_every_snapshotter "$1" 2.1 command ctr images import
}

# in_every_snapshotter NAME VERSION IMPORT...: the image imported by that command is intact in each, or was not taken.
in_every_snapshotter() {
	local name=$1 version=$2 snapshotter
	shift 2
	reference=odd.test/$name:x
	on_leave="forget_image; $on_leave"
	: >"$daemon_home/log"
	gunzip -c "$integration/odd-images/$name.tar.gz" >image.tar
	: >wrong
	for snapshotter in overlayfs native continuity; do
		if ! "$@" --base-name "odd.test/$name" --snapshotter "$snapshotter" image.tar >taken 2>&1; then
			may_refuse "$name $version $snapshotter" || wrong "$snapshotter: refused: $(tail -n 1 taken)"
			note "not taken: $snapshotter: $(tail -n 1 taken | sed 's/.*ctr: //')"
			continue
		fi
		is_intact "$snapshotter"
	done
	[[ ! -s wrong ]] || fail "$(cat wrong)"
}

# containerd asks once in its life whether there is a pigz.
with_pigz() {
	stop_containerd
	CONTAINERD_DISABLE_PIGZ=0 start_containerd
	on_leave='stop_containerd; start_containerd'
}

forget_image() { ctr images rm --sync "$reference" >/dev/null; }

# may_refuse "IMAGE VERSION SNAPSHOTTER"
may_refuse() {
	local pattern
	while read -r pattern; do
		# shellcheck disable=SC2053 # a pattern
		[[ $1 != $pattern ]] || return 0
	done <<<"$NOT_TAKEN"
	return 1
}

# wrong TEXT: noted, and the case goes on.
wrong() { say "$*" >>wrong; }

# is_intact SNAPSHOTTER: every answer about the image is the right one.
is_intact() {
	says_intact "$1" verify "$reference"
	says_intact "$1" repair --dry-run --root "$PWD/state" "$reference"
	says_intact "$1" verify --all
	[[ $1 != continuity ]] || is_sealed_from_the_image
}

# says_intact SNAPSHOTTER COMMAND...: in one line, about the only image that there is, whatever platform it is for.
says_intact() {
	local snapshotter=$1 code=0
	shift
	image "$@" --snapshotter "$snapshotter" >answer 2>error || code=$?
	[[ $code == 0 && $(sed 's/ (linux[^)]*)//; s/intact, .*/intact/' answer) == "$reference in $snapshotter: intact" ]] ||
		wrong "$snapshotter: $1 $2: exit code $code: $(head -n 5 answer error)"
}

# The daemon asks containerd for the image as soon as the seals of the disk are there.
is_sealed_from_the_image() {
	local top
	if ! wait_until "$SEAL_SECONDS" are_settled || ! all_from_image; then
		wrong "continuity: seals: $(sources): $(tail -n 3 "$daemon_home/log")"
		return 0
	fi
	top=$(top_layer)
	ctr snapshots --snapshotter continuity prepare on-top "$top" >used 2>&1 || wrong "continuity: prepare: $(cat used)"
	ctr snapshots --snapshotter continuity rm on-top >used 2>&1 || wrong "continuity: remove: $(cat used)"
}
