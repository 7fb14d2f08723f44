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

/// Has all threads allocate from the same few pools: glibc gives each a pool of its own otherwise, and keeps of it what
/// the thread needed once, also after its end. To be called before there are threads. Other allocators are left alone.
#[allow(unsafe_code)]
pub fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The main one and another: few threads allocate at the same time.
        const POOLS: libc::c_int = 2;
        // SAFETY: it sets a number, under the lock of the allocator.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, POOLS) };
    }
}
