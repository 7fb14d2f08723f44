# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Memory does not grow with the tree, and time stays below the reference's.

readonly LIMIT_150000_KIB=$((24 * 1024))
readonly LIMIT_MILLION_KIB=$((32 * 1024))

# What a million inodes need in memory, and room for others, in KiB.
readonly ROOM_KIB=$((4 * 1024 * 1024))

# tree_directory: makes "tree", in memory where there is room: a disk takes minutes to make and remove a million files.
tree_directory() {
	mkdir tree
	if (($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) > ROOM_KIB)); then
		mount -t tmpfs -o size=50%,nr_inodes=2000000 none tree
		on_leave='umount tree'
	fi
}

# bounded N KIB: build and verify of N entries stay below KIB.
bounded() {
	tree_directory
	big-tree entries "$1" tree
	peak_kib peak continuity build tree -o manifest.pb
	below "build, peak KiB" "$(cat peak)" "$2"
	peak_kib peak continuity verify --quiet tree manifest.pb
	below "verify, peak KiB" "$(cat peak)" "$2"
}

case_150000_entries() {
	bounded 150000 "$LIMIT_150000_KIB"
	oracle build tree | cmp - manifest.pb
	local command
	for command in ls stats dump; do
		peak_kib peak continuity "$command" manifest.pb >/dev/null
		below "$command, peak KiB" "$(cat peak)" "$LIMIT_150000_KIB"
	done
	peak_kib peak continuity diff manifest.pb manifest.pb
	below "diff, peak KiB" "$(cat peak)" "$LIMIT_150000_KIB"
}

case_a_million_entries() { bounded 1000000 "$LIMIT_MILLION_KIB"; }

# Links are what needs memory, and they are counted: 2 paths of 20,000 inodes.
case_many_hard_links() {
	mkdir tree
	big-tree links 20000 tree
	peak_kib peak continuity build tree -o manifest.pb
	below "build, peak KiB" "$(cat peak)" "$LIMIT_MILLION_KIB"
	oracle build tree | cmp - manifest.pb
	exits 0 continuity verify tree manifest.pb
}

# A tenth of the reference's memory for what a distribution ships; the time is shown, not judged: it belongs to
# the machine.
case_a_tenth_of_the_reference() {
	/usr/bin/time --quiet -f '%M %e' -o theirs oracle build /usr/share >theirs.pb
	/usr/bin/time --quiet -f '%M %e' -o ours continuity build /usr/share -o ours.pb
	cmp ours.pb theirs.pb
	say "reference (KiB, s): $(cat theirs); ours: $(cat ours)"
	below "ten times our peak, KiB" $(($(cut -d' ' -f1 ours) * 10)) "$(cut -d' ' -f1 theirs)"
}
