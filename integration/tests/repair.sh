# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What is damaged is found, laid to its layer, and mended in place from the image's layers, with every snapshotter whose
# layers are directories; what can't be mended is left as it is, and said.

readonly MENDABLE=$ODD:mendable

# Of a hole: takes no space, and longer to hash than anybody waits here.
readonly SLOW_BYTES=200G

suite_setup() {
	start_story
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_image mendable odd_base odd_mendable odd_start
	odd_image hundreds odd_base odd_hundreds
	odd_image single odd_single
	local snapshotter name
	for snapshotter in overlayfs native continuity; do
		for name in mendable single; do
			ctr images import --base-name "$ODD" --snapshotter "$snapshotter" "$name.tar"
		done
	done
	ctr images import --base-name "$ODD" --snapshotter overlayfs hundreds.tar
}

suite_teardown() {
	stop_story
	rm -rf "$work/odd" "$work/state"
}

# A layer that no other image has.
odd_single() {
	mkdir -p usr
	: >usr/single
	odd_base "$1"
}

# Many files, for what takes a while.
odd_hundreds() {
	local n
	mkdir many
	for n in {1..400}; do printf 'file %s\n' "$n" >"many/$n"; done
	pack "$1"
}

image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

# repair REFERENCE [OPTIONS...]: with a state directory of our own.
repair() { image repair --root "$work/state" "$@"; }

# directory_with SNAPSHOTTER FILE: where a snapshotter keeps what the layer has put there that has FILE.
directory_with() {
	local root=$work/containerd/root directory
	case $1 in
	continuity) root=$continuity_root/snapshots ;;
	*) root=$root/io.containerd.snapshotter.v1.$1/snapshots ;;
	esac
	for directory in "$root"/*/fs "$root"/*; do
		[[ -e $directory/$2 ]] || continue
		# Without directories of its own, the last layer's shows everything.
		[[ $1 != native || $2 != app/device || -e $directory/app/start ]] || continue
		say "$directory"
		return
	done
	fail "no directory of $1 has $2"
}

run_mendable() {
	ctr run --rm --snapshotter "$1" --runc-root "$work/runc" --cgroup "/$(basename "$work")/mended" "$MENDABLE" mended "${@:2}"
}

# Each: "finding | change, in the directory of the layer that has app/note".
readonly DAMAGES=(
	'digest | flip_byte app/note 5'
	'size | touch -r app/note "$here/times"; : >app/note; touch -r "$here/times" app/note'
	'mode | chmod 0600 app/note'
	'uid | chown 5 app/note'
	'gid | chown :5 app/lib'
	'xattr-differs | setfattr -n user.origin -v x app/note'
	'xattr-missing | setfattr -x user.origin app/note'
	'xattr-extra | setfattr -n user.more -v x app/lib'
	'xattr-missing | setfattr -x security.capability app/capable'
	'target | ln -sfn elsewhere app/lib/link'
	'missing | rm app/note'
	'missing | rm -r app/lib'
	'extra | touch app/extra'
	'extra | mkdir -p app/more/of/it; echo x >app/more/of/it/file'
	'type | mv app/lib "$here/lib"; ln -s "$here/lib" app/lib'
	'type | rm app/note; mkdir -p app/note/not/a/file'
	'hardlink-broken | cp -p app/lib/tool app/lib/copy; mv app/lib/copy app/lib/tool'
	'hardlink-made | ln -f app/note app/capable'
	'device | rm app/device; mknod app/device c 1 5'
)
# Those of layers that are stacked.
readonly STACKED_DAMAGES=(
	'extra | rm opt/data/removed'
	'missing | mknod app/lib/../../bin/id c 0 0 2>/dev/null || { mkdir bin; mknod bin/id c 0 0; }'
	'extra | setfattr -x trusted.overlay.opaque srv/cache'
	'extra | mkdir app/more; mknod app/more/nothing c 0 0; flip_byte app/note 5'
)
each_damage=(overlayfs native continuity)
case_damage() {
	local directory row finding change damages=("${DAMAGES[@]}")
	[[ $1 == native ]] || damages+=("${STACKED_DAMAGES[@]}")
	directory=$(directory_with "$1" app/device)
	for row in "${damages[@]}"; do
		say "$1: $row"
		IFS='|' read -r finding change <<<"$row"
		mended "$1" "$directory" "${finding// /}" "$change"
	done
	same "$(run_mendable "$1" /app/start)" "$STORY_TEXT"
}

# mended SNAPSHOTTER DIRECTORY FINDING CHANGE: found, laid to its layer, mended, verified; the container runs again.
mended() {
	local snapshotter=$1 directory=$2 finding=$3 layer=2
	(cd "$directory" && eval "$4")
	exits 1 image verify "$MENDABLE" --snapshotter "$snapshotter" >findings
	# Where layers have no directory of their own, what no layer has put there is laid to the last one.
	if [[ $snapshotter == native && $finding == extra ]]; then layer=3; fi
	grep -E "^/.*: $finding.* \(layer $layer sha256:[0-9a-f]{64}" findings >/dev/null || {
		cat findings >&2
		fail "$finding in $snapshotter is not laid to layer $layer"
	}
	exits 1 repair "$MENDABLE" --snapshotter "$snapshotter" --dry-run >plan
	holds plan ' changes planned'
	exits 1 image verify "$MENDABLE" --snapshotter "$snapshotter" | cmp - findings
	exits 0 repair "$MENDABLE" --snapshotter "$snapshotter" >changes
	holds changes "$MENDABLE in $snapshotter: repaired,"
	same "$(head -n -1 plan)" "$(head -n -1 changes | sed 's/, kept as .*//')"
	exits 0 image verify "$MENDABLE" --snapshotter "$snapshotter" >verdict
	exits 0 repair "$MENDABLE" --snapshotter "$snapshotter" >nothing
	same "$(cat nothing)" "$MENDABLE in $snapshotter: intact, 0 changes made, 0 findings left"
	same "$(run_mendable "$snapshotter" /app/start)" "$STORY_TEXT"
}

# A socket is no finding, and so nothing to mend; in a directory that goes, it goes too.
case_a_socket_is_left_alone() {
	local directory
	directory=$(directory_with overlayfs app/device)
	socket-file "$directory/app/socket"
	on_leave='rm -f "$directory/app/socket"'
	exits 0 image verify "$MENDABLE" --snapshotter overlayfs
	exits 0 repair "$MENDABLE" --snapshotter overlayfs --dry-run
	exits 0 repair "$MENDABLE" --snapshotter overlayfs
	[[ -S $directory/app/socket ]] || fail "the socket is gone"
	mkdir "$directory/app/more"
	mv "$directory/app/socket" "$directory/app/more/socket"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs
	[[ ! -e $directory/app/more ]] || fail "the directory stayed"
}

# A view of a single layer is that layer's directory, and no overlay.
each_one_layer=(overlayfs native continuity)
case_one_layer() {
	local directory
	directory=$(directory_with "$1" usr/single)
	flip_byte "$directory/usr/share/doc/one" 1
	rm "$directory/usr/share/doc/two-again" "$directory/srv/fifo"
	touch "$directory/usr/extra"
	exits 1 image verify "$ODD:single" --snapshotter "$1" >findings
	same "$(grep -c '(layer 1 sha256:' findings)" 4
	exits 0 repair "$ODD:single" --snapshotter "$1" >changes
	holds changes "$ODD:single in $1: repaired, 4 changes made"
	exits 0 image verify "$ODD:single" --snapshotter "$1"
	same "$(ctr run --rm --snapshotter "$1" --runc-root "$work/runc" --cgroup "/$(basename "$work")/single" "$ODD:single" single \
		/bin/cat /usr/share/doc/two-again)" two
}

# Everything at once, and in every snapshotter at once.
case_all_of_it_at_once() {
	local snapshotter directory row
	for snapshotter in overlayfs native continuity; do
		directory=$(directory_with "$snapshotter" app/device)
		(cd "$directory" && rm -r app/lib app/note && chmod 0700 app && touch app/extra)
	done
	exits 0 repair "$MENDABLE" >changes
	same "$(grep -c ': repaired,' changes)" 3
	exits 0 image verify "$MENDABLE"
	for snapshotter in overlayfs native continuity; do same "$(run_mendable "$snapshotter" /app/start)" "$STORY_TEXT"; done
}

# What seals say and what the image says is the same: our own snapshotter gives the layer out again.
case_our_own_snapshots_are_given_out_again() {
	local directory
	wait_for_seals
	directory=$(directory_with continuity app/device)
	flip_byte "$directory/app/note" 5
	! run_mendable continuity /app/start 2>error || fail "a damaged layer was used"
	holds error damaged
	exits 0 repair "$MENDABLE" --snapshotter continuity
	same "$(run_mendable continuity /app/start)" "$STORY_TEXT"
}

case_what_is_removed_is_kept() {
	local directory kept
	directory=$(directory_with overlayfs app/device)
	mkdir -p "$directory/app/more/of"
	printf 'somebody needs it\n' >"$directory/app/more/of/file"
	ln -s nowhere "$directory/app/more/link"
	setfattr -n user.mine -v 1 "$directory/app/more/of/file"
	: >"$directory/app/.continuity-0123456789abcdef"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs >changes
	kept=$(sed -n 's|^remove /app/more/of/file (layer 2 .*), kept as ||p' changes)
	[[ $kept == "$work"/state/quarantine/20*/overlayfs/layer-2/app/more/of/file ]] || fail "$(cat changes)"
	same "$(cat "$kept")" 'somebody needs it'
	same "$(getfattr --only-values -n user.mine "$kept" 2>/dev/null)" 1
	same "$(readlink "$(dirname "$kept")/../link")" nowhere
	same "$(stat -c %a "$work/state/quarantine")" 700
	# What we left ourselves is nobody's.
	[[ -z $(find "$work/state" -name '.continuity-*') ]] || fail "kept our own debris"
	[[ ! -e $directory/app/more && -z $(find "$directory" -name '.continuity-*') ]] || fail "not removed"
}

# What is of another type than it should be was put there by somebody.
case_what_is_replaced_is_kept() {
	local directory kept
	directory=$(directory_with overlayfs app/device)
	rm "$directory/app/lib/link" "$directory/app/device" "$directory/app/note"
	printf 'somebody needs it\n' >"$directory/app/lib/link"
	printf 'this, too\n' >"$directory/app/device"
	ln -s elsewhere "$directory/app/note"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs >changes
	kept=$(sed -n 's|^create symlink /app/lib/link (layer 2 .*), kept as ||p' changes)
	[[ $kept == "$work"/state/quarantine/20*/overlayfs/layer-2/app/lib/link ]] || fail "$(cat changes)"
	same "$(cat "$kept")" 'somebody needs it'
	same "$(cat "$(dirname "$kept")/../device")" 'this, too'
	same "$(readlink "$(dirname "$kept")/../note")" elsewhere
	exits 0 image verify "$MENDABLE" --snapshotter overlayfs
	flip_byte "$directory/app/note" 5
	exits 0 repair "$MENDABLE" --snapshotter overlayfs >changes
	same "$(grep -c 'kept as' changes)" 0
}

# There a socket can't be kept, and nothing else is said of it.
case_it_is_kept_on_another_filesystem_but_for_sockets() {
	local directory
	rm -rf "$work/state"
	mkdir "$work/state"
	mount -t tmpfs -o mode=0700 none "$work/state"
	on_leave='umount "$work/state"'
	case_what_is_removed_is_kept
	case_what_is_replaced_is_kept
	directory=$(directory_with overlayfs app/device)
	rm "$directory/app/note"
	socket-file "$directory/app/note"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs >changes
	grep -E '^write /app/note \([0-9]+ bytes\) \(layer 2 sha256:[^,]*$' changes || fail "$(cat changes)"
	mend
}

# A container that runs: its layers are left alone, by name, but for who insists.
each_in_use=(overlayfs continuity)
case_in_use() {
	local directory inode
	directory=$(directory_with "$1" app/device)
	ctr run --detach --snapshotter "$1" --runc-root "$work/runc" --cgroup "/$(basename "$work")/user" \
		"$MENDABLE" user /bin/sleep 600
	on_leave="ctr task kill --signal KILL user; wait_until 10 ended user; ctr task delete user || true
		ctr containers delete user"
	flip_byte "$directory/app/note" 5
	inode=$(stat -c %i "$directory/app/note")
	exits 1 repair "$MENDABLE" --snapshotter "$1" --dry-run
	exits 2 repair "$MENDABLE" --snapshotter "$1" 2>error
	holds error 'layer-2 by default/user'
	exits 1 image verify "$MENDABLE" --snapshotter "$1"
	exits 0 repair "$MENDABLE" --snapshotter "$1" --force
	# Only contents of equal size differed: the inode is the same, and the container sees them.
	same "$(stat -c %i "$directory/app/note")" "$inode"
	same "$(ctr task exec --exec-id look user cat /app/note)" "$STORY_TEXT"
	mend
}

# What is mounted is in use, too, without any container.
each_in_use_by_a_mount=(overlay bind elsewhere)
case_in_use_by_a_mount() {
	local kind=$1 directory=$work/mounted pid
	mkdir -p "$directory"
	case $kind in
	overlay) ctr images mount --snapshotter overlayfs "$MENDABLE" "$directory" ;;
	bind) mount --bind "$(directory_with overlayfs app/device)/app" "$directory" ;;
	# In a mount namespace that only one process is in.
	elsewhere)
		unshare --mount sh -c 'mount --bind "$0" "$1" && echo mounted && exec sleep 600' \
			"$(directory_with overlayfs app/device)" "$directory" >mounts &
		pid=$!
		wait_until 10 grep -q mounted mounts
		;;
	esac
	on_leave='if [[ -n ${pid:-} ]]; then kill -KILL "$pid"; wait "$pid" || true; else umount "$directory"; fi
		if [[ $kind == overlay ]]; then ctr leases rm --sync "$directory"; fi'
	flip_byte "$(directory_with overlayfs app/device)/app/note" 5
	exits 2 repair "$MENDABLE" --snapshotter overlayfs 2>error
	holds error "layer-2 by the mount on $directory${pid:+ of process $pid}"
	same "$(grep -c 'layer-1 by' error)" 0
	exits 0 repair "$MENDABLE" --snapshotter overlayfs --force
	mend
	flip_byte "$(directory_with overlayfs app/device)/app/note" 5
	exits 0 repair "$MENDABLE" --snapshotter overlayfs
}

# A container whose snapshotter does not answer is no reason to leave another one's layers damaged.
case_a_snapshotter_that_does_not_answer() {
	local directory
	directory=$(directory_with overlayfs app/device)
	ctr run --detach --snapshotter continuity --runc-root "$work/runc" --cgroup "/$(basename "$work")/orphan" \
		"$MENDABLE" orphan /bin/sleep 600
	stop_daemon
	on_leave="start_daemon; wait_until 30 answers; ctr task kill --signal KILL orphan; wait_until 10 ended orphan
		ctr task delete orphan || true; ctr containers delete orphan"
	flip_byte "$directory/app/note" 5
	exits 0 repair "$MENDABLE" --snapshotter overlayfs 2>warnings
	holds warnings 'the mounts of container default/orphan'
	mend
}

answers() { ctr snapshots --snapshotter continuity ls; }

# A repair that fails on the way leaves no verdict of before.
case_after_a_repair_that_failed_the_image_is_damaged() {
	local directory
	directory=$(directory_with overlayfs app/device)
	exits 0 image verify "$MENDABLE" --snapshotter overlayfs
	image ls | grep -E "^$MENDABLE .* overlayfs +intact " || fail "$(image ls)"
	rm "$directory/app/lib/link"
	printf 'not it\n' >other
	mount --bind other "$directory/app/note"
	on_leave='umount "$directory/app/note" 2>/dev/null || true'
	# What is mounted on can't be replaced.
	exits 2 repair "$MENDABLE" --snapshotter overlayfs 2>error
	holds error app/note
	image ls | grep -E "^$MENDABLE .* overlayfs +damaged " || fail "$(image ls)"
	umount "$directory/app/note"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs
	image ls | grep -E "^$MENDABLE .* overlayfs +intact " || fail "$(image ls)"
}

case_in_use_by_a_paused_container() {
	local directory
	directory=$(directory_with overlayfs app/device)
	ctr run --detach --snapshotter overlayfs --runc-root "$work/runc" --cgroup "/$(basename "$work")/paused" \
		"$MENDABLE" paused /bin/sleep 600
	on_leave="ctr task resume paused 2>/dev/null || true; ctr task kill --signal KILL paused; wait_until 10 ended paused
		ctr task delete paused || true; ctr containers delete paused"
	ctr task pause paused
	flip_byte "$directory/app/note" 5
	exits 2 repair "$MENDABLE" --snapshotter overlayfs 2>error
	holds error 'layer-2 by default/paused'
	mend
	exits 0 repair "$MENDABLE" --snapshotter overlayfs
}

# By force, beneath a container that runs: what other paths lead to is not written over.
case_hard_links_in_use() {
	local directory inode
	directory=$(directory_with overlayfs app/device)
	ctr run --detach --snapshotter overlayfs --runc-root "$work/runc" --cgroup "/$(basename "$work")/linked" \
		"$MENDABLE" linked /bin/sleep 600
	on_leave="ctr task kill --signal KILL linked; wait_until 10 ended linked; ctr task delete linked || true
		ctr containers delete linked"
	# Another file of the layer becomes a link of the group; then all of them hold its wrong contents.
	same "$(stat -c %h "$directory/app/lib/tool")" 2
	cp -p "$directory/app/note" note
	ln -f "$directory/app/lib/tool" "$directory/app/note"
	flip_byte "$directory/app/lib/tool" 1
	inode=$(stat -c %i "$directory/app/lib/tool")
	exits 0 repair "$MENDABLE" --snapshotter overlayfs --force
	exits 0 image verify "$MENDABLE" --snapshotter overlayfs
	cmp note "$directory/app/note"
	[[ $(stat -c %i "$directory/app/note") != $(stat -c %i "$directory/app/lib/tool") ]] || fail "still one inode"
	mend
	same "$(run_mendable overlayfs /app/start)" "$STORY_TEXT"
}

ended() { ctr task ls | grep -E "^$1 .*STOPPED"; }

case_without_the_blob_nothing_is_changed() {
	local layer directory blob
	directory=$(directory_with overlayfs app/device)
	layer=$(ctr content get "$(ctr images ls "name==$MENDABLE" | awk 'NR == 2 { print $3 }')" | jq -r '.layers[1].digest')
	blob=$work/containerd/root/io.containerd.content.v1.content/blobs/sha256/${layer#sha256:}
	mv "$blob" "$work/blob"
	on_leave='mv "$work/blob" "$blob"; exits 0 repair "$MENDABLE" --snapshotter overlayfs'
	flip_byte "$directory/app/note" 5
	touch "$directory/app/extra"
	exits 2 repair "$MENDABLE" --snapshotter overlayfs 2>error
	holds error "$layer"
	holds error "content fetch $MENDABLE"
	[[ -e $directory/app/extra ]] || fail "something was changed"
	mend
	[[ ! -e $directory/app/extra ]] || fail "not repaired"
}

# Killed at any moment, each file is the old one or the new one, and another run finishes.
case_interrupted_it_is_finished_by_the_next() {
	local directory n pid file killed=0
	directory=$(directory_with overlayfs many/1)
	for n in 1 3 5 7 9; do
		for file in "$directory"/many/*; do printf 'damaged\n' >"$file"; done
		mkdir "$directory/many/more" && touch "$directory"/many/more/{1..100}
		# The program itself: of a function the shell around it would be killed, and not the program.
		(exec continuity --containerd-address "$containerd_socket" image repair --root "$work/state" \
			--snapshotter overlayfs "$ODD:hundreds" >changes 2>&1) &
		pid=$!
		# It has begun to change something, and is somewhere in it.
		wait_until 20 grep -q '^write' changes || fail "$(cat changes)"
		sleep "0.0$n"
		kill -KILL "$pid" 2>/dev/null && killed=$((killed + 1))
		wait "$pid" || true
		for file in "$directory"/many/[0-9]*; do
			case $(cat "$file") in "file $(basename "$file")" | damaged) ;; *) fail "$file: $(cat "$file")" ;; esac
		done
		exits 0 repair "$ODD:hundreds" --snapshotter overlayfs >changes
		[[ -z $(find "$directory" -name '.continuity-*') ]] || fail "debris is left"
	done
	((killed > 0)) || fail "it was never killed in time"
	exits 0 image verify "$ODD:hundreds" --snapshotter overlayfs
	for n in $(ctr leases ls | awk '/^continuity-/ { print $1 }'); do ctr leases rm --sync "$n"; done
}

# Whatever state directories they were given.
case_one_repair_at_a_time() {
	local directory
	directory=$(directory_with overlayfs app/device)
	exits 2 flock "$directory" "$(type -P continuity)" --containerd-address "$containerd_socket" image repair \
		--root "$work/state" --snapshotter overlayfs "$MENDABLE" 2>error
	holds error "another repair is changing $directory"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs
}

case_as_json() {
	local directory
	directory=$(directory_with overlayfs app/device)
	flip_byte "$directory/app/note" 5
	touch "$directory/app/extra"
	exits 0 repair "$MENDABLE" --snapshotter overlayfs --format json >changes
	jq -es --arg image "$MENDABLE" '
		(map(select(.action == "write")) | .[0].path == "/app/note" and .[0].layer.number == 2) and
		(map(select(.action == "remove")) | .[0].path == "/app/extra" and (.[0].kept | contains("quarantine"))) and
		(.[-1] | .verdict == "repaired" and .changes == 2 and .left == 0 and .image == $image)' changes >/dev/null ||
		fail "$(cat changes)"
}

case_what_is_not_there() {
	exits 2 repair continuity.test/none:v1 2>error
	holds error 'no image continuity.test/none:v1'
	exits 2 repair "$ODD:hundreds" --snapshotter native 2>error
	holds error 'not unpacked in snapshotter native'
}

# The same over ttrpc: a client in Rust asks the daemon, which asks containerd.
case_the_daemon_does_the_same_over_ttrpc() {
	local directory
	directory=$(directory_with overlayfs app/device)
	prepare_client "$MENDABLE" /app/note changed
	ctr run --snapshotter overlayfs --runc-root "$work/runc" --cgroup "/$(basename "$work")/changed" "$MENDABLE" changed \
		/bin/sh -c 'echo changed >/app/note'
	on_leave='ctr containers delete changed'
	client what_a_container_changed_is_told
	client what_is_not_there_or_makes_no_sense_is_said
	flip_byte "$directory/app/note" 5
	client an_image_is_listed_derived_traced_verified_and_repaired
	exits 0 ask status
	mend
}

case_over_ttrpc_what_is_in_use_is_refused() {
	local directory
	directory=$(directory_with overlayfs app/device)
	prepare_client "$MENDABLE" /app/note asked
	ctr run --detach --snapshotter overlayfs --runc-root "$work/runc" --cgroup "/$(basename "$work")/asked" "$MENDABLE" asked \
		/bin/sleep 600
	on_leave="ctr task kill --signal KILL asked; wait_until 10 ended asked; ctr task delete asked || true
		ctr containers delete asked"
	flip_byte "$directory/app/note" 5
	client what_is_in_use_is_repaired_by_force_only
	mend
}

case_over_ttrpc_without_containerd() {
	prepare_client "$MENDABLE" /app/note none
	stop_containerd
	on_leave=start_containerd
	client without_containerd_each_call_says_so
	mend
}

# prepare_client IMAGE PATH CONTAINER: builds the client, and tells it in its environment what it may know.
prepare_client() {
	find_cargo
	client_binary=$(run_cargo test --locked --no-run --quiet --test images --message-format=json |
		jq -r 'select(.profile.test == true and .executable != null) | .executable')
	export CONTINUITY_TEST_ADDRESS=$continuity_socket CONTINUITY_TEST_IMAGE=$1 CONTINUITY_TEST_SNAPSHOTTER=overlayfs \
		CONTINUITY_TEST_PATH_DAMAGED=$2 CONTINUITY_TEST_CONTAINER=$3 CONTINUITY_TEST_DERIVED=$PWD/derived.pb \
		CONTINUITY_TEST_DERIVED_LAYER=$PWD/layer.pb CONTINUITY_TEST_SNAPSHOT
	touch derived.pb layer.pb
	CONTINUITY_TEST_SNAPSHOT=none
	[[ $1 == "$MENDABLE" ]] || return 0
	image manifest "$1" -o derived.pb
	image manifest "$1" --layer 2 -o layer.pb
	CONTINUITY_TEST_SNAPSHOT=$(top_of "$1")
}

client() { "$client_binary" --ignored --exact "$1"; }

# A client that is killed: its work ends, with its lease and its view. The image takes minutes to read; what it is
# unpacked to is of no interest before that.
each_a_call_ends_with_its_client=(derive verify trace repair)
case_a_call_ends_with_its_client() {
	local client
	ctr images ls --quiet | grep -qx "$ODD:slow" || {
		odd_image slow odd_slow
		ctr images import --base-name "$ODD" --no-unpack slow.tar
		ctr snapshots --snapshotter overlayfs prepare slow
		ctr snapshots --snapshotter overlayfs commit "$(cat "$work/odd/diff-id")" slow
	}
	prepare_client "$ODD:slow" /large none
	export CONTINUITY_TEST_CALL=$1
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)" || fail "the daemon is busy before anybody asks"
	"$client_binary" --ignored --exact a_client_waits_for_an_image_that_takes_long >client 2>&1 &
	client=$!
	on_leave="kill -KILL $client 2>/dev/null || true"
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)" || fail "the daemon does not work: $(cat client)"
	case $1 in verify | repair) wait_until "$SERVICE_SECONDS" viewed || fail "there is no view" ;; esac
	kill -KILL "$client" || fail "it ended before it was killed: $(cat client)"
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)" || fail "the daemon works on for nobody"
	wait_until "$SERVICE_SECONDS" nothing_is_left_of_it || fail "left: $(ctr leases ls; ctr snapshots --snapshotter overlayfs ls)"
	wait "$client" || true
}

odd_slow() {
	truncate -s "$SLOW_BYTES" large
	pack "$1" --sparse
	printf 'sha256:%s' "$(sha256sum <"$1" | cut -d' ' -f1)" >"$work/odd/diff-id"
}

leased() { ctr leases ls | grep '^continuity-'; }

viewed() { ctr snapshots --snapshotter overlayfs ls | grep '^continuity-'; }

nothing_is_left_of_it() { ! leased && ! viewed; }
