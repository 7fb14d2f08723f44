# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Layers as filesystems in files, which containerd's mount manager mounts: the erofs snapshotter of containerd 2.2.

suite_lacks() {
	containerd_has 2.2 || say "$(containerd --version | cut -d' ' -f3) of containerd has no mount manager; 2.2 has"
	grep -qw erofs /proc/filesystems || modprobe erofs 2>/dev/null || say "the kernel has no erofs"
}

suite_setup() {
	start_story
	mkdir -p "$work/odd"
	cd "$work/odd"
	odd_images
}

suite_teardown() {
	stop_story
	rm -rf "$work/odd"
}

image() { env -u CONTAINERD_SNAPSHOTTER continuity --containerd-address "$containerd_socket" image "$@"; }

# layer_with FILE: the file of the layer that has FILE, of those that were unpacked.
layer_with() {
	local layer
	mkdir -p layer
	for layer in "$work"/containerd/root/io.containerd.snapshotter.v1.erofs/snapshots/*/layer.erofs; do
		mount -t erofs -o loop,ro "$layer" layer
		if [[ -e layer/$1 ]]; then
			rm -rf unpacked
			cp -a layer unpacked
			umount layer
			say "$layer"
			return
		fi
		umount layer
	done
	fail "no layer has $1"
}

unpack() { ctr images import --base-name "$ODD" --snapshotter erofs "$work/odd/$1.tar"; }

each_intact=(parents whiteouts types names sparse links escapes mendable)
case_intact() {
	unpack "$1"
	exits 0 image verify "$ODD:$1" --snapshotter erofs >verdict
	holds verdict "$ODD:$1 in erofs: intact"
	nothing_is_left
}

case_damage_is_laid_to_its_layer() {
	local layer
	unpack mendable
	layer=$(layer_with app/device)
	flip_byte unpacked/app/note 5
	touch unpacked/app/extra
	chattr -i "$layer"
	mv "$layer" saved
	on_leave='rm -f "$layer"; mv saved "$layer"'
	mkfs.erofs "$layer" unpacked
	exits 1 image verify "$ODD:mendable" --snapshotter erofs >findings
	grep -E '^/app/note: digest: .* \(layer 2 sha256:' findings
	grep -E '^/app/extra: extra: .* \(layer 2 sha256:' findings
	exits 2 image repair "$ODD:mendable" --snapshotter erofs --root "$PWD/state" 2>error
	holds error 'no directory of its layers to repair'
	nothing_is_left
}

case_what_a_container_changed() {
	unpack mendable
	ctr run --snapshotter erofs --runc-root "$work/runc" --cgroup "/$(basename "$work")/changed" "$ODD:mendable" changed \
		/bin/sh -c 'echo changed >/app/note'
	on_leave='ctr containers delete changed'
	exits 1 continuity --containerd-address "$containerd_socket" container diff changed >changes
	grep '^changed /app/note' changes
	nothing_is_left
}

# No lease, no view, and no mount of a layer.
nothing_is_left() {
	ctr leases ls >leases
	lacks leases continuity-
	ctr snapshots --snapshotter erofs ls >snapshots
	lacks snapshots continuity-
	grep "$work/containerd" /proc/self/mountinfo >mounts || true
	lacks mounts mount-manager
}
