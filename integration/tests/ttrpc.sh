# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The light protocol: builds of mounts that nobody else sees, cancelled with their client, gone with the daemon.

suite_setup() {
	use_daemon_home "$work/ttrpc"
	start_daemon
	snapclient -address "$snapshots_socket" -chain -files 50 churn layer 12 >/dev/null
	snapclient -address "$snapshots_socket" prepare writable layer-0-2 >/dev/null
	snapclient -address "$snapshots_socket" view readable layer-0-2 >/dev/null
}

# Also where a case failed with the daemon down: the next one finds it up.
ensure_daemon() {
	use_daemon_home "$work/ttrpc"
	daemon_answers >/dev/null 2>&1 || start_daemon
}

suite_teardown() {
	use_daemon_home "$work/ttrpc"
	stop_daemon
	rm -rf "$work/ttrpc"
}

client() { snapclient -address "$snapshots_socket" "$@"; }

# Bytes of a sparse file whose hashing takes minutes.
readonly FOREVER=1T

# A build through the daemon is the reference's manifest of what the mounts show.
each_mounted=(writable readable)
case_mounted() {
	use_daemon_home "$work/ttrpc"
	client mounts "$1" >mounts.json
	if [[ $1 == writable ]]; then
		upper=$(jq -r '.[0].options[] | select(startswith("upperdir=")) | .[9:]' mounts.json)
		rm -f "$upper/file-0"
		printf 'changed' >"$upper/file-1"
		mknod "$upper/file-2" c 0 0
	fi
	ask build --mounts mounts.json -o ours.pb
	mkdir seen
	mount -t overlay -o "ro,$(jq -r '.[0].options | map(select(startswith("lowerdir=") or startswith("upperdir=") or startswith("workdir=") or startswith("index="))) | join(",")' mounts.json)" none seen
	oracle build seen >theirs.pb
	umount seen
	cmp ours.pb theirs.pb
}

case_a_bind_mount() {
	use_daemon_home "$work/ttrpc"
	"$integration/golden/make-tree" "$PWD/tree"
	jq -n --arg source "$PWD/tree" '[{Type: "bind", Source: $source, Options: ["rbind", "rw"]}]' >mounts.json
	ask build --mounts mounts.json | cmp - "$integration/golden/manifest.pb"
	ask build --mounts - <mounts.json | cmp - "$integration/golden/manifest.pb"
}

# Nobody else sees a mount, neither while it is used nor after.
case_mounts_are_private_and_leave_nothing() {
	local builder
	use_daemon_home "$work/ttrpc"
	mkdir tree && truncate -s "$FOREVER" tree/file
	jq -n --arg source "$PWD/tree" '[{type: "bind", source: $source, options: ["rbind"]}]' >mounts.json
	sort /proc/self/mountinfo >before
	continuity --address "$continuity_socket" build --mounts mounts.json -o /dev/null >/dev/null 2>&1 &
	builder=$!
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)" || fail "the daemon is not building"
	sort /proc/self/mountinfo | diff before - || fail "the mount is seen"
	kill -KILL "$builder"
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)" || fail "the daemon still works for nobody"
	sort "/proc/$(daemon_pid)/mountinfo" >inside
	! grep -F "$PWD" inside || fail "the daemon still has the mount"
	ask status >/dev/null
}

# kill -9 in the middle of a build of mounts leaves no mount, and the tree can be removed.
case_killed_while_it_builds_mounts() {
	local builder code=0
	use_daemon_home "$work/ttrpc"
	on_leave=ensure_daemon
	mkdir tree && truncate -s "$FOREVER" tree/file
	jq -n --arg source "$PWD/tree" '[{type: "bind", source: $source, options: ["rbind"]}]' >mounts.json
	sort /proc/self/mountinfo >before
	ask build --mounts mounts.json -o /dev/null >/dev/null 2>error &
	builder=$!
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)" || fail "the daemon is not building"
	kill_daemon
	sort /proc/self/mountinfo | diff before -
	wait "$builder" || code=$?
	same "$code" 2
	rm -r tree
	start_daemon
	ask status >/dev/null
}

# A check that its client left ends, too.
case_a_verification_ends_with_its_client() {
	local verifier
	use_daemon_home "$work/ttrpc"
	client prepare big-active '' >/dev/null
	truncate -s 300G "$(client mounts big-active | jq -r '.[0].source')/file"
	client commit big big-active
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)" || fail "the daemon does not seal"
	client remove big
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)" || fail "it seals what is gone"
}

case_bad_mounts_are_refused() {
	local mounts
	use_daemon_home "$work/ttrpc"
	for mounts in '[]' '{}' 'x' '[{"type":"bind"}]' '[{"type":"nosuchfs","source":"/x"}]' \
		'[{"type":"bind","source":"relative"}]' '[{"type":"bind","source":"/no/such"}]' \
		'[{"type":"overlay","source":"overlay","options":["lowerdir=/no/such"]}]'; do
		say "$mounts" >mounts.json
		exits 2 timeout 20 continuity --address "$continuity_socket" build --mounts mounts.json -o out.pb 2>error
		[[ -s error && ! -e out.pb ]] || fail "$mounts: no message, or an output"
	done
	ask status >/dev/null
}

case_snapshots_are_listed_and_verified() {
	use_daemon_home "$work/ttrpc"
	wait_until "$SERVICE_SECONDS" all_sealed
	ask snapshot ls >listing
	same "$(grep -c "^layer-" listing)" 12
	holds listing writable
	exits 0 ask snapshot verify layer-0-2
	exits 2 ask snapshot verify no-such-snapshot 2>error
	holds error no-such-snapshot
	exits 2 ask snapshot manifest no-such-snapshot 2>error
	ask snapshot manifest layer-0-2 >ours.pb
	exits 0 continuity ls ours.pb
}

# Large answers go in chunks: a manifest of many MiB arrives whole.
case_a_large_manifest_arrives_whole() {
	use_daemon_home "$work/ttrpc"
	mkdir tree
	big-tree wide 100000 tree
	jq -n --arg source "$PWD/tree" '[{type: "bind", source: $source, options: ["rbind"]}]' >mounts.json
	ask build --mounts mounts.json -o ours.pb
	continuity build tree | cmp - ours.pb
	below "daemon, KiB" "$(rss_kib "$(daemon_pid)")" $((32 * 1024))
}

# Garbage on the sockets is no crash.
case_garbage_on_the_sockets() {
	local socket
	use_daemon_home "$work/ttrpc"
	for socket in "$continuity_socket" "$snapshots_socket"; do
		socket-garbage "$socket"
	done
	ask status >/dev/null
	client list >/dev/null
	lacks "$daemon_home/log" panicked
}
