// SPDX-License-Identifier: Apache-2.0
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::layer::EntryKind;

/// A tar with one file.
fn tar_of(contents: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", contents).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 1).unwrap()
}

/// Reads a blob of that tar; gives the contents of its last file.
fn contents(blob: &[u8], tar: &[u8], limits: Limits) -> Result<Vec<u8>> {
    let expected = Expected { blob: Digest::of(blob), diff_id: Digest::of(tar) };
    let mut read_back = Vec::new();
    read(blob, &expected, &limits, &Progress::default(), &mut |entry, contents| {
        read_back.clear();
        contents.read_to_end(&mut read_back).map_err(read_failed)?;
        assert_eq!(entry.kind, EntryKind::File(read_back.len() as u64));
        Ok(())
    })?;
    Ok(read_back)
}

#[test]
fn every_compression_gives_the_same_entries() {
    let data = vec![7; 1 << 20];
    let tar = tar_of(&data);
    let (first, second) = tar.split_at(tar.len() / 3);
    let members = [gzip(first), gzip(second), gzip(b"")].concat();
    let skippable = [&b"\x51\x2a\x4d\x18\x03\x00\x00\x00abc"[..], &zstd_of(first), &zstd_of(second)].concat();
    for blob in [tar.clone(), gzip(&tar), members, zstd_of(&tar), skippable] {
        assert_eq!(contents(&blob, &tar, Limits::default()).unwrap(), data);
    }
}

#[test]
fn what_is_cut_off_is_refused() {
    let tar = tar_of(&[7; 5000]);
    for whole in [tar.clone(), gzip(&tar), zstd_of(&tar)] {
        let blob = &whole[..whole.len().min(tar.len() - 2000) / 2];
        let error = contents(blob, &tar, Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn both_digests_are_checked_and_told_apart() {
    let tar = tar_of(b"contents");
    let blob = gzip(&tar);
    let right = Expected { blob: Digest::of(&blob), diff_id: Digest::of(&tar) };
    let other = Digest::of(b"other");
    for (expected, kind, what) in [
        (Expected { blob: other, ..right }, ErrorKind::Corrupt, "its blob is damaged"),
        (Expected { diff_id: other, ..right }, ErrorKind::InvalidInput, "its tar has the diff ID"),
    ] {
        let read = read(blob.as_slice(), &expected, &Limits::default(), &Progress::default(), &mut |_, _| Ok(()));
        let error = read.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with(what) && error.to_string().contains(&other.to_string()), "{error}");
    }
}

#[test]
fn a_blob_that_is_not_its_own_digest_is_damaged_whatever_else_is_wrong() {
    let tar = tar_of(&vec![7; 1 << 20]);
    let refuse = || Error::new(ErrorKind::InvalidInput, "refused");
    for whole in [tar.clone(), gzip(&tar), zstd_of(&tar)] {
        let mut flipped = whole.clone();
        // In the header of the tar, or of what it is compressed with.
        flipped[20] ^= 0x55;
        for damaged in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], &[], &flipped] {
            let expected = Expected { blob: Digest::of(&whole), diff_id: Digest::of(&tar) };
            let read = |visited: Result<()>| {
                let mut visited = Some(visited);
                let mut visit = |_, _: &mut dyn Read| visited.take().unwrap_or(Ok(()));
                read(damaged, &expected, &Limits::default(), &Progress::default(), &mut visit).unwrap_err()
            };
            assert_eq!(read(Ok(())).kind(), ErrorKind::Corrupt, "{} of {}", damaged.len(), whole.len());
            assert_eq!(read(Err(refuse())).kind(), ErrorKind::Corrupt, "{} of {}", damaged.len(), whole.len());
        }
    }
}

#[test]
fn what_follows_the_archive_counts_for_both_digests() {
    let mut tar = tar_of(b"contents");
    tar.extend([0; 10240]);
    let mut blob = gzip(&tar);
    assert_eq!(contents(&blob, &tar, Limits::default()).unwrap(), b"contents");
    blob.pop();
    contents(&blob, &tar, Limits::default()).unwrap_err();
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let tar = tar_of(&vec![0; 8 << 20]);
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let error = contents(&gzip(&tar), &tar, limits).unwrap_err();
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    let padded = [tar_of(b""), vec![0; 8 << 20]].concat();
    let error = contents(&gzip(&padded), &padded, limits).unwrap_err();
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn a_visitor_that_fails_ends_it() {
    let tar = tar_of(&vec![0; 4 << 20]);
    let expected = Expected { blob: Digest::of(&tar), diff_id: Digest::of(&tar) };
    let failed = || Error::new(ErrorKind::Changed, "enough");
    let read = read(tar.as_slice(), &expected, &Limits::default(), &Progress::default(), &mut |_, _| Err(failed()));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn a_large_file_can_be_given_up() {
    let tar = tar_of(&vec![0; 8 << 20]);
    let expected = Expected { blob: Digest::of(&tar), diff_id: Digest::of(&tar) };
    let progress = Progress::default();
    let read = read(tar.as_slice(), &expected, &Limits::default(), &progress, &mut |_, contents| {
        progress.cancel();
        io::copy(contents, &mut io::sink()).map_err(read_failed)?;
        panic!("read to its end");
    });
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Cancelled);
}

/// A source that fails as containerd's may.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(Error::new(ErrorKind::NotFound, "gone")))
    }
}

#[test]
fn what_the_source_fails_with_is_told() {
    let expected = Expected { blob: Digest::of(b""), diff_id: Digest::of(b"") };
    let read = read(Failing, &expected, &Limits::default(), &Progress::default(), &mut |_, _| Ok(()));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_follows_the_last_gzip_member_is_passed_over() {
    let tar = tar_of(&vec![7; 300_000]);
    let (first, second) = tar.split_at(1000);
    for rest in [&[0; 1][..], &[0; 100_000], b"garbage", &[0x1f], &[0x1f, 0]] {
        let blob = [&gzip(first), &gzip(second), rest].concat();
        assert_eq!(contents(&blob, &tar, Limits::default()).unwrap().len(), 300_000, "{} bytes", rest.len());
    }
    let error = contents(&[&gzip(&tar), &[0x1f, 0x8b, 8][..]].concat(), &tar, Limits::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "a member that is cut off");
}

#[test]
fn a_zstd_window_is_bounded_and_named() {
    let tar = tar_of(&vec![7; 20 << 20]);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&tar).unwrap();
    let frame = encoder.finish().unwrap();
    for blob in [frame.clone(), [&b"\x50\x2a\x4d\x18\x01\x00\x00\x00a"[..], &frame].concat()] {
        let with = |window| contents(&blob, &tar, Limits { window, ..Limits::default() });
        assert_eq!(with(16 << 20).unwrap().len(), 20 << 20);
        let error = with((16 << 20) - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let expected = "its zstd window of 16777216 bytes is larger than 8388608 (max_window allows more)";
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = contents(&[&frame, &b"rest"[..]].concat(), &tar, Limits::default()).unwrap_err();
    assert!(format!("{error:?}").contains("something else than a zstd frame"), "{error:?}");
}
