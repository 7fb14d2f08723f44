// SPDX-License-Identifier: Apache-2.0

// Command socket-garbage sends a socket what no client would: noise, frames that lie about their length, and
// connections that end in the middle. socket-garbage SOCKET
package main

import (
	"fmt"
	"math/rand"
	"net"
	"os"
	"time"
)

const connections = 200

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: socket-garbage SOCKET")
		os.Exit(2)
	}
	random := rand.New(rand.NewSource(3))
	for i := 0; i < connections; i++ {
		if err := send(os.Args[1], message(random, i)); err != nil {
			fmt.Fprintln(os.Stderr, "socket-garbage:", err)
			os.Exit(1)
		}
	}
}

func message(random *rand.Rand, i int) []byte {
	data := make([]byte, random.Intn(8192))
	random.Read(data)
	switch i % 4 {
	case 0: // a ttrpc header: four gigabytes for stream 1, a request
		return append([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0}, data...)
	case 1: // a small ttrpc request of noise
		return append([]byte{0, 0, 0, 16, 0, 0, 0, 3, 1, 0}, data[:len(data)%17]...)
	case 2: // HTTP/2, then noise
		return append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), data...)
	}
	return data
}

// send only fails if nobody listens: that the other side hangs up is its right.
func send(path string, data []byte) error {
	conn, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := conn.Write(data); err == nil {
		_, _ = conn.Read(make([]byte, 64))
	}
	return conn.Close()
}
