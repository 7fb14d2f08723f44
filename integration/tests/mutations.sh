# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# One change to a tree, one finding: verify exits 1 and names the path and what differs.

suite_setup() {
	mkdir "$work/mutations"
	make_tree "$work/mutations/tree"
	continuity build "$work/mutations/tree" -o "$work/mutations/manifest.pb"
}

suite_teardown() { rm -rf "$work/mutations"; }

make_tree() {
	mkdir -p "$1/dir/sub"
	(
		cd "$1"
		umask 022
		printf 'twelve bytes' >file
		printf 'in a directory' >dir/sub/inner
		ln -s file link
		printf 'hard' >hard1 && ln hard1 dir/hard2
		printf 'soft' >single1 && printf 'soft' >single2
		mkfifo pipe
		mknod device c 5 1
		setfattr -n user.one -v 1 file
		setfattr -n user.two -v 2 file
		setfattr -n trusted.d -v d dir
	)
}

# Lines of "kind path | shell": the change, and what verify must say of it. A kind that follows from another
# (a removed link also breaks the others) may be reported besides.
readonly MUTATIONS='
mode /file | chmod 0600 file
mode /file | chmod 4644 file
mode /dir | chmod 1755 dir
mode /pipe | chmod 0600 pipe
uid /file | chown 12 file
uid /link | chown -h 12 link
gid /dir/sub | chgrp 12 dir/sub
size /file | truncate -s 11 file
size /file | printf more >>file
size /file | truncate -s 0 file
digest /file | flip_byte file 3
digest /dir/sub/inner | flip_byte dir/sub/inner 0
extra /new | touch new
extra /dir/sub/new | mkdir dir/sub/new
extra /dir-2 | ln -s x dir-2
missing /file | rm file
missing /dir/sub/inner | rm -r dir/sub
missing /dir/sub | rm -r dir/sub
missing /link | rm link
missing /pipe | rm pipe
target /link | ln -sfn elsewhere link
xattr-differs /file | setfattr -n user.one -v 3 file
xattr-missing /file | setfattr -x user.two file
xattr-extra /file | setfattr -n user.three -v 3 file
xattr-differs /dir | setfattr -n trusted.d -v e dir
xattr-extra /dir/sub | setfattr -n trusted.overlay.opaque -v y dir/sub
hardlink-broken /hard1 | cp -p hard1 copy && mv copy hard1
hardlink-made /single2 | ln -f single1 single2
type /file | rm file && mkdir file
type /file | rm file && ln -s link file
type /file | rm file && mkfifo file
type /dir/sub | rm -r dir/sub && touch dir/sub
type /link | rm link && printf twelve >link
type /pipe | rm pipe && mknod pipe c 1 3
type /device | rm device && mknod device b 5 1
device /device | rm device && mknod device c 5 2
device /device | rm device && mknod device c 6 1
'
mapfile -t each_mutation < <(grep . <<<"$MUTATIONS")

case_mutation() {
	local kind path change=${1#*| }
	read -r kind path _ <<<"$1"
	cp -a "$work/mutations/tree" tree
	(cd tree && eval "$change")
	exits 1 continuity verify --allow-empty tree "$work/mutations/manifest.pb" >findings
	cat findings
	says_finding findings "$kind" "$path"
	exits 1 continuity verify --allow-empty --format json tree "$work/mutations/manifest.pb" >findings.json
	jq -e -s --arg path "$path" --arg kind "$kind" 'any(.[]; .path == $path and .kind == $kind)' findings.json >/dev/null ||
		fail "no $kind of $path in: $(cat findings.json)"
	only_expected_paths findings "$path"
	diff_agrees "$kind" "$path"
}

# says_finding FILE KIND PATH: a broken or made link may be told of either of its paths.
says_finding() {
	case $2 in
	hardlink-*) grep -q "^/.*: $2" "$1" || fail "no $2" ;;
	*) holds "$1" "$3: $2" ;;
	esac
}

# A change to one path says nothing of paths it did not touch.
only_expected_paths() {
	case $2 in /hard1 | /single2 | /dir/sub | /dir/sub/inner) return 0 ;; esac
	! grep -v "^$2: " "$1" || fail "findings elsewhere"
}

# The manifest of the changed tree differs from the first in the same way.
diff_agrees() {
	continuity build tree -o changed.pb
	exits 1 continuity diff "$work/mutations/manifest.pb" changed.pb >differences
	says_finding differences "$1" "$2"
}

case_an_unchanged_copy_is_intact() {
	cp -a "$work/mutations/tree" tree
	exits 0 continuity verify --allow-empty tree "$work/mutations/manifest.pb" >findings
	[[ ! -s findings ]] || fail "findings in an intact tree: $(cat findings)"
}

# Times are not recorded: no false alarm.
case_times_do_not_matter() {
	cp -r --preserve=mode,ownership,links,xattr "$work/mutations/tree" tree
	find tree -exec touch -h -d 2001-01-01 {} +
	exits 0 continuity verify --allow-empty tree "$work/mutations/manifest.pb"
}

case_every_difference_is_told() {
	cp -a "$work/mutations/tree" tree
	(cd tree && chmod 0600 file && chown 12 file && flip_byte file 1 && touch new && rm link && setfattr -x user.one file)
	exits 1 continuity verify --allow-empty tree "$work/mutations/manifest.pb" >findings 2>summary
	for finding in '/file: mode' '/file: uid' '/file: digest' '/file: xattr-missing user.one' '/new: extra' '/link: missing'; do
		holds findings "$finding"
	done
	same "$(wc -l <findings)" 6
	holds summary '6 findings'
}

case_subset_ignores_extras() {
	cp -a "$work/mutations/tree" tree
	touch tree/new tree/dir/sub/new
	setfattr -n user.three -v 3 tree/file
	exits 0 continuity verify --allow-empty --subset tree "$work/mutations/manifest.pb"
	chmod 0600 tree/file
	exits 1 continuity verify --allow-empty --subset tree "$work/mutations/manifest.pb" >findings
	same "$(wc -l <findings)" 1
}

# The oracle knows fewer findings, but what it finds we find.
case_the_oracle_agrees_on_content() {
	cp -a "$work/mutations/tree" tree
	flip_byte tree/dir/sub/inner 2
	exits 1 oracle verify tree "$work/mutations/manifest.pb"
	exits 1 continuity verify --allow-empty tree "$work/mutations/manifest.pb"
}
