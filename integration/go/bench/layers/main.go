// SPDX-License-Identifier: Apache-2.0

// Command layers does through containerd what its snapshots/benchsuite does to a snapshotter: it prepares, writes and
// commits chains of layers, and times each step.
//
//	layers -address SOCKET SNAPSHOTTER CHAINS LAYERS FILES BYTES
//
// It prints the seconds of all steps of a kind: "prepare=… write=… commit=… both=…", where both is prepare and commit. The
// snapshots are removed at the end; that is not timed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"google.golang.org/grpc"
)

var address = flag.String("address", "", "containerd's socket")

// keep shields from containerd's garbage collection.
var keep = snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "benchmark"})

func main() {
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "layers:", err)
		os.Exit(1)
	}
}

type session struct {
	ctx         context.Context
	snapshotter snapshots.Snapshotter
	layers      int
	files       int
	content     []byte

	prepare, write, commit time.Duration
}

func run(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("usage: layers -address SOCKET SNAPSHOTTER CHAINS LAYERS FILES BYTES")
	}
	var numbers [4]int
	for i := range numbers {
		n, err := strconv.Atoi(args[i+1])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	conn, err := grpc.Dial("unix://"+*address, grpc.WithInsecure())
	if err != nil {
		return err
	}
	r := &session{
		ctx:         namespaces.WithNamespace(context.Background(), "benchmark"),
		snapshotter: proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), args[0]),
		layers:      numbers[1],
		files:       numbers[2],
		content:     make([]byte, numbers[3]),
	}
	for i := range r.content {
		r.content[i] = byte(i*i ^ i>>8)
	}
	for chain := 0; chain < numbers[0]; chain++ {
		if err := r.chain(fmt.Sprintf("%d-%d", os.Getpid(), chain)); err != nil {
			return err
		}
	}
	both := r.prepare + r.commit
	fmt.Printf("prepare=%f write=%f commit=%f both=%f\n",
		r.prepare.Seconds(), r.write.Seconds(), r.commit.Seconds(), both.Seconds())
	return nil
}

// chain makes one layer upon the other and removes them.
func (r *session) chain(prefix string) error {
	parent := ""
	var made []string
	for layer := 0; layer < r.layers; layer++ {
		active := fmt.Sprintf("%s-active-%d", prefix, layer)
		begin := time.Now()
		mounts, err := r.snapshotter.Prepare(r.ctx, active, parent, keep)
		if err != nil {
			return err
		}
		r.prepare += time.Since(begin)
		begin = time.Now()
		if err := mount.WithTempMount(r.ctx, mounts, func(root string) error { return r.fill(root, layer) }); err != nil {
			return err
		}
		r.write += time.Since(begin)
		parent = fmt.Sprintf("%s-layer-%d", prefix, layer)
		begin = time.Now()
		if err := r.snapshotter.Commit(r.ctx, parent, active, keep); err != nil {
			return err
		}
		r.commit += time.Since(begin)
		made = append(made, parent)
	}
	for i := len(made) - 1; i >= 0; i-- {
		if err := r.snapshotter.Remove(r.ctx, made[i]); err != nil {
			return err
		}
	}
	return nil
}

// fill writes files, every other one over one of the layer below, and removes one of it.
func (r *session) fill(root string, layer int) error {
	for i := 0; i < r.files; i++ {
		name := fmt.Sprintf("file-%d", i)
		if i%2 == 1 {
			name = fmt.Sprintf("file-%d-%d", layer, i)
		}
		if err := os.WriteFile(filepath.Join(root, name), r.content, 0o644); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(root, fmt.Sprintf("file-%d-1", layer-1)))
}
