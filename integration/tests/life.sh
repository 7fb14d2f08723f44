# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A life with containerd: containers at once, restarts of either side, many snapshots, many layers, and an end that
# leaves nothing. The cases stand on each other, in this order.

suite_setup() { start_story; }

suite_teardown() { stop_story; }

case_two_containers_at_once() {
	local one two
	run_container one "$IMAGE" /bin/sh -c 'echo 1 >/tmp/x; sleep 1; cat /tmp/x /app/message' >out1 &
	one=$!
	run_container two "$IMAGE" /bin/sh -c 'echo 2 >/tmp/x; sleep 1; cat /tmp/x /app/message' >out2 &
	two=$!
	wait "$one"
	wait "$two"
	same "$(cat out1)" $'1\n'"$STORY_TEXT"
	same "$(cat out2)" $'2\n'"$STORY_TEXT"
}

case_a_container_outlives_a_restart_of_the_daemon() {
	local container
	ctr snapshots --snapshotter continuity ls | sort >before
	run_container lives "$IMAGE" /bin/sh -c 'while ! test -e /tmp/go; do sleep 0.1; done; cat /app/message' >out &
	container=$!
	wait_until "$SERVICE_SECONDS" task_runs lives
	kill_daemon
	restart_daemon
	ctr tasks exec --exec-id x lives /bin/touch /tmp/go
	wait "$container"
	same "$(cat out)" "$STORY_TEXT"
	ctr snapshots --snapshotter continuity ls | sort | diff before -
	intact
}

task_runs() { ctr tasks ls | grep -q "^$1 .*RUNNING"; }

case_restart_keeps_everything() {
	ctr snapshots --snapshotter continuity ls | sort >before
	ask snapshot ls | sort >ours
	restart_daemon
	ctr snapshots --snapshotter continuity ls | sort | diff before -
	diff <(awk '{ print $1 }' ours) <(ask snapshot ls | sort | awk '{ print $1 }')
	intact
}

case_a_daemon_that_is_down_is_unavailable_and_comes_back() {
	local code=0 top
	top=$(top_layer)
	stop_daemon
	on_leave=restart_daemon
	timeout 20 ctr snapshots --snapshotter continuity view refused "$top" >refusal 2>&1 || code=$?
	((code != 0 && code != 124)) || fail "exit code $code"
	grep -qi unavailable refusal || fail "another error: $(cat refusal)"
	code=0
	run_container refused "$IMAGE" /bin/true >refusal 2>&1 || code=$?
	((code != 0 && code != 124)) || fail "exit code $code"
	mend
	intact
}

case_containerd_restarts() {
	stop_containerd
	start_containerd
	intact
}

# As after a reboot: containerd is there before us.
case_containerd_starts_first() {
	stop_containerd
	stop_daemon
	start_containerd
	restart_daemon
	intact
}

case_a_hundred_snapshots_are_listed_and_filtered() {
	local top number
	top=$(top_layer)
	on_leave=remove_the_hundred
	for ((number = 0; number < 100; number++)); do
		ctr snapshots --snapshotter continuity prepare "key $number" "$top" >/dev/null
	done
	ctr snapshots --snapshotter continuity label "key 7" containerd.io/snapshot/color=red
	same "$(ctr snapshots --snapshotter continuity ls | grep -c '^key ')" 100
	same "$(ask snapshot ls | grep -c 'key ')" 100
	same "$(filtered 'kind==active' | wc -l)" 100
	same "$(filtered 'kind==committed' | wc -l)" "$IMAGE_LAYERS"
	same "$(filtered 'name=="key 42"' | cut -f1)" 'key 42'
	same "$(filtered 'name~="^key 1[0-9]$"' | wc -l)" 10
	same "$(filtered "parent==$top" | wc -l)" 100
	same "$(filtered "parent==$top,name~=9" | wc -l)" 19
	same "$(filtered 'name=="key 1"' 'name=="key 2"' | wc -l)" 2
	same "$(filtered 'labels."containerd.io/snapshot/color"==red' | cut -f1)" 'key 7'
	same "$(filtered 'name==nobody' | wc -l)" 0
	same "$(snapshot_directories | wc -l)" $((100 + IMAGE_LAYERS))
	mend
	collect_garbage
	wait_until "$SERVICE_SECONDS" only_layers_are_left || fail "left: $(snapshot_directories)"
}

remove_the_hundred() {
	local number
	for ((number = 0; number < 100; number++)); do ctr snapshots --snapshotter continuity rm "key $number"; done
}

# Through containerd, as its clients do; ours sees the keys with their namespace.
filtered() { snapclient -address "$containerd_socket" -namespace default list "$@"; }

case_idle_memory() {
	collect_garbage
	below "resident, KiB" "$(rss_kib "$(daemon_pid)")" $((12 * 1024))
}

case_garbage_collection_leaves_nothing() {
	wait_until "$SERVICE_SECONDS" only_layers_are_left || fail "before: $(snapshot_directories)"
	ctr images rm --sync "$IMAGE"
	wait_until "$SERVICE_SECONDS" nothing_is_left || fail "left: $(snapshot_directories)"
	same "$(ctr snapshots --snapshotter continuity ls | tail -n +2 | wc -l)" 0
	same "$(snapclient -address "$snapshots_socket" list | wc -l)" 0
}

case_the_image_can_come_again() {
	import_image "$work/image.tar"
	wait_for_seals
	intact
	exits 0 ctr images rm --sync "$IMAGE"
}

# Layers of a large image: their directories as mount options are longer than a page.
readonly MANY=120

# An image of many layers costs as many checks, not their square; it mounts, for containerd and for us.
case_many_layers() {
	local layout=$PWD/layout number
	umoci init --layout "$layout"
	umoci new --image "$layout:v1"
	mkdir base && (cd base && umask 022 && layer_1)
	add_layer "$layout:v1" "$PWD/base"
	for ((number = 1; number < MANY; number++)); do
		mkdir -p "l$number/srv"
		say "$number" >"l$number/srv/last"
		say "$number" >"l$number/srv/file-$number"
		add_layer "$layout:v1" "$PWD/l$number"
	done
	tar -C "$layout" -cf many.tar .
	ctr images import --base-name continuity.test/many --snapshotter continuity many.tar
	on_leave='ctr images rm --sync continuity.test/many:v1'
	same "$(committed_keys | wc -l)" "$MANY"
	# Besides the numbered files: cache, last.
	same "$(run_container many continuity.test/many:v1 /bin/sh -c 'cat /srv/last /srv/file-1; ls /srv | wc -l')" \
		$((MANY - 1))$'\n1\n'$((MANY + 1))
	wait_for_seals
	exits 0 ask snapshot verify "$(top_layer)"
	ctr snapshots --snapshotter continuity view looked "$(top_layer)" >/dev/null
	snapclient -address "$containerd_socket" -namespace default mounts looked >mounts.json
	(($(wc -c <mounts.json) > 4096)) || fail "the options fit a page: no test"
	ask build --mounts mounts.json -o merged.pb
	same "$(continuity ls merged.pb | grep -c '/srv/file-[0-9]*$')" $((MANY - 1))
	ctr snapshots --snapshotter continuity rm looked
	mend
	wait_until "$SERVICE_SECONDS" nothing_is_left || fail "left: $(snapshot_directories)"
}

case_the_log_has_no_panic() { lacks "$daemon_home/log" panicked; }
