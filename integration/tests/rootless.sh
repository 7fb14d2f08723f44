# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Layers that the kernel's overlayfs wrote. In a user namespace containerd unpacks through an overlay mount, so
# whiteouts, opaque marks and notes are the kernel's, in the namespace user.overlay; a builder commits what it mounted.
# Both are intact, whatever the kernel noted there.

readonly ROOTLESS_IMAGES='parents whiteouts types names links replaced setgid devices story'
readonly BUILT=$ODD:built

suite_setup() {
	local name
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_images_of_few_ids
	make_image story.tar
	make_userns
	cp -r "$work/odd" "$userns_work/images"
	chown -R "$USERNS_FIRST:$USERNS_FIRST" "$userns_work/images"
}

suite_teardown() {
	in_userns true && inside leave_services
	leave_userns
	leave_services
	rm -rf "$work/odd" "$work/state"
}

odd_images_of_few_ids() {
	odd_image parents few_base odd_parents odd_empty
	odd_image whiteouts few_base odd_whiteouts
	odd_image types few_base odd_types odd_types_again
	odd_image names few_base odd_names odd_names_gnu
	odd_image links few_base odd_links odd_duplicates
	odd_image replaced few_base few_replaced few_replaced_again
	odd_image setgid few_base few_setgid few_setgid_parents
	odd_image across few_base few_across
	odd_image devices odd_devices odd_empty
}

# The layer that others stand on, as a rootless user can have it: no devices, no owner beyond the namespace.
few_base() {
	odd_base "$1"
	rm -r dev/* srv/far
	mkdir srv/shared
	printf 'shared\n' >srv/shared/file
	ln srv/shared/file srv/shared/again
	pack "$1"
}

# Directories that are removed and made again, with less in them; a directory in place of a symlink, and the other way.
few_replaced() {
	mkdir -p usr/share srv/cache srv/link
	: >usr/share/.wh.doc
	: >srv/.wh.shared
	: >srv/cache/.wh..wh..opq
	printf 'l\n' >srv/link/file
	chmod 0711 srv/cache
	pack "$1"
}

few_replaced_again() {
	mkdir -p usr/share/doc/new srv/shared
	printf 'n\n' >usr/share/doc/new/file
	printf 'other\n' >srv/shared/file
	ln -s shared srv/.link
	mv srv/.link srv/link
	chown 7:8 srv/shared
	pack "$1"
}

few_setgid() {
	mkdir -p srv/group/below
	chown 0:50 srv/group srv/group/below
	chmod 2775 srv/group
	printf 'g\n' >srv/group/file
	chmod 2755 srv/group/file
	pack "$1"
}

few_setgid_parents() {
	mkdir -p srv/group/new/deep
	printf 'd\n' >srv/group/new/deep/file
	tar --create --file "$1" --format=posix --numeric-owner --no-recursion srv/group/new/deep/file
}

# A hard link to a file that only the layer below has: the kernel copies it up. Where there is no mount, there is no
# such file.
few_across() {
	mkdir -p usr/share/doc
	printf 'one\n' >usr/share/doc/one
	ln usr/share/doc/one usr/share/doc/one-again
	tar --create --file "$1" --format=posix --numeric-owner usr/share/doc/one usr/share/doc/one-again
	tar --delete --file "$1" usr/share/doc/one
}

odd_devices() {
	layer_1
	mknod dev/null c 1 3
	mknod dev/disk b 8 1
	printf 'x\n' >dev/file
	pack "$1"
}

image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

repair() { image repair --root "$work/state" "$@"; }

# reference_of NAME
reference_of() { if [[ $1 == story ]]; then say "$IMAGE"; else say "$ODD:$1"; fi; }

# is_intact REFERENCE SNAPSHOTTER: whoever is asked.
is_intact() {
	local top
	image verify "$1" --snapshotter "$2" >verdict 2>error || fail "$(head -n 20 verdict error)"
	same "$(sed 's/, [0-9]* entries,/,/' verdict)" "$1 in $2: intact, 0 findings"
	repair "$1" --snapshotter "$2" --dry-run >plan 2>error || fail "$(head -n 20 plan error)"
	same "$(cat plan)" "$1 in $2: intact, 0 changes planned, 0 findings left"
	[[ $2 == continuity ]] || return 0
	top=$(top_of "$1")
	exits 0 ask snapshot verify "$top"
	ctr snapshots --snapshotter continuity prepare on-top "$top"
	ctr snapshots --snapshotter continuity rm on-top
}

mapfile -t each_intact < <(for version in 1.6 1.7 2.1; do
	for name in $ROOTLESS_IMAGES; do printf '%s\n' "$version $name overlayfs" "$version $name continuity"; done
done)
case_intact() {
	local version name snapshotter
	read -r version name snapshotter <<<"$1"
	need_containerd "$version"
	inside intact_inside "$version" "$name" "$snapshotter"
}

# intact_inside VERSION NAME SNAPSHOTTER
intact_inside() {
	serve_with "$1"
	take "$2" "$3"
	is_intact "$reference" "$3"
}

# take NAME SNAPSHOTTER: imports an image, until the end of the case; with continuity it is sealed from the image.
take() {
	reference=$(reference_of "$1")
	on_leave="ctr images rm --sync '$reference' >/dev/null; $on_leave"
	: >"$daemon_home/log"
	ctr images import --base-name "${reference%:*}" --snapshotter "$2" "$work/images/$1.tar" >taken 2>&1 ||
		fail "$(tail -n 1 taken)"
	if [[ $2 != continuity ]]; then
		continuity_has_nothing
		return
	fi
	wait_until "$SERVICE_SECONDS" are_settled || fail "$(sources)"
	all_from_image || fail "$(sources; tail -n 3 "$daemon_home/log")"
}

continuity_has_nothing() { same "$(sources)" ''; }

# It shows something: what is written there is the kernel's, with containerd's mounts and with ours.
each_written_by_the_kernel=(overlayfs continuity)
case_written_by_the_kernel() {
	inside written_inside "$1"
}

written_inside() {
	serve_with 1.6
	take replaced "$1"
	# shellcheck disable=SC2046 # a directory each
	getfattr --absolute-names -R -P -h -d -m '^user[.]overlay[.]' $(layers_of "$1") >notes
	holds notes user.overlay.opaque
	holds notes user.overlay.origin
	take whiteouts "$1"
	# shellcheck disable=SC2046 # a directory each
	find $(layers_of "$1") -type c >devices
	(($(wc -l <devices) >= 2)) || fail "no whiteouts: $(cat devices)"
}

# file_of SNAPSHOTTER PATH: that of the one layer that has it.
file_of() {
	local directory
	for directory in $(layers_of "$1"); do
		[[ ! -e $directory/$2 ]] || say "$directory/$2"
	done
}

# One file in each of two layers.
each_damage=(overlayfs continuity)
case_damage() { inside damage_inside "$1"; }

damage_inside() {
	serve_with 1.6
	take story "$1"
	flip_byte "$(file_of "$1" etc/passwd)" 3
	chmod 0600 "$(file_of "$1" srv/cache/fresh)"
	exits 1 image verify "$IMAGE" --snapshotter "$1" >findings
	sed -n 's/^\(\/[^:]*\): \([a-z-]*\).* (layer \([0-9]\) .*/\1 \2 \3/p' findings >found
	diff found - <<-EOF2
		/etc/passwd digest 1
		/srv/cache/fresh mode 2
	EOF2
	if [[ $1 == continuity ]]; then
		exits 1 ask snapshot verify "$(top_of "$IMAGE")"
		! ctr snapshots --snapshotter continuity prepare refused "$(top_of "$IMAGE")" 2>error || fail "damage was used"
		holds error 'damaged: /'
	fi
	exits 0 repair "$IMAGE" --snapshotter "$1" >changes
	holds changes "$IMAGE in $1: repaired,"
	is_intact "$IMAGE" "$1"
}

# Whiteouts that are lost bring back what they hid. An opaque mark of the tar became whiteouts, too: the kernel wrote
# them when containerd removed what lay there.
each_lost_whiteouts=(overlayfs continuity)
case_lost_whiteouts() { inside lost_inside "$1"; }

lost_inside() {
	local path file
	serve_with 1.6
	take story "$1"
	for path in opt/data/removed srv/cache/one; do
		file=$(file_of_type "$1" 'character special file' "$path")
		[[ -n $file ]] || fail "no whiteout of $path"
		rm "$file"
	done
	exits 1 image verify "$IMAGE" --snapshotter "$1" >findings
	sed -n 's/^\(\/[^:]*\): \([a-z-]*\).* (layer \([0-9]\) .*/\1 \2 \3/p' findings >found
	diff found - <<-EOF2
		/opt/data/removed extra 2
		/srv/cache/one extra 2
	EOF2
	exits 0 repair "$IMAGE" --snapshotter "$1" >changes
	is_intact "$IMAGE" "$1"
}

# file_of_type SNAPSHOTTER TYPE PATH
file_of_type() {
	local file
	for file in $(file_of "$1" "$3"); do
		[[ $(stat -c %F "$file") != "$2" ]] || say "$file"
	done
}

each_a_hard_link_across_layers=(overlayfs continuity)
case_a_hard_link_across_layers() { inside across_inside "$1"; }

across_inside() {
	serve_with 1.6
	take across "$1"
	is_intact "$reference" "$1"
}

# A builder's layer: mounted, changed, and committed under the name that it has in the image made of its difference.
# Outside of any user namespace. "snapshotter options", which are added to those of the mount.
each_a_builder_commits_what_it_mounted=(
	overlayfs continuity
	'overlayfs redirect_dir=on'
)
case_a_builder_commits_what_it_mounted() {
	local snapshotter options built
	read -r snapshotter options <<<"$1"
	[[ -z $options || $(cat /sys/module/overlay/parameters/redirect_always_follow) == Y ]] ||
		skip "this kernel does not follow redirects unasked"
	serve_with 1.6
	on_leave='umount mounted 2>/dev/null; ctr images rm --sync "$IMAGE" "$BUILT" >/dev/null 2>&1'
	ctr images import --base-name "${IMAGE%:*}" --snapshotter "$snapshotter" "$work/odd/story.tar" >/dev/null
	[[ $snapshotter != continuity ]] || wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
	ctr snapshots --snapshotter "$snapshotter" prepare building "$(top_of "$IMAGE")"
	mkdir mounted
	ctr snapshots --snapshotter "$snapshotter" mounts "$PWD/mounted" building >mounts
	eval "$(sed "s/ -o / -o ${options:+$options,}/" mounts)"
	(cd mounted && build)
	umount mounted
	ctr snapshots --snapshotter "$snapshotter" diff --media-type application/vnd.oci.image.layer.v1.tar building \
		>layer.tar
	image_with layer.tar
	ctr images import --base-name "$ODD" --no-unpack built.tar
	built=$(top_of "$BUILT")
	ctr snapshots --snapshotter "$snapshotter" commit "$built" building
	# ctr keeps what it has prepared from being collected.
	on_leave="ctr snapshots --snapshotter $snapshotter rm $built; $on_leave"
	[[ $options == '' ]] || has_redirects "$snapshotter"
	ctr images import --base-name "$ODD" --snapshotter "$snapshotter" built.tar
	if [[ $snapshotter == continuity ]]; then wait_for_seals; fi
	is_intact "$BUILT" "$snapshotter"
	! grep 'is not what' "$daemon_home/log" || fail "called damaged"
	# And damage in what the builder wrote is its layer's.
	flip_byte "$(file_of "$snapshotter" opt/data/built)" 1
	exits 1 image verify "$BUILT" --snapshotter "$snapshotter" >findings
	same "$(grep '^/' findings | sed 's/: expected.* (layer \([0-9]\).*/ \1/')" '/opt/data/built: digest 5'
	exits 0 repair "$BUILT" --snapshotter "$snapshotter" >changes
	is_intact "$BUILT" "$snapshotter"
}

# Nothing of what containerd's differ leaves out: of attributes it keeps capabilities alone.
# What makes the kernel write whiteouts, opaque marks, origins and copies of directories.
build() {
	printf 'built\n' >opt/data/built
	printf 'more\n' >>etc/passwd
	rm opt/data/kept bin/wc
	rm -r srv/cache
	mkdir -m 0711 srv/cache
	printf 'made\n' >srv/cache/one
	mv app/lib app/moved
	chmod 2750 app
	ln etc/passwd etc/passwd-again
	rm app/start
	mkdir app/start
	rmdir tmp
	ln -s srv tmp
}

has_redirects() {
	# shellcheck disable=SC2046 # a directory each
	getfattr --absolute-names -R -P -h -n trusted.overlay.redirect $(layers_of "$1") 2>/dev/null >redirects || true
	holds redirects trusted.overlay.redirect
}

# image_with TAR: the story's image with one more layer, in built.tar.
image_with() {
	mkdir layout
	tar -C layout -xf "$work/odd/story.tar"
	umoci raw add-layer --image layout:v1 --history.created_by build "$1"
	umoci tag --image layout:v1 built
	umoci rm --image layout:v1
	tar -C layout -cf built.tar .
}
