# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# apply: makes a directory what a manifest says, beneath that directory and nowhere else.

suite_setup() {
	mkdir "$work/apply"
	"$integration/golden/make-tree" "$work/apply/tree"
	random-tree 25 "$(mkdir "$work/apply/random" && echo "$work/apply/random")"
}

suite_teardown() { rm -rf "$work/apply"; }

# Everything of a tree that apply must not touch when there is nothing to do.
state_of() { (cd "$1" && find . -printf '%p %i %m %U %G %s %T@ %C@ %l\n' | LC_ALL=C sort); }

each_source=(tree random)
case_source() {
	continuity build "$work/apply/$1" -o manifest.pb
	mkdir target
	exits 0 continuity apply target manifest.pb --source "$work/apply/$1"
	continuity build target | cmp - manifest.pb
	oracle build target | cmp - manifest.pb
	exits 0 continuity verify target manifest.pb
	state_of target >before
	exits 0 continuity apply target manifest.pb --source "$work/apply/$1"
	state_of target | diff before - || fail "the second run changed something"
	exits 0 continuity apply target manifest.pb
	state_of target | diff before - || fail "a run without a source changed something"
}

case_dry_run_changes_nothing() {
	mkdir target
	exits 1 continuity apply --dry-run target "$integration/golden/manifest.pb" --source "$work/apply/tree" >plan
	[[ -s plan ]] || fail "no plan"
	[[ -z $(ls -A target) ]] || fail "something was written"
	cp -a "$work/apply/tree" changed
	chmod 0600 changed/a.txt
	state_of changed >before
	exits 1 continuity apply --dry-run changed "$integration/golden/manifest.pb" --source "$work/apply/tree" >plan
	holds plan /a.txt
	same "$(wc -l <plan)" 1
	state_of changed | diff before -
}

# One damaged file of many is mended; the others keep their inodes and times.
case_repairs_only_what_differs() {
	cp -a "$work/apply/tree" target
	flip_byte target/mib-plus-one 1000
	rm target/owned
	chmod 0777 target/private
	setfattr -n user.new -v x target/a.d
	state_of target | grep -vE '^\./(mib-plus-one|owned|private|a\.d) |^\. ' >before
	exits 0 continuity apply target "$integration/golden/manifest.pb" --source "$work/apply/tree"
	exits 0 continuity verify --subset target "$integration/golden/manifest.pb"
	exits 0 continuity apply --prune target "$integration/golden/manifest.pb"
	exits 0 continuity verify target "$integration/golden/manifest.pb"
	state_of target | grep -vE '^\./(mib-plus-one|owned|private|a\.d) |^\. ' | diff before -
	! find target -name '*tmp*' ! -name tmp | grep . || fail "a temporary file was left"
}

case_prune_removes_what_the_manifest_lacks() {
	cp -a "$work/apply/tree" target
	mkdir -p target/extra/deep
	touch target/extra/deep/file target/new
	ln -s /etc target/extra/etc
	exits 0 continuity apply target "$integration/golden/manifest.pb" --source "$work/apply/tree"
	[[ -e target/new ]] || fail "removed without --prune"
	exits 0 continuity apply --prune target "$integration/golden/manifest.pb" --source "$work/apply/tree"
	[[ ! -e target/new && ! -e target/extra ]] || fail "not removed"
	[[ -e /etc/passwd ]] || fail "followed a symlink"
	exits 0 continuity verify target "$integration/golden/manifest.pb"
}

# Every type gives way to every other.
case_types_are_replaced() {
	cp -a "$work/apply/tree" target
	(
		cd target
		rm pipe && mkdir pipe
		rm rel && printf 'x' >rel
		rm a.txt && ln -s /etc/passwd a.txt
		rm nul && mkfifo nul
		rm -r private && printf 'x' >private
	)
	exits 0 continuity apply --prune target "$integration/golden/manifest.pb" --source "$work/apply/tree"
	continuity build target | cmp - "$integration/golden/manifest.pb"
}

# Contents are checked before they are put in place.
case_a_source_that_lies_is_refused() {
	local code=0
	cp -a "$work/apply/tree" source
	flip_byte source/a.txt 0
	mkdir target
	continuity apply target "$integration/golden/manifest.pb" --source source >out 2>error || code=$?
	((code != 0)) || fail "exit code 0"
	grep -q /a.txt out error || fail "the file is not named"
	[[ ! -e target/a.txt ]] || same "$(cat target/a.txt)" ''
}

case_never_leaves_the_root_through_symlinks() {
	mkdir -p tree/dir/sub outside
	printf 'payload' >tree/dir/sub/file
	continuity build tree -o manifest.pb
	state_of outside >before
	mkdir target
	ln -s ../outside target/dir
	exits 0 continuity apply target manifest.pb --source tree
	state_of outside | diff before - || fail "wrote through a symlink"
	exits 0 continuity verify target manifest.pb
	rm -rf target && mkdir -p target/dir
	ln -s ../../outside target/dir/sub
	exits 0 continuity apply --prune target manifest.pb --source tree
	state_of outside | diff before - || fail "wrote through a symlink"
	exits 0 continuity verify target manifest.pb
}

# A source is read as carefully: no symlink of it leads outside.
case_a_source_symlink_is_not_followed() {
	local code=0
	mkdir -p tree source target
	printf 'secret' >secret
	printf 'secret' >tree/file
	continuity build tree -o manifest.pb
	ln -s ../secret source/file
	continuity apply target manifest.pb --source source || code=$?
	((code != 0)) || fail "exit code 0"
	[[ ! -e target/file ]] || fail "a symlink of the source was followed"
}

# While a directory of the target becomes a symlink and back.
case_a_swap_during_apply_stays_inside() {
	local round done=0
	mkdir -p tree/dir target/dir outside
	for ((round = 0; round < 30; round++)); do printf 'payload' >"tree/dir/file-$round"; done
	continuity build tree -o manifest.pb
	swap-loop target/dir ../outside &
	for ((round = 0; round < 100; round++)); do
		if timeout 30 continuity apply --quiet target manifest.pb --source tree >/dev/null 2>&1; then ((++done)); fi
		[[ -z $(ls -A outside) ]] || fail "written outside: $(ls outside)"
	done
	say "$done of $round runs came through"
	((done > 0)) || fail "no run came through: no test"
}
