// SPDX-License-Identifier: Apache-2.0
//! The protocols: generated types end here.

pub mod continuity;
