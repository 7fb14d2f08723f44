# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Newer containerds beside the machine's own: packages of later Debian suites, unpacked into directories of their own,
# not installed. They come from where the machine itself comes from, through an apt with lists and a cache of its own:
#
#   1.6   the machine's own, whatever its version is
#   1.7   of trixie
#   2.1   of forky, or what has become of it there: a suite moves on, and nothing is pinned
#
# CONTINUITY_CACHE names a directory in which lists and packages outlive a run; without it they lie beneath $work.

# "version suite", a line each.
readonly CONTAINERDS='1.6 machine
1.7 trixie
2.1 forky'

readonly DEBIAN_KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

# suite_of_containerd VERSION: prints it.
suite_of_containerd() { awk -v version="$1" '$1 == version { print $2 }' <<<"$CONTAINERDS"; }

# containerd_lacks VERSION: fetches it, and prints why that failed, if it did. The second time nothing is fetched.
containerd_lacks() {
	local suite place
	suite=$(suite_of_containerd "$1")
	[[ $suite != machine ]] || return 0
	place=$work/containerds/$suite
	mkdir -p "$place"
	if [[ ! -e $place/usr/bin/containerd && ! -e $place.missing ]]; then
		unpack_of_suite "$suite" containerd "$place" >"$place.log" 2>&1 ||
			say "containerd $1 cannot be had from Debian $suite: $(why "$place.log")" >"$place.missing"
	fi
	if [[ -e $place.missing ]]; then cat "$place.missing"; fi
}

# why LOG: apt's first complaint.
why() { grep -m 1 '^[EW]: ' "$1" || tail -n 1 "$1"; }

# unpack_of_suite SUITE PACKAGE DIRECTORY: as apt knows the package today. What the cache has needs no network.
unpack_of_suite() (
	local place=${CONTINUITY_CACHE:-$work/containerds/cache}/$1 mirror file
	read -r _ mirror <<<"$(debian_source)"
	[[ -n $mirror ]] || {
		say "apt does not say where this system comes from"
		return 1
	}
	mkdir -p "$place"/{lists/partial,archives/partial,packages}
	say "deb [signed-by=$DEBIAN_KEYS] $mirror $1 main" >"$place/sources.list"
	apt_of_suite "$1" update || say "the lists could not be refreshed"
	# Nothing is printed of a file that lies where apt would put it.
	cd "$place" || return 1
	file=$(apt_of_suite "$1" --print-uris download "$2" | awk 'NF == 4 { print $2 }')
	[[ -n $file ]] || return 1
	cd packages || return 1
	apt_of_suite "$1" download "$2" || [[ -e $file ]] || return 1
	dpkg -x "$file" "$3"
)

# apt_of_suite SUITE ARGUMENTS...: an apt-get that knows this suite only, and leaves the machine's own lists alone.
apt_of_suite() {
	local place=${CONTINUITY_CACHE:-$work/containerds/cache}/$1
	shift
	apt-get --quiet --option "Dir::Etc::SourceList=$place/sources.list" --option Dir::Etc::SourceParts=/dev/null \
		--option "Dir::State::Lists=$place/lists" --option "Dir::Cache=$place" --option APT::Sandbox::User=root \
		--option "APT::Architectures=$(dpkg --print-architecture)" --option Acquire::Languages=none \
		--option Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

# use_containerd VERSION: from now on this shell's containerd, ctr and shim are of that version. It must be there.
use_containerd() {
	local suite
	suite=$(suite_of_containerd "$1")
	[[ $suite == machine ]] || export PATH="$work/containerds/$suite/usr/bin:$PATH"
}

# need_containerd VERSION: the same, for a case that is skipped where that version cannot be had.
need_containerd() {
	local missing
	missing=$(containerd_lacks "$1")
	[[ -z $missing ]] || skip "$missing"
	use_containerd "$1"
}

# serve_with VERSION: our daemon and the containerd of PATH, which is of that version, run afresh; what a case before
# this one started with the same version goes on.
serve_with() {
	[[ $(cat "$work/serves" 2>/dev/null) != "$1" ]] || return 0
	leave_services
	start_daemon
	start_containerd
	say "$1" >"$work/serves"
	note "containerd $(containerd --version | cut -d' ' -f3)"
}

leave_services() {
	rm -f "$work/serves"
	stop_containerd
	stop_daemon
	rm -rf "$work/containerd" "$work/continuity"
}
