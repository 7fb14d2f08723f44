// SPDX-License-Identifier: Apache-2.0
//! What we ask of containerd, over gRPC on its socket: images, content, snapshots, leases, containers.
//!
//! Synchronous: a client owns a runtime of one thread and drives it only while a call is under way. So a call must
//! not be made from a thread of an asynchronous runtime; a blocking thread of one is fine.

mod client;
mod image;

pub use client::{
    Client, ContainerRecord, ContentReader, Descriptor, ImageRecord, Lease, SnapshotRecord, SnapshotterInfo,
};
pub use image::{ChainId, Image, Layer, Platform};
