// SPDX-License-Identifier: Apache-2.0
//! What overlayfs keeps in the directory of a layer, and what of it means something.

use crate::inode::FileType;
use crate::manifest::Resource;
use crate::tree::Metadata;

/// Extended attributes that overlayfs keeps for itself in the directory of a layer: no layer's tar has them, and what
/// is shown does not depend on them.
pub const BOOKKEEPING: [&str; 4] =
    ["trusted.overlay.impure", "trusted.overlay.nlink", "trusted.overlay.origin", "trusted.overlay.uuid"];

/// Whether it hides what lies beneath it: a character device 0,0, whatever its attributes.
pub fn is_whiteout(resource: &Resource) -> bool {
    resource.mode.file_type() == FileType::CharDevice && resource.device == (0, 0)
}

/// The same of what lies on the disk.
pub fn is_whiteout_inode(metadata: &Metadata) -> bool {
    metadata.file_type == FileType::CharDevice && metadata.device == (0, 0)
}
