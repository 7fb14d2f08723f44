// SPDX-License-Identifier: Apache-2.0
use std::fs::{File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use super::*;
use crate::snapshotter::Labels;

const LONG: Duration = Duration::from_secs(60);

const POLICY: Policy = Policy {
    on_prepare: Check::Full,
    on_view: Check::Full,
    action: Action::Refuse,
    deadline: LONG,
    repair: Repair::Off,
    threads: 1,
};

struct Scene {
    verifier: Arc<Verifier>,
    snapshotter: Arc<Snapshotter>,
    root: tempfile::TempDir,
}

impl Scene {
    fn new(policy: Policy) -> Self {
        let root = tempfile::tempdir().unwrap();
        let snapshotter = Arc::new(Snapshotter::open(root.path()).unwrap());
        let verifier = Verifier::start(root.path(), Arc::clone(&snapshotter), policy, None).unwrap();
        Self { verifier, snapshotter, root }
    }

    /// Stops the verifier and starts another one.
    fn restart(&mut self, policy: Policy) {
        self.verifier.shutdown();
        self.verifier = Verifier::start(self.root.path(), Arc::clone(&self.snapshotter), policy, None).unwrap();
    }

    /// Commits a layer that holds one file of that name, without telling the verifier.
    fn commit_untold(&self, name: &str, parent: Option<&str>) -> Snapshot {
        let active = format!("{name}-active");
        self.snapshotter.prepare(&active, parent, Labels::new()).unwrap();
        let id = self.snapshotter.stat(&active).unwrap().id;
        fs::write(self.snapshotter.layer_dir(id).join(name), format!("contents of {name}")).unwrap();
        self.snapshotter.commit(name, &active, Labels::new()).unwrap()
    }

    /// Commits a layer and waits for its seal.
    fn layer(&self, name: &str, parent: Option<&str>) -> Snapshot {
        self.verifier.committed(&self.commit_untold(name, parent));
        self.wait(name, SealState::Sealed)
    }

    fn wait(&self, name: &str, state: SealState) -> Snapshot {
        let until = Instant::now() + LONG;
        loop {
            let snapshot = self.snapshotter.stat(name).unwrap();
            let seal = snapshot.seal.unwrap();
            if seal.state == state {
                return snapshot;
            }
            assert!(Instant::now() < until, "{name} is {}, not {state}", seal.state);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.snapshotter.layer_dir(self.snapshotter.stat(name).unwrap().id).join(name)
    }

    /// Changes one byte; size and times stay.
    fn flip(&self, name: &str) {
        let path = self.file(name);
        let metadata = fs::metadata(&path).unwrap();
        let mut contents = fs::read(&path).unwrap();
        contents[0] ^= 1;
        fs::write(&path, contents).unwrap();
        let times =
            FileTimes::new().set_modified(metadata.modified().unwrap()).set_accessed(metadata.accessed().unwrap());
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    }

    fn manifest_of(&self, name: &str) -> Digest {
        self.snapshotter.stat(name).unwrap().seal.unwrap().manifest.unwrap()
    }

    fn refused(&self, parent: &str) -> String {
        let error = self.verifier.before_use(parent, Use::View, Instant::now()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        error.to_string()
    }
}

#[test]
fn a_committed_layer_is_sealed_verified_and_refused_when_it_changes() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.layer("two", Some("one"));
    for name in ["one", "two"] {
        let seal = scene.snapshotter.stat(name).unwrap().seal.unwrap();
        assert_eq!((seal.state, seal.verified_at), (SealState::Sealed, None));
    }
    let before = crate::snapshotter::time::now();
    scene.verifier.before_use("two", Use::Prepare, Instant::now()).unwrap();
    for name in ["one", "two"] {
        assert!(scene.wait(name, SealState::Verified).seal.unwrap().verified_at.unwrap() >= before);
    }

    scene.flip("one");
    let message = scene.refused("two");
    assert!(message.starts_with("snapshot one: damaged: /one: digest: expected sha256:"), "{message}");
    let seal = scene.wait("one", SealState::Damaged).seal.unwrap();
    assert!(seal.verified_at.is_some(), "when it was last intact is still known");
    assert_eq!(scene.snapshotter.stat("two").unwrap().seal.unwrap().state, SealState::Verified);

    scene.flip("one");
    scene.verifier.before_use("two", Use::View, Instant::now()).unwrap();
    scene.wait("one", SealState::Verified);
}

#[test]
fn the_mode_of_the_layers_own_directory_is_sealed_too() {
    let scene = Scene::new(POLICY);
    let layer = scene.layer("one", None);
    fs::set_permissions(scene.snapshotter.layer_dir(layer.id), fs::Permissions::from_mode(0o777)).unwrap();
    let message = scene.refused("one");
    assert!(message.starts_with("snapshot one: damaged: /: mode:"), "{message}");
}

#[test]
fn a_layer_whose_seal_is_pending_passes() {
    let scene = Scene::new(POLICY);
    // Nobody rang the bell, so it stays pending.
    scene.commit_untold("one", None);
    scene.flip("one");
    scene.verifier.before_use("one", Use::Prepare, Instant::now()).unwrap();
    let mut nothing = |_| Ok(());
    let error = scene.verifier.verify_snapshot("one", 0, &Progress::default(), &mut nothing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("still pending"), "{error}");
}

#[test]
fn seals_that_a_stop_left_pending_are_made_at_the_next_start() {
    let mut scene = Scene::new(POLICY);
    scene.commit_untold("one", None);
    scene.commit_untold("two", Some("one"));
    assert_eq!(scene.snapshotter.pending().unwrap().len(), 2);
    scene.restart(POLICY);
    scene.wait("one", SealState::Sealed);
    scene.wait("two", SealState::Sealed);
}

#[test]
fn a_seal_that_fails_is_tried_again() {
    let scene = Scene::new(POLICY);
    let layer = scene.commit_untold("one", None);
    let (directory, aside) = (scene.snapshotter.layer_dir(layer.id), scene.root.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    scene.verifier.committed(&layer);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Pending);
    fs::rename(&aside, &directory).unwrap();
    scene.wait("one", SealState::Sealed);
}

#[test]
fn a_snapshot_removed_before_its_seal_holds_nobody_up() {
    let scene = Scene::new(POLICY);
    let gone = scene.commit_untold("gone", None);
    scene.snapshotter.remove("gone").unwrap();
    scene.verifier.committed(&gone);
    scene.layer("one", None);
}

#[test]
fn sealing_ends_when_the_snapshot_is_removed() {
    let scene = Scene::new(POLICY);
    scene.snapshotter.prepare("active", None, Labels::new()).unwrap();
    let id = scene.snapshotter.stat("active").unwrap().id;
    // It takes up no space, and hours to hash.
    File::create(scene.snapshotter.layer_dir(id).join("huge")).unwrap().set_len(4 << 40).unwrap();
    scene.verifier.committed(&scene.snapshotter.commit("huge", "active", Labels::new()).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(scene.snapshotter.stat("huge").unwrap().seal.unwrap().state, SealState::Pending);
    scene.snapshotter.remove("huge").unwrap();
    scene.verifier.removed("huge");
    // There is one thread that seals.
    scene.layer("one", None);
}

#[test]
fn what_could_not_be_checked_is_refused_but_not_called_damage() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    let stored = scene.root.path().join("manifests/sha256").join(scene.manifest_of("one").hex());
    let manifest = fs::read(&stored).unwrap();
    fs::write(&stored, b"rotten").unwrap();
    let message = scene.refused("one");
    assert!(message.starts_with("snapshot one: could not be checked: the stored manifest"), "{message}");
    assert!(message.ends_with("unpack it again"), "{message}");
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Sealed);
    fs::write(&stored, manifest).unwrap();
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
}

#[test]
fn a_layer_whose_manifest_is_damaged_or_gone_is_not_called_verified() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    let stored = scene.root.path().join("manifests/sha256").join(scene.manifest_of("one").hex());
    let aside = scene.root.path().join("aside");
    fs::copy(&stored, &aside).unwrap();
    for rotten in [true, false] {
        scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
        let before = scene.wait("one", SealState::Verified).seal.unwrap();
        match rotten {
            true => fs::write(&stored, b"rotten").unwrap(),
            false => fs::remove_file(&stored).unwrap(),
        }
        let message = scene.refused("one");
        assert!(message.starts_with("snapshot one: could not be checked: "), "{message}");
        assert!(message.ends_with("unpack it again"), "{message}");
        let seal = scene.snapshotter.stat("one").unwrap().seal.unwrap();
        assert_eq!((seal.state, seal.verified_at, seal.manifest), (SealState::Sealed, None, before.manifest));
        fs::copy(&aside, &stored).unwrap();
    }
    scene.flip("one");
    scene.refused("one");
    fs::remove_file(&stored).unwrap();
    scene.refused("one");
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Damaged, "that is still known");
}

#[test]
fn a_layer_without_its_directory_is_damaged() {
    let scene = Scene::new(POLICY);
    let layer = scene.layer("one", None);
    let (directory, aside) = (scene.snapshotter.layer_dir(layer.id), scene.root.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    assert_eq!(scene.refused("one"), "snapshot one: damaged: /: missing: expected directory");
    scene.wait("one", SealState::Damaged);
    fs::write(&directory, b"").unwrap();
    let mut told = Vec::new();
    let mut tell = |event| {
        if let Event::Finding(finding) = event {
            told.push(finding.to_string());
        }
        Ok(())
    };
    assert_eq!(scene.verifier.verify_snapshot("one", 0, &Progress::default(), &mut tell).unwrap().findings, 1);
    assert_eq!(told, ["/: missing: expected directory"]);
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
}

#[test]
fn warn_lets_pass_and_off_does_not_look() {
    let mut scene = Scene::new(Policy { action: Action::Warn, ..POLICY });
    scene.layer("one", None);
    scene.flip("one");
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
    scene.wait("one", SealState::Damaged);

    scene.flip("one");
    scene.restart(Policy { on_view: Check::Off, ..POLICY });
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Damaged, "it did not look");
    scene.verifier.before_use("one", Use::Prepare, Instant::now()).unwrap();
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Verified);
}

#[test]
fn past_the_deadline_only_a_layer_known_to_be_damaged_is_refused() {
    let scene = Scene::new(Policy { deadline: Duration::ZERO, ..POLICY });
    scene.layer("one", None);
    scene.layer("two", Some("one"));
    scene.flip("one");
    scene.verifier.before_use("two", Use::Prepare, Instant::now()).expect("nothing was known against it in time");
    scene.wait("one", SealState::Damaged);
    scene.wait("two", SealState::Verified);
    let message = scene.refused("two");
    assert!(message.contains("snapshot one: ") && message.contains("damaged"), "{message}");
}

#[test]
fn an_explicit_check_tells_every_finding_of_every_layer() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.layer("two", Some("one"));
    scene.flip("one");
    fs::remove_file(scene.file("two")).unwrap();
    let mut told = Vec::new();
    let report = scene
        .verifier
        .verify_snapshot("two", 0, &Progress::default(), &mut |event| {
            told.push(match event {
                Event::Layer(key) => key,
                Event::Finding(finding) => format!("{} {}", finding.kind.name(), finding.path.escape_ascii()),
            });
            Ok(())
        })
        .unwrap();
    assert_eq!(told, ["two", "missing /two", "one", "digest /one"]);
    assert_eq!(report.findings, 2);
    scene.wait("one", SealState::Damaged);
    scene.wait("two", SealState::Damaged);
}

#[test]
fn a_layer_that_cannot_be_checked_does_not_hide_the_damage_of_another() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.layer("two", Some("one"));
    scene.flip("one");
    scene.verifier.store().remove(&scene.manifest_of("two")).unwrap();
    let mut findings = 0;
    let error = scene
        .verifier
        .verify_snapshot("two", 0, &Progress::default(), &mut |event| {
            findings += usize::from(matches!(event, Event::Finding(_)));
            Ok(())
        })
        .unwrap_err();
    assert_eq!(findings, 1);
    assert!(error.to_string().starts_with("snapshot two: no manifest sha256:"), "{error}");
}

#[test]
fn manifests_go_with_the_last_snapshot_that_they_seal() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.layer("two", Some("one"));
    let (one, two) = (scene.manifest_of("one"), scene.manifest_of("two"));
    let error = scene.verifier.remove_manifest(&two).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("snapshot two"), "{error}");

    scene.snapshotter.remove("two").unwrap();
    scene.verifier.collect().unwrap();
    let left: Vec<_> = scene.verifier.store().list().unwrap().into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(left, [one]);
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();

    scene.snapshotter.remove("one").unwrap();
    scene.verifier.remove_manifest(&one).unwrap();
    assert_eq!(scene.verifier.remove_manifest(&one).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_cancelled_check_says_so_and_marks_nothing() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.flip("one");
    let progress = Progress::default();
    progress.cancel();
    let error = scene.verifier.verify_snapshot("one", 0, &progress, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Sealed);
}

/// A check that stands still.
struct Slow {
    verifying: JoinHandle<Result<VerifyReport>>,
    go: mpsc::Sender<()>,
    reached: mpsc::Receiver<()>,
}

/// An explicit check that stops at its first finding until it is told to go on.
fn verify_slowly(scene: &Scene, key: &str) -> Slow {
    let (go, wait) = mpsc::channel();
    let (reach, reached) = mpsc::channel();
    let (verifier, key) = (Arc::clone(&scene.verifier), key.to_owned());
    let verifying = std::thread::spawn(move || {
        verifier.verify_snapshot(&key, 0, &Progress::default(), &mut |event| {
            if matches!(event, Event::Finding(_)) {
                reach.send(()).unwrap();
                wait.recv().unwrap();
            }
            Ok(())
        })
    });
    Slow { verifying, go, reached }
}

#[test]
fn a_check_that_ends_late_does_not_overrule_a_later_one() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.flip("one");
    let slow = verify_slowly(&scene, "one");
    slow.reached.recv().unwrap();
    scene.flip("one");
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
    scene.wait("one", SealState::Verified);
    slow.go.send(()).unwrap();
    assert_eq!(slow.verifying.join().unwrap().unwrap().findings, 1);
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Verified);
}

#[test]
fn a_deadline_that_no_clock_can_express_is_none() {
    let scene = Scene::new(Policy { deadline: Duration::MAX, ..POLICY });
    scene.layer("one", None);
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
    scene.wait("one", SealState::Verified);
}

#[test]
fn a_check_that_was_asked_for_before_the_seal_was_replaced_has_no_say() {
    let scene = Scene::new(POLICY);
    let sealed = scene.layer("a", None);
    let inner = &scene.verifier.inner;
    let derived = {
        let mut manifest = inner.store.create().unwrap();
        std::io::Write::write_all(&mut manifest, b"").unwrap();
        manifest.publish().unwrap()
    };
    let image = crate::snapshotter::Seal {
        state: SealState::Damaged,
        manifest: Some(derived),
        source: crate::snapshotter::SealSource::Image,
        verified_at: None,
    };
    inner.recorded.amend(&sealed, &scene.snapshotter, |_| Some(image)).unwrap();
    check::check(inner, &sealed, &Progress::default());
    assert_eq!(scene.snapshotter.stat("a").unwrap().seal, Some(image));
}
