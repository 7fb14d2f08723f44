// SPDX-License-Identifier: Apache-2.0
//! What we ask of containerd, over gRPC on its socket: images, content, snapshots, leases, containers.
//!
//! Synchronous: a client owns a runtime of one thread and drives it only while a call is under way. So a call must
//! not be made from a thread of an asynchronous runtime; a blocking thread of one is fine.

mod client;
mod content;
mod image;
mod index;
mod json;
mod lease;
mod platform;
mod records;
mod runtime_spec;

/// Generated from `protos/containerd`.
#[allow(missing_docs, unused_qualifications, clippy::all)]
pub mod proto {
    pub mod types {
        tonic::include_proto!("containerd.types");
    }
    pub mod services {
        pub mod containers {
            pub mod v1 {
                tonic::include_proto!("containerd.services.containers.v1");
            }
        }
        pub mod content {
            pub mod v1 {
                tonic::include_proto!("containerd.services.content.v1");
            }
        }
        pub mod images {
            pub mod v1 {
                tonic::include_proto!("containerd.services.images.v1");
            }
        }
        pub mod introspection {
            pub mod v1 {
                tonic::include_proto!("containerd.services.introspection.v1");
            }
        }
        pub mod leases {
            pub mod v1 {
                tonic::include_proto!("containerd.services.leases.v1");
            }
        }
        pub mod mounts {
            pub mod v1 {
                tonic::include_proto!("containerd.services.mounts.v1");
            }
        }
        pub mod namespaces {
            pub mod v1 {
                tonic::include_proto!("containerd.services.namespaces.v1");
            }
        }
        pub mod snapshots {
            pub mod v1 {
                tonic::include_proto!("containerd.services.snapshots.v1");
            }
        }
        pub mod tasks {
            pub mod v1 {
                tonic::include_proto!("containerd.services.tasks.v1");
            }
        }
    }
}

pub use crate::key::ChainId;
pub use client::Client;
pub use content::ContentReader;
pub use image::{Candidate, Found, Image, Layer};
pub use lease::Lease;
pub use platform::Platform;
pub use records::{ContainerRecord, Descriptor, ImageRecord, SnapshotRecord, SnapshotterInfo};
pub use runtime_spec::RuntimeSpec;
