// SPDX-License-Identifier: Apache-2.0
//! What can be done with a tree and a manifest: synchronous, no daemon, no containerd.

mod build;
mod finding;
mod verify;

pub use build::{BuildOptions, BuildReport, build};
pub use finding::{Finding, FindingKind};
pub use verify::{VerifyOptions, VerifyReport, verify};
