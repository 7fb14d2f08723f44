# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Images as the root of trust: what is derived from the layers is what containerd unpacked, and what was damaged since
# is found and named, with every snapshotter.

# Layers of the image with many: options of so many layers do not fit into a page.
readonly MANY=130

suite_setup() {
	start_story
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_image parents odd_base odd_parents odd_empty
	odd_image whiteouts odd_base odd_whiteouts
	odd_image types odd_base odd_types odd_types_again
	odd_image names odd_base odd_names odd_names_gnu
	odd_image sparse odd_base odd_sparse_pax odd_sparse_old_pax
	odd_image links odd_base odd_links odd_duplicates
	odd_image escapes odd_base odd_escapes
	# shellcheck disable=SC2046 # a word each
	odd_image many odd_base $(printf 'odd_small %.0s' $(seq 2 "$MANY"))
	for archive in *.tar; do
		ctr images import --base-name "$ODD" --no-unpack "$archive"
	done
}

suite_teardown() {
	stop_story
	rm -rf "$work/odd"
}

# image COMMAND...: our commands about images, at our containerd.
image() { continuity --containerd-address "$containerd_socket" image "$@"; }

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

# top_of REFERENCE: the name of an image's top snapshot.
top_of() {
	image ls --format json | jq -e --arg name "$1" 'select(.image == $name)' >/dev/null || fail "no image $1"
	local chain='' diff
	for diff in $(config_of "$1" | jq -r '.rootfs.diff_ids[]'); do
		if [[ -z $chain ]]; then chain=$diff; else chain=sha256:$(printf '%s %s' "$chain" "$diff" | sha256sum | cut -d' ' -f1); fi
	done
	say "$chain"
}

# config_of REFERENCE: an image's config.
config_of() {
	local manifest
	manifest=$(ctr images ls "name==$1" | awk 'NR == 2 { print $3 }')
	manifest=$(ctr content get "$manifest")
	if jq -e .manifests <<<"$manifest" >/dev/null; then
		manifest=$(ctr content get "$(jq -r '.manifests[0].digest' <<<"$manifest")")
	fi
	ctr content get "$(jq -r .config.digest <<<"$manifest")"
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

# recompressed COMMAND TYPE: the story's image with its layers compressed by COMMAND, as $ODD:NAME.
each_compression=(zstd 'gzip -9' 'gzip_twice' 'zstd_skippable')
case_compression() {
	local name=${1// /}
	recompress "$name" "$1"
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

# recompress NAME COMMAND: writes NAME.tar.
recompress() {
	local layout=$PWD/layout manifest digest blob
	mkdir "$layout"
	tar -C "$layout" -xf "$work/image.tar"
	manifest=$(jq -r '.manifests[0].digest' "$layout/index.json")
	jq . "$layout/blobs/sha256/${manifest#sha256:}" >manifest
	for digest in $(jq -r '.layers[].digest' manifest); do
		zcat -f "$layout/blobs/sha256/${digest#sha256:}" | $2 >blob
		blob=sha256:$(sha256sum blob | cut -d' ' -f1)
		jq --arg old "$digest" --arg new "$blob" --argjson size "$(stat -c %s blob)" \
			'(.layers[] | select(.digest == $old)) |= (.digest = $new | .size = $size)' manifest >changed
		mv changed manifest
		mv blob "$layout/blobs/sha256/${blob#sha256:}"
	done
	blob=$(sha256sum manifest | cut -d' ' -f1)
	jq --arg new "sha256:$blob" --argjson size "$(stat -c %s manifest)" --arg name "$1" \
		'.manifests[0] |= (.digest = $new | .size = $size | .annotations["org.opencontainers.image.ref.name"] = $name)' \
		"$layout/index.json" >changed
	mv changed "$layout/index.json"
	mv manifest "$layout/blobs/sha256/$blob"
	tar -C "$layout" -cf "$1.tar" .
	rm -rf "$layout"
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

each_intact=(
	'overlayfs parents' 'overlayfs whiteouts' 'overlayfs types' 'overlayfs names' 'overlayfs sparse' 'overlayfs links'
	'overlayfs escapes' 'overlayfs many' 'native parents' 'native whiteouts' 'native types' 'native names' 'native sparse'
	'native links' 'native escapes' 'continuity parents' 'continuity whiteouts' 'continuity types' 'continuity names'
	'continuity sparse' 'continuity links' 'continuity escapes' 'continuity many'
)
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
	continuity --containerd-address "$containerd_socket" container diff differs --format json | jq -es 'length >= 3' >/dev/null || true
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

case_told_to_end_it_cleans_up() {
	unpack "$ODD:many" overlayfs
	image verify "$ODD:many" --snapshotter overlayfs >verdict 2>&1 &
	wait_until 10 leased || true
	kill -INT $! 2>/dev/null || true
	wait $! || true
	ctr leases ls >leases
	lacks leases continuity-
}

leased() { ctr leases ls | grep -q continuity-; }

case_a_blob_that_is_gone_is_named() {
	local layer
	odd_image gone odd_base odd_parents
	ctr images import --base-name "$ODD" --no-unpack gone.tar
	layer=$(ctr images ls "name==$ODD:gone" | awk 'NR == 2 { print $3 }')
	layer=$(ctr content get "$layer" | jq -r '.layers[1].digest')
	ctr content rm "$layer" >/dev/null
	exits 2 image manifest "$ODD:gone" -o derived.pb 2>error
	holds error 'layer 2 of 2'
	holds error "$layer is not in the content store"
	holds error "content fetch $ODD:gone"
	[[ ! -e derived.pb ]] || fail "half a manifest"
	ctr images rm "$ODD:gone" >/dev/null
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
	below "peak memory in KiB" "$(cat peak)" 65536
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

# Hostile layers: refused with the name of the layer, or nothing beneath the root but what containerd has there.
each_hostile=('a_link_to_nothing' 'a_whiteout_of_nothing' 'a_huge_size' 'a_truncated_gzip')
case_hostile() {
	odd_image hostile odd_base "hostile_$1"
	if [[ $1 == a_truncated_gzip ]]; then truncate_last_layer hostile.tar; fi
	ctr images import --base-name "$ODD" --no-unpack hostile.tar
	on_leave="ctr images rm $ODD:hostile >/dev/null"
	peak_kib peak continuity --containerd-address "$containerd_socket" image manifest "$ODD:hostile" -o derived.pb 2>error && fail "taken"
	holds error 'layer 2 of 2'
	below "peak memory in KiB" "$(cat peak)" 65536
	mend
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

# The size of a header becomes 2^60; its checksum is made right.
hostile_a_huge_size() {
	local sum
	printf 'x\n' >huge
	tar --create --file "$1" --format=gnu huge
	printf '\x80\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00' | dd of="$1" bs=1 seek=124 conv=notrunc status=none
	printf '        ' | dd of="$1" bs=1 seek=148 conv=notrunc status=none
	sum=$(head -c 512 "$1" | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s += $i } END { print s }')
	printf '%06o\0 ' "$sum" | dd of="$1" bs=1 seek=148 conv=notrunc status=none
}

hostile_a_truncated_gzip() { pack "$1"; }

# truncate_last_layer ARCHIVE: halves the last blob, and gives the manifest its new digest.
truncate_last_layer() {
	local manifest digest blob
	mkdir layout
	tar -C layout -xf "$1"
	manifest=$(jq -r '.manifests[0].digest' layout/index.json)
	digest=$(jq -r '.layers[-1].digest' "layout/blobs/sha256/${manifest#sha256:}")
	head -c 60 "layout/blobs/sha256/${digest#sha256:}" >blob
	blob=$(sha256sum blob | cut -d' ' -f1)
	mv blob "layout/blobs/sha256/$blob"
	jq --arg new "sha256:$blob" '.layers[-1].digest = $new | .layers[-1].size = 60' "layout/blobs/sha256/${manifest#sha256:}" >changed
	blob=$(sha256sum changed | cut -d' ' -f1)
	jq --arg new "sha256:$blob" --argjson size "$(stat -c %s changed)" '.manifests[0].digest = $new | .manifests[0].size = $size' \
		layout/index.json >index
	mv index layout/index.json
	mv changed "layout/blobs/sha256/$blob"
	tar -C layout -cf "$1" .
	rm -rf layout
}
