//! Instructions that the sandbox cannot take back, and those whose results are
//! not the same twice.
//!
//! Ring 0 only: ring 3 may try everything. A string of bytes is looked at from
//! each of its bytes on, as a jump may land anywhere in it.

use super::Place;

/// Whether `code` is not to run.
pub fn refused(place: Place, code: &[u8], on_qemu: bool) -> bool {
    starts(code).any(|at| {
        let (prefixes, instruction) = parts(place, &code[at..]);
        !place.user && wrecks(instruction) || on_qemu && differs_in_qemu(prefixes, instruction)
    })
}

/// With a LOCK prefix these are #UD. QEMU 7.2 gives up at BT, BTS, BTR and BTC
/// of a register, and runs those that may exit (CPUID, RDMSR, SVM's) all
/// the same, where Underlay, which decodes them, raises the exception.
fn differs_in_qemu(prefixes: &[u8], instruction: &[u8]) -> bool {
    let of_register = |modrm: u8| modrm >> 6 == 3;
    let differs = match *instruction {
        [0x0f, 0xa3 | 0xab | 0xb3 | 0xba | 0xbb, modrm, ..] => of_register(modrm),
        [0x0f, 0x08 | 0x30 | 0x32 | 0xa2, ..] | [0x0f, 0x01, 0xd8..=0xdf, ..] => true,
        _ => false,
    };
    differs && prefixes.contains(&0xf0)
}

/// Whether registers after `code` mean nothing: clocks, random numbers, and
/// CPUID and RDMSR, which guests of their own compare.
pub fn is_uncertain(place: Place, code: &[u8]) -> bool {
    starts(code).any(|at| uncertain(parts(place, &code[at..]).1))
}

fn starts(code: &[u8]) -> impl Iterator<Item = usize> {
    0..code.len()
}

/// The prefixes of `code`, and the rest.
fn parts(place: Place, code: &[u8]) -> (&[u8], &[u8]) {
    let is_prefix = |byte: u8| match byte {
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => true,
        0x40..=0x4f => place.bits == 64,
        _ => false,
    };
    let first = code.iter().position(|byte| !is_prefix(*byte));
    code.split_at(first.unwrap_or(code.len()))
}

/// - Ports have a guest of their own.
/// - HLT, MWAIT and MWAITX wait for an interrupt, and none comes.
/// - VMCALL and VMMCALL of a kernel write where the registers lead, which may be
///   any of its memory; `hostile-calls` knows where that is.
/// - RDMSR of what Underlay hides differs; `hostile-msr` names those.
/// - LTR takes no selector that is good here, but QEMU 7.2 takes none at all
///   (zero) for one, and then finds no stack for the next exception.
/// - LGDT, LIDT, LMSW, XSETBV, WRMSR, and MOV to control and debug registers
///   take the ground from under the handlers; `hostile-vmx-svm` and
///   `hostile-msr` run them where that is mended.
fn wrecks(instruction: &[u8]) -> bool {
    match *instruction {
        [0xe4..=0xe7 | 0xec..=0xef | 0x6c..=0x6f, ..] => true,
        [0xf4, ..] => true,
        [0x0f, 0x00, modrm, ..] => modrm >> 3 & 7 == 3,
        [0x0f, 0x01, modrm, ..] => match modrm {
            0xc1 | 0xc9 | 0xd1 | 0xd9 | 0xfb => true,
            _ => matches!((modrm >> 3 & 7, modrm >> 6), (2 | 3, 0..3) | (6, _)),
        },
        [0x0f, 0x22 | 0x23 | 0x30 | 0x32, ..] => true,
        _ => false,
    }
}

fn uncertain(instruction: &[u8]) -> bool {
    match *instruction {
        // RDTSC, RDMSR, RDPMC, CPUID, RDTSCP.
        [0x0f, 0x31..=0x33 | 0xa2, ..] | [0x0f, 0x01, 0xf9, ..] => true,
        // RDRAND, RDSEED, RDPID.
        [0x0f, 0xc7, modrm, ..] => modrm >> 3 & 7 >= 6,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Place = Place::new(false, 64);

    #[test]
    fn what_cannot_be_taken_back_is_found_behind_prefixes_and_other_bytes() {
        for code in [
            &[0xf4][..],
            &[0x66, 0x48, 0x0f, 0x22, 0xc0],
            &[0x90, 0xe4, 0x80],
            &[0x0f, 0x01, 0x10],
            &[0x0f, 0x01, 0xf0],
        ] {
            assert!(refused(KERNEL, code, false), "{code:x?}");
            assert!(!refused(Place::new(true, 64), code, false), "{code:x?}");
        }
    }

    #[test]
    fn neighbours_of_what_is_refused_are_not() {
        // VMCALL, SMSW, SGDT, SWAPGS, MOV from CR0, RDPMC.
        for code in [
            [0x0f, 0x01, 0xc1],
            [0x0f, 0x01, 0xe0],
            [0x0f, 0x01, 0x00],
            [0x0f, 0x01, 0xf8],
            [0x0f, 0x20, 0xc0],
            [0x0f, 0x33, 0x90],
        ] {
            assert!(!refused(KERNEL, &code, false), "{code:x?}");
        }
    }
}
