// SPDX-License-Identifier: Apache-2.0
//! What can be done with a tree and a manifest: synchronous, no daemon, no containerd.
//!
//! Everything is a stream in path order: [`build`] writes one, [`verify`] and [`diff`] join two, [`apply`] makes a
//! plan of a join and performs it. A difference is a [`Finding`]; an error means that the work could not be done.

mod apply;
mod assemble;
mod build;
mod compare;
mod diff;
mod finding;
mod inspect;
mod reconcile;
mod resource;
mod verify;

pub use apply::{
    Action, ApplyOptions, ApplyPlan, ApplyReport, Contents, PerformOptions, Performed, Source, plan, plan_where,
};
pub use build::{BuildOptions, BuildReport, build};
pub use diff::diff;
pub use finding::{Finding, FindingKind};
pub use inspect::{Stats, dump_json, dump_text, list, stats};
pub use reconcile::reconcile;
pub use verify::{Pair, VerifyOptions, VerifyReport, join, verify};
