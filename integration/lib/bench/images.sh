# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Images: deriving a manifest, unpacking through containerd.

readonly BENCH_IMAGE=continuity.test/bench:v1

# Debian packages that make the second layer.
readonly SECOND_LAYER='python3.11-minimal libpython3.11-stdlib git perl-modules-5.36 libicu72'

# make_bench_image: an image of three layers as $work/bench.tar and as the layout $work/layout; once.
#   1  a Debian root filesystem (--quick: files as in /usr)
#   2  more packages             (--quick: more files)
#   3  what they brought of documentation removed by whiteouts, a file changed
make_bench_image() {
	local layer
	[[ ! -e $work/bench.tar ]] || return 0
	mkdir -p "$work/image"
	umoci init --layout "$work/layout"
	umoci new --image "$work/layout:v1"
	if [[ -n $quick ]]; then small_layers; else debian_layers; fi
	mkdir -p "$work/image/3/usr/share" "$work/image/3/etc"
	: >"$work/image/3/usr/share/.wh.doc"
	say changed >"$work/image/3/etc/issue"
	for layer in 1 2 3; do
		add_layer "$work/layout:v1" "$work/image/$layer"
		rm -rf "$work/image/$layer"
	done
	tar -C "$work/layout" -cf "$work/bench.tar" .
}

small_layers() {
	bench-tool make usr $((usr_files / 3)) "$work/image/1"
	mkdir -p "$work/image/1/usr/share/doc" "$work/image/1/etc"
	bench-tool make usr $((usr_files / 10)) "$work/image/2"
}

# debootstrap's modes of /dev need no device here; the packages of the second layer are unpacked, not installed.
debian_layers() {
	local package mirror release
	# shellcheck source=/dev/null
	release=$(source /etc/os-release && say "$VERSION_CODENAME")
	mirror=$(grep -hoE '(http|https)://[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		grep -vE 'security|snapshot' | head -n 1 || true)
	debootstrap --variant=minbase "$release" "$work/image/1" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1 || {
		tail "$work/debootstrap.log" >&2
		die "debootstrap failed"
	}
	mkdir -p "$work/image/2" "$work/image/packages"
	for package in $SECOND_LAYER; do
		(cd "$work/image/packages" && apt-get -o APT::Sandbox::User=root download "$package" >/dev/null)
	done
	for package in "$work"/image/packages/*.deb; do dpkg -x "$package" "$work/image/2"; done
}

# The layers' blobs, first to last.
layer_blobs() {
	local manifest
	manifest=$(jq -r '.manifests[0].digest' "$work/layout/index.json")
	jq -r '.layers[].digest' "$work/layout/blobs/sha256/${manifest#sha256:}" | sed "s|sha256:|$work/layout/blobs/sha256/|"
}

bench_derive() {
	local blobs
	make_bench_image
	start_services
	ctr images import --no-unpack --base-name "${BENCH_IMAGE%:*}" "$work/bench.tar" >/dev/null
	blobs=$(layer_blobs | tr '\n' ' ')
	turns derive "$rounds" --after "rm -rf $work/bundle" -- \
		floor "exec bench-tool inflate $blobs" \
		continuity "exec continuity --quiet --containerd-address $containerd_socket image manifest $BENCH_IMAGE -o /dev/null" \
		umoci"${quick:+=1}" "exec umoci unpack --image $work/layout:v1 $work/bundle"
	stop_services
}

# The blobs are in the content store already: what is measured is the unpacking.
bench_unpack() {
	local import="exec ctr images import --base-name ${BENCH_IMAGE%:*}"
	make_bench_image
	start_services
	ctr images import --no-unpack --base-name "${BENCH_IMAGE%:*}" "$work/bench.tar" >/dev/null
	turns unpack "$rounds" --after "exec bash -c 'source $integration/lib.sh && source $integration/lib/bench/images.sh && drop_snapshots'" -- \
		overlayfs "$import --snapshotter overlayfs $work/bench.tar" \
		continuity "$import --snapshotter continuity $work/bench.tar"
	stop_services
}

# Removes every snapshot of the default namespace; runs in a shell of its own.
drop_snapshots() {
	local snapshotter key keys
	for snapshotter in overlayfs continuity; do
		while keys=$(ctr snapshots --snapshotter "$snapshotter" ls | awk 'NR > 1 { print $1 }') && [[ -n $keys ]]; do
			for key in $keys; do ctr snapshots --snapshotter "$snapshotter" rm "$key" 2>/dev/null || true; done
		done
	done
	ctr leases delete --sync "$(ctr leases create)" >/dev/null
}
