// SPDX-License-Identifier: Apache-2.0

// Command overlay serves containerd's own overlay snapshotter as a proxy plugin: overlay ROOT SOCKET. What the
// benchmark compares our daemon with.
package main

import (
	"fmt"
	"net"
	"os"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/snapshots/overlay"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: overlay ROOT SOCKET")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "overlay:", err)
		os.Exit(1)
	}
}

func serve(root, socket string) error {
	// As containerd's own plugin configures it.
	snapshotter, err := overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	return server.Serve(listener)
}
