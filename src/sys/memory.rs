// SPDX-License-Identifier: Apache-2.0
//! The allocator's memory.

/// Gives memory that was freed back to the kernel: glibc keeps it for later, and a daemon that idles has no later. Takes
/// less than a millisecond where there is little to give. Other allocators are left alone.
#[allow(unsafe_code)]
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only releases what nobody has allocated, under the locks of the allocator; 0 is how much to keep.
    unsafe {
        libc::malloc_trim(0);
    }
}
