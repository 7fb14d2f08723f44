# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# kill -9 at any moment: what was acknowledged is there, what was not is wholly gone, and seals are finished by
# the next daemon.

# Restarts of one daemon's state, each killed at another moment.
readonly CRASHES=20

# Moments at which the power is cut.
readonly POWER_CUTS=6

# A name of a layer in a file of names, one a line.
listed_all() {
	local name
	while read -r name; do
		grep -qxF "$name" "$2" || fail "acknowledged and lost: $name"
	done <"$1"
}

# As many directories as snapshots, and the same ones: every listed snapshot has its directory.
disk_agrees() {
	local number
	snapclient -address "$snapshots_socket" list >listed
	same "$(snapshot_directories | wc -l)" "$(wc -l <listed)"
	for number in $(snapshot_directories); do
		[[ -d $continuity_root/snapshots/$number/fs ]] || fail "$number has no fs"
	done
}

# Nothing that was never asked for, and nothing half-made: of the unacknowledged, at most one per worker and crash.
nothing_extra() {
	local extra
	extra=$(cut -f1 listed | grep -v '^active-' | grep -vxF -f acknowledged || true)
	! grep -q "^[^r]" <<<"$extra" || fail "nobody made: $extra"
	(($(grep -c . <<<"$extra") <= CRASHES * 4)) || fail "too many: $extra"
}

# The seal of every committed snapshot is what the reference says of its directory, and no other file is stored.
seals_are_true() {
	local name
	cut -f1,2 listed | awk -F'\t' '$2 == "committed" { print $1 }' >names
	while read -r name; do ask snapshot manifest "$name" | sha256sum | cut -d' ' -f1; done <names | sort -u >ours
	find "$continuity_root/manifests/sha256" -type f -printf '%f\n' | sort >stored
	diff ours stored
	while read -r name; do exits 0 ask --quiet snapshot verify "$name" >/dev/null 2>&1; done < <(shuf -n 25 names)
}

case_in_the_middle_of_commits() {
	local round
	use_daemon_home "$PWD/daemon"
	: >acknowledged
	for ((round = 0; round < CRASHES; round++)); do
		start_daemon
		snapclient -address "$snapshots_socket" -files 3 churn "round-$round" 4000 >>acknowledged 2>/dev/null &
		sleep "0.$((RANDOM % 40 + 10))"
		kill_daemon
		wait || true
	done
	start_daemon
	say "$(wc -l <acknowledged) layers were acknowledged"
	(($(wc -l <acknowledged) > CRASHES)) || fail "too few commits to be a test"
	snapclient -address "$snapshots_socket" list >listed
	cut -f1 listed >names
	listed_all acknowledged names
	nothing_extra
	disk_agrees
	wait_until 120 all_sealed || fail "not sealed: $(snapclient -address "$snapshots_socket" list | grep -v sealed | head)"
	snapclient -address "$snapshots_socket" list >listed
	seals_are_true
	stop_daemon
}

# What ext4 has written at some moment, and nothing later, is what a power cut at that moment leaves: btrfs clones its file
# as of one moment. The clone's journal is replayed when it is mounted.
case_power_cuts() {
	local round
	mount_disk btrfs "$PWD/outer" 8G
	on_leave='kill_daemon; umount --lazy cut outer/disk outer'
	mount_disk ext4 "$PWD/outer/disk" 1G
	use_daemon_home "$PWD/outer/disk/daemon"
	start_daemon
	for ((round = 0; round < POWER_CUTS; round++)); do
		snapclient -address "$snapshots_socket" -files 3 churn "round-$round" 150 >"made-$round" &
		wait_until "$SERVICE_SECONDS" test -s "made-$round" || fail "nothing was acknowledged: no test"
		sleep "0.$((RANDOM % 25 + 10))"
		cat made-* >"acknowledged-$round"
		cp --reflink=always outer/disk.image "outer/cut-$round"
		wait $!
	done
	stop_daemon
	mkdir cut
	use_daemon_home "$PWD/cut/daemon"
	# No image describes these layers.
	printf '[verify]\nunproven = "allow"\n' >allow.toml
	for ((round = 0; round < POWER_CUTS; round++)); do
		say "cut $round: $(wc -l <"acknowledged-$round") layers were acknowledged"
		mount -o loop "outer/cut-$round" cut
		start_daemon --config "$PWD/allow.toml"
		disk_agrees
		cut -f1 listed >names
		listed_all "acknowledged-$round" names
		wait_until 120 all_sealed || fail "not sealed: $(snapclient -address "$snapshots_socket" list | grep -v sealed | head)"
		stop_daemon
		umount cut
	done
}

# A cut before the seal: layers of an image that were acknowledged, and whose files were never written to the disk. containerd
# has lost nothing, and asks for them as soon as both are up.
#
# What the daemon has on its disk is what the cut left; each_cut says what of it was written before, and what follows.
each_cut_before_the_seal=('lost ext4' 'written ext4' 'lost xfs')
case_cut_before_the_seal() {
	local written filesystem options=loop socket=$PWD/outer/run/snapshots.sock
	read -r written filesystem <<<"$1"
	# The filesystem that it is a clone of is mounted still.
	if [[ $filesystem == xfs ]]; then options+=,nouuid; fi
	mount_disk btrfs "$PWD/outer" 4G
	on_leave='kill_daemon; stop_containerd; umount --lazy cut outer/disk outer; rm -rf "$work/containerd"'
	mount_disk "$filesystem" "$PWD/outer/disk" 1G
	mkdir outer/run cut
	use_disk() { use_daemon_home "$1" && snapshots_socket=$socket; }
	use_disk "$PWD/outer/disk/daemon"
	rm -rf "$work/containerd"
	start_daemon
	start_containerd
	make_image image.tar
	sync
	import_image image.tar
	if [[ $written == written ]]; then sync; fi
	cp --reflink=always outer/disk.image outer/cut
	same "$(client list kind==committed | cut -f4 | sort -u)" pending
	kill_daemon
	mount -o "$options" outer/cut cut
	use_disk "$PWD/cut/daemon"
	start_daemon
	same "$(client list kind==committed | cut -f1,4 | grep -c unproven)" "$IMAGE_LAYERS"
	wait_until "$SERVICE_SECONDS" ctr snapshots --snapshotter continuity ls || fail "containerd did not find the daemon"
	if [[ $written == lost ]]; then
		[[ ! -s $(layer_file "$STORY_FILE") ]] || fail "nothing was lost: no test"
		exits 1 ctr snapshots --snapshotter continuity view at-once "$(top_layer)" >out 2>error
		holds error 'damaged: /'
		holds error 'digest: expected'
		same "$(client list kind==committed | cut -f4 | grep -c damaged)" "$(client list kind==committed | cut -f4 | grep -vc unproven)"
	else
		ctr snapshots --snapshotter continuity view at-once "$(top_layer)" >/dev/null
		ctr snapshots --snapshotter continuity rm at-once
		all_from_image || fail "$(sources)"
	fi
}

client() { snapclient -address "$snapshots_socket" "$@"; }

# Where no image can tell, somebody has to decide.
case_what_a_cut_left_and_no_image_describes() {
	mount_disk btrfs "$PWD/outer" 4G
	on_leave='kill_daemon; umount --lazy cut outer/disk outer'
	mount_disk ext4 "$PWD/outer/disk" 1G
	mkdir cut
	use_daemon_home "$PWD/outer/disk/daemon"
	start_daemon
	client -files 3 churn layer 4 >/dev/null
	cp --reflink=always outer/disk.image outer/cut
	stop_daemon
	# A clean stop has written what is pending.
	mount -o loop outer/cut cut
	use_daemon_home "$PWD/cut/daemon"
	start_daemon
	same "$(client list kind==committed | cut -f4 | sort | uniq -c | xargs)" '4 unproven'
	exits 1 client view never layer-0-0 2>error
	holds error 'could not be checked: nothing proves what it holds: '
	holds error 'verify.unproven = "allow"'
	exits 2 ask snapshot verify layer-0-0 2>error
	stop_daemon
	# Decided, once.
	printf '[verify]\nunproven = "allow"\n' >allow.toml
	start_daemon --config "$PWD/allow.toml"
	client view used layer-0-0 >/dev/null
	wait_until "$SERVICE_SECONDS" all_sealed || fail "$(client list)"
	stop_daemon
	start_daemon
	client view again layer-1-0 >/dev/null
}

# A clean stop leaves nothing to prove, whatever happens to the power afterwards.
case_a_cut_after_a_clean_stop() {
	mount_disk btrfs "$PWD/outer" 4G
	on_leave='kill_daemon; umount --lazy cut outer/disk outer'
	mount_disk ext4 "$PWD/outer/disk" 1G
	mkdir cut
	use_daemon_home "$PWD/outer/disk/daemon"
	start_daemon
	client -files 3 -size 0 churn layer 4 >/dev/null
	say contents >"$(find outer/disk/daemon/root/snapshots -path '*/fs/file-0' | sort | head -n 1)"
	same "$(client list kind==committed | cut -f4 | sort -u)" pending
	stop_daemon
	cp --reflink=always outer/disk.image outer/cut
	mount -o loop outer/cut cut
	use_daemon_home "$PWD/cut/daemon"
	start_daemon
	same "$(cat "$(find cut/daemon/root/snapshots -path '*/fs/file-0' | sort | head -n 1)")" contents
	client view used layer-0-0 >/dev/null
	wait_until "$SERVICE_SECONDS" all_sealed || fail "$(client list)"
}

# Layers that take a while to seal: big ones, in chains, the daemon killed while it seals.
case_in_the_middle_of_seals() {
	local round
	use_daemon_home "$PWD/daemon"
	: >acknowledged
	for ((round = 0; round < 8; round++)); do
		start_daemon
		snapclient -address "$snapshots_socket" -chain -files 40 -size 4000000 churn "round-$round" 8 >>acknowledged
		sleep "0.$((RANDOM % 90 + 10))"
		kill_daemon
	done
	start_daemon
	snapclient -address "$snapshots_socket" list >listed
	cut -f1 listed >names
	listed_all acknowledged names
	same "$(wc -l <acknowledged)" "$(wc -l <listed)"
	wait_until 180 all_sealed || fail "not sealed: $(snapclient -address "$snapshots_socket" list | grep -v sealed | head)"
	snapclient -address "$snapshots_socket" list >listed
	seals_are_true
	disk_agrees
	stop_daemon
}

# The files go after the record does: a crash between leaves a directory that the next start takes.
case_in_the_middle_of_removals() {
	local round name
	use_daemon_home "$PWD/daemon"
	for ((round = 0; round < 6; round++)); do
		start_daemon
		snapclient -address "$snapshots_socket" -files 300 churn "round-$round" 40 >made
		(while read -r name; do snapclient -address "$snapshots_socket" remove "$name" 2>/dev/null && say "$name" >>removed; done <made || true) &
		sleep "0.$((RANDOM % 30 + 10))"
		kill_daemon
		wait || true
	done
	start_daemon
	disk_agrees
	[[ -s removed ]] || fail "nothing was removed: no test"
	cut -f1 listed >names
	while read -r name; do ! grep -xF "$name" names || fail "removed and back: $name"; done <removed
	stop_daemon
}

# What lies in the root and belongs to nobody is taken away; what belongs to a snapshot stays.
case_orphaned_directories_are_removed() {
	use_daemon_home "$PWD/daemon"
	start_daemon
	snapclient -address "$snapshots_socket" churn layer 8 >/dev/null
	stop_daemon
	mkdir -p "$continuity_root/snapshots/99999/fs/deep/er" "$continuity_root/snapshots/99999/work"
	ln -s / "$continuity_root/snapshots/99999/fs/slash"
	start_daemon
	wait_until "$SERVICE_SECONDS" test ! -e "$continuity_root/snapshots/99999" || fail "still there"
	disk_agrees
	same "$(wc -l <listed)" 8
	stop_daemon
}

# A seal that was lost from disk is no proof: said, not hidden.
case_a_lost_or_damaged_manifest_is_no_proof() {
	local manifest code=0
	use_daemon_home "$PWD/daemon"
	start_daemon
	snapclient -address "$snapshots_socket" churn layer 4 >/dev/null
	wait_until "$SERVICE_SECONDS" all_sealed
	for manifest in "$continuity_root"/manifests/sha256/*; do flip_byte "$manifest" 10; done
	ask snapshot verify layer-0-0 >out 2>&1 || code=$?
	((code != 0)) || fail "a damaged manifest proved something"
	code=0
	snapclient -address "$snapshots_socket" view refused layer-0-0 >out 2>&1 || code=$?
	((code != 0)) || fail "a damaged manifest proved something"
	ask status >/dev/null
	stop_daemon
}
