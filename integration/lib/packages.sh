# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What must be installed: installed with apt on Debian and Ubuntu, listed elsewhere.

# One line each: what must exist (a command, or a path that begins with "/"), and the package that has it.
readonly NEEDED='
containerd containerd
ctr containerd
runc runc
umoci umoci
go golang-go
/usr/share/gocode/src/github.com/containerd/containerd/snapshots/testsuite golang-github-containerd-containerd-dev
/usr/share/gocode/src/github.com/containerd/continuity/manifest.go golang-github-containerd-continuity-dev
cc gcc
/usr/include/stdlib.h libc6-dev
setfattr attr
jq jq
zstd zstd
debootstrap debootstrap
mkfs.btrfs btrfs-progs
mkfs.ext4 e2fsprogs
mkfs.erofs erofs-utils
/usr/bin/time time
tar tar
unshare util-linux
readelf binutils
valgrind valgrind
setpriv util-linux
mount mount
pigz pigz
setfacl acl
mkfs.xfs xfsprogs
/etc/ssl/certs ca-certificates
'

# The packages of NEEDED whose thing is not there, one a line.
missing_packages() {
	local thing package
	while read -r thing package; do
		case $thing in
		'') ;;
		/*) [[ -e $thing ]] || say "$package" ;;
		*) command -v "$thing" >/dev/null || say "$package" ;;
		esac
	done <<<"$NEEDED" | sort -u
	[[ -n $(static_busybox) ]] || say busybox-static
}

# Path of a busybox that needs no libraries, if there is one.
static_busybox() {
	local candidate
	for candidate in "${work:-/nonexistent}/busybox/bin/busybox" "$(command -v busybox || true)" /bin/busybox; do
		if [[ -x $candidate ]] && ! ldd "$candidate" >/dev/null 2>&1; then
			say "$candidate"
			return 0
		fi
	done
	return 0
}

# Makes sure that everything is there. Installs only what is missing and removes nothing: a machine that runs
# Docker's containerd keeps it.
need_packages() {
	local missing
	missing=$(missing_packages)
	[[ -n $missing ]] || return 0
	command -v apt-get >/dev/null || die "install these first (names as in Debian): ${missing//$'\n'/ }"
	say "installing: ${missing//$'\n'/ }"
	apt_install "$missing" >"$work/apt.log" 2>&1 || {
		cat "$work/apt.log" >&2
		die "apt-get could not install: ${missing//$'\n'/ }"
	}
	missing=$(missing_packages)
	[[ -z $missing ]] || die "installed, and still missing: ${missing//$'\n'/ }"
}

apt_install() {
	local -a packages=()
	export DEBIAN_FRONTEND=noninteractive
	apt-get update
	# busybox-static would replace an installed busybox: unpacked beside it instead.
	if grep -qx busybox-static <<<"$1"; then
		mkdir -p "$work/busybox"
		(cd "$work/busybox" && apt-get -o APT::Sandbox::User=root download busybox-static && dpkg -x ./*.deb .)
	fi
	mapfile -t packages < <(grep -vx busybox-static <<<"$1" || true)
	((${#packages[@]} == 0)) || apt-get install --yes --no-install-recommends --no-remove "${packages[@]}"
}
