// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::manifest::Writer;
use crate::manifest::wire::{put_bytes, put_number, put_varint};

const GOLDEN: &[u8] = include_bytes!("../../../integration/golden/manifest.pb");

fn read_all(bytes: &[u8]) -> Result<Vec<Resource>> {
    let mut reader = Reader::new(bytes);
    let mut all = Vec::new();
    while let Some(resource) = reader.next()? {
        all.push(resource);
    }
    Ok(all)
}

fn refused(bytes: &[u8], part: &str) {
    let error = read_all(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidManifest);
    assert!(error.to_string().contains(part), "{error}");
}

/// A manifest of fifos with these groups of paths.
fn manifest(groups: &[&[&str]]) -> Vec<u8> {
    let mut out = Vec::new();
    for paths in groups {
        let mut body = Vec::new();
        for path in *paths {
            put_bytes(&mut body, field::PATH, path.as_bytes());
        }
        put_number(&mut body, field::MODE, Mode::new(FileType::Fifo, 0o600).bits().into());
        put_bytes(&mut out, field::RESOURCE, &body);
    }
    out
}

#[test]
fn the_references_manifest_survives_reading_and_writing() {
    let resources = read_all(GOLDEN).unwrap();
    let mut writer = Writer::new(Vec::new());
    for resource in &resources {
        writer.write(resource).unwrap();
    }
    assert_eq!(writer.into_inner(), GOLDEN);
}

#[test]
fn a_manifest_cut_anywhere_is_refused_or_ends_between_resources() {
    let mut whole = 0;
    for len in 0..GOLDEN.len() {
        match read_all(&GOLDEN[..len]) {
            Ok(_) => whole += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidManifest),
        }
    }
    assert_eq!(whole, read_all(GOLDEN).unwrap().len());
}

#[test]
fn every_flipped_byte_is_read_or_refused_but_never_more() {
    for at in 0..GOLDEN.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] ^= bit;
            if let Err(error) = read_all(&bytes) {
                assert_eq!(error.kind(), ErrorKind::InvalidManifest);
            }
        }
    }
}

#[test]
fn a_length_beyond_reason_is_refused_before_memory_is_taken() {
    let mut bytes = vec![0x0a];
    put_varint(&mut bytes, 1 << 60);
    refused(&bytes, "at byte 0");
    let mut body = vec![0x0a];
    put_varint(&mut body, 1 << 60);
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, field::RESOURCE, &body);
    refused(&bytes, "beyond its message");
    // A length that is allowed but does not arrive.
    let mut bytes = vec![0x0a];
    put_varint(&mut bytes, RESOURCE_MAX);
    bytes.extend_from_slice(b"xx");
    let mut reader = Reader::new(bytes.as_slice());
    assert!(reader.next().is_err());
    assert!(reader.body.capacity() <= 2 * GROWTH as usize);
}

#[test]
fn paths_that_no_tree_has_are_refused() {
    for (path, part) in [("/a/../b", ".."), ("//a", "empty"), ("a", "begin"), ("/a/", "empty"), ("", "begin")] {
        refused(&manifest(&[&[path]]), part);
    }
    refused(&manifest(&[&["/a".repeat(1_000_000).as_str()]]), "components");
    refused(&manifest(&[&[]]), "without a path");
}

#[test]
fn order_and_duplicates_are_checked_across_hard_links() {
    assert_eq!(read_all(&manifest(&[&["/a", "/c"], &["/b", "/d"], &["/e"]])).unwrap().len(), 3);
    refused(&manifest(&[&["/b"], &["/a"]]), "not sorted");
    refused(&manifest(&[&["/a"], &["/a"]]), "stands twice");
    refused(&manifest(&[&["/b", "/a"]]), "not sorted");
    refused(&manifest(&[&["/a", "/c"], &["/b", "/c"]]), "/c: stands twice");
    refused(&manifest(&[&["/a", "/c"], &["/c"]]), "/c: stands twice");
    refused(&manifest(&[&["/a", "/c"], &["/b", "/c"], &["/d"]]), "/c: stands twice");
}

#[test]
fn unknown_types_and_digests_are_refused_with_the_path() {
    let with = |number, value: u64| {
        let mut body = Vec::new();
        put_bytes(&mut body, field::PATH, b"/x");
        put_number(&mut body, number, value);
        let mut out = Vec::new();
        put_bytes(&mut out, field::RESOURCE, &body);
        out
    };
    refused(&with(field::MODE, 1 << 19), "/x: mode 0x80000 is of an unknown type");
    refused(&with(field::MODE, 1 << 40), "unknown type");
    refused(&with(field::UID, u64::MAX), "uid -1 is out of range");
    refused(&with(field::MODE, 0o644), "without a digest");
    refused(&with(field::PATH, 7), "wrong type");
    let mut body = Vec::new();
    put_bytes(&mut body, field::PATH, b"/x");
    put_bytes(&mut body, field::DIGEST, b"md5:00");
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, field::RESOURCE, &body);
    refused(&bytes, "/x: digest md5:00 is not sha256");
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    let mut body = Vec::new();
    put_bytes(&mut body, field::PATH, b"/x");
    put_number(&mut body, field::MODE, Mode::new(FileType::Fifo, 0).bits().into());
    put_bytes(&mut body, 77, b"later");
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, field::RESOURCE, &body);
    assert_eq!(read_all(&bytes).unwrap()[0].first_path(), b"/x");
}
