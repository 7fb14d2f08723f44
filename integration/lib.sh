# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the demo and the tests share. Everything that runs, runs beneath one temporary directory, in mount and
# process namespaces of its own: when the last line is done, or the first one dies, the kernel takes the
# processes and the mounts, and what is left is a directory to remove.
#
# lib/base.sh      words, waiting, the names of things
# lib/private.sh   the namespaces
# lib/packages.sh  what must be installed
# lib/cargo.sh     the Rust toolchain, also under sudo
# lib/go.sh        the small Go programs, built on the distribution's packages
# lib/disk.sh      filesystems of our own
# lib/services.sh  containerd and our daemon
# lib/containerds.sh  newer containerds beside the machine's own
# lib/userns.sh    a user namespace, as rootless containerd lives in
# lib/image.sh     an image of several layers
# lib/layers.sh    snapshots seen from outside: keys, labels, directories
# lib/odd.sh       images of odd layers
# lib/layout.sh    images taken apart and put together again: other compressions, other media types
# lib/debian.sh    a Debian of four layers
# lib/story.sh     the image imported, damaged, mended
# lib/cases.sh     named cases, counted
integration=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$integration")
export integration repository

for part in base private packages cargo go disk services containerds userns image layers odd layout debian story cases; do
	# shellcheck source=/dev/null
	source "$integration/lib/$part.sh"
done
unset part
