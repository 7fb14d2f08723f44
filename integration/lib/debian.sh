# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A Debian, as debootstrap installs it and umoci packs it, with three more layers: files changed, deleted, added.

readonly DEBIAN=continuity.test/debian

# The machine's own release, from where the machine itself gets it. Prints suite and mirror; the mirror is empty where
# apt does not tell, then debootstrap knows one.
debian_source() {
	local suite mirror
	# shellcheck source=/dev/null
	suite=$(source /etc/os-release && say "${VERSION_CODENAME:?this system names no release that debootstrap could install}")
	mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }')
	say "$suite $mirror"
}

# debian_layout LAYOUT: an OCI layout with the image "debian"; takes the directory "bundle" beside it.
debian_layout() {
	local layer bundle
	bundle=$(dirname "$1")/bundle
	umoci init --layout "$1"
	umoci new --image "$1:debian"
	umoci unpack --image "$1:debian" "$bundle"
	for layer in debian_base debian_changed debian_deleted debian_added; do
		(cd "$bundle/rootfs" && umask 022 && "$layer")
		umoci repack --refresh-bundle --history.created_by "$layer" --image "$1:debian" "$bundle"
	done
	rm -rf "$bundle"
}

# ping has its right to raw sockets from a capability that its package sets.
debian_base() {
	local suite mirror
	read -r suite mirror <<<"$(debian_source)"
	debootstrap --variant=minbase --include=iputils-ping,libcap2-bin "$suite" "$PWD" ${mirror:+"$mirror"}
	rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/*
}

debian_changed() {
	printf 'changed\n' >>etc/issue
	chmod 0700 root
	chmod 4755 usr/bin/id
	touch usr/bin/env
	chown -R 3000000:4000000 srv
	chown 2097153:2097154 etc/hostname
	ln usr/bin/perl usr/local/bin/perl-of-another-layer
	setcap cap_net_bind_service=+ep usr/bin/dpkg
	setfattr -n user.origin -v changed etc/passwd
	rm dev/null
	mknod -m 0600 dev/null c 1 5
}

debian_deleted() {
	rm -r usr/share/doc usr/share/locale
	rm usr/bin/perl
	# A directory becomes a file, a symlink a directory, a directory another one of the same name.
	rm -r var/backups
	printf 'no directory\n' >var/backups
	rm var/run
	mkdir var/run
	rm -r opt
	mkdir -m 0750 opt
	rm -f etc/hostname dev/zero
}

debian_added() {
	local long
	long=$(printf 'n%.0s' {1..180})
	mkdir -p opt/app/lib "opt/app/$long/$long" usr/share/doc/new
	printf 'tool\n' >opt/app/lib/tool
	ln opt/app/lib/tool opt/app/tool
	ln opt/app/lib/tool usr/local/bin/tool
	chmod 6755 opt/app/lib/tool
	printf 'deep\n' >"opt/app/$long/$long/file"
	printf 'odd\n' >$'opt/app/a name\twith \\ and \xc3\xa4'
	ln -s "../$long" opt/app/link
	ln -s /nowhere/at/all opt/app/dangling
	mkfifo opt/app/fifo
	mknod dev/continuity c 240 70000
	mknod -m 0660 dev/disk b 259 3
	cp bin/cat opt/app/capable
	setcap cap_net_raw,cap_sys_time=+ep opt/app/capable
	chown 4294967294:2147483648 usr/share/doc/new
	truncate -s 5M opt/app/sparse
	: >opt/app/empty
}
