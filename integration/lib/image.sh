# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# An OCI image of four layers that has what makes layers hard: a whiteout, an opaque directory, hard links within
# and across directories, an xattr, setuid, a symlink, and a directory whose mode a later layer changes.
#
#   1  busybox and its applets as hard links; /etc; /opt/data/{kept,removed}; /srv/cache/{one,two}
#   2  removes /opt/data/removed; /srv/cache is opaque and holds only "fresh"
#   3  /app/message, an xattr, a hard link across directories, a symlink
#   4  /app becomes 0750; /app/start

readonly IMAGE=continuity.test/story:v1
readonly IMAGE_LAYERS=4
# The file that the story damages, and what it says.
readonly STORY_FILE=app/message
readonly STORY_TEXT='every byte of this was checked'

readonly APPLETS='sh ls cat echo sleep stat sha256sum test true chmod id wc dd sync touch rm mkdir ln'

# make_image FILE: writes the image as an OCI archive.
make_image() {
	local layout=$work/image/layout number
	rm -rf "$work/image"
	mkdir -p "$work/image"
	umoci init --layout "$layout"
	umoci new --image "$layout:v1"
	for ((number = 1; number <= IMAGE_LAYERS; number++)); do
		mkdir "$work/image/$number"
		(cd "$work/image/$number" && umask 022 && "layer_$number")
		add_layer "$layout:v1" "$work/image/$number"
	done
	umoci config --image "$layout:v1" --config.cmd /app/start --config.workingdir /
	tar -C "$layout" -cf "$1" .
	rm -rf "$work/image"
}

# add_layer IMAGE DIRECTORY: the directory as it stands, ".wh." files and all, becomes the next layer.
add_layer() {
	tar --create --file "$2.tar" --directory "$2" --format=posix --xattrs --xattrs-include='*' --numeric-owner --sort=name .
	umoci raw add-layer --image "$1" "$2.tar"
}

layer_1() {
	local applet
	mkdir -p bin dev etc opt/data proc srv/cache sys tmp
	install -m 0755 "$(static_busybox)" bin/busybox
	for applet in $APPLETS; do ln bin/busybox "bin/$applet"; done
	cp bin/busybox bin/su && chmod 4755 bin/su
	chmod 1777 tmp
	printf 'root:x:0:0:root:/:/bin/sh\n' >etc/passwd
	printf 'kept\n' >opt/data/kept
	printf 'removed\n' >opt/data/removed
	printf '1\n' >srv/cache/one
	printf '2\n' >srv/cache/two
}

layer_2() {
	mkdir -p opt/data srv/cache
	: >opt/data/.wh.removed
	: >srv/cache/.wh..wh..opq
	printf 'fresh\n' >srv/cache/fresh
}

layer_3() {
	mkdir -p app/bin app/lib
	printf '%s\n' "$STORY_TEXT" >"$STORY_FILE"
	setfattr -n user.origin -v layer-3 "$STORY_FILE"
	printf 'shared\n' >app/lib/tool
	ln app/lib/tool app/bin/tool
	ln -s ../message app/lib/link
	chown 1000:1001 app/lib/tool
}

layer_4() {
	mkdir -p -m 0750 app
	printf '#!/bin/sh\ncat /%s\n' "$STORY_FILE" >app/start
	chmod 0755 app/start
}

# import_image FILE: imports the archive and unpacks it into our snapshots.
import_image() {
	ctr images import --base-name "${IMAGE%:*}" --snapshotter continuity "$1"
}

# top_of REFERENCE: the chain ID of an image, which its top snapshot is called by.
top_of() {
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
