use super::*;
use crate::snapshotter::{Labels, Snapshot, Usage};

fn stacked(kind: Kind, id: u64, parents: Vec<u64>) -> Stacked {
    let snapshot = Snapshot {
        id,
        key: "k".into(),
        parent: None,
        kind,
        labels: Labels::new(),
        created_at: 0,
        updated_at: 0,
        usage: Usage::default(),
        seal: None,
    };
    Stacked { snapshot, parents }
}

fn directories(kernel: KernelOptions) -> Directories {
    Directories { top: "/r/snapshots".into(), empty: "/r/empty".into(), kernel, ahead: Mutex::default() }
}

fn mount(kind: Kind, parents: &[u64]) -> (String, String, String) {
    let mounts = directories(KernelOptions::default()).mounts(&stacked(kind, 9, parents.to_vec())).unwrap();
    let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
    (mount.kind.clone(), mount.source.clone(), mount.options.join(","))
}

#[test]
fn each_shape_has_its_mount() {
    let bind = |source: &str, options: &str| ("bind".into(), source.into(), options.into());
    let overlay = |options: &str| ("overlay".into(), "overlay".into(), options.into());
    assert_eq!(mount(Kind::Active, &[]), bind("/r/snapshots/9/fs", "rw,rbind"));
    assert_eq!(mount(Kind::View, &[]), bind("/r/snapshots/9/fs", "ro,rbind"));
    assert_eq!(mount(Kind::View, &[4]), bind("/r/snapshots/4/fs", "ro,rbind"));
    assert_eq!(mount(Kind::View, &[4, 2]), overlay("lowerdir=/r/snapshots/4/fs:/r/snapshots/2/fs"));
    let own = "workdir=/r/snapshots/9/work,upperdir=/r/snapshots/9/fs,lowerdir=/r/snapshots/4/fs";
    assert_eq!(mount(Kind::Active, &[4]), overlay(own));
    assert_eq!(mount(Kind::Active, &[4, 2]), overlay(&format!("{own}:/r/snapshots/2/fs")));
}

#[test]
fn an_unpacking_that_gets_its_parent_later_is_an_overlay_on_nothing() {
    use crate::digest::Digest;
    use crate::key::ChainId;
    use crate::labels;

    let (below, diff) = (ChainId(Digest::of(b"below")), Digest::of(b"diff"));
    let chain = ChainId::of(Some(below), diff);
    let announced: Labels = [(labels::PARENT_CHAIN_ID, below.to_string()), (labels::DIFF_ID, diff.to_string())]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    let unpacking = format!("default/4/extract-1-abcd {chain}");
    let overlay = "overlay workdir=/r/snapshots/9/work,upperdir=/r/snapshots/9/fs,lowerdir=/r/empty";
    let bind = "bind rw,rbind";
    for (key, labels, expected) in [
        (unpacking.as_str(), announced.clone(), overlay),
        (unpacking.as_str(), Labels::new(), bind),
        ("default/4/container", announced, bind),
    ] {
        let mut stacked = stacked(Kind::Active, 9, vec![]);
        (stacked.snapshot.key, stacked.snapshot.labels) = (key.to_owned(), labels);
        let mounts = directories(KernelOptions::default()).mounts(&stacked).unwrap();
        assert_eq!(format!("{} {}", mounts[0].kind, mounts[0].options.join(",")), expected, "{key}");
    }
}

#[test]
fn a_layer_is_not_mounted_by_itself() {
    let error = directories(KernelOptions::default()).mounts(&stacked(Kind::Committed, 9, vec![])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
}

#[test]
fn kernel_options_come_first_and_only_where_they_belong() {
    let kernel = KernelOptions::new(true, true);
    assert_eq!(kernel.options, ["index=off", "userxattr"]);
    let options = &directories(kernel).mounts(&stacked(Kind::View, 9, vec![4, 2])).unwrap()[0].options;
    assert_eq!(options[..2], ["index=off", "userxattr"]);
    assert!(KernelOptions::new(false, false).options.is_empty());
}

#[test]
fn a_stack_of_128_layers_fits_into_a_page() {
    /// Bytes of mount options that the kernel takes, and what containerd keeps free of them.
    const LIMIT: usize = 4096 - 512;
    let parents: Vec<u64> = (1_000_000..1_000_128).rev().collect();
    let options = &directories(KernelOptions::new(true, false)).mounts(&stacked(Kind::Active, 1_000_128, parents));
    let options = &options.as_ref().unwrap()[0].options;
    let lower = options.last().and_then(|option| option.strip_prefix("lowerdir=")).unwrap();
    assert_eq!(lower.split(':').count(), 128);
    // containerd changes into the common directory when the options are longer, and mounts relative names.
    let compact = options.join(",").replace(&format!("={}", lower), "=").len()
        + lower.split(':').map(|dir| dir.strip_prefix("/r/snapshots/").unwrap().len() + 1).sum::<usize>();
    assert!(compact < LIMIT, "{compact}");
}

#[test]
fn a_root_that_mount_options_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["a:b", "a,b", "a\\b", "a\"b"] {
        let root = dir.path().join(bad);
        fs::create_dir(&root).unwrap();
        let error = Directories::open(&root, KernelOptions::default()).err().map(|e| e.kind());
        assert_eq!(error, Some(ErrorKind::InvalidInput), "{bad}");
    }
}
