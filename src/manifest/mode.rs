// SPDX-License-Identifier: Apache-2.0
//! Modes as Go's `os.FileMode` has them, which is what a manifest records.

use std::fmt;

use crate::inode::FileType;

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHARACTER: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const PERMISSIONS: u32 = 0o777;

/// Every bit that says a type. A character device has two of them.
const TYPES: u32 = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | CHARACTER;

/// The bits that say a type.
fn type_bits(file_type: FileType) -> u32 {
    match file_type {
        FileType::Directory => DIRECTORY,
        FileType::Regular => 0,
        FileType::Symlink => SYMLINK,
        FileType::CharDevice => DEVICE | CHARACTER,
        FileType::BlockDevice => DEVICE,
        FileType::Fifo => FIFO,
        FileType::Socket => SOCKET,
    }
}

/// A mode with a known type and no bit that no tree of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode(u32);

impl Mode {
    /// Type and `st_mode & 0o7777`. A symlink's permissions are always 0777, as the reference records them.
    pub fn new(file_type: FileType, permissions: u32) -> Self {
        let permissions = if file_type == FileType::Symlink { PERMISSIONS } else { permissions };
        let mut bits = type_bits(file_type) | permissions & PERMISSIONS;
        for (st, go) in [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)] {
            if permissions & st != 0 {
                bits |= go;
            }
        }
        Self(bits)
    }

    /// From a manifest's field; `None` for an unknown type and for bits that Linux trees don't have.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let known = TYPES | SETUID | SETGID | STICKY | PERMISSIONS;
        let has_type = FileType::ALL.into_iter().any(|file_type| type_bits(file_type) == bits & TYPES);
        (has_type && bits & !known == 0).then_some(Self(bits))
    }

    /// The manifest's field.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The type.
    pub fn file_type(self) -> FileType {
        match self.0 & TYPES {
            DIRECTORY => FileType::Directory,
            SYMLINK => FileType::Symlink,
            DEVICE => FileType::BlockDevice,
            FIFO => FileType::Fifo,
            SOCKET => FileType::Socket,
            0 => FileType::Regular,
            _ => FileType::CharDevice,
        }
    }

    /// `st_mode & 0o7777`.
    pub fn permissions(self) -> u32 {
        let mut permissions = self.0 & PERMISSIONS;
        for (st, go) in [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)] {
            if self.0 & go != 0 {
                permissions |= st;
            }
        }
        permissions
    }
}

impl fmt::Display for Mode {
    /// Go's FileMode string: a letter for each bit from 31 down to 19, `-` if none, then `rwxrwxrwx`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        const LETTERS: &[u8; 13] = b"dalTLDpSugct?";
        let mut any = false;
        for (n, letter) in LETTERS.iter().enumerate() {
            if self.0 & 1 << (31 - n) != 0 {
                f.write_char(char::from(*letter))?;
                any = true;
            }
        }
        if !any {
            f.write_char('-')?;
        }
        for (n, letter) in b"rwxrwxrwx".iter().enumerate() {
            f.write_char(if self.0 & 1 << (8 - n) != 0 { char::from(*letter) } else { '-' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_survives_the_round_trip() {
        for kind in FileType::ALL {
            for permissions in 0..=0o7777 {
                let mode = Mode::new(kind, permissions);
                let expected = if kind == FileType::Symlink { 0o777 } else { permissions };
                assert_eq!((mode.file_type(), mode.permissions()), (kind, expected));
                assert_eq!(Mode::from_bits(mode.bits()), Some(mode));
            }
        }
    }

    #[test]
    fn unknown_types_and_bits_are_refused() {
        for bits in [DIRECTORY | SYMLINK, CHARACTER, FIFO | CHARACTER, 1 << 19, 1 << 30, 1 << 29, 1 << 28, 1 << 9] {
            assert_eq!(Mode::from_bits(bits), None, "{bits:#x}");
        }
    }

    #[test]
    fn the_text_is_gos() {
        assert_eq!(Mode::new(FileType::Regular, 0o4755).to_string(), "urwxr-xr-x");
        assert_eq!(Mode::new(FileType::Directory, 0o1777).to_string(), "dtrwxrwxrwx");
        assert_eq!(Mode::new(FileType::CharDevice, 0o644).to_string(), "Dcrw-r--r--");
        assert_eq!(Mode::new(FileType::Symlink, 0).to_string(), "Lrwxrwxrwx");
        assert_eq!(Mode::new(FileType::Regular, 0).to_string(), "----------");
        assert_eq!(Mode::new(FileType::Regular, 0o6711).to_string(), "ugrwx--x--x");
    }
}
