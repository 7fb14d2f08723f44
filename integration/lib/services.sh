# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A containerd and a continuity daemon of our own: roots, states and sockets beneath $work.

# Seconds that a service may take to answer, or to end, on a slow machine.
readonly SERVICE_SECONDS=30

# use_daemon_home DIR: where the daemon that the functions below mean has everything.
use_daemon_home() {
	daemon_home=$1
	snapshots_socket=$1/snapshots.sock
	continuity_socket=$1/continuity.sock
	continuity_root=$1/root
}
use_daemon_home "$work/continuity"

containerd_socket=$work/containerd/containerd.sock
export CONTAINERD_ADDRESS=$containerd_socket CONTAINERD_SNAPSHOTTER=continuity CONTAINERD_NAMESPACE=default

# start_daemon [ARGUMENTS...]: starts our daemon and waits until it answers.
start_daemon() {
	launch_daemon "$@"
	wait_until "$SERVICE_SECONDS" daemon_answers || {
		tail -n 20 "$daemon_home/log" >&2
		die "the daemon does not answer"
	}
}

# The same without waiting. It is a session of its own, and not a job of the shell: it outlives the case.
launch_daemon() {
	mkdir -p "$daemon_home"
	setsid continuity daemon --root "$continuity_root" --snapshots-address "$snapshots_socket" \
		--address "$continuity_socket" --containerd-address "$containerd_socket" "$@" \
		>>"$daemon_home/log" 2>&1 </dev/null &
	say $! >"$daemon_home/pid"
	disown
}

daemon_pid() { cat "$daemon_home/pid"; }

daemon_answers() { ask status; }

# ask COMMAND...: our client on our socket.
ask() { continuity --address "$continuity_socket" "$@"; }

# Tells the daemon to end, and waits for it.
stop_daemon() { stop_service "$daemon_home/pid" TERM; }

# Ends it as a power cut would.
kill_daemon() { stop_service "$daemon_home/pid" KILL; }

# CONTAINERD_DISABLE_PIGZ: with pigz in its PATH containerd unpacks by that, and takes what Go's gzip does not. A test
# that wants it says so; for all others it makes no difference whether the machine has one.
start_containerd() {
	mkdir -p "$work/containerd"
	containerd_config >"$work/containerd/config.toml"
	CONTAINERD_DISABLE_PIGZ=${CONTAINERD_DISABLE_PIGZ:-1} \
		setsid containerd --config "$work/containerd/config.toml" >>"$work/containerd/log" 2>&1 </dev/null &
	say $! >"$work/containerd/pid"
	disown
	wait_until "$SERVICE_SECONDS" ctr version || {
		tail -n 20 "$work/containerd/log" >&2
		die "containerd does not answer"
	}
}

# containerd_has VERSION: whether containerd is that new.
containerd_has() { printf '%s\n' "$1" "$(containerd --version | cut -d' ' -f3)" | sort --check=silent --version-sort; }

# From 2.0 on, imports go through a service that has to be told of every snapshotter, unless ctr unpacks by itself.
ctr() {
	if [[ "$1 ${2:-}" == 'images import' ]] && containerd_has 2.0; then set -- images import --local "${@:3}"; fi
	command ctr "$@"
}

# One table for all: 2.x has another form of it, and other names.
containerd_config() {
	if containerd_has 2.0; then
		say 'version = 3'
		say "disabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri']"
	else
		say 'version = 2'
		say "disabled_plugins = ['io.containerd.grpc.v1.cri']"
	fi
	cat <<-EOF
		root = "$work/containerd/root"
		state = "$work/containerd/state"
		oom_score = 0

		[grpc]
		  address = "$containerd_socket"

		[proxy_plugins.continuity]
		  type = "snapshot"
		  address = "$snapshots_socket"

		[plugins.'io.containerd.snapshotter.v1.btrfs']
		  root_path = "$btrfs_root"

		[plugins.'io.containerd.internal.v1.opt']
		  path = "$work/containerd/opt"
	EOF
	if containerd_has 2.0; then unpack_config; fi
}

# What the transfer service may unpack with.
unpack_config() {
	local snapshotter
	for snapshotter in overlayfs native continuity; do
		cat <<-EOF

			[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
			  platform = "linux/$(dpkg --print-architecture)"
			  snapshotter = "$snapshotter"
		EOF
	done
}

stop_containerd() { stop_service "$work/containerd/pid" TERM; }

# stop_service PIDFILE SIGNAL: a service that does not end is killed, and that is a failure.
stop_service() {
	local pid
	[[ -e $1 ]] || return 0
	pid=$(cat "$1")
	rm -f "$1"
	kill "-$2" "$pid" 2>/dev/null || true
	if ! wait_until "$SERVICE_SECONDS" is_gone "$pid"; then
		kill -KILL "$pid" 2>/dev/null || true
		fail "process $pid did not end within $SERVICE_SECONDS s"
	fi
}

# A process that ended but was not waited for is gone, too, once its last thread is: until then it holds its files.
is_gone() {
	local state threads
	state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null) || return 0
	threads=$(sed -n 's/^Threads:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null) || return 0
	[[ -z $state || ($state == Z* && $threads == 1) ]]
}

# run_container ID IMAGE COMMAND...: from our snapshots, to its end. runc's state and the cgroup are ours too.
run_container() {
	local id=$1
	shift
	ctr run --rm --snapshotter continuity --runc-root "$work/runc" \
		--cgroup "/$(basename "$work")/$id" "$1" "$id" "${@:2}"
}
