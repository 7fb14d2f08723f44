use super::database::{FORMAT, FORMAT_KEY, NUMBERS};
use super::*;

fn open(dir: &tempfile::TempDir) -> Metadata {
    Metadata::open(&dir.path().join("metadata.redb")).unwrap()
}

fn create(metadata: &Metadata, key: &str, parent: Option<&str>) -> Stacked {
    metadata.create(key, parent, Kind::Active, Labels::new(), 1, |_| Ok(())).unwrap()
}

fn commit(metadata: &Metadata, name: &str, parent: Option<&str>) -> Snapshot {
    let id = create(metadata, "tmp", parent).snapshot.id;
    commit_onto(metadata, name, "tmp", id, None).unwrap()
}

fn commit_onto(metadata: &Metadata, name: &str, key: &str, id: u64, parent: Option<&str>) -> Result<Snapshot> {
    let layer = Layer { name, parent, labels: Labels::new() };
    metadata.commit(&layer, key, id, Usage { size: 1, inodes: 2 }, 2, |_, _| Ok(()))
}

#[test]
fn a_failed_creation_leaves_no_record_and_its_number_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    let id = std::cell::Cell::new(0);
    let result = metadata.create("a", None, Kind::Active, Labels::new(), 1, |new| {
        id.set(new.snapshot.id);
        Err(Error::new(ErrorKind::Io, "no space"))
    });
    assert_eq!(result.err().map(|e| e.kind()), Some(ErrorKind::Io));
    assert!(metadata.list(|_| true).unwrap().is_empty());
    assert_eq!(create(&metadata, "a", None).snapshot.id, id.get());
}

#[test]
fn numbers_are_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let metadata = open(&dir);
        for key in ["a", "b"] {
            let id = create(&metadata, key, None).snapshot.id;
            assert!(id > last);
            last = id;
            metadata.remove(key).unwrap();
        }
    }
}

#[test]
fn what_was_committed_is_there_after_a_crash_and_what_was_not_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.redb");
    let metadata = open(&dir);
    commit(&metadata, "layer", None);
    create(&metadata, "active", Some("layer"));
    // The file as kill -9 leaves it: in the middle of a transaction, never closed.
    let image = metadata.create("half", Some("layer"), Kind::View, Labels::new(), 3, |_| {
        std::fs::copy(&path, dir.path().join("crash.redb")).map_err(|e| Error::io("copy", &path, e))?;
        Ok(())
    });
    image.unwrap();

    let crashed = Metadata::open(&dir.path().join("crash.redb")).unwrap();
    let keys: Vec<String> = crashed.list(|_| true).unwrap().into_iter().map(|s| s.key).collect();
    assert_eq!(keys, ["active", "layer"]);
    assert_eq!(crashed.get("layer").unwrap(), metadata.get("layer").unwrap());
    assert_eq!(crashed.remove("layer").unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.redb");
    drop(open(&dir));
    let db = redb::Database::open(&path).unwrap();
    let tx = db.begin_write().unwrap();
    tx.open_table(NUMBERS).unwrap().insert(FORMAT_KEY, FORMAT + 1).unwrap();
    tx.commit().unwrap();
    drop(db);
    assert_eq!(Metadata::open(&path).err().map(|e| e.kind()), Some(ErrorKind::Unsupported));
}

#[test]
fn a_file_that_is_no_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.redb");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert_eq!(Metadata::open(&path).err().map(|e| e.kind()), Some(ErrorKind::Io));
}

#[test]
fn chains_are_nearest_first() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    let mut ids = Vec::new();
    for i in 0..130 {
        let parent = format!("l{}", i - 1);
        ids.push(commit(&metadata, &format!("l{i}"), (i > 0).then_some(parent.as_str())).id);
    }
    ids.reverse();
    let active = create(&metadata, "top", Some("l129"));
    assert_eq!(active.parents, ids);
    assert_eq!(metadata.stacked("top").unwrap().parents, ids);
    let chain = |key| metadata.chain(key).unwrap().iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(chain("top"), ids);
    assert_eq!(chain("l129"), ids);
    assert_eq!(metadata.chain("l0").unwrap()[0].seal.unwrap().state, SealState::Pending);
}

/// Layers that are unpacked side by side get their parents by their commits, so a parent may have the higher number.
#[test]
fn a_parent_may_be_younger_than_its_child() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    let ids = ["3", "2", "1"].map(|key| create(&metadata, key, None).snapshot.id);
    assert!(ids.is_sorted());
    let bottom = commit_onto(&metadata, "bottom", "1", ids[2], None).unwrap();
    let middle = commit_onto(&metadata, "middle", "2", ids[1], Some("bottom")).unwrap();
    let top = commit_onto(&metadata, "top", "3", ids[0], Some("middle")).unwrap();
    assert_eq!(
        (bottom.parent, middle.parent.as_deref(), top.parent.as_deref()),
        (None, Some("bottom"), Some("middle"))
    );
    let chain = |metadata: &Metadata| metadata.chain("top").unwrap().iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(chain(&metadata), ids);
    assert_eq!(create(&metadata, "container", Some("top")).parents, ids);
    assert_eq!(metadata.stacked("container").unwrap().parents, ids);

    // Who has children is known, also after a restart, and who has none any more goes.
    drop(metadata);
    let metadata = open(&dir);
    assert_eq!(chain(&metadata), ids);
    for key in ["bottom", "middle", "top"] {
        assert_eq!(metadata.remove(key).unwrap_err().kind(), ErrorKind::FailedPrecondition, "{key}");
    }
    for key in ["container", "top", "middle", "bottom"] {
        metadata.remove(key).unwrap();
    }
}

#[test]
fn a_snapshot_that_is_its_own_ancestor_is_a_damaged_record() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    commit(&metadata, "a", None);
    commit(&metadata, "b", Some("a"));
    let looped = |snapshot: &mut Snapshot| {
        snapshot.parent = Some("b".into());
        Ok(())
    };
    metadata.change("a", Durability::Immediate, looped).unwrap();
    for result in [metadata.chain("b").err(), metadata.creatable("new", Some("b")).err(), metadata.stacked("a").err()] {
        assert_eq!(result.map(|error| error.kind()), Some(ErrorKind::Corrupt));
    }
}

#[test]
fn a_commit_that_fails_leaves_the_parents_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    commit(&metadata, "parent", None);
    let id = create(&metadata, "active", None).snapshot.id;
    let layer = Layer { name: "layer", parent: Some("parent"), labels: Labels::new() };
    let full = |_, _| Err(Error::new(ErrorKind::Io, "no space"));
    let failed = metadata.commit(&layer, "active", id, Usage::default(), 2, full);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(metadata.get("active").unwrap().parent, None);
    metadata.remove("parent").unwrap();
}

#[test]
fn only_a_run_that_was_cut_off_leaves_layers_unproven() {
    let state = |metadata: &Metadata| metadata.get("layer").unwrap().seal.unwrap().state;
    let sealed = Seal { state: SealState::Sealed, ..Seal::PENDING };
    // The seal before; the run before, and whether it ended; the run after; the state then.
    for (seal, before, ends, after, expected) in [
        (Seal::PENDING, "boot 1", true, "boot 2", SealState::Pending),
        (Seal::PENDING, "boot 1", false, "boot 2", SealState::Unproven),
        // It was killed, and what it had written is still in the page cache.
        (Seal::PENDING, "boot 1", false, "boot 1", SealState::Pending),
        // Nobody can say.
        (Seal::PENDING, "", false, "", SealState::Unproven),
        (sealed, "boot 1", false, "boot 2", SealState::Sealed),
        (Seal::UNPROVEN, "boot 1", true, "boot 2", SealState::Unproven),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let metadata = open(&dir);
        // A database of an older version knows nothing of runs.
        commit(&metadata, "layer", None);
        assert!(metadata.begin_run(before.into()).unwrap().is_empty());
        assert_eq!(state(&metadata), SealState::Pending);
        let set = |snapshot: &mut Snapshot| {
            snapshot.seal = Some(seal);
            Ok(())
        };
        metadata.change("layer", Durability::Immediate, set).unwrap();
        if ends {
            metadata.end_run(|| Ok(())).unwrap();
            assert_eq!(metadata.remove("layer").unwrap_err().kind(), ErrorKind::Unavailable, "nothing comes later");
        }
        drop(metadata);
        let metadata = open(&dir);
        let cut = metadata.begin_run(after.into()).unwrap();
        assert_eq!(state(&metadata), expected, "{seal:?} {before} {ends} {after}");
        let turned = seal == Seal::PENDING && expected == SealState::Unproven;
        assert_eq!(cut, if turned { vec!["layer".to_owned()] } else { vec![] });
    }
}

#[test]
fn a_stop_is_clean_only_once_layers_without_a_seal_are_synced() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    metadata.begin_run("one".into()).unwrap();
    commit(&metadata, "layer", None);
    let failed = metadata.end_run(|| Err(Error::new(ErrorKind::Io, "the disk is gone")));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    drop(metadata);
    assert_eq!(open(&dir).begin_run("two".into()).unwrap(), ["layer"]);
}

#[test]
fn a_start_that_could_not_be_written_down_is_before_anything_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(&dir);
    metadata.begin_run("one".into()).unwrap();
    commit(&metadata, "layer", None);
    drop(metadata);
    // As the disk was full when it started.
    let metadata = open(&dir);
    metadata.run.set("two".into()).unwrap();
    assert_eq!(metadata.get("layer").unwrap().seal, Some(Seal::PENDING));
    create(&metadata, "container", Some("layer"));
    assert_eq!(metadata.get("layer").unwrap().seal, Some(Seal::UNPROVEN));
    commit(&metadata, "next", None);
    create(&metadata, "another", Some("next"));
    assert_eq!(metadata.get("next").unwrap().seal, Some(Seal::PENDING), "it has begun once");
}
