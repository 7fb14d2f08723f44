# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The tree that has one of everything: the bytes and texts of the reference implementation.

suite_setup() {
	mkdir "$work/golden"
	"$integration/golden/make-tree" "$work/golden/tree"
}

suite_teardown() { rm -rf "$work/golden"; }

case_oracle_reproduces_the_manifest() { oracle build "$work/golden/tree" | cmp - "$integration/golden/manifest.pb"; }

case_build() { continuity build "$work/golden/tree" | cmp - "$integration/golden/manifest.pb"; }

case_build_to_a_file() {
	continuity build "$work/golden/tree" -o manifest.pb >out
	cmp manifest.pb "$integration/golden/manifest.pb"
	[[ ! -s out ]] || fail "-o left something on standard output"
	continuity build "$work/golden/tree" -o - | cmp - "$integration/golden/manifest.pb"
}

each_threads=(1 2 3 8)
case_threads() { continuity build --threads "$1" "$work/golden/tree" | cmp - "$integration/golden/manifest.pb"; }

case_verify() { exits 0 continuity verify "$work/golden/tree" "$integration/golden/manifest.pb"; }

case_verify_from_standard_input() { exits 0 continuity verify "$work/golden/tree" - <"$integration/golden/manifest.pb"; }

case_ls() { continuity ls "$integration/golden/manifest.pb" | diff - "$integration/golden/ls.txt"; }

# Rows of the reference come first; ours may add more.
case_stats() {
	continuity stats "$integration/golden/manifest.pb" | sed -n "1,$(wc -l <"$integration/golden/stats.txt")p" |
		diff - "$integration/golden/stats.txt"
}

# The text form is protobuf's: field names and values.
case_dump() {
	continuity dump "$integration/golden/manifest.pb" >text
	same "$(grep -c '^resource' text)" 36
	holds text 'path: "/0hard"'
	holds text 'target: "../../../../etc/passwd"'
	holds text 'major: 7'
	continuity dump <"$integration/golden/manifest.pb" | cmp - text
	continuity dump --format json "$integration/golden/manifest.pb" | jq -e . >/dev/null
}

case_include_root() {
	continuity build --include-root "$work/golden/tree" -o with-root.pb
	continuity ls with-root.pb | awk '$NF == "/"' >root
	[[ -s root ]] || fail "/ is not recorded"
	exits 0 continuity verify "$work/golden/tree" with-root.pb
}
