# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Images as the root of trust: what is derived from the layers is what containerd unpacked, and what was damaged since
# is found and named, with every snapshotter.

# Layers of the image with many: options of so many layers do not fit into a page.
readonly MANY=130

# What deriving may take of memory, whatever the layers hold.
readonly MEMORY_KIB=65536

# What a hostile layer is allowed to hold.
readonly BOMB_BYTES=$((16 << 20)) BOMB_ENTRIES=20000

suite_setup() {
	mount_disk btrfs "$btrfs_root" 4G
	start_story
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_images
	# shellcheck disable=SC2046 # a word each
	odd_image many odd_base $(printf 'odd_small %.0s' $(seq 2 "$MANY"))
	for archive in *.tar; do
		ctr images import --base-name "$ODD" --no-unpack "$archive"
	done
}

suite_teardown() {
	stop_story
	unmount_disk "$btrfs_root"
	rm -rf "$work/odd"
}

# image COMMAND...: our commands about images, at our containerd.
image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

# unpack REFERENCE SNAPSHOTTER: unpacks an image, if it is not.
unpack() {
	local archive=$work/odd/${1##*:}.tar base=${1%:*}
	[[ $1 != "$IMAGE" ]] || archive=$work/image.tar
	ctr images import --base-name "$base" --snapshotter "$2" "$archive" >/dev/null
}

# show REFERENCE: unpacks an image with overlayfs and mounts it on "rootfs".
show() {
	mkdir -p rootfs
	env -u CONTAINERD_SNAPSHOTTER ctr images mount "$1" "$PWD/rootfs" >/dev/null
	on_leave="ctr --debug=false images unmount --rm $PWD/rootfs >/dev/null"
}

each_odd=(parents whiteouts types names sparse links escapes many)
case_odd() {
	show "$ODD:$1"
	image manifest "$ODD:$1" -o derived.pb
	continuity diff derived.pb <(continuity build rootfs) >differences || {
		head -n 20 differences >&2
		fail "what was derived is not what containerd unpacked"
	}
	continuity build rootfs | cmp - derived.pb
	oracle build rootfs | cmp - derived.pb
	mend
}

case_the_story() {
	show "$IMAGE"
	image manifest "$IMAGE" | cmp - <(oracle build rootfs)
	mend
}

# The story's image with its layers compressed by another command.
each_compression=(zstd 'gzip -9' 'gzip_twice' 'zstd_skippable')
case_compression() {
	local name=${1// /}
	mkdir layout
	tar -C layout -xf "$work/image.tar"
	recompress layout "$name" "$1"
	tar -C layout -cf "$name.tar" .
	ctr images import --base-name "$ODD" --no-unpack "$name.tar"
	image manifest "$ODD:$name" | cmp - <(image manifest "$IMAGE")
}

# Two members, as estargz has many.
gzip_twice() {
	cat >whole
	head -c 1000 whole | gzip
	tail -c +1001 whole | gzip
}

zstd_skippable() {
	printf '\x50\x2a\x4d\x18\x05\x00\x00\x00hello'
	zstd
}

# Layers that are made of what a container changed.
case_a_layer_of_a_containers_changes() {
	local snapshot=changer digest
	ctr run --snapshotter overlayfs --runc-root "$work/runc" --cgroup "/$(basename "$work")/changer" "$IMAGE" changer /bin/sh -c \
		'echo changed >/app/message; rm /opt/data/kept; mkdir /new; echo new >/new/file; chmod 700 /srv' || true
	on_leave='ctr containers delete changer 2>/dev/null'
	digest=$(ctr snapshots --snapshotter overlayfs diff --media-type application/vnd.oci.image.layer.v1.tar+gzip "$snapshot" | tee layer.tar.gz | sha256sum)
	[[ -n $digest ]] || fail "no diff"
	gzip -d layer.tar.gz
	mkdir layout
	tar -C layout -xf "$work/image.tar"
	umoci raw add-layer --image "layout:v1" --history.created_by 'a container' layer.tar
	umoci tag --image "layout:v1" changed
	umoci rm --image "layout:v1"
	tar -C layout -cf changed.tar .
	ctr images import --base-name "$ODD" --no-unpack changed.tar
	mend
	case_odd changed
}

case_one_layer() {
	local directory
	image manifest "$IMAGE" --layer 2 | continuity ls - >layer
	holds layer '/opt/data/removed'
	lacks layer /app
	exits 2 image manifest "$IMAGE" --layer 9 2>error
	holds error 'has 4 layers'
}

mapfile -t each_intact < <(for snapshotter in overlayfs native continuity btrfs; do
	printf "$snapshotter %s\n" parents whiteouts types names sparse links escapes mendable many
done)
case_intact() {
	local snapshotter name
	read -r snapshotter name <<<"$1"
	unpack "$ODD:$name" "$snapshotter"
	exits 0 image verify "$ODD:$name" --snapshotter "$snapshotter" >verdict
	holds verdict "$ODD:$name in $snapshotter: intact"
}

# directory_of SNAPSHOTTER LAYER: where a snapshotter keeps what layer LAYER of the story has put there.
directory_of() {
	local number
	case $1 in
	continuity) dirname "$(layer_file "$STORY_FILE")" | sed 's,/app$,,' ;;
	overlayfs)
		for number in "$work"/containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs; do
			! is_the_story "$number" || say "$number"
		done
		;;
	native)
		for number in "$work"/containerd/root/io.containerd.snapshotter.v1.native/snapshots/*; do
			[[ ! -e $number/app/start ]] || ! is_the_story "$number" || say "$number"
		done
		;;
	esac
}

is_the_story() { [[ -e $1/$STORY_FILE && $(cat "$1/$STORY_FILE") == "$STORY_TEXT" ]]; }

# Each: "finding | change, in the directory of the layer that has app/message | its undoing".
readonly DAMAGES=(
	'digest | flip_byte app/message 5 | flip_byte app/message 5'
	'size | cp -p app/message "$here/saved"; : >app/message | cp -p "$here/saved" app/message'
	'mode | chmod 0600 app/message | chmod 0644 app/message'
	'uid | chown 5 app/message | chown 0 app/message'
	'xattr-differs | setfattr -n user.origin -v x app/message | setfattr -n user.origin -v layer-3 app/message'
	'xattr-missing | setfattr -x user.origin app/message | setfattr -n user.origin -v layer-3 app/message'
	'target | ln -sfn elsewhere app/lib/link | ln -sfn ../message app/lib/link'
	'missing | mv app/message "$here/saved" | mv "$here/saved" app/message'
	'extra | touch app/extra | rm app/extra'
	'type | mv app/lib "$here/lib"; ln -s "$here/lib" app/lib | rm app/lib; mv "$here/lib" app/lib'
	'hardlink-broken | cp -p app/lib/tool app/lib/copy; mv app/lib/copy app/lib/tool | ln -f app/bin/tool app/lib/tool'
)
each_damage=(overlayfs native continuity)
case_damage() {
	local directory finding change undo row layer snapshotter=$1
	unpack "$IMAGE" "$snapshotter"
	directory=$(directory_of "$snapshotter")
	[[ -d $directory ]] || fail "no directory of the layer: $directory"
	for row in "${DAMAGES[@]}"; do
		IFS='|' read -r finding change undo <<<"$row"
		finding=${finding// /}
		(cd "$directory" && eval "$change")
		exits 1 image verify "$IMAGE" --snapshotter "$snapshotter" >findings
		holds findings ": $finding"
		# Where layers have no directory of their own, what no layer has put there is laid to the last one.
		if [[ $snapshotter == native && $finding == extra ]]; then layer=4; else layer=3; fi
		grep -E "^/app.*: $finding.* \(layer $layer sha256:[0-9a-f]{64}" findings >/dev/null || {
			cat findings >&2
			fail "$finding in $snapshotter is not laid to layer $layer"
		}
		holds findings "$IMAGE in $snapshotter: damaged"
		(cd "$directory" && eval "$undo")
		exits 0 image verify "$IMAGE" --snapshotter "$snapshotter" >findings
	done
}

# What packages have besides files, in a layer between others.
readonly ODD_DAMAGES=(
	'/app/capable: xattr-missing security.capability | setfattr -x security.capability app/capable'
	'/app/capable: xattr-differs security.capability | setfattr -n security.capability -v 0sAQAAAgAwAAAAAAAAAAAAAAAAAAA= app/capable'
	'/app/device: device | rm app/device; mknod -m 0644 app/device c 1 5'
	'/app/device: type | rm app/device; mknod -m 0644 app/device b 1 3'
)
each_damage_to_capabilities_and_devices=(overlayfs native continuity)
case_damage_to_capabilities_and_devices() {
	local directory finding change row snapshotter=$1
	unpack "$ODD:mendable" "$snapshotter"
	directory=$(directory_of_device "$snapshotter")
	[[ -d $directory ]] || fail "no directory of the layer: $directory"
	for row in "${ODD_DAMAGES[@]}"; do
		IFS='|' read -r finding change <<<"$row"
		(cd "$directory" && eval "$change")
		exits 1 image verify "$ODD:mendable" --snapshotter "$snapshotter" >findings
		grep -E "^${finding% }: expected .* \(layer 2 sha256:[0-9a-f]{64} \"odd_mendable\"\)" findings >/dev/null || {
			cat findings >&2
			fail "not found: $row"
		}
		same "$(grep -c '^/' findings)" 1
		holds findings "$ODD:mendable in $snapshotter: damaged"
		(
			cd "$directory"
			rm app/device
			mknod -m 0644 app/device c 1 3
			setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= app/capable
		)
		exits 0 image verify "$ODD:mendable" --snapshotter "$snapshotter" >findings
	done
}

# directory_of_device SNAPSHOTTER: where app/device lies, beneath what a view of the image shows.
directory_of_device() {
	local file
	for file in "$continuity_root"/snapshots/*/fs/app/device "$work"/containerd/root/io.containerd.snapshotter.v1.*/snapshots/{*/fs,*}/app/device; do
		case $1:$file in
		continuity:"$continuity_root"/* | overlayfs:*.overlayfs/*) [[ ! -e $file ]] || say "${file%/app/device}" ;;
		native:*.native/*) [[ ! -e $file || ! -e ${file%device}start ]] || say "${file%/app/device}" ;;
		esac
	done
}

case_a_stray_whiteout_is_laid_to_the_layer_that_has_it() {
	local directory
	unpack "$IMAGE" overlayfs
	directory=$(directory_of overlayfs)
	mkdir "$directory/srv"
	mknod "$directory/srv/cache" c 0 0
	exits 1 image verify "$IMAGE" --snapshotter overlayfs >findings
	rm -r "$directory/srv"
	grep -E '^/srv/cache/fresh: missing.* \(layer 3 ' findings || fail "$(cat findings)"
	exits 0 image verify "$IMAGE" --snapshotter overlayfs
}

case_json() {
	local directory
	unpack "$IMAGE" overlayfs
	directory=$(directory_of overlayfs)
	flip_byte "$directory/$STORY_FILE" 5
	exits 1 image verify "$IMAGE" --snapshotter overlayfs --format json >findings
	flip_byte "$directory/$STORY_FILE" 5
	jq -es --arg image "$IMAGE" '.[0].kind == "digest" and .[0].layer.number == 3 and .[0].image == $image and
		.[-1].verdict == "damaged" and .[-1].findings == 1' findings >/dev/null || fail "$(cat findings)"
}

case_other_images_with_the_layer_are_named() {
	local directory
	ctr images tag "$IMAGE" continuity.test/other:v1
	on_leave='ctr images rm continuity.test/other:v1'
	unpack "$IMAGE" overlayfs
	unpack "$ODD:parents" overlayfs
	directory=$(directory_of overlayfs)
	flip_byte "$directory/$STORY_FILE" 5
	exits 1 image verify "$IMAGE" --snapshotter overlayfs >findings
	exits 1 image verify --all --snapshotter overlayfs >all
	flip_byte "$directory/$STORY_FILE" 5
	grep -E '^layer 3 sha256:[0-9a-f]+ is also in .*continuity.test/other:v1' findings || fail "$(cat findings)"
	holds all "$IMAGE in overlayfs: damaged"
	holds all 'continuity.test/other:v1 in overlayfs: damaged'
	holds all "$ODD:parents in overlayfs: intact"
	mend
}

case_all_of_them() {
	local name
	for name in parents links; do unpack "$ODD:$name" native; done
	exits 0 image verify --all --snapshotter native >all
	holds all "$ODD:parents in native: intact"
	holds all "$ODD:links in native: intact"
}

case_a_snapshot_of_any_snapshotter() {
	local key
	unpack "$IMAGE" overlayfs
	key=$(top_of "$IMAGE")
	exits 0 continuity --containerd-address "$containerd_socket" snapshot verify "$key" --snapshotter overlayfs >verdict
	holds verdict intact
	ctr snapshots --snapshotter overlayfs prepare mine "$key"
	on_leave='ctr snapshots --snapshotter overlayfs rm mine-committed 2>/dev/null'
	ctr snapshots --snapshotter overlayfs commit mine-committed mine
	exits 2 continuity --containerd-address "$containerd_socket" snapshot verify mine-committed --snapshotter overlayfs 2>error
	holds error 'explains it'
	exits 2 continuity --containerd-address "$containerd_socket" snapshot verify none --snapshotter overlayfs 2>error
}

case_where_a_path_comes_from() {
	image where "$IMAGE" /app/message >touched
	grep -E '^added by layer 3 sha256:[0-9a-f]{64}.*: file -rw-r--r-- 0:0 31 bytes sha256:' touched || fail "$(cat touched)"
	image where "$IMAGE" /opt/data/removed >touched
	same "$(cut -d' ' -f1-4 touched | tr '\n' ,)" 'removed by layer 2,added by layer 1,'
	image where "$IMAGE" /app >touched
	same "$(cut -d' ' -f1-4 touched | tr '\n' ,)" 'changed by layer 4,added by layer 3,'
	image where "$IMAGE" /app --format json | jq -e '.layer.number == 4 or .layer.number == 3' >/dev/null
	exits 2 image where "$IMAGE" /nowhere
	exits 2 image where "$IMAGE" not/absolute
}

case_the_list() {
	unpack "$IMAGE" overlayfs
	exits 0 image verify "$IMAGE" --snapshotter overlayfs
	image ls >listing
	grep -E "^$IMAGE +linux/amd64 +4 +[0-9]+ +[^ ]+ +overlayfs +intact +20" listing || fail "$(cat listing)"
	grep -E "^$IMAGE .* continuity " listing || fail "$(cat listing)"
	image ls --format json | jq -e . >/dev/null
}

case_what_a_container_changed() {
	ctr run --snapshotter "$1" --runc-root "$work/runc" --cgroup "/$(basename "$work")/differs" "$IMAGE" differs /bin/sh -c \
		'echo changed >/app/message; rm /opt/data/kept; echo new >/srv/new' || true
	on_leave='ctr containers delete differs 2>/dev/null'
	exits 1 continuity --containerd-address "$containerd_socket" container diff differs >changes
	grep -E '^added /srv/new: file .* 4 bytes sha256:' changes || fail "$(cat changes)"
	grep -E '^changed /app/message: file .* 31 bytes .* -> file .* 8 bytes ' changes || fail "$(cat changes)"
	grep -E '^removed /opt/data/kept: file ' changes || fail "$(cat changes)"
	exits 1 continuity --containerd-address "$containerd_socket" container diff differs --format json >changes
	jq -es 'length >= 3' changes >/dev/null || fail "$(cat changes)"
	exits 2 continuity --containerd-address "$containerd_socket" container diff nobody
	mend
}
each_what_a_container_changed=(overlayfs native continuity)

case_nothing_is_left_behind() {
	unpack "$IMAGE" overlayfs
	exits 0 image verify "$IMAGE"
	ctr leases ls >leases
	lacks leases continuity-
	ctr snapshots --snapshotter overlayfs ls >snapshots
	lacks snapshots continuity-
	[[ -z $(find /tmp -maxdepth 1 -name 'continuity-mount-*' -newer "$work/image.tar") ]] || fail "a directory is left"
}

# Stopped while its lease is there, told to end, and let go on: so the signal comes before the end of the check.
each_told_to_end_it_cleans_up=(INT TERM)
case_told_to_end_it_cleans_up() {
	local pid snapshotter code=0
	for snapshotter in overlayfs native btrfs; do unpack "$ODD:many" "$snapshotter"; done
	find /tmp -maxdepth 1 -name "continuity-mount-*" >before
	env -u CONTAINERD_SNAPSHOTTER continuity image verify "$ODD:many" >verdict 2>error &
	pid=$!
	wait_until 10 leased || fail "no lease while it checks: $(cat verdict error)"
	kill -STOP "$pid"
	leased || fail "it had done its work already: $(cat verdict)"
	same "$(views | wc -l)" 1
	kill "-$1" "$pid"
	kill -CONT "$pid"
	wait "$pid" || code=$?
	same "$code" 2
	holds error cancelled
	lacks verdict 'in overlayfs: damaged'
	ctr leases ls >leases
	lacks leases continuity-
	same "$(views)" ''
	! grep -F continuity-mount- /proc/self/mountinfo || fail "it is still mounted"
	find /tmp -maxdepth 1 -name "continuity-mount-*" | diff before -
}

# Our views, in every snapshotter.
views() {
	local snapshotter
	for snapshotter in overlayfs native btrfs continuity; do
		ctr snapshots --snapshotter "$snapshotter" ls | grep -o '^continuity-[0-9a-f]*' || true
	done
}

leased() { ctr leases ls | grep '^continuity-'; }

case_a_blob_that_is_gone_is_named() {
	local layer
	odd_image gone odd_base odd_parents
	ctr images import --base-name "$ODD" --snapshotter overlayfs gone.tar
	layer=$(blobs_of "$ODD:gone" | sed -n 2p)
	ctr content rm "$layer" >/dev/null
	exits 2 image manifest "$ODD:gone" -o derived.pb 2>error
	holds error 'layer 2 of 2'
	holds error "$layer is not in the content store"
	holds error "content fetch $ODD:gone"
	[[ ! -e derived.pb ]] || fail "half a manifest"
	# It is unpacked, and nobody can tell whether it still is what it was.
	exits 2 image verify "$ODD:gone" --snapshotter overlayfs >verdict 2>error
	holds error 'layer 2 of 2'
	lacks verdict intact
	ctr images rm "$ODD:gone" >/dev/null
}

# Another image has the same tar, packed otherwise: it will do, for the image and for its snapshot.
case_another_blob_of_the_same_tar_will_do() {
	local layer key
	odd_image packed odd_base odd_parents
	mkdir layout
	tar -C layout -xf packed.tar
	ctr images import --base-name "$ODD" --snapshotter overlayfs packed.tar
	key=$(top_of "$ODD:packed")
	image manifest "$ODD:packed" -o derived.pb
	recompress layout repacked zstd
	tar -C layout -cf repacked.tar .
	ctr images import --base-name "$ODD" --no-unpack repacked.tar
	for layer in $(blobs_of "$ODD:packed"); do ctr content rm "$layer" >/dev/null; done
	image manifest "$ODD:packed" | cmp - derived.pb
	exits 0 image verify "$ODD:packed" --snapshotter overlayfs
	exits 0 continuity --containerd-address "$containerd_socket" snapshot verify "$key" --snapshotter overlayfs
	exits 0 image verify --all --snapshotter overlayfs
	for layer in $(blobs_of "$ODD:repacked"); do ctr content rm "$layer" >/dev/null; done
	exits 2 image verify "$ODD:packed" --snapshotter overlayfs
	ctr images rm "$ODD:packed" "$ODD:repacked" >/dev/null
}

blobs_of() { ctr content get "$(ctr images ls "name==$1" | awk 'NR == 2 { print $3 }')" | jq -r '.layers[].digest'; }

# Layers that can't be read, of an image that is unpacked: it is said which layer, and why; that is no verdict.
each_unreadable=(
	'encrypted application/vnd.oci.image.layer.v1.tar+gzip+encrypted'
)
case_unreadable() {
	local why type digest
	read -r why type <<<"$1"
	mkdir layout
	tar -C layout -xf "$work/odd/types.tar"
	jq --arg type "$type" '.layers[1].mediaType = $type' "$(manifest_of layout)" >manifest
	digest=$(jq -r '.layers[1].digest' manifest)
	put_manifest layout unreadable manifest
	tar -C layout -cf unreadable.tar .
	unpack "$ODD:types" overlayfs
	ctr images import --base-name "$ODD" --no-unpack unreadable.tar
	on_leave='ctr images rm "$ODD:unreadable" >/dev/null'
	exits 2 image manifest "$ODD:unreadable" -o derived.pb 2>error
	holds error "layer 2 of 3 of $ODD:unreadable: $digest is $why ($type)"
	[[ ! -e derived.pb ]] || fail "half a manifest"
	exits 2 image verify "$ODD:unreadable" --snapshotter overlayfs >verdict 2>error
	holds verdict "$ODD:unreadable in overlayfs: could not be checked: "
	holds verdict "layer 2 of 3 of $ODD:unreadable: $digest is $why ($type)"
	lacks verdict intact
	mend
}

# A blob whose content is another one's: containerd keeps it as it finds it.
case_a_blob_that_rotted_is_named() {
	local layer file
	layer=$(ctr content get "$(ctr images ls "name==$ODD:links" | awk 'NR == 2 { print $3 }')" | jq -r '.layers[1].digest')
	file=$work/containerd/root/io.containerd.content.v1.content/blobs/sha256/${layer#sha256:}
	cp "$file" saved
	on_leave='cat saved >"$file"'
	flip_byte "$file" 100
	exits 2 image manifest "$ODD:links" -o derived.pb 2>error
	holds error 'layer 2 of 3'
	mend
}

case_what_is_not_there() {
	exits 2 image verify continuity.test/none:v1 2>error
	holds error 'no image continuity.test/none:v1'
	exits 2 image verify story 2>error
	holds error "did you mean $IMAGE"
	exits 2 image verify "$IMAGE" --snapshotter btrfs 2>error
	exits 2 continuity --containerd-address "$PWD/none.sock" image ls 2>error
	holds error "$PWD/none.sock"
	exits 2 image manifest "$IMAGE" --platform linux/s390x 2>error
}

case_limits() {
	exits 2 image manifest "$IMAGE" --max-entries 5 -o derived.pb 2>error
	holds error 'more than 5 entries'
	exits 2 image manifest "$IMAGE" --max-bytes 1000 -o derived.pb 2>error
	holds error 'more than 1000 bytes'
}

# Neither many entries nor large files take memory that an edge node lacks.
each_memory=(a_hundred_thousand_entries one_large_file)
case_memory() {
	odd_image "$1" "large_$1"
	ctr images import --base-name "$ODD" --no-unpack "$1.tar"
	rm "$1.tar"
	on_leave="ctr images rm $ODD:$1 >/dev/null"
	peak_kib peak continuity --containerd-address "$containerd_socket" image manifest "$ODD:$1" -o derived.pb
	below "peak memory in KiB" "$(cat peak)" "$MEMORY_KIB"
	mend
}

large_a_hundred_thousand_entries() {
	local n
	for n in {1..100}; do
		mkdir "directory-$n"
		(cd "directory-$n" && touch file-number-{1..1000})
	done
	pack "$1"
}

large_one_large_file() {
	truncate -s 1G large
	pack "$1"
}

# Hostile layers that containerd refuses, and so do we, with the name of the layer.
each_hostile=(
	a_link_to_nothing a_link_out_to_nothing a_whiteout_of_nothing a_whiteout_of_the_parent a_huge_size a_truncated_gzip
)
case_hostile() {
	odd_image hostile odd_base "hostile_$1"
	if [[ $1 == a_truncated_gzip ]]; then truncate_last_layer hostile.tar; fi
	ctr images import --base-name "$ODD" --no-unpack hostile.tar
	on_leave='ctr images rm "$ODD:hostile" >/dev/null'
	if ctr images import --base-name "$ODD" --snapshotter overlayfs hostile.tar >unpacked 2>&1; then fail "containerd takes it"; fi
	refused "$ODD:hostile"
	holds error 'layer 2 of 2'
	mend
}

# refused REFERENCE [OPTIONS...]: says why in the file "error", in little memory, and writes nothing.
refused() {
	exits 2 peak_kib peak continuity --containerd-address "$containerd_socket" image manifest "$@" -o derived.pb 2>error
	[[ ! -e derived.pb ]] || fail "half a manifest"
	below "peak memory in KiB" "$(tail -n 1 peak)" "$MEMORY_KIB"
}

# Hostile layers that containerd takes, and keeps beneath the root; we say the same of them, and nothing outside is touched.
each_contained=(a_symlink_as_parent a_symlink_up_as_parent a_symlink_replaced a_link_through_a_symlink a_whiteout_through_a_symlink)
case_contained() {
	mkdir "$work/outside"
	on_leave='rm -r "$work/outside"; ctr images rm "$ODD:contained" >/dev/null 2>&1'
	printf 'outside\n' >"$work/outside/file"
	continuity build "$work/outside" -o outside.pb
	odd_image contained odd_base "contained_$1"
	ctr images import --base-name "$ODD" --no-unpack contained.tar
	mkdir rootfs
	ctr images mount --snapshotter overlayfs "$ODD:contained" "$PWD/rootfs" >/dev/null
	on_leave="ctr images unmount --rm $PWD/rootfs >/dev/null; $on_leave"
	peak_kib peak continuity --containerd-address "$containerd_socket" image manifest "$ODD:contained" -o derived.pb
	below "peak memory in KiB" "$(cat peak)" "$MEMORY_KIB"
	oracle build rootfs | cmp - derived.pb || {
		continuity diff derived.pb <(continuity build rootfs) >&2
		fail "not what containerd unpacked"
	}
	exits 0 image verify "$ODD:contained" --snapshotter overlayfs
	exits 0 continuity verify "$work/outside" outside.pb
	mend
}

contained_a_symlink_as_parent() {
	ln -s "$work/outside" lead
	printf 'inside\n' >file
	tar --create --file "$1" --format=posix --numeric-owner lead
	tar --append --file "$1" --format=posix --numeric-owner --transform 's,^file,lead/file,' file
	tar --append --file "$1" --format=posix --numeric-owner --transform 's,^file,lead/deeper/file,' file
}

contained_a_symlink_up_as_parent() {
	ln -s ../../../../../../../../../../../.. lead
	printf 'inside\n' >file
	tar --create --file "$1" --format=posix --numeric-owner lead
	tar --append --file "$1" --format=posix --numeric-owner --transform "s,^file,lead$work/outside/file," file
}

# The last of two entries counts: nothing is written through the first.
contained_a_symlink_replaced() {
	ln -s "$work/outside/file" lead
	tar --create --file "$1" --format=posix --numeric-owner lead
	printf 'inside\n' >file
	tar --append --file "$1" --format=posix --numeric-owner --transform 's,^file,lead,' file
}

contained_a_link_through_a_symlink() {
	mkdir -p "./$work/outside"
	printf 'inside\n' >"./$work/outside/file"
	ln -s "$work/outside" lead
	ln "./$work/outside/file" link
	tar --create --file "$1" --format=posix --numeric-owner --transform "flags=h;s,.*,lead/file," lead "./$work/outside/file" link
}

# What is hidden lies beneath the root.
contained_a_whiteout_through_a_symlink() {
	ln -s ../../../../../../usr/share/doc lead
	: >wh
	tar --create --file "$1" --format=posix --numeric-owner lead
	tar --append --file "$1" --format=posix --numeric-owner --transform 's,^wh,lead/.wh.one,' wh
}

# Nothing is there to be hidden. overlayfs lists the whiteout, and has nothing there when asked: no tool can read the tree.
case_a_whiteout_of_nothing_in_a_directory_of_the_layer() {
	local snapshotter
	odd_image stray odd_base odd_stray
	ctr images import --base-name "$ODD" --no-unpack stray.tar
	on_leave='ctr images rm "$ODD:stray" >/dev/null'
	for snapshotter in overlayfs native btrfs continuity; do
		ctr images import --base-name "$ODD" --snapshotter "$snapshotter" stray.tar >/dev/null
		exits 0 image verify "$ODD:stray" --snapshotter "$snapshotter"
	done
	mend
}

odd_stray() {
	mkdir -p fresh/deep
	: >fresh/.wh.never-was
	: >fresh/deep/.wh.neither
	printf 'x\n' >fresh/deep/file
	pack "$1"
}

# Small blobs of much: nothing is taken beyond the limit, whatever it is that is large.
each_bomb=(of_zeros of_a_hole of_a_name of_entries of_gzips)
case_bomb() {
	odd_image bomb odd_base "bomb_$1"
	ctr images import --base-name "$ODD" --no-unpack bomb.tar
	on_leave='ctr images rm "$ODD:bomb" >/dev/null'
	refused "$ODD:bomb" --max-bytes "$BOMB_BYTES" --max-entries "$BOMB_ENTRIES"
	holds error 'layer 2 of 2'
	holds error 'more than'
	mend
}
bomb_of_zeros() {
	truncate -s 200M large
	tar --create --file "$1" --format=posix --numeric-owner large
}

# No byte of it is stored, and its size is what a filesystem can't have.
bomb_of_a_hole() {
	truncate -s 8T large
	tar --create --file "$1" --format=posix --sparse --numeric-owner large
}

# The name of the next entry, of 100 MiB of zeros.
bomb_of_a_name() {
	truncate -s 100M large
	tar --create --file "$1" --format=gnu --numeric-owner large
	printf 'L' | dd of="$1" bs=1 seek=156 conv=notrunc status=none
	right_checksum "$1"
}

bomb_of_entries() {
	local n
	for n in {1..30}; do
		mkdir "directory-$n"
		(cd "directory-$n" && touch file-number-{1..1000})
	done
	pack "$1"
}

# Behind the end of the archive, where only the diff ID looks.
bomb_of_gzips() {
	printf 'x\n' >small
	tar --create --file "$1" --format=posix --numeric-owner small
	truncate -s 200M "$1"
}

hostile_a_link_to_nothing() {
	printf 'x\n' >file
	ln file link
	tar --create --file "$1" --format=posix ./file ./link
	tar --delete --file "$1" ./file
}

hostile_a_whiteout_of_nothing() {
	: >.wh...
	pack "$1"
}

hostile_a_whiteout_of_the_parent() {
	mkdir -p usr/share
	: >usr/share/.wh...
	tar --create --file "$1" --format=posix --numeric-owner usr/share/.wh...
}

# Beneath the root it would be something that is not there.
hostile_a_link_out_to_nothing() {
	printf 'x\n' >file
	ln file link
	tar --create --file "$1" --format=posix --numeric-owner --absolute-names --transform 'flags=h;s,.*,../../../../../../../bin/bash,' ./file ./link
	tar --delete --file "$1" ./file
}

# The size of a header becomes 2^60.
hostile_a_huge_size() {
	printf 'x\n' >huge
	tar --create --file "$1" --format=gnu huge
	printf '\x80\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00' | dd of="$1" bs=1 seek=124 conv=notrunc status=none
	right_checksum "$1"
}

# right_checksum TAR: makes that of the first header right.
right_checksum() {
	local sum
	printf '        ' | dd of="$1" bs=1 seek=148 conv=notrunc status=none
	sum=$(head -c 512 "$1" | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s += $i } END { print s }')
	printf '%06o\0 ' "$sum" | dd of="$1" bs=1 seek=148 conv=notrunc status=none
}

hostile_a_truncated_gzip() { pack "$1"; }

# truncate_last_layer ARCHIVE: cuts the last blob, and gives the manifest its new digest.
truncate_last_layer() {
	local digest
	mkdir layout
	tar -C layout -xf "$1"
	cp "$(manifest_of layout)" manifest
	digest=$(jq -r '.layers[-1].digest' manifest)
	head -c 60 "layout/blobs/sha256/${digest#sha256:}" >blob
	replace_layer layout manifest -1 blob
	put_manifest layout hostile manifest
	tar -C layout -cf "$1" .
	rm -rf layout
}
