// SPDX-License-Identifier: Apache-2.0
//! Images in an OCI layout: layers in odd compressions, configs and manifests, several images in one archive.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Outcome;
use crate::features::{Feature, Features};
use crate::layer::Maker;
use crate::random::Random;
use crate::tar::{self, Entry, Form, Kind, Trailer};
use crate::view::shown;

/// Layers of an image.
const LAYERS_MAX: usize = 5;

/// Logarithm of a zstd window that only those read who allow for it.
const LONG_WINDOW: u32 = 27;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A random image.
pub struct Image {
    pub seed: u64,
    pub layers: Vec<Layer>,
    /// By digest.
    blobs: BTreeMap<String, Vec<u8>>,
    /// What the name refers to.
    top: Value,
}

pub struct Layer {
    pub entries: Vec<Entry>,
    /// How it is compressed.
    pub compression: &'static str,
    pub chain_id: String,
}

impl Image {
    /// The image of a seed: nothing else decides what it is.
    pub fn random(seed: u64, features: Features) -> Outcome<Self> {
        let mut random = Random::new(seed);
        let mut image = Self { seed, layers: Vec::new(), blobs: BTreeMap::new(), top: Value::Null };
        let count = 1 + random.below(LAYERS_MAX);
        let mut contents = Vec::new();
        let mut maker = Maker::new(&mut random, features);
        for _ in 0..count {
            contents.push(maker.layer(seed));
        }
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for entries in contents {
            let tar = tar::archive(&entries, trailer(&mut random, features));
            diff_ids.push(digest(&tar));
            let (compression, suffix, blob) = compress(&mut random, features, &tar)?;
            let descriptor = image.put(&format!("{LAYER}{suffix}"), blob);
            layers.push(descriptor);
            let below = image.layers.last().map(|layer| layer.chain_id.as_str());
            let chain_id = chain(below, &diff_ids[diff_ids.len() - 1]);
            image.layers.push(Layer { entries, compression, chain_id });
        }
        let config = image.put_json(CONFIG, &config(&mut random, features, &diff_ids));
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        if features.has(Feature::OddManifest) && random.percent(20) {
            for field in ["schemaVersion", "mediaType"].iter().take(1 + random.below(2)) {
                manifest.as_object_mut().and_then(|object| object.remove(*field));
            }
            manifest["annotations"] = Value::Null;
        }
        image.top = image.put_json(MANIFEST, &manifest);
        if features.has(Feature::Index) && random.percent(30) {
            image.in_an_index(&mut random);
        }
        Ok(image)
    }

    /// An index of the manifest and others, in any order: those of other platforms, and an attestation.
    fn in_an_index(&mut self, random: &mut Random) {
        let mut entries = Vec::new();
        let host = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
        let mut own = self.top.clone();
        own["platform"] = json!({ "os": "linux", "architecture": host });
        entries.push(own);
        for (os, architecture) in [("linux", "s390x"), ("unknown", "unknown"), ("windows", host.as_str())] {
            if random.percent(50) {
                let mut other = descriptor(MANIFEST, architecture.as_bytes());
                other["platform"] = json!({ "os": os, "architecture": architecture });
                let at = random.below(entries.len() + 1);
                entries.insert(at, other);
            }
        }
        self.top = self.put_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }));
    }

    fn put(&mut self, media_type: &str, blob: Vec<u8>) -> Value {
        let descriptor = descriptor(media_type, &blob);
        self.blobs.insert(digest(&blob), blob);
        descriptor
    }

    fn put_json(&mut self, media_type: &str, value: &Value) -> Value {
        self.put(media_type, value.to_string().into_bytes())
    }

    pub fn tag(&self) -> String {
        format!("s{}", self.seed)
    }

    /// Prints what it is made of.
    pub fn show(&self) {
        for (n, layer) in self.layers.iter().enumerate() {
            println!("seed {}: layer {} ({}) {}", self.seed, n + 1, layer.compression, layer.chain_id);
            for entry in &layer.entries {
                let kind = match &entry.kind {
                    Kind::File(contents) => format!("file of {} bytes", contents.len()),
                    Kind::Symlink(target) => format!("symlink to {}", shown(target)),
                    Kind::Link(target) => format!("link to {}", shown(target)),
                    other => format!("{other:?}").chars().take(60).collect(),
                };
                let xattrs: Vec<_> = entry.xattrs.iter().map(|(name, _)| name.as_str()).collect();
                let Entry { name, mode, uid, gid, form, .. } = entry;
                println!("  {} {mode:o} {uid}:{gid} {form:?} {kind} {}", shown(name), xattrs.join(" "));
            }
        }
    }

    /// The chain ID of the whole image.
    pub fn chain_id(&self) -> &str {
        self.layers.last().map_or("", |layer| layer.chain_id.as_str())
    }
}

/// An archive of a layout of several images.
pub fn archive(images: &[&Image]) -> Vec<u8> {
    let mut manifests = Vec::new();
    let mut files = BTreeMap::from([("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]);
    for image in images {
        let mut top = image.top.clone();
        top["annotations"] = json!({ "org.opencontainers.image.ref.name": image.tag() });
        manifests.push(top);
        for (digest, blob) in &image.blobs {
            files.insert(format!("blobs/{}", digest.replace(':', "/")), blob.clone());
        }
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    let entry = |(name, contents): (String, Vec<u8>)| Entry {
        name: name.into_bytes(),
        kind: Kind::File(contents),
        mode: 0o644,
        uid: 0,
        gid: 0,
        xattrs: Vec::new(),
        form: Form::Pax,
    };
    tar::archive(&files.into_iter().map(entry).collect::<Vec<_>>(), Trailer::Usual)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn chain(below: Option<&str>, diff_id: &str) -> String {
    below.map_or_else(|| diff_id.to_owned(), |below| digest(format!("{below} {diff_id}").as_bytes()))
}

fn trailer(random: &mut Random, features: Features) -> Trailer {
    match features.has(Feature::Trailers) && random.percent(20) {
        true => *random.pick(&[Trailer::None, Trailer::Long, Trailer::Garbage]),
        false => Trailer::Usual,
    }
}

/// The name of the compression, the suffix of the media type, and the blob.
fn compress(random: &mut Random, features: Features, tar: &[u8]) -> Outcome<(&'static str, &'static str, Vec<u8>)> {
    Ok(match random.below(5) {
        0 => ("none", "", tar.to_vec()),
        1 if features.has(Feature::Zstd) => ("zstd", "+zstd", zstd(tar, None)?),
        2 if features.has(Feature::ZstdLong) && random.percent(25) => {
            ("zstd with a long window", "+zstd", zstd(tar, Some(LONG_WINDOW))?)
        }
        3 if features.has(Feature::GzipMembers) => {
            let (first, second) = tar.split_at(random.below(tar.len() + 1));
            ("gzip in two members", "+gzip", [gzip(first)?, gzip(second)?].concat())
        }
        _ => ("gzip", "+gzip", gzip(tar)?),
    })
}

fn gzip(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// After a frame that is skipped, as some tools begin with one.
fn zstd(bytes: &[u8], window: Option<u32>) -> Outcome<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(b"\x50\x2a\x4d\x18\x02\x00\x00\x00ok".to_vec(), 1)?;
    if let Some(window) = window {
        encoder.window_log(window)?;
    }
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn config(random: &mut Random, features: Features, diff_ids: &[String]) -> Value {
    let host = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
    let history: Vec<_> = (1..=diff_ids.len()).map(|n| json!({ "created_by": format!("layer {n}") })).collect();
    let mut config = json!({
        "architecture": host,
        "os": "linux",
        "config": {},
        "history": history,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    if features.has(Feature::OddConfig) && random.percent(20) {
        let object = config.as_object_mut();
        match (random.below(4), object) {
            (0, Some(object)) => drop((object.remove("architecture"), object.remove("os"))),
            (1, _) => config["config"]["Labels"] = Value::Null,
            (2, Some(object)) => drop(object.remove("history")),
            (_, Some(object)) => object["rootfs"] = json!({ "diff_ids": diff_ids }),
            (_, None) => {}
        }
    }
    config
}
