# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The small Go programs of integration/go, built on the distribution's packages: no module is downloaded.

go_environment() {
	export GO111MODULE=off GOPATH="$work/gopath:/usr/share/gocode" GOFLAGS='' CGO_ENABLED=0 GOTOOLCHAIN=local
	export GOCACHE="${CONTINUITY_GOCACHE:-$work/go-cache}"
	export PATH="$work/bin:$PATH"
}

# go_program NAME: builds integration/go/NAME into $work/bin.
go_program() {
	go_environment
	mkdir -p "$work/bin"
	(cd "$repository" && go build -o "$work/bin/$1" "./integration/go/$1")
}

# go_test NAME: builds the tests of integration/go/NAME into $work/bin/NAME.test.
go_test() {
	go_environment
	mkdir -p "$work/bin"
	(cd "$repository" && go test -c -o "$work/bin/$1.test" "./integration/go/$1")
}
