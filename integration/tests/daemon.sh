# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The daemon as a service: sockets, signals, configuration, one per root.

# Every case has a daemon of its own.
fresh_daemon() {
	use_daemon_home "$PWD/daemon"
	start_daemon "$@"
}

case_sockets_are_private() {
	fresh_daemon
	same "$(stat -c '%a %F' "$snapshots_socket")" '600 socket'
	same "$(stat -c '%a %F' "$continuity_socket")" '600 socket'
	stop_daemon
	[[ ! -e $snapshots_socket && ! -e $continuity_socket ]] || fail "a socket was left"
}

case_stale_sockets_are_replaced() {
	fresh_daemon
	kill_daemon
	[[ -S $snapshots_socket ]] || fail "the socket went with kill -9"
	start_daemon
	snapclient -address "$snapshots_socket" list
	stop_daemon
}

# A second daemon on the same root is refused by name, and the first is not disturbed.
case_a_second_daemon_is_refused() {
	local code=0
	fresh_daemon
	timeout 20 continuity daemon --root "$continuity_root" --snapshots-address "$PWD/s.sock" --address "$PWD/c.sock" \
		>out 2>&1 || code=$?
	same "$code" 2
	holds out "$continuity_root"
	ask status >/dev/null
	# The same on other state but the same sockets.
	code=0
	timeout 20 continuity daemon --root "$PWD/other" --snapshots-address "$snapshots_socket" --address "$continuity_socket" \
		>out 2>&1 || code=$?
	same "$code" 2
	ask status >/dev/null
	snapclient -address "$snapshots_socket" list
	stop_daemon
}

case_sigterm_drains_and_exits_0() {
	local pid code=0
	use_daemon_home "$PWD/daemon"
	mkdir "$daemon_home"
	continuity daemon --root "$continuity_root" --snapshots-address "$snapshots_socket" --address "$continuity_socket" 2>log &
	pid=$!
	wait_until "$SERVICE_SECONDS" daemon_answers
	snapclient -address "$snapshots_socket" -files 2000 churn layer 40 >acknowledged 2>/dev/null &
	wait_until "$SERVICE_SECONDS" test -s acknowledged
	kill -TERM "$pid"
	wait "$pid" || code=$?
	same "$code" 0
	wait || true
	start_daemon
	snapclient -address "$snapshots_socket" list | cut -f1 >listed
	while read -r name; do grep -qx "$name" listed || fail "lost: $name"; done <acknowledged
	stop_daemon
}

# A client that stays connected does not keep the daemon alive.
case_sigterm_does_not_wait_for_idle_clients() {
	fresh_daemon
	truncate -s 1T huge-file && mkdir tree && mv huge-file tree/
	ask snapshot ls >/dev/null
	say '[{"type":"bind","source":"'"$PWD/tree"'","options":["ro","rbind"]}]' >mounts.json
	ask build --mounts mounts.json -o /dev/null >/dev/null 2>&1 &
	wait_until "$SERVICE_SECONDS" is_busy "$(daemon_pid)"
	stop_daemon
}

# Flags win over the file, the file over defaults.
case_flags_over_config_over_defaults() {
	use_daemon_home "$PWD/daemon"
	mkdir "$daemon_home"
	cat >config.toml <<-EOF2
		root = "$PWD/from-config"
		address = "$PWD/from-config.sock"
		snapshots_address = "$PWD/snapshots-from-config.sock"
	EOF2
	continuity daemon --config config.toml --address "$continuity_socket" 2>log &
	wait_until "$SERVICE_SECONDS" daemon_answers || fail "$(cat log)"
	[[ -d from-config && -S snapshots-from-config.sock && ! -e from-config.sock ]] || fail "$(ls)"
	ask status >status
	holds status "$PWD/from-config"
}

each_bad_config=('rot = "/x"' 'root = 5' '[verify]\naction = "maybe"' '[verify]\ndeadline = "soon"' 'not toml')
case_bad_config() {
	printf '%b\n' "$1" >config.toml
	exits 2 timeout 20 continuity daemon --config config.toml --root "$PWD/root" --address "$PWD/a" --snapshots-address "$PWD/s" 2>error
	holds error config.toml
	[[ ! -e root ]] || fail "something was made"
}

case_tells_systemd_when_ready() {
	local listener
	use_daemon_home "$PWD/daemon"
	notify-listen "$PWD/notify" "$SERVICE_SECONDS" >notified &
	listener=$!
	wait_until "$SERVICE_SECONDS" test -S notify
	NOTIFY_SOCKET=$PWD/notify launch_daemon
	wait "$listener" || fail "never ready"
	# Ready means that it answers now.
	ask status >/dev/null
	snapclient -address "$snapshots_socket" list
	stop_daemon
}

case_status_tells_who_it_is() {
	fresh_daemon
	snapclient -address "$snapshots_socket" churn layer 8 >/dev/null
	ask status >status
	cat status
	for word in "$(daemon_pid)" "$continuity_root" "$snapshots_socket" "$(continuity --version | cut -d' ' -f2)"; do
		holds status "$word"
	done
	stop_daemon
}

each_log_level=(error debug)
case_log_level() {
	fresh_daemon --log-level "$1"
	snapclient -address "$snapshots_socket" churn layer 8 >/dev/null
	stop_daemon
	CONTINUITY_LOG=$1 start_daemon
	stop_daemon
	if [[ $1 == error ]]; then
		[[ ! -s $daemon_home/log ]] || fail "not silent: $(cat "$daemon_home/log")"
	else
		[[ -s $daemon_home/log ]] || fail "silent"
	fi
}

case_a_fresh_daemon_is_small() {
	fresh_daemon
	snapclient -address "$snapshots_socket" list
	below "resident, KiB" "$(rss_kib "$(daemon_pid)")" $((10 * 1024))
	stop_daemon
}

# The files that the project ships: our daemon and containerd read them.
case_the_shipped_configuration_loads() {
	sed "s|^# *root = .*|root = \"$PWD/root\"|; s|^root = .*|root = \"$PWD/root\"|" "$repository/plugin-config/config.toml" >config.toml
	use_daemon_home "$PWD/daemon"
	start_daemon --config "$PWD/config.toml"
	stop_daemon
	containerd --config "$repository/plugin-config/containerd-1.x.toml" config dump >dump
	grep -A3 'proxy_plugins.continuity' dump >entry
	holds entry /run/continuity/snapshots.sock
	holds entry '"snapshot"'
}
