# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Which of an image's manifests is unpacked, and what of an image cannot be told. The images are of ../odd-images.

readonly PLATFORMS=odd.test
readonly NAMES=(ix-386-arm ix-v3-then-plain ix-noplat-two cfg-noos cfg-label-null man-noschema foreign-present)

suite_setup() {
	local name
	start_story
	mkdir -p "$work/platforms"
	for name in "${NAMES[@]}"; do gzip -dc "$integration/odd-images/$name.tar.gz" >"$work/platforms/$name.tar"; done
}

suite_teardown() {
	stop_story
	rm -rf "$work/platforms"
}

# image COMMAND...: our commands about images, in every snapshotter that is not named.
image() { env -u CONTAINERD_SNAPSHOTTER continuity image "$@"; }

# import NAME SNAPSHOTTER [OPTIONS...]
import() {
	ctr images import --base-name "$PLATFORMS/$1" --snapshotter "$2" "${@:3}" "$work/platforms/$1.tar" >/dev/null
}

# forget: every image of these, and what was unpacked of it.
forget() {
	local name
	for name in $(ctr images ls --quiet | grep "^$PLATFORMS/"); do ctr images rm --sync "$name" >/dev/null; done
}

# document DIGEST: a document of the content store.
document() { ctr content get "$1"; }

# index_of NAME: the digest of an image's index.
index_of() { ctr images ls "name==$PLATFORMS/$1:x" | awk 'NR == 2 { print $3 }'; }

# manifest_at NAME N: the digest of the index's Nth manifest.
manifest_at() { document "$(index_of "$1")" | jq -r ".manifests[$2].digest"; }

# file_of DIGEST: where containerd keeps a blob.
file_of() { say "$work/containerd/root/io.containerd.content.v1.content/blobs/sha256/${1#sha256:}"; }

mapfile -t each_as_containerd_unpacks_it < <(for snapshotter in overlayfs native continuity; do
	printf "$snapshotter %s\n" "${NAMES[@]}"
done)
case_as_containerd_unpacks_it() {
	local snapshotter name
	read -r snapshotter name <<<"$1"
	import "$name" "$snapshotter"
	on_leave=forget
	exits 0 image verify "$PLATFORMS/$name:x" >verdict
	holds verdict "$PLATFORMS/$name:x in $snapshotter"
	same "$(grep -c intact verdict)" 1
	exits 0 image verify --all >verdict
	holds verdict "$PLATFORMS/$name:x in $snapshotter"
	exits 0 image repair --root "$work/state" --dry-run "$PLATFORMS/$name:x" >plan
	holds plan 'intact, 0 changes planned'
	image ls | grep -E "^$PLATFORMS/$name:x .* $snapshotter +intact" || fail "$(image ls)"
	if [[ $snapshotter == continuity ]]; then
		wait_until "$SERVICE_SECONDS" all_from_image || fail "$(sources; tail -n 5 "$daemon_home/log")"
	fi
	mend
}

# damage_one: changes a file of a layer that overlayfs has: it has nothing but what the case has unpacked.
damage_one() {
	local file snapshots=$work/containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots
	file=$(find "$snapshots"/*/fs -type f -size +0 | head -n 1)
	[[ -n $file ]] || fail "no file to damage"
	flip_byte "$file" 0
}

each_damage_is_found=("${NAMES[@]}")
case_damage_is_found() {
	import "$1" overlayfs
	on_leave=forget
	damage_one
	exits 1 image verify "$PLATFORMS/$1:x" >verdict
	holds verdict damaged
	exits 1 image verify --all --snapshotter overlayfs >verdict
	holds verdict "$PLATFORMS/$1:x in overlayfs"
	exits 0 image repair --root "$work/state" "$PLATFORMS/$1:x"
	exits 0 image verify "$PLATFORMS/$1:x"
	mend
}

# descriptor TYPE FILE [PLATFORM]: moves the file into the layout, and prints its descriptor.
descriptor() {
	local size digest
	size=$(stat -c %s "$2")
	digest=$(put_blob layout "$2")
	jq -nc --arg type "application/vnd.oci.image.$1" --arg digest "$digest" --argjson size "$size" \
		--arg platform "${3:-}" \
		'{mediaType: $type, digest: $digest, size: $size}
			+ if $platform == "" then {} else {platform: ($platform / "/" | {os: .[0], architecture: .[1], variant: .[2]})} end'
}

# make_index NAME PLATFORMS...: an archive of an index; the Nth image has a file that is called "entry-N". A platform
# after "-" is in the config only.
make_index() {
	local name=$1 platform n=0
	local -a entries=()
	shift
	mkdir -p layout/blobs/sha256
	for platform in "$@"; do
		: >"entry-$n"
		tar -cf layer "entry-$n"
		jq -nc --arg platform "${platform#-}" --arg diff "sha256:$(sha256sum layer | cut -d' ' -f1)" \
			'$platform / "/" | {os: .[0], architecture: .[1], variant: .[2],
				rootfs: {type: "layers", diff_ids: [$diff]}}' >config
		jq -nc --argjson layer "$(descriptor layer.v1.tar layer)" --argjson config "$(descriptor config.v1+json config)" \
			'{schemaVersion: 2, config: $config, layers: [$layer]}' >manifest
		if [[ $platform == -* ]]; then platform=''; fi
		entries+=("$(descriptor manifest.v1+json manifest "$platform")")
		n=$((n + 1))
	done
	printf '%s\n' "${entries[@]}" | jq -sc '{schemaVersion: 2, manifests: .}' >index
	jq -c '{schemaVersion: 2, manifests: [. + {annotations: {"org.opencontainers.image.ref.name": "x"}}]}' \
		<<<"$(descriptor index.v1+json index)" >layout/index.json
	say '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
	tar -C layout -cf "$work/platforms/$name.tar" .
}

# The image that we derive is the one that containerd unpacks, of whatever an index lists.
each_choice=(
	'unknown/unknown linux/amd64'
	'linux/amd64/v4 linux/amd64/v1 linux/386'
	'linux/386 linux/amd64/v2 linux/arm64'
	'linux/arm/v7 windows/amd64 linux/amd64 linux/amd64'
	'-linux/arm64 linux/386'
	'-linux/amd64 linux/amd64'
	'-linux/amd64 -linux/amd64'
	'linux/x86_64 linux/i386'
	'Linux/AMD64/v3 linux/AMD64'
)
case_choice() {
	local -a platforms
	local unpacked snapshots=$work/containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots
	read -ra platforms <<<"$1"
	make_index choice "${platforms[@]}"
	import choice overlayfs
	on_leave=forget
	unpacked=$(find "$snapshots"/*/fs -name 'entry-*' -printf '%f\n')
	[[ $unpacked == entry-? ]] || fail "unpacked: $unpacked"
	image manifest "$PLATFORMS/choice:x" | continuity ls - >listing
	holds listing "/$unpacked"
	exits 0 image verify "$PLATFORMS/choice:x"
	mend
}

case_another_platform_that_is_unpacked_is_checked() {
	import ix-386-arm overlayfs --platform linux/arm64
	on_leave=forget
	exits 0 image verify "$PLATFORMS/ix-386-arm:x" >verdict
	holds verdict "$PLATFORMS/ix-386-arm:x in overlayfs (linux/arm64): intact"
	image verify "$PLATFORMS/ix-386-arm:x" --format json | jq -es 'all(.[]; .platform == "linux/arm64")' >/dev/null
	exits 0 image verify "$PLATFORMS/ix-386-arm:x" --platform linux/arm64 >verdict
	exits 2 image verify "$PLATFORMS/ix-386-arm:x" --platform linux/s390x 2>error
	holds error 'only for'
	damage_one
	exits 1 image verify "$PLATFORMS/ix-386-arm:x" >verdict
	exits 1 image verify --all --snapshotter overlayfs >verdict
	holds verdict "$PLATFORMS/ix-386-arm:x in overlayfs (linux/arm64): damaged"
	exits 0 image repair --root "$work/state" "$PLATFORMS/ix-386-arm:x"
	# And this machine's beside it.
	import ix-386-arm overlayfs --all-platforms --platform linux/arm64
	import ix-386-arm overlayfs --all-platforms --platform linux/386
	exits 0 image verify --all --snapshotter overlayfs >verdict
	holds verdict "$PLATFORMS/ix-386-arm:x in overlayfs (linux/arm64): intact"
	holds verdict "$PLATFORMS/ix-386-arm:x in overlayfs (linux/386): intact"
	exits 0 image verify "$PLATFORMS/ix-386-arm:x" --platform linux/386 >verdict
	lacks verdict arm64
	same "$(image ls | grep -c "^$PLATFORMS/ix-386-arm:x ")" 2
	mend
}

case_not_unpacked_is_no_finding_and_no_error() {
	import cfg-noos overlayfs --no-unpack
	import ix-v3-then-plain overlayfs --no-unpack
	on_leave=forget
	exits 0 image verify --all >verdict
	lacks verdict "$PLATFORMS"
	exits 2 image verify "$PLATFORMS/cfg-noos:x" 2>error
	holds error 'is unpacked in no snapshotter'
	exits 2 image repair --root "$work/state" "$PLATFORMS/cfg-noos:x" 2>error
	holds error 'is unpacked in no snapshotter'
	mend
}

# What containerd does not unpack is not unpacked, and so no error of a nightly check.
case_what_is_no_image_is_passed_over() {
	mkdir layout
	tar -C layout -xf "$work/platforms/cfg-noos.tar"
	cp "$(manifest_of layout)" manifest
	say '{"name":"chart"}' >config
	jq --arg digest "$(put_blob layout config)" '.config.digest = $digest | .config.size = 17' manifest >changed
	put_manifest layout x changed
	tar -C layout -cf chart.tar .
	ctr images import --base-name "$PLATFORMS/chart" --no-unpack chart.tar >/dev/null
	on_leave=forget
	exits 0 image verify --all >verdict
	lacks verdict chart
	exits 2 image verify "$PLATFORMS/chart:x" 2>error
	holds error 'containerd does not unpack it'
	mend
}

# unchecked NAME WHAT: by itself and with all others it is not intact, nor damaged, nor passed over.
unchecked() {
	exits 2 image verify --all >verdict 2>error
	grep -F "$PLATFORMS/$1:x: could not be checked: image $PLATFORMS/$1:x: $2" verdict || fail "$(cat verdict)"
	holds verdict "$IMAGE in continuity: intact"
	lacks verdict "$PLATFORMS/$1:x in overlayfs: intact"
	exits 2 image verify "$PLATFORMS/$1:x" >verdict 2>error
	holds error "$2"
	exits 2 image repair --root "$work/state" "$PLATFORMS/$1:x" 2>error
	holds error "$2"
	image ls >listing 2>error
	holds error "$2"
}

# Each: "image | what is lost of it, as a digest | as what it is named".
each_lost=(
	'cfg-noos | index_of cfg-noos | its manifest'
	'cfg-noos | config_digest cfg-noos | its config'
	'ix-v3-then-plain | index_of ix-v3-then-plain | its index'
	'ix-v3-then-plain | manifest_at ix-v3-then-plain 1 | its manifest'
	'ix-noplat-two | config_digest_at ix-noplat-two 0 | its config'
)
case_lost() {
	local name digest what
	IFS='|' read -r name digest what <<<"$1"
	name=${name% }
	# From the content store's records, or only from the disk.
	for removal in 'ctr content rm' 'lose_file'; do
		import "$name" overlayfs
		on_leave=forget
		exits 0 image verify "$PLATFORMS/$name:x"
		$removal "$($digest)" >/dev/null
		unchecked "$name" "${what# }"
		mend
	done
}

lose_file() { rm "$(file_of "$1")"; }

config_digest() { document "$(index_of "$1")" | jq -r .config.digest; }

config_digest_at() { document "$(manifest_at "$1" "$2")" | jq -r .config.digest; }

# A snapshotter that has the image and does not answer is not one that has not unpacked it.
case_a_snapshotter_that_does_not_answer() {
	import cfg-noos overlayfs
	import cfg-noos continuity
	stop_daemon
	on_leave='start_daemon; wait_until "$SERVICE_SECONDS" ctr snapshots --snapshotter continuity ls; forget'
	exits 2 image verify "$PLATFORMS/cfg-noos:x" >verdict 2>error
	holds verdict "$PLATFORMS/cfg-noos:x in overlayfs: intact"
	grep -E "^$PLATFORMS/cfg-noos:x: could not be checked: .* in continuity: " verdict || fail "$(cat verdict)"
	exits 0 image verify "$PLATFORMS/cfg-noos:x" --snapshotter overlayfs
	import ix-noplat-two overlayfs
	exits 0 image verify "$PLATFORMS/ix-noplat-two:x"
	mend
}

# What is lost of one platform is no reason to pass over the other.
case_one_of_two_is_lost() {
	import ix-386-arm overlayfs --all-platforms --platform linux/arm64
	import ix-386-arm overlayfs --all-platforms --platform linux/386
	on_leave=forget
	exits 0 image verify "$PLATFORMS/ix-386-arm:x"
	lose_file "$(config_digest_at ix-386-arm 1)"
	exits 2 image verify "$PLATFORMS/ix-386-arm:x" >verdict 2>error
	holds verdict "$PLATFORMS/ix-386-arm:x in overlayfs (linux/386): intact"
	holds verdict "$PLATFORMS/ix-386-arm:x: could not be checked: "
	exits 0 image verify "$PLATFORMS/ix-386-arm:x" --platform linux/386
	mend
}

case_a_container_of_another_platform_is_compared_with_its_image() {
	local manifest
	import ix-noplat-two overlayfs
	on_leave='ctr containers delete other; forget'
	ctr containers create --snapshotter overlayfs "$PLATFORMS/ix-noplat-two:x" other /bin/true
	exits 0 continuity container diff other
	manifest=$(manifest_at ix-noplat-two 0)
	ctr content rm "$manifest" >/dev/null
	exits 2 continuity container diff other 2>error
	holds error 'no image explains its parent snapshot'
	holds error "$manifest"
	mend
}
