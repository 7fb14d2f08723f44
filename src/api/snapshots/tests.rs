use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use super::snapshots_client::SnapshotsClient;
use super::*;
use crate::snapshotter::{Kind as SnapshotKind, Labels, Usage};
use crate::verifier::{Action, Check, Policy};

type Client = SnapshotsClient<Channel>;

const POLICY: Policy = Policy {
    on_prepare: Check::Full,
    on_view: Check::Full,
    action: Action::Refuse,
    unproven: crate::verifier::Unproven::Refuse,
    deadline: Duration::from_secs(10),
    repair: crate::verifier::Repair::Off,
    threads: 1,
};

/// Serves an engine of its own, calls `test` with a client and the root, and shuts the server down.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(Client, Arc<Engine>) -> F) {
    with_socket(|client, engine, _| test(client, engine));
}

fn with_socket<F: Future<Output = ()>>(test: impl FnOnce(Client, Arc<Engine>, std::path::PathBuf) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let engine = Arc::new(Engine::open(&dir.path().join("root"), POLICY, None).unwrap());
    runtime.block_on(async {
        let socket = dir.path().join("s.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(run(listener, Arc::clone(&engine), async { stopped.await.unwrap() }));
        test(connect(&socket).await, Arc::clone(&engine), socket).await;
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    });
    engine.shutdown();
}

async fn connect(socket: &Path) -> Client {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    SnapshotsClient::new(channel)
}

fn prepare(key: &str, parent: &str) -> PrepareSnapshotRequest {
    PrepareSnapshotRequest { key: key.into(), parent: parent.into(), ..Default::default() }
}

async fn layer(client: &mut Client, name: &str, parent: &str) {
    client.prepare(prepare("tmp", parent)).await.unwrap();
    let request = CommitSnapshotRequest { name: name.into(), key: "tmp".into(), ..Default::default() };
    client.commit(request).await.unwrap();
}

async fn stat(client: &mut Client, key: &str) -> Result<Info, Status> {
    let request = StatSnapshotRequest { key: key.into(), ..Default::default() };
    client.stat(request).await.map(|response| response.into_inner().info.unwrap())
}

async fn read(mut stream: Streaming<ListSnapshotsResponse>) -> Vec<Vec<Info>> {
    let mut blocks = Vec::new();
    while let Some(block) = stream.message().await.unwrap() {
        blocks.push(block.info);
    }
    blocks
}

#[test]
fn the_code_table_holds_on_the_wire() {
    with_client(|mut client, _| async move {
        layer(&mut client, "layer", "").await;
        client.prepare(prepare("active", "layer")).await.unwrap();
        client
            .view(ViewSnapshotRequest { key: "view".into(), parent: "layer".into(), ..Default::default() })
            .await
            .unwrap();

        for (key, parent, code) in [
            ("active", "layer", Code::AlreadyExists),
            ("active", "none", Code::NotFound),
            ("active", "view", Code::InvalidArgument),
            ("new", "none", Code::NotFound),
            ("new", "active", Code::InvalidArgument),
        ] {
            assert_eq!(client.prepare(prepare(key, parent)).await.unwrap_err().code(), code, "prepare {key} {parent}");
            let view = ViewSnapshotRequest { key: key.into(), parent: parent.into(), ..Default::default() };
            assert_eq!(client.view(view).await.unwrap_err().code(), code, "view {key} {parent}");
        }
        client.prepare(prepare("free", "")).await.unwrap();
        for (name, key, parent, code) in [
            ("layer", "active", "", Code::AlreadyExists),
            ("new", "none", "", Code::NotFound),
            ("layer", "none", "", Code::NotFound),
            ("new", "view", "", Code::FailedPrecondition),
            ("new", "layer", "", Code::FailedPrecondition),
            ("new", "active", "view", Code::InvalidArgument),
            ("new", "free", "none", Code::NotFound),
            ("new", "free", "active", Code::FailedPrecondition),
        ] {
            let (name, key, parent) = (name.to_owned(), key.to_owned(), parent.to_owned());
            let commit = CommitSnapshotRequest { name, key, parent, ..Default::default() };
            let words = format!("{commit:?}");
            assert_eq!(client.commit(commit).await.unwrap_err().code(), code, "{words}");
        }
        let (name, key, parent) = ("rebased".into(), "free".into(), "layer".into());
        client.commit(CommitSnapshotRequest { name, key, parent, ..Default::default() }).await.unwrap();
        assert_eq!(stat(&mut client, "rebased").await.unwrap().parent, "layer");
        let mounts = MountsRequest { key: "layer".into(), ..Default::default() };
        assert_eq!(client.mounts(mounts).await.unwrap_err().code(), Code::FailedPrecondition);
        let remove = |key: &str| RemoveSnapshotRequest { key: key.into(), ..Default::default() };
        let parent = client.remove(remove("layer")).await.unwrap_err();
        assert_eq!((parent.code(), parent.message().contains("remove")), (Code::FailedPrecondition, true));
        assert_eq!(client.remove(remove("none")).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(stat(&mut client, "none").await.unwrap_err().code(), Code::NotFound);
        let usage = UsageRequest { key: "none".into(), ..Default::default() };
        assert_eq!(client.usage(usage).await.unwrap_err().code(), Code::NotFound);
        let list = ListSnapshotsRequest { filters: vec!["name==".into()], ..Default::default() };
        assert_eq!(client.list(list).await.unwrap_err().code(), Code::InvalidArgument);
        let update = UpdateSnapshotRequest::default();
        assert_eq!(client.update(update).await.unwrap_err().code(), Code::InvalidArgument);
        for key in ["rebased", "view", "active", "layer"] {
            client.remove(remove(key)).await.unwrap();
        }
        client.cleanup(CleanupRequest::default()).await.unwrap();
    });
}

#[test]
fn an_update_with_the_labels_that_were_read_changes_nothing_of_the_seal() {
    with_client(|mut client, engine| async move {
        layer(&mut client, "layer", "").await;
        let mut read = stat(&mut client, "layer").await.unwrap();
        assert!(read.labels.contains_key("containerd.io/snapshot/continuity.state"));
        read.labels.insert("mine".into(), "1".into());
        let request = UpdateSnapshotRequest { info: Some(read), ..Default::default() };
        let answer = client.update(request).await.unwrap().into_inner().info.unwrap();
        assert_eq!(answer.labels, HashMap::from([("mine".to_owned(), "1".to_owned())]));
        assert_eq!(engine.stat("layer").unwrap().labels, Labels::from([("mine".into(), "1".into())]));
        assert!(
            stat(&mut client, "layer").await.unwrap().labels.contains_key("containerd.io/snapshot/continuity.state")
        );
    });
}

#[test]
fn a_list_comes_in_blocks_of_a_hundred() {
    with_client(|mut client, engine| async move {
        assert!(read(client.list(ListSnapshotsRequest::default()).await.unwrap().into_inner()).await.is_empty());
        for i in 0..201 {
            engine.prepare(&format!("k{i:03}"), None, Labels::new(), Instant::now()).unwrap();
        }
        let blocks = read(client.list(ListSnapshotsRequest::default()).await.unwrap().into_inner()).await;
        assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 1]);
        let names: Vec<String> = blocks.into_iter().flatten().map(|info| info.name).collect();
        assert_eq!(names, (0..201).map(|i| format!("k{i:03}")).collect::<Vec<_>>());
        let filters = vec!["name==k007".to_owned(), "name~=/^k19/".to_owned()];
        let request = ListSnapshotsRequest { filters, ..Default::default() };
        assert_eq!(read(client.list(request).await.unwrap().into_inner()).await[0].len(), 11);
    });
}

#[test]
fn a_block_of_long_labels_stays_small() {
    let snapshot = |i: u64| Snapshot {
        id: i,
        key: format!("k{i}"),
        parent: None,
        kind: SnapshotKind::Active,
        labels: (0..256).map(|n| (format!("l{n}"), "v".repeat(4000))).collect(),
        created_at: 0,
        updated_at: 0,
        usage: Usage::default(),
        seal: None,
    };
    let blocks: Vec<_> = Blocks::new((0..10).map(snapshot).collect(), None).map(|block| block.unwrap()).collect();
    assert!(blocks.iter().all(|block| block.encoded_len() <= BLOCK_BYTES + 1024));
    assert_eq!(blocks.iter().map(|block| block.info.len()).sum::<usize>(), 10);
    assert!(blocks.len() < 10);
}

#[test]
fn a_request_of_more_than_4_mib_is_taken() {
    with_client(|mut client, _| async move {
        let labels = (0..2000).map(|n| (format!("l{n}"), "v".repeat(4000))).collect();
        let request = PrepareSnapshotRequest { key: "k".into(), labels, ..Default::default() };
        client.prepare(request).await.unwrap();
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        assert_eq!(stat(&mut client, "k").await.unwrap().labels.len(), 2000);
    });
}

/// A layer of an image.
const SLOW: &str = "default/1/sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// An engine with a sealed layer [`SLOW`] whose check takes hours.
fn engine_with_a_slow_layer(root: &Path, deadline: Duration) -> Arc<Engine> {
    let engine = Arc::new(Engine::open(root, Policy { deadline, ..POLICY }, None).unwrap());
    let mounts = engine.prepare("active", None, Labels::new(), Instant::now()).unwrap();
    let file = Path::new(&mounts[0].source).join("file");
    std::fs::write(&file, "small").unwrap();
    engine.commit(SLOW, "active", None, Labels::new()).unwrap();
    while engine.stat(SLOW).unwrap().seal.unwrap().manifest.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // It takes up no space.
    std::fs::File::options().write(true).open(&file).unwrap().set_len(4 << 40).unwrap();
    engine
}

fn one_at_a_time(engine: &Arc<Engine>) -> Arc<Service> {
    let (start, other) = (Crossing::new(1), Crossing::new(1));
    Arc::new(Service { engine: Arc::clone(engine), start, other, calls: InFlight::default() })
}

fn view_slow(service: &Arc<Service>, key: String) -> tokio::task::JoinHandle<Result<(), Status>> {
    let service = Arc::clone(service);
    let request = ViewSnapshotRequest { key, parent: SLOW.into(), ..Default::default() };
    tokio::spawn(async move { service.view(Request::new(request)).await.map(|_| ()) })
}

#[test]
fn the_deadline_counts_from_the_arrival_however_many_wait_for_a_place() {
    const DEADLINE: Duration = Duration::from_millis(500);
    const CALLS: u32 = 12;
    let root = tempfile::tempdir().unwrap();
    let engine = engine_with_a_slow_layer(root.path(), DEADLINE);
    let service = one_at_a_time(&engine);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let began = Instant::now();
        let views: Vec<_> = (0..CALLS).map(|n| view_slow(&service, format!("v{n}"))).collect();
        for view in views {
            view.await.unwrap().unwrap();
        }
        let took = began.elapsed();
        assert!(took >= DEADLINE, "{took:?}: nothing was waited for");
        assert!(took < DEADLINE * CALLS / 2, "{took:?}: they came one after the other");
    });
    engine.shutdown();
}

#[test]
fn an_unpack_does_not_queue_behind_those_who_wait_for_a_check() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine_with_a_slow_layer(root.path(), Duration::from_secs(60));
    let service = one_at_a_time(&engine);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let view = view_slow(&service, "view".into());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let unpacking = format!("default/2/extract-1-abcd sha256:{}", "1".repeat(64));
        service.prepare(Request::new(prepare(&unpacking, SLOW))).await.unwrap();
        assert!(!view.is_finished());
        // Whoever is called nearly so has no advantage of it.
        let container = prepare("default/2/extract-anything", SLOW);
        let labels = HashMap::from([(crate::labels::TARGET.to_owned(), format!("sha256:{}", "1".repeat(64)))]);
        let container = PrepareSnapshotRequest { labels, ..container };
        let asked = service.prepare(Request::new(container));
        assert!(tokio::time::timeout(Duration::from_millis(200), asked).await.is_err(), "it is not checked");
        engine.shutdown();
        let stopped = view.await.unwrap().unwrap_err();
        assert_eq!((stopped.code(), stopped.message()), (Code::Unavailable, "the daemon is stopping"));
        let late = service.view(Request::new(ViewSnapshotRequest {
            key: "late".into(),
            parent: SLOW.into(),
            ..Default::default()
        }));
        assert_eq!(late.await.unwrap_err().code(), Code::Unavailable);
    });
}

#[test]
fn silent_connections_do_not_delay_a_stop() {
    let mut silent = Vec::new();
    let began = std::cell::Cell::new(None);
    with_socket(|mut client, _, socket| {
        let (silent, began) = (&mut silent, &began);
        async move {
            client.prepare(prepare("a", "")).await.unwrap();
            let connect = || UnixStream::connect(&socket);
            // One says nothing at all; one greets as HTTP/2 does and then never answers a ping.
            silent.push(connect().await.unwrap());
            let mut greeted = connect().await.unwrap();
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            tokio::io::AsyncWriteExt::write_all(&mut greeted, preface).await.unwrap();
            silent.push(greeted);
            tokio::time::sleep(Duration::from_millis(100)).await;
            began.set(Some(Instant::now()));
        }
    });
    let took = began.get().unwrap().elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}
