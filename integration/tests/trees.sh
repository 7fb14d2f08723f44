# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A tree is untrusted: whatever is in it, or happens to it, the walk stays inside, ends, and says what it saw.

case_symlinks_that_leave_the_root_are_not_followed() {
	mkdir tree outside
	printf 'secret' >outside/file
	ln -s ../outside tree/relative
	ln -s "$PWD/outside" tree/absolute
	ln -s / tree/slash
	ln -s . tree/loop
	continuity build tree -o manifest.pb
	oracle build tree | cmp - manifest.pb
	exits 0 continuity verify tree manifest.pb
	same "$(continuity ls manifest.pb | wc -l)" 4
}

# A manifest that has a file where the tree has a symlink to one outside: a finding, not a reading.
case_a_directory_replaced_by_a_symlink_is_a_finding() {
	mkdir -p tree/dir outside
	printf 'same' >tree/dir/file
	printf 'same' >outside/file
	continuity build tree -o manifest.pb
	rm -r tree/dir && ln -s ../outside tree/dir
	exits 1 continuity verify tree manifest.pb >findings
	holds findings '/dir: type'
	holds findings '/dir/file: missing'
}

case_a_fifo_where_a_file_was_does_not_hang() {
	mkdir tree
	printf 'x' >tree/file
	continuity build tree -o manifest.pb
	rm tree/file && mkfifo tree/file
	exits 1 timeout 20 continuity verify tree manifest.pb >findings
	holds findings '/file: type'
	exits 0 timeout 20 continuity build tree -o with-fifo.pb
}

case_a_socket_is_skipped_with_a_warning() {
	mkdir tree
	touch tree/file
	(cd tree && socket-file socket)
	[[ -S tree/socket ]] || fail "no socket was made"
	exits 0 continuity build tree -o manifest.pb 2>warnings
	holds warnings /socket
	same "$(continuity ls manifest.pb | wc -l)" 1
	exits 2 continuity build --strict tree -o strict.pb
}

case_names_that_are_not_utf8() {
	mkdir tree
	touch tree/$'\xff\xfe' tree/$'caf\xe9'
	exits 0 continuity build tree -o manifest.pb 2>warnings
	holds warnings '\xff\xfe'
	exits 0 continuity verify tree manifest.pb
	rm tree/$'caf\xe9'
	exits 1 continuity verify tree manifest.pb >findings
	holds findings '/caf\xe9: missing'
	exits 2 continuity build --strict tree -o strict.pb
}

# Names reach the terminal escaped, and JSON as JSON.
case_names_cannot_fool_the_terminal() {
	mkdir tree
	continuity build tree -o empty.pb
	touch tree/$'a\nb' tree/$'\e[2J' tree/$'\u202egpj'
	exits 1 continuity verify --allow-empty tree empty.pb >findings
	same "$(wc -l <findings)" 3
	! grep -qP '\e|\x{202e}' findings || fail "raw control characters"
	exits 1 continuity verify --allow-empty --format json tree empty.pb >findings.json
	same "$(jq -s length findings.json)" 3
	jq -e -s 'any(.[]; .path == "/a\nb")' findings.json >/dev/null || fail "the name is not in the JSON"
}

# As nobody: what can't be read is a finding with its errno, the rest is checked.
case_unreadable_things_are_findings() {
	umask 022
	chmod 0755 .
	mkdir -p tree/closed tree/open
	printf 'x' >tree/closed/file
	printf 'y' >tree/open/file
	printf 'z' >tree/secret
	printf 'w' >tree/open/damaged
	continuity build tree -o manifest.pb
	flip_byte tree/open/damaged 0
	chown root tree/closed && chmod 0700 tree/closed && chmod 0600 tree/secret
	exits 1 as_nobody continuity verify tree manifest.pb >findings
	cat findings
	grep -qE '^/closed: unreadable.*(13|EACCES|denied)' findings || fail "no errno for the directory"
	grep -qE '^/secret: unreadable.*(13|EACCES|denied)' findings || fail "no errno for the file"
	holds findings '/open/damaged: digest'
	exits 2 as_nobody continuity build tree -o /dev/null 2>error
	grep -qE '/closed|/secret' error || fail "the message lacks the path: $(cat error)"
}

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

# Needs no root where the tree needs none.
case_build_and_verify_as_nobody() {
	umask 022
	chmod 0755 .
	mkdir -p tree/dir
	printf 'x' >tree/dir/file
	continuity build tree -o manifest.pb
	as_nobody continuity build tree | cmp - manifest.pb
	exits 0 as_nobody continuity verify tree manifest.pb
}

# Longer than PATH_MAX: no path of it reaches the kernel whole.
case_ten_thousand_directories_deep() {
	mkdir tree
	big-tree deep 10000 tree
	peak_kib peak continuity build tree -o manifest.pb
	below "peak KiB" "$(cat peak)" 49152
	exits 0 continuity verify tree manifest.pb
	same "$(continuity ls manifest.pb | wc -l)" 10001
	touch tree/d/d/d/new
	exits 1 continuity verify tree manifest.pb >findings
	holds findings '/d/d/d/new: extra'
}

case_a_hundred_thousand_entries_in_one_directory() {
	mkdir tree
	big-tree wide 100000 tree
	peak_kib peak continuity build tree -o manifest.pb
	below "peak KiB" "$(cat peak)" 32768
	oracle build tree | cmp - manifest.pb
	exits 0 continuity verify tree manifest.pb
}

# A file that grows or shrinks while it is hashed: an ending, and a manifest that says one consistent thing.
case_a_file_that_changes_while_it_is_hashed() {
	local round code
	mkdir tree
	head -c 20000000 /dev/zero >tree/file
	(
		while :; do
			printf 'more' >>tree/file
			truncate -s 10000000 tree/file
			truncate -s 20000000 tree/file
		done
	) &
	changer=$!
	for ((round = 0; round < 15; round++)); do
		code=0
		timeout 30 continuity build tree -o manifest.pb 2>error || code=$?
		if [[ $code == 2 ]]; then
			holds error /file
		else
			same "$code" 0
			continuity ls manifest.pb >/dev/null
		fi
	done
	code=0
	continuity build tree -o manifest.pb || true
	timeout 30 continuity verify tree "$integration/golden/manifest.pb" >findings || code=$?
	same "$code" 1
	kill "$changer"
}

# The race that confinement is about: a directory becomes a symlink to outside between two looks at it.
case_a_directory_swapped_for_a_symlink_during_the_walk() {
	local round code
	mkdir -p tree/dir outside
	for ((round = 0; round < 50; round++)); do
		printf 'inside' >"tree/dir/file-$round"
		printf 'OUTSIDE' >"outside/file-$round"
	done
	printf 'OUTSIDE' >outside/only-outside
	swap-loop tree/dir ../outside &
	swapper=$!
	for ((round = 0; round < 200; round++)); do
		code=0
		timeout 30 continuity build tree -o manifest.pb 2>error || code=$?
		[[ $code == 0 || $code == 2 ]] || fail "exit code $code: $(cat error)"
		[[ $code == 0 ]] || continue
		continuity ls manifest.pb >listing
		lacks listing only-outside
		! awk '$1 ~ /^-/ && $4 == 7' listing | grep . || fail "contents from outside"
	done
	kill "$swapper"
}
