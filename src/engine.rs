// SPDX-License-Identifier: Apache-2.0
//! One method per use case: the one door for every protocol.
//!
//! What a protocol must not do by itself is done here: nothing is built on a layer that was not verified, nothing
//! is committed without being sealed, and what is removed takes its manifest along. Everything is synchronous;
//! a server crosses to it once a call.

mod manifests;
mod targets;

pub use manifests::{ManifestName, StoredManifest};
pub use targets::{Counts, SnapshotName, Target};

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::{ImageSettings, Images, RepairOptions};
use crate::mount::Mount;
use crate::snapshotter::{Labels, Snapshot, Snapshotter, Usage};
use crate::verifier::{Policy, Use, Verifier};

/// The label of a snapshot that is prepared to unpack a layer; its value is the chain ID.
const UNPACK_LABEL: &str = "containerd.io/snapshot.ref";

/// The label of a view that is made to look at what may be damaged: nobody runs from it.
const UNVERIFIED_LABEL: &str = "containerd.io/snapshot/continuity.verify";

/// containerd's namespace where none is named.
const DEFAULT_NAMESPACE: &str = "default";

/// Begins the client's key of a snapshot that is prepared to unpack a layer.
const UNPACK_KEY: &str = "extract-";

/// See the [module](self).
pub struct Engine {
    snapshotter: Arc<Snapshotter>,
    verifier: Arc<Verifier>,
}

impl Engine {
    /// Opens the state beneath `root`, repairs what a crash left, and takes up the seals that are pending. `images`
    /// says how containerd is asked for images, if it is.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming root and process, if another process has it open.
    pub fn open(root: &Path, policy: Policy, images: Option<ImageSettings>) -> Result<Self> {
        let snapshotter = Arc::new(Snapshotter::open(root)?);
        let verifier = Verifier::start(root, Arc::clone(&snapshotter), policy, images)?;
        Ok(Self::new(snapshotter, verifier))
    }

    /// The images of one of containerd's namespaces, through a connection of its own.
    ///
    /// # Errors
    /// `FailedPrecondition` if no containerd is configured; as [`Images::connect`].
    pub fn images(&self, namespace: &str) -> Result<Images> {
        self.verifier.images(if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace })
    }

    /// How images are repaired; what is removed is kept beneath the root.
    pub fn repair_options(&self, dry_run: bool, force: bool) -> RepairOptions {
        self.verifier.repair_options(dry_run, force)
    }

    /// Puts the parts together.
    pub fn new(snapshotter: Arc<Snapshotter>, verifier: Arc<Verifier>) -> Self {
        Self { snapshotter, verifier }
    }

    /// Stops the background work; what is not done is taken up by the next start. Calls that wait for a check, or come
    /// later, are answered as if it could not be done.
    pub fn shutdown(&self) {
        self.verifier.shutdown();
    }

    /// Creates a writable snapshot. Its parent's chain is verified first, unless this only unpacks the next layer:
    /// an image of n layers would cost n² checks, of layers that nothing runs from yet. `asked` is when the call
    /// came in, from which its deadline counts.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`]; `FailedPrecondition`, naming snapshot, path and finding, for a damaged layer.
    pub fn prepare(&self, key: &str, parent: Option<&str>, labels: Labels, asked: Instant) -> Result<Vec<Mount>> {
        if let Some(parent) = parent
            && !is_unpack(key, &labels)
        {
            self.absent(key)?;
            self.verifier.before_use(parent, Use::Prepare, asked)?;
        }
        self.snapshotter.prepare(key, parent, labels)
    }

    /// Creates a read-only snapshot. Its parent's chain is verified first, unless the label
    /// `containerd.io/snapshot/continuity.verify` is `off`: so a tool looks at what is damaged.
    ///
    /// # Errors
    /// As [`Engine::prepare`].
    pub fn view(&self, key: &str, parent: Option<&str>, labels: Labels, asked: Instant) -> Result<Vec<Mount>> {
        if let Some(parent) = parent
            && labels.get(UNVERIFIED_LABEL).is_none_or(|value| value != "off")
        {
            self.absent(key)?;
            self.verifier.before_use(parent, Use::View, asked)?;
        }
        self.snapshotter.view(key, parent, labels)
    }

    /// Nobody waits for the verification of something that is already there. The snapshotter asks again when it
    /// creates the snapshot, and its answer counts.
    fn absent(&self, key: &str) -> Result<()> {
        match self.snapshotter.stat(key) {
            Ok(_) => {
                let message = format!("snapshot {} already exists", Escaped(key.as_bytes()));
                Err(Error::new(ErrorKind::AlreadyExists, message))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The mounts of an active snapshot or a view, which were verified when it was created.
    ///
    /// # Errors
    /// As [`Snapshotter::mounts`].
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.snapshotter.mounts(key)
    }

    /// Turns an active snapshot into a layer and asks for its seal. Called inside containerd's write transaction:
    /// returns as soon as the record is durable.
    ///
    /// # Errors
    /// As [`Snapshotter::commit`].
    pub fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        let snapshot = self.snapshotter.commit(name, key, labels)?;
        self.verifier.committed(&snapshot);
        Ok(())
    }

    /// Forgets a snapshot, and gives up what is read of it for a seal or a check; nothing is deleted before
    /// [`Engine::cleanup`].
    ///
    /// # Errors
    /// As [`Snapshotter::remove`].
    pub fn remove(&self, key: &str) -> Result<()> {
        self.snapshotter.remove(key)?;
        self.verifier.removed(key);
        Ok(())
    }

    /// Deletes the directories of snapshots that are gone, and then the manifests that no seal refers to.
    ///
    /// # Errors
    /// The first failure, after all the rest was deleted.
    pub fn cleanup(&self) -> Result<()> {
        self.snapshotter.cleanup().and(self.verifier.collect())
    }

    /// One snapshot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn stat(&self, key: &str) -> Result<Snapshot> {
        self.snapshotter.stat(key)
    }

    /// What a snapshot's own directory takes up.
    ///
    /// # Errors
    /// As [`Snapshotter::usage`].
    pub fn usage(&self, key: &str) -> Result<Usage> {
        self.snapshotter.usage(key)
    }

    /// Changes labels.
    ///
    /// # Errors
    /// As [`Snapshotter::update`].
    pub fn update(&self, key: &str, labels: Labels, mask: &[String]) -> Result<Snapshot> {
        self.snapshotter.update(key, labels, mask)
    }

    /// The snapshots that match one of the filters, by key; all of them without a filter.
    ///
    /// # Errors
    /// `InvalidInput` for a bad filter.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Snapshot>> {
        self.snapshotter.list(filters)
    }
}

/// Whether a snapshot is only prepared to unpack the next layer: that is verified by nobody and waits for nothing.
pub fn is_unpack(key: &str, labels: &Labels) -> bool {
    labels.contains_key(UNPACK_LABEL) || client_key(key).starts_with(UNPACK_KEY)
}

/// The client's part of `<namespace>/<number>/<client's key>`; a key of another shape came from the client as it is.
fn client_key(key: &str) -> &str {
    namespaced(key).map_or(key, |(_, client)| client)
}

/// Namespace and client's key of `<namespace>/<number>/<client's key>`.
fn namespaced(key: &str) -> Option<(&str, &str)> {
    let mut parts = key.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(number), Some(client)) if number.parse::<u64>().is_ok() => Some((namespace, client)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshotter::SealState;
    use crate::verifier::{Action, Check};

    const POLICY: Policy = Policy {
        on_prepare: Check::Full,
        on_view: Check::Full,
        action: Action::Refuse,
        deadline: Duration::from_secs(60),
        repair: crate::verifier::Repair::Off,
        threads: 1,
    };

    #[test]
    fn a_key_that_exists_is_said_to_exist_whatever_its_parent_has_become() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::open(root.path(), POLICY, None).unwrap();
        engine.prepare("active", None, Labels::new(), Instant::now()).unwrap();
        let file = engine.snapshotter.layer_dir(engine.stat("active").unwrap().id).join("file");
        std::fs::write(&file, "intact").unwrap();
        engine.commit("layer", "active", Labels::new()).unwrap();
        while engine.stat("layer").unwrap().seal.unwrap().state == SealState::Pending {
            std::thread::sleep(Duration::from_millis(5));
        }
        engine.view("view", Some("layer"), Labels::new(), Instant::now()).unwrap();
        std::fs::write(&file, "broken").unwrap();
        let layer = Some("layer");
        for (key, kind) in [("view", ErrorKind::AlreadyExists), ("new", ErrorKind::FailedPrecondition)] {
            let prepared = engine.prepare(key, layer, Labels::new(), Instant::now());
            assert_eq!(prepared.unwrap_err().kind(), kind, "prepare {key}");
            assert_eq!(engine.view(key, layer, Labels::new(), Instant::now()).unwrap_err().kind(), kind, "view {key}");
        }
        let unverified = Labels::from([(UNVERIFIED_LABEL.to_owned(), "off".to_owned())]);
        engine.view("look", layer, unverified.clone(), Instant::now()).unwrap();
        let prepared = engine.prepare("run", layer, unverified, Instant::now());
        assert_eq!(prepared.unwrap_err().kind(), ErrorKind::FailedPrecondition, "only a view is let pass");
        engine.shutdown();
    }

    #[test]
    fn only_the_clients_part_of_a_key_tells_an_unpack() {
        for (key, expected) in [
            ("default/12/extract-1234-abcd sha256:00", true),
            ("extract-1 sha256:00", true),
            ("default/12/my/extract-1", false),
            ("default/12/container", false),
            ("extract-ns/12/container", false),
            ("12", false),
        ] {
            assert_eq!(is_unpack(key, &Labels::new()), expected, "{key}");
        }
        let labels = Labels::from([(UNPACK_LABEL.to_owned(), "sha256:00".to_owned())]);
        assert!(is_unpack("default/12/container", &labels));
    }
}
