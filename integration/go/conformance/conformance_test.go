// SPDX-License-Identifier: Apache-2.0

// Package conformance runs containerd's own suite for snapshotters against a daemon that is already serving:
//
//	CONTINUITY_SNAPSHOTS_ADDRESS=/path/of/snapshots.sock go test -test.root .
//
// One daemon serves all cases, at the same time: that too is what containerd does.
package conformance

import (
	"context"
	"os"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

func TestSnapshotter(t *testing.T) {
	address := os.Getenv("CONTINUITY_SNAPSHOTS_ADDRESS")
	if address == "" {
		t.Fatal("CONTINUITY_SNAPSHOTS_ADDRESS must name the snapshots socket of a daemon")
	}
	connection, err := grpc.Dial("unix://"+address, grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	// The cases are parallel: they begin when this function has returned.
	t.Cleanup(func() { connection.Close() })
	open := func(context.Context, string) (snapshots.Snapshotter, func() error, error) {
		snapshotter := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "continuity")
		return snapshotter, snapshotter.Close, nil
	}
	testsuite.SnapshotterSuite(t, "continuity", open)
}
