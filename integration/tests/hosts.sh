# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the host puts on a layer by itself, and what its filesystem cannot keep, is no damage: labels of security
# modules, properties that a filesystem shows as attributes, what overlayfs notes for itself. Damage beside them is.

readonly MENDABLE=$ODD:mendable ACLS=$ODD:acls LABELLED=$ODD:labelled LAZY=$ODD:lazy

# What a host adds, and to which files: "attribute value", a line each.
readonly LABELS=(
	'security.selinux system_u:object_r:container_ro_file_t:s0'
	'security.ima 0x0404a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90'
	'security.evm 0x02a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4'
	'security.SMACK64 floor'
	'trusted.overlay.impure y'
	'trusted.overlay.origin 0x00fb21008101020304050607080910111213141516171819202122232425262728'
)

suite_setup() {
	start_services
	make_image "$work/image.tar"
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_image mendable odd_base odd_mendable odd_start
	odd_image acls odd_base odd_acls odd_beneath_acls
	odd_image labelled odd_base odd_labelled
	odd_image lazy odd_base odd_lazy
	for snapshotter in overlayfs native continuity; do unpack "$MENDABLE" "$snapshotter"; done
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources)"
}

suite_teardown() {
	stop_story
	rm -rf "$work/odd" "$work/state" "$work/image.tar"
}

# ACLs and attributes of every namespace that a tar can have and not every filesystem keeps.
odd_acls() {
	mkdir -p acl/inherited acl/plain
	printf 'acl\n' >acl/file
	setfattr -n user.origin -v acls acl/file
	setfattr -n user.origin -v acls acl/plain
	setfattr -n trusted.origin -v acls acl/plain
	setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= acl/file
	setfacl -m u:1000:rw,g:50:r acl/file acl/plain
	setfacl -d -m u:1000:rwx,g:50:rx acl/inherited
	pack "$1"
}

# A layer later: what is made beneath a default ACL, with and without an entry of its directory.
odd_beneath_acls() {
	mkdir -p acl/inherited/new/deep
	printf 'a\n' >acl/inherited/file
	printf 'b\n' >acl/inherited/new/deep/file
	tar --create --file "$1" --format=posix --numeric-owner --no-recursion acl/inherited/file acl/inherited/new/deep/file
}

# The tar was made on a host with labels, and has them.
odd_labelled() {
	printf 'x\n' >labelled
	setfattr -n security.selinux -v system_u:object_r:etc_t:s0 labelled
	setfattr -n security.SMACK64 -v floor labelled
	pack "$1"
}

# As eStargz has it: what only a lazy snapshotter needs lies at the top of the layer.
odd_lazy() {
	printf '{}' >stargz.index.json
	printf '\x0f' >.prefetch.landmark
	printf 'shown\n' >shown
	pack "$1"
}

image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

repair() { image repair --root "$work/state" "$@"; }

# unpack REFERENCE SNAPSHOTTER
unpack() { ctr images import --base-name "$ODD" --snapshotter "$2" "$work/odd/${1##*:}.tar" >/dev/null; }

# label SNAPSHOTTER ATTRIBUTE VALUE: on every file, directory, symlink, device and whiteout of its layers.
label() {
	collect_garbage
	touch probe
	setfattr -n "$2" -v "$3" probe || skip "this host does not take $2 from a user"
	# shellcheck disable=SC2046 # a directory each
	find $(layers_of "$1") -exec setfattr -h -n "$2" -v "$3" {} +
}

unlabel() {
	# shellcheck disable=SC2046 # a directory each
	find $(layers_of "$1") -exec setfattr -h -x "$2" {} + 2>/dev/null || true
}

# labels SNAPSHOTTER ATTRIBUTE: how many files have it.
labels() {
	# shellcheck disable=SC2046 # a directory each
	getfattr --absolute-names -R -P -h -n "$2" $(layers_of "$1") 2>/dev/null | grep -c '^# file: ' || true
}

# is_intact REFERENCE SNAPSHOTTER: whoever is asked.
is_intact() {
	image verify "$1" --snapshotter "$2" >verdict 2>error || fail "$(head -n 20 verdict error)"
	same "$(sed 's/, [0-9]* entries,/,/' verdict)" "$1 in $2: intact, 0 findings"
	repair "$1" --snapshotter "$2" --dry-run >plan 2>error || fail "$(head -n 20 plan error)"
	same "$(cat plan)" "$1 in $2: intact, 0 changes planned, 0 findings left"
	exits 0 repair "$1" --snapshotter "$2" >changes
	same "$(cat changes)" "$1 in $2: intact, 0 changes made, 0 findings left"
	[[ $2 != continuity ]] || is_allowed "$1"
}

# is_allowed REFERENCE: by the seals of its layers, which are the image's.
is_allowed() {
	local top
	top=$(top_of "$1")
	wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources; tail -n 3 "$daemon_home/log")"
	exits 0 ask snapshot verify "$top"
	ctr snapshots --snapshotter continuity prepare on-top "$top"
	ctr snapshots --snapshotter continuity rm on-top
}

# runs SNAPSHOTTER: a container of the image, which prints its note.
runs() {
	same "$(ctr run --rm --snapshotter "$1" --runc-root "$work/runc" --cgroup "/$(basename "$work")/labelled" \
		"$MENDABLE" labelled /app/start)" "$STORY_TEXT"
}

mapfile -t each_label_after_the_seal < <(for snapshotter in overlayfs native continuity; do
	printf "$snapshotter %s\n" "${LABELS[@]}"
done)
case_label_after_the_seal() {
	local attribute value before
	read -r snapshotter attribute value <<<"$1"
	label "$snapshotter" "$attribute" "$value"
	on_leave="unlabel $snapshotter $attribute"
	before=$(labels "$snapshotter" "$attribute")
	((before > 20)) || fail "only $before have $attribute"
	is_intact "$MENDABLE" "$snapshotter"
	runs "$snapshotter"
	collect_garbage
	same "$(labels "$snapshotter" "$attribute")" "$before"
}

# hold_seals: no layer is sealed until `release_seals`, as if something were being unpacked.
readonly HOLD='extract-123456789-AbCd sha256:6dcd4ce23d88e2ee9568ba546c007c63d9131c1b0a6d0f2bfcb2a3a6f1d0f1f7'
hold_seals() { ctr snapshots --snapshotter continuity prepare "$HOLD"; }
release_seals() { ctr snapshots --snapshotter continuity rm "$HOLD"; }

# A host labels what is being unpacked; later a relabelling changes the value, or takes it away.
each_label_before_the_seal=("${LABELS[@]}")
case_label_before_the_seal() {
	local attribute value
	read -r attribute value <<<"$1"
	forget
	hold_seals
	on_leave="release_seals; unlabel continuity $attribute; wait_until $SERVICE_SECONDS all_from_image"
	unpack "$MENDABLE" continuity
	label continuity "$attribute" "$value"
	same "$(sources)" '3 disk pending'
	release_seals
	on_leave="unlabel continuity $attribute"
	is_intact "$MENDABLE" continuity
	label continuity "$attribute" "$(printf '%s' "$value" | tr 0st 1ab)"
	is_intact "$MENDABLE" continuity
	mend
	is_intact "$MENDABLE" continuity
	runs continuity
}

# The image is gone, wherever it was unpacked; the other snapshotters have it again at once.
forget() {
	local snapshotter
	ctr images rm --sync "$MENDABLE" >/dev/null
	wait_until "$SERVICE_SECONDS" nothing_is_left || fail "snapshots are left"
	for snapshotter in overlayfs native; do unpack "$MENDABLE" "$snapshotter"; done
}

# Damage that lies beneath labels is found, laid to its layer, and repaired; what is not replaced keeps its label.
each_damage_beside_labels=(overlayfs native continuity)
case_damage_beside_labels() {
	local file before
	snapshotter=$1
	label "$snapshotter" security.selinux system_u:object_r:container_ro_file_t:s0
	label "$snapshotter" trusted.overlay.impure y
	on_leave='unlabel "$snapshotter" security.selinux; unlabel "$snapshotter" trusted.overlay.impure; mended'
	before=$(labels "$snapshotter" security.selinux)
	for file in $(files_of "$snapshotter" app/note); do
		flip_byte "$file" 5
		setfattr -x user.origin "$file"
		chmod 0600 "${file%app/note}app/lib/tool"
	done
	exits 1 image verify "$MENDABLE" --snapshotter "$snapshotter" >findings
	sed -n 's/^\(\/[^:]*\): \([a-z-]*\).* (layer \([0-9]\) .*/\1 \2 \3/p' findings >found
	# A hard link has two names.
	diff found - <<-EOF2
		/app/bin/tool mode 2
		/app/lib/tool mode 2
		/app/note digest 2
		/app/note xattr-missing 2
	EOF2
	exits 0 repair "$MENDABLE" --snapshotter "$snapshotter" >changes
	holds changes "$MENDABLE in $snapshotter: repaired,"
	is_intact "$MENDABLE" "$snapshotter"
	runs "$snapshotter"
	collect_garbage
	# One file in each copy of the layer was written again; whether the new one is labelled is the host's matter.
	(($(labels "$snapshotter" security.selinux) >= before - $(files_of "$snapshotter" app/note | wc -l))) ||
		fail "labels are lost: $(labels "$snapshotter" security.selinux) of $before"
	mend
}

# What is left of the damage when the case fails is not the next one's.
mended() { repair "$MENDABLE" --snapshotter "$snapshotter" >/dev/null; }

# files_of SNAPSHOTTER PATH: each layer's, where a snapshotter copies them.
files_of() {
	local directory
	for directory in $(layers_of "$1"); do
		[[ ! -e $directory/$2 ]] || say "$directory/$2"
	done
}

# A directory that is opaque where it should not be hides what lies beneath it: that is no note but damage.
each_an_opaque_mark_that_hides_something=(overlayfs continuity)
case_an_opaque_mark_that_hides_something() {
	snapshotter=$1
	directory=$(dirname "$(files_of "$snapshotter" app/note)")/../opt/data
	setfattr -n trusted.overlay.opaque -v y "$directory"
	on_leave=mended
	exits 1 image verify "$MENDABLE" --snapshotter "$snapshotter" >findings
	grep -E '^/opt/data/kept: missing.* \(layer 2 ' findings || fail "$(cat findings)"
	exits 1 repair "$MENDABLE" --snapshotter "$snapshotter" --dry-run
	if [[ $snapshotter == continuity ]]; then
		exits 1 ask snapshot verify "$(top_of "$MENDABLE")"
		! ctr snapshots --snapshotter continuity prepare refused "$(top_of "$MENDABLE")" 2>error || fail "it was allowed"
	fi
	exits 0 repair "$MENDABLE" --snapshotter "$snapshotter"
	is_intact "$MENDABLE" "$snapshotter"
}

each_a_tar_with_labels=(overlayfs native continuity)
case_a_tar_with_labels() {
	on_leave='ctr images rm --sync "$LABELLED" >/dev/null'
	unpack "$LABELLED" "$1"
	is_intact "$LABELLED" "$1"
}

# The annotations of an eStargz layer become labels of its snapshot, whatever unpacks it. Only where layers lie on FUSE are
# they shown without being unpacked: everywhere else, what is missing is missing, and is repaired.
case_a_lazy_image_that_was_unpacked() {
	local directory top
	on_leave='ctr images rm --sync "$LAZY" >/dev/null'
	unpack "$LAZY" overlayfs
	top=$(top_of "$LAZY")
	directory=$(dirname "$(files_of overlayfs shown)")
	rm "$directory/stargz.index.json" "$directory/.prefetch.landmark"
	exits 1 image verify "$LAZY" --snapshotter overlayfs >findings
	same "$(grep -c ': missing' findings)" 2
	ctr snapshots --snapshotter overlayfs label "$top" containerd.io/snapshot/stargz/toc.digest=sha256:0
	exits 1 image verify "$LAZY" --snapshotter overlayfs >findings
	same "$(grep -c ': missing' findings)" 2
	exits 0 repair "$LAZY" --snapshotter overlayfs
	is_intact "$LAZY" overlayfs
}

# Other filesystems. "name snapshotters", and what there is to see of it: see `host_NAME`.
each_filesystem=(
	'btrfs_compressed overlayfs native continuity'
	'xfs overlayfs native continuity'
	'tmpfs overlayfs native continuity'
	'overlay native'
	'ramfs native'
)
case_filesystem() {
	local name snapshotters
	read -r name snapshotters <<<"$1"
	on_leave='leave_host; start_services'
	stop_containerd
	stop_daemon
	"host_$name" "$work/host"
	enter_host
	for snapshotter in $snapshotters; do
		for reference in "$MENDABLE" "$ACLS" "$IMAGE"; do
			unpack_there "$reference" "$snapshotter"
			is_intact "$reference" "$snapshotter"
		done
		if [[ $name != ramfs ]]; then runs "$snapshotter"; fi
		damage_is_found "$snapshotter"
	done
	"shows_$name"
	exits 0 image verify --all >verdict
	same "$(grep -c ': intact, ' verdict)" "$((3 * $(wc -w <<<"$snapshotters")))"
}

unpack_there() {
	if [[ $1 == "$IMAGE" ]]; then
		ctr images import --base-name "${IMAGE%:*}" --snapshotter "$2" "$work/image.tar" >/dev/null
	else
		unpack "$1" "$2"
	fi
}

# damage_is_found SNAPSHOTTER: a byte in the file of one layer is found there and repaired.
damage_is_found() {
	local file
	for file in $(files_of "$1" acl/inherited/file); do flip_byte "$file" 0; done
	exits 1 image verify "$ACLS" --snapshotter "$1" >findings
	same "$(grep '^/' findings | sed 's/: expected.* (layer \([0-9]\).*/ \1/')" '/acl/inherited/file: digest 3'
	exits 0 repair "$ACLS" --snapshotter "$1" >changes
	is_intact "$ACLS" "$1"
}

# The states of containerd and of our daemon lie on the filesystem; the sockets lie there too.
enter_host() {
	local part
	for part in containerd continuity; do
		mkdir -p "$work/host/$part" "$work/kept"
		mv "$work/$part" "$work/kept/$part"
		mkdir "$work/$part"
		mount --bind "$work/host/$part" "$work/$part"
	done
	start_services
}

start_services() {
	start_daemon
	start_containerd
}

leave_host() {
	local part
	stop_containerd
	stop_daemon
	for part in containerd continuity; do
		[[ -d $work/kept/$part ]] || continue
		umount "$work/$part" && rmdir "$work/$part" && mv "$work/kept/$part" "$work/$part"
	done
	umount "$work/host"
	rm -rf "$work/host" "$work/host.image" "$work/host.lower" "$work/host.upper"
}

# All that is made beneath it shows btrfs.compression, the whiteouts and symlinks too.
host_btrfs_compressed() {
	mount_disk btrfs "$1" 1G
	btrfs property set "$1" compression zstd
}
shows_btrfs_compressed() {
	local snapshotter
	for snapshotter in overlayfs continuity; do
		(($(labels "$snapshotter" btrfs.compression) > 20)) || fail "btrfs shows no property in $snapshotter"
	done
}

host_xfs() { mount_disk xfs "$1" 512M; }
shows_xfs() {
	keeps acl/file system.posix_acl_access
	one_repair_is_enough
}

# XFS shows an ACL by a second name, trusted.SGI_ACL_FILE, which belongs to the host: what was found on a damaged file must
# not undo the ACL of the one that takes its place.
one_repair_is_enough() {
	local snapshotter file
	for snapshotter in overlayfs native continuity; do
		for file in $(files_of "$snapshotter" acl/file); do
			setfacl -m u:4242:rwx "$file"
			flip_byte "$file" 0
		done
		exits 1 image verify "$ACLS" --snapshotter "$snapshotter"
		repair "$ACLS" --snapshotter "$snapshotter" >changes 2>&1 || fail "$(cat changes)"
		is_intact "$ACLS" "$snapshotter"
	done
}

host_tmpfs() {
	mkdir "$1"
	mount -t tmpfs -o mode=0755 none "$1"
}
shows_tmpfs() {
	keeps acl/file system.posix_acl_access
	one_repair_is_enough
}

# Docker in Docker: overlayfs beneath everything, which shows none of its own attributes.
host_overlay() {
	mkdir "$1" "$1.lower"
	mount -t tmpfs none "$1.lower"
	mkdir "$1.lower"/{lower,upper,work}
	mount -t overlay -o "lowerdir=$1.lower/lower,upperdir=$1.lower/upper,workdir=$1.lower/work" none "$1"
	umount --lazy "$1.lower"
}
shows_overlay() { :; }

# No attributes at all, so no ACLs, capabilities or opaque marks.
host_ramfs() {
	mkdir "$1"
	mount -t ramfs -o mode=0755 none "$1"
}
shows_ramfs() {
	local file
	for file in $(files_of native acl/file); do
		same "$(getfattr --absolute-names -d -m - "$file")" ''
	done
}

# keeps PATH ATTRIBUTE: as it must, for the case to show something.
keeps() {
	local file
	for file in $(files_of overlayfs "$1"); do
		getfattr --absolute-names -n "$2" "$file" >/dev/null || fail "the filesystem has not kept $2 of $file"
	done
}
