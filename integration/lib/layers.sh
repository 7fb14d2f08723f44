# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Snapshots seen from outside: through ctr, and on disk.

readonly LABEL_STATE=containerd.io/snapshot/continuity.state

# Keys of the committed snapshots as ctr knows them, one a line.
committed_keys() { ctr snapshots --snapshotter continuity ls | awk '$NF == "Committed" { print $1 }'; }

# The last layer of the story's image: the committed snapshot that is nobody's parent.
top_layer() {
	ctr snapshots --snapshotter continuity ls |
		awk '$NF == "Committed" { if (NF == 3) parents[$2] = 1; keys[$1] = 1 } END { for (k in keys) if (!(k in parents)) print k }'
}

# seal_state KEY: pending, sealed, verified or damaged, as ctr shows it.
seal_state() { ctr snapshots --snapshotter continuity info "$1" | jq -r --arg name "$LABEL_STATE" '.Labels[$name] // "none"'; }

is_sealed() { case $(seal_state "$1") in sealed | verified) ;; *) return 1 ;; esac; }

# Whether every committed snapshot of the daemon is sealed, asked of itself.
all_sealed() {
	local states
	states=$(snapclient -address "$snapshots_socket" list 'kind==committed' | cut -f4 | sort -u)
	[[ $states == sealed || $states == verified || $states == $'sealed\nverified' ]]
}

# Waits until every committed snapshot is sealed.
wait_for_seals() {
	local key
	for key in $(committed_keys); do
		wait_until "$SERVICE_SECONDS" is_sealed "$key" || fail "$key is not sealed: $(seal_state "$key")"
	done
}

# sources: how many snapshots are sealed from which source, and in which state: "4 image sealed", a line each.
sources() { ask snapshot ls --format json | jq -r 'select(.kind == "committed") | "\(.source) \(.state)"' | sort | uniq -c | sed 's/^ *//'; }

# all_from_image: every layer's seal is the image's, and none is damaged.
all_from_image() { [[ -n $(sources) ]] && ! sources | grep -vE '^[0-9]+ image (sealed|verified)$'; }

# layer_file PATH: where the one layer that has PATH keeps it on disk.
layer_file() {
	local -a found=("$continuity_root"/snapshots/*/fs/"$1")
	[[ ${#found[@]} == 1 && -e ${found[0]} ]] || fail "not in exactly one layer: $1 (${found[*]})"
	say "${found[0]}"
}

# Names of the snapshot directories on disk, but for those made ahead.
snapshot_directories() { find "$continuity_root/snapshots" -mindepth 1 -maxdepth 1 -type d ! -name 'ahead-*' -printf '%f\n' | sort -n; }

# flip_byte FILE OFFSET: inverts one byte in place; size and times stay. Twice is once too few to notice.
flip_byte() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
	touch -r "$1" "$work/times"
	# shellcheck disable=SC2059 # the format is the byte
	printf "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
	touch -r "$work/times" "$1"
}

# Whether all are as they should be, or one is as it never should.
are_settled() { all_from_image || grep -qE 'is not what|and so it stays' "$daemon_home/log"; }

# layers_of SNAPSHOTTER: the directories of what it has unpacked, with all that is in them, are beneath these.
layers_of() {
	case $1 in
	continuity) say "$continuity_root"/snapshots/[0-9]*/fs ;;
	overlayfs) say "$work"/containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs ;;
	native) say "$work"/containerd/root/io.containerd.snapshotter.v1.native/snapshots/* ;;
	esac
}
