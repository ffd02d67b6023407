//! A queue as a device sees it: what the driver asks for, one chain of buffers a
//! request. Virtual I/O Device (VIRTIO), "Virtqueues".

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The buffers of a request.
pub type Chain<'a> = DescriptorChain<&'a GuestMemoryMmap>;

/// The driver left a queue in a state that makes no sense: nothing that is in it
/// can be relied on, and the device needs a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A queue that the driver has made ready.
pub struct Virtqueue<'a> {
    queue: &'a mut Queue,
    memory: &'a GuestMemoryMmap,
    was_used: bool,
}

impl<'a> Virtqueue<'a> {
    /// One that lies in `memory`.
    pub fn new(queue: &'a mut Queue, memory: &'a GuestMemoryMmap) -> Self {
        Self {
            queue,
            memory,
            was_used: false,
        }
    }

    /// Its parts have to be in memory.
    pub fn check(&self) -> Result<(), Broken> {
        self.queue.is_valid(self.memory).then_some(()).ok_or(Broken)
    }

    /// The VM's memory, where the buffers are.
    pub fn memory(&self) -> &'a GuestMemoryMmap {
        self.memory
    }

    /// The next request.
    pub fn take(&mut self) -> Result<Option<Chain<'a>>, Broken> {
        let mut chains = self.queue.iter(self.memory).map_err(|_| Broken)?;
        Ok(chains.next())
    }

    /// Makes it the next one again.
    pub fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// All requests that there are. Who makes another one says so again, so a
    /// driver that never stops keeps nobody here.
    pub fn take_all(&mut self) -> Result<Vec<Chain<'a>>, Broken> {
        let chains = self.queue.iter(self.memory);
        Ok(chains.map_err(|_| Broken)?.collect())
    }

    /// The request whose buffers begin at `head` is done, and so many bytes were
    /// written into them.
    pub fn done(&mut self, head: u16, written: u32) -> Result<(), Broken> {
        let added = self.queue.add_used(self.memory, head, written);
        added.map_err(|_| Broken)?;
        self.was_used = true;
        Ok(())
    }

    /// Whether any was done and the driver wants to hear of it, which it says before
    /// it looks once more by itself.
    pub fn interrupts(&self) -> bool {
        const NO_INTERRUPT: u16 = 1;
        fence(SeqCst);
        let flags = GuestAddress(self.queue.avail_ring());
        let flags = self.memory.load::<u16>(flags, Relaxed).unwrap_or(0);
        self.was_used && flags & NO_INTERRUPT == 0
    }
}
