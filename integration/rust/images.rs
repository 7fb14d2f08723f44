// SPDX-License-Identifier: Apache-2.0
//! A client of the daemon about images and containers. The daemon, containerd and the damage are somebody else's:
//! `integration/tests/repair.sh` runs this with the environment that [`Scene`] reads.

use continuity::api::continuity::proto::continuity as pb;
use continuity::api::continuity::proto::continuity_ttrpc::ContinuityClient;
use pb::verify_image_request::Subject;
use pb::{build_event, diff_event, image_event, repair_event, trace_event};
use ttrpc::r#async::Client;
use ttrpc::{Code, context};

/// What the environment says.
struct Scene {
    client: ContinuityClient,
    /// Reference of an image of three layers that is unpacked by [`Scene::snapshotter`].
    image: String,
    snapshotter: String,
    /// A path of it that layer 2 has put there, and that is damaged there.
    path: String,
    /// What `image manifest` writes for it.
    derived: Vec<u8>,
    /// A container of it that changed that path, and it alone.
    container: String,
    /// Key of its top snapshot.
    snapshot: String,
    /// What `image manifest --layer 2` writes for it.
    derived_layer: Vec<u8>,
}

impl Scene {
    async fn new() -> Self {
        let var = |name: &str| std::env::var(format!("CONTINUITY_TEST_{name}")).expect(name);
        let client = Client::connect(&format!("unix://{}", var("ADDRESS"))).await.unwrap();
        Self {
            client: ContinuityClient::new(client),
            image: var("IMAGE"),
            snapshotter: var("SNAPSHOTTER"),
            path: var("PATH_DAMAGED"),
            derived: std::fs::read(var("DERIVED")).unwrap(),
            container: var("CONTAINER"),
            snapshot: var("SNAPSHOT"),
            derived_layer: std::fs::read(var("DERIVED_LAYER")).unwrap(),
        }
    }

    fn verify(&self, subject: Subject) -> pb::VerifyImageRequest {
        pb::VerifyImageRequest { subject: Some(subject), snapshotter: self.snapshotter.clone(), ..Default::default() }
    }

    /// Findings, the verdicts, and the sum.
    async fn verified(&self, subject: Subject) -> ttrpc::Result<(Vec<pb::ImageFinding>, Vec<u64>, u64)> {
        let request = self.verify(subject);
        let mut stream = self.client.verify_image(context::Context::default(), &request).await?;
        let (mut findings, mut ends, mut sum) = (Vec::new(), Vec::new(), None);
        while let Some(event) = stream.recv().await? {
            match event.event.unwrap() {
                image_event::Event::Finding(finding) => findings.push(finding),
                image_event::Event::End(end) => ends.push(end.summary.findings),
                image_event::Event::Summary(summary) => sum = Some(summary.findings),
                image_event::Event::Unchecked(why) => panic!("{why}"),
                _ => {}
            }
        }
        Ok((findings, ends, sum.unwrap()))
    }

    async fn repaired(&self, dry_run: bool) -> (Vec<pb::RepairChange>, pb::RepairEnd) {
        self.try_repair(dry_run, false).await.unwrap()
    }

    async fn try_repair(&self, dry_run: bool, force: bool) -> ttrpc::Result<(Vec<pb::RepairChange>, pb::RepairEnd)> {
        let request = pb::RepairImageRequest {
            image: self.image.clone(),
            snapshotter: self.snapshotter.clone(),
            dry_run,
            force,
            ..Default::default()
        };
        let mut stream = self.client.repair_image(context::Context::default(), &request).await?;
        let (mut changes, mut ended) = (Vec::new(), None);
        while let Some(event) = stream.recv().await? {
            match event.event.unwrap() {
                repair_event::Event::Change(change) => changes.push(change),
                repair_event::Event::End(end) => ended = Some(end),
                _ => {}
            }
        }
        Ok((changes, ended.unwrap()))
    }

    /// A manifest, and the digest that was told of it.
    async fn derive(&self, image: &str, layer: u32) -> ttrpc::Result<(Vec<u8>, String)> {
        let request = pb::DeriveManifestRequest { image: image.into(), layer, ..Default::default() };
        let mut stream = self.client.derive_manifest(context::Context::default(), &request).await?;
        let (mut derived, mut digest) = (Vec::new(), String::new());
        while let Some(event) = stream.recv().await? {
            match event.event.unwrap() {
                build_event::Event::Chunk(chunk) => derived.extend(chunk),
                build_event::Event::Summary(summary) => digest = summary.digest,
                _ => {}
            }
        }
        Ok((derived, digest))
    }

    /// The layers that touched the path, the last one first.
    async fn trace(&self, image: &str) -> ttrpc::Result<Vec<pb::Touch>> {
        let path = self.path.clone().into_bytes();
        let request = pb::TraceImageRequest { image: image.into(), path, ..Default::default() };
        let mut stream = self.client.trace_image(context::Context::default(), &request).await?;
        let mut touches = Vec::new();
        while let Some(event) = stream.recv().await? {
            if let trace_event::Event::Touch(touch) = event.event.unwrap() {
                touches.push(touch);
            }
        }
        Ok(touches)
    }
}

/// What a call was refused with.
#[track_caller]
fn refusal<T>(result: ttrpc::Result<T>) -> (Code, String) {
    match result {
        Err(ttrpc::Error::RpcStatus(status)) => (status.code(), status.message),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("taken"),
    }
}

#[tokio::test]
#[ignore = "needs a daemon and a containerd"]
async fn an_image_is_listed_derived_traced_verified_and_repaired() {
    let scene = Scene::new().await;
    let mut stream =
        scene.client.list_images(context::Context::default(), &pb::ListImagesRequest::new()).await.unwrap();
    let mut listed = Vec::new();
    while let Some(image) = stream.recv().await.unwrap() {
        listed.push(image);
    }
    let info = listed.iter().find(|image| image.name == scene.image).unwrap();
    assert_eq!(info.layers, 3);
    assert!(info.verdicts.iter().any(|verdict| verdict.snapshotter == scene.snapshotter));

    let (derived, digest) = scene.derive(&scene.image, 0).await.unwrap();
    assert_eq!(derived, scene.derived);
    assert!(digest.starts_with("sha256:"));
    assert_eq!(scene.derive(&scene.image, 2).await.unwrap().0, scene.derived_layer);

    let path = scene.path.clone().into_bytes();
    let touch = scene.trace(&scene.image).await.unwrap().remove(0);
    assert_eq!((touch.touched.as_str(), touch.layer.number, touch.inode.type_.as_str()), ("added", 2, "file"));

    let image = Subject::Image(scene.image.clone());
    let (findings, ends, sum) = scene.verified(image.clone()).await.unwrap();
    assert_eq!((ends.as_slice(), sum), ([1].as_slice(), 1));
    assert_eq!((findings[0].finding.path.as_slice(), findings[0].finding.kind.as_str()), (path.as_slice(), "digest"));
    assert_eq!(findings[0].layer.number, 2);
    assert!(scene.verified(Subject::All(true)).await.unwrap().2 >= 1);
    let snapshot = Subject::Snapshot(scene.snapshot.clone());
    assert_eq!(scene.verified(snapshot.clone()).await.unwrap(), (findings, ends, sum));

    let (planned, _) = scene.repaired(true).await;
    assert_eq!(scene.verified(image.clone()).await.unwrap().2, 1, "a dry run changes nothing");
    let (changes, end) = scene.repaired(false).await;
    assert_eq!(changes, planned);
    assert_eq!((changes[0].action.as_str(), changes[0].path.as_slice()), ("write", path.as_slice()));
    assert_eq!((end.changes, end.left), (1, 0));
    assert_eq!(scene.verified(image).await.unwrap(), (Vec::new(), vec![0], 0));
    assert_eq!(scene.verified(snapshot).await.unwrap(), (Vec::new(), vec![0], 0));
}

/// A container runs from the image.
#[tokio::test]
#[ignore = "needs a daemon and a containerd"]
async fn what_is_in_use_is_repaired_by_force_only() {
    let scene = Scene::new().await;
    let (code, message) = refusal(scene.try_repair(false, false).await);
    assert_eq!(code, Code::FAILED_PRECONDITION);
    assert!(message.contains(&format!("layer-2 by default/{}", scene.container)), "{message}");
    assert_eq!(scene.verified(Subject::Image(scene.image.clone())).await.unwrap().2, 1);
    let (changes, end) = scene.try_repair(false, true).await.unwrap();
    assert_eq!((changes.len(), end.changes, end.left), (1, 1, 0));
}

/// containerd is down.
#[tokio::test]
#[ignore = "needs a daemon and a containerd"]
async fn without_containerd_each_call_says_so() {
    let scene = Scene::new().await;
    let image = scene.image.as_str();
    let mut stream =
        scene.client.list_images(context::Context::default(), &pb::ListImagesRequest::new()).await.unwrap();
    let request = pb::DiffContainerRequest { id: scene.container.clone(), ..Default::default() };
    let mut diff = scene.client.diff_container(context::Context::default(), &request).await.unwrap();
    for (_, message) in [
        refusal(stream.recv().await),
        refusal(diff.recv().await),
        refusal(scene.derive(image, 0).await),
        refusal(scene.trace(image).await),
        refusal(scene.verified(Subject::Image(image.into())).await),
        refusal(scene.try_repair(true, false).await),
    ] {
        assert!(message.contains("containerd does not answer on "), "{message}");
    }
}

#[tokio::test]
#[ignore = "needs a daemon and a containerd"]
async fn what_a_container_changed_is_told() {
    let scene = Scene::new().await;
    let request = pb::DiffContainerRequest { id: scene.container.clone(), ..Default::default() };
    let mut stream = scene.client.diff_container(context::Context::default(), &request).await.unwrap();
    let (mut changes, mut sum) = (Vec::new(), 0);
    while let Some(event) = stream.recv().await.unwrap() {
        match event.event.unwrap() {
            diff_event::Event::Change(change) => changes.push(change),
            diff_event::Event::Summary(summary) => sum = summary.findings,
            _ => {}
        }
    }
    let change = changes.iter().find(|change| change.path == scene.path.as_bytes()).unwrap();
    assert_eq!(change.kind, "changed");
    assert!(change.differences.iter().any(|finding| finding.kind == "digest"));
    assert_ne!(change.image.digest, change.container.digest);
    assert_eq!(sum, changes.len() as u64);
}

#[tokio::test]
#[ignore = "needs a daemon and a containerd"]
async fn what_is_not_there_or_makes_no_sense_is_said() {
    let mut scene = Scene::new().await;
    let none = "continuity.test/none:v1";
    for (code, message) in [
        refusal(scene.verified(Subject::Image(none.into())).await),
        refusal(scene.derive(none, 0).await),
        refusal(scene.trace(none).await),
    ] {
        assert_eq!(code, Code::NOT_FOUND, "{message}");
        assert!(message.contains(&format!("no image {none} in namespace default")), "{message}");
    }
    let (code, message) = refusal(scene.derive(&scene.image, 4).await);
    assert_eq!((code, message.contains("has 3 layers, none of number 4")), (Code::NOT_FOUND, true), "{message}");
    assert_eq!(refusal(scene.verified(Subject::All(false)).await).0, Code::INVALID_ARGUMENT);
    assert_eq!(refusal(scene.verified(Subject::Snapshot("none".into())).await).0, Code::NOT_FOUND);
    let request =
        pb::DeriveManifestRequest { image: scene.image.clone(), platform: "nonsense".into(), ..Default::default() };
    let mut stream = scene.client.derive_manifest(context::Context::default(), &request).await.unwrap();
    assert_eq!(refusal(stream.recv().await).0, Code::INVALID_ARGUMENT);
    scene.image = none.into();
    assert_eq!(refusal(scene.try_repair(true, false).await).0, Code::NOT_FOUND);
}

/// Each of the long calls, of an image that takes minutes to read; goes away by being killed. The caller looks whether
/// the daemon goes on.
#[tokio::test]
#[ignore = "needs a daemon and a containerd"]
async fn a_client_waits_for_an_image_that_takes_long() {
    let scene = Scene::new().await;
    let image = scene.image.clone();
    let context = context::Context::default;
    match std::env::var("CONTINUITY_TEST_CALL").expect("CALL").as_str() {
        "derive" => {
            scene.derive(&image, 0).await.unwrap();
        }
        "verify" => {
            let request = scene.verify(Subject::Image(image));
            let mut stream = scene.client.verify_image(context(), &request).await.unwrap();
            while stream.recv().await.unwrap().is_some() {}
        }
        "trace" => {
            scene.trace(&image).await.unwrap();
        }
        _ => drop(scene.repaired(false).await),
    }
}
