# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the demo shows, with assertions: an image is imported, sealed, damaged, refused, mended, run again. The
# cases stand on each other, in this order.

suite_setup() { start_story; }

suite_teardown() { stop_story; }

case_every_layer_is_a_snapshot() {
	same "$(committed_keys | wc -l)" "$IMAGE_LAYERS"
	same "$(snapshot_directories | wc -l)" "$IMAGE_LAYERS"
}

# What containerd unpacked, in overlay form.
case_layers_hold_what_the_image_has() {
	local whiteout opaque message
	whiteout=$(layer_file_of_type 'character special file' opt/data/removed)
	same "$(stat -c '%t,%T' "$whiteout")" 0,0
	opaque=$(dirname "$(layer_file srv/cache/fresh)")
	same "$(getfattr --absolute-names --only-values -n trusted.overlay.opaque "$opaque")" y
	message=$(layer_file "$STORY_FILE")
	same "$(getfattr --absolute-names --only-values -n user.origin "$message")" layer-3
	same "$(stat -c %h "$(layer_file app/lib/tool)")" 2
	same "$(stat -c %i "$(layer_file app/lib/tool)")" "$(stat -c %i "$(layer_file app/bin/tool)")"
	same "$(stat -c %u:%g "$(layer_file app/lib/tool)")" 1000:1001
	same "$(stat -c %a "$(layer_file bin/su)")" 4755
}

# layer_file_of_type TYPE PATH: among the layers that have PATH, the one where it is that.
layer_file_of_type() {
	local file
	for file in "$continuity_root"/snapshots/*/fs/"$2"; do
		if [[ $(stat -c %F "$file") == "$1" ]]; then
			say "$file"
			return 0
		fi
	done
	fail "no layer has a $1 at $2"
}

case_every_layer_is_sealed() {
	local key
	wait_for_seals
	for key in $(committed_keys); do
		ctr snapshots --snapshotter continuity info "$key" >info
		jq -e '.Labels["containerd.io/snapshot/continuity.manifest"] | test("^sha256:[0-9a-f]{64}$")' info >/dev/null ||
			fail "no digest of the manifest: $(cat info)"
	done
}

# A seal is the manifest of the layer's own directory: what the reference says of it, and the directory itself.
case_a_seal_is_the_manifest_of_the_layer() {
	wait_for_seals
	local directory key found matched=0
	for directory in "$continuity_root"/snapshots/[0-9]*/fs; do
		continuity build "$directory" | cmp - <(oracle build "$directory")
		continuity build --include-root "$directory" | sha256sum | cut -d' ' -f1
	done | sort >theirs
	for key in $(committed_keys); do
		ask snapshot manifest "$key" >manifest.pb
		sha256sum <manifest.pb | cut -d' ' -f1
	done | sort >ours
	diff theirs ours
	for key in $(committed_keys); do
		found=$(ctr snapshots --snapshotter continuity info "$key" | jq -r '.Labels["containerd.io/snapshot/continuity.manifest"]')
		grep -qx "${found#sha256:}" ours || fail "the label of $key names another manifest"
		cmp "$continuity_root/manifests/sha256/${found#sha256:}" <(ask snapshot manifest "$key")
		((++matched))
	done
	same "$matched" "$IMAGE_LAYERS"
}

case_a_container_sees_the_image() {
	run_container sees "$IMAGE" /bin/sh -c \
		'cat /app/message /opt/data/kept; ls /srv/cache /opt/data; test -u /bin/su; cat /app/bin/tool /app/lib/link; stat -c %a /app' >seen
	diff seen - <<-EOF2
		$STORY_TEXT
		kept
		/opt/data:
		kept

		/srv/cache:
		fresh
		shared
		$STORY_TEXT
		750
	EOF2
}

case_a_container_writes_to_its_own_layer() {
	run_container writes "$IMAGE" /bin/sh -c 'echo new >/app/message; rm /opt/data/kept; cat /app/message' >seen
	same "$(cat seen)" new
	same "$(run_container reads "$IMAGE" /app/start)" "$STORY_TEXT"
	exits 0 ask snapshot verify "$(top_layer)"
}

case_verified_when_used() {
	run_container used "$IMAGE" /bin/true
	same "$(seal_state "$(top_layer)")" verified
	ctr snapshots --snapshotter continuity info "$(top_layer)" |
		jq -e '.Labels["containerd.io/snapshot/continuity.verified-at"] | length > 0' >/dev/null || fail "no time"
}

# assert_refused COMMAND...: fails, saying FailedPrecondition, the file and what differs.
assert_refused() {
	local code=0
	"$@" >refusal 2>&1 || code=$?
	((code != 0)) || fail "not refused: $*"
	# The ctr of 2.x shows the message alone.
	containerd_has 2.0 || grep -qi 'failed precondition' refusal || fail "another code: $(cat refusal)"
	holds refusal "/$STORY_FILE"
	holds refusal "$expected_finding"
}

# damaged FINDING: every way to use the image is refused and names the file.
damaged() {
	local code=0 expected_finding=$1 top
	top=$(top_layer)
	assert_refused ctr snapshots --snapshotter continuity view refused "$top"
	assert_refused ctr snapshots --snapshotter continuity prepare refused "$top"
	assert_refused run_container refused "$IMAGE" /app/start
	ask snapshot verify "$top" >findings 2>&1 || code=$?
	same "$code" 1
	holds findings "/$STORY_FILE"
	holds findings "$1"
	ask snapshot ls >listing
	holds listing damaged
	ctr snapshots --snapshotter continuity ls >keys
	lacks keys refused
}

case_one_flipped_byte_is_refused() {
	local before
	file=$(layer_file "$STORY_FILE")
	before=$(stat -c '%s %Y %a' "$file")
	flip_byte "$file" 5
	on_leave='flip_byte "$file" 5'
	same "$(stat -c '%s %Y %a' "$file")" "$before"
	damaged digest
	mend
	intact
}

# Each: "finding | change | its undoing", to the file F.
each_damage=(
	'mode | chmod 0600 F | chmod 0644 F'
	'uid | chown 5 F | chown 0 F'
	'size | truncate -s 3 F | cp -p saved F'
	'missing | mv F elsewhere | mv elsewhere F'
	'xattr-differs | setfattr -n user.origin -v x F | setfattr -n user.origin -v layer-3 F'
	'xattr-missing | setfattr -x user.origin F | setfattr -n user.origin -v layer-3 F'
	'type | mv F elsewhere && mkdir F | rmdir F && mv elsewhere F'
)
case_damage() {
	local finding change undo
	IFS='|' read -r finding change undo <<<"$1"
	file=$(layer_file "$STORY_FILE")
	cp -p "$file" saved
	eval "${change//F/\"\$file\"}"
	on_leave=${undo//F/\"\$file\"}
	damaged "${finding// /}"
	mend
	intact
}

case_an_extra_file_in_a_lower_layer_is_refused() {
	local code=0
	directory=$(dirname "$(layer_file etc/passwd)")
	touch "$directory/shadow"
	on_leave='rm "$directory/shadow"'
	ctr snapshots --snapshotter continuity view refused "$(top_layer)" >refusal 2>&1 || code=$?
	((code != 0)) || fail "not refused"
	holds refusal '/etc/shadow'
	holds refusal extra
	mend
	intact
}

case_warn_lets_it_run_and_says_so() {
	file=$(layer_file "$STORY_FILE")
	printf '[verify]\naction = "warn"\n' >config.toml
	restart_daemon --config "$PWD/config.toml"
	flip_byte "$file" 5
	on_leave='flip_byte "$file" 5; restart_daemon'
	: >"$daemon_home/log"
	run_container warned "$IMAGE" /bin/true
	holds "$daemon_home/log" "/$STORY_FILE"
	mend
	intact
}

case_off_does_not_look() {
	file=$(layer_file "$STORY_FILE")
	printf '[verify]\non_prepare = "off"\non_view = "off"\n' >config.toml
	restart_daemon --config "$PWD/config.toml"
	flip_byte "$file" 5
	on_leave='flip_byte "$file" 5; restart_daemon'
	run_container unseen "$IMAGE" /bin/true
	mend
	intact
}

case_the_log_has_no_panic() { lacks "$daemon_home/log" panicked; }
