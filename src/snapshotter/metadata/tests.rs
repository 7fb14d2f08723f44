use super::*;
use crate::snapshotter::SealState;

fn open(dir: &tempfile::TempDir) -> Metadata {
    Metadata::open(&dir.path().join("metadata.redb")).unwrap()
}

fn create(metadata: &Metadata, key: &str, parent: Option<&str>) -> Stacked {
    metadata.create(key, parent, Kind::Active, Labels::new(), 1, |_| Ok(())).unwrap()
}

fn commit(metadata: &Metadata, name: &str, parent: Option<&str>) -> Snapshot {
    let id = create(metadata, "tmp", parent).snapshot.id;
    metadata.commit(name, "tmp", id, Labels::new(), Usage { size: 1, inodes: 2 }, 2).unwrap()
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
    let db = Database::open(&path).unwrap();
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
