// SPDX-License-Identifier: Apache-2.0
//! What is checked when, and what follows.

use std::time::Duration;

/// What happens when a layer is damaged, or could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The call fails with `FailedPrecondition`.
    Refuse,
    /// The call proceeds, the log has a warning.
    Warn,
}

/// Whether damage is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// By nobody but who says so.
    Off,
    /// In the background, as soon as a check has found it, if an image says what the layer should be and no running
    /// container uses it.
    Auto,
}

/// How much is checked before a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Every layer, every file.
    Full,
    /// Nothing.
    Off,
}

/// What becomes of a layer that an unclean stop has left without a seal, and that no image describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// It could not be checked.
    Refuse,
    /// It is taken for what is on the disk: sealed as such, with a warning.
    Allow,
}

/// What a chain of layers is about to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A writable snapshot on top of it.
    Prepare,
    /// A read-only one.
    View,
}

/// What is checked when, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Before a Prepare that does not merely unpack the next layer.
    pub on_prepare: Check,
    /// Before a View.
    pub on_view: Check,
    /// What a damaged layer leads to.
    pub action: Action,
    /// What becomes of a layer that nothing proves.
    pub unproven: Unproven,
    /// How long one Prepare or View waits for its checks, all layers together.
    pub deadline: Duration,
    /// Whether damage is mended.
    pub repair: Repair,
    /// Hashing threads of one check or seal; 0 means the cores, at most four.
    pub threads: usize,
}

impl Policy {
    /// How much is checked before that use.
    pub fn check(&self, what: Use) -> Check {
        match what {
            Use::Prepare => self.on_prepare,
            Use::View => self.on_view,
        }
    }
}
