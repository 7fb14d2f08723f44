# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# containerd's own suite for snapshotters, on our socket.

suite_setup() { go_test conformance; }

# Every case of the suite passes; Rename may skip, as it does for containerd's own overlay.
case_snapshotter_suite() {
	local -a skipped
	use_daemon_home "$PWD/daemon"
	start_daemon
	CONTINUITY_SNAPSHOTS_ADDRESS=$snapshots_socket TMPDIR=$PWD conformance.test -test.v -test.root >results 2>&1 || {
		cat results
		fail "the suite failed"
	}
	say "passed: $(grep -c -- '--- PASS: .*/' results), skipped: $(grep -c -- '--- SKIP' results || true)"
	(($(grep -c -- '--- PASS: .*/' results) >= 20)) || fail "fewer cases than the suite has"
	! grep -- '--- SKIP' results | grep -v Rename || fail "a case was skipped"
	stop_daemon
}
