// SPDX-License-Identifier: Apache-2.0
//! The names of one directory in the order in which a walk visits them.
//!
//! Path order is byte order of whole paths, so `/a-b` and `/a.txt` stand between `/a` and `/a/b`. A sub-directory
//! therefore has two places: one under `name`, for itself, and one under `name/`, for what is in it.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, RawDir, statat};
use rustix::io::Errno;

use super::inode::Metadata;
use crate::inode::FileType;

/// Bytes of directory entries asked for at once: some thousand names in one system call.
pub(super) const GETDENTS_BUFFER: usize = 64 << 10;

/// One visit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    start: u32,
    len: u16,
    pub(super) file_type: FileType,
    /// The second place of a directory: its contents.
    pub(super) subtree: bool,
}

/// Names and the places to visit, in order. Names lie in one allocation, each with its final NUL.
#[derive(Debug)]
pub(super) struct Listing {
    names: Vec<u8>,
    places: Vec<Place>,
    next: usize,
}

impl Listing {
    /// Reads and sorts a directory.
    pub(super) fn read(dir: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> Result<Self, Errno> {
        let mut listing = Self { names: Vec::new(), places: Vec::new(), next: 0 };
        let mut entries = RawDir::new(dir, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let file_type = match FileType::from_raw(entry.file_type()) {
                Some(file_type) => file_type,
                None => match type_of(dir, name) {
                    Ok(file_type) => file_type,
                    // Removed between getdents and here: as if it had been removed before.
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(e),
                },
            };
            listing.push(name, file_type)?;
        }
        listing.sort();
        Ok(listing)
    }

    fn push(&mut self, name: &CStr, file_type: FileType) -> Result<(), Errno> {
        let start = u32::try_from(self.names.len()).map_err(|_| Errno::OVERFLOW)?;
        let len = u16::try_from(name.to_bytes().len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.names.extend_from_slice(name.to_bytes_with_nul());
        self.places.push(Place { start, len, file_type, subtree: false });
        if file_type == FileType::Directory {
            self.places.push(Place { start, len, file_type, subtree: true });
        }
        Ok(())
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.places.sort_unstable_by(|a, b| compare(name_in(names, a), a.subtree, name_in(names, b), b.subtree));
        // A directory that is renamed in while it is read may come twice.
        self.places.dedup_by(|a, b| a.subtree == b.subtree && name_in(names, a) == name_in(names, b));
        self.names.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// The next place.
    pub(super) fn next(&mut self) -> Option<Place> {
        let place = self.places.get(self.next).copied();
        self.next += 1;
        place
    }

    /// Gives up on the places that are left.
    pub(super) fn skip_rest(&mut self) {
        self.next = self.places.len();
    }

    /// The name at a place, without the NUL.
    pub(super) fn name(&self, place: &Place) -> &[u8] {
        name_in(&self.names, place)
    }

    /// The name at a place, with the NUL.
    pub(super) fn name_with_nul(&self, place: &Place) -> &[u8] {
        let start = place.start as usize;
        &self.names[start..=start + usize::from(place.len)]
    }
}

fn name_in<'a>(names: &'a [u8], place: &Place) -> &'a [u8] {
    let start = place.start as usize;
    &names[start..start + usize::from(place.len)]
}

/// Compares two names, each followed by a `/` if it stands for a subtree.
fn compare(a: &[u8], a_subtree: bool, b: &[u8], b_subtree: bool) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let rest = |name: &[u8], subtree: bool| name.get(common).copied().or(subtree.then_some(b'/'));
        rest(a, a_subtree).cmp(&rest(b, b_subtree))
    })
}

fn type_of(dir: BorrowedFd<'_>, name: &CStr) -> Result<FileType, Errno> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    Metadata::from_stat(&stat).map(|metadata| metadata.file_type).ok_or(Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn places_stand_in_the_order_of_whole_paths() {
        let mut listing = Listing { names: Vec::new(), places: Vec::new(), next: 0 };
        for (name, file_type) in [
            ("a~", FileType::Regular),
            ("a", FileType::Directory),
            ("a.txt", FileType::Regular),
            ("a-b", FileType::Directory),
            ("a b", FileType::Regular),
            ("a0", FileType::Regular),
        ] {
            listing.push(&CString::new(name).unwrap(), file_type).unwrap();
        }
        listing.sort();
        let mut order = Vec::new();
        while let Some(place) = listing.next() {
            let slash = if place.subtree { "/" } else { "" };
            order.push(format!("{}{slash}", String::from_utf8_lossy(listing.name(&place))));
        }
        assert_eq!(order, ["a", "a b", "a-b", "a-b/", "a.txt", "a/", "a0", "a~"]);
        assert!(order.is_sorted());
    }
}
