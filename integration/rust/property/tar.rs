// SPDX-License-Identifier: Apache-2.0
//! Tars, block by block: what no library would write.

/// Bytes of a block.
const BLOCK: usize = 512;

/// The largest number that a field of eight bytes holds in octal.
const SHORT_MAX: u64 = 0o7_777_777;

/// Bytes of the name and the link name of a header.
const NAME: usize = 100;

/// What an entry makes.
#[derive(Debug, Clone)]
pub enum Kind {
    File(Vec<u8>),
    /// A file of this size, zeros but for these pieces, in the order of their offsets; as of GNU tar's PAX 0.1 or 1.0.
    Sparse {
        size: u64,
        pieces: Vec<(u64, Vec<u8>)>,
        old: bool,
    },
    Directory,
    Symlink(Vec<u8>),
    Link(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    /// A PAX global header.
    Global(Vec<(String, Vec<u8>)>),
}

/// How a header says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// PAX records where they are needed.
    Pax,
    /// GNU records and numbers where they are needed.
    Gnu,
    /// An empty GNU long name and long link before it.
    GnuEmpty,
    /// GNU's magic, and the first component of the name in the prefix field.
    GnuPrefix,
    /// A PAX record whose length has a sign.
    PaxSign,
    /// Type NUL.
    Old,
}

/// One entry. Names and targets are written as they are.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub xattrs: Vec<(String, Vec<u8>)>,
    pub form: Form,
}

/// What follows the entries.
#[derive(Debug, Clone, Copy)]
pub enum Trailer {
    Usual,
    None,
    Long,
    Garbage,
}

/// The whole tar.
pub fn archive(entries: &[Entry], trailer: Trailer) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        write(&mut out, entry);
    }
    match trailer {
        Trailer::None => {}
        Trailer::Usual => out.resize(out.len() + 2 * BLOCK, 0),
        Trailer::Long => out.resize(out.len() + 40 * BLOCK, 0),
        Trailer::Garbage => {
            out.resize(out.len() + 2 * BLOCK, 0);
            out.resize(out.len() + 3 * BLOCK, b'#');
        }
    }
    out
}

fn write(out: &mut Vec<u8>, entry: &Entry) {
    let gnu = matches!(entry.form, Form::Gnu | Form::GnuEmpty | Form::GnuPrefix);
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut record = |key: &str, value: &[u8]| records.push((key.as_bytes().to_vec(), value.to_vec()));
    let target: &[u8] = match &entry.kind {
        Kind::Symlink(target) | Kind::Link(target) => target,
        _ => b"",
    };
    let mut name = entry.name.clone();
    let data = match &entry.kind {
        Kind::File(contents) => contents.clone(),
        Kind::Sparse { size, pieces, old: true } => {
            let map: Vec<_> = pieces.iter().map(|(offset, data)| format!("{offset},{}", data.len())).collect();
            record("GNU.sparse.size", size.to_string().as_bytes());
            record("GNU.sparse.numblocks", pieces.len().to_string().as_bytes());
            record("GNU.sparse.map", map.join(",").as_bytes());
            pieces.iter().flat_map(|(_, data)| data.clone()).collect()
        }
        Kind::Sparse { size, pieces, old: false } => {
            record("GNU.sparse.major", b"1");
            record("GNU.sparse.minor", b"0");
            record("GNU.sparse.name", &name);
            record("GNU.sparse.realsize", size.to_string().as_bytes());
            name = b"GNUSparseFile.0/piece".to_vec();
            sparse_data(pieces)
        }
        Kind::Global(records) => {
            records.iter().flat_map(|(key, value)| pax_record(key.as_bytes(), value, false)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in &entry.xattrs {
        record(&format!("SCHILY.xattr.{key}"), value);
    }
    match gnu {
        true => {
            if name.len() > NAME || entry.form == Form::GnuEmpty {
                long(out, b'L', if name.len() > NAME { &name } else { b"" });
            }
            if target.len() > NAME || entry.form == Form::GnuEmpty {
                long(out, b'K', if target.len() > NAME { target } else { b"" });
            }
        }
        false => {
            if name.len() > NAME || entry.form == Form::PaxSign {
                record("path", &name);
            }
            if target.len() > NAME {
                record("linkpath", target);
            }
            for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
                if id > SHORT_MAX {
                    record(key, id.to_string().as_bytes());
                }
            }
        }
    }
    if !records.is_empty() {
        let signed = entry.form == Form::PaxSign;
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value, signed)).collect();
        let mut header = Header::new(b"PaxHeaders/entry", b'x', body.len(), false);
        header.finish(out);
        pad(out, &body);
    }
    let mut header = Header::new(&name, type_of(entry), data.len(), gnu);
    header.numbers(entry, gnu);
    header.put(157, &target[..target.len().min(NAME)]);
    if entry.form == Form::GnuPrefix {
        header.split_name(&name);
    }
    header.finish(out);
    pad(out, &data);
}

fn type_of(entry: &Entry) -> u8 {
    match &entry.kind {
        Kind::File(_) if entry.form == Form::Old => 0,
        Kind::File(_) | Kind::Sparse { .. } => b'0',
        Kind::Link(_) => b'1',
        Kind::Symlink(_) => b'2',
        Kind::Char(..) => b'3',
        Kind::Block(..) => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Global(_) => b'g',
    }
}

/// The map, in lines, up to a whole block, and the pieces.
fn sparse_data(pieces: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut data = format!("{}\n", pieces.len()).into_bytes();
    for (offset, piece) in pieces {
        data.extend(format!("{offset}\n{}\n", piece.len()).bytes());
    }
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    pieces.iter().for_each(|(_, piece)| data.extend(piece));
    data
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits, and its sign.
fn pax_record(key: &[u8], value: &[u8], signed: bool) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let sign = if signed { "+" } else { "" };
    let mut length = rest.len();
    loop {
        let text = format!("{sign}{length}");
        match text.len() + rest.len() {
            whole if whole == length => return [text.as_bytes(), &rest].concat(),
            whole => length = whole,
        }
    }
}

/// A GNU record for the name or the target of the header that follows; an empty one has no data.
fn long(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    let data = if text.is_empty() { Vec::new() } else { [text, b"\0"].concat() };
    let mut header = Header::new(b"././@LongLink", kind, data.len(), true);
    header.finish(out);
    pad(out, &data);
}

fn pad(out: &mut Vec<u8>, data: &[u8]) {
    out.extend(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// A header on its way.
struct Header([u8; BLOCK]);

impl Header {
    fn new(name: &[u8], kind: u8, size: usize, gnu: bool) -> Self {
        let mut header = Self([0; BLOCK]);
        header.put(0, &name[..name.len().min(NAME)]);
        header.put(100, b"0000644\0");
        header.put(108, b"0000000\0");
        header.put(116, b"0000000\0");
        header.put(124, format!("{size:011o}\0").as_bytes());
        header.put(136, b"14000000000\0");
        header.put(156, &[kind]);
        header.put(257, if gnu { b"ustar  \0" } else { b"ustar\x0000" });
        header
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn numbers(&mut self, entry: &Entry, gnu: bool) {
        self.put(100, format!("{:07o}\0", entry.mode).as_bytes());
        self.number(108, entry.uid, gnu);
        self.number(116, entry.gid, gnu);
        if let Kind::Char(major, minor) | Kind::Block(major, minor) = entry.kind {
            self.number(329, major.into(), gnu);
            self.number(337, minor.into(), gnu);
        }
    }

    /// Eight bytes: octal, or base 256 in GNU's way; where a PAX record says it, 0.
    fn number(&mut self, at: usize, number: u64, gnu: bool) {
        match (number <= SHORT_MAX, gnu) {
            (true, _) => self.put(at, format!("{number:07o}\0").as_bytes()),
            (false, true) => {
                let mut bytes = number.to_be_bytes();
                bytes[0] |= 0x80;
                self.put(at, &bytes);
            }
            (false, false) => self.put(at, b"0000000\0"),
        }
    }

    /// The first component goes to the prefix field, if there are several and the rest fits.
    fn split_name(&mut self, name: &[u8]) {
        let Some(slash) = name.iter().position(|&byte| byte == b'/').filter(|&slash| slash > 0) else { return };
        self.put(0, &[0; NAME]);
        let rest = &name[slash + 1..];
        self.put(0, &rest[..rest.len().min(NAME)]);
        self.put(345, &name[..slash]);
    }

    /// With its sum.
    fn finish(&mut self, out: &mut Vec<u8>) {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|&byte| u32::from(byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        out.extend(self.0);
    }
}
