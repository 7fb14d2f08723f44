# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A user namespace of 65,536 IDs with a mount namespace of its own, as rootless containerd lives in: root there is an
# ordinary user here. An anchor keeps it. All that runs inside has $userns_work for its $work, which belongs to that
# user, and with it the same functions as outside.

# The user and group that root inside is outside, and how many there are.
readonly USERNS_FIRST=100000 USERNS_IDS=65536

readonly userns_work=$work/userns

# make_userns: makes it, and puts the scripts where its users can read them.
make_userns() {
	local anchor
	mkdir -p "$userns_work"
	cp -r "$integration"/{lib.sh,lib,tests} "$userns_work/"
	chown -R "$USERNS_FIRST:$USERNS_FIRST" "$userns_work"
	setsid unshare --user --mount sleep infinity </dev/null >/dev/null 2>&1 &
	anchor=$!
	disown
	say "$anchor" >"$work/userns.pid"
	wait_until "$SERVICE_SECONDS" is_other_userns "$anchor" || die "no user namespace"
	say "0 $USERNS_FIRST $USERNS_IDS" >"/proc/$anchor/uid_map"
	say "0 $USERNS_FIRST $USERNS_IDS" >"/proc/$anchor/gid_map"
	in_userns mount -t tmpfs -o mode=0711 none /run/containerd
}

is_other_userns() { [[ $(readlink "/proc/$1/ns/user") != "$(readlink /proc/self/ns/user)" ]]; }

# in_userns COMMAND...: as root in there.
in_userns() { nsenter --target "$(cat "$work/userns.pid")" --user --mount --wdns="$userns_work" -- "$@"; }

# inside FUNCTION [ARGUMENTS...]: a function of the file of tests that runs, as a case of its own, in there.
inside() {
	in_userns env HOME="$userns_work" CONTINUITY_WORK="$userns_work" \
		bash "$userns_work/lib/case" "$userns_work/tests/$(basename "$tests_file")" "$@"
}

leave_userns() {
	stop_service "$work/userns.pid" KILL
	rm -rf "$userns_work"
}
