// SPDX-License-Identifier: Apache-2.0
//! What no library wraps safely: the only module that may hold unsafe code.
//!
//! System calls go through `rustix`, which wraps openat2, fstat, getdents, xattrs and mounts safely; digests of one
//! stream through `sha2`.

pub mod memory;
pub mod namespace;
pub mod sha256;
