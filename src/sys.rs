// SPDX-License-Identifier: Apache-2.0
//! System calls that no library wraps safely: the only module that may hold unsafe code.
//!
//! Everything else goes through `rustix`, which wraps openat2, fstat, getdents, xattrs and mounts safely.

pub mod memory;
pub mod namespace;
