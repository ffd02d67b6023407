//! The third serial port (0x3e8), which belongs to the tests: the first is the
//! firmware's console, the second Underlay's log.

use crate::cpu::{inb, outb};
use core::fmt;

const BASE: u16 = 0x3e8;
const LINE_STATUS: u16 = BASE + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// A port that is not there must not stop the guest.
const PATIENCE: u32 = 100_000;

/// The programmed port.
pub struct Serial(());

impl Serial {
    /// 115200 baud, 8 data bits, no parity, 1 stop bit, FIFOs on, polled.
    pub fn new() -> Self {
        const SETTINGS: [(u16, u8); 7] = [
            (1, 0x00), // no interrupts
            (3, 0x80), // the divisor shows at 0 and 1
            (0, 0x01),
            (1, 0x00),
            (3, 0x03), // 8N1
            (2, 0xc7), // FIFOs on and empty
            (4, 0x03), // terminal ready, request to send
        ];
        for (register, value) in SETTINGS {
            // SAFETY: the port is the tests' own.
            unsafe { outb(BASE + register, value) };
        }
        Self(())
    }

    fn byte(&mut self, byte: u8) {
        // SAFETY: reading the status of the tests' own port.
        let ready = || unsafe { inb(LINE_STATUS) } & TRANSMITTER_EMPTY != 0;
        let _ = (0..PATIENCE).find(|_| ready());
        // SAFETY: the port is the tests' own.
        unsafe { outb(BASE, byte) };
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.byte(byte));
        Ok(())
    }
}
