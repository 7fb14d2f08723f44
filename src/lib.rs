// SPDX-License-Identifier: Apache-2.0
//! Proves that the files a container runs from are the files its image promised.
//!
//! The modules, in reading order. A module imports only from levels below its own, or from itself.
//!
//! | level | module | what it is |
//! |---|---|---|
//! | 0 | [`error`] | kind, message, source |
//! | 0 | [`sys`] | system calls that no library wraps safely: the only unsafe code |
//! | 0 | [`digest`] | SHA-256 digests |
//! | 1 | [`manifest`] | resources, modes, the streaming codec, text and JSON forms |
//! | 1 | [`tree`] | a confined directory handle, the ordered parallel walk |
//! | 2 | [`ops`] | build, verify, apply, diff, inspect: synchronous |

pub mod cli;
pub mod digest;
pub mod error;
pub mod manifest;
pub mod ops;
pub mod sys;
pub mod tree;
