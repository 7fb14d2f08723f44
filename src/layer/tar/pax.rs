// SPDX-License-Identifier: Apache-2.0
//! PAX records: `length key=value\n`.

use std::collections::BTreeMap;

use super::broken;
use super::header::Header;
use crate::error::Result;
use crate::inode::Xattr;

/// Begins the key of an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// Keys of the old form of sparse maps, which come again and again; kept as one list.
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_NUMBYTES: &[u8] = b"GNU.sparse.numbytes";
const SPARSE_MAP: &[u8] = b"GNU.sparse.map";

/// The records before an entry. Their number is bounded by that of their bytes.
#[derive(Default)]
pub struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    /// Takes them apart.
    pub fn parse(mut rest: &[u8]) -> Result<Self> {
        let failed = || broken("PAX records that make no sense");
        let mut records = BTreeMap::new();
        let mut map: Vec<Vec<u8>> = Vec::new();
        while !rest.is_empty() {
            let space = rest.iter().position(|&byte| byte == b' ').ok_or_else(failed)?;
            let length = integer(&rest[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(failed)?;
            let record =
                rest.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(failed)?;
            rest = &rest[length..];
            let equals = record.iter().position(|&byte| byte == b'=').filter(|&n| n > 0).ok_or_else(failed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
            if key.contains(&0) || is_text && value.contains(&0) {
                return Err(failed());
            }
            match key {
                SPARSE_OFFSET | SPARSE_NUMBYTES => {
                    let is_offset = key == SPARSE_OFFSET;
                    if is_offset != map.len().is_multiple_of(2) || value.contains(&b',') {
                        return Err(failed());
                    }
                    map.push(value.to_vec());
                }
                _ => drop(records.insert(key.to_vec(), value.to_vec())),
            }
        }
        if !map.is_empty() {
            records.insert(SPARSE_MAP.to_vec(), map.join(&b','));
        }
        Ok(Self(records))
    }

    /// A record; an empty one says nothing.
    pub fn get(&self, key: &str) -> &[u8] {
        self.0.get(key.as_bytes()).map_or(b"", Vec::as_slice)
    }

    /// What they say instead of the header.
    pub fn merge(&self, header: &mut Header) -> Result<()> {
        let number = |key: &str, field: &mut i64| match self.get(key) {
            b"" => Ok(()),
            value => {
                *field = integer(value).ok_or_else(|| broken("PAX records with a number that is none"))?;
                Ok(())
            }
        };
        number("uid", &mut header.uid)?;
        number("gid", &mut header.gid)?;
        number("size", &mut header.size)?;
        for (key, field) in [("path", &mut header.name), ("linkpath", &mut header.link)] {
            if !self.get(key).is_empty() {
                *field = self.get(key).to_vec();
            }
        }
        Ok(())
    }

    /// The extended attributes, by name.
    pub fn take_xattrs(&mut self) -> Vec<Xattr> {
        let records = std::mem::take(&mut self.0);
        records
            .into_iter()
            .filter_map(|(key, value)| Some(Xattr { name: key.strip_prefix(XATTR)?.to_vec(), value }))
            .collect()
    }
}

/// Decimal digits, perhaps after a sign, as Go's `strconv.ParseInt` takes them.
pub fn integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
