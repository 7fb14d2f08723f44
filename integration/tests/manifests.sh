# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A manifest is untrusted: what breaks the format is refused with exit code 2 and a message that says where,
# in bounded memory, and nothing is written.

# Peak memory for a manifest of whatever content, in KiB.
readonly BAD_MANIFEST_KIB=24576

suite_setup() {
	mkdir "$work/manifests"
	bad-manifests "$work/manifests"
	"$integration/golden/make-tree" "$work/manifests/tree"
}

suite_teardown() { rm -rf "$work/manifests"; }

# refused COMMAND...: exit 2, a message of one line without control characters, bounded memory.
refused() {
	local code=0
	peak_kib peak "$@" >out 2>error || code=$?
	same "$code" 2
	[[ -s error ]] || fail "no message: $*"
	! grep -q $'\e' error || fail "a control character reached the terminal"
	grep -qE 'byte|/|path' error || fail "the message does not say where: $(cat error)"
	! grep -qiE 'panicked|RUST_BACKTRACE' error || fail "$(cat error)"
	(($(tail -n 1 peak) < BAD_MANIFEST_KIB)) || fail "peak $(tail -n 1 peak) KiB: $*"
}

case_every_bad_manifest_is_refused_by_verify() {
	local manifest
	for manifest in "$work"/manifests/bad/*.pb; do
		say "$(basename "$manifest")"
		mkdir -p empty
		refused continuity verify empty "$manifest"
		head -c 300 error
	done
}

case_every_bad_manifest_is_refused_by_apply_and_nothing_is_written() {
	local manifest
	for manifest in "$work"/manifests/bad/*.pb; do
		say "$(basename "$manifest")"
		rm -rf target && mkdir target
		refused continuity apply target "$manifest" --source "$work/manifests/tree"
		[[ -z $(ls -A target) ]] || fail "written: $(find target | head)"
	done
}

# The other readers may show what they can, but they neither crash nor grow.
case_readers_survive_every_bad_manifest() {
	local manifest command code
	for manifest in "$work"/manifests/bad/*.pb; do
		for command in ls stats dump; do
			code=0
			peak_kib peak continuity "$command" "$manifest" >out 2>error || code=$?
			[[ $code == 0 || $code == 2 ]] || fail "$command $manifest: exit code $code: $(head -c 500 error)"
			(($(tail -n 1 peak) < BAD_MANIFEST_KIB)) || fail "$command $manifest: peak $(tail -n 1 peak) KiB"
			if [[ $command != dump ]] && grep -q $'\e' out; then fail "a control character reached the terminal"; fi
		done
	done
}

case_diff_refuses_a_bad_manifest_on_either_side() {
	refused continuity diff "$work/manifests/bad/duplicate.pb" "$integration/golden/manifest.pb"
	refused continuity diff "$integration/golden/manifest.pb" "$work/manifests/bad/length-2-60.pb"
}

# A cut between two resources leaves a shorter manifest; every other cut is refused. The reference knows which.
case_truncated_at_every_hundredth_byte() {
	local size theirs
	for ((size = 1; size < $(stat -c %s "$integration/golden/manifest.pb"); size += 100)); do
		head -c "$size" "$integration/golden/manifest.pb" >cut.pb
		theirs=0
		oracle verify "$work/manifests/tree" cut.pb 2>/dev/null || theirs=$?
		if [[ $theirs == 2 ]]; then
			refused continuity verify "$work/manifests/tree" cut.pb
			rm -rf target && mkdir target
			refused continuity apply target cut.pb --source "$work/manifests/tree"
			[[ -z $(ls -A target) ]] || fail "written from a manifest cut at $size"
		else
			exits 0 continuity verify --subset "$work/manifests/tree" cut.pb
		fi
	done
}

case_an_empty_manifest_is_an_empty_tree_if_that_is_meant() {
	: >empty.pb
	mkdir empty
	exits 0 continuity verify --allow-empty empty empty.pb
	touch empty/file
	exits 1 continuity verify --allow-empty empty empty.pb
}

# A manifest whose one length lies, read from a pipe that goes on for ever, ends.
case_an_endless_pipe_is_refused() {
	mkdir empty
	refused timeout 20 bash -c 'continuity verify empty - < <(printf "\n"; cat /dev/zero)'
	refused timeout 20 bash -c 'continuity verify empty - < <(yes)'
}

# A manifest that no tree can be like is never said to be intact, and apply finds no way out of its root.
case_impossible_manifests_hold_for_nothing() {
	local manifest code
	for manifest in "$work"/manifests/impossible/*.pb; do
		say "$(basename "$manifest")"
		rm -rf target outside && mkdir target outside
		code=0
		continuity verify target "$manifest" || code=$?
		[[ $code == 1 || $code == 2 ]] || fail "exit code $code"
		code=0
		continuity apply target "$manifest" --source "$work/manifests/tree" || code=$?
		((code != 0)) || fail "applied"
		[[ -z $(ls -A outside) ]] || fail "written outside: $(ls outside)"
	done
}

# Legal protobuf that the reference never writes but reads, as the proto3 rules have it.
case_unusual_manifests_are_read() {
	local manifest
	mkdir tree
	: >tree/f
	chmod 0644 tree/f
	for manifest in "$work"/manifests/unusual/*.pb; do
		say "$(basename "$manifest")"
		oracle verify tree "$manifest"
		exits 0 continuity verify tree "$manifest"
		exits 0 continuity ls "$manifest"
	done
}
