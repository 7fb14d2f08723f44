// SPDX-License-Identifier: Apache-2.0
//! A copy of a directory, as containerd's native snapshotter makes one for each writable snapshot
//! (`fs.CopyDir`); a view shows the directory itself.
//!
//! Hard links of anything but files become inodes of their own, and what is made in a directory with a default ACL
//! inherits it, also where the original was there before the ACL.

use std::collections::HashSet;

use super::acl::DEFAULT;
use super::tree::{Name, ROOT, Tree};
use crate::inode::FileType;

/// Makes of a tree what its copy would be.
pub fn copy(tree: &mut Tree) {
    let listed = |tree: &Tree, directory: u32| {
        let mut names: Vec<_> = tree.names(directory).map(|(name, entry)| (name.to_vec(), entry)).collect();
        names.reverse();
        names
    };
    // Inodes of several names: only the first one makes something.
    let mut seen = HashSet::new();
    let mut directories = vec![(ROOT, listed(tree, ROOT))];
    while let Some((directory, names)) = directories.last_mut() {
        let directory = *directory;
        let Some((name, entry)) = names.pop() else {
            directories.pop();
            continue;
        };
        let inode = tree.inode(entry.inode);
        let file_type = inode.file_type();
        if inode.links > 1 && !seen.insert(entry.inode) {
            if file_type != FileType::Regular {
                split(tree, directory, &name, entry);
            }
            continue;
        }
        let default = tree.inode(directory).xattrs.iter().find(|xattr| xattr.name == DEFAULT);
        if let Some(default) = default.map(|xattr| xattr.value.clone()) {
            tree.inode_mut(entry.inode).inherit(&default);
        }
        if file_type == FileType::Directory {
            directories.push((entry.inode, listed(tree, entry.inode)));
        }
    }
}

/// Gives a name an inode of its own.
fn split(tree: &mut Tree, directory: u32, name: &[u8], entry: Name) {
    let inode = tree.inode_mut(entry.inode);
    inode.links -= 1;
    let mut own = inode.copied(inode.layer);
    own.links = 1;
    let inode = tree.add(own);
    tree.rename(directory, name, Name { inode, ..entry });
}
