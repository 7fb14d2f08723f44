// SPDX-License-Identifier: Apache-2.0

// Command bad-manifests writes manifests that no build makes, one file each, named after what is odd about it:
//
//	bad/         every reader must refuse them
//	impossible/  well-formed, but no tree can be like that
//	unusual/     legal, and true of a directory that holds one empty file "f", mode 0644, of root
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
)

// Bits of Go's os.FileMode, which is what a manifest holds.
const (
	dir       = 1 << 31
	symlink   = 1 << 27
	device    = 1 << 26
	pipe      = 1 << 25
	charDev   = 1 << 21
	irregular = 1 << 19
)

// Numbers of the fields of a Resource.
const (
	fieldPath   = 1
	fieldUser   = 4
	fieldGroup  = 5
	fieldMode   = 6
	fieldSize   = 7
	fieldDigest = 8
	fieldTarget = 9
	fieldXattr  = 12
)

const wireBytes = 2

var empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bad-manifests DIRECTORY")
		os.Exit(2)
	}
	for class, manifests := range map[string]map[string][]byte{"bad": bad(), "impossible": impossible(), "unusual": unusual()} {
		if err := write(filepath.Join(os.Args[1], class), manifests); err != nil {
			fmt.Fprintln(os.Stderr, "bad-manifests:", err)
			os.Exit(1)
		}
	}
}

func write(dir string, manifests map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range manifests {
		if err := os.WriteFile(filepath.Join(dir, name+".pb"), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func impossible() map[string][]byte {
	return map[string][]byte{
		"beneath-a-file":         join(file("/a"), file("/a/b")),
		"beneath-a-symlink":      join(link("/a", "../outside"), file("/a/b")),
		"name-too-long":          file("/" + strings.Repeat("n", 256)),
		"beneath-nothing":        file("/a/b"),
		"directory-in-a-symlink": join(link("/a", "../outside"), folder("/a/b"), file("/a/b/c")),
	}
}

func unusual() map[string][]byte {
	fields := [][]byte{text(fieldPath, "/f"), number(fieldMode, 0o644), text(fieldDigest, empty)}
	with := func(extra ...[]byte) []byte { return resource(append(append([][]byte{}, fields...), extra...)...) }
	return map[string][]byte{
		"unknown-field":   with(text(99, "from the future"), number(98, 1)),
		"user-and-group":  with(text(fieldUser, "root"), text(fieldGroup, "root")),
		"fields-reversed": resource(text(fieldDigest, empty), number(fieldMode, 0o644), text(fieldPath, "/f")),
		"zeros-written":   with(number(fieldSize, 0), text(fieldTarget, "")),
		"last-value-wins": with(number(fieldMode, 0o600), number(fieldMode, 0o644)),
		"varint-too-wide": resource(text(fieldPath, "/f"), []byte{fieldMode << 3, 0xa4, 0x83, 0x80, 0x00}, text(fieldDigest, empty)),
	}
}

func bad() map[string][]byte {
	good := file("/good")
	all := map[string][]byte{
		"path-dot-dot":          file("/a/../../etc/passwd"),
		"path-dot-dot-alone":    file("/.."),
		"path-dot":              file("/a/./b"),
		"path-double-slash":     file("/a//b"),
		"path-trailing-slash":   file("/a/"),
		"path-relative":         file("a"),
		"path-empty":            file(""),
		"path-nul":              file("/a\x00b"),
		"path-none":             resource(number(fieldMode, 0o644)),
		"path-a-million-deep":   file(strings.Repeat("/d", 1000000)),
		"duplicate":             join(file("/a"), file("/a")),
		"duplicate-in-resource": resource(text(fieldPath, "/a"), text(fieldPath, "/a"), number(fieldMode, 0o644), text(fieldDigest, empty)),
		"duplicate-of-link":     join(resource(text(fieldPath, "/a"), text(fieldPath, "/b"), number(fieldMode, 0o644), text(fieldDigest, empty)), file("/b")),
		"unsorted":              join(file("/b"), file("/a")),
		"unsorted-by-bytes":     join(folder("/a"), file("/a/b"), file("/a-b")),
		"unsorted-in-resource":  resource(text(fieldPath, "/b"), text(fieldPath, "/a"), number(fieldMode, 0o644), text(fieldDigest, empty)),
		"digest-unknown":        resource(text(fieldPath, "/a"), number(fieldMode, 0o644), text(fieldDigest, "md5:d41d8cd98f00b204e9800998ecf8427e")),
		"digest-short":          resource(text(fieldPath, "/a"), number(fieldMode, 0o644), text(fieldDigest, empty[:40])),
		"digest-not-hex":        resource(text(fieldPath, "/a"), number(fieldMode, 0o644), text(fieldDigest, "sha256:"+strings.Repeat("z", 64))),
		"mode-irregular":        resource(text(fieldPath, "/a"), number(fieldMode, irregular|0o644)),
		"mode-two-types":        resource(text(fieldPath, "/a"), number(fieldMode, dir|symlink|0o644)),
		"mode-char-alone":       resource(text(fieldPath, "/a"), number(fieldMode, charDev|0o644)),
		"mode-pipe-and-device":  resource(text(fieldPath, "/a"), number(fieldMode, pipe|device|0o644)),
		"directory-with-links":  resource(text(fieldPath, "/a"), text(fieldPath, "/b"), number(fieldMode, dir|0o755)),
		"xattr-without-name":    join(folder("/0"), resource(text(fieldPath, "/a"), number(fieldMode, dir|0o755), text(fieldXattr, string(text(2, "v"))))),
		"length-2-60":           append(append([]byte{}, good...), append([]byte{0x0a}, varint(1<<60)...)...),
		"length-2-60-inside":    resource(text(fieldPath, "/a"), append([]byte{fieldTarget<<3 | wireBytes}, varint(1<<60)...)),
		"length-max":            append([]byte{0x0a}, varint(1<<64-1)...),
		"varint-endless":        append([]byte{0x0a}, bytes.Repeat([]byte{0xff}, 1<<20)...),
		"wire-type-7":           {0x0f, 1},
		"wire-type-of-path":     resource(number(fieldPath, 1)),
		"field-0":               {0x02, 0x01, 0x00},
		"truncated-tag":         append(append([]byte{}, good...), 0x0a),
		"path-then-garbage":     append(append([]byte{}, good...), 0xde, 0xad, 0xbe, 0xef),
	}
	random := rand.New(rand.NewSource(2))
	for i := 0; i < 20; i++ {
		data := make([]byte, 1+random.Intn(1<<16))
		random.Read(data)
		// A first byte that is no tag of ours: chance can't make it a manifest.
		data[0] = 0xff
		all[fmt.Sprintf("garbage-%02d", i)] = data
	}
	return all
}

func file(path string) []byte {
	return resource(text(fieldPath, path), number(fieldMode, 0o644), text(fieldDigest, empty))
}

func folder(path string) []byte { return resource(text(fieldPath, path), number(fieldMode, dir|0o755)) }

func link(path, target string) []byte {
	return resource(text(fieldPath, path), number(fieldMode, symlink|0o777), text(fieldTarget, target))
}

func resource(fields ...[]byte) []byte { return text(1, string(join(fields...))) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func text(field int, value string) []byte {
	return join(varint(uint64(field<<3|wireBytes)), varint(uint64(len(value))), []byte(value))
}

func number(field int, value uint64) []byte { return join(varint(uint64(field<<3)), varint(value)) }

func varint(value uint64) []byte {
	return binary.AppendUvarint(nil, value)
}
