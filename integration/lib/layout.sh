# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# An OCI layout's only image, taken apart and put together again with other blobs or other media types. What is no longer
# referred to stays in the layout: containerd does not care.

# manifest_of LAYOUT: prints the path of the blob that is the manifest.
manifest_of() {
	local digest
	digest=$(jq -r '.manifests[0].digest' "$1/index.json")
	say "$1/blobs/sha256/${digest#sha256:}"
}

# put_blob LAYOUT FILE: moves the file to where its digest is, and prints the digest.
put_blob() {
	local digest
	digest=$(sha256sum "$2" | cut -d' ' -f1)
	mv "$2" "$1/blobs/sha256/$digest"
	say "sha256:$digest"
}

# put_manifest LAYOUT NAME FILE: makes the file the manifest of the only image, which is called NAME.
put_manifest() {
	local size digest
	size=$(stat -c %s "$3")
	digest=$(put_blob "$1" "$3")
	jq --arg digest "$digest" --argjson size "$size" --arg name "$2" --arg type "$(jq -r '.mediaType // empty' "$1/blobs/sha256/${digest#sha256:}")" \
		'.manifests[0] |= (.digest = $digest | .size = $size | .annotations["org.opencontainers.image.ref.name"] = $name
			| if $type == "" then . else .mediaType = $type end)' "$1/index.json" >"$1/index.new"
	mv "$1/index.new" "$1/index.json"
}

# replace_layer LAYOUT MANIFEST NUMBER BLOB: in the file MANIFEST, layer NUMBER (from 0, or -1 for the last) becomes BLOB.
replace_layer() {
	local size digest
	size=$(stat -c %s "$4")
	digest=$(put_blob "$1" "$4")
	jq --arg digest "$digest" --argjson size "$size" --argjson number "$3" \
		'.layers[$number] |= (.digest = $digest | .size = $size)' "$2" >"$2.new"
	mv "$2.new" "$2"
}

# recompress LAYOUT NAME COMMAND [TYPE]: compresses the layers with COMMAND, and gives them the media type.
recompress() {
	local layout=$1 number digest
	cp "$(manifest_of "$layout")" manifest
	for ((number = 0; number < $(jq '.layers | length' manifest); number++)); do
		digest=$(jq -r ".layers[$number].digest" manifest)
		zcat -f "$layout/blobs/sha256/${digest#sha256:}" | $3 >blob
		replace_layer "$layout" manifest "$number" blob
	done
	if [[ -n ${4:-} ]]; then
		jq --arg type "$4" '.layers[].mediaType = $type' manifest >changed
		mv changed manifest
	fi
	put_manifest "$layout" "$2" manifest
}

# to_docker LAYOUT NAME: the same blobs, as Docker's schema 2 calls them.
to_docker() {
	jq '.mediaType = "application/vnd.docker.distribution.manifest.v2+json"
		| .config.mediaType = "application/vnd.docker.container.image.v1+json"
		| .layers[].mediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"' "$(manifest_of "$1")" >manifest
	put_manifest "$1" "$2" manifest
}
