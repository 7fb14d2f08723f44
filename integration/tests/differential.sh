# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Random trees: our manifest is the reference's, byte for byte, and each accepts the other's.

# Trees on a seed each; the shapes (empty, deep, wide, mixed) follow from the seed.
mapfile -t each_seed < <(seq 0 39)

case_seed() {
	mkdir tree
	random-tree "$1" tree
	oracle build tree >theirs.pb
	continuity build tree -o ours.pb
	cmp ours.pb theirs.pb
	exits 0 continuity verify --allow-empty tree theirs.pb
	oracle verify tree ours.pb
	exits 0 continuity diff ours.pb theirs.pb
	continuity build --threads 1 tree | cmp - theirs.pb
}

# Changes made one after the other to the tree of each seed.
readonly CHANGES=8

mapfile -t each_change < <(seq 100 120)

# Every change is found, with its kind and at its path; the changed tree is again what the reference says of it.
case_change() {
	local number
	mkdir tree
	random-tree "$1" tree
	continuity build tree -o manifest.pb
	for ((number = 0; number < CHANGES; number++)); do
		mutate "$1$number" tree >expected.json
		cat expected.json
		exits 1 continuity verify --allow-empty --quiet --format json tree manifest.pb >findings.json
		jq -e -s --slurpfile expected expected.json \
			'any(.[]; .kind == $expected[0].kind and (.path as $path | $expected[0].paths | index([$path]) != null))' \
			findings.json >/dev/null || fail "not found: $(head -c 1000 findings.json)"
		continuity build --quiet tree -o manifest.pb
		oracle build tree | cmp - manifest.pb
		exits 0 continuity verify --allow-empty --quiet tree manifest.pb
	done
}

# What a distribution ships is a tree, too: large, with every odd thing that packages hold.
each_installed=(/etc /usr/bin /usr/share/gocode)
case_installed() {
	oracle build "$1" >theirs.pb || fail "the reference cannot build $1"
	continuity build "$1" | cmp - theirs.pb
	exits 0 continuity verify --allow-empty --quiet "$1" theirs.pb
}

# The tree that the order of paths is about: "/a-b" and "/a.b" stand between "/a" and "/a/b".
case_order() {
	mkdir -p tree/a/b/c tree/a-b/c tree/a.b/c 'tree/a b/c' tree/ab/c tree/a/b-c
	touch tree/a/b.c 'tree/a/b c' tree/a-b.c tree/a~
	oracle build tree >theirs.pb
	continuity build tree | cmp - theirs.pb
	continuity build tree | continuity ls - | awk '{ print $NF }' >paths
	exits 0 continuity verify --allow-empty tree theirs.pb
}

# A file with more links than the tree has of it is an ordinary resource.
case_links_that_leave_the_tree() {
	mkdir tree
	printf 'x' >outside
	ln outside tree/inside
	oracle build tree >theirs.pb
	continuity build tree | cmp - theirs.pb
	exits 0 continuity verify --allow-empty tree theirs.pb
}
