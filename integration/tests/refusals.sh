# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Who is refused, and as what: damage whose seal cannot be stored, seals that cannot be made, names that imitate, a
# stop in the middle, layers that are stacked by their commits.

suite_setup() { start_story; }

suite_teardown() {
	chattr -i "$continuity_root/manifests" || true
	stop_story
}

client() { snapclient -address "$snapshots_socket" "$@"; }

said() { grep -qE "$1" "$daemon_home/log"; }

# Everything is gone, and the log is empty.
afresh() {
	local image
	for image in $(ctr images ls --quiet); do ctr images rm --sync "$image" >/dev/null; done
	wait_until "$SERVICE_SECONDS" all_is_collected || fail "snapshots are left"
	: >"$daemon_home/log"
}

all_is_collected() { is_dialled && collect_garbage && nothing_is_left; }

# A list of no snapshots is answered by containerd alone.
is_dialled() { ctr snapshots --snapshotter continuity prepare probe && ctr snapshots --snapshotter continuity rm probe; }

# A daemon that is told of no containerd.
launch_unasked() {
	printf 'containerd_address = ""\n' >none.toml
	setsid continuity daemon --config "$PWD/none.toml" --root "$continuity_root" --snapshots-address "$snapshots_socket" \
		--address "$continuity_socket" >>"$daemon_home/log" 2>&1 </dev/null &
	say $! >"$daemon_home/pid"
	disown
	wait_until "$SERVICE_SECONDS" is_dialled || fail "the daemon does not answer"
}

# refused_run ID TEXT: a container of that name does not start, and the message holds TEXT.
refused_run() {
	! run_container "$1" "$IMAGE" /app/start >refusal 2>&1 || fail "$1 runs: $(cat refusal)"
	holds refusal "$2"
}

# Nobody is taken for containerd's unpacker for being called like it.
each_imitating=(extract-anything extract-1-abcd extract-1234-aB0c)
case_imitating() {
	local file
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	file=$(layer_file "$STORY_FILE")
	same "$(run_container "$1" "$IMAGE" /app/start)" "$STORY_TEXT"
	flip_byte "$file" 3
	on_leave="flip_byte '$file' 3"
	refused_run "$1" "damaged: /$STORY_FILE: digest"
	! ctr snapshots --snapshotter continuity prepare "$1" "$(top_layer)" >/dev/null 2>error || fail "$1 was prepared"
	holds error "damaged: /$STORY_FILE: digest"
	! ctr snapshots --snapshotter continuity prepare "$1 $(top_layer)" "$(top_layer)" >/dev/null 2>error ||
		fail "a stack on itself was prepared"
	mend
	same "$(run_container "$1" "$IMAGE" /app/start)" "$STORY_TEXT"
}

# What the image says is not forgotten because it cannot be written down.
case_damage_whose_seal_cannot_be_stored() {
	local file
	afresh
	stop_daemon
	launch_unasked
	import_image "$work/image.tar"
	file=$(layer_file "$STORY_FILE")
	flip_byte "$file" 5
	wait_for_seals
	same "$(sources)" "$IMAGE_LAYERS disk sealed"
	stop_daemon
	chattr +i "$continuity_root/manifests"
	on_leave='chattr -i "$continuity_root/manifests"; restart_daemon'
	restart_daemon
	wait_until "$SERVICE_SECONDS" said 'could not be held against its image, trying again: ' || fail "$(cat "$daemon_home/log")"
	refused_run never "damaged: /$STORY_FILE: digest"
	same "$(sources | grep damaged)" '1 disk damaged'
	exits 1 ask snapshot verify "$(top_layer)" >findings
	holds findings "/$STORY_FILE: digest"
	# Nor by the next start, whose daemon has not asked yet.
	stop_daemon
	launch_unasked
	refused_run never 'damaged: it is not what its image says'
	stop_daemon
	mend
	wait_until "$SERVICE_SECONDS" sources_have '1 image damaged' || fail "$(sources)"
	refused_run never "damaged: /$STORY_FILE: digest"
	exits 0 continuity --containerd-address "$containerd_socket" image repair --root "$work/state" --snapshotter continuity "$IMAGE"
	same "$(run_container mended "$IMAGE" /app/start)" "$STORY_TEXT"
}

sources_have() { sources | grep -qxF "$1"; }

# A seal that cannot be made does not leave its layer pending, and used, for ever.
case_a_seal_that_cannot_be_stored() {
	afresh
	chattr +i "$continuity_root/manifests"
	on_leave='chattr -i "$continuity_root/manifests"'
	import_image "$work/image.tar"
	wait_until "$SERVICE_SECONDS" fails_twice || fail "$(cat "$daemon_home/log")"
	refused_run never 'could not be checked: it cannot be sealed: '
	mend
	same "$(run_container sealed "$IMAGE" /app/start)" "$STORY_TEXT"
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
}

fails_twice() { said "is not sealed, trying again in 2 s"; }

# containerd tells the kubelet that we are not there; the next daemon checks anew.
case_a_stop_in_the_middle_of_a_check() {
	local viewer code=0 source
	use_daemon_home "$PWD/daemon"
	start_daemon
	on_leave=stop_daemon
	client prepare large-active '' >/dev/null
	source=$(client mounts large-active | jq -r '.[0].source')
	say small >"$source/file"
	client commit large large-active
	wait_until "$SERVICE_SECONDS" all_sealed || fail "large is not sealed"
	# A check of it takes longer than its deadline.
	truncate -s 1T "$source/file"
	client view never large >refusal 2>&1 &
	viewer=$!
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)" || fail "the daemon does not check"
	stop_daemon
	wait "$viewer" || code=$?
	same "$code" 3
	holds refusal 'the daemon is stopping'
	truncate -s 6 "$source/file"
	say small >"$source/file"
	touch -d @0 "$source/file"
	start_daemon
	same "$(client list name==large | cut -f4)" sealed
}

# A killed daemon loses nothing that was written: what it had not sealed is used and sealed as ever.
case_a_killed_daemon_leaves_nothing_unproven() {
	use_daemon_home "$PWD/daemon"
	start_daemon
	on_leave=stop_daemon
	client -files 3 churn layer 8 >made
	kill_daemon
	start_daemon
	same "$(client list kind==committed | cut -f4 | grep -c unproven)" 0
	client view used layer-0-0 >/dev/null
	wait_until "$SERVICE_SECONDS" all_sealed || fail "$(client list)"
}

# Layers that are unpacked side by side: their whiteouts have a place, and their commits stack them.
case_rebase() {
	local diff_1 diff_2 chain_2 key_1 key_2 upper
	use_daemon_home "$PWD/daemon"
	start_daemon
	on_leave='umount --lazy seen 2>/dev/null || true; stop_daemon'
	mkdir -p 1/opt/data 1/srv/cache 2/opt/data 2/srv/cache 2/new/dir seen
	say kept >1/opt/data/kept && say removed >1/opt/data/removed && say 1 >1/srv/cache/one
	: >2/opt/data/.wh.removed && : >2/srv/cache/.wh..wh..opq && say fresh >2/srv/cache/fresh
	tar -C 1 -cf 1.tar opt srv && tar -C 2 -cf 2.tar opt srv new
	diff_1=sha256:$(sha256sum 1.tar | cut -d' ' -f1)
	diff_2=sha256:$(sha256sum 2.tar | cut -d' ' -f1)
	chain_2=sha256:$(printf '%s %s' "$diff_1" "$diff_2" | sha256sum | cut -d' ' -f1)
	key_1="default/2/extract-1-abcd $diff_1" key_2="default/1/extract-2-abcd $chain_2"
	# The upper one first, and so with the lower number.
	client -label "containerd.io/snapshot.ref=$chain_2" -label "containerd.io/snapshot/diff-id=$diff_2" \
		-label "containerd.io/snapshot/parent-chain-id=$diff_1" prepare "$key_2" '' >/dev/null
	client -label "containerd.io/snapshot.ref=$diff_1" -label "containerd.io/snapshot/diff-id=$diff_1" prepare "$key_1" ''
	client apply "$key_2" "$PWD/2.tar"
	client apply "$key_1" "$PWD/1.tar"
	same "$(client mounts "$key_1" | jq -r '.[].type')" bind
	upper=$(client mounts "$key_2" | jq -r '.[].options[] | select(startswith("upperdir=")) | .[9:]')
	same "$(client mounts "$key_2" | jq -r 'length, .[0].type')" $'1\noverlay'
	same "$(stat -c '%F %t,%T' "$upper/opt/data/removed")" 'character special file 0,0'
	same "$(getfattr --only-values -n trusted.overlay.opaque "$upper/srv/cache")" y
	exits 1 client commit "default/4/$chain_2" "$key_2" "default/3/$diff_1" 2>error
	holds error 'code = NotFound'
	client commit "default/3/$diff_1" "$key_1"
	exits 1 client commit "default/4/$chain_2" "$key_2" "$key_2" 2>error
	holds error 'code = FailedPrecondition'
	client commit "default/4/$chain_2" "$key_2" "default/3/$diff_1"
	same "$(client list "name==default/4/$chain_2" | cut -f3)" "default/3/$diff_1"
	exits 1 client remove "default/3/$diff_1" 2>error
	client view look "default/4/$chain_2" >/dev/null
	mount -t overlay -o "ro,$(client mounts look | jq -r '.[0].options | join(",")')" none seen
	same "$(cd seen && find . -type f | sort | xargs)" './opt/data/kept ./srv/cache/fresh'
	umount seen
	wait_until "$SERVICE_SECONDS" all_sealed || fail "$(client list)"
	client view again "default/4/$chain_2" >/dev/null
	exits 0 ask snapshot verify "default/4/$chain_2"
	restart_alone
	client view later "default/4/$chain_2" >/dev/null
}

restart_alone() {
	stop_daemon
	start_daemon
}

# What rotted in our own state is said to be that, and not the caller's fault.
case_a_rotten_manifest_is_data_loss() {
	use_daemon_home "$PWD/daemon"
	start_daemon
	on_leave=stop_daemon
	client churn layer 4 >/dev/null
	wait_until "$SERVICE_SECONDS" all_sealed
	for manifest in "$continuity_root"/manifests/sha256/*; do flip_byte "$manifest" 10; done
	exits 1 client view refused layer-0-0 2>error
	holds error 'code = DataLoss'
	holds error 'could not be checked: the stored manifest'
	exits 2 ask snapshot verify layer-0-0 2>error
	holds error 'the stored manifest'
}
