// SPDX-License-Identifier: Apache-2.0
//! Image layers: what the files should be, from the layers' tars alone; nothing is unpacked.
//!
//! [`read`] takes a blob apart and checks it on the way against its own digest and the diff ID that the config
//! promises. [`Rootfs`] does in memory, with digests in place of contents, what containerd does on disk when it
//! unpacks the layers one over the other, and writes the manifest of the result.
//!
//! ```text
//! blob ── hash ── inflate ── hash ── tar ──▶ entries ──▶ Rootfs ──▶ manifest of the rootfs, or of one layer
//! ```

mod compression;
mod entry;
mod limits;
mod overlay;
mod read;
mod rootfs;
mod tar;

pub use entry::{Entry, EntryKind};
pub use limits::Limits;
pub use overlay::{MARK_NAMES, Marks, is_mark, is_opaque_name, is_whiteout_inode};
pub use read::{Expected, ReadReport, read};
pub use rootfs::{Found, Recorded, Rootfs, Unpacking};
