// SPDX-License-Identifier: Apache-2.0
//! An inode of the tree as a resource of a manifest.

use crate::manifest::{Mode, Resource};
use crate::tree::Node;

/// The resource of one path.
pub fn resource_of(path: Vec<u8>, node: Node) -> Resource {
    let metadata = node.metadata;
    Resource {
        paths: vec![path],
        uid: metadata.uid,
        gid: metadata.gid,
        user: Vec::new(),
        group: Vec::new(),
        mode: Mode::new(metadata.file_type, metadata.permissions),
        size: metadata.size,
        digest: node.digest,
        target: node.target,
        device: (metadata.device.0.into(), metadata.device.1.into()),
        xattrs: node.xattrs,
    }
}
