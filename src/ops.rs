// SPDX-License-Identifier: Apache-2.0
//! What can be done with a tree and a manifest: synchronous, no daemon, no containerd.
//!
//! Everything is a stream in path order: [`build`] writes one, [`verify`] and [`diff`] join two, [`apply`] makes a
//! plan of a join and performs it. Which differences count is up to [`Rules`]. A difference is a [`Finding`]; an error
//! means that the work could not be done.

mod apply;
mod assemble;
mod build;
mod compare;
mod diff;
mod finding;
mod inspect;
mod reconcile;
mod resource;
mod rules;
mod verify;

pub use apply::{
    Action, ApplyOptions, ApplyPlan, ApplyReport, Contents, PerformOptions, Performed, Source, plan, plan_by,
};
pub use build::{BuildOptions, BuildReport, build};
pub use compare::compare;
pub use diff::{diff, diff_by};
pub use finding::{Finding, FindingKind};
pub use inspect::{Stats, dump_json, dump_text, list, stats};
pub use reconcile::reconcile;
pub use resource::resource_of;
pub use rules::{Exact, Rules, Settled};
pub use verify::{Pair, VerifyOptions, VerifyReport, join_by, verify, verify_by};
