# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The command line: exit codes of every command, options before and after it, help and version.

suite_setup() {
	mkdir -p "$work/commands/tree" "$work/commands/other"
	printf 'one' >"$work/commands/tree/file"
	printf 'two' >"$work/commands/other/file"
	continuity build "$work/commands/tree" -o "$work/commands/tree.pb"
	continuity build "$work/commands/other" -o "$work/commands/other.pb"
	printf 'garbage that is no manifest' >"$work/commands/bad.pb"
}

suite_teardown() { rm -rf "$work/commands"; }

# "exit code | arguments", T, O and B being the manifests of the tree, of another tree, and a bad one.
readonly RUNS='
0 | build tree
0 | build tree --threads 2
0 | build tree --strict
0 | build tree --format json
0 | build tree --format text
0 | build tree --format pb
2 | build nowhere
2 | build tree.pb
2 | build
2 | build tree --no-such-option
2 | build tree --format xml
2 | build tree -o nowhere/file
0 | verify tree tree.pb
0 | verify tree tree.pb --subset
0 | verify tree tree.pb --format json
1 | verify tree other.pb
1 | verify other tree.pb --format json
2 | verify tree bad.pb
2 | verify tree nowhere
2 | verify nowhere tree.pb
2 | verify tree.pb tree.pb
2 | verify tree
0 | apply tree tree.pb
0 | apply tree tree.pb --dry-run
1 | apply tree other.pb --dry-run --source other
2 | apply tree bad.pb
2 | apply nowhere tree.pb
2 | apply tree nowhere
2 | apply tree other.pb --source nowhere
0 | ls tree.pb
2 | ls bad.pb
2 | ls nowhere
0 | stats tree.pb
2 | stats bad.pb
2 | stats nowhere
0 | dump tree.pb
0 | dump tree.pb --format json
2 | dump bad.pb
2 | dump nowhere
0 | diff tree.pb tree.pb
1 | diff tree.pb other.pb
2 | diff tree.pb bad.pb
2 | diff nowhere tree.pb
2 | diff tree.pb
2 | no-such-command
2 |
0 | --help
0 | --version
0 | build --help
0 | daemon --help
0 | snapshot --help
2 | --address nowhere.sock status
2 | --address nowhere.sock snapshot ls
2 | --address nowhere.sock snapshot verify key
2 | --address nowhere.sock snapshot manifest key
2 | daemon --config nowhere
2 | daemon --config bad.pb
'
mapfile -t each_run < <(grep . <<<"$RUNS")

case_run() {
	local -a arguments
	read -ra arguments <<<"${1#*|}"
	cp -a "$work/commands/." .
	exits "${1%% *}" timeout 30 continuity "${arguments[@]}" </dev/null >out 2>error
	! grep -q panicked error || fail "$(cat error)"
	if [[ ${1%% *} == 2 ]]; then
		[[ -s error ]] || fail "exit code 2 without a word"
		[[ ! -s out ]] || fail "an error, and output: $(head -c 300 out)"
	fi
}

each_place=('--quiet verify tree tree.pb' 'verify --quiet tree tree.pb' 'verify tree tree.pb --quiet'
	'--namespace x --address a --containerd-address c verify tree tree.pb'
	'verify tree tree.pb --namespace x --address a --containerd-address c'
	'verify --namespace x tree --address a tree.pb --quiet')
case_place() {
	local -a arguments
	read -ra arguments <<<"$1"
	cp -a "$work/commands/." .
	exits 0 continuity "${arguments[@]}" >out 2>error
	[[ $1 != *quiet* || ! -s error ]] || fail "not quiet: $(cat error)"
}

case_version_names_the_crate() {
	same "$(continuity --version)" "continuity $(sed -n 's/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml" | head -n 1)"
}

# Where the processor has instructions for SHA-256, they are used.
case_version_tells_how_digests_are_computed() {
	local instructions='portable code'
	if grep -qwE 'sha_ni|sha2' /proc/cpuinfo; then instructions='SHA2\? instructions of'; fi
	exits 0 continuity --version --verbose >version
	exits 0 continuity --verbose --version | cmp - version
	same "$(head -n 1 version)" "$(continuity --version)"
	grep "^SHA-256: $instructions" version
	grep -E '^hashing threads: [1-4]$' version
	exits 2 continuity --verbose build . 2>error
}

case_a_summary_on_standard_error() {
	cp -a "$work/commands/." .
	exits 1 continuity verify other tree.pb >findings 2>summary
	same "$(wc -l <findings)" 1
	for word in entries bytes findings; do holds summary "$word"; done
	! grep -q $'\e' summary || fail "progress without a terminal"
}

case_formats_of_build_are_equal() {
	cp -a "$work/commands/." .
	continuity build tree --format json >tree.json
	jq -e . tree.json >/dev/null
	continuity dump tree.pb --format json | cmp - tree.json
	continuity build tree --format text >tree.text
	continuity dump tree.pb --format text | cmp - tree.text
}

# A reader that goes away is no crash.
case_a_closed_pipe_is_no_panic() {
	local -a codes
	mkdir tree
	big-tree wide 5000 tree
	continuity build tree -o wide.pb
	for command in 'ls wide.pb' 'dump wide.pb' 'build tree' 'verify tree bad.pb'; do
		cp "$work/commands/tree.pb" bad.pb
		set +o pipefail
		# shellcheck disable=SC2086 # words
		continuity $command 2>error | head -c 10 >/dev/null
		set -o pipefail
		! grep -q panicked error || fail "$command: $(cat error)"
	done
}

case_a_full_disk_is_an_error() {
	mkdir tree
	touch tree/file
	exits 2 continuity build tree -o /dev/full 2>error
	[[ -s error ]] || fail "no message"
	exits 2 bash -c 'continuity ls "$0" >/dev/full' "$integration/golden/manifest.pb" 2>error
}
