//! Where the log goes beside memory: a serial port or the debug console.
//!
//! The guest owns the machine's ports and may have reprogrammed this one, so
//! each line sets it up anew and puts back what was there, and no wait is
//! longer than a count: a port that is never ready cannot hold the machine.

use crate::instructions::{read_port, write_port};

const DATA: u16 = 0;
const INTERRUPTS: u16 = 1;
const FIFO: u16 = 2;
const LINE: u16 = 3;
const MODEM: u16 = 4;
const STATUS: u16 = 5;

const DIVISOR_ACCESS: u8 = 0x80;
const EIGHT_BITS: u8 = 0x03;
const READY_OUT: u8 = 0x03;
const TRANSMITTER_EMPTY: u8 = 0x20;

/// Reads of the line status before a byte is given up.
const PATIENCE: u32 = 100_000;

/// A place for the log's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A 16550 UART at this I/O port.
    Serial(u16),
    /// The debug console of Bochs and QEMU.
    Debugcon,
    /// Nowhere.
    None,
}

impl Port {
    /// Sets a serial port to 115200 bits a second, 8 data bits.
    pub fn set_up(self) {
        let Self::Serial(base) = self else { return };
        // SAFETY: the user named this port for the log; a UART's registers
        // reach no memory.
        unsafe {
            write_port(base + INTERRUPTS, 0);
            write_port(base + LINE, DIVISOR_ACCESS);
            write_port(base + DATA, 1);
            write_port(base + INTERRUPTS, 0);
            write_port(base + LINE, EIGHT_BITS);
            write_port(base + FIFO, 0x07);
            write_port(base + MODEM, READY_OUT);
        }
    }

    /// Writes `bytes`; what the port does not take in time is lost.
    pub fn write(self, bytes: &[u8]) {
        match self {
            Self::Serial(base) => write_serial(base, bytes),
            Self::Debugcon => {
                for &byte in bytes {
                    // SAFETY: the user named this port for the log.
                    unsafe { write_port(0xe9, byte) };
                }
            }
            Self::None => {}
        }
    }
}

fn write_serial(base: u16, bytes: &[u8]) {
    // SAFETY: as in `set_up`. The divisor access bit is cleared first, because
    // the data register is something else while it is set.
    unsafe {
        let line = read_port(base + LINE);
        write_port(base + LINE, EIGHT_BITS);
        let interrupts = read_port(base + INTERRUPTS);
        let modem = read_port(base + MODEM);
        write_port(base + INTERRUPTS, 0);
        write_port(base + MODEM, READY_OUT);
        for &byte in bytes {
            if !wait_for_transmitter(base) {
                break;
            }
            write_port(base + DATA, byte);
        }
        wait_for_transmitter(base);
        write_port(base + MODEM, modem);
        write_port(base + INTERRUPTS, interrupts);
        write_port(base + LINE, line);
    }
}

fn wait_for_transmitter(base: u16) -> bool {
    // SAFETY: reading the line status clears error bits of a port that the
    // user gave to the log, and nothing else.
    (0..PATIENCE).any(|_| unsafe { read_port(base + STATUS) } & TRANSMITTER_EMPTY != 0)
}
