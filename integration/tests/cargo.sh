# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What cargo checks: format, lints, unit and golden tests.

suite_setup() { find_cargo; }

case_fmt() { find_cargo && run_cargo fmt --check; }

case_clippy() { find_cargo && run_cargo clippy --quiet --locked --all-targets -- -D warnings; }

# Built as the owner of the toolchain, run as root: some tests make devices and owners.
case_test() {
	local binary
	find_cargo
	run_cargo test --locked --no-run --quiet --message-format=json |
		jq -r 'select(.profile.test == true and .executable != null) | .executable' >binaries
	[[ -s binaries ]] || fail "no test was built"
	while read -r binary; do
		(cd "$repository" && "$binary" --quiet)
	done <binaries
}

case_doc() { find_cargo && run_cargo test --locked --quiet --doc; }
