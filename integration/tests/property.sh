# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Random images of everything that tars and configs can say, unpacked by containerd: intact as they are, and every random
# damage found, named, laid to its layer and repaired. SEED is the first image's, COUNT how many there are: containerd
# refuses one of six, and more than 200 are left. WITHOUT are the features that they do not have. A failure prints its seed.

suite_setup() {
	start_daemon
	start_containerd
}

suite_teardown() {
	stop_containerd
	stop_daemon
	rm -rf "$work/containerd" "$work/continuity"
}

case_random_images() {
	local program code=0 seed=${SEED:-1} count=${COUNT:-260}
	local -a options=()
	find_cargo
	program=$(run_cargo build --locked --quiet --example property --message-format=json |
		jq -r 'select(.target.name == "property" and .executable != null) | .executable')
	if containerd_has 2.0; then options+=(--import-option=--local); fi
	note "seed $seed, $count images${WITHOUT:+ without $WITHOUT}"
	"$program" --containerd "$containerd_socket" --daemon "$continuity_socket" --work "$PWD" --seed "$seed" \
		--count "$count" --without "${WITHOUT:-}" "${options[@]}" ${SHOW:+--show} >log 2>&1 || code=$?
	note "$(tail -n 1 log)"
	grep -v ': refused: ' log
	return "$code"
}
