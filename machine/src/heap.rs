//! The heap. Used only while starting: nothing allocates on an exit.

use linked_list_allocator::LockedHeap;

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: LockedHeap = LockedHeap::empty();

/// Gives `memory` to the heap.
pub(crate) fn start(memory: &'static mut [u8]) {
    // SAFETY: the slice is static and unique, and this runs once.
    unsafe { HEAP.lock().init(memory.as_mut_ptr(), memory.len()) };
}
