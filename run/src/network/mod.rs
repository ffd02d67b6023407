//! The network device, whose wire ends at a tap device of the guest's. Virtual I/O
//! Device (VIRTIO), "Network Device".
//!
//! What the VM sends goes out by the thread of the vCPU that says so. For what
//! comes there is a thread of its own.

mod tap;
#[cfg(test)]
mod tests;

use crate::interrupts::Interrupts;
use crate::layout;
use crate::lock::lock;
use crate::virtio::{Broken, Chain, Device, QUEUE_SIZE, Transport, Virtqueue};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
pub use tap::Tap;
use vm_memory::GuestMemoryMmap;

/// The queues: buffers for what comes, and what goes.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Bytes before each frame. They would say how work is shared, and none is; only
/// how many requests a frame takes that comes.
const HEADER: usize = 12;
const HEADER_OF_RECEIVED: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/// The longest frame of a tap device: all that its length can say, and a VLAN's tag.
const FRAME_MAX: usize = 0xffff + 4;

/// Virtio's name for a device that has an address.
const HAS_ADDRESS: u64 = 1 << 5;

/// The network device.
pub struct Network {
    tap: Arc<Tap>,
    address: [u8; 6],
    /// A header and a frame that comes.
    received: Vec<u8>,
    /// And one that goes.
    sent: Vec<u8>,
}

/// What came of receiving.
#[derive(Debug)]
enum Received {
    /// The VM has no room for more.
    Full,
    /// Nothing more is there, or others are to have their turn.
    Enough,
    /// The tap device fails.
    Failed(io::Error),
}

impl Network {
    /// One at `tap`, in the VM `name`.
    pub fn new(tap: Arc<Tap>, name: &str) -> Self {
        let mut received = vec![0; HEADER + FRAME_MAX];
        received[..HEADER].copy_from_slice(&HEADER_OF_RECEIVED);
        Self {
            tap,
            address: address(name),
            received,
            sent: vec![0; HEADER + FRAME_MAX],
        }
    }

    /// Gives the VM the frames that are there. Those that it has no room for stay
    /// where they are.
    fn receive(&mut self, queue: &mut Virtqueue<'_>) -> Result<Received, Broken> {
        for _ in 0..QUEUE_SIZE {
            let Some(chain) = queue.take()? else {
                return Ok(Received::Full);
            };
            match self.tap.receive(&mut self.received[HEADER..]) {
                Ok(size) => {
                    let head = chain.head_index();
                    let frame = &self.received[..HEADER + size];
                    let written = hand_over(queue.memory(), chain, frame);
                    queue.done(head, written)?;
                }
                Err(error) => {
                    queue.put_back();
                    return Ok(match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::Interrupted => Received::Enough,
                        _ => Received::Failed(error),
                    });
                }
            }
        }
        Ok(Received::Enough)
    }

    /// Sends what a request holds; one that is no frame is dropped.
    fn send(&mut self, memory: &GuestMemoryMmap, chain: Chain<'_>) -> Option<()> {
        let mut buffers = chain.reader(memory).ok()?;
        let bytes = self.sent.get_mut(..buffers.available_bytes())?;
        buffers.read_exact(bytes).ok()?;
        self.tap.send(bytes.get(HEADER..)?);
        Some(())
    }
}

/// Writes `frame` into a request's buffers. Gives how many bytes that is: 0 if they
/// are too small or not in memory, which a driver counts as a frame too short.
fn hand_over(memory: &GuestMemoryMmap, chain: Chain<'_>, frame: &[u8]) -> u32 {
    let Ok(mut buffers) = chain.writer(memory) else {
        return 0;
    };
    let fits = buffers.available_bytes() >= frame.len();
    if fits && buffers.write_all(frame).is_ok() {
        frame.len() as u32
    } else {
        0
    }
}

/// The address of the VM `name`: one of those that nobody sells, and the same each
/// time. Glenn Fowler, Landon Curt Noll, Kiem-Phong Vo, "FNV Hash".
fn address(name: &str) -> [u8; 6] {
    const LOCAL: u8 = 2;
    const GROUP: u8 = 1;
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [_, _, first, rest @ ..] = hash.to_be_bytes();
    let mut address = [first & !GROUP | LOCAL; 6];
    address[1..].copy_from_slice(&rest);
    address
}

impl Device for Network {
    const KIND: u32 = 1;
    const FEATURES: u64 = HAS_ADDRESS;
    const QUEUES: usize = 2;

    fn config(&self) -> &[u8] {
        &self.address
    }

    fn notice(&mut self, number: usize, queue: &mut Virtqueue<'_>) -> Result<(), Broken> {
        if number != TRANSMIT {
            // There is room, for which the thread that receives may wait.
            self.tap.ring();
            return Ok(());
        }
        for chain in queue.take_all()? {
            let head = chain.head_index();
            self.send(queue.memory(), chain);
            queue.done(head, 0)?;
        }
        Ok(())
    }
}

/// The thread that gives a VM what comes for it.
pub struct Receiver {
    tap: Arc<Tap>,
    thread: JoinHandle<()>,
}

impl Receiver {
    /// Begins.
    pub fn start(network: Arc<Mutex<Transport<Network>>>, interrupts: Arc<Interrupts>) -> Self {
        let tap = lock(&network).device().tap.clone();
        let thread = thread::spawn(move || {
            if let Err(error) = receive_all(&network, &interrupts) {
                eprintln!("underlay-run: the tap device fails, and nothing comes from it: {error}");
            }
        });
        Self { tap, thread }
    }

    /// Ends.
    pub fn end(self) {
        self.tap.end();
        // One that panicked said so.
        let _ = self.thread.join();
    }
}

fn receive_all(network: &Mutex<Transport<Network>>, interrupts: &Interrupts) -> io::Result<()> {
    let tap = lock(network).device().tap.clone();
    while !tap.is_over() {
        let (received, interrupt) = lock(network).with_queue(RECEIVE, Network::receive);
        if interrupt {
            interrupts.pulse(layout::NETWORK.input);
        }
        match received {
            // A driver that is not there has no room, either.
            None | Some(Received::Full) => tap.wait(false),
            Some(Received::Enough) => tap.wait(true),
            Some(Received::Failed(error)) => return Err(error),
        }
    }
    Ok(())
}
