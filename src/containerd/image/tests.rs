// SPDX-License-Identifier: Apache-2.0
use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A content store; a blob without content is one whose file is lost.
#[derive(Default)]
struct Store(HashMap<Digest, Option<Vec<u8>>>);

impl Store {
    fn put(&mut self, media_type: &str, document: &Value) -> Value {
        let content = document.to_string().into_bytes();
        let digest = Digest::of(&content);
        let descriptor = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() });
        self.0.insert(digest, Some(content));
        descriptor
    }

    /// An image of two layers and a step that made none.
    fn image(&mut self, architecture: &str, layer: &str) -> Value {
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [id(1), id(2)] },
            "history": [
                { "created_by": "ADD one" }, { "created_by": "ENV x=y", "empty_layer": true }, { "created_by": "RUN two" },
            ],
        });
        let config = self.put(CONFIG, &config);
        let layer = |n| json!({ "mediaType": layer, "digest": id(n), "size": n });
        self.put(
            MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer(11), layer(12)],
            }),
        )
    }

    fn index(&mut self, manifests: &[(Value, &str, &str)]) -> Value {
        let entry = |(manifest, os, architecture): &(Value, &str, &str)| {
            let mut manifest = manifest.clone();
            manifest["platform"] = json!({ "os": os, "architecture": architecture });
            manifest
        };
        let manifests: Vec<_> = manifests.iter().map(entry).collect();
        self.put(INDEX, &json!({ "schemaVersion": 2, "manifests": manifests }))
    }

    /// An image for a platform that no other test's image has the layers of.
    fn image_for(&mut self, platform: &str) -> Value {
        let words: Vec<_> = platform.split('/').collect();
        let config = json!({
            "os": words[0], "architecture": words[1], "variant": words.get(2),
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(platform.as_bytes()).to_string()] },
        });
        let config = self.put(CONFIG, &config);
        let layers = [json!({ "mediaType": LAYER, "digest": id(11), "size": 1 })];
        self.put(MANIFEST, &json!({ "config": config, "layers": layers }))
    }

    /// An index of such images; "-" before a platform leaves the entry without one.
    fn index_of(&mut self, platforms: &str) -> (Value, Vec<Value>) {
        let mut manifests = Vec::new();
        for platform in platforms.split_whitespace() {
            let mut manifest = self.image_for(platform.trim_start_matches('-'));
            let words: Vec<_> = platform.split('/').collect();
            if !platform.starts_with('-') {
                manifest["platform"] = json!({ "os": words[0], "architecture": words[1], "variant": words.get(2) });
            }
            manifests.push(manifest);
        }
        (self.put(INDEX, &json!({ "manifests": manifests })), manifests)
    }

    fn resolve(&self, target: &Value, platform: Option<&str>) -> Result<Image> {
        let platform = platform.map(|platform| platform.parse().unwrap());
        resolve(self, &record(target), platform.as_ref())
    }

    /// Of each candidate the manifest's digest, or "absent" or "unreadable", with "+" if it fits.
    fn candidates(&self, target: &Value, platform: Option<&str>) -> Vec<String> {
        let platform = platform.map(|platform| platform.parse().unwrap());
        let shown = |candidate: Candidate| {
            let found = match candidate.found {
                Found::Image(image) => image.manifest.to_string(),
                Found::Absent(_) => "absent".into(),
                Found::Unreadable(_) => "unreadable".into(),
            };
            format!("{}{found}", if candidate.fits { "+" } else { "-" })
        };
        candidates(self, &record(target), platform.as_ref()).unwrap().into_iter().map(shown).collect()
    }

    /// Removes a blob: its file only, or all of it.
    fn lose(&mut self, descriptor: &Value, all: bool) {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        match all {
            true => drop(self.0.remove(&digest)),
            false => drop(self.0.insert(digest, None)),
        }
    }
}

impl Documents for Store {
    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let missing = || Error::new(ErrorKind::NotFound, descriptor.digest.to_string());
        self.0.get(&descriptor.digest).cloned().flatten().ok_or_else(missing)
    }

    fn knows(&self, digest: &Digest) -> Result<bool> {
        Ok(self.0.contains_key(digest))
    }
}

fn record(target: &Value) -> ImageRecord {
    ImageRecord {
        name: "test".into(),
        digest: target["digest"].as_str().unwrap().into(),
        media_type: target["mediaType"].as_str().unwrap().into(),
        labels: Default::default(),
    }
}

fn id(n: u8) -> String {
    Digest::of(&[n]).to_string()
}

#[test]
fn a_chain_id_is_the_digest_of_the_one_below_and_the_diff_id() {
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    let bottom = ChainId::of(None, one);
    assert_eq!(bottom.0, one);
    assert_eq!(ChainId::of(Some(bottom), two).0, Digest::of(format!("{one} {two}").as_bytes()));
}

#[test]
fn layers_get_their_diff_ids_and_the_steps_that_made_them() {
    let mut store = Store::default();
    let manifest = store.image("amd64", LAYER);
    let image = store.resolve(&manifest, Some("linux/amd64")).unwrap();
    let seen: Vec<_> = image.layers.iter().map(|layer| (layer.number, layer.created_by.as_str())).collect();
    assert_eq!(seen, [(1, "ADD one"), (2, "RUN two")]);
    assert_eq!(image.layers[1].diff_id.to_string(), id(2));
    assert_eq!(image.layers[1].blob.digest.to_string(), id(12));
    let bottom = ChainId::of(None, image.layers[0].diff_id);
    assert_eq!(image.chain_id(), Some(ChainId::of(Some(bottom), image.layers[1].diff_id)));
}

#[test]
fn an_index_leads_to_the_platform_that_is_meant() {
    let mut store = Store::default();
    let (amd, arm) = (store.image("amd64", LAYER), store.image("arm64", LAYER));
    let attached = store.put(MANIFEST, &json!({}));
    let index =
        store.index(&[(attached, "unknown", "unknown"), (amd, "linux", "amd64"), (arm.clone(), "linux", "arm64")]);
    let manifest = |platform| store.resolve(&index, Some(platform)).unwrap().manifest.to_string();
    assert_eq!(manifest("linux/arm64/v8"), arm["digest"]);
    assert_ne!(manifest("linux/amd64"), arm["digest"]);
    let error = store.resolve(&index, Some("linux/s390x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("only for linux/amd64, linux/arm64"), "{error}");
    let hostile = store.image_for("linux/\u{1b}[2J");
    let error = store.resolve(&hostile, Some("linux/amd64")).unwrap_err().to_string();
    assert_eq!(error, "it is for linux/\\x1b[2j, not for linux/amd64");
}

#[test]
fn an_image_for_another_platform_is_not_taken_for_the_one_that_was_named() {
    let mut store = Store::default();
    let manifest = store.image("s390x", LAYER);
    assert_eq!(store.resolve(&manifest, Some("linux/amd64")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.resolve(&manifest, None).unwrap().platform.to_string(), "linux/s390x");
}

#[test]
fn only_an_encrypted_layer_cannot_be_read() {
    let mut store = Store::default();
    for (media_type, readable) in [
        (LAYER, true),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", true),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
    ] {
        let manifest = store.image("amd64", media_type);
        let image = store.resolve(&manifest, None).unwrap();
        assert_eq!(
            image.layers[0].readable().err().map(|error| error.kind()),
            match readable {
                true => None,
                false => Some(ErrorKind::Unsupported),
            }
        );
    }
}

#[test]
fn a_config_of_another_number_of_layers_is_refused() {
    let mut store = Store::default();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [id(1)] } });
    let config = store.put(CONFIG, &config);
    let manifest = store.put(MANIFEST, &json!({ "schemaVersion": 2, "config": config, "layers": [] }));
    let error = store.resolve(&manifest, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(store.candidates(&manifest, None).is_empty());
}

#[test]
fn indexes_that_lead_nowhere_end() {
    let mut store = Store::default();
    let mut index = store.image("amd64", LAYER);
    for _ in 0..5 {
        index = store.index(&[(index, "linux", "amd64")]);
    }
    assert_eq!(store.resolve(&index, Some("linux/amd64")).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_manifest_of_an_index_is_the_one_that_containerd_takes() {
    for (index, wanted, taken) in [
        ("linux/amd64 linux/arm64", "linux/amd64", Some(0)),
        ("linux/amd64/v3 linux/amd64", "linux/amd64", Some(1)),
        ("linux/amd64/v3 linux/amd64/v1", "linux/amd64", Some(1)),
        ("linux/amd64/v2 linux/amd64/v3", "linux/amd64/v4", Some(1)),
        ("linux/amd64/v3", "linux/amd64", None),
        ("linux/386 linux/amd64", "linux/amd64", Some(1)),
        ("linux/386 linux/arm64", "linux/amd64", Some(0)),
        ("linux/arm/v6 linux/arm/v7 linux/arm/v5", "linux/arm", Some(1)),
        ("linux/arm/v7 linux/arm/v6", "linux/arm/v6", Some(1)),
        ("linux/arm/v7 linux/arm/v6", "linux/arm64", Some(0)),
        ("linux/arm64/v8.2 linux/arm64/v8", "linux/arm64", Some(1)),
        ("linux/arm64 linux/arm64/v8.1", "linux/arm64/v9", Some(1)),
        ("windows/amd64 linux/amd64", "linux/amd64", Some(1)),
        ("unknown/unknown linux/amd64", "linux/amd64", Some(1)),
        // Without a platform comes last, and its config tells.
        ("-linux/amd64/v2 linux/amd64", "linux/amd64", Some(1)),
        ("-linux/arm64 -linux/amd64", "linux/amd64", Some(1)),
        ("-linux/arm64 linux/s390x", "linux/amd64", None),
    ] {
        let mut store = Store::default();
        let (target, manifests) = store.index_of(index);
        let image = store.resolve(&target, Some(wanted)).ok();
        let taken = taken.map(|n: usize| manifests[n]["digest"].as_str().unwrap().to_owned());
        assert_eq!(image.map(|image| image.manifest.to_string()), taken, "{index} for {wanted}");
    }
}

#[test]
fn a_named_platform_means_that_one_if_there_is_one() {
    let mut store = Store::default();
    let (target, manifests) = store.index_of("linux/386 linux/amd64 linux/amd64/v2 -linux/amd64/v3");
    let digest = |n: usize| manifests[n]["digest"].as_str().unwrap();
    let (four, plain) =
        (store.candidates(&target, Some("linux/amd64/v4")), store.candidates(&target, Some("linux/amd64")));
    let of = |signs: [(&str, usize); 4]| signs.map(|(sign, n)| format!("{sign}{}", digest(n)));
    assert_eq!(four, of([("+", 2), ("+", 1), ("+", 0), ("+", 3)]));
    assert_eq!(plain, of([("+", 1), ("-", 0), ("-", 3), ("-", 2)]).to_vec());
}

#[test]
fn what_was_never_fetched_is_not_what_is_lost() {
    let mut store = Store::default();
    let (target, manifests) = store.index_of("linux/amd64 linux/arm64 linux/s390x linux/riscv64");
    let config = |store: &Store, manifest: &Value| {
        let digest = manifest["digest"].as_str().unwrap().parse().unwrap();
        let content = store.0[&digest].clone().unwrap();
        serde_json::from_slice::<Value>(&content).unwrap()["config"].clone()
    };
    store.lose(&manifests[1], true);
    store.lose(&manifests[2], false);
    let lost = config(&store, &manifests[3]);
    store.lose(&lost, true);
    let first = format!("+{}", manifests[0]["digest"].as_str().unwrap());
    assert_eq!(store.candidates(&target, Some("linux/amd64")), [&first, "-absent", "-unreadable", "-absent"]);
    // For the platform that is meant, a manifest without its config is one of which nothing can be told.
    let riscv: Vec<_> = store.candidates(&target, Some("linux/riscv64"));
    assert_eq!(riscv[0], "+unreadable");
    let error = store.resolve(&target, Some("linux/s390x")).unwrap_err();
    assert!(error.to_string().starts_with("its manifest: "), "{error}");
    let error = store.resolve(&target, Some("linux/riscv64")).unwrap_err();
    assert!(error.to_string().starts_with("its config: "), "{error}");
    store.lose(&target, true);
    assert_eq!(candidates(&store, &record(&target), None).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn documents_are_taken_as_containerd_takes_them() {
    let diff = id(1);
    let rootfs = json!({ "diff_ids": [diff] });
    let layers =
        json!([{ "mediaType": LAYER, "digest": id(11), "size": 1, "annotations": { "a": null }, "urls": null }]);
    let whole = |config: Value| json!({ "layers": layers, "config": config, "annotations": null, "subject": null });
    // A config, and the platform that it is for; none if it is refused.
    for (config, platform) in [
        (json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs }), Some("linux/amd64")),
        (json!({ "architecture": "amd64", "rootfs": rootfs }), Some("linux/amd64")),
        (json!({ "os": null, "architecture": null, "variant": null, "rootfs": rootfs }), Some("linux/unknown")),
        (json!({ "rootfs": rootfs, "history": null, "config": null }), Some("linux/unknown")),
        (json!({ "os": "Linux", "architecture": "x86_64", "rootfs": rootfs }), Some("linux/amd64")),
        (json!({ "OS": "linux", "Architecture": "arm", "RootFS": { "Diff_IDs": [diff] } }), Some("linux/arm/v7")),
        (json!({ "rootfs": rootfs, "config": { "Labels": { "a": null }, "Env": [null] } }), Some("linux/unknown")),
        (
            json!({ "rootfs": rootfs, "history": [null, { "created_by": null, "empty_layer": null }] }),
            Some("linux/unknown"),
        ),
        (json!({ "rootfs": rootfs, "created": "not a time", "moby.x": [{}] }), Some("linux/unknown")),
        (json!({ "rootfs": { "type": "other", "diff_ids": [diff] } }), Some("linux/unknown")),
        (json!({ "rootfs": { "diff_ids": diff } }), None),
        (json!({ "rootfs": null }), None),
        (json!({ "architecture": 64, "rootfs": rootfs }), None),
        (json!([]), None),
    ] {
        let mut store = Store::default();
        let descriptor = store.put(CONFIG, &config);
        let manifest = store.put(MANIFEST, &whole(descriptor));
        let index = store.put(INDEX, &json!({ "manifests": [manifest, null], "annotations": null }));
        for target in [manifest, index] {
            let image = store.resolve(&target, None).ok();
            assert_eq!(image.map(|image| image.platform.to_string()).as_deref(), platform, "{config}");
        }
    }
}

#[test]
fn what_containerd_does_not_unpack_is_no_candidate() {
    let mut store = Store::default();
    let config = store.put("application/vnd.cncf.helm.config.v1+json", &json!({ "name": "chart" }));
    let chart = store.put(MANIFEST, &json!({ "config": config, "layers": [{ "digest": id(11) }] }));
    let artifact = store.put("application/vnd.oci.artifact.manifest.v1+json", &json!({ "blobs": [] }));
    let binary = b"\x7fELF".to_vec();
    let digest = Digest::of(&binary);
    store.0.insert(digest, Some(binary));
    let binary = store.put(MANIFEST, &json!({ "config": { "digest": digest.to_string() }, "layers": [] }));
    for target in [chart, artifact, binary] {
        assert!(store.candidates(&target, None).is_empty());
        assert_eq!(store.resolve(&target, None).unwrap_err().kind(), ErrorKind::FailedPrecondition);
    }
}

#[test]
fn other_digests_are_not_supported() {
    let mut store = Store::default();
    let manifest = store.image("amd64", LAYER);
    let target = ImageRecord { digest: "sha512:00".into(), ..record(&manifest) };
    assert_eq!(resolve(&store, &target, None).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(candidates(&store, &target, None).unwrap_err().kind(), ErrorKind::Unsupported);
    let entry = |architecture: &str| json!({ "digest": "sha512:00", "platform": { "architecture": architecture } });
    let index = store.put(INDEX, &json!({ "manifests": [entry("amd64"), entry("s390x")] }));
    assert_eq!(store.candidates(&index, Some("linux/amd64")), ["+unreadable", "-absent"]);
}
