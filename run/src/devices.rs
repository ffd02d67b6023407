//! The VM's devices: which of them an access means, and how the VM ends.

use crate::clock::Clock;
use crate::end::End;
use crate::interrupts::Interrupts;
use crate::layout::{self, Place, input};
use crate::lock::lock;
use crate::virtio::Registers;
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use underlay_vm::Access;
use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents};

/// An input of the I/O APIC, as a device sees it.
pub struct Line {
    interrupts: Arc<Interrupts>,
    input: u8,
}

impl Trigger for Line {
    type E = Infallible;
    fn trigger(&self) -> Result<(), Infallible> {
        self.interrupts.pulse(self.input);
        Ok(())
    }
}

/// Tells the keyboard's thread that there is room for more.
#[derive(Default)]
struct Room(Condvar);

impl SerialEvents for Room {
    fn buffer_read(&self) {
        self.0.notify_all();
    }
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {}
}

type Port = Serial<Line, Arc<Room>, Box<dyn Write + Send>>;

/// A device of virtio's in its place.
pub struct Attached {
    /// Where it is.
    pub place: Place,
    /// The device.
    pub registers: Arc<Mutex<dyn Registers>>,
}

/// All of them.
pub struct Devices {
    /// The interrupt controllers.
    pub interrupts: Arc<Interrupts>,
    serial: Mutex<Port>,
    room: Arc<Room>,
    clock: Mutex<Clock>,
    attached: Vec<Attached>,
    end: Mutex<Option<End>>,
    ended: Condvar,
}

/// All ones: nobody is there.
fn nothing(size: u32) -> u64 {
    u64::MAX >> (64 - 8 * size.clamp(1, 8))
}

impl Devices {
    /// Those of a VM that begins, whose serial port writes to `output`.
    pub fn new(
        interrupts: Arc<Interrupts>,
        attached: Vec<Attached>,
        output: Box<dyn Write + Send>,
    ) -> Self {
        let room = Arc::new(Room::default());
        let line = Line {
            interrupts: interrupts.clone(),
            input: input::SERIAL,
        };
        let serial = Serial::with_events(line, room.clone(), output);
        Self {
            interrupts,
            serial: Mutex::new(serial),
            room,
            clock: Mutex::default(),
            attached,
            end: Mutex::new(None),
            ended: Condvar::new(),
        }
    }

    /// The VM is over; the first reason counts.
    pub fn end(&self, why: End) {
        lock(&self.end).get_or_insert(why);
        self.interrupts.end();
        self.ended.notify_all();
    }

    /// Waits until it is.
    pub fn wait(&self) -> End {
        let mut end = lock(&self.end);
        loop {
            match &*end {
                Some(why) => return why.clone(),
                None => end = self.ended.wait(end).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Types `bytes`, and waits while the serial port has no room for them.
    pub fn type_in(&self, mut bytes: &[u8]) {
        let mut serial = lock(&self.serial);
        while !bytes.is_empty() {
            match serial.enqueue_raw_bytes(bytes) {
                Ok(taken) if taken > 0 => bytes = &bytes[taken..],
                // Full, or in its loop, where nobody hears what is typed.
                _ => {
                    let waited = self.room.0.wait(serial);
                    serial = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// What a port reads, or None if it was written.
    pub fn port(&self, access: &Access) -> Option<u64> {
        let Ok(port) = u16::try_from(access.address) else {
            return Some(nothing(access.size));
        };
        match access.written {
            None => Some(self.read_port(port, access.size)),
            Some(value) => {
                self.write_port(port, value as u8);
                None
            }
        }
    }

    fn read_port(&self, port: u16, size: u32) -> u64 {
        let byte = match port {
            layout::SERIAL..0x400 => lock(&self.serial).read((port - layout::SERIAL) as u8),
            layout::CLOCK..0x72 => lock(&self.clock).read(port - layout::CLOCK),
            layout::TIMER | layout::SLEEP_CONTROL | layout::SLEEP_STATUS => 0,
            _ => return nothing(size),
        };
        u64::from(byte) | nothing(size) & !0xff
    }

    fn write_port(&self, port: u16, byte: u8) {
        /// SLP_EN with the type that `_S5` names. ACPI specification, "Sleep Control Register".
        const OFF: u8 = 1 << 5;
        const KEYBOARD_RESET: u8 = 0xfe;
        match port {
            layout::SERIAL..0x400 => {
                // A terminal that is gone takes no output; the VM goes on.
                let _ = lock(&self.serial).write((port - layout::SERIAL) as u8, byte);
            }
            layout::CLOCK..0x72 => lock(&self.clock).write(port - layout::CLOCK, byte),
            layout::SLEEP_CONTROL if byte & OFF != 0 => self.end(End::Off),
            layout::RESET => self.end(End::Reset),
            layout::KEYBOARD if byte == KEYBOARD_RESET => self.end(End::Reset),
            _ => {}
        }
    }

    /// What a register in memory reads for vCPU `number`, or None if it was
    /// written.
    pub fn memory(&self, number: usize, access: &Access) -> Option<u64> {
        let offset = access.address % layout::REGISTERS;
        let apics = &self.interrupts;
        match (access.address - offset, access.written) {
            (layout::LOCAL_APIC, None) => Some(apics.read_local(number, offset).into()),
            (layout::LOCAL_APIC, Some(value)) => {
                apics.write_local(number, offset, value as u32);
                None
            }
            (layout::IO_APIC, None) => Some(apics.read_io(offset).into()),
            (layout::IO_APIC, Some(value)) => {
                apics.write_io(offset, value as u32);
                None
            }
            (registers, written) => {
                let mut attached = self.attached.iter();
                match attached.find(|one| one.place.registers == registers) {
                    Some(one) => self.access(one, offset, access),
                    None => written.is_none().then(|| nothing(access.size)),
                }
            }
        }
    }

    fn access(&self, attached: &Attached, offset: u64, access: &Access) -> Option<u64> {
        let mut registers = lock(&attached.registers);
        let Some(value) = access.written else {
            return Some(registers.read(offset) & nothing(access.size));
        };
        if registers.write(offset, value as u32) {
            self.interrupts.pulse(attached.place.input);
        }
        None
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn devices() -> Devices {
        let output = Box::new(std::io::sink());
        let interrupts = Arc::new(Interrupts::new(2, 1_000_000));
        Devices::new(interrupts, Vec::new(), output)
    }

    fn access(address: u64, size: u32, written: Option<u64>) -> Access {
        Access {
            address,
            size,
            written,
            string: false,
        }
    }

    #[test]
    fn where_nobody_is_all_bits_are_ones() {
        let devices = devices();
        assert_eq!(devices.port(&access(0xcf8, 4, None)), Some(0xffff_ffff));
        let memory = access(layout::DISK.registers, 8, None);
        assert_eq!(devices.memory(0, &memory), Some(u64::MAX));
        let timer = access(layout::TIMER.into(), 1, None);
        assert_eq!(devices.port(&timer), Some(0));
    }

    #[test]
    fn typed_bytes_are_read_at_the_serial_port_in_their_order() {
        const LINE_STATUS: u64 = layout::SERIAL as u64 + 5;
        let devices = devices();
        devices.type_in(b"ab");
        let read = |port| devices.port(&access(port, 1, None)).unwrap();
        assert_eq!(read(LINE_STATUS) & 1, 1);
        assert_eq!([0, 0].map(|_| read(layout::SERIAL.into())), [0x61, 0x62]);
        assert_eq!(read(LINE_STATUS) & 1, 0);
    }

    #[test]
    fn each_way_to_end_has_its_word() {
        let write = |port: u16, value| {
            let devices = devices();
            devices.port(&access(port.into(), 1, Some(value)));
            devices.end(End::Left);
            devices.wait()
        };
        assert_eq!(write(layout::SLEEP_CONTROL, 0x20), End::Off);
        assert_eq!(write(layout::SLEEP_CONTROL, 0), End::Left);
        assert_eq!(write(layout::RESET, 1), End::Reset);
        assert_eq!(write(layout::KEYBOARD, 0xfe), End::Reset);
    }

    /// Numbers that look like none. George Marsaglia, "Xorshift RNGs".
    pub fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn no_access_of_a_vcpu_ends_this_program() {
        const PLACES: [u64; 3] = [layout::LOCAL_APIC, layout::IO_APIC, layout::DISK.registers];
        let devices = devices();
        let mut state = 1;
        for round in 0..100_000 {
            let [place, offset, value, choice] = [0; 4].map(|_| random(&mut state));
            let written = (choice & 1 != 0).then_some(value >> (choice >> 8 & 63));
            let size = 1 << (choice >> 4 & 3);
            let at = PLACES[(place % 3) as usize] + offset % layout::REGISTERS;
            devices.memory((choice >> 1 & 1) as usize, &access(at, size, written));
            devices.port(&access(offset & 0xffff, size, written));
            if round % 8 == 0 {
                let takes = crate::interrupts::Takes {
                    interrupts: choice & 0x40 != 0,
                    events: true,
                };
                devices.interrupts.next((place & 1) as usize, 0, takes);
            }
        }
    }
}
