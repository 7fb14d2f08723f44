// SPDX-License-Identifier: Apache-2.0
//! Verifier.

pub mod mounts;
