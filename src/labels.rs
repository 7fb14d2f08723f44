// SPDX-License-Identifier: Apache-2.0
//! The labels of snapshots that mean something here: who sets each, and what it says.
//!
//! A label is what its caller says, no more: none of them switches a check of a container off.

use std::collections::BTreeMap;

/// Labels of a snapshot.
pub type Labels = BTreeMap<String, String>;

/// Set by containerd's unpacker: the chain ID of the layer that is unpacked.
pub const TARGET: &str = "containerd.io/snapshot.ref";

/// Set by containerd's unpacker, 2.4 and later: the diff ID of the layer that is unpacked.
pub const DIFF_ID: &str = "containerd.io/snapshot/diff-id";

/// Set by containerd's unpacker, 2.3 and later, for every layer but the first: the chain ID of the layer below. With
/// the capability `rebase` the parent itself is named by the commit alone.
pub const PARENT_CHAIN_ID: &str = "containerd.io/snapshot/parent-chain-id";

/// Set by us, on a view that is made to look at what may be damaged; nothing runs from it. See [`UNVERIFIED_VALUE`].
pub const UNVERIFIED: &str = "containerd.io/snapshot/continuity.verify";

/// The value of [`UNVERIFIED`] that means it.
pub const UNVERIFIED_VALUE: &str = "off";

/// Begins the labels that show a seal: `state`, `manifest`, `verified-at`. They are computed and never stored: a
/// caller's own under this prefix are dropped, or what it read would come back with an update and outlive the seal.
pub const SEAL: &str = "containerd.io/snapshot/continuity.";
