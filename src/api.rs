// SPDX-License-Identifier: Apache-2.0
//! The protocols: generated types come in and go out here and nowhere else.
//!
//! Servers are `run(listener, engine, shutdown)`. A call crosses to the synchronous engine once.

pub mod continuity;
pub mod convert;
pub mod crossing;
mod in_flight;
pub mod snapshots;
mod status;
