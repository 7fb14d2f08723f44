# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Images of odd layers: what tars can say, and what containerd makes of it.

readonly ODD=continuity.test/odd

# odd_image NAME LAYERS...: an archive NAME.tar of the image $ODD:NAME; each layer is a function that fills the directory
# "tree" and writes its tar to the file that it is given.
odd_image() {
	local name=$1 layout=$PWD/layout-$1 layer
	shift
	umoci init --layout "$layout"
	umoci new --image "$layout:$name"
	for layer in "$@"; do
		rm -rf tree
		mkdir tree
		(cd tree && umask 022 && "$layer" ../layer.tar)
		umoci raw add-layer --image "$layout:$name" --history.created_by "$layer" layer.tar
	done
	tar -C "$layout" -cf "$name.tar" .
	rm -rf "$layout" tree layer.tar
}

# odd_images: an archive of each kind of oddity.
odd_images() {
	odd_image parents odd_base odd_parents odd_empty
	odd_image whiteouts odd_base odd_whiteouts
	odd_image types odd_base odd_types odd_types_again
	odd_image names odd_base odd_names odd_names_gnu
	odd_image sparse odd_base odd_sparse_pax odd_sparse_old_pax
	odd_image links odd_base odd_links odd_duplicates
	odd_image escapes odd_base odd_escapes
	odd_image mendable odd_base odd_mendable odd_start
}

# pack FILE [OPTIONS...]: the directory as it stands.
pack() {
	local file=$1
	shift
	tar --create --file "$file" --format=posix --xattrs --xattrs-include='*' --numeric-owner --sort=name "$@" .
}

# The layer that the others stand on: busybox, and one of everything.
odd_base() {
	layer_1
	mkdir -p usr/share/doc -m 0711
	chown 5:6 usr/share
	setfattr -n user.kind -v documents usr/share/doc
	printf 'one\n' >usr/share/doc/one
	printf 'two\n' >usr/share/doc/two
	ln usr/share/doc/two usr/share/doc/two-again
	printf 'capable\n' >bin/capable
	setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= bin/capable
	mknod dev/null c 1 3
	mknod dev/disk b 8 1
	mkfifo srv/fifo
	ln -s ../usr/share srv/link
	printf 'far\n' >srv/far
	chown 3000000:4000000 srv/far
	mkdir -p becomes/file becomes/again
	printf 'x\n' >becomes/file/x
	printf 'directory\n' >becomes/directory
	chmod 2755 becomes
	pack "$1"
}

# Parents that no entry describes, of directories that are there and of those that are not.
odd_parents() {
	mkdir -p usr/share/doc new/deep/er
	printf 'three\n' >usr/share/doc/three
	printf 'deep\n' >new/deep/er/file
	tar --create --file "$1" --format=posix --numeric-owner --no-recursion usr/share/doc/three new/deep/er/file
}

odd_whiteouts() {
	mkdir -p usr/share/doc srv/cache
	: >usr/share/doc/.wh.one
	: >usr/share/doc/.wh.two
	: >usr/share/doc/.wh.never-was
	: >srv/cache/.wh..wh..opq
	printf 'fresh\n' >srv/cache/fresh
	pack "$1"
}

# A file where a directory was, and a directory where a file was.
odd_types() {
	mkdir -p becomes/directory
	printf 'y\n' >becomes/directory/y
	printf 'file\n' >becomes/file
	ln -s elsewhere becomes/again
	chmod 2755 becomes
	pack "$1"
}

# And back.
odd_types_again() {
	mkdir -p becomes/file becomes/again
	printf 'z\n' >becomes/file/z
	printf 'directory no more\n' >becomes/directory
	chmod 0700 becomes
	pack "$1"
}

# Names that do not fit into a header, in both ways of writing them.
odd_names() {
	local long
	long=$(printf 'n%.0s' {1..200})
	mkdir -p "long/$long/$long"
	printf 'long\n' >"long/$long/$long/file"
	ln -s "$long/$long" "long/link"
	ln "long/$long/$long/file" "long/hard"
	pack "$1"
}

odd_names_gnu() {
	local long
	long=$(printf 'g%.0s' {1..200})
	mkdir -p "gnu/$long"
	printf 'long\n' >"gnu/$long/file"
	ln "gnu/$long/file" gnu/hard
	ln -s "$long/$long" gnu/link
	tar --create --file "$1" --format=gnu --numeric-owner --sort=name .
}

# Sparse files in the forms of PAX records; containerd refuses GNU's own.
odd_sparse_pax() {
	sparse_files new
	tar --create --file "$1" --format=posix --sparse --sparse-version=1.0 --numeric-owner --sort=name .
}

odd_sparse_old_pax() {
	sparse_files old
	tar --create --file "$1" --format=posix --sparse --sparse-version=0.1 --numeric-owner --sort=name .
}

# sparse_files NAME: few holes, many holes, nothing but a hole.
sparse_files() {
	local n
	mkdir -p "sparse-$1"
	truncate -s 3M "sparse-$1/hole"
	printf 'end' | dd of="sparse-$1/end" bs=1 seek=1000000 status=none
	for n in {0..60}; do printf 'data %s' "$n" | dd of="sparse-$1/many" bs=1 seek=$((n * 65536)) conv=notrunc status=none; done
}

# The same name twice: the last one counts.
odd_duplicates() {
	mkdir -p dup
	printf 'first\n' >dup/file
	ln -s first dup/link
	tar --create --file "$1" --format=posix --numeric-owner .
	printf 'second, longer\n' >dup/file
	rm dup/link
	printf 'no link\n' >dup/link
	tar --append --file "$1" --format=posix --numeric-owner ./dup/file ./dup/link
}

# Hard links whose names come before and after, to a file with an attribute that an owner's change takes away.
odd_links() {
	mkdir -p links/a links/b
	printf 'linked\n' >links/b/file
	chown 7:8 links/b/file
	setfattr -n user.origin -v links links/b/file
	setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= links/b/file
	chmod 4755 links/b/file
	ln links/b/file links/a/first
	ln links/b/file links/z
	ln -s target links/symlink
	ln links/symlink links/symlink-again
	pack "$1"
}

# The layer itself is named, and nothing else.
odd_empty() { pack "$1"; }

# Names that want to lead out: what containerd unpacks of them lies beneath the root.
odd_escapes() {
	mkdir -p in/side
	printf 'contained\n' >in/side/file
	tar --create --file "$1" --format=posix --numeric-owner --absolute-names \
		--transform 's,in/side/file,../../outside,' in/side/file
	tar --append --file "$1" --format=posix --numeric-owner --absolute-names \
		--transform 's,in/side/file,/absolute/file,' in/side/file
}

# One of many.
odd_small() {
	mkdir -p many
	printf '%s\n' "$RANDOM" >"many/$RANDOM"
	printf '%s\n' "$RANDOM" >many/last
	pack "$1"
}

# What can be damaged: one of every kind, whiteouts, an opaque directory.
odd_mendable() {
	mkdir -p app/bin app/lib opt/data srv/cache
	printf '%s\n' "$STORY_TEXT" >app/note
	setfattr -n user.origin -v layer-2 app/note
	printf 'capable\n' >app/capable
	setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= app/capable
	mknod app/device c 1 3
	printf 'shared\n' >app/lib/tool
	ln app/lib/tool app/bin/tool
	chown 1000:1001 app/lib/tool
	ln -s ../note app/lib/link
	: >opt/data/.wh.removed
	: >srv/cache/.wh..wh..opq
	printf 'fresh\n' >srv/cache/fresh
	pack "$1"
}

odd_start() {
	mkdir -p -m 0750 app
	printf '#!/bin/sh\ncat /app/note\n' >app/start
	chmod 0755 app/start
	pack "$1"
}
