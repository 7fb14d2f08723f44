// SPDX-License-Identifier: Apache-2.0
//! A mount namespace that belongs to one thread.

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread mounts and a working directory of its own: nothing that it mounts is seen by anybody
/// else, and when the thread ends, or the process is killed, the kernel takes its mounts away. There is no way
/// back: call it in a thread made for the purpose and let that thread end.
///
/// # Errors
/// `EPERM` if the caller is not root (`CAP_SYS_ADMIN`).
#[allow(unsafe_code)]
pub fn leave_mounts() -> rustix::io::Result<()> {
    // SAFETY: what makes unshare unsafe is a table of file descriptors that differs between the threads of one
    // process (CLONE_FILES); these flags leave that table shared.
    unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
    // Without this a mount below a shared one would appear in every namespace that shares it.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}
