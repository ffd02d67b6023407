//! Every port, in every size, alone, as a string and repeated: none raises an
//! exception, and the registers are what they are without Underlay. What is
//! written is what was read.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use core::ops::RangeInclusive;
use tests::transcript::{Options, Transcript};
use tests::{Fault, Report, attempt};

tests::guest!(check);

/// Ports that are only read, and why: writing takes away what the firmware or
/// the report stands on, or ends the machine. Any other port is written.
const ONLY_READ: [(RangeInclusive<u16>, &str); 16] = [
    (0x20..=0x21, "initialises an interrupt controller"),
    (0xa0..=0xa1, "initialises an interrupt controller"),
    (0x40..=0x43, "the firmware's clock"),
    (0x60..=0x64, "the keyboard controller can reset the machine"),
    (0x70..=0x77, "the firmware's settings and clock"),
    (0x92..=0x92, "resets the machine"),
    (0xb2..=0xb3, "system management"),
    (0xe9..=0xe9, "an emulator's terminal"),
    (0x170..=0x1f7, "commands to disks, and the display's mode"),
    (0x2e8..=0x2ff, "the hypervisor's log"),
    (
        0x370..=0x3ff,
        "disks, the display, the console and the report",
    ),
    (0x400..=0x403, "an emulator's terminal, or its panic"),
    (0x500..=0x51b, "an emulator's panic; copies to any memory"),
    (0xcf8..=0xcff, "moves devices, resets the machine"),
    (0x600..=0x6ff, "power management"),
    (0x8900..=0x8a00, "ends Bochs, or starts its debugger"),
];
/// The same of QEMU's and the chip set's ports for power and for plugging.
const ONLY_READ_HIGH: [(RangeInclusive<u16>, &str); 3] = [
    (0xae00..=0xafff, "unplugs devices"),
    (0xb000..=0xb1ff, "power management"),
    (0x5658..=0x565b, "calls to the emulator"),
];

/// The serial ports, which have registers of a byte: asked for more at once,
/// QEMU 7.2 ends with a failed assertion.
const ONLY_BYTES: [RangeInclusive<u16>; 4] =
    [0x3f8..=0x3ff, 0x2f8..=0x2ff, 0x3e8..=0x3ef, 0x2e8..=0x2ef];

const SIZES: [u16; 3] = [1, 2, 4];
const REPEATS: u64 = 3;
const BLOCK: u32 = 0x1000;

fn check(report: &mut Report) {
    let options = Options::of_this_guest();
    let mut faults = 0;
    for first in (0..=0xffffu32).step_by(BLOCK as usize) {
        let mut block = Transcript::block(&options, format_args!("ports-{first:04x}"));
        for port in first..first + BLOCK {
            for size in SIZES {
                if size > 1
                    && ONLY_BYTES
                        .iter()
                        .any(|range| meets(port as u16, size, range))
                {
                    continue;
                }
                let outcome = attempt(|| Outcome::of(port as u16, size));
                faults += u32::from(outcome.is_err());
                tell(report, &mut block, port, size, outcome);
            }
        }
        block.end(report);
    }
    report.equal("exceptions", faults, 0);
}

fn tell(
    report: &mut Report,
    block: &mut Transcript,
    port: u32,
    size: u16,
    outcome: Result<Outcome, Fault>,
) {
    let name = format_args!("{port:04x}-{size}");
    let text = || tests::alloc::format!("{outcome:x?}");
    match outcome {
        Ok(Outcome(words)) => block.case(report, name, words, text),
        Err(fault) => {
            let words = [u64::from(fault.vector), u64::from(fault.error)];
            block.case(report, name, words, text);
        }
    }
}

/// How far RDI, RCX, RSI and RCX went in REP INS and REP OUTS, then the upper
/// halves of RAX after IN, which a byte and a word leave alone.
#[derive(Clone, Copy, Debug)]
struct Outcome([u64; 5]);

impl Outcome {
    fn of(port: u16, size: u16) -> Self {
        const FILL: u64 = 0x1122_3344_5566_7788;
        let mut buffer = [0u32; 4];
        let writes = is_written(port, size);
        let mut rax = FILL;
        // SAFETY: reading disturbs no device that anybody waits for, and what
        // is written was read; the lists above name the rest.
        unsafe {
            match size {
                1 => asm!("in al, dx", in("dx") port, inout("rax") rax),
                2 => asm!("in ax, dx", in("dx") port, inout("rax") rax),
                _ => asm!("in eax, dx", in("dx") port, inout("rax") rax),
            }
            if writes {
                match size {
                    1 => asm!("out dx, al", in("dx") port, in("rax") rax),
                    2 => asm!("out dx, ax", in("dx") port, in("rax") rax),
                    _ => asm!("out dx, eax", in("dx") port, in("rax") rax),
                }
            }
            let input = input(port, size, &mut buffer);
            let output = if writes {
                output(port, size, &buffer)
            } else {
                [0; 2]
            };
            let kept = !0u64 << (8 * size).min(32);
            let kept = if size == 4 { !0 << 32 } else { kept };
            Self([input[0], input[1], output[0], output[1], rax & kept])
        }
    }
}

/// REP INS; returns how far RDI went, and RCX.
unsafe fn input(port: u16, size: u16, buffer: &mut [u32; 4]) -> [u64; 2] {
    let start = buffer.as_mut_ptr() as u64;
    let (mut at, mut count) = (start, REPEATS);
    macro_rules! run {
        ($instruction:literal) => {
            asm!(
                "cld", $instruction,
                in("dx") port, inout("rdi") at, inout("rcx") count, options(nostack),
            )
        };
    }
    // SAFETY: three elements of at most four bytes fit; the port is the
    // caller's.
    unsafe {
        match size {
            1 => run!("rep insb"),
            2 => run!("rep insw"),
            _ => run!("rep insd"),
        }
    }
    [at.wrapping_sub(start), count]
}

/// REP OUTS; returns how far RSI went, and RCX.
unsafe fn output(port: u16, size: u16, buffer: &[u32; 4]) -> [u64; 2] {
    let start = buffer.as_ptr() as u64;
    let (mut at, mut count) = (start, REPEATS);
    macro_rules! run {
        ($instruction:literal) => {
            asm!(
                "cld", $instruction,
                in("dx") port, inout("rsi") at, inout("rcx") count, options(nostack),
            )
        };
    }
    // SAFETY: as in `input`.
    unsafe {
        match size {
            1 => run!("rep outsb"),
            2 => run!("rep outsw"),
            _ => run!("rep outsd"),
        }
    }
    [at.wrapping_sub(start), count]
}

fn is_written(port: u16, size: u16) -> bool {
    let mut lists = ONLY_READ.iter().chain(&ONLY_READ_HIGH);
    !lists.any(|(range, _)| meets(port, size, range))
}

fn meets(port: u16, size: u16, range: &RangeInclusive<u16>) -> bool {
    port <= *range.end() && port.saturating_add(size - 1) >= *range.start()
}
