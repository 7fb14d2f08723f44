# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Cases of one directory: build, verify, diff; and the program itself.

# What contenders are called, and how they are run on $tree.
commands() {
	floor="exec bench-tool floor $tree $list $threads"
	build="exec continuity build --quiet $tree -o /dev/null"
	verify="exec continuity verify --quiet $tree $manifest"
	go_build="exec go-continuity build $tree"
	go_verify="exec go-continuity verify $tree $manifest"
	mtree_build="exec mtree -c -K sha256 -p $tree >$work/inputs/mtree"
	mtree_verify="exec mtree -f $work/inputs/mtree -p $tree"
	sha256sum="find $tree -type f -print0 | xargs -0 -n 256 -P $threads sha256sum"
}

# build_case NAME SHAPE N: no goal is about mtree and sha256sum, and they are slow: some rounds.
build_case() {
	make_tree "$2" "$3"
	commands
	continuity build --quiet "$tree" -o "$manifest"
	go-continuity build "$tree" | cmp - "$manifest" || die "$1: the manifests differ"
	turns "$1 build" "$rounds" -- floor "$floor" continuity "$build" go "$go_build" \
		"mtree=$slow_rounds" "$mtree_build" "sha256sum=$slow_rounds" "$sha256sum"
}

bench_usr() {
	build_case usr usr "$usr_files"
	turns 'usr verify' "$rounds" -- floor "$floor" continuity "$verify" go "$go_verify" "mtree=$slow_rounds" "$mtree_verify"
	turns 'usr build, one thread' "$rounds" -- floor "${floor% *} 1" \
		continuity "${build/build/build --threads 1}" go "$go_build"
	turns 'usr build' "$cold_rounds" --cold -- floor "$floor" continuity "$build" go "$go_build"
	drop_tree
}

bench_big() {
	build_case big big "$big_mib"
	drop_tree
}

bench_empty() {
	build_case empty empty "$empty_files"
	drop_tree
}

bench_deep() {
	build_case deep deep "$deep_files"
	drop_tree
}

bench_links() {
	build_case links links "$linked_files"
	drop_tree
}

# Two manifests of a tree, of which a thousandth of the files changed in between.
bench_diff() {
	make_tree empty "$empty_files"
	commands
	continuity build --quiet "$tree" -o "$manifest"
	find "$tree" -type f -name 'file-500' -exec chmod 0600 {} +
	continuity build --quiet "$tree" -o "$manifest.changed"
	turns diff "$rounds" -- continuity "continuity diff --quiet $manifest $manifest.changed; test \$? = 1"
	drop_tree
}

# What the program weighs, and how fast it is there.
bench_program() {
	local program round
	program=$(command -v continuity)
	record program continuity 1 "mib=$(stat -c %s "$program" | awk '{ print $1 / 1048576 }')"
	for ((round = 1; round <= rounds; round++)); do
		record 'program start' continuity "$round" "ms=$(milliseconds_of continuity --version)"
		record 'program start' /bin/true "$round" "ms=$(milliseconds_of /bin/true)"
	done
}

# milliseconds_of COMMAND...: of one run of many.
milliseconds_of() {
	local begin=${EPOCHREALTIME/./} number
	for ((number = 0; number < starts; number++)); do "$@" >/dev/null; done
	awk -v all=$((${EPOCHREALTIME/./} - begin)) -v n="$starts" 'BEGIN { print all / n / 1000 }'
}
