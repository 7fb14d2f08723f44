// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use ttrpc::Code;
use ttrpc::r#async::{Client, ClientStreamReceiver};
use ttrpc::context;

use super::*;
use crate::digest::Digest;
use crate::ops;
use crate::snapshotter::{Labels, SealState, Snapshotter};
use crate::tree::{Progress, Root};
use crate::verifier::{Action, Check, Policy, Verifier};
use pb::{build_event, read_manifest_request, target, verify_event, verify_request};
use proto::continuity_ttrpc::ContinuityClient;

const LONG: Duration = Duration::from_secs(60);

/// How long a client here may read nothing.
const PATIENT: Duration = Duration::from_secs(2);

/// Hashing this takes far longer than any test waits; it takes up no space.
const HUGE: u64 = 4 << 40;

struct Scene {
    dir: tempfile::TempDir,
    snapshotter: Arc<Snapshotter>,
    verifier: Arc<Verifier>,
    shutdown: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<()>>,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let snapshotter = Arc::new(Snapshotter::open(&root).unwrap());
        let policy = Policy {
            on_prepare: Check::Full,
            on_view: Check::Full,
            action: Action::Refuse,
            unproven: crate::verifier::Unproven::Refuse,
            deadline: LONG,
            repair: crate::verifier::Repair::Off,
            threads: 1,
        };
        let verifier = Verifier::start(&root, Arc::clone(&snapshotter), policy, None).unwrap();
        let engine = Arc::new(Engine::new(Arc::clone(&snapshotter), Arc::clone(&verifier)));
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let info = Info { root, snapshots_address: "/s.sock".into() };
        let (shutdown, stop) = oneshot::channel();
        let server = tokio::spawn(serve(listener, engine, info, PATIENT, async { drop(stop.await) }));
        Self { dir, snapshotter, verifier, shutdown: Some(shutdown), server }
    }

    async fn client(&self) -> ContinuityClient {
        let address = format!("unix://{}", self.path("sock"));
        ContinuityClient::new(Client::connect(&address).await.unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A directory with three files.
    fn tree(&self) -> String {
        let tree = self.dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(tree.join(name), name).unwrap();
        }
        self.path("tree")
    }

    /// Asks whether a directory is what it is now.
    fn verification(&self, tree: &str) -> pb::VerifyRequest {
        fs::write(self.path("manifest"), expected(tree).0).unwrap();
        let manifest = Some(verify_request::Manifest::Path(self.path("manifest")));
        verify_of(target::Target::Path(tree.to_owned()), manifest)
    }

    /// A directory whose one file takes hours to hash.
    fn huge(&self, name: &str) -> String {
        let tree = self.dir.path().join(name);
        fs::create_dir(&tree).unwrap();
        fs::File::create(tree.join("huge")).unwrap().set_len(HUGE).unwrap();
        self.path(name)
    }

    /// A sealed layer with a file of its name.
    async fn layer(&self, key: &str, name: &str, parent: Option<&str>) {
        let active = format!("{key}-active");
        self.snapshotter.prepare(&active, parent, Labels::new()).unwrap();
        let id = self.snapshotter.stat(&active).unwrap().id;
        fs::write(self.snapshotter.layer_dir(id).join(name), name).unwrap();
        self.verifier.committed(&self.snapshotter.commit(key, &active, None, Labels::new()).unwrap());
        let until = Instant::now() + LONG;
        while self.snapshotter.stat(key).unwrap().seal.unwrap().state == SealState::Pending {
            assert!(Instant::now() < until);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        tokio::time::timeout(LONG, &mut self.server).await.unwrap().unwrap().unwrap();
    }
}

fn target(target: target::Target) -> protobuf::MessageField<pb::Target> {
    protobuf::MessageField::some(pb::Target { target: Some(target), ..Default::default() })
}

fn build_of(what: target::Target) -> pb::BuildRequest {
    pb::BuildRequest { target: target(what), ..Default::default() }
}

fn verify_of(what: target::Target, manifest: Option<verify_request::Manifest>) -> pb::VerifyRequest {
    pb::VerifyRequest { target: target(what), manifest, ..Default::default() }
}

struct Built {
    manifest: Vec<u8>,
    chunks: usize,
    summary: pb::BuildSummary,
}

async fn build(client: &ContinuityClient, request: &pb::BuildRequest) -> ttrpc::Result<Built> {
    let mut stream = client.build(context::Context::default(), request).await?;
    let mut built = Built { manifest: Vec::new(), chunks: 0, summary: pb::BuildSummary::new() };
    while let Some(event) = stream.recv().await? {
        match event.event.unwrap() {
            build_event::Event::Progress(_) => {}
            build_event::Event::Warning(warning) => panic!("{warning}"),
            build_event::Event::Chunk(data) => {
                assert!(data.len() <= CHUNK);
                built.chunks += 1;
                built.manifest.extend(data);
            }
            build_event::Event::Summary(summary) => built.summary = summary,
        }
    }
    Ok(built)
}

/// Findings as text, and the summary's count of them.
async fn findings(stream: ttrpc::Result<ClientStreamReceiver<pb::VerifyEvent>>) -> ttrpc::Result<(Vec<String>, u64)> {
    let mut stream = stream?;
    let mut texts = Vec::new();
    let mut count = None;
    while let Some(event) = stream.recv().await? {
        assert!(count.is_none(), "the summary is the last event");
        match event.event.unwrap() {
            verify_event::Event::Progress(_) => {}
            verify_event::Event::Snapshot(key) => texts.push(key),
            verify_event::Event::Finding(finding) => texts.push(convert::finding(finding).unwrap().to_string()),
            verify_event::Event::Summary(summary) => count = Some(summary.findings),
        }
    }
    Ok((texts, count.expect("a summary")))
}

fn rpc_code(error: &ttrpc::Error) -> Code {
    match error {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("no status: {other}"),
    }
}

/// The manifest that the library itself builds.
fn expected(tree: &str) -> (Vec<u8>, Digest) {
    let mut manifest = Vec::new();
    let root = Root::open(Path::new(tree)).unwrap();
    let report =
        ops::build(&root, &BuildOptions::default(), &Progress::default(), &mut manifest, &mut |w| panic!("{w}"));
    (manifest, report.unwrap().digest)
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[tokio::test]
async fn build_streams_the_manifest_of_a_path() {
    let scene = Scene::new().await;
    let tree = scene.tree();
    for n in 0..1_500 {
        fs::write(format!("{tree}/file-{n:0>200}"), n.to_string()).unwrap();
    }
    let built = build(&scene.client().await, &build_of(target::Target::Path(tree.clone()))).await.unwrap();
    let (manifest, digest) = expected(&tree);
    assert!(built.manifest == manifest, "not what the library builds");
    assert!(built.chunks > 1 && manifest.len() > CHUNK, "{} chunks", built.chunks);
    assert_eq!(built.summary.digest, digest.to_string());
    assert_eq!(built.summary.summary.entries, 1_503);
    scene.end().await;
}

#[tokio::test]
async fn verify_streams_the_findings() {
    let scene = Scene::new().await;
    let tree = scene.tree();
    let client = scene.client().await;
    let request = scene.verification(&tree);
    let verify = || async { findings(client.verify(context::Context::default(), &request).await).await.unwrap() };
    assert_eq!(verify().await, (vec![], 0));
    fs::remove_file(format!("{tree}/a")).unwrap();
    fs::write(format!("{tree}/b"), "longer").unwrap();
    let (texts, count) = verify().await;
    assert_eq!(texts[0], "/a: missing: expected file");
    assert_eq!(texts[1], "/b: size: expected 1, found 6");
    assert_eq!(count, texts.len() as u64);
    scene.end().await;
}

/// Progress is told by a clock of its own, and on a busy machine the work is slow to end after its summary.
#[tokio::test]
async fn no_progress_comes_after_the_summary() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    let request = scene.verification(&scene.tree());
    let busy = Arc::new(());
    for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
        let busy = Arc::downgrade(&busy);
        std::thread::spawn(move || while busy.strong_count() > 0 {});
    }
    for _ in 0..300 {
        findings(client.verify(context::Context::default(), &request).await).await.unwrap();
    }
    drop(busy);
    scene.end().await;
}

#[tokio::test]
async fn a_snapshot_is_mounted_where_nobody_sees_it() {
    let scene = Scene::new().await;
    scene.layer("default/1/sha256:one", "one", None).await;
    scene.layer("default/2/sha256:two", "two", Some("default/1/sha256:one")).await;
    scene.snapshotter.prepare("default/3/work", Some("default/2/sha256:two"), Labels::new()).unwrap();
    let id = scene.snapshotter.stat("default/3/work").unwrap().id;
    fs::write(scene.snapshotter.layer_dir(id).join("mine"), "").unwrap();
    let before = mountinfo();
    let client = scene.client().await;
    for (key, paths) in [
        ("sha256:one", vec!["/one"]),
        ("default/2/sha256:two", vec!["/one", "/two"]),
        ("work", vec!["/mine", "/one", "/two"]),
    ] {
        let built = build(&client, &build_of(target::Target::Snapshot(key.into()))).await.unwrap();
        let mut entries = crate::manifest::Entries::new(built.manifest.as_slice());
        let mut found = Vec::new();
        while let Some(entry) = entries.next().unwrap() {
            found.push(String::from_utf8(entry.path().to_vec()).unwrap());
        }
        assert_eq!(found, paths, "{key}");
    }
    assert_eq!(mountinfo(), before);
    scene.end().await;
}

#[tokio::test]
async fn mounts_of_containerd_are_a_target() {
    let scene = Scene::new().await;
    let tree = scene.tree();
    let mount = pb::Mount {
        type_: "bind".into(),
        source: tree.clone(),
        options: vec!["rbind".into(), "ro".into()],
        ..Default::default()
    };
    let mounts = pb::Mounts { mounts: vec![mount], ..Default::default() };
    let built = build(&scene.client().await, &build_of(target::Target::Mounts(mounts))).await.unwrap();
    assert_eq!(built.manifest, expected(&tree).0);
    scene.end().await;
}

#[tokio::test]
async fn snapshots_and_manifests_are_told_verified_and_kept() {
    let scene = Scene::new().await;
    scene.layer("default/1/sha256:one", "one", None).await;
    scene.layer("default/2/sha256:two", "two", Some("default/1/sha256:one")).await;
    let client = scene.client().await;
    let now = context::Context::default;

    let status = client.status(now(), &pb::StatusRequest::new()).await.unwrap();
    assert_eq!((status.committed, status.sealed, status.pending, status.active), (2, 2, 0, 0));
    assert_eq!((status.pid, status.snapshots_address.as_str()), (std::process::id(), "/s.sock"));

    let filters = vec!["parent==default/1/sha256:one".to_owned()];
    let request = pb::ListSnapshotsRequest { filters, ..Default::default() };
    let mut stream = client.list_snapshots(now(), &request).await.unwrap();
    let two = stream.recv().await.unwrap().unwrap();
    assert!(stream.recv().await.unwrap().is_none());
    assert_eq!(
        (two.key.as_str(), two.kind.as_str(), two.state.as_str()),
        ("default/2/sha256:two", "committed", "sealed")
    );

    let mut stream = client.list_manifests(now(), &pb::ListManifestsRequest::new()).await.unwrap();
    let mut used = Vec::new();
    while let Some(manifest) = stream.recv().await.unwrap() {
        used.push((manifest.digest, manifest.snapshots));
    }
    assert_eq!(used.len(), 2);
    assert!(used.contains(&(two.manifest.clone(), vec![two.key.clone()])));

    for manifest in [
        read_manifest_request::Manifest::Snapshot("sha256:two".into()),
        read_manifest_request::Manifest::Digest(two.manifest.clone()),
    ] {
        let request = pb::ReadManifestRequest { manifest: Some(manifest), ..Default::default() };
        let mut stream = client.read_manifest(now(), &request).await.unwrap();
        let mut content = Vec::new();
        while let Some(chunk) = stream.recv().await.unwrap() {
            content.extend(chunk.data);
        }
        assert_eq!(Digest::of(&content).to_string(), two.manifest);
    }

    let in_namespace = |namespace: &str| pb::VerifySnapshotRequest {
        key: "sha256:two".into(),
        namespace: namespace.into(),
        ..Default::default()
    };
    let elsewhere = findings(client.verify_snapshot(now(), &in_namespace("other")).await).await.unwrap_err();
    assert_eq!(rpc_code(&elsewhere), Code::NOT_FOUND);
    let told = findings(client.verify_snapshot(now(), &in_namespace("default")).await).await.unwrap();
    assert_eq!(told, (vec!["default/2/sha256:two".to_owned(), "default/1/sha256:one".to_owned()], 0));

    let request = pb::RemoveManifestRequest { digest: two.manifest.clone(), ..Default::default() };
    assert_eq!(rpc_code(&client.remove_manifest(now(), &request).await.unwrap_err()), Code::FAILED_PRECONDITION);
    scene.snapshotter.remove(&two.key).unwrap();
    client.remove_manifest(now(), &request).await.unwrap();
    assert_eq!(rpc_code(&client.remove_manifest(now(), &request).await.unwrap_err()), Code::NOT_FOUND);
    scene.end().await;
}

#[tokio::test]
async fn errors_have_their_codes_and_say_what_is_wrong() {
    let scene = Scene::new().await;
    for key in ["default/1/same", "other/2/same"] {
        scene.layer(key, "x", None).await;
    }
    let client = scene.client().await;
    let tree = scene.tree();
    fs::write(scene.path("garbage"), "garbage").unwrap();
    let garbage = Some(verify_request::Manifest::Path(scene.path("garbage")));
    let path = |path: &str| target::Target::Path(path.into());
    let snapshot = |key: &str| target::Target::Snapshot(key.into());
    for (request, code, word) in [
        (pb::BuildRequest::new(), Code::INVALID_ARGUMENT, "no target"),
        (build_of(path("relative")), Code::INVALID_ARGUMENT, "relative"),
        (build_of(path("/does/not/exist")), Code::NOT_FOUND, "/does/not/exist"),
        (build_of(snapshot("nothing")), Code::NOT_FOUND, "nothing"),
        (build_of(snapshot("same")), Code::INVALID_ARGUMENT, "other/2/same"),
        (build_of(target::Target::Mounts(pb::Mounts::new())), Code::INVALID_ARGUMENT, "no mounts"),
    ] {
        let error = build(&client, &request).await.err().unwrap();
        assert_eq!(rpc_code(&error), code, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let absent = Some(verify_request::Manifest::Digest(Digest::of(b"absent").to_string()));
    let fifo = Some(verify_request::Manifest::Path("/dev/null".into()));
    for (manifest, code) in [
        (None, Code::INVALID_ARGUMENT),
        (Some(verify_request::Manifest::Digest("sha256:1".into())), Code::INVALID_ARGUMENT),
        (absent, Code::NOT_FOUND),
        (garbage, Code::INVALID_ARGUMENT),
        (fifo, Code::INVALID_ARGUMENT),
    ] {
        let request = verify_of(path(&tree), manifest);
        let error = findings(client.verify(context::Context::default(), &request).await).await.unwrap_err();
        assert_eq!(rpc_code(&error), code, "{error}");
    }
    scene.end().await;
}

/// Begins a build that would take hours, and waits for the first progress that counts bytes.
async fn begin_huge(client: &ContinuityClient, tree: String) -> ClientStreamReceiver<pb::BuildEvent> {
    let mut stream = client.build(context::Context::default(), &build_of(target::Target::Path(tree))).await.unwrap();
    loop {
        match stream.recv().await.unwrap().unwrap().event.unwrap() {
            build_event::Event::Progress(progress) if progress.bytes > 0 => return stream,
            build_event::Event::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn work_is_cancelled_when_its_client_goes() {
    let scene = Scene::new().await;
    let (client, other) = (scene.client().await, scene.client().await);
    let one = begin_huge(&client, scene.huge("one")).await;
    let two = begin_huge(&other, scene.huge("two")).await;
    // Every worker is busy for hours now: a further build waits, and lives.
    let tree = scene.tree();
    let waiting = build_of(target::Target::Path(tree));
    let third = scene.client().await;
    let waits = tokio::time::timeout(3 * TICK, build(&third, &waiting)).await;
    assert!(waits.is_err(), "a third build ran beside {WORKERS}");
    drop((one, two, client, other));
    let built = tokio::time::timeout(LONG, build(&scene.client().await, &waiting)).await;
    assert_eq!(built.expect("the workers were not freed").unwrap().summary.summary.entries, 3);
    scene.end().await;
}

#[tokio::test]
async fn a_stop_cancels_what_runs_and_what_waits() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    let mut running = [begin_huge(&client, scene.huge("one")).await, begin_huge(&client, scene.huge("two")).await];
    let waiting = build_of(target::Target::Path(scene.tree()));
    let mut waiting = client.build(context::Context::default(), &waiting).await.unwrap();
    assert!(waiting.recv().await.unwrap().is_some(), "progress while it waits");
    let began = Instant::now();
    scene.end().await;
    assert!(began.elapsed() < Duration::from_secs(4), "stopping took {:?}", began.elapsed());
    for stream in running.iter_mut().chain([&mut waiting]) {
        let ended = loop {
            match stream.recv().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        assert!(ended.is_err(), "cut short, not complete");
    }
}

/// A connection that asked for the manifest of `tree` and never reads the answer.
async fn asks_and_never_reads(scene: &Scene, tree: &str) -> tokio::net::UnixStream {
    use protobuf::Message;
    use tokio::io::AsyncWriteExt;
    let request = ttrpc::proto::Request {
        service: "continuity.v1.Continuity".into(),
        method: "Build".into(),
        payload: build_of(target::Target::Path(tree.into())).write_to_bytes().unwrap(),
        ..Default::default()
    };
    let payload = request.write_to_bytes().unwrap();
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    // Stream 1, a request, whose sender sends no more.
    frame.extend([0, 0, 0, 1, 1, 1]);
    frame.extend(payload);
    let mut stream = tokio::net::UnixStream::connect(scene.path("sock")).await.unwrap();
    stream.write_all(&frame).await.unwrap();
    stream
}

/// A tree whose manifest is more than a socket and the queues hold.
fn wide(scene: &Scene) -> String {
    let tree = scene.dir.path().join("wide");
    fs::create_dir(&tree).unwrap();
    for n in 0..8_000 {
        fs::write(tree.join(format!("{n:0>200}")), "").unwrap();
    }
    scene.path("wide")
}

#[tokio::test]
async fn who_does_not_read_loses_the_place() {
    let scene = Scene::new().await;
    let wide = wide(&scene);
    let mut deaf = Vec::new();
    for _ in 0..WORKERS {
        deaf.push(asks_and_never_reads(&scene, &wide).await);
    }
    tokio::time::sleep(PATIENT / 4).await;
    let small = build_of(target::Target::Path(scene.tree()));
    let client = scene.client().await;
    let waits = tokio::time::timeout(PATIENT / 4, build(&client, &small)).await;
    assert!(waits.is_err(), "the deaf clients held no place");
    let built = tokio::time::timeout(LONG, build(&scene.client().await, &small)).await;
    assert_eq!(built.expect("the places were not freed").unwrap().summary.summary.entries, 3);
    scene.end().await;
}

#[tokio::test]
async fn connections_that_say_or_read_nothing_do_not_delay_a_stop() {
    let scene = Scene::new().await;
    let silent = tokio::net::UnixStream::connect(scene.path("sock")).await.unwrap();
    let wide = wide(&scene);
    let deaf = asks_and_never_reads(&scene, &wide).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    scene.end().await;
    assert!(began.elapsed() < Duration::from_secs(2), "stopping took {:?}", began.elapsed());
    drop((silent, deaf));
}

#[tokio::test]
async fn a_manifest_file_without_resources_proves_nothing() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    let empty = scene.path("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(scene.path("manifest"), "").unwrap();
    let manifest = Some(verify_request::Manifest::Path(scene.path("manifest")));
    let request = verify_of(target::Target::Path(empty), manifest);
    let error = findings(client.verify(context::Context::default(), &request).await).await.unwrap_err();
    assert_eq!(rpc_code(&error), Code::INVALID_ARGUMENT);
    assert!(error.to_string().contains("has no resources"), "{error}");
}

#[tokio::test]
async fn what_rotted_in_the_store_is_data_loss_and_what_a_caller_hands_in_is_his() {
    let scene = Scene::new().await;
    scene.layer("default/1/sha256:one", "x", None).await;
    let client = scene.client().await;
    let now = context::Context::default;
    let digest = scene.snapshotter.stat("default/1/sha256:one").unwrap().seal.unwrap().manifest.unwrap();
    let stored = Path::new(&scene.path("root")).join("manifests/sha256").join(digest.hex());
    let aside = scene.path("aside");
    fs::copy(&stored, &aside).unwrap();
    let read = || async {
        let manifest = Some(read_manifest_request::Manifest::Digest(digest.to_string()));
        let request = pb::ReadManifestRequest { manifest, ..Default::default() };
        client.read_manifest(now(), &request).await?.recv().await.map(drop)
    };
    let verify = || async {
        let request = pb::VerifySnapshotRequest { key: "default/1/sha256:one".into(), ..Default::default() };
        findings(client.verify_snapshot(now(), &request).await).await.map(drop)
    };
    read().await.unwrap();
    verify().await.unwrap();
    fs::write(&stored, "rotten").unwrap();
    for failed in [read().await, verify().await] {
        assert_eq!(rpc_code(&failed.unwrap_err()), Code::DATA_LOSS);
    }
    fs::remove_file(&stored).unwrap();
    assert_eq!(rpc_code(&read().await.unwrap_err()), Code::NOT_FOUND);
    assert_eq!(rpc_code(&verify().await.unwrap_err()), Code::DATA_LOSS, "it is known, and gone");

    let tree = scene.tree();
    fs::write(&aside, "rotten").unwrap();
    let request = verify_of(target::Target::Path(tree), Some(verify_request::Manifest::Path(aside)));
    let failed = findings(client.verify(now(), &request).await).await.unwrap_err();
    assert_eq!(rpc_code(&failed), Code::INVALID_ARGUMENT);
    scene.end().await;
}
