// SPDX-License-Identifier: Apache-2.0
use std::fs::{File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::snapshotter::{Labels, Seal, SealSource, SealState};

const LONG: Duration = Duration::from_secs(60);

const POLICY: Policy = Policy {
    on_prepare: Check::Full,
    on_view: Check::Full,
    action: Action::Refuse,
    unproven: Unproven::Refuse,
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
        self.snapshotter.commit(name, &active, None, Labels::new()).unwrap()
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
        self.refused_as(parent, ErrorKind::FailedPrecondition)
    }

    fn refused_as(&self, parent: &str, kind: ErrorKind) -> String {
        let error = self.verifier.before_use(parent, Use::View, Instant::now()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        error.to_string()
    }

    /// Makes a layer what a start after a power cut makes it.
    fn cut_off(&self, layer: &Snapshot) {
        self.snapshotter.set_seal(&layer.key, layer.id, Seal::UNPROVEN).unwrap();
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
    scene.verifier.committed(&scene.snapshotter.commit("huge", "active", None, Labels::new()).unwrap());
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
    let message = scene.refused_as("one", ErrorKind::Corrupt);
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
        let message = scene.refused_as("one", ErrorKind::Corrupt);
        assert!(message.starts_with("snapshot one: could not be checked: "), "{message}");
        assert!(message.ends_with("unpack it again"), "{message}");
        let seal = scene.snapshotter.stat("one").unwrap().seal.unwrap();
        assert_eq!((seal.state, seal.verified_at, seal.manifest), (SealState::Sealed, None, before.manifest));
        fs::copy(&aside, &stored).unwrap();
    }
    scene.flip("one");
    scene.refused("one");
    fs::remove_file(&stored).unwrap();
    scene.refused_as("one", ErrorKind::Corrupt);
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
    let image = Seal { state: SealState::Damaged, manifest: Some(derived), source: SealSource::Image, ..Seal::PENDING };
    inner.recorded.amend(&sealed, &scene.snapshotter, |_| Some(image)).unwrap();
    check::check(inner, &sealed, &Progress::default());
    assert_eq!(scene.snapshotter.stat("a").unwrap().seal, Some(image));
}

/// An immutable directory, mutable again however the test ends.
struct Immutable(PathBuf);

impl Immutable {
    fn new(dir: PathBuf) -> Option<Self> {
        set_immutable(&dir, true).then_some(Self(dir))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        set_immutable(&self.0, false);
    }
}

fn set_immutable(dir: &Path, on: bool) -> bool {
    let flag = if on { "+i" } else { "-i" };
    std::process::Command::new("chattr").arg(flag).arg(dir).status().is_ok_and(|status| status.success())
}

#[test]
fn a_seal_that_fails_twice_could_not_be_checked_and_is_tried_again_when_it_is_wanted() {
    let scene = Scene::new(POLICY);
    let layer = scene.commit_untold("one", None);
    let (directory, aside) = (scene.snapshotter.layer_dir(layer.id), scene.root.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    scene.verifier.committed(&layer);
    let until = Instant::now() + LONG;
    while scene.verifier.inner.requests.reason(layer.id).is_none() {
        assert!(Instant::now() < until, "it has not failed twice");
        std::thread::sleep(Duration::from_millis(20));
    }
    let message = scene.refused("one");
    assert!(message.starts_with("snapshot one: could not be checked: it cannot be sealed: open"), "{message}");
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal, Some(Seal::PENDING));
    // The next try would be seconds away.
    fs::rename(&aside, &directory).unwrap();
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Verified);
}

#[test]
fn what_an_unclean_stop_left_is_refused_until_somebody_decides() {
    let mut scene = Scene::new(POLICY);
    let layer = scene.commit_untold("one", None);
    scene.layer("two", Some("one"));
    // It is sealed by now, as it stood before the two.
    scene.cut_off(&layer);
    scene.restart(POLICY);
    for _ in 0..2 {
        let message = scene.refused("two");
        assert!(message.starts_with("snapshot one: could not be checked: nothing proves"), "{message}");
        assert!(message.contains("no containerd is configured to ask for its image"), "{message}");
        assert!(message.ends_with("verify.unproven = \"allow\""), "{message}");
    }
    let seal = scene.snapshotter.stat("one").unwrap().seal.unwrap();
    assert!(seal.manifest.is_some() && seal.proof().is_none(), "written down, and no proof");
    assert_eq!(seal.state, SealState::Unproven);
    let error = scene.verifier.verify_snapshot("one", 0, &Progress::default(), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("nothing but its image can prove"), "{error}");
    scene.restart(Policy { action: Action::Warn, ..POLICY });
    scene.verifier.before_use("two", Use::View, Instant::now()).unwrap();
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Unproven);

    scene.restart(Policy { unproven: Unproven::Allow, ..POLICY });
    scene.verifier.before_use("two", Use::View, Instant::now()).unwrap();
    let seal = scene.wait("one", SealState::Verified).seal.unwrap();
    assert_eq!(seal.source, SealSource::Disk);
    scene.restart(POLICY);
    scene.verifier.before_use("two", Use::View, Instant::now()).unwrap();
    scene.flip("one");
    assert!(scene.refused("two").starts_with("snapshot one: damaged: "));
}

#[test]
fn an_unproven_layer_is_waited_for_up_to_the_deadline_and_not_used_after_it() {
    let scene = Scene::new(Policy { deadline: Duration::ZERO, unproven: Unproven::Allow, ..POLICY });
    let layer = scene.commit_untold("one", None);
    scene.cut_off(&layer);
    let message = scene.refused("one");
    assert!(message.ends_with("its comparison with its image has not ended yet: try again"), "{message}");
}

#[test]
fn damage_that_the_image_told_of_is_not_taken_back_by_what_was_read_from_the_disk() {
    let mut scene = Scene::new(POLICY);
    let layer = scene.layer("one", None);
    let inner = Arc::clone(&scene.verifier.inner);
    let mut damage = check::Damage::default();
    damage.add(&Finding {
        path: b"/one".to_vec(),
        kind: crate::ops::FindingKind::Digest,
        xattr: Vec::new(),
        expected: "sha256:1".into(),
        found: "sha256:2".into(),
    });
    // As far as it gets where manifests cannot be stored; and the record, where the database cannot be written.
    inner.contradictions.found(layer.id, damage);
    let told = "snapshot one: damaged: /one: digest: expected sha256:1, found sha256:2";
    assert_eq!(scene.refused("one"), told);
    let contradicted = |seal| Some(Seal { state: SealState::Damaged, contradicted: true, ..seal });
    inner.recorded.amend(&layer, &scene.snapshotter, contradicted).unwrap();
    assert_eq!(scene.refused("one"), told);
    let mut findings = Vec::new();
    let mut report = |event| {
        if let Event::Finding(finding) = event {
            findings.push(finding.to_string());
        }
        Ok(())
    };
    assert_eq!(scene.verifier.verify_snapshot("one", 0, &Progress::default(), &mut report).unwrap().findings, 1);
    assert_eq!(findings, ["/one: digest: expected sha256:1, found sha256:2"]);

    // A check against the seal from the disk, that was under way, has no say.
    check::check(&inner, &layer, &Progress::default());
    drop(inner);
    scene.restart(POLICY);
    assert_eq!(scene.refused("one"), "snapshot one: damaged: it is not what its image says");
    let seal = scene.snapshotter.stat("one").unwrap().seal.unwrap();
    assert_eq!((seal.state, seal.contradicted), (SealState::Damaged, true));
}

#[test]
fn a_stop_during_a_check_is_no_verdict() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    File::options().write(true).open(scene.file("one")).unwrap().set_len(4 << 40).unwrap();
    for action in [Action::Refuse, Action::Warn] {
        let verifier = Arc::clone(&scene.verifier);
        let waiting = std::thread::spawn(move || verifier.before_use("one", Use::View, Instant::now()));
        std::thread::sleep(Duration::from_millis(100));
        scene.verifier.shutdown();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Unavailable, "the daemon is stopping"),
            "{action:?}"
        );
    }
    assert_eq!(scene.snapshotter.stat("one").unwrap().seal.unwrap().state, SealState::Sealed);
}

#[test]
fn a_parent_that_is_removed_while_it_is_checked_is_not_found() {
    let scene = Scene::new(POLICY);
    scene.layer("one", None);
    scene.layer("two", Some("one"));
    File::options().write(true).open(scene.file("two")).unwrap().set_len(4 << 40).unwrap();
    let verifier = Arc::clone(&scene.verifier);
    let waiting = std::thread::spawn(move || verifier.before_use("two", Use::View, Instant::now()));
    std::thread::sleep(Duration::from_millis(100));
    scene.snapshotter.remove("two").unwrap();
    scene.verifier.removed("two");
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "snapshot two not found"));
}

#[test]
fn a_store_that_takes_nothing_seals_nothing_and_says_so() {
    let scene = Scene::new(POLICY);
    let Some(immutable) = Immutable::new(scene.root.path().join("manifests")) else { return };
    let layer = scene.commit_untold("one", None);
    scene.verifier.committed(&layer);
    let until = Instant::now() + LONG;
    while scene.verifier.inner.requests.reason(layer.id).is_none() {
        assert!(Instant::now() < until, "it has not failed twice");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(scene.refused("one").contains("it cannot be sealed: "));
    drop(immutable);
    scene.verifier.before_use("one", Use::View, Instant::now()).unwrap();
}
