# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The Rust toolchain. sudo resets PATH and HOME, so it is looked for where rustup puts it; and if it belongs to
# the user who called sudo, it runs as that user: nothing owned by root is left in their target/ or registry.

# Set by find_cargo: how to call cargo, as an array.
cargo=()

find_cargo() {
	local home
	if [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
		home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
		if [[ -x $home/.cargo/bin/cargo ]]; then
			cargo=(runuser -u "$SUDO_USER" -- env HOME="$home" PATH="$home/.cargo/bin:$PATH" cargo)
			return
		fi
	fi
	if command -v cargo >/dev/null; then
		cargo=(cargo)
	elif [[ -x /usr/local/cargo/bin/cargo ]]; then
		cargo=(env RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH="/usr/local/cargo/bin:$PATH" cargo)
	else
		home=$(getent passwd root | cut -d: -f6)
		[[ -x $home/.cargo/bin/cargo ]] || die "no cargo found: install Rust (https://rustup.rs), then run this again"
		cargo=(env HOME="$home" PATH="$home/.cargo/bin:$PATH" cargo)
	fi
}

# run_cargo ARGUMENTS...: in the repository.
run_cargo() { (cd "$repository" && "${cargo[@]}" "$@"); }

# Builds the release binary, once, and puts it where every user may run it, first in PATH.
# CONTINUITY_BINARY names one that is built already.
build_continuity() {
	local built=${CONTINUITY_BINARY:-}
	if [[ -z $built ]]; then
		find_cargo
		run_cargo build --release --locked --quiet
		built=$(run_cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release/continuity
	fi
	mkdir -p "$work/bin"
	install -m 0755 "$built" "$work/bin/continuity"
	export PATH="$work/bin:$PATH"
}

# is_optimised BINARY: an unoptimised one says nothing of what users have.
is_optimised() { ! readelf --sections --wide "$1" | grep -F ' .debug_info ' >/dev/null; }
