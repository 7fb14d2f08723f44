# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A private world: one temporary directory, a mount namespace and a process namespace.
#
#   outside                       inside (process 1 of the namespace)
#   mktemp, wait, remove   ───▶   mounts, containerd, daemons, containers
#
# If the inside ends in whatever way, its processes and mounts are gone. If the outside dies, its death signal
# ends the inside, and only the directory stays. The machine's own /run/containerd, containerd and systemd are never
# seen from inside.

# Set inside: the temporary directory.
work=${CONTINUITY_WORK:-}

# in_private_world COMMAND ARGUMENTS...: runs COMMAND inside with $work set, and exits with its code.
in_private_world() {
	[[ $(id -u) == 0 ]] || die "run this as root: sudo $0"
	local made_run="" code=0
	work=$(mktemp -d "${TMPDIR:-/var/tmp}/continuity-test.XXXXXX")
	# Others may pass through, not look around: some cases run as nobody.
	chmod 0711 "$work"
	[[ -d /run/containerd ]] || { mkdir /run/containerd && made_run=yes; }
	export CONTINUITY_WORK=$work
	# shellcheck disable=SC2064 # the values of now
	trap "leave_private_world '$work' '$made_run'" EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
		bash -c 'source "$0" && enter_private_world && "$@"' "$integration/lib.sh" "$@" &
	inside=$!
	wait "$inside" || code=$?
	inside=""
	exit "$code"
}

# Runs as process 1 inside.
enter_private_world() {
	set -euo pipefail
	mkdir "$work/run-containerd"
	mount --bind "$work/run-containerd" /run/containerd
	hide_systemd
}

# Package scripts start services only where /run/systemd/system exists. The resolver's files stay.
hide_systemd() {
	[[ -d /run/systemd/system ]] || return 0
	mkdir -p "$work/resolve"
	if [[ -d /run/systemd/resolve ]]; then mount --bind /run/systemd/resolve "$work/resolve"; fi
	mount -t tmpfs -o mode=0755 none /run/systemd
	mkdir /run/systemd/resolve
	mount --bind "$work/resolve" /run/systemd/resolve
}

# Outside, whatever happened: ends the inside, then removes what is on disk.
leave_private_world() {
	trap '' INT TERM
	if [[ -n ${inside:-} ]]; then
		kill -KILL "$inside" 2>/dev/null || true
		wait "$inside" 2>/dev/null || true
	fi
	remove_cgroups "$(basename "$1")"
	if grep -qF " $1" /proc/self/mountinfo; then
		warn "something is still mounted beneath $1: left alone"
		return 0
	fi
	rm -rf --one-file-system "$1"
	if [[ -n $2 ]]; then rmdir /run/containerd 2>/dev/null || true; fi
}

# Containers run in cgroups beneath one that is named after the temporary directory.
remove_cgroups() {
	local tries=0
	until [[ -z $(find /sys/fs/cgroup -type d -path "*/$1" 2>/dev/null) ]]; do
		find /sys/fs/cgroup -depth -type d -path "*/$1*" -exec rmdir {} \; 2>/dev/null || true
		((++tries < 50)) || break
		sleep "$POLL_SECONDS"
	done
}
