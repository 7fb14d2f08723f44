// SPDX-License-Identifier: Apache-2.0

// Command big-tree makes trees that are large in one way, fast:
//
//	big-tree entries N DIRECTORY    N entries, a hundred to a directory, a tenth of them directories
//	big-tree wide N DIRECTORY       N empty files in the directory itself
//	big-tree deep N DIRECTORY       a chain of N directories, with a file at its end
//	big-tree links N DIRECTORY      N files of two links each
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) == 4 {
		if make, ok := shapes[os.Args[1]]; ok {
			n, err := strconv.Atoi(os.Args[2])
			if err == nil {
				err = os.Chdir(os.Args[3])
			}
			if err == nil {
				err = make(n)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "big-tree:", err)
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: big-tree entries|wide|deep|links N DIRECTORY")
	os.Exit(2)
}

var shapes = map[string]func(int) error{"entries": entries, "wide": wide, "deep": deep, "links": links}

// perDirectory counts the entries that go into one directory, sub-directories included.
const perDirectory = 100

func entries(n int) error {
	made := 0
	// Breadth first: every directory holds ten directories and ninety files until n entries are made.
	for queue := []string{"."}; made < n; queue = queue[1:] {
		for i := 0; i < perDirectory && made < n; i++ {
			path := fmt.Sprintf("%s/entry-%02d", queue[0], i)
			made++
			if i%10 == 0 {
				if err := syscall.Mkdir(path, 0o755); err != nil {
					return err
				}
				queue = append(queue, path)
			} else if err := touch(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func wide(n int) error {
	for i := 0; i < n; i++ {
		if err := touch(fmt.Sprintf("file-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

func deep(n int) error {
	for i := 0; i < n; i++ {
		if err := syscall.Mkdir("d", 0o755); err != nil {
			return err
		}
		if err := syscall.Chdir("d"); err != nil {
			return err
		}
	}
	return os.WriteFile("bottom", []byte("bottom\n"), 0o644)
}

func links(n int) error {
	for i := 0; i < n; i++ {
		if err := touch(fmt.Sprintf("a-%d", i)); err != nil {
			return err
		}
		if err := syscall.Link(fmt.Sprintf("a-%d", i), fmt.Sprintf("b-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

func touch(path string) error {
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY, 0o644)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	return syscall.Close(fd)
}
