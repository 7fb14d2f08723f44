// SPDX-License-Identifier: Apache-2.0
//! The continuity manifest: resources sorted by first path, as protobuf, text and JSON.
//!
//! A manifest is untrusted input. [`Reader`] takes it one resource at a time, in memory bounded by named constants
//! and not by what the bytes claim, and gives out only resources that could stand in a tree: known types, clean
//! absolute paths, ascending order, no path twice. `protos/manifest.proto` documents the wire format, whose field
//! order and omissions [`Writer`] keeps byte for byte.

mod entries;
mod mode;
mod path;
mod reader;
mod resource;
pub mod text;
mod wire;
mod writer;

use std::io::{Cursor, Read};

use crate::error::{Error, ErrorKind, Result};

pub use entries::{Entries, ManifestEntry};
pub use mode::Mode;
pub use path::is_clean;
pub use reader::Reader;
pub use resource::Resource;
pub use writer::Writer;

/// Refuses a manifest without resources, which a command that failed may have written: nothing is no proof. Gives back
/// all of the source; `name` is what an error calls it.
///
/// # Errors
/// `InvalidInput` if it has none; `Io` if the source fails.
pub fn with_resources<R: Read>(source: R, name: &str) -> Result<impl Read + use<R>> {
    match has_resources(source)? {
        (true, source) => Ok(source),
        (false, _) => Err(Error::new(ErrorKind::InvalidInput, format!("{name} has no resources"))),
    }
}

/// Whether a manifest has resources, and all of its source, with what was read of it.
///
/// # Errors
/// `Io` if the source fails.
pub fn has_resources<R: Read>(mut source: R) -> Result<(bool, impl Read + use<R>)> {
    let mut first = Vec::new();
    // The bytes of a manifest are resources, and nothing else.
    let read = source.by_ref().take(1).read_to_end(&mut first);
    read.map_err(|error| Error::new(ErrorKind::Io, "reading the manifest").with_source(error))?;
    Ok((!first.is_empty(), Cursor::new(first).chain(source)))
}

/// Media type of the protobuf form.
pub const MEDIA_TYPE: &str = "application/vnd.continuity.manifest.v0+pb";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_resources_is_refused() {
        let read = |source: &[u8]| {
            let mut read = Vec::new();
            with_resources(source, "manifest a").map(|mut source| source.read_to_end(&mut read))?.unwrap();
            Ok::<_, Error>(read)
        };
        assert_eq!(read(b"").unwrap_err().to_string(), "manifest a has no resources");
        for manifest in [&b"x"[..], b"several bytes"] {
            assert_eq!(read(manifest).unwrap(), manifest);
        }
    }
}
