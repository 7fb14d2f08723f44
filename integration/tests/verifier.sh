# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a Prepare or a View does while a layer is checked: its deadline, and who shares the check.

# Bytes of a layer whose check takes longer than DEADLINE.
readonly LARGE=3G
readonly DEADLINE=300ms

suite_setup() {
	local source
	use_daemon_home "$work/verifier"
	mkdir -p "$daemon_home"
	printf '[verify]\ndeadline = "%s"\n' "$DEADLINE" >"$daemon_home/config.toml"
	start_daemon --config "$daemon_home/config.toml"
	client prepare large-active '' >/dev/null
	source=$(client mounts large-active | jq -r '.[0].source')
	truncate -s "$LARGE" "$source/file"
	say small >"$source/small"
	client commit large large-active
	wait_until "$SERVICE_SECONDS" state_is sealed || fail "large is not sealed"
}

suite_teardown() {
	use_daemon_home "$work/verifier"
	stop_daemon
	rm -rf "$work/verifier"
}

client() { snapclient -address "$snapshots_socket" "$@"; }

state_is() { client list name==large | cut -f4 | grep -qx "$1"; }

case_past_the_deadline_a_view_passes_and_the_check_goes_on() {
	local began=${EPOCHREALTIME/./}
	use_daemon_home "$work/verifier"
	: >"$daemon_home/log"
	client view late large >/dev/null
	below "milliseconds" $(((${EPOCHREALTIME/./} - began) / 1000)) 1000
	holds "$daemon_home/log" "not verified within $DEADLINE"
	client remove late
	wait_until "$SERVICE_SECONDS" state_is verified || fail "the check did not go on"
}

case_what_the_late_check_found_refuses_the_next() {
	use_daemon_home "$work/verifier"
	flip_byte "$(layer_file small)" 0
	client view late large >/dev/null
	client remove late
	wait_until "$SERVICE_SECONDS" state_is damaged || fail "the damage was not found"
	exits 1 client view refused large >out 2>&1
	holds out "damaged when it was last checked"
	flip_byte "$(layer_file small)" 0
	exits 0 ask snapshot verify large
	client view passes large >/dev/null
	client remove passes
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)"
}

# Twenty who come at once read the layer once: as long as one of them, not twenty times as long.
case_a_check_is_shared() {
	local before number
	use_daemon_home "$work/verifier"
	before=$(cpu_ticks "$(daemon_pid)")
	client view alone large >/dev/null
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)"
	alone=$(($(cpu_ticks "$(daemon_pid)") - before))
	before=$(cpu_ticks "$(daemon_pid)")
	for number in {1..20}; do client view "shared-$number" large >/dev/null & done
	wait
	wait_until "$SERVICE_SECONDS" is_idle "$(daemon_pid)"
	below "hundredths of a second for twenty, $alone for one" $(($(cpu_ticks "$(daemon_pid)") - before)) $((4 * alone))
}

# A daemon that is killed while it checks marks nothing, and the next one goes on.
case_killed_while_it_checks() {
	use_daemon_home "$work/verifier"
	ask snapshot verify large >out 2>&1 &
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)" || fail "the daemon does not check"
	kill_daemon
	same "$(wait "$!" && echo 0 || echo $?)" 2
	start_daemon --config "$daemon_home/config.toml"
	exits 0 ask snapshot verify large
}
