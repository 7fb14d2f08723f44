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
//! | 3 | [`snapshotter`] | snapshots on overlayfs, their records and seals |
//! | 3 | [`verifier`] | seals layers, verifies them before use; reads the snapshotter, never the other way round |
//! | 4 | [`engine`] | one method per use case: the one door for every protocol |
//! | 5 | [`api`] | the protocols: gRPC for containerd, ttrpc for everybody else |
//! | 5 | [`config`] | the daemon's configuration file |
//! | 5 | [`daemon`] | sockets, signals, logging |

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod digest;
pub mod engine;
pub mod error;
pub mod manifest;
pub mod ops;
pub mod snapshotter;
pub mod sys;
pub mod tree;
pub mod verifier;
