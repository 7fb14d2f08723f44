// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::inode::Xattr;

/// One header and its contents, filled up to a block.
fn block(kind: u8, name: &str, size: u64, contents: &[u8], change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    let mut bytes: [u8; BLOCK] = *header.as_bytes();
    bytes[156] = kind;
    change(&mut bytes);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut block = bytes.to_vec();
    block.extend_from_slice(contents);
    block.resize(block.len().div_ceil(BLOCK) * BLOCK, 0);
    block
}

fn plain(kind: u8, name: &str, contents: &[u8]) -> Vec<u8> {
    block(kind, name, contents.len() as u64, contents, |_| {})
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = |n: usize| n.to_string().len();
        let length = rest + digits(rest + digits(rest));
        body.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
    }
    plain(b'x', "pax", &body)
}

/// Every entry with its contents.
fn entries(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(tar, 1 << 20);
    let mut entries = Vec::new();
    while let Some((entry, mut contents)) = reader.next()? {
        let mut read = Vec::new();
        contents.read_to_end(&mut read).map_err(read_failed)?;
        entries.push((entry, read));
    }
    Ok(entries)
}

fn refused(tar: &[u8]) -> String {
    let error = entries(tar).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

#[test]
fn records_overrule_the_header() {
    let long = "n".repeat(300);
    let tar = [
        pax(&[("path", &long), ("uid", "3000000"), ("SCHILY.xattr.user.a", "x=y"), ("SCHILY.xattr.user.b", "")]),
        plain(b'0', "short", b"contents"),
        plain(b'0', "next", b""),
    ]
    .concat();
    let entries = entries(&tar).unwrap();
    let (entry, contents) = &entries[0];
    assert_eq!((entry.name.as_slice(), entry.uid, contents.as_slice()), (long.as_bytes(), 3_000_000, &b"contents"[..]));
    let xattr = |name: &str, value: &str| Xattr { name: name.into(), value: value.into() };
    assert_eq!(entry.xattrs, [xattr("user.a", "x=y"), xattr("user.b", "")]);
    assert_eq!((entries[1].0.name.as_slice(), entries[1].0.uid), (&b"next"[..], 0));
}

#[test]
fn long_names_and_links_of_gnu() {
    let (name, link) = ("n".repeat(300), "l".repeat(300));
    let tar = [
        plain(b'L', "././@LongLink", format!("{name}\0").as_bytes()),
        plain(b'K', "././@LongLink", format!("{link}\0").as_bytes()),
        plain(b'1', "short", b""),
    ]
    .concat();
    let entries = entries(&tar).unwrap();
    assert_eq!(entries[0].0.name, name.as_bytes());
    assert_eq!(entries[0].0.kind, EntryKind::Link(link.into_bytes()));
}

#[test]
fn numbers_in_base_256_and_negative_ones() {
    let with_uid = |bytes: [u8; 8]| block(b'0', "f", 0, b"", |block| block[108..116].copy_from_slice(&bytes));
    let uid = |bytes| entries(&with_uid(bytes)).unwrap()[0].0.uid;
    assert_eq!(uid([0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0]), 3_000_000);
    assert_eq!(uid([0xff; 8]), u32::MAX, "no owner");
    assert_eq!(uid(*b"  17 \0\0\0"), 0o17);
    refused(&with_uid(*b"999\0\0\0\0\0"));
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_taken() {
    for bytes in [
        [0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0],
        [0xff; 12],
        [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        for kind in [b'0', b'L', b'x', b'S'] {
            refused(&block(kind, "huge", 0, b"", |block| block[124..136].copy_from_slice(&bytes)));
        }
    }
    refused(&[pax(&[("size", "-1")]), plain(b'0', "f", b"")].concat());
    refused(&[pax(&[("size", "99999999999999999999")]), plain(b'0', "f", b"")].concat());
}

#[test]
fn sparse_files_are_read_with_their_holes() {
    let mut expected = vec![0; 3000];
    expected[1000..1004].copy_from_slice(b"data");
    expected[2996..].copy_from_slice(b"last");
    let old = block(b'S', "f", 8, b"datalast", |block| {
        for (n, number) in [1000, 4, 2996, 4].into_iter().enumerate() {
            block[386 + n * 12..398 + n * 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
        }
        block[483..495].copy_from_slice(format!("{:011o}\0", 3000).as_bytes());
    });
    let listed = [
        pax(&[("GNU.sparse.size", "3000"), ("GNU.sparse.map", "1000,4,2996,4"), ("GNU.sparse.name", "f")]),
        plain(b'0', "GNUSparseFile.0/f", b"datalast"),
    ];
    let repeated = [
        pax(&[
            ("GNU.sparse.size", "3000"),
            ("GNU.sparse.offset", "1000"),
            ("GNU.sparse.numbytes", "4"),
            ("GNU.sparse.offset", "2996"),
            ("GNU.sparse.numbytes", "4"),
        ]),
        plain(b'0', "f", b"datalast"),
    ];
    let mut map = b"2\n1000\n4\n2996\n4\n".to_vec();
    map.resize(BLOCK, 0);
    map.extend_from_slice(b"datalast");
    let newest = [
        pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.realsize", "3000"),
            ("GNU.sparse.name", "f"),
        ]),
        plain(b'0', "GNUSparseFile.0/f", &map),
    ];
    for tar in [old, listed.concat(), repeated.concat(), newest.concat()] {
        let tar = [tar, plain(b'0', "next", b"n")].concat();
        let entries = entries(&tar).unwrap();
        assert_eq!((entries[0].0.name.as_slice(), &entries[0].0.kind), (&b"f"[..], &EntryKind::File(3000)));
        assert_eq!(entries[0].1, expected);
        assert_eq!((entries[1].0.name.as_slice(), entries[1].1.as_slice()), (&b"next"[..], &b"n"[..]));
    }
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for (size, map) in
        [("10", "5,4,4,4"), ("10", "8,4"), ("10", "1"), ("10", "x,1"), ("1152921504606846976", "0,1"), ("-1", "0,1")]
    {
        let tar = [pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]), plain(b'0', "f", b"12345678")].concat();
        refused(&tar);
    }
    let endless = pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")]);
    refused(&[endless.clone(), plain(b'0', "f", &[b'1'; 2000])].concat());
    refused(&[endless, plain(b'0', "f", b"99999999\n")].concat());
}

#[test]
fn what_is_no_tar_is_refused() {
    let mut wrong = plain(b'0', "f", b"");
    wrong[0] ^= 1;
    assert!(refused(&wrong).contains("checksum"));
    let zeros = [[0; BLOCK].as_slice(), &plain(b'0', "f", b"")].concat();
    assert!(refused(&zeros).contains("one block of zeros"));
    assert!(refused(&plain(b'0', "f", b"")[..100]).contains("within a header"));
    assert!(refused(&plain(b'7', "f", b"")).contains("type '7'"));
    for records in ["9 a=b\n", "99 a=b\n", "5 ab\n", "0 a=b\n", "6 =ab\n", "x"] {
        refused(&[plain(b'x', "pax", records.as_bytes()), plain(b'0', "f", b"")].concat());
    }
}

#[test]
fn the_end_is_two_blocks_of_zeros_or_that_of_the_bytes() {
    for end in [0, BLOCK, 2 * BLOCK, 20 * BLOCK] {
        let tar = [plain(b'0', "f", b"x"), vec![0; end]].concat();
        assert_eq!(entries(&tar).unwrap().len(), 1, "{end}");
    }
    assert!(entries(b"").unwrap().is_empty());
}

#[test]
fn old_directories_end_with_a_slash() {
    let tar = [plain(0, "dir/", b""), plain(0, "file", b"x")].concat();
    let entries = entries(&tar).unwrap();
    assert!(matches!(entries[0].0.kind, EntryKind::Special { file_type: FileType::Directory, .. }));
    assert_eq!(entries[1].0.kind, EntryKind::File(1));
}

#[test]
fn contents_that_are_not_read_are_passed_over() {
    let tar = [plain(b'0', "a", &[1; 1000]), plain(b'0', "b", b"")].concat();
    let mut reader = TarReader::new(tar.as_slice(), 1 << 20);
    let mut names = Vec::new();
    while let Some((entry, _)) = reader.next().unwrap() {
        names.push(entry.name);
    }
    assert_eq!(names, [b"a", b"b"]);
}

#[test]
fn a_global_header_is_an_entry_and_ends_what_was_said_before() {
    let global = |name: &str, records: &[u8]| plain(b'g', name, records);
    let tar = [
        pax(&[("path", "forgotten"), ("SCHILY.xattr.user.a", "b")]),
        plain(b'L', "././@LongLink", b"forgotten, too\0"),
        global("pax_global_header", b"13 comment=c\n"),
        plain(b'0', "a", b"x"),
        global("overruled", b"10 path=p\n"),
        plain(b'0', "b", b""),
    ]
    .concat();
    let entries = entries(&tar).unwrap();
    let names: Vec<_> = entries.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    assert_eq!(names, ["pax_global_header", "a", "p", "b"]);
    let globals: Vec<_> = entries.iter().map(|(entry, _)| entry.kind == EntryKind::Global).collect();
    assert_eq!(globals, [true, false, true, false]);
    assert_eq!((entries[1].0.xattrs.len(), entries[1].1.as_slice()), (0, &b"x"[..]));
    refused(&[global("g", b"9 a=b\n"), plain(b'0', "f", b"")].concat());
}

#[test]
fn a_prefix_that_gnu_does_not_have_counts_where_no_times_are() {
    let with = |prefix: &[u8]| {
        let tar = block(b'0', "f", 0, b"", |block| block[345..345 + prefix.len()].copy_from_slice(prefix));
        String::from_utf8(entries(&tar).unwrap().remove(0).0.name).unwrap()
    };
    for (prefix, name) in [
        (&b"some/where"[..], "some/where/f"),
        (b"", "f"),
        (b"00000000017\x0000000000017", "f"),
        (b"0000000001 x", "0000000001 x/f"),
        (b"\xff\xfe", "f"),
        (b"n\xc3\xb6", "f"),
    ] {
        assert_eq!(with(prefix), name, "{prefix:?}");
    }
}

#[test]
fn an_empty_long_name_leaves_that_of_the_header() {
    for empty in [&b""[..], b"\0", b"\0more"] {
        let long = |kind| plain(kind, "././@LongLink", empty);
        let linked = block(b'1', "short", 0, b"", |block| block[157..160].copy_from_slice(b"old"));
        let entries = entries(&[long(b'L'), long(b'K'), linked].concat()).unwrap();
        assert_eq!(
            (entries[0].0.name.as_slice(), &entries[0].0.kind),
            (&b"short"[..], &EntryKind::Link(b"old".into()))
        );
    }
}

#[test]
fn numbers_of_records_may_have_a_sign() {
    let with = |records: &str| entries(&[plain(b'x', "pax", records.as_bytes()), plain(b'5', "d", b"")].concat());
    for (records, name, uid) in
        [("+11 path=p\n", "p", 0), ("011 path=p\n", "p", 0), ("9 uid=+7\n", "d", 7), ("9 uid=-1\n", "d", u32::MAX)]
    {
        let entry = with(records).unwrap().remove(0).0;
        assert_eq!((entry.name.as_slice(), entry.uid), (name.as_bytes(), uid), "{records}");
    }
    for records in ["-11 path=p\n", "1_1 path=p\n", "+ path=p\n", "8 a\0b=c\n", "9 uid=+-\n"] {
        assert_eq!(with(records).unwrap_err().kind(), ErrorKind::InvalidInput, "{records}");
    }
    assert_eq!(with("11 size=-5\n").unwrap()[0].0.name, b"d", "the size of a directory says nothing");
}
