// SPDX-License-Identifier: Apache-2.0

// Command notify-listen is what systemd is to a service of Type=notify: it listens on a datagram socket and
// prints what arrives, until one datagram says READY=1 (exit 0) or the seconds are over (exit 1).
//
//	notify-listen SOCKET SECONDS
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: notify-listen SOCKET SECONDS")
		os.Exit(2)
	}
	limit, err := time.ParseDuration(os.Args[2] + "s")
	if err == nil {
		err = listen(os.Args[1], limit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notify-listen:", err)
		os.Exit(1)
	}
}

func listen(path string, limit time.Duration) error {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		fmt.Println(string(buffer[:n]))
		for _, line := range strings.Split(string(buffer[:n]), "\n") {
			if line == "READY=1" {
				return nil
			}
		}
	}
}
