//! Whatever lies in the tables and in the tasks, the policy comes back, and
//! what it leaves in the vCPU is something that a VM entry takes.

use super::*;
use x86::segment::UNUSABLE;

/// xorshift64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// One byte of all that matters, changed.
fn spoil(desk: &Desk, numbers: &mut Numbers) {
    let (at, size) = match numbers.below(4) {
        0 => (GDT, 0x48),
        1 => (OLD, 0x68),
        2 => (LDT, 0x10),
        _ => (NEW, 0x68),
    };
    let byte = numbers.next() as u8;
    desk.vm.memory.put(at + numbers.below(size), &[byte]);
}

/// Intel SDM volume 3, "Checks on Guest Segment Registers", with unrestricted
/// guest.
fn check_enterable(vcpu: &FakeVtx) {
    let segment = |name| vcpu.segments[name as usize];
    let task = segment(SegmentName::Tr);
    assert!(matches!(task.rights & 0x9f, 0x83 | 0x8b), "{task:x?}");
    assert_eq!(task.selector & 4, 0);
    let table = segment(SegmentName::Ldtr);
    assert!(table.rights & UNUSABLE != 0 || table.rights & 0x9f == 0x82);
    if vcpu.rflags.contains(Rflags::VM) {
        return;
    }
    let (code, stack) = (segment(SegmentName::Cs), segment(SegmentName::Ss));
    assert_eq!(code.rights & 0x99, 0x99, "{code:x?}");
    let conforming = code.rights & 4 != 0;
    assert!(code.dpl() == stack.dpl() || conforming && code.dpl() < stack.dpl());
    // The manual does not ask for this, Bochs does.
    assert!(conforming || u16::from(code.dpl()) == code.selector & 3);
    for name in super::super::segments::NAMES {
        let segment = segment(name);
        let is_flat = segment.limit & 0xfff == 0xfff;
        let usable = segment.rights & UNUSABLE == 0;
        assert!(
            !usable || segment.rights & 0x91 == 0x91,
            "{name:?} {segment:x?}"
        );
        assert!(is_flat || !usable || segment.rights & 1 << 15 == 0);
    }
    assert_eq!(
        stack.rights & UNUSABLE == 0,
        stack.rights & 0x9f == 0x93 || stack.rights & 0x9f == 0x97
    );
}

#[test]
fn no_tables_and_no_tasks_leave_a_state_that_cannot_be_entered() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let sources = [
        TaskSource::Call,
        TaskSource::Iret,
        TaskSource::Jump,
        TaskSource::Gate,
    ];
    let mut switched = 0;
    for _ in 0..300 {
        let mut desk = Desk::new();
        for _ in 0..20 {
            spoil(&desk, &mut numbers);
            desk.vcpu.event = numbers.next().is_multiple_of(4).then_some(INTERRUPT);
            let source = sources[numbers.below(4) as usize];
            let selector = [OLD_TASK, NEW_TASK][numbers.below(2) as usize];
            let before = desk.vcpu.task_switches;
            desk.switch(source, selector);
            switched += desk.vcpu.task_switches - before;
            if desk.vcpu.task_switches > 0 {
                check_enterable(&desk.vcpu);
            }
        }
    }
    assert!(switched > 500, "{switched}");
}
