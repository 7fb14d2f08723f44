// SPDX-License-Identifier: Apache-2.0

// Command snapclient speaks containerd's snapshots API, to our daemon or to containerd itself:
//
//	snapclient [flags] list [FILTER...]       name, kind, parent and state of the seal, separated by tabs
//	snapclient [flags] mounts KEY             the mounts of an active snapshot or view, as JSON
//	snapclient [flags] prepare|view KEY PARENT   with the labels of -label
//	snapclient [flags] commit NAME KEY [PARENT]  PARENT as containerd 2.2 and later name it
//	snapclient [flags] apply KEY TAR          unpacks a layer into an active snapshot, as containerd's applier does
//	snapclient [flags] remove KEY
//	snapclient [flags] churn PREFIX N         prepares, fills and commits N layers, four at a time, and prints
//	                                          "NAME" when the commit was acknowledged; ends at the first error
//
// Exit codes: 1 the call was refused, with its gRPC code on standard error; 2 usage; 3 the service was not there.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/content"
	"github.com/containerd/containerd/content/local"
	"github.com/containerd/containerd/diff/apply"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var (
	address     = flag.String("address", "", "socket")
	snapshotter = flag.String("snapshotter", "continuity", "name of the snapshotter")
	namespace   = flag.String("namespace", "", "namespace, for containerd's socket")
	files       = flag.Int("files", 20, "files of a layer that churn makes")
	size        = flag.Int64("size", 4096, "bytes of each of them, without blocks")
	labels      = labelsFlag("label", "label KEY=VALUE of what is prepared or viewed; may be given several times")
	chain       = flag.Bool("chain", false, "churn makes each layer the child of its predecessor")
)

// A flag that may be given several times.
type labelMap map[string]string

func (l labelMap) String() string { return "" }

func (l labelMap) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q is not KEY=VALUE", text)
	}
	l[key] = value
	return nil
}

func labelsFlag(name, usage string) labelMap {
	l := labelMap{}
	flag.Var(l, name, usage)
	return l
}

// callTimeout is far above what any call may take: a call that hangs is an error.
const callTimeout = 60 * time.Second

func main() {
	flag.Parse()
	conn, err := grpc.Dial("unix://"+*address, grpc.WithInsecure())
	if err != nil {
		exit(err)
	}
	c := &client{snapshotsapi.NewSnapshotsClient(conn)}
	args := flag.Args()
	switch {
	case len(args) >= 1 && args[0] == "list":
		err = c.list(args[1:])
	case len(args) == 2 && args[0] == "mounts":
		err = c.mounts(args[1])
	case len(args) == 3 && args[0] == "prepare":
		_, err = c.prepare(args[1], args[2])
	case len(args) == 3 && args[0] == "view":
		err = c.view(args[1], args[2])
	case len(args) == 3 && args[0] == "commit":
		err = c.commit(args[1], args[2], "")
	case len(args) == 4 && args[0] == "commit":
		err = c.commit(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "apply":
		err = c.apply(args[1], args[2])
	case len(args) == 2 && args[0] == "remove":
		err = c.remove(args[1])
	case len(args) == 3 && args[0] == "churn":
		err = c.churn(args[1], args[2])
	default:
		flag.Usage()
		os.Exit(2)
	}
	exit(err)
}

func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "snapclient:", err)
	if status.Code(err) == codes.Unavailable {
		os.Exit(3)
	}
	os.Exit(1)
}

type client struct{ api snapshotsapi.SnapshotsClient }

func call() (context.Context, context.CancelFunc) {
	ctx := context.Background()
	if *namespace != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", *namespace)
	}
	return context.WithTimeout(ctx, callTimeout)
}

func (c *client) list(filters []string) error {
	ctx, cancel := call()
	defer cancel()
	stream, err := c.api.List(ctx, &snapshotsapi.ListSnapshotsRequest{Snapshotter: *snapshotter, Filters: filters})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, info := range response.Info {
			state := info.Labels["containerd.io/snapshot/continuity.state"]
			fmt.Printf("%s\t%s\t%s\t%s\n", info.Name, strings.ToLower(info.Kind.String()), info.Parent, state)
		}
	}
}

func (c *client) mounts(key string) error {
	ctx, cancel := call()
	defer cancel()
	response, err := c.api.Mounts(ctx, &snapshotsapi.MountsRequest{Snapshotter: *snapshotter, Key: key})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(response.Mounts)
}

func (c *client) prepare(key, parent string) ([]*types.Mount, error) {
	ctx, cancel := call()
	defer cancel()
	response, err := c.api.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{Snapshotter: *snapshotter, Key: key, Parent: parent, Labels: labels})
	if err != nil {
		return nil, err
	}
	return response.Mounts, nil
}

func (c *client) view(key, parent string) error {
	ctx, cancel := call()
	defer cancel()
	_, err := c.api.View(ctx, &snapshotsapi.ViewSnapshotRequest{Snapshotter: *snapshotter, Key: key, Parent: parent, Labels: labels})
	return err
}

func (c *client) commit(name, key, parent string) error {
	ctx, cancel := call()
	defer cancel()
	request := &snapshotsapi.CommitSnapshotRequest{Snapshotter: *snapshotter, Name: name, Key: key, Labels: labels}
	if parent != "" {
		// Field 5, which this version of the API does not have: a tag, a length, the bytes.
		request.XXX_unrecognized = append([]byte{5<<3 | 2}, lengthAndBytes(parent)...)
	}
	_, err := c.api.Commit(ctx, request)
	return err
}

func lengthAndBytes(text string) []byte {
	length := make([]byte, binary.MaxVarintLen64)
	return append(length[:binary.PutUvarint(length, uint64(len(text)))], text...)
}

// apply unpacks a layer with containerd's own applier, which looks at the mounts to know what whiteouts become.
func (c *client) apply(key, path string) error {
	ctx, cancel := call()
	defer cancel()
	response, err := c.api.Mounts(ctx, &snapshotsapi.MountsRequest{Snapshotter: *snapshotter, Key: key})
	if err != nil {
		return err
	}
	var mounts []mount.Mount
	for _, m := range response.Mounts {
		mounts = append(mounts, mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	dir, err := os.MkdirTemp("", "snapclient")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	layer, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	blob := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer,
		Digest:    digest.FromBytes(layer),
		Size:      int64(len(layer)),
	}
	ctx = namespaces.WithNamespace(ctx, "snapclient")
	if err := content.WriteBlob(ctx, store, "layer", bytes.NewReader(layer), blob); err != nil {
		return err
	}
	_, err = apply.NewFileSystemApplier(store).Apply(ctx, blob, mounts)
	return err
}

func (c *client) remove(key string) error {
	ctx, cancel := call()
	defer cancel()
	_, err := c.api.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: *snapshotter, Key: key})
	return err
}

// workers of churn, each with a chain of its own.
const workers = 4

func (c *client) churn(prefix, count string) error {
	var n int
	if _, err := fmt.Sscan(count, &n); err != nil {
		return err
	}
	var wait sync.WaitGroup
	failures := make([]error, workers)
	for w := 0; w < workers; w++ {
		wait.Add(1)
		go func(w int) {
			defer wait.Done()
			failures[w] = c.layers(fmt.Sprintf("%s-%d", prefix, w), n/workers)
		}(w)
	}
	wait.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *client) layers(prefix string, n int) error {
	parent := ""
	for i := 0; i < n; i++ {
		name := fmt.Sprintf("%s-%d", prefix, i)
		key := "active-" + name
		mounts, err := c.prepare(key, parent)
		if err == nil {
			err = fill(mounts)
		}
		if err == nil {
			err = c.commit(name, key, "")
		}
		if err != nil {
			return err
		}
		fmt.Println(name)
		if *chain {
			parent = name
		}
	}
	return nil
}

// fill writes where containerd would, without mounting.
func fill(mounts []*types.Mount) error {
	if len(mounts) != 1 {
		return fmt.Errorf("%d mounts, not one", len(mounts))
	}
	dir := mounts[0].Source
	for _, option := range mounts[0].Options {
		if strings.HasPrefix(option, "upperdir=") {
			dir = strings.TrimPrefix(option, "upperdir=")
		}
	}
	for i := 0; i < *files; i++ {
		file, err := os.Create(filepath.Join(dir, fmt.Sprintf("file-%d", i)))
		if err != nil {
			return err
		}
		err = file.Truncate(*size)
		if closed := file.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
	}
	return nil
}
