# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The daemon: prepare, write and commit through containerd; memory at rest.

# Snapshots sealed before the daemon's memory is looked at.
readonly IDLE_SNAPSHOTS=100

# Size of the services' filesystem.
readonly DISK_SIZE=8G

go_overlay=$work/go-overlay

# What the services have on disk lies on a filesystem of their own, made anew for each case: ext4 as mkfs makes it. On
# the machine's own, the one who runs second pays for what the first one left. (An ext4 without a journal, for one, does
# not give an inode again in the minute after it was freed, and searches long for others.)
make_disk() {
	local service
	mount_disk ext4 "$work/disk" "$DISK_SIZE"
	for service in "$work/containerd" "$work/continuity" "$go_overlay"; do
		mkdir -p "$service" "$work/disk/$(basename "$service")"
		mount --bind "$work/disk/$(basename "$service")" "$service"
	done
}

drop_disk() {
	umount "$work/containerd" "$work/continuity" "$go_overlay"
	rm -r "$work/containerd" "$work/continuity" "$go_overlay"
	unmount_disk "$work/disk"
}

# A containerd that has its own overlayfs, the same served by Go as a proxy, and us; [verify] off.
start_services() {
	make_disk
	printf '[verify]\non_prepare = "off"\non_view = "off"\n' >"$work/continuity/config.toml"
	start_daemon --config "$work/continuity/config.toml"
	setsid go-overlay "$go_overlay/root" "$go_overlay/socket" >>"$go_overlay/log" 2>&1 </dev/null &
	say $! >"$go_overlay/pid"
	disown
	wait_until "$SERVICE_SECONDS" test -S "$go_overlay/socket" || die "the Go snapshotter does not listen"
	start_containerd
}

stop_services() {
	stop_containerd
	stop_service "$go_overlay/pid" TERM
	stop_daemon
	drop_disk
}

# In place of the one in lib/services.sh.
containerd_config() {
	cat <<-EOF
		version = 2
		root = "$work/containerd/root"
		state = "$work/containerd/state"
		oom_score = 0
		disabled_plugins = ["io.containerd.grpc.v1.cri"]

		[grpc]
		  address = "$containerd_socket"

		[proxy_plugins.continuity]
		  type = "snapshot"
		  address = "$snapshots_socket"

		[proxy_plugins.go-overlay]
		  type = "snapshot"
		  address = "$go_overlay/socket"
	EOF
}

# The cases of containerd's snapshots/benchsuite.
bench_snapshots() {
	local round who numbers
	start_services
	# Once each, unrecorded: everything is loaded and in the cache.
	for who in continuity go-overlay; do bench-layers -address "$containerd_socket" "$who" 1 2 1 1 >/dev/null; done
	for ((round = 1; round <= rounds * 6; round++)); do
		for who in continuity go-overlay overlayfs; do
			numbers=$(bench-layers -address "$containerd_socket" "$who" "${layers[@]}")
			warn "  snapshots $round: $who: $numbers"
			# shellcheck disable=SC2086 # a word for each measure
			record snapshots "$who" "$round" $numbers
		done
	done
	stop_services
}

# Resident memory of both proxies after the same work, once nothing is left to do.
bench_idle() {
	start_services
	snapclient_layers continuity "$snapshots_socket"
	snapclient_layers go-overlay "$go_overlay/socket"
	wait_until "$SERVICE_SECONDS" all_sealed || die "the snapshots are not sealed"
	sleep 5
	record idle continuity 1 "rss=$(awk -v kib="$(rss_kib "$(daemon_pid)")" 'BEGIN { print kib / 1024 }')"
	record idle go-overlay 1 "rss=$(awk -v kib="$(rss_kib "$(cat "$go_overlay/pid")")" 'BEGIN { print kib / 1024 }')"
	stop_services
}

# snapclient_layers NAME SOCKET: makes IDLE_SNAPSHOTS committed snapshots.
snapclient_layers() {
	go_program snapclient
	snapclient -address "$2" churn idle "$IDLE_SNAPSHOTS" >/dev/null
}
