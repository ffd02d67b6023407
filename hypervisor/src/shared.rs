//! Buffers that the guest's kernel keeps open to the hypervisor: found and
//! checked once, used by many calls.

use crate::buffer::Place;
use spin::Mutex;

/// How many there can be.
pub const SHARED_MAX: usize = 8;

/// The buffers. Changed by services on any CPU.
#[derive(Default)]
pub struct Shared(Mutex<[Option<Place>; SHARED_MAX]>);

impl Shared {
    /// Keeps `place`. Returns its handle, counted from 1; None if there are too
    /// many.
    pub fn keep(&self, place: Place) -> Option<u64> {
        let mut places = self.0.lock();
        let mut slots = (1..).zip(places.iter_mut());
        let (handle, slot) = slots.find(|(_, slot)| slot.is_none())?;
        *slot = Some(place);
        Some(handle)
    }

    /// The buffer with this handle.
    pub fn find(&self, handle: u64) -> Option<Place> {
        *self.0.lock().get(index(handle)?)?
    }

    /// Forgets it. None if there is none.
    pub fn release(&self, handle: u64) -> Option<Place> {
        self.0.lock().get_mut(index(handle)?)?.take()
    }
}

fn index(handle: u64) -> Option<usize> {
    usize::try_from(handle.checked_sub(1)?).ok()
}
