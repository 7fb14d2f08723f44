// SPDX-License-Identifier: Apache-2.0
use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A content store.
#[derive(Default)]
struct Store(HashMap<Digest, Vec<u8>>);

impl Store {
    fn put(&mut self, media_type: &str, document: &Value) -> Value {
        let content = document.to_string().into_bytes();
        let digest = Digest::of(&content);
        let descriptor = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() });
        self.0.insert(digest, content);
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
        self.put(INDEXES[0], &json!({ "schemaVersion": 2, "manifests": manifests }))
    }

    fn resolve(&self, target: &Value, platform: Option<&str>) -> Result<Image> {
        let target = Descriptor {
            digest: target["digest"].as_str().unwrap().parse().unwrap(),
            size: 0,
            media_type: target["mediaType"].as_str().unwrap().into(),
        };
        let record = ImageRecord { name: "test".into(), target, labels: Default::default() };
        let fetch = |descriptor: &Descriptor| {
            let missing = || Error::new(ErrorKind::NotFound, descriptor.digest.to_string());
            self.0.get(&descriptor.digest).cloned().ok_or_else(missing)
        };
        let platform = platform.map(|platform| platform.parse().unwrap());
        Image::resolve_with(&fetch, &record, platform.as_ref())
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
}

#[test]
fn an_image_for_another_platform_is_not_taken_for_the_one_that_was_named() {
    let mut store = Store::default();
    let manifest = store.image("s390x", LAYER);
    assert_eq!(store.resolve(&manifest, Some("linux/amd64")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.resolve(&manifest, None).unwrap().platform.to_string(), "linux/s390x");
}

#[test]
fn layers_that_nobody_can_read_say_so() {
    let mut store = Store::default();
    for (media_type, why) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "is foreign"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "is foreign"),
    ] {
        let manifest = store.image("amd64", media_type);
        let image = store.resolve(&manifest, None).unwrap();
        let error = image.layers[0].readable().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(why), "{error}");
    }
    let manifest = store.image("amd64", LAYER);
    store.resolve(&manifest, None).unwrap().layers[0].readable().unwrap();
}

#[test]
fn a_config_of_another_number_of_layers_is_refused() {
    let mut store = Store::default();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [id(1)] } });
    let config = store.put(CONFIG, &config);
    let manifest = store.put(MANIFEST, &json!({ "schemaVersion": 2, "config": config, "layers": [] }));
    let error = store.resolve(&manifest, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn indexes_that_lead_nowhere_end() {
    let mut store = Store::default();
    let mut index = store.image("amd64", LAYER);
    for _ in 0..=INDEX_DEPTH {
        index = store.index(&[(index, "linux", "amd64")]);
    }
    assert_eq!(store.resolve(&index, Some("linux/amd64")).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn platforms_are_read_as_they_are_written() {
    for (text, shown) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
    ] {
        assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
    }
    for text in ["", "linux", "/amd64", "linux/", "a/b/c/d"] {
        assert_eq!(text.parse::<Platform>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
    }
}
