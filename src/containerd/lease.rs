// SPDX-License-Identifier: Apache-2.0
//! Leases, and the views and mounts that live under them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};

use super::client::{Client, snapshot_name};
use super::proto::services::leases::v1::leases_client::LeasesClient;
use super::proto::services::leases::v1::{CreateRequest, DeleteRequest};
use super::proto::services::mounts::v1::mounts_client::MountsClient;
use super::proto::services::mounts::v1::{ActivateRequest, DeactivateRequest};
use super::proto::services::snapshots::v1::snapshots_client::SnapshotsClient;
use super::proto::services::snapshots::v1::{RemoveSnapshotRequest, ViewSnapshotRequest};
use super::records;
use crate::error::{Error, ErrorKind, Result};
use crate::mount::Mount;
use crate::snapshotter::time;

/// Label of a lease that says when it ends by itself.
const EXPIRE: &str = "containerd.io/gc.expire";

/// Metadata of a call that is made under a lease.
const LEASE: &str = "containerd-lease";

/// Begins the names of our leases and views.
const PREFIX: &str = "continuity-";

/// Keeps what is made under it from being collected; dropped, the mounts are undone, the views removed, and it is
/// deleted.
pub struct Lease<'a> {
    client: &'a Client,
    id: String,
    header: MetadataValue<Ascii>,
    /// Snapshotter and key.
    views: Vec<(String, String)>,
    /// Names of what the mount manager has mounted.
    activations: Vec<String>,
}

impl Client {
    /// A lease that ends by itself after `expiry`, should nobody delete it.
    pub fn lease(&self, expiry: Duration) -> Result<Lease<'_>> {
        let id = unique();
        let header = id.parse().map_err(|_| Error::new(ErrorKind::InvalidInput, "the name of a lease"))?;
        let nanos = i64::try_from(expiry.as_nanos()).unwrap_or(i64::MAX);
        let expire = time::rfc3339(time::now().saturating_add(nanos));
        let labels = HashMap::from([(EXPIRE.to_owned(), expire)]);
        let mut client = LeasesClient::new(self.channel.clone());
        self.call("a lease", client.create(self.request(CreateRequest { id: id.clone(), labels })))?;
        Ok(Lease { client: self, id, header, views: Vec::new(), activations: Vec::new() })
    }
}

impl Lease<'_> {
    /// Makes a view of a committed snapshot and returns its mounts; the view goes with the lease. `labels` are given
    /// to the view.
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot; what the snapshotter says.
    pub fn view(&mut self, snapshotter: &str, parent: &str, labels: &BTreeMap<String, String>) -> Result<Vec<Mount>> {
        let key = unique();
        let mut request = self.client.request(ViewSnapshotRequest {
            snapshotter: snapshotter.into(),
            key: key.clone(),
            parent: parent.into(),
            labels: labels.clone().into_iter().collect(),
        });
        request.metadata_mut().insert(LEASE, self.header.clone());
        let mut client = SnapshotsClient::new(self.client.channel.clone());
        let what = format!("a view of {}", snapshot_name(snapshotter, parent));
        // Before the call: one that was answered too late may have made it all the same.
        self.views.push((snapshotter.into(), key));
        let response = self.client.call(&what, client.view(request))?;
        Ok(response.mounts.into_iter().map(records::mount).collect())
    }

    /// Lets containerd's mount manager make, in containerd's mount namespace, what the kernel can't make of these mounts
    /// alone; returns what is left to mount. It is undone with the lease.
    ///
    /// # Errors
    /// `Unsupported` if containerd has no mount manager, or it has nothing to do; what containerd says.
    pub fn activate(&mut self, mounts: &[Mount]) -> Result<Vec<Mount>> {
        let name = unique();
        let mounts = mounts.iter().cloned().map(records::to_mount).collect();
        let mut request = self.client.request(ActivateRequest { name: name.clone(), mounts });
        request.metadata_mut().insert(LEASE, self.header.clone());
        let mut client = MountsClient::new(self.client.channel.clone());
        self.activations.push(name);
        let info = self.client.call("activating mounts", client.activate(request))?.info.unwrap_or_default();
        let left: Vec<_> = info.system.into_iter().map(records::mount).collect();
        // It has made everything: the last one is what is to be seen.
        let last = info.active.last().filter(|_| left.is_empty()).map(|active| Mount {
            kind: "bind".into(),
            source: active.mount_point.clone(),
            target: String::new(),
            options: vec!["rbind".into(), "ro".into()],
        });
        Ok(left.into_iter().chain(last).collect())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        for name in &self.activations {
            let mut client = MountsClient::new(self.client.channel.clone());
            let request = self.client.request(DeactivateRequest { name: name.clone() });
            match self.client.call("undoing mounts", client.deactivate(request)) {
                // It was never made.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                undone => forgiven(undone),
            }
        }
        for (snapshotter, key) in &self.views {
            let mut client = SnapshotsClient::new(self.client.channel.clone());
            let request = RemoveSnapshotRequest { snapshotter: snapshotter.clone(), key: key.clone() };
            let removed = self.client.call("removing a view", client.remove(self.client.request(request)));
            forgiven(removed);
        }
        let mut client = LeasesClient::new(self.client.channel.clone());
        let request = self.client.request(DeleteRequest { id: self.id.clone(), sync: false });
        forgiven(self.client.call("deleting a lease", client.delete(request)));
    }
}

/// What could not be removed now is collected when the lease has expired.
fn forgiven(removed: Result<()>) {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => log::warn!("{error}"),
        _ => {}
    }
}

fn unique() -> String {
    format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish())
}
