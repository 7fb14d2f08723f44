// SPDX-License-Identifier: Apache-2.0

// Command swap-loop swaps a directory for a symlink and back, atomically and as fast as it can, until it is
// killed: swap-loop DIRECTORY TARGET
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: swap-loop DIRECTORY TARGET")
		os.Exit(2)
	}
	// Beside the root of the tree, so that the walk never sees it.
	spare, err := os.MkdirTemp(".", "spare")
	if err == nil {
		err = os.Symlink(os.Args[2], spare+"/link")
	}
	for err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, os.Args[1], unix.AT_FDCWD, spare+"/link", unix.RENAME_EXCHANGE)
	}
	fmt.Fprintln(os.Stderr, "swap-loop:", err)
	os.Exit(1)
}
