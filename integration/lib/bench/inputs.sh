# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How large everything is, and how often it is run.

use_sizes() {
	# Rounds of the warm cache, and of the cold one.
	rounds=5 cold_rounds=5 slow_rounds=2
	# Files as in /usr; MiB in ten files; empty files; files in a chain of directories; files with 10% links more.
	usr_files=150000 big_mib=10240 empty_files=1000000 deep_files=50000 linked_files=100000
	# Chains, layers of a chain, files of a layer, bytes of a file.
	layers=(1 16 10 1048576)
	# Starts of the program in one run.
	starts=200
	# Of the disk, in GB.
	space=25
	if [[ -n $quick ]]; then
		rounds=3 cold_rounds=3 slow_rounds=1
		usr_files=15000 big_mib=1024 empty_files=50000 deep_files=5000 linked_files=10000
		layers=(1 8 10 65536)
		starts=50 space=4
	fi
	threads=$(nproc)
	((threads <= 4)) || threads=4
}

# turns CASE ROUNDS OPTIONS... -- WHO COMMAND...
turns() {
	local case=$1 times=$2
	shift 2
	bench-tool turns --results "$results" --case "$case" --rounds "$times" "$@"
}

# record CASE WHO ROUND MEASURE=NUMBER...
record() { bench-tool record "$results" "$1" - "${@:2}"; }

# make_tree SHAPE N: makes $work/inputs/tree and the list of its files for the floor.
make_tree() {
	mkdir -p "$work/inputs"
	tree=$work/inputs/tree list=$work/inputs/list manifest=$work/inputs/manifest.pb
	drop_tree
	bench-tool make "$1" "$2" "$tree"
	bench-tool list "$tree" >"$list"
	# The disk must not be busy with what was just written.
	sync
}

drop_tree() { rm -rf "$work/inputs/tree"; }
