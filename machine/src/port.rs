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
const HOLDING_EMPTY: u8 = 0x20;
const ALL_SENT: u8 = 0x60;

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
    /// Sets up a serial port for the first time: as for each line, with empty
    /// queues.
    pub fn set_up(self) {
        let Self::Serial(base) = self else { return };
        OWN.apply(base);
        // SAFETY: the user named this port for the log; a UART's registers
        // reach no memory.
        unsafe { write_port(base + FIFO, 0x07) };
    }

    /// Writes `bytes`; what the port does not take in time is lost. False if
    /// anything is.
    pub fn write(self, bytes: &[u8]) -> bool {
        match self {
            Self::Serial(base) => write_serial(base, bytes),
            Self::Debugcon => {
                for &byte in bytes {
                    // SAFETY: the user named this port for the log.
                    unsafe { write_port(0xe9, byte) };
                }
                true
            }
            Self::None => false,
        }
    }
}

/// What a UART is set to.
#[derive(Clone, Copy)]
struct Settings {
    divisor: [u8; 2],
    interrupts: u8,
    line: u8,
    modem: u8,
}

/// 115200 bits a second, 8 data bits, no interrupts.
const OWN: Settings = Settings {
    divisor: [1, 0],
    interrupts: 0,
    line: EIGHT_BITS,
    modem: READY_OUT,
};

impl Settings {
    fn read(base: u16) -> Self {
        // SAFETY: the user named this port for the log; what is read has no
        // effect. The divisor stands behind the access bit.
        unsafe {
            let line = read_port(base + LINE);
            write_port(base + LINE, line | DIVISOR_ACCESS);
            let divisor = [read_port(base + DATA), read_port(base + INTERRUPTS)];
            write_port(base + LINE, line & !DIVISOR_ACCESS);
            let (interrupts, modem) = (read_port(base + INTERRUPTS), read_port(base + MODEM));
            Self {
                divisor,
                interrupts,
                line,
                modem,
            }
        }
    }

    /// The line settings come last: they may hide the other registers again.
    fn apply(self, base: u16) {
        // SAFETY: as in `read`; a UART's registers reach no memory.
        unsafe {
            write_port(base + LINE, DIVISOR_ACCESS);
            write_port(base + DATA, self.divisor[0]);
            write_port(base + INTERRUPTS, self.divisor[1]);
            write_port(base + LINE, EIGHT_BITS);
            write_port(base + INTERRUPTS, self.interrupts);
            write_port(base + MODEM, self.modem);
            write_port(base + LINE, self.line);
        }
    }
}

fn write_serial(base: u16, bytes: &[u8]) -> bool {
    let before = Settings::read(base);
    OWN.apply(base);
    let taken = bytes.iter().all(|&byte| {
        let ready = wait_for(base, HOLDING_EMPTY);
        if ready {
            // SAFETY: the user named this port for the log.
            unsafe { write_port(base + DATA, byte) };
        }
        ready
    });
    // A byte under way would be damaged by another divisor.
    let sent = wait_for(base, ALL_SENT);
    before.apply(base);
    taken && sent
}

fn wait_for(base: u16, condition: u8) -> bool {
    // SAFETY: reading the line status clears error bits of a port that the
    // user gave to the log, and nothing else.
    (0..PATIENCE).any(|_| unsafe { read_port(base + STATUS) } & condition == condition)
}
