//! Buffers that the guest's kernel keeps open to the hypervisor: found and
//! checked once, used by many calls.

use crate::buffer::Pages;
use spin::Mutex;

/// How many there can be.
pub const SHARED_MAX: usize = 8;

/// The buffers. Changed by services on any CPU.
#[derive(Default)]
pub struct Shared(Mutex<[Option<Pages>; SHARED_MAX]>);

impl Shared {
    /// Keeps the buffer in `pages`. Returns its handle, counted from 1; None if
    /// there are too many.
    pub fn keep(&self, pages: Pages) -> Option<u64> {
        let mut kept = self.0.lock();
        let mut slots = (1..).zip(kept.iter_mut());
        let (handle, slot) = slots.find(|(_, slot)| slot.is_none())?;
        *slot = Some(pages);
        Some(handle)
    }

    /// Does `what` with the buffer that has this handle; None if there is none.
    /// Whoever releases it meanwhile waits, because its pages may then be used
    /// for something else.
    pub fn with<R>(&self, handle: u64, what: impl FnOnce(&Pages) -> R) -> Option<R> {
        let kept = self.0.lock();
        let pages = kept.get(index(handle)?)?.as_ref()?;
        Some(what(pages))
    }

    /// Forgets it. None if there is none.
    pub fn release(&self, handle: u64) -> Option<Pages> {
        self.0.lock().get_mut(index(handle)?)?.take()
    }
}

fn index(handle: u64) -> Option<usize> {
    usize::try_from(handle.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use crate::fake::FakeMemory;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn nobody_gets_the_pages_back_while_a_call_uses_them() {
        let memory = FakeMemory::new();
        let mut pages = Pages::default();
        assert!(Buffer::at_gpa(&mut pages, &memory, 0x6000, 8).is_ok());
        let (shared, started) = (Shared::default(), Barrier::new(2));
        let order = Mutex::new(Vec::new());
        let handle = shared.keep(pages).expect("room");
        thread::scope(|scope| {
            scope.spawn(|| {
                started.wait();
                assert!(shared.release(handle).is_some());
                order.lock().push("released");
            });
            let used = shared.with(handle, |_| {
                started.wait();
                (0..1000).for_each(|_| thread::yield_now());
                order.lock().push("used");
            });
            assert!(used.is_some());
        });
        assert_eq!(order.into_inner(), ["used", "released"]);
        assert!(shared.with(handle, |_| ()).is_none());
    }
}
