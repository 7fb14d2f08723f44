# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Nothing is no proof: manifests that are empty, cut off or changed, namespaces where nothing is unpacked. And what a
# container's runtime makes is no change of the container's.

suite_setup() {
	start_story
	mkdir -p "$work/nothing"
	cd "$work/nothing"
	odd_image bare bare_layer
	ctr images import --base-name "$ODD" --snapshotter overlayfs bare.tar
	mkdir -p tree/sub
	printf 'one\n' >tree/one
	printf 'two\n' >tree/sub/two
	continuity build tree -o tree.pb
	: >empty.pb
}

suite_teardown() {
	stop_story
	rm -rf "$work/nothing"
}

# No directory that a container needs, but for /etc, and a link on the way to a mount.
bare_layer() {
	local applet
	mkdir -p bin etc data
	install -m 0755 "$(static_busybox)" bin/busybox
	for applet in $APPLETS; do ln bin/busybox "bin/$applet"; done
	ln -s data/real linked
	printf 'root:x:0:0:root:/:/bin/sh\n' >etc/passwd
	pack "$1"
}

# files: a copy of what the cases work on, here.
files() { cp -a "$work/nothing/." .; }

# untouched: the tree is what it was.
untouched() { exits 0 continuity --quiet verify tree "$work/nothing/tree.pb"; }

# "exit code | command": each as if the command before it had failed, and in a file.
readonly EMPTY_RUNS='
2 | verify empty MANIFEST
2 | verify tree MANIFEST
2 | verify --subset tree MANIFEST
2 | apply tree MANIFEST
2 | apply --prune tree MANIFEST
2 | apply --prune --dry-run tree MANIFEST
0 | verify --allow-empty empty MANIFEST
1 | verify --allow-empty tree MANIFEST
0 | apply --allow-empty tree MANIFEST
1 | apply --allow-empty --prune --dry-run tree MANIFEST
'
mapfile -t each_empty < <(grep . <<<"$EMPTY_RUNS")
case_empty() {
	local manifest
	local -a words
	read -ra words <<<"${1#*| }"
	for manifest in empty.pb -; do
		files
		mkdir empty
		exits "${1%% *}" continuity "${words[@]/MANIFEST/$manifest}" <empty.pb >out 2>error
		untouched
		if [[ ${1%% *} == 2 ]]; then
			holds error 'has no resources'
			holds error --allow-empty
			[[ ! -s out ]] || fail "$(cat out)"
		fi
		rm -rf ./*
	done
}

case_a_first_command_that_fails_empties_nothing() {
	files
	exits 2 bash -o pipefail -c 'continuity build nowhere | continuity apply --prune tree -' 2>error
	holds error 'has no resources'
	untouched
	exits 0 continuity apply --allow-empty --prune tree empty.pb
	[[ -z $(ls -A tree) ]] || fail "$(ls -A tree)"
}

case_what_is_only_shown_is_shown_with_a_warning() {
	local command
	files
	for command in 'ls empty.pb' 'dump empty.pb' 'stats empty.pb' 'ls -' 'stats -' 'dump' 'diff empty.pb empty.pb'; do
		# shellcheck disable=SC2086 # words
		exits 0 continuity $command <empty.pb >out 2>error
		holds error 'has no resources'
		# shellcheck disable=SC2086 # words
		exits 0 continuity --quiet $command <empty.pb >out 2>error
		[[ ! -s error ]] || fail "$(cat error)"
	done
	exits 1 continuity diff tree.pb empty.pb >out 2>error
	holds error 'manifest empty.pb has no resources'
	lacks error 'tree.pb has no'
}

# digest_of FILE
digest_of() { say "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }

# cut_manifest: a manifest that ends at the end of a resource, so it is one.
cut_manifest() {
	local size
	for ((size = $(stat -c %s tree.pb) - 1; size > 0; size--)); do
		head -c "$size" tree.pb >cut.pb
		if continuity stats cut.pb >/dev/null 2>&1; then return; fi
	done
	fail "no shorter manifest"
}

each_digest=('verify tree' 'apply tree' 'apply --prune tree' ls dump stats 'diff tree.pb' 'verify --subset tree')
case_digest() {
	local -a words
	local digest manifest expected=--digest
	read -ra words <<<"$1"
	[[ $1 != diff* ]] || expected=--second-digest
	files
	digest=$(digest_of tree.pb)
	cut_manifest
	exits 0 continuity verify --subset tree cut.pb
	for manifest in tree.pb - /dev/stdin; do
		exits 0 continuity "${words[@]}" "$manifest" "$expected" "$digest" <tree.pb >out
	done
	# Something that apply would mend, and that verify would find.
	printf 'changed\n' >tree/one
	for manifest in cut.pb - /dev/stdin; do
		exits 2 continuity "${words[@]}" "$manifest" "$expected" "$digest" <cut.pb >out 2>error
		holds error "its digest is $(digest_of cut.pb), not $digest"
		[[ ! -s out ]] || fail "$(cat out)"
	done
	same "$(cat tree/one)" changed
	exits 2 continuity "${words[@]}" tree.pb "$expected" sha256:00 2>error
	holds error 'is not a digest'
}

case_a_digest_of_the_first_manifest() {
	files
	cut_manifest
	exits 1 continuity diff cut.pb tree.pb --digest "$(digest_of cut.pb)" --second-digest "$(digest_of tree.pb)" >out
	exits 2 continuity diff cut.pb tree.pb --digest "$(digest_of tree.pb)" >out 2>error
	holds error 'manifest cut.pb: its digest'
}

case_a_namespace_where_nothing_is() {
	exits 2 continuity --namespace defualt image verify --all >out 2>error
	holds error 'no image of namespace defualt is unpacked'
	holds error 'namespaces with images: default'
	[[ ! -s out ]] || fail "$(cat out)"
	exits 2 continuity image verify --all --snapshotter native 2>error
	holds error 'no image of namespace default is unpacked in snapshotter native'
	# Images that are not unpacked are no answer, either.
	ctr --namespace other images import --base-name "$ODD" --no-unpack "$work/nothing/bare.tar"
	on_leave='ctr --namespace other images rm --sync "$ODD:bare"'
	exits 2 continuity --namespace other image verify --all 2>error
	holds error 'namespaces with images: default, other'
	exits 2 continuity --namespace other image verify "$ODD:bare" 2>error
	holds error 'is not unpacked in snapshotter continuity'
	exits 0 continuity --namespace default image verify --all --snapshotter '' >out
	holds out "$ODD:bare in overlayfs: intact"
	mend
}

case_the_environment_is_read_as_ctr_does() {
	exits 2 env CONTAINERD_NAMESPACE=nowhere continuity image verify --all 2>error
	holds error 'namespace nowhere'
	exits 0 env CONTAINERD_NAMESPACE=nowhere continuity -n default image verify --all
	exits 0 env CONTAINERD_NAMESPACE='' continuity image verify --all
	exits 2 env CONTAINERD_ADDRESS="$PWD/none.sock" continuity image ls 2>error
	holds error "$PWD/none.sock"
	exits 0 env CONTAINERD_ADDRESS="$PWD/none.sock" continuity --containerd-address "$containerd_socket" image ls
	exits 0 env CONTAINERD_SNAPSHOTTER=overlayfs continuity image verify --all >out
	holds out 'in overlayfs: intact'
	lacks out 'in continuity'
	exits 0 env CONTAINERD_SNAPSHOTTER=overlayfs continuity image verify --all --snapshotter continuity >out
	lacks out 'in overlayfs'
	exits 0 env CONTAINERD_SNAPSHOTTER='' continuity image verify --all >out
	holds out 'in overlayfs: intact'
	holds out 'in continuity: intact'
	# It would choose another kind of check: there it is an option only.
	exits 0 env CONTAINERD_SNAPSHOTTER=overlayfs continuity --address "$continuity_socket" snapshot verify "$(top_layer)"
	# Empty variables stop no command that does not need them.
	exits 0 env CONTAINERD_ADDRESS='' continuity stats "$work/nothing/tree.pb"
}

# run_bare ID COMMAND: in a container with mounts and a working directory that its image lacks.
run_bare() {
	printf 'nameserver ::1\n' >resolv.conf
	mkdir -p volume
	ctr run --snapshotter overlayfs --runc-root "$work/runc" --cgroup "/$(basename "$work")/$1" --cwd /place/here \
		--mount "type=bind,src=$PWD/resolv.conf,dst=/etc/resolv.conf,options=rbind:ro" \
		--mount "type=bind,src=$PWD/volume,dst=/linked/volume,options=rbind:rw" \
		"$ODD:bare" "$1" /bin/sh -c "$2"
}

case_what_a_runtime_mounts_on_is_no_drift() {
	run_bare quiet 'test -e /proc/self && test -s /etc/resolv.conf && touch /linked/volume/file'
	on_leave='ctr containers delete quiet'
	exits 0 continuity container diff quiet >changes
	[[ ! -s changes ]] || fail "$(cat changes)"
	mend
}

case_what_a_container_did_is_drift() {
	run_bare busy 'echo x >/new; mkdir -p /data/real/more /mine; rm /etc/passwd; echo >/etc/other; chmod 700 /bin'
	on_leave='ctr containers delete busy'
	exits 1 continuity container diff busy >changes
	same "$(sed 's/:.*//' changes | tr '\n' ,)" \
		'changed /bin,added /data/real,added /data/real/more,added /etc/other,removed /etc/passwd,added /mine,added /new,'
	mend
}
