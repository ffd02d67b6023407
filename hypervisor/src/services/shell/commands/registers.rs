//! `regs`: the registers of who calls.

use super::{Asked, Next, Out, State};
use machine::{Memory, Vcpu};
use x86::segment::SegmentName;

const GENERAL: [[(&str, u8); 4]; 4] = [
    [("rax", 0), ("rbx", 3), ("rcx", 1), ("rdx", 2)],
    [("rsi", 6), ("rdi", 7), ("rbp", 5), ("rsp", 4)],
    [("r8 ", 8), ("r9 ", 9), ("r10", 10), ("r11", 11)],
    [("r12", 12), ("r13", 13), ("r14", 14), ("r15", 15)],
];

const SEGMENTS: [(&str, SegmentName); 8] = [
    ("es  ", SegmentName::Es),
    ("cs  ", SegmentName::Cs),
    ("ss  ", SegmentName::Ss),
    ("ds  ", SegmentName::Ds),
    ("fs  ", SegmentName::Fs),
    ("gs  ", SegmentName::Gs),
    ("ldtr", SegmentName::Ldtr),
    ("tr  ", SegmentName::Tr),
];

/// One row of them.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let vcpu = &asked.place.cpu.vcpu;
    let row = state.step as usize;
    if let Some(row) = GENERAL.get(row) {
        for (name, number) in row {
            out.say(format_args!("{name} {:016x}  ", vcpu.general(*number)));
        }
        return Next::More;
    }
    match row - GENERAL.len() {
        0 => flow(vcpu, out),
        1 => control(vcpu, out),
        2 => debug(vcpu, out),
        other => return segment(vcpu, other - 3, out),
    }
    Next::More
}

fn flow<V: Vcpu>(vcpu: &V, out: &mut Out) {
    out.say(format_args!(
        "rip {:016x} rflags {:08x} privilege level {}, {}-bit code",
        vcpu.rip(),
        vcpu.rflags().bits(),
        vcpu.cpl(),
        vcpu.code_size().bits()
    ));
}

fn control<V: Vcpu>(vcpu: &V, out: &mut Out) {
    out.say(format_args!(
        "cr0 {:08x} cr3 {:016x} cr4 {:08x} efer {:04x}",
        vcpu.cr0().bits(),
        vcpu.paging().cr3,
        vcpu.cr4().bits(),
        vcpu.efer().bits()
    ));
}

fn debug<V: Vcpu>(vcpu: &V, out: &mut Out) {
    let gdt = vcpu.gdt();
    out.say(format_args!(
        "dr6 {:08x} dr7 {:08x} gdtr {:016x} limit {:04x}",
        vcpu.debug_register(6),
        vcpu.debug_register(7),
        gdt.base,
        gdt.limit
    ));
}

fn segment<V: Vcpu>(vcpu: &V, number: usize, out: &mut Out) -> Next {
    let Some((name, segment)) = SEGMENTS.get(number) else {
        return Next::Done;
    };
    let found = vcpu.segment(*segment);
    out.say(format_args!(
        "{name} {:04x} base {:016x} limit {:08x} rights {:05x}",
        found.selector, found.base, found.limit, found.rights
    ));
    Next::more(number + 1 < SEGMENTS.len())
}
