// SPDX-License-Identifier: Apache-2.0

// Command random-tree makes, in an existing directory, the tree that belongs to a seed: every type but sockets,
// hard links across directories, odd names, modes, owners and extended attributes. The same seed makes the same
// tree. Every name is valid UTF-8 and every path shorter than PATH_MAX, so that the reference can build it.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxDepth keeps paths below PATH_MAX with names of up to 255 bytes.
const maxDepth = 12

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: random-tree SEED DIRECTORY")
		os.Exit(2)
	}
	seed, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err == nil {
		t := &tree{random: rand.New(rand.NewSource(seed))}
		syscall.Umask(0)
		err = t.grow(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "random-tree:", err)
		os.Exit(1)
	}
}

type tree struct {
	random *rand.Rand
	dirs   []dir
	// Paths that a hard link may be made to: no directory, no symlink.
	linkable []string
	entries  int
	// Directories, whose metadata is set when everything stands: setgid would be inherited.
	finish []string
}

type dir struct {
	path  string
	depth int
}

// grow chooses a shape: seed-dependent, and now and then an extreme one.
func (t *tree) grow(root string) error {
	t.dirs = []dir{{root, 0}}
	switch t.random.Intn(8) {
	case 0: // empty, or nearly so
		t.entries = t.random.Intn(3)
	case 1:
		if err := t.deep(root, 200); err != nil {
			return err
		}
		t.entries = 20
	case 2:
		if err := t.wide(root, 3000); err != nil {
			return err
		}
		t.entries = 20
	default:
		t.entries = 50 + t.random.Intn(400)
	}
	for i := 0; i < t.entries; i++ {
		if err := t.add(); err != nil {
			return err
		}
	}
	for _, path := range t.finish {
		if err := t.metadata(path); err != nil {
			return err
		}
	}
	return nil
}

// deep makes a chain of directories with short names, and a file at each end.
func (t *tree) deep(root string, levels int) error {
	path := filepath.Join(root, "deep")
	for i := 0; i < levels; i++ {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		path = filepath.Join(path, string(rune('a'+t.random.Intn(3))))
	}
	return t.file(path)
}

// wide fills one directory.
func (t *tree) wide(root string, width int) error {
	path := filepath.Join(root, "wide")
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	for i := 0; i < width; i++ {
		name := filepath.Join(path, fmt.Sprintf("%x", t.random.Int63()))
		if err := os.WriteFile(name, []byte(name[len(path):]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) add() error {
	parent := t.dirs[t.random.Intn(len(t.dirs))]
	path := filepath.Join(parent.path, t.name())
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	switch kind := t.random.Intn(20); {
	case kind < 5 && parent.depth < maxDepth:
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		t.dirs = append(t.dirs, dir{path, parent.depth + 1})
		t.finish = append(t.finish, path)
		return nil
	case kind < 8 && len(t.linkable) > 0:
		return os.Link(t.linkable[t.random.Intn(len(t.linkable))], path)
	case kind < 11:
		return t.symlink(path)
	case kind == 11:
		return t.node(path, syscall.S_IFIFO, 0)
	case kind == 12:
		return t.node(path, syscall.S_IFCHR, t.device())
	case kind == 13:
		return t.node(path, syscall.S_IFBLK, t.device())
	}
	if err := t.file(path); err != nil {
		return err
	}
	return t.metadata(path)
}

func (t *tree) file(path string) error {
	t.linkable = append(t.linkable, path)
	var size int
	switch t.random.Intn(6) {
	case 0:
		size = 0
	case 1:
		size = []int{1, 511, 4096, 65535, 65536, 65537, 1 << 20}[t.random.Intn(7)]
	default:
		size = t.random.Intn(3000)
	}
	data := make([]byte, size)
	t.random.Read(data)
	return os.WriteFile(path, data, 0o600)
}

func (t *tree) symlink(path string) error {
	targets := []string{"a", "../..", "/etc/passwd", "no such", "a/./b//c/", ".", strings.Repeat("long/", 200), "日本\n"}
	if err := os.Symlink(targets[t.random.Intn(len(targets))], path); err != nil {
		return err
	}
	return os.Lchown(path, t.id(), t.id())
}

func (t *tree) node(path string, kind uint32, device int) error {
	t.linkable = append(t.linkable, path)
	if err := syscall.Mknod(path, kind|0o600, device); err != nil {
		return fmt.Errorf("mknod %q: %w", path, err)
	}
	if err := os.Lchown(path, t.id(), t.id()); err != nil {
		return err
	}
	return syscall.Chmod(path, uint32(t.random.Intn(0o1000)))
}

// device has a major number of at most 12 and a minor one of at most 20 bits, small ones more often.
func (t *tree) device() int {
	major, minor := t.random.Intn(1<<(1+t.random.Intn(12))), t.random.Intn(1<<(1+t.random.Intn(20)))
	return (major&0xfff)<<8 | minor&0xff | (minor&^0xff)<<12
}

func (t *tree) id() int {
	return []int{0, 0, 0, 1000, 65534, 100000, 1<<31 - 1, 1 << 31, 1<<32 - 2}[t.random.Intn(9)]
}

// metadata: the owner first, because chown takes setuid and capabilities away.
func (t *tree) metadata(path string) error {
	if err := os.Lchown(path, t.id(), t.id()); err != nil {
		return err
	}
	mode := uint32(t.random.Intn(0o10000))
	if t.random.Intn(3) > 0 {
		mode &= 0o777
	}
	if err := syscall.Chmod(path, mode); err != nil {
		return err
	}
	for t.random.Intn(3) == 0 {
		if err := t.xattr(path); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) xattr(path string) error {
	value := make([]byte, t.random.Intn(120))
	t.random.Read(value)
	var name string
	switch t.random.Intn(8) {
	case 0:
		name, value = "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	case 1:
		name, value = "system.posix_acl_access", acl
	case 2:
		name, value = "trusted.overlay.opaque", []byte("y")
	case 3:
		name, value = "user.empty", nil
	case 4:
		name = "trusted.t" + strconv.Itoa(t.random.Intn(20))
	default:
		name = "user." + strings.ReplaceAll(t.name(), "\x00", "")
		if len(name) > 200 {
			name = "user.short"
		}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if name == "security.capability" && info.IsDir() {
		name = "trusted.capability"
	}
	if err := syscall.Setxattr(path, name, value, 0); err != nil {
		return fmt.Errorf("setxattr %q %q: %w", path, name, err)
	}
	return nil
}

// acl: user::rwx user:1000:r-x group::r-- mask::r-x other::---
var acl = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")

// Names that sort oddly, break lines, quote badly or look like options.
var odd = []string{
	"a", "b", "a-b", "a.b", "a b", "a~", "ab", "A", "-rf", "--help", "...", "..a", ".hidden", " ", "  lead", "trail ",
	"new\nline", "tab\there", "back\\slash", "quote'", "double\"quote", "$HOME", "`id`", "*", "?", "[x]", "{}", ";", "|", "&",
	"\x01", "\x1b[31mred", "\x7f", "ünï", "日本", "ファイル", "e\u0301", "\u00e9", "\u202egpj.exe", "\u200bzero", "\U0001f600", "\u0085",
	"\ufeffbom", "\uffff", ".wh.gone", ".wh..wh..opq", "%s%n", "con", "a\rb", strings.Repeat("n", 255), strings.Repeat("é", 127),
}

func (t *tree) name() string {
	name := odd[t.random.Intn(len(odd))]
	switch t.random.Intn(4) {
	case 0:
		return fmt.Sprintf("f%d", t.random.Intn(100))
	case 1:
		if joined := name + odd[t.random.Intn(len(odd))]; len(joined) < 256 {
			return joined
		}
	}
	return name
}
