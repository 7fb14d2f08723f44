// SPDX-License-Identifier: Apache-2.0
//! An inode of the tree as a resource of a manifest.

use crate::manifest::{Kind, Mode, Resource, Xattr};
use crate::tree::{FileType, Node};

/// The resource of one path.
pub fn resource_of(path: Vec<u8>, node: Node) -> Resource {
    let metadata = node.metadata;
    Resource {
        paths: vec![path],
        uid: metadata.uid,
        gid: metadata.gid,
        user: Vec::new(),
        group: Vec::new(),
        mode: Mode::new(kind_of(metadata.file_type), metadata.permissions),
        size: metadata.size,
        digest: node.digest,
        target: node.target,
        device: (metadata.device.0.into(), metadata.device.1.into()),
        xattrs: node.xattrs.into_iter().map(|x| Xattr { name: x.name, value: x.value }).collect(),
    }
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Directory,
        FileType::Regular => Kind::Regular,
        FileType::Symlink => Kind::Symlink,
        FileType::CharDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
    }
}
