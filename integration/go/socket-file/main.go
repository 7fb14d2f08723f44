// SPDX-License-Identifier: Apache-2.0

// Command socket-file leaves a socket in the filesystem: socket-file PATH
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: socket-file PATH")
		os.Exit(2)
	}
	if err := syscall.Mknod(os.Args[1], syscall.S_IFSOCK|0o600, 0); err != nil {
		fmt.Fprintln(os.Stderr, "socket-file:", err)
		os.Exit(1)
	}
}
