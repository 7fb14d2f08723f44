// SPDX-License-Identifier: Apache-2.0

// Command oracle is the reference implementation of continuity manifests, reduced to what the tests
// compare with: `oracle build ROOT` writes the manifest to standard output, `oracle verify ROOT MANIFEST`
// prints the first difference and exits 1. What could not be done exits 2.
package main

import (
	_ "crypto/sha256" // go-digest looks the algorithm up
	"fmt"
	"os"

	"github.com/containerd/continuity"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	switch {
	case len(args) == 2 && args[0] == "build":
		return report(2, build(args[1]))
	case len(args) == 3 && args[0] == "verify":
		return verify(args[1], args[2])
	}
	fmt.Fprintln(os.Stderr, "usage: oracle build ROOT | oracle verify ROOT MANIFEST")
	return 2
}

func build(root string) error {
	ctx, err := continuity.NewContext(root)
	if err != nil {
		return err
	}
	m, err := continuity.BuildManifest(ctx)
	if err != nil {
		return err
	}
	p, err := continuity.Marshal(m)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(p)
	return err
}

func verify(root, path string) int {
	p, err := os.ReadFile(path)
	if err != nil {
		return report(2, err)
	}
	m, err := continuity.Unmarshal(p)
	if err != nil {
		return report(2, err)
	}
	ctx, err := continuity.NewContext(root)
	if err != nil {
		return report(2, err)
	}
	return report(1, continuity.VerifyManifest(ctx, m))
}

func report(code int, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "oracle:", err)
	return code
}
