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

use crate::error::Result;
use crate::image::{ImageSettings, Images, RepairOptions};
use crate::key::SnapshotKey;
use crate::labels;
use crate::mount::Mount;
use crate::snapshotter::{Labels, Snapshot, Snapshotter, Usage};
use crate::verifier::{Policy, Use, Verifier};

/// containerd's namespace where none is named.
const DEFAULT_NAMESPACE: &str = "default";

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

    /// The clean stop, after [`Engine::shutdown`] and once no call is under way: nothing is changed afterwards.
    ///
    /// # Errors
    /// As [`Snapshotter::close`].
    pub fn close(&self) -> Result<()> {
        self.snapshotter.close()
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
    /// As [`Snapshotter::prepare`], before anything is verified; then as [`Verifier::before_use`].
    pub fn prepare(&self, key: &str, parent: Option<&str>, labels: Labels, asked: Instant) -> Result<Vec<Mount>> {
        if let Some(parent) = parent
            && !is_unpack(key, Some(parent), &labels)
        {
            // What cannot be created is not waited for. The snapshotter asks again, and its answer counts.
            self.snapshotter.creatable(key, Some(parent))?;
            self.verifier.before_use(parent, Use::Prepare, asked)?;
        }
        self.snapshotter.prepare(key, parent, labels)
    }

    /// Creates a read-only snapshot. Its parent's chain is verified first, unless the label [`labels::UNVERIFIED`] is
    /// `off`: so a tool looks at what is damaged.
    ///
    /// # Errors
    /// As [`Engine::prepare`].
    pub fn view(&self, key: &str, parent: Option<&str>, labels: Labels, asked: Instant) -> Result<Vec<Mount>> {
        if let Some(parent) = parent
            && labels.get(labels::UNVERIFIED).is_none_or(|value| value != labels::UNVERIFIED_VALUE)
        {
            self.snapshotter.creatable(key, Some(parent))?;
            self.verifier.before_use(parent, Use::View, asked)?;
        }
        self.snapshotter.view(key, parent, labels)
    }

    /// The mounts of an active snapshot or a view, which were verified when it was created.
    ///
    /// # Errors
    /// As [`Snapshotter::mounts`].
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.snapshotter.mounts(key)
    }

    /// Turns an active snapshot into a layer, on top of `parent` if it has none, and asks for its seal. Called inside
    /// containerd's write transaction: returns as soon as the record is durable.
    ///
    /// # Errors
    /// As [`Snapshotter::commit`].
    pub fn commit(&self, name: &str, key: &str, parent: Option<&str>, labels: Labels) -> Result<()> {
        let snapshot = self.snapshotter.commit(name, key, parent, labels)?;
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
pub fn is_unpack(key: &str, parent: Option<&str>, labels: &Labels) -> bool {
    SnapshotKey::parse(key).is_some_and(|key| key.is_unpack(parent, labels))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::snapshotter::SealState;
    use crate::verifier::{Action, Check};

    const POLICY: Policy = Policy {
        on_prepare: Check::Full,
        on_view: Check::Full,
        action: Action::Refuse,
        unproven: crate::verifier::Unproven::Refuse,
        deadline: Duration::from_secs(60),
        repair: crate::verifier::Repair::Off,
        threads: 1,
    };

    /// An engine with a layer of one file, sealed, and that file.
    fn engine_with_a_layer(root: &Path, layer: &str) -> (Engine, std::path::PathBuf) {
        let engine = Engine::open(root, POLICY, None).unwrap();
        engine.prepare("active", None, Labels::new(), Instant::now()).unwrap();
        let file = engine.snapshotter.layer_dir(engine.stat("active").unwrap().id).join("file");
        std::fs::write(&file, "intact").unwrap();
        engine.commit(layer, "active", None, Labels::new()).unwrap();
        while engine.stat(layer).unwrap().seal.unwrap().state == SealState::Pending {
            std::thread::sleep(Duration::from_millis(5));
        }
        (engine, file)
    }

    #[test]
    fn only_an_unpacking_is_put_onto_damage() {
        let root = tempfile::tempdir().unwrap();
        let digest = |n: char| format!("sha256:{}", n.to_string().repeat(64));
        let layer = format!("default/1/{}", digest('0'));
        let (engine, file) = engine_with_a_layer(root.path(), &layer);
        std::fs::write(&file, "broken").unwrap();
        let target = Labels::from([(labels::TARGET.to_owned(), digest('1'))]);
        for (key, labels, passes) in [
            ("default/2/extract-anything".to_owned(), Labels::new(), false),
            ("default/2/extract-anything".to_owned(), target.clone(), false),
            ("default/2/container".to_owned(), target.clone(), false),
            (format!("extract-1-abcd {}", digest('1')), target.clone(), false),
            (format!("default/2/extract-1-abcd {}", digest('0')), Labels::new(), false),
            (format!("default/2/extract-1-abcd {}", digest('1')), target, true),
        ] {
            let prepared = engine.prepare(&key, Some(&layer), labels, Instant::now());
            assert_eq!(prepared.is_ok(), passes, "{key}: {prepared:?}");
        }
        // Nobody gets around the check with what is unpacked onto the damage.
        let (unpacking, next) =
            (format!("default/2/extract-1-abcd {}", digest('1')), format!("default/2/{}", digest('1')));
        engine.commit(&next, &unpacking, None, Labels::new()).unwrap();
        let run = engine.prepare("default/3/container", Some(&next), Labels::new(), Instant::now());
        assert!(run.unwrap_err().to_string().contains("damaged: /file: digest"));
        engine.shutdown();
    }

    #[test]
    fn what_cannot_be_created_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let (engine, file) = engine_with_a_layer(root.path(), "layer");
        engine.prepare("top", Some("layer"), Labels::new(), Instant::now()).unwrap();
        // A check of it would take hours.
        std::fs::File::options().write(true).open(file).unwrap().set_len(4 << 40).unwrap();
        for (key, parent, kind) in [
            ("new", "none", ErrorKind::NotFound),
            ("new", "top", ErrorKind::InvalidInput),
            ("top", "layer", ErrorKind::AlreadyExists),
            ("top", "none", ErrorKind::NotFound),
            ("top", "top", ErrorKind::InvalidInput),
        ] {
            let began = Instant::now();
            for result in [
                engine.prepare(key, Some(parent), Labels::new(), began),
                engine.view(key, Some(parent), Labels::new(), began),
            ] {
                assert_eq!(result.unwrap_err().kind(), kind, "{key} on {parent}");
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{key} on {parent}: it was checked");
        }
        engine.shutdown();
    }

    #[test]
    fn a_key_that_exists_is_said_to_exist_whatever_its_parent_has_become() {
        let root = tempfile::tempdir().unwrap();
        let (engine, file) = engine_with_a_layer(root.path(), "layer");
        engine.view("view", Some("layer"), Labels::new(), Instant::now()).unwrap();
        std::fs::write(&file, "broken").unwrap();
        let layer = Some("layer");
        for (key, kind) in [("view", ErrorKind::AlreadyExists), ("new", ErrorKind::FailedPrecondition)] {
            let prepared = engine.prepare(key, layer, Labels::new(), Instant::now());
            assert_eq!(prepared.unwrap_err().kind(), kind, "prepare {key}");
            assert_eq!(engine.view(key, layer, Labels::new(), Instant::now()).unwrap_err().kind(), kind, "view {key}");
        }
        let unverified = Labels::from([(labels::UNVERIFIED.to_owned(), "off".to_owned())]);
        engine.view("look", layer, unverified.clone(), Instant::now()).unwrap();
        let prepared = engine.prepare("run", layer, unverified, Instant::now());
        assert_eq!(prepared.unwrap_err().kind(), ErrorKind::FailedPrecondition, "only a view is let pass");
        engine.shutdown();
    }
}
