// SPDX-License-Identifier: Apache-2.0

// Command mutate changes one thing in a tree, chosen by a seed, and prints as JSON what a verification has to find:
// {"what": …, "kind": …, "paths": […]}, a finding of that kind at one of those paths (the names of one inode).
//
//	mutate SEED DIRECTORY
package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

type expectation struct {
	What  string   `json:"what"`
	Kind  string   `json:"kind"`
	Paths []string `json:"paths"`
}

// entry is one path beneath the root.
type entry struct {
	path string
	mode fs.FileMode
	stat *syscall.Stat_t
}

// A mutation does nothing and returns "" where it makes no sense.
type mutation struct {
	what  string
	apply func(r *rand.Rand, e entry) (kind string, err error)
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mutate SEED DIRECTORY")
		os.Exit(2)
	}
	seed, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err == nil {
		err = mutate(rand.New(rand.NewSource(seed)), os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func mutate(r *rand.Rand, root string) error {
	entries, err := walk(root)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		path := filepath.Join(root, "first")
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
		return tell("add to an empty tree", "extra", "/first")
	}
	for {
		e := entries[r.Intn(len(entries))]
		m := mutations[r.Intn(len(mutations))]
		kind, err := m.apply(r, e)
		if err != nil {
			return fmt.Errorf("%s %q: %w", m.what, e.path, err)
		}
		if kind == "" {
			continue
		}
		path := e.path
		if kind == "extra" {
			path = added(e)
		}
		paths := []string{path[len(root):]}
		if kind != "missing" && kind != "extra" && !e.mode.IsDir() {
			paths = names(entries, e, root)
		}
		return tell(m.what, kind, paths...)
	}
}

func tell(what, kind string, paths ...string) error {
	return json.NewEncoder(os.Stdout).Encode(expectation{what, kind, paths})
}

func walk(root string) ([]entry, error) {
	var entries []entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		entries = append(entries, entry{path, info.Mode(), info.Sys().(*syscall.Stat_t)})
		return nil
	})
	return entries, err
}

// names are all paths of the inode of e.
func names(entries []entry, e entry, root string) []string {
	var paths []string
	for _, other := range entries {
		if other.stat.Ino == e.stat.Ino {
			paths = append(paths, other.path[len(root):])
		}
	}
	return paths
}

// added is where a mutation adds something: in a directory, beside everything else.
func added(e entry) string {
	dir := e.path
	if !e.mode.IsDir() {
		dir = filepath.Dir(e.path)
	}
	return filepath.Join(dir, "mutant-"+os.Args[1])
}

// other is an owner that differs from id, and is not the one that means "leave it".
func other(id uint32) int {
	if id == 7 {
		return 8
	}
	return 7
}

var mutations = []mutation{
	{"chmod", func(r *rand.Rand, e entry) (string, error) {
		if e.mode&fs.ModeSymlink != 0 {
			return "", nil
		}
		return "mode", syscall.Chmod(e.path, e.stat.Mode&0o7777^1<<uint(r.Intn(9)))
	}},
	{"chown", func(r *rand.Rand, e entry) (string, error) {
		return "uid", os.Lchown(e.path, other(e.stat.Uid), -1)
	}},
	{"chgrp", func(r *rand.Rand, e entry) (string, error) {
		return "gid", os.Lchown(e.path, -1, other(e.stat.Gid))
	}},
	{"flip a bit", func(r *rand.Rand, e entry) (string, error) {
		if !e.mode.IsRegular() || e.stat.Size == 0 {
			return "", nil
		}
		return "digest", flip(e.path, r.Int63n(e.stat.Size), e.stat)
	}},
	{"truncate", func(r *rand.Rand, e entry) (string, error) {
		if !e.mode.IsRegular() || e.stat.Size == 0 {
			return "", nil
		}
		return "size", os.Truncate(e.path, r.Int63n(e.stat.Size))
	}},
	{"grow", func(r *rand.Rand, e entry) (string, error) {
		if !e.mode.IsRegular() {
			return "", nil
		}
		return "size", os.Truncate(e.path, e.stat.Size+1+r.Int63n(100))
	}},
	{"add an xattr", func(r *rand.Rand, e entry) (string, error) {
		if !e.mode.IsRegular() && !e.mode.IsDir() {
			return "", nil
		}
		return "xattr-extra", syscall.Setxattr(e.path, "trusted.mutant-"+os.Args[1], []byte("m"), 0)
	}},
	{"remove", func(r *rand.Rand, e entry) (string, error) {
		return "missing", os.RemoveAll(e.path)
	}},
	{"add a file", func(r *rand.Rand, e entry) (string, error) {
		return "extra", os.WriteFile(added(e), []byte("m"), 0o644)
	}},
	{"add a link", func(r *rand.Rand, e entry) (string, error) {
		if e.mode.IsDir() || e.mode&fs.ModeSymlink != 0 {
			return "", nil
		}
		return "extra", os.Link(e.path, added(e))
	}},
	{"retarget", func(r *rand.Rand, e entry) (string, error) {
		if e.mode&fs.ModeSymlink == 0 {
			return "", nil
		}
		if err := os.Remove(e.path); err != nil {
			return "", err
		}
		return "target", os.Symlink("mutant", e.path)
	}},
	{"replace by a directory", func(r *rand.Rand, e entry) (string, error) {
		if e.mode.IsDir() || e.stat.Nlink > 1 {
			return "", nil
		}
		if err := os.Remove(e.path); err != nil {
			return "", err
		}
		return "type", os.Mkdir(e.path, 0o755)
	}},
	{"renumber", func(r *rand.Rand, e entry) (string, error) {
		if e.mode&fs.ModeDevice == 0 || e.stat.Nlink > 1 {
			return "", nil
		}
		if err := os.Remove(e.path); err != nil {
			return "", err
		}
		return "device", syscall.Mknod(e.path, e.stat.Mode, int(e.stat.Rdev^1))
	}},
}

// flip inverts one bit; size and times stay.
func flip(path string, offset int64, stat *syscall.Stat_t) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	one := make([]byte, 1)
	if _, err := file.ReadAt(one, offset); err != nil {
		return err
	}
	one[0] ^= 1
	if _, err := file.WriteAt(one, offset); err != nil {
		return err
	}
	return syscall.UtimesNano(path, []syscall.Timespec{stat.Atim, stat.Mtim})
}
