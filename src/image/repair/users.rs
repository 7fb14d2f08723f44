// SPDX-License-Identifier: Apache-2.0
//! Who uses the directories that are to be repaired: running containers, by what containerd tells, and whatever else
//! has them mounted, by what the kernel tells.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Part;
use crate::containerd::{Client, ContainerRecord};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::Images;
use crate::mount::Mount;
use crate::mountinfo::{self, MountEntry, MountTable};
use crate::tree::InodeId;

/// Mounts named in a refusal, of each layer: a layer may be mounted hundreds of times.
const NAMED: usize = 5;

/// Running containers, each as `namespace/id`.
#[derive(Default)]
struct Containers {
    /// By the directories that their root filesystems show.
    by_directory: HashMap<InodeId, BTreeSet<String>>,
    /// Those of which nobody knows, and why.
    unknown: Vec<String>,
}

/// Who uses what is to be repaired.
pub struct Uses {
    /// Whether somebody uses it, for each part.
    pub of_parts: Vec<bool>,
    /// Which part is used by whom, for a person.
    pub by: Vec<String>,
}

impl Images {
    /// Whether a running container of any namespace uses the parts, or anything else has them mounted.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming layers and users, if so and `force` is not set; also if it can't be found out for
    /// a container of this snapshotter. With `force`, such a container counts as using all.
    pub(super) fn check_unused(&self, parts: &[Part], snapshotter: &str, force: bool) -> Result<Uses> {
        let containers = self.running_containers(snapshotter)?;
        let tables = mountinfo::all().map_err(|error| Error::io("read", "/proc", error))?;
        let mut used = Vec::new();
        let mut refused = containers.unknown.clone();
        for part in parts {
            let by = match directory_id(&part.directory)?.and_then(|id| containers.by_directory.get(&id)) {
                Some(by) => by.iter().map(|name| Escaped(name.as_bytes()).to_string()).collect(),
                None => mounts_of(part, &tables)?,
            };
            used.push(!by.is_empty() || !containers.unknown.is_empty());
            if !by.is_empty() {
                refused.push(format!("{} by {}", part.name(), by.join(", ")));
            }
        }
        if refused.is_empty() || force {
            return Ok(Uses { of_parts: used, by: refused });
        }
        let message = format!(
            "what is damaged in {} is in use: {}; stop that first, or repair all the same (--force): what a mounted \
             overlay shows of the change is undefined",
            Escaped(snapshotter.as_bytes()),
            refused.join("; ")
        );
        Err(Error::new(ErrorKind::FailedPrecondition, message))
    }

    /// The running containers of every namespace.
    fn running_containers(&self, snapshotter: &str) -> Result<Containers> {
        let mut containers = Containers::default();
        for namespace in self.client.namespaces()? {
            let client = self.client.with_namespace(&namespace)?;
            for container in client.containers()?.iter().filter(|c| c.running && !c.snapshot_key.is_empty()) {
                let name = format!("{namespace}/{}", container.id);
                match directories_of(&client, container) {
                    Ok(directories) => {
                        for id in directories {
                            containers.by_directory.entry(id).or_default().insert(name.clone());
                        }
                    }
                    // The snapshot was removed meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) if container.snapshotter == snapshotter => {
                        containers.unknown.push(format!("nobody knows what by {}: {error}", Escaped(name.as_bytes())));
                    }
                    // The mount tables tell what it uses, if it uses what another snapshotter has.
                    Err(error) => log::warn!("the mounts of container {}: {error}", Escaped(name.as_bytes())),
                }
            }
        }
        Ok(containers)
    }
}

/// The directories that a container's root filesystem shows.
fn directories_of(client: &Client, container: &ContainerRecord) -> Result<Vec<InodeId>> {
    let mounts = client.mounts(&container.snapshotter, &container.snapshot_key)?;
    let directories = mounts.iter().flat_map(Mount::directories);
    directories.filter_map(|directory| directory_id(&directory).transpose()).collect()
}

/// The mounts that show a part: overlays that have it as a layer, and bind mounts of it.
fn mounts_of(part: &Part, tables: &[MountTable]) -> Result<Vec<String>> {
    let id = directory_id(&part.directory)?;
    let location = part.root.location()?;
    let shows = |mount: &MountEntry| {
        location.as_ref().is_some_and(|location| location.is_bound_by(mount)) || overlays(mount, part, id)
    };
    let mut by = Vec::new();
    let mut more = 0;
    for table in tables {
        for mount in table.mounts.iter().filter(|mount| shows(mount)) {
            let point = Escaped::path(&mount.point);
            match table.process {
                _ if by.len() >= NAMED => more += 1,
                None => by.push(format!("the mount on {point}")),
                Some(process) => by.push(format!("the mount on {point} of process {process}")),
            }
        }
    }
    if more > 0 {
        by.push(format!("{more} more mounts"));
    }
    Ok(by)
}

/// Whether an overlay has a part as one of its layers.
fn overlays(mount: &MountEntry, part: &Part, id: Option<InodeId>) -> bool {
    if mount.kind != "overlay" {
        return false;
    }
    let options = mount.options.clone();
    let mount = Mount { kind: "overlay".into(), source: String::new(), target: String::new(), options };
    mount.overlay_directories().iter().any(|directory| match directory.is_absolute() {
        true => id.is_some() && directory_id(directory).ok().flatten() == id,
        // Relative to where nobody knows: where the options would not fit into a page otherwise.
        false => !directory.as_os_str().is_empty() && part.directory.ends_with(directory),
    })
}

/// Which directory it is, by whatever path it was named.
fn directory_id(path: &Path) -> Result<Option<InodeId>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(InodeId { dev: metadata.dev(), ino: metadata.ino() })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("stat", path, error)),
    }
}
