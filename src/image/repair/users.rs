// SPDX-License-Identifier: Apache-2.0
//! Who uses the directories that are to be repaired.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Part;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::Images;
use crate::tree::InodeId;

/// Running containers, each as `namespace/id`, by the directories that their root filesystems show.
type Users = HashMap<InodeId, BTreeSet<String>>;

impl Images {
    /// For each part, whether a running container of any namespace uses it.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming layers and containers, if one does and `force` is not set. A container of which
    /// it can't be found out is an error, too.
    pub(super) fn check_unused(&self, parts: &[Part], snapshotter: &str, force: bool) -> Result<Vec<bool>> {
        let users = self.users()?;
        let mut used = Vec::new();
        let mut refused = Vec::new();
        for part in parts {
            let by = directory_id(&part.directory)?.and_then(|id| users.get(&id));
            used.push(by.is_some());
            if let Some(by) = by {
                let by: Vec<_> = by.iter().map(|name| Escaped(name.as_bytes()).to_string()).collect();
                refused.push(format!("{} by {}", part.name(), by.join(", ")));
            }
        }
        if refused.is_empty() || force {
            return Ok(used);
        }
        let message = format!(
            "running containers use what is damaged in {}: {}; stop them first, or repair all the same (--force): what \
             they see of the change is undefined",
            Escaped(snapshotter.as_bytes()),
            refused.join("; ")
        );
        Err(Error::new(ErrorKind::FailedPrecondition, message))
    }

    /// The running containers of every namespace.
    fn users(&self) -> Result<Users> {
        let mut users = Users::new();
        for namespace in self.client.namespaces()? {
            let client = self.client.with_namespace(&namespace)?;
            for container in client.containers()?.iter().filter(|c| c.running && !c.snapshot_key.is_empty()) {
                let mounts = match client.mounts(&container.snapshotter, &container.snapshot_key) {
                    // Removed meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    mounts => mounts?,
                };
                for directory in mounts.iter().flat_map(|mount| mount.directories()) {
                    if let Some(id) = directory_id(&directory)? {
                        users.entry(id).or_default().insert(format!("{namespace}/{}", container.id));
                    }
                }
            }
        }
        Ok(users)
    }
}

/// Which directory it is, by whatever path it was named.
fn directory_id(path: &Path) -> Result<Option<InodeId>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(InodeId { dev: metadata.dev(), ino: metadata.ino() })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("stat", path, error)),
    }
}
