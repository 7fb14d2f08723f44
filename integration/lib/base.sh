# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Words, waiting, and the names of things beneath the temporary directory.

# How often a condition that is waited for is looked at, in seconds.
readonly POLL_SECONDS=0.02

say() { printf '%s\n' "$*"; }

warn() { printf '%s\n' "$*" >&2; }

die() {
	warn "${0##*/}: $*"
	exit 2
}

# fail MESSAGE: ends the case that runs.
fail() {
	warn "assertion failed: $*"
	exit 1
}

# wait_until SECONDS COMMAND...: runs COMMAND until it succeeds; fails when the time is over.
wait_until() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || return 1
		sleep "$POLL_SECONDS"
	done
}

# exits CODE COMMAND...: fails unless COMMAND exits with CODE. Its output goes where output goes.
exits() {
	local want=$1 got=0
	shift
	"$@" || got=$?
	[[ $got == "$want" ]] || fail "exit code $got, not $want: $*"
}

# holds FILE TEXT: fails unless FILE holds TEXT, shown otherwise.
holds() {
	grep -qF -e "$2" "$1" || {
		head -c 4000 "$1" >&2
		fail "$1 lacks: $2"
	}
}

# lacks FILE TEXT: fails if FILE holds TEXT.
lacks() {
	if grep -F -e "$2" "$1" >&2; then fail "$1 holds: $2"; fi
}

# same A B: fails unless the words are equal.
same() { [[ $1 == "$2" ]] || fail "got '$1', not '$2'"; }

# peak_kib FILE COMMAND...: runs COMMAND; its peak resident memory in KiB goes to FILE, its exit code is kept.
peak_kib() {
	local file=$1
	shift
	/usr/bin/time --quiet -f %M -o "$file" "$@"
}

# below WHAT NUMBER LIMIT
below() {
	say "$1: $2 (limit $3)"
	(($2 < $3)) || fail "$1 is $2, limit $3"
}

# rss_kib PID: resident memory now, in KiB.
rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }

# cpu_ticks PID: processor time used so far, in hundredths of a second.
cpu_ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# is_busy PID: whether it used the processor for most of a tenth of a second just now.
is_busy() {
	local before
	before=$(cpu_ticks "$1")
	sleep 0.1
	(($(cpu_ticks "$1") - before >= 5))
}

is_idle() {
	local before
	before=$(cpu_ticks "$1")
	sleep 0.5
	(($(cpu_ticks "$1") - before <= 1))
}
