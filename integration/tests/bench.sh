# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# It stays as fast and as small as it is: the benchmark with small inputs, against bounds on ratios and memory that are
# loose enough for a noisy machine; and the instructions of one thread, which no noise changes.

# Files of the tree whose instructions are counted. They are empty: valgrind has no instructions for SHA-256, and what
# it would count is how they are done without.
readonly COUNTED=20000

# Instructions for each file that are allowed; seen: 9,600 to build, 7,200 to verify, 7,600 to diff.
readonly BUILD_MAX=13000 VERIFY_MAX=10000 DIFF_MAX=10000

suite_lacks() { is_optimised "$work/bin/continuity" || say "a release binary"; }

case_no_bound_is_broken() {
	local line
	bash "$integration/bench" --quick --check >table || {
		cat table
		fail "a bound is broken"
	}
	grep '^|' table | sed 1,2d >rows
	[[ -s rows ]] || fail "nothing was measured"
	while read -r line; do note "$line"; done <rows
}

case_instructions() {
	find_cargo
	run_cargo build --release --locked --quiet --example bench-tool
	"$(run_cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release/examples/bench-tool" \
		make empty "$COUNTED" "$PWD/tree"
	count build "$BUILD_MAX" build --quiet --threads 1 tree -o tree.pb
	count verify "$VERIFY_MAX" verify --quiet --threads 1 tree tree.pb
	count diff "$DIFF_MAX" diff --quiet tree.pb tree.pb
}

# count NAME MOST COMMAND...: instructions of a command of ours, for each file.
count() {
	local instructions
	valgrind --tool=callgrind --callgrind-out-file=/dev/null continuity "${@:3}" 2>log
	instructions=$(awk '/Collected :/ { print $NF }' log)
	[[ -n $instructions ]] || fail "$(cat log)"
	note "$1: $((instructions / COUNTED)) instructions for each file, limit $2"
	below "instructions for each file to $1" $((instructions / COUNTED)) "$2"
}
