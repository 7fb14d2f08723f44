# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A containerd, our daemon, and the image of lib/image.sh imported: what several files of tests/ stand on.

start_story() {
	rm -rf "$work/continuity" "$work/containerd"
	start_daemon
	start_containerd
	make_image "$work/image.tar"
	import_image "$work/image.tar"
}

stop_story() {
	stop_containerd
	stop_daemon
	rm -rf "$work/containerd" "$work/continuity"
}

# restart_daemon [ARGUMENTS...]: containerd dials again after a moment that grows with its failures.
restart_daemon() {
	stop_daemon
	start_daemon "$@"
	wait_until "$SERVICE_SECONDS" ctr snapshots --snapshotter continuity ls || fail "containerd did not find the daemon again"
}

# intact: it runs again, without anybody having told us.
intact() {
	same "$(run_container again "$IMAGE" /app/start)" "$STORY_TEXT"
	exits 0 ask snapshot verify "$(top_layer)"
	same "$(seal_state "$(top_layer)")" verified
	ask snapshot ls >listing
	lacks listing damaged
}

# mend: undoes the damage now, not at the end of the case.
mend() {
	eval "$on_leave"
	on_leave=''
}

# A lease that is deleted with --sync returns after a whole collection.
collect_garbage() { ctr leases delete --sync "$(ctr leases create)" >/dev/null; }

only_layers_are_left() { [[ $(snapshot_directories | wc -l) == "$IMAGE_LAYERS" ]]; }

nothing_is_left() { [[ -z $(snapshot_directories) ]]; }
