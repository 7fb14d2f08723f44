use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::digest::Digest;
use crate::key::ChainId;

struct Fixture {
    dir: tempfile::TempDir,
    snapshotter: Snapshotter,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let snapshotter = Snapshotter::open(&dir.path().join("a/root")).unwrap();
    Fixture { dir, snapshotter }
}

impl Fixture {
    fn root(&self) -> PathBuf {
        self.dir.path().join("a/root")
    }

    fn layer(&self, name: &str, parent: Option<&str>) -> Snapshot {
        self.snapshotter.prepare("tmp", parent, Labels::new()).unwrap();
        self.snapshotter.commit(name, "tmp", None, Labels::new()).unwrap()
    }

    /// Names beneath `snapshots/`, but for those made ahead.
    fn directories(&self) -> BTreeSet<String> {
        directories(&self.root()).into_iter().filter(|name| !name.starts_with("ahead-")).collect()
    }
}

/// Names beneath `snapshots/`.
fn directories(root: &Path) -> BTreeSet<String> {
    names(&root.join("snapshots"))
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn every_refusal_has_its_kind() {
    let f = fixture();
    let s = &f.snapshotter;
    f.layer("layer", None);
    s.prepare("active", Some("layer"), Labels::new()).unwrap();
    s.view("view", Some("layer"), Labels::new()).unwrap();

    // Which of two faults is named is containerd's choice: its bolt storage looks for the parent first.
    for (key, parent, expected) in [
        ("active", None, ErrorKind::AlreadyExists),
        ("view", None, ErrorKind::AlreadyExists),
        ("layer", None, ErrorKind::AlreadyExists),
        ("active", Some("layer"), ErrorKind::AlreadyExists),
        ("new", Some("none"), ErrorKind::NotFound),
        ("active", Some("none"), ErrorKind::NotFound),
        ("new", Some("active"), ErrorKind::InvalidInput),
        ("new", Some("view"), ErrorKind::InvalidInput),
        ("active", Some("active"), ErrorKind::InvalidInput),
        ("layer", Some("view"), ErrorKind::InvalidInput),
    ] {
        assert_eq!(kind(s.prepare(key, parent, Labels::new())), expected, "prepare {key} on {parent:?}");
        assert_eq!(kind(s.view(key, parent, Labels::new())), expected, "view {key} on {parent:?}");
        assert_eq!(kind(s.creatable(key, parent)), expected, "{key} on {parent:?}");
    }
    // Of a commit: the key, the name, the kind, the parent that it has, the parent that it is to get.
    s.prepare("free", None, Labels::new()).unwrap();
    f.layer("other", None);
    for (name, key, parent, expected) in [
        ("layer", "active", None, ErrorKind::AlreadyExists),
        ("new", "none", None, ErrorKind::NotFound),
        ("layer", "none", None, ErrorKind::NotFound),
        ("layer", "none", Some("none"), ErrorKind::NotFound),
        ("new", "view", None, ErrorKind::FailedPrecondition),
        ("new", "layer", None, ErrorKind::FailedPrecondition),
        ("layer", "view", None, ErrorKind::AlreadyExists),
        ("active", "active", None, ErrorKind::AlreadyExists),
        ("new", "view", Some("none"), ErrorKind::FailedPrecondition),
        ("new", "active", Some("other"), ErrorKind::InvalidInput),
        ("new", "active", Some("none"), ErrorKind::InvalidInput),
        ("layer", "active", Some("other"), ErrorKind::AlreadyExists),
        ("new", "free", Some("none"), ErrorKind::NotFound),
        ("new", "free", Some("new"), ErrorKind::NotFound),
        ("new", "free", Some("active"), ErrorKind::FailedPrecondition),
        ("new", "free", Some("view"), ErrorKind::FailedPrecondition),
        ("new", "free", Some("free"), ErrorKind::FailedPrecondition),
        ("layer", "free", Some("none"), ErrorKind::AlreadyExists),
    ] {
        let committed = s.commit(name, key, parent, Labels::new());
        assert_eq!(kind(committed), expected, "commit {key} as {name} onto {parent:?}");
    }
    s.remove("free").unwrap();
    s.remove("other").unwrap();
    assert_eq!(kind(s.mounts("layer")), ErrorKind::FailedPrecondition);
    assert_eq!(kind(s.remove("none")), ErrorKind::NotFound);
    let refused = s.remove("layer").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.to_string().contains("remove"), "{refused}");
    for missing in [s.stat("none").map(drop), s.usage("none").map(drop), s.mounts("none").map(drop)] {
        assert_eq!(kind(missing), ErrorKind::NotFound);
    }
    assert_eq!(kind(s.update("none", Labels::new(), &[])), ErrorKind::NotFound);
    assert_eq!(kind(s.chain("none")), ErrorKind::NotFound);
    assert_eq!(kind(s.prepare("", None, Labels::new())), ErrorKind::InvalidInput);
    assert_eq!(kind(s.prepare(&"k".repeat(MAX_KEY + 1), None, Labels::new())), ErrorKind::InvalidInput);
    s.remove("view").unwrap();
    s.remove("active").unwrap();
    s.remove("layer").unwrap();
}

#[test]
fn keys_are_no_paths() {
    let f = fixture();
    for key in ["/", "../../x", "default/1/a b", "a\0b", "\n", "日本"] {
        f.snapshotter.prepare(key, None, Labels::new()).unwrap();
        assert_eq!(f.snapshotter.stat(key).unwrap().key, key);
    }
    assert!(f.directories().iter().all(|name| name.parse::<u64>().is_ok()));
}

#[test]
fn a_commit_keeps_the_directory_and_replaces_the_labels() {
    let f = fixture();
    let s = &f.snapshotter;
    s.prepare("active", None, labels(&[("a", "1")])).unwrap();
    let active = s.stat("active").unwrap();
    assert_eq!((active.created_at, active.kind, active.seal), (active.updated_at, Kind::Active, None));
    fs::write(s.layer_dir(active.id).join("file"), vec![7; 10_000]).unwrap();
    assert_eq!(s.usage("active").unwrap().inodes, 2);

    let layer = s.commit("layer", "active", None, labels(&[("b", "2")])).unwrap();
    assert_eq!((layer.id, layer.kind, layer.seal), (active.id, Kind::Committed, Some(Seal::PENDING)));
    assert_eq!((layer.labels.clone(), layer.created_at), (labels(&[("b", "2")]), layer.updated_at));
    assert_eq!(s.stat("layer").unwrap(), layer);
    assert_eq!(kind(s.stat("active")), ErrorKind::NotFound);
    assert!(layer.usage.size >= 10_000 && layer.usage.inodes == 2);
    fs::write(s.layer_dir(layer.id).join("later"), "x").unwrap();
    assert_eq!(s.usage("layer").unwrap(), layer.usage);
    assert_eq!(s.list(&[]).unwrap(), [layer]);
}

#[test]
fn a_new_root_is_0755_and_owned_as_its_parents() {
    let f = fixture();
    let layer = f.layer("layer", None);
    std::os::unix::fs::chown(f.snapshotter.layer_dir(layer.id), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(f.snapshotter.layer_dir(layer.id), fs::Permissions::from_mode(0o700)).unwrap();
    f.snapshotter.prepare("active", Some("layer"), Labels::new()).unwrap();
    let dir = f.snapshotter.layer_dir(f.snapshotter.stat("active").unwrap().id);
    let stat = fs::metadata(&dir).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (1234, 4321, 0o755));
    assert!(dir.with_file_name("work").is_dir());
}

#[test]
fn labels_follow_the_mask() {
    let f = fixture();
    let s = &f.snapshotter;
    s.prepare("k", None, labels(&[("a", "1"), ("b", "2"), ("empty", "")])).unwrap();
    let before = s.stat("k").unwrap();
    assert_eq!(before.labels, labels(&[("a", "1"), ("b", "2")]));
    let mask = |paths: &[&str]| paths.iter().map(|p| p.to_string()).collect::<Vec<_>>();

    let after = s.update("k", labels(&[("a", "x"), ("c", "3")]), &mask(&["labels.a", "labels.b"])).unwrap();
    assert_eq!(after.labels, labels(&[("a", "x")]));
    assert_eq!(after.created_at, before.created_at);
    assert!(after.updated_at > before.updated_at);
    assert_eq!(s.update("k", labels(&[("d", "4")]), &mask(&["labels"])).unwrap().labels, labels(&[("d", "4")]));
    assert_eq!(s.update("k", labels(&[("e", "5")]), &[]).unwrap().labels, labels(&[("e", "5")]));
    for bad in ["parent", "kind", "", "label.a"] {
        assert_eq!(kind(s.update("k", Labels::new(), &mask(&["labels", bad]))), ErrorKind::InvalidInput, "{bad}");
    }
    assert_eq!(s.stat("k").unwrap().labels, labels(&[("e", "5")]));
}

#[test]
fn a_label_of_4096_bytes_is_the_longest() {
    let f = fixture();
    let s = &f.snapshotter;
    let long = "v".repeat(MAX_LABEL - 1);
    s.prepare("a", None, labels(&[("k", &long)])).unwrap();
    let longer = labels(&[("kk", &long)]);
    assert_eq!(kind(s.prepare("b", None, longer.clone())), ErrorKind::InvalidInput);
    assert_eq!(kind(s.commit("b", "a", None, longer.clone())), ErrorKind::InvalidInput);
    assert_eq!(kind(s.update("a", longer, &[])), ErrorKind::InvalidInput);
}

#[test]
fn a_seal_is_never_a_stored_label() {
    let f = fixture();
    let s = &f.snapshotter;
    let shown = labels(&[("containerd.io/snapshot/continuity.state", "sealed"), ("mine", "1")]);
    s.prepare("active", None, shown.clone()).unwrap();
    let layer = s.commit("layer", "active", None, shown.clone()).unwrap();
    assert_eq!(layer.labels, labels(&[("mine", "1")]));
    let mask = ["labels.containerd.io/snapshot/continuity.state".to_owned(), "labels.mine".to_owned()];
    assert_eq!(s.update("layer", shown, &mask).unwrap().labels, labels(&[("mine", "1")]));
    assert_eq!(s.stat("layer").unwrap().seal, Some(Seal::PENDING));
    let pending = r#"labels."containerd.io/snapshot/continuity.state"==pending"#.to_owned();
    assert_eq!(s.list(&[pending]).unwrap().len(), 1);
}

#[test]
fn a_seal_belongs_to_one_number_and_moves_nothing_else() {
    let f = fixture();
    let s = &f.snapshotter;
    let layer = f.layer("layer", None);
    s.prepare("active", Some("layer"), Labels::new()).unwrap();
    assert_eq!(s.pending().unwrap().len(), 1);
    let seal = Seal { state: SealState::Sealed, manifest: Some(Digest::of(b"m")), ..Seal::PENDING };
    s.set_seal("layer", layer.id, seal).unwrap();
    assert_eq!(s.stat("layer").unwrap(), Snapshot { seal: Some(seal), ..layer.clone() });
    assert!(s.pending().unwrap().is_empty());
    assert_eq!(kind(s.set_seal("layer", layer.id + 1, seal)), ErrorKind::NotFound);
    let active = s.stat("active").unwrap();
    assert_eq!(kind(s.set_seal("active", active.id, seal)), ErrorKind::NotFound);
    s.remove("active").unwrap();
    s.remove("layer").unwrap();
    f.layer("layer", None);
    assert_eq!(kind(s.set_seal("layer", layer.id, seal)), ErrorKind::NotFound);
}

#[test]
fn a_chain_begins_with_the_nearest_layer() {
    let f = fixture();
    f.layer("bottom", None);
    f.layer("top", Some("bottom"));
    f.snapshotter.view("view", Some("top"), Labels::new()).unwrap();
    f.snapshotter.prepare("alone", None, Labels::new()).unwrap();
    let chain = |key| f.snapshotter.chain(key).unwrap().into_iter().map(|s| s.key).collect::<Vec<_>>();
    assert_eq!(chain("view"), ["top", "bottom"]);
    assert_eq!(chain("top"), ["top", "bottom"]);
    assert!(chain("alone").is_empty());
}

#[test]
fn directories_go_in_cleanup_and_only_those_without_a_record() {
    let f = fixture();
    let s = &f.snapshotter;
    let kept = f.layer("kept", None).id.to_string();
    let gone = f.layer("gone", None);
    fs::create_dir_all(s.layer_dir(gone.id).join("deep/tree")).unwrap();
    s.remove("gone").unwrap();
    assert_eq!(f.directories().len(), 2);
    s.cleanup().unwrap();
    assert_eq!(f.directories(), BTreeSet::from([kept]));
    s.cleanup().unwrap();
}

#[test]
fn creating_and_cleaning_up_at_once_loses_nothing() {
    let f = fixture();
    let s = &f.snapshotter;
    std::thread::scope(|scope| {
        let cleaner = scope.spawn(|| (0..50).for_each(|_| s.cleanup().unwrap()));
        for i in 0..50 {
            s.prepare(&format!("keep{i}"), None, Labels::new()).unwrap();
            s.prepare("drop", None, Labels::new()).unwrap();
            s.remove("drop").unwrap();
        }
        cleaner.join().unwrap();
    });
    s.cleanup().unwrap();
    let ids: BTreeSet<String> = s.list(&[]).unwrap().iter().map(|s| s.id.to_string()).collect();
    assert_eq!((ids.len(), f.directories()), (50, ids));
}

#[test]
fn the_next_start_removes_what_has_no_record() {
    let f = fixture();
    let root = f.root();
    let layer = f.layer("layer", None);
    f.snapshotter.prepare("removed", None, Labels::new()).unwrap();
    f.snapshotter.remove("removed").unwrap();
    for name in ["99", "gone-7", "007", "new-1", "ahead-99", "ahead-", "ahead-1"] {
        fs::create_dir_all(root.join("snapshots").join(name).join("fs/x")).unwrap();
    }
    // The number that the next snapshot gets, as a crash between directory and record leaves it.
    fs::create_dir_all(f.snapshotter.layer_dir(layer.id + 2).join("left-over")).unwrap();
    drop(f.snapshotter);

    let s = Snapshotter::open(&root).unwrap();
    assert_eq!(directories(&root), BTreeSet::from([layer.id.to_string()]));
    assert_eq!(s.list(&[]).unwrap(), [layer]);
}

#[test]
fn a_left_over_directory_is_not_inherited() {
    let f = fixture();
    f.snapshotter.prepare("a", None, Labels::new()).unwrap();
    let id = f.snapshotter.stat("a").unwrap().id;
    fs::create_dir_all(f.snapshotter.layer_dir(id + 1).join("left-over")).unwrap();
    f.snapshotter.prepare("b", None, Labels::new()).unwrap();
    assert_eq!(f.snapshotter.stat("b").unwrap().id, id + 1);
    assert_eq!(fs::read_dir(f.snapshotter.layer_dir(id + 1)).unwrap().count(), 0);
}

/// Of two directories with one number, a start after a power cut could not tell which is the snapshot's.
#[test]
fn what_was_left_over_is_gone_before_directories_are_made() {
    let f = fixture();
    for name in ["1", "5", "ahead-3"] {
        fs::create_dir_all(f.root().join("snapshots").join(name).join("left-over")).unwrap();
    }
    f.snapshotter.prepare("a", None, Labels::new()).unwrap();
    assert_eq!(f.directories(), BTreeSet::from(["1".into()]));
    for i in 0..4 {
        f.snapshotter.prepare(&i.to_string(), None, Labels::new()).unwrap();
    }
    for id in 1..=5 {
        let made = names(f.snapshotter.layer_dir(id).parent().unwrap());
        assert_eq!(made, BTreeSet::from(["fs".into(), "work".into()]), "{id}");
    }
}

#[test]
fn directories_are_made_ahead_and_used() {
    let f = fixture();
    let s = &f.snapshotter;
    let inode = |name: &str| fs::metadata(f.root().join("snapshots").join(name)).unwrap().ino();
    let ahead = || directories(&f.root()).difference(&f.directories()).cloned().collect::<Vec<_>>();
    for i in 0..3 {
        s.prepare(&format!("{i}"), None, Labels::new()).unwrap();
    }
    let made = ahead();
    assert_eq!(made, ["ahead-4", "ahead-5", "ahead-6", "ahead-7", "ahead-8"]);
    let fourth = inode("ahead-4");
    s.remove("2").unwrap();
    s.cleanup().unwrap();
    s.view("view", None, Labels::new()).unwrap();
    assert_eq!((inode("4"), ahead()), (fourth, made[1..].to_vec()));
    let names: Vec<_> = f.directories().into_iter().collect();
    assert_eq!(names, ["1", "2", "4"]);
}

#[test]
fn a_directory_that_lost_its_name_in_a_power_cut_gets_it_again() {
    let f = fixture();
    let root = f.root();
    let layer = f.layer("layer", None);
    f.snapshotter.prepare("active", Some("layer"), Labels::new()).unwrap();
    let id = f.snapshotter.stat("active").unwrap().id;
    fs::write(f.snapshotter.layer_dir(id).join("file"), "x").unwrap();
    drop(f.snapshotter);
    // The rename was not durable, the record was. The other one's was, and something else has its first name.
    let name = |name: String| root.join("snapshots").join(name);
    fs::rename(name(id.to_string()), name(format!("ahead-{id}"))).unwrap();
    fs::create_dir(name(format!("ahead-{}", layer.id))).unwrap();

    let s = Snapshotter::open(&root).unwrap();
    assert_eq!(directories(&root), BTreeSet::from([layer.id.to_string(), id.to_string()]));
    assert_eq!(fs::read(s.layer_dir(id).join("file")).unwrap(), b"x");
    assert!(s.layer_dir(layer.id).is_dir());
}

#[test]
fn a_disk_without_room_for_more_takes_one() {
    // The root, the lock, the database, `snapshots`; then three for each snapshot.
    let disk = SmallDisk::new("nr_inodes=12");
    let s = Snapshotter::open(&disk.0.path().join("root")).unwrap();
    s.prepare("first", None, Labels::new()).unwrap();
    s.prepare("second", None, Labels::new()).unwrap();
    assert_eq!(kind(s.prepare("third", None, Labels::new())), ErrorKind::Io);
    s.remove("first").unwrap();
    s.cleanup().unwrap();
    s.prepare("third", None, Labels::new()).unwrap();
    assert_eq!(directories(&disk.0.path().join("root")), BTreeSet::from(["2".into(), "3".into()]));
}

#[test]
fn a_root_is_open_once() {
    let f = fixture();
    let error = Snapshotter::open(&f.root()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let root = f.root().canonicalize().unwrap();
    assert_eq!(error.to_string(), format!("{} is in use by process {}", root.display(), std::process::id()));
}

/// The variable that makes the test below be the process that gets killed; holds the root.
const VICTIM: &str = "CONTINUITY_TEST_VICTIM_ROOT";

/// Works until it is killed, and says what was acknowledged: `+key`, and `-key` before a removal is asked for.
fn victim(root: &Path) -> Result<()> {
    let s = Snapshotter::open(root)?;
    for i in 0.. {
        let round = std::process::id();
        let (active, layer) = (format!("active {round}/{i}"), format!("layer {round}/{i}"));
        s.prepare(&active, None, Labels::new())?;
        println!("\n+{active}");
        println!("\n-{active}");
        s.commit(&layer, &active, None, Labels::new())?;
        println!("\n+{layer}");
        if i % 3 == 0 {
            println!("\n-{layer}");
            s.remove(&layer)?;
            s.cleanup()?;
        }
    }
    Ok(())
}

#[test]
fn kill_9_at_any_point_keeps_what_was_acknowledged_and_nothing_else() {
    if let Some(root) = std::env::var_os(VICTIM) {
        return victim(Path::new(&root)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "snapshotter::tests::kill_9_at_any_point_keeps_what_was_acknowledged_and_nothing_else",
            ])
            .env(VICTIM, &root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(|line| line.ok());
        // Some snapshots in, and then some odd time later.
        let mut said: Vec<String> = lines.by_ref().filter(|l| l.starts_with(['+', '-'])).take(5).collect();
        std::thread::sleep(Duration::from_micros(1_700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(lines.filter(|l| l.starts_with(['+', '-'])));

        for line in said {
            match line.split_at(1) {
                ("+", key) => drop(acknowledged.insert(key.to_owned())),
                (_, key) => drop(acknowledged.remove(key)),
            }
        }
        let s = Snapshotter::open(&root).unwrap();
        let listed = s.list(&[]).unwrap();
        let keys: BTreeSet<String> = listed.iter().map(|s| s.key.clone()).collect();
        assert!(acknowledged.is_subset(&keys), "lost: {:?}", acknowledged.difference(&keys));
        // One call was under way at most, whose answer was not sent.
        let unknown: Vec<_> = keys.difference(&acknowledged).collect();
        assert!(unknown.len() <= 1, "{unknown:?}");
        let ids: BTreeSet<String> = listed.iter().map(|s| s.id.to_string()).collect();
        assert_eq!(directories(&root), ids);
        for snapshot in &listed {
            assert!(s.layer_dir(snapshot.id).is_dir());
            if snapshot.kind == Kind::Active {
                s.remove(&snapshot.key).unwrap();
            }
        }
        acknowledged.retain(|key| key.starts_with("layer"));
        acknowledged.extend(keys.into_iter().filter(|key| key.starts_with("layer")));
    }
    assert!(!acknowledged.is_empty(), "killed before anything was acknowledged: the test has shown nothing");
}

/// A small filesystem of its own, unmounted however the test ends.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), options.as_c_str())
            .unwrap();
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_disk_that_was_full_is_used_again_once_it_has_space() {
    let disk = SmallDisk::new("size=8m");
    let s = Snapshotter::open(&disk.0.path().join("root")).unwrap();
    s.prepare("tmp", None, Labels::new()).unwrap();
    let layer = s.commit("layer", "tmp", None, Labels::new()).unwrap();

    let fill = disk.0.path().join("fill");
    let mut file = fs::File::create(&fill).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    // Whatever of the database still fits where it is, its growth does not.
    let long = labels(&[("containerd.io/snapshot/long", &"x".repeat(4000))]);
    let failed = (0..2000).find_map(|n| s.prepare(&format!("full-{n}"), Some("layer"), long.clone()).err());
    assert_eq!(failed.expect("the disk was never full").kind(), ErrorKind::Io);
    drop(s.update("layer", long.clone(), &[]));

    drop(file);
    fs::remove_file(&fill).unwrap();
    assert_eq!(s.stat("layer").unwrap().id, layer.id);
    s.prepare("after", Some("layer"), long).unwrap();
    s.cleanup().unwrap();
    assert_eq!(s.stat("after").unwrap().parent.as_deref(), Some("layer"));
}

#[test]
fn a_stray_file_does_not_stop_the_cleanup() {
    let f = fixture();
    let top = f.root().join("snapshots");
    fs::write(top.join("stray"), "x").unwrap();
    fs::write(top.join("gone-old"), "x").unwrap();
    std::os::unix::fs::symlink("/", top.join("link")).unwrap();
    f.snapshotter.cleanup().unwrap();
    assert!(f.directories().is_empty(), "{:?}", f.directories());
}

/// The labels of an unpacking that gets its parent by its commit, and its key.
fn side_by_side(number: u64, below: Digest, diff: &str) -> (String, String, Labels) {
    let (below, diff) = (ChainId(below), Digest::of(diff.as_bytes()));
    let chain = ChainId::of(Some(below), diff);
    let announced = labels(&[
        (labels::TARGET, &chain.to_string()),
        (labels::DIFF_ID, &diff.to_string()),
        (labels::PARENT_CHAIN_ID, &below.to_string()),
    ]);
    (format!("default/{number}/extract-{number}-abcd {chain}"), format!("default/{number}/{chain}"), announced)
}

#[test]
fn layers_unpacked_side_by_side_are_stacked_by_their_commits() {
    let f = fixture();
    let s = &f.snapshotter;
    let bottom = Digest::of(b"bottom");
    let (key, name, labels) = side_by_side(3, bottom, "top");
    let mounts = s.prepare(&key, None, labels.clone()).unwrap();
    assert_eq!(s.mounts(&key).unwrap(), mounts, "asked again, the same");
    let top = s.stat(&key).unwrap();
    let option = |name: &str| mounts[0].options.iter().find_map(|option| option.strip_prefix(name)).map(PathBuf::from);
    assert_eq!((mounts.len(), mounts[0].kind.as_str()), (1, "overlay"));
    assert_eq!(option("upperdir="), Some(s.layer_dir(top.id)));
    assert!(option("workdir=").is_some_and(|dir| dir.is_dir()));
    assert_eq!(fs::read_dir(option("lowerdir=").unwrap()).unwrap().count(), 0);

    // The layer below comes later, and belongs to somebody else.
    let parent = format!("default/1/{bottom}");
    s.prepare("bottom", None, Labels::new()).unwrap();
    std::os::unix::fs::chown(s.layer_dir(s.stat("bottom").unwrap().id), Some(1000), Some(1001)).unwrap();
    s.commit(&parent, "bottom", None, Labels::new()).unwrap();
    let owner = || fs::metadata(s.layer_dir(top.id)).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!(owner(), (0, 0));
    let layer = s.commit(&name, &key, Some(&parent), labels).unwrap();
    assert_eq!((layer.id, layer.parent.as_deref(), layer.seal), (top.id, Some(parent.as_str()), Some(Seal::PENDING)));
    assert_eq!(owner(), (1000, 1001), "as if it had been made on its parent");
    let view = s.view("view", Some(&name), Labels::new()).unwrap();
    let lower: Vec<_> = [layer.id, s.stat(&parent).unwrap().id].map(|id| s.layer_dir(id).display().to_string()).into();
    assert_eq!(view[0].options.last(), Some(&format!("lowerdir={}", lower.join(":"))));
    assert_eq!(kind(s.remove(&parent)), ErrorKind::FailedPrecondition);
}

#[test]
fn a_root_that_its_layer_describes_keeps_its_owner_and_mode() {
    let f = fixture();
    let s = &f.snapshotter;
    let parent = f.layer("parent", None);
    std::os::unix::fs::chown(s.layer_dir(parent.id), Some(1000), Some(1000)).unwrap();
    for (name, mode, expected) in [("said", 0o700, 0), ("unsaid", 0o755, 1000)] {
        s.prepare(name, None, Labels::new()).unwrap();
        let dir = s.layer_dir(s.stat(name).unwrap().id);
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        s.commit(&format!("{name} layer"), name, Some("parent"), Labels::new()).unwrap();
        let found = fs::metadata(&dir).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (expected, mode), "{name}");
    }
}

/// containerd 2.2 names the parent by the commit and does not announce it: whiteouts had no place, and only the image
/// can say whether there were any.
#[test]
fn a_layer_that_came_to_its_parent_unannounced_is_unproven() {
    let f = fixture();
    let s = &f.snapshotter;
    let bottom = Digest::of(b"bottom");
    let parent = format!("default/1/{bottom}");
    f.layer(&parent, None);
    for (number, gone, expected) in [
        (2, &[labels::PARENT_CHAIN_ID, labels::DIFF_ID][..], Seal::UNPROVEN),
        (3, &[labels::DIFF_ID][..], Seal::PENDING),
    ] {
        let (key, name, mut labels) = side_by_side(number, bottom, "top");
        labels.retain(|label, _| !gone.contains(&label.as_str()));
        s.prepare(&key, None, labels.clone()).unwrap();
        assert_eq!(s.commit(&name, &key, Some(&parent), labels).unwrap().seal, Some(expected), "{number}");
    }
    s.prepare("built", None, Labels::new()).unwrap();
    let built = s.commit("built layer", "built", Some(&parent), Labels::new()).unwrap();
    assert_eq!(built.seal, Some(Seal::PENDING), "who says what it is by itself");
}

#[test]
fn the_parent_that_it_has_may_be_named_again() {
    let f = fixture();
    let s = &f.snapshotter;
    f.layer("parent", None);
    for (active, parent) in [("same", Some("parent")), ("none", None)] {
        s.prepare(active, Some("parent"), Labels::new()).unwrap();
        let layer = s.commit(&format!("{active} layer"), active, parent, Labels::new()).unwrap();
        assert_eq!(layer.parent.as_deref(), Some("parent"));
    }
}

#[test]
fn a_clean_stop_is_known_and_ends_all_changes() {
    let f = fixture();
    let root = f.root();
    f.layer("layer", None);
    f.snapshotter.close().unwrap();
    assert_eq!(kind(f.snapshotter.prepare("late", None, Labels::new())), ErrorKind::Unavailable);
    assert_eq!(f.snapshotter.stat("layer").unwrap().seal, Some(Seal::PENDING), "it can still be asked");
    drop(f.snapshotter);
    assert_eq!(Snapshotter::open(&root).unwrap().stat("layer").unwrap().seal, Some(Seal::PENDING));
}
