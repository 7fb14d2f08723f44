# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Seals from the image: what containerd unpacked is held against the image's layers as soon as it is sealed.

suite_setup() {
	start_story
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_images
}

suite_teardown() {
	stop_story
	rm -rf "$work/odd"
}

# by_source: "4 image", a line each.
by_source() { ask snapshot ls --format json | jq -r 'select(.kind == "committed") | .source' | sort | uniq -c | sed 's/^ *//'; }

said() { grep -qE "$1" "$daemon_home/log"; }

# Everything is gone, and the log is empty.
afresh() {
	local image
	for image in $(ctr images ls --quiet); do ctr images rm --sync "$image" >/dev/null; done
	wait_until "$SERVICE_SECONDS" all_is_collected || fail "snapshots are left"
	: >"$daemon_home/log"
}

# A collection that met a daemon that was being restarted is made up for by the next one that has something to do.
all_is_collected() { is_dialled && collect_garbage && nothing_is_left; }

case_every_layer_of_an_image() {
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	same "$(sources | cut -d' ' -f1)" "$IMAGE_LAYERS"
	ask snapshot ls >listing
	holds listing image
	same "$(run_container sealed "$IMAGE" /app/start)" "$STORY_TEXT"
	exits 0 ask snapshot verify "$(top_layer)"
}

# No false alarm, whatever the tars say.
each_odd_image=(parents whiteouts types names sparse links escapes mendable)
case_odd_image() {
	afresh
	ctr images import --base-name "$ODD" --snapshotter continuity "$work/odd/$1.tar"
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources; tail -n 5 "$daemon_home/log")"
	! said 'is not what' || fail "$(cat "$daemon_home/log")"
	exits 0 ask snapshot verify "$(top_layer)"
}

case_what_a_builder_commits_stays_as_it_is() {
	afresh
	import_image "$work/image.tar"
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	ctr snapshots --snapshotter continuity prepare building "$(top_layer)"
	on_leave='ctr snapshots --snapshotter continuity rm built'
	ctr snapshots --snapshotter continuity commit built building
	wait_until "$SERVICE_SECONDS" is_sealed built
	restart_daemon
	sleep 2
	same "$(by_source)" "1 disk"$'\n'"$IMAGE_LAYERS image"
	! said 'is not what' || fail "$(cat "$daemon_home/log")"
	mend
}

# A copy of the top layer for other users: every owner differs from the image's, and nothing is damaged.
case_what_is_remapped_stays_as_it_is() {
	afresh
	import_image "$work/image.tar"
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	ctr run --snapshotter continuity --runc-root "$work/runc" --cgroup "/$(basename "$work")/remapped" \
		--uidmap 0:100000:65536 --gidmap 0:100000:65536 "$IMAGE" remapped /app/start || true
	on_leave='ctr containers delete remapped'
	committed_keys | grep -E -- '-100000-100000$' || fail "nothing was remapped"
	wait_for_seals
	restart_daemon
	sleep 2
	same "$(by_source)" "1 disk"$'\n'"$IMAGE_LAYERS image"
	! said 'is not what' || fail "$(cat "$daemon_home/log")"
	exits 0 ask snapshot verify "$(committed_keys | grep -E -- '-100000-100000$')"
	mend
}

# The disk lied from the beginning: a file was damaged before the seal was made.
case_a_bad_unpack_is_found_at_once() {
	local file
	afresh
	import_image "$work/image.tar"
	file=$(layer_file "$STORY_FILE")
	flip_byte "$file" 5
	wait_until "$SERVICE_SECONDS" said "is not what layer 3 sha256:[0-9a-f]+ .*of $IMAGE says: /$STORY_FILE: digest" ||
		fail "$(cat "$daemon_home/log")"
	sources >states
	holds states '1 image damaged'
	! run_container bad "$IMAGE" /app/start 2>error || fail "a damaged layer was used"
	exits 1 ask snapshot verify "$(top_layer)" >findings
	holds findings "/$STORY_FILE: digest"
	exits 0 continuity --containerd-address "$containerd_socket" image repair --root "$work/state" --snapshotter continuity "$IMAGE"
	exits 0 ask snapshot verify "$(top_layer)"
	same "$(run_container good "$IMAGE" /app/start)" "$STORY_TEXT"
}

# containerd unpacks the layers of an image one after the other: none is read while another is being written.
case_sealing_waits_for_an_unpacking() {
	local unpacking
	unpacking="extract-1234-aB_- sha256:$(printf '0%.0s' {1..64})"
	afresh
	# Who is only called nearly so does not hold it up.
	ctr snapshots --snapshotter continuity prepare extract-anything
	import_image "$work/image.tar"
	wait_for_seals
	ctr snapshots --snapshotter continuity rm extract-anything
	afresh
	ctr snapshots --snapshotter continuity prepare "$unpacking"
	on_leave='ctr snapshots --snapshotter continuity rm "$unpacking"'
	import_image "$work/image.tar"
	sleep 3
	ask snapshot ls --format json | jq -es 'map(select(.kind == "committed")) | length == '"$IMAGE_LAYERS"' and all(.state == "pending")' ||
		fail "$(ask snapshot ls)"
	mend
	wait_for_seals
}

# What the image does not say, a whiteout that hides nothing among it, is no damage before the repair and none after it.
case_once_repaired_it_is_as_sealed() {
	local file
	afresh
	ctr images import --base-name "$ODD" --snapshotter continuity "$work/odd/whiteouts.tar"
	file=$(layer_file srv/cache/fresh)
	flip_byte "$file" 1
	rm "$(layer_file usr/share/doc/never-was)"
	setfattr -n trusted.overlay.impure -v y "$(dirname "$file")"
	wait_until "$SERVICE_SECONDS" said 'is not what layer 2 .*: /srv/cache/fresh: digest' || fail "$(cat "$daemon_home/log")"
	! said never-was || fail "$(cat "$daemon_home/log")"
	exits 1 ask snapshot verify "$(top_layer)" >findings
	same "$(grep -c '^/' findings)" 1
	exits 0 continuity --containerd-address "$containerd_socket" image repair --root "$work/state" --snapshotter continuity "$ODD:whiteouts"
	exits 0 ask snapshot verify "$(top_layer)"
}

case_nobody_is_asked_where_none_is_configured() {
	afresh
	stop_daemon
	printf 'containerd_address = ""\n' >none.toml
	on_leave='restart_daemon'
	launch_unasked
	import_image "$work/image.tar"
	wait_for_seals
	sleep 1
	same "$(sources)" "$IMAGE_LAYERS disk sealed"
	mend
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
}

# A daemon that is told of no containerd.
launch_unasked() {
	setsid continuity daemon --config "$PWD/none.toml" --root "$continuity_root" --snapshots-address "$snapshots_socket" \
		--address "$continuity_socket" >>"$daemon_home/log" 2>&1 </dev/null &
	say $! >"$daemon_home/pid"
	disown
	wait_until "$SERVICE_SECONDS" is_dialled || fail "the daemon does not answer"
}

# A list of no snapshots is answered by containerd alone.
is_dialled() { ctr snapshots --snapshotter continuity prepare probe && ctr snapshots --snapshotter continuity rm probe; }

# What an image's layers can be compared with may be gone or damaged, and may come back. "what happens to the blob of what,
# and what is said".
each_a_layer_without_its_blob_stays_as_it_is=(
	'mv layer is not in the content store'
	'cut layer its blob is damaged'
	'flip layer its blob is damaged'
	'cut config the content store is damaged'
)
case_a_layer_without_its_blob_stays_as_it_is() {
	local how what words manifest digest blob left='2 disk'
	read -r how what words <<<"$1"
	if [[ $what == config ]]; then left='4 disk'; fi
	afresh
	stop_daemon
	printf 'containerd_address = ""\n' >none.toml
	launch_unasked
	import_image "$work/image.tar"
	wait_for_seals
	manifest=$(ctr images ls "name==$IMAGE" | awk 'NR == 2 { print $3 }')
	digest=$(ctr content get "$manifest" | jq -r "$([[ $what == layer ]] && echo .layers[2].digest || echo .config.digest)")
	blob=$work/containerd/root/io.containerd.content.v1.content/blobs/sha256/${digest#sha256:}
	cp "$blob" "$work/blob"
	on_leave='mv "$work/blob" "$blob"; restart_daemon'
	case $how in
		mv) rm "$blob" ;;
		cut) truncate -s 100 "$blob" ;;
		flip) flip_byte "$blob" 20 ;;
	esac
	restart_daemon
	wait_until "$SERVICE_SECONDS" said "sealed from the disk until.*${words}" || fail "$(cat "$daemon_home/log")"
	same "$(by_source | grep disk)" "$left"
	if [[ $what == layer ]]; then same "$(run_container half "$IMAGE" /app/start)" "$STORY_TEXT"; fi
	# Once it has come, it is not long until it is asked for again.
	mv "$work/blob" "$blob"
	on_leave=restart_daemon
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	same "$(grep -c "until.*${words}" "$daemon_home/log")" 1
	mend
}

# A container keeps the layers; the image comes back after a while: it is asked for again.
case_an_image_that_is_recorded_later() {
	afresh
	stop_daemon
	printf 'containerd_address = ""\n' >none.toml
	launch_unasked
	import_image "$work/image.tar"
	ctr containers create --snapshotter continuity "$IMAGE" holder
	on_leave='ctr containers delete holder; restart_daemon'
	ctr images rm --sync "$IMAGE"
	wait_for_seals
	restart_daemon --log-level debug
	wait_until "$SERVICE_SECONDS" said 'no image has 4 layers yet' || fail "$(cat "$daemon_home/log")"
	same "$(by_source)" "$IMAGE_LAYERS disk"
	ctr images import --base-name "${IMAGE%:*}" --no-unpack "$work/image.tar"
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	mend
}

case_damage_is_mended_by_itself() {
	local file
	afresh
	import_image "$work/image.tar"
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	printf '[verify]\nrepair = "auto"\n' >auto.toml
	restart_daemon --config "$PWD/auto.toml"
	on_leave='restart_daemon'
	file=$(layer_file "$STORY_FILE")
	flip_byte "$file" 5
	touch "$(dirname "$file")/extra"
	! run_container mended "$IMAGE" /app/start 2>error || fail "a damaged layer was used"
	holds error 'it is being repaired: try again'
	wait_until "$SERVICE_SECONDS" said 'was damaged and is repaired: 2 changes, verified' || fail "$(cat "$daemon_home/log")"
	same "$(run_container mended "$IMAGE" /app/start)" "$STORY_TEXT"
	[[ -n $(find "$continuity_root/quarantine" -name extra) ]] || fail "what was removed is lost"
	same "$(sources | grep -c damaged)" 0
	mend
}

# What a running container uses is not touched by itself.
case_what_is_in_use_is_not_mended_by_itself() {
	local file
	printf '[verify]\nrepair = "auto"\n' >auto.toml
	restart_daemon --config "$PWD/auto.toml"
	ctr run --detach --snapshotter continuity --runc-root "$work/runc" --cgroup "/$(basename "$work")/user" "$IMAGE" user /bin/sleep 600
	on_leave='ctr task kill --signal KILL user; wait_until 10 ended; ctr task delete user || true; ctr containers delete user; restart_daemon'
	file=$(layer_file "$STORY_FILE")
	flip_byte "$file" 5
	! run_container another "$IMAGE" /app/start 2>error || fail "a damaged layer was used"
	wait_until "$SERVICE_SECONDS" said 'could not be repaired: what is damaged .* is in use: .*layer-3 by default/user' ||
		fail "$(cat "$daemon_home/log")"
	flip_byte "$file" 5
	same "$(run_container another "$IMAGE" /app/start)" "$STORY_TEXT"
	mend
}

ended() { ctr task ls | grep -E '^user .*STOPPED'; }
