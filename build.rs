// SPDX-License-Identifier: Apache-2.0
//! Compiles `protos/` without a `protoc` on the machine: rust-protobuf's parser and ttrpc-codegen for
//! ttrpc, protox and tonic for gRPC.

use std::error::Error;
use std::path::PathBuf;

const TTRPC: &[&str] = &["protos/continuity.proto"];
const GRPC: &[&str] = &[
    "protos/containerd/containers.proto",
    "protos/containerd/content.proto",
    "protos/containerd/images.proto",
    "protos/containerd/introspection.proto",
    "protos/containerd/leases.proto",
    "protos/containerd/mounts.proto",
    "protos/containerd/namespaces.proto",
    "protos/containerd/snapshots.proto",
    "protos/containerd/tasks.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=protos");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let ttrpc = out.join("ttrpc");
    std::fs::create_dir_all(&ttrpc)?;
    ttrpc_codegen::Codegen::new()
        .out_dir(&ttrpc)
        .inputs(TTRPC)
        .include("protos")
        .rust_protobuf()
        .customize(ttrpc_codegen::Customize { async_all: true, ..Default::default() })
        .run()?;
    // The generator's own mod.rs begins with an inner attribute, which an include! does not take.
    std::fs::write(ttrpc.join("mod.rs"), "pub mod continuity;\npub mod continuity_ttrpc;\n")?;

    let descriptors = protox::compile(GRPC, ["protos"])?;
    tonic_prost_build::configure().build_client(true).build_server(true).compile_fds(descriptors)?;
    Ok(())
}
