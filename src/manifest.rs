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

pub use entries::{Entries, ManifestEntry};
pub use mode::Mode;
pub use path::is_clean;
pub use reader::Reader;
pub use resource::Resource;
pub use writer::Writer;

/// Media type of the protobuf form.
pub const MEDIA_TYPE: &str = "application/vnd.continuity.manifest.v0+pb";
