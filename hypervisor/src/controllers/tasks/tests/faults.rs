//! What is wrong with a task, and what that raises.

use super::*;
use x86::segment::UNUSABLE;

/// All of memory but the page tables, whose accessed and dirty bits change.
fn memory(desk: &Desk) -> Vec<u8> {
    desk.vm.memory.snapshot()[..FakeMemory::ROOT as usize].to_vec()
}

/// A switch that `expected` ends before it has begun.
fn refused(mut desk: Desk, source: TaskSource, selector: u16, expected: Exception) {
    let before = memory(&desk);
    assert_eq!(desk.switch(source, selector), [expected]);
    assert!(
        memory(&desk) == before,
        "memory changed before {expected:?}"
    );
    let vcpu = &desk.vcpu;
    assert_eq!(
        (vcpu.rip, vcpu.rsp, vcpu.task_switches),
        (0x1000, 0x7000, 0)
    );
    assert_eq!(vcpu.cr3, FakeMemory::ROOT);
    assert_eq!(desk.selector(SegmentName::Tr), OLD_TASK);
}

/// The same, with the new task's descriptor.
fn refused_with(descriptor: u64, expected: Exception) {
    let desk = Desk::new();
    desk.describe(NEW_TASK, descriptor);
    refused(desk, TaskSource::Jump, NEW_TASK, expected);
}

#[test]
fn a_selector_must_be_in_the_global_table() {
    for selector in [0x48, 0xfff8, NEW_TASK | 4] {
        let code = u32::from(selector);
        let protection = Exception::GeneralProtection(code);
        refused(Desk::new(), TaskSource::Jump, selector, protection);
        refused(Desk::new(), TaskSource::Call, selector, protection);
        let invalid = Exception::InvalidTaskState(code);
        refused(Desk::new(), TaskSource::Iret, selector, invalid);
    }
}

#[test]
fn a_descriptor_must_be_of_a_task_that_is_free_or_for_iret_busy() {
    let protection = Exception::GeneralProtection(NEW_TASK.into());
    for access in [0x8b, 0x83, 0x82, 0x85, 0x93, 0x99] {
        refused_with(descriptor(NEW, 0x67, access), protection);
    }
    let invalid = Exception::InvalidTaskState(NEW_TASK.into());
    refused(Desk::new(), TaskSource::Iret, NEW_TASK, invalid);
    let absent = Exception::SegmentNotPresent(NEW_TASK.into());
    refused_with(descriptor(NEW, 0x67, 0x09), absent);
}

#[test]
fn a_tss_must_be_large_enough() {
    let invalid = Exception::InvalidTaskState(NEW_TASK.into());
    refused_with(descriptor(NEW, 0x66, TASK_32), invalid);
    refused_with(descriptor(NEW, 0x2a, TASK_16), invalid);
    for (limit, access) in [(0x5e, TASK_32), (0x28, TASK_16)] {
        let mut desk = Desk::new();
        let low = descriptor(OLD, limit, access | BUSY);
        desk.vcpu.segments[SegmentName::Tr as usize] = Segment::from_descriptor(OLD_TASK, low, 0);
        let invalid = Exception::InvalidTaskState(OLD_TASK.into());
        refused(desk, TaskSource::Jump, NEW_TASK, invalid);
    }
}

fn page_fault(address: u64, code: u32) -> Exception {
    Exception::PageFault { address, code }
}

#[test]
fn absent_pages_are_found_before_anything_is_written() {
    for source in [TaskSource::Jump, TaskSource::Call] {
        let desk = Desk::new();
        desk.vm.memory.unmap(NEW);
        refused(desk, source, NEW_TASK, page_fault(NEW, 0));
        let desk = Desk::new();
        desk.vm.memory.unmap(OLD);
        let fault = page_fault(OLD + 0x20, page_fault::WRITE);
        refused(desk, source, NEW_TASK, fault);
        let desk = Desk::new();
        desk.vm.memory.unmap(GDT);
        refused(desk, source, NEW_TASK, page_fault(GDT + 0x10, 0));
    }
}

#[test]
fn the_second_page_of_a_tss_counts_too() {
    let desk = Desk::new();
    desk.describe(NEW_TASK, descriptor(0x8fd0, 0x67, TASK_32));
    desk.vm.memory.unmap(0x9000);
    refused(desk, TaskSource::Call, NEW_TASK, page_fault(0x9000, 0));
    let mut desk = Desk::new();
    let low = descriptor(0x8fc0, 0x67, TASK_32 | BUSY);
    desk.vcpu.segments[SegmentName::Tr as usize] = Segment::from_descriptor(OLD_TASK, low, 0);
    desk.vm.memory.unmap(0x9000);
    let fault = page_fault(0x9000, page_fault::WRITE);
    refused(desk, TaskSource::Call, NEW_TASK, fault);
}

/// The hypervisor's memory and the end of all memory.
#[test]
fn a_tss_where_the_guest_has_no_memory_is_a_protection_fault() {
    for at in [FakeMemory::RESERVED.start.0, (3 << 20) - 0x20] {
        refused_with(
            descriptor(at, 0x67, TASK_32),
            Exception::GeneralProtection(0),
        );
    }
    refused_with(
        descriptor(0x40_0000, 0x67, TASK_32),
        page_fault(0x40_0000, 0),
    );
    let wrapping = descriptor(0xffff_ffe0, 0x67, TASK_32);
    refused_with(wrapping, page_fault(0xffff_ffe0, 0));
}

#[test]
fn a_fault_before_the_commit_point_merges_with_the_event() {
    let mut desk = Desk::new();
    desk.describe(NEW_TASK, descriptor(NEW, 0x66, TASK_32));
    assert_eq!(desk.deliver(GENERAL_PROTECTION), [Exception::DoubleFault]);
    let external = Exception::InvalidTaskState(u32::from(NEW_TASK) | 1);
    assert_eq!(desk.deliver(INTERRUPT), [external]);
    assert_eq!(desk.deliver(UNDEFINED), [external]);
    let asked = Exception::InvalidTaskState(NEW_TASK.into());
    assert_eq!(desk.deliver(INT_N), [asked]);
    let int1 = event(EventType::PrivilegedSoftware, 1, None);
    assert_eq!(desk.deliver(int1), [external]);
}

/// A switch to a task that `change` made wrong: it runs when the fault comes.
fn faulty(change: impl Fn(&Desk, &mut TaskState), expected: Exception) -> Desk {
    let mut desk = Desk::new();
    let mut state = waiting();
    change(&desk, &mut state);
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), [expected]);
    assert_eq!(desk.vcpu.rip, u64::from(state.eip));
    assert_eq!(desk.selector(SegmentName::Tr), NEW_TASK);
    assert!(desk.is_busy(NEW_TASK) && !desk.is_busy(OLD_TASK));
    assert_eq!(desk.saved(OLD).eip, 0x1002);
    for (name, selector) in super::super::segments::NAMES
        .into_iter()
        .zip(state.segments)
    {
        assert_eq!(desk.selector(name), selector);
    }
    desk
}

/// Segment register `number` of the new task has the spare descriptor, which
/// has this access byte.
fn spare(number: usize, rpl: u16, access: u8, expected: fn(u32) -> Exception) {
    let change = |desk: &Desk, state: &mut TaskState| {
        desk.describe(SPARE, descriptor(0, FLAT, access));
        state.segments[number] = SPARE | rpl;
    };
    faulty(change, expected(SPARE.into()));
}

#[test]
fn an_invalid_local_table_is_raised_in_the_new_task() {
    let ldt = |ldt: u16| {
        let invalid = Exception::InvalidTaskState(u32::from(ldt & !3));
        faulty(move |_, state| state.ldt = ldt, invalid);
    };
    ldt(0x48);
    ldt(DATA);
    ldt(LOCAL | 4);
    let absent = |desk: &Desk, _: &mut TaskState| desk.describe(LOCAL, descriptor(LDT, 0xf, 2));
    faulty(absent, Exception::InvalidTaskState(LOCAL.into()));
}

#[test]
fn an_invalid_code_segment_is_raised_in_the_new_task() {
    let invalid = Exception::InvalidTaskState;
    for selector in [0, 3, 0x48, DATA, 0x14] {
        let code = u32::from(selector & !3);
        faulty(move |_, state| state.segments[1] = selector, invalid(code));
    }
    spare(1, 0, 0xfb, invalid);
    spare(1, 3, 0x9b, invalid);
    spare(1, 0, 0xff, invalid);
    spare(1, 0, 0x1b, Exception::SegmentNotPresent);
}

#[test]
fn an_invalid_stack_segment_is_raised_in_the_new_task() {
    let invalid = Exception::InvalidTaskState;
    for selector in [0, 0x48, CODE, LOCAL] {
        let code = u32::from(selector);
        faulty(move |_, state| state.segments[2] = selector, invalid(code));
    }
    spare(2, 0, 0x91, invalid);
    spare(2, 0, 0xf3, invalid);
    spare(2, 3, 0x93, invalid);
    spare(2, 0, 0x13, Exception::StackFault);
}

#[test]
fn an_invalid_data_segment_is_raised_in_the_new_task() {
    for number in [0, 3, 4, 5] {
        let invalid = Exception::InvalidTaskState;
        let outside = |_: &Desk, state: &mut TaskState| state.segments[number] = 0x48;
        faulty(outside, invalid(0x48));
        spare(number, 0, 0x99, invalid);
        spare(number, 0, 0x82, invalid);
        spare(number, 3, 0x93, invalid);
        let desk = |access| spare(number, 0, access, Exception::SegmentNotPresent);
        desk(0x13);
    }
}

/// What is wrong keeps nothing else from being loaded, so that the handler of
/// the fault has a stack where the task has one.
#[test]
fn a_faulty_task_has_all_segments_that_are_good() {
    let segment = |desk: &Desk, name| desk.vcpu.segments[name as usize].rights;
    for number in [1, 3] {
        let change = move |_: &Desk, state: &mut TaskState| state.segments[number] = 0x48;
        let desk = faulty(change, Exception::InvalidTaskState(0x48));
        assert_eq!(segment(&desk, SegmentName::Cs), 0xc09b);
        assert_eq!(segment(&desk, SegmentName::Ss), 0xc093);
        assert_eq!(segment(&desk, SegmentName::Es), 0xc093);
    }
    let no_table = |_: &Desk, state: &mut TaskState| state.ldt = 0x48;
    let desk = faulty(no_table, Exception::InvalidTaskState(0x48));
    assert_eq!(segment(&desk, SegmentName::Ss), 0xc093);
    assert_eq!(segment(&desk, SegmentName::Fs), UNUSABLE);
}

/// VM entry wants CS and SS to agree on the privilege, and Bochs what the
/// selector of CS says to be the same.
#[test]
fn a_task_without_stack_or_code_has_the_privilege_of_its_selector() {
    for (number, level) in [(1, 0), (1, 3), (2, 0), (2, 3)] {
        let mut desk = Desk::new();
        let mut state = waiting();
        if level == 3 {
            state.segments = [USER_DATA, USER_CODE, USER_DATA, USER_DATA, 0, 0];
        }
        state.segments[number] = 0x48 | u16::from(level);
        desk.task(NEW, TaskWidth::Bits32, &state);
        let invalid = Exception::InvalidTaskState(0x48);
        assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), [invalid]);
        for name in [SegmentName::Cs, SegmentName::Ss] {
            assert_eq!(desk.vcpu.segments[name as usize].dpl(), level);
        }
    }
}

#[test]
fn conforming_code_and_readable_code_are_no_fault() {
    for (number, rpl, access) in [(1, 0, 0x9f), (3, 3, 0x9f), (3, 0, 0x9b), (3, 0, 0x91)] {
        let mut desk = Desk::new();
        let mut state = waiting();
        desk.describe(SPARE, descriptor(0, FLAT, access));
        state.segments[number] = SPARE | rpl;
        desk.task(NEW, TaskWidth::Bits32, &state);
        assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), []);
    }
}

#[test]
fn a_fault_after_the_commit_point_merges_with_the_event() {
    let mut desk = Desk::new();
    let mut state = waiting();
    state.segments[3] = 0x48;
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.deliver(GENERAL_PROTECTION), [Exception::DoubleFault]);
    let mut desk = Desk::new();
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.deliver(INTERRUPT), [Exception::InvalidTaskState(0x49)]);
}

/// Nothing is mapped in them, the GDT not either.
#[test]
fn page_tables_that_are_no_good_are_a_page_fault_in_the_new_task() {
    let change = |_: &Desk, state: &mut TaskState| state.cr3 = 0x18_0000;
    let desk = faulty(change, page_fault(GDT + u64::from(LOCAL), 0));
    assert_eq!(desk.vcpu.cr3, 0x18_0000);
}

#[test]
fn an_error_code_needs_room_on_the_stack() {
    let with_stack = |limit, access, esp: u32| {
        let mut desk = Desk::new();
        desk.describe(SPARE, descriptor(0, limit, access));
        let mut state = waiting();
        state.segments[2] = SPARE;
        state.general[4] = esp;
        desk.task(NEW, TaskWidth::Bits32, &state);
        let raised = desk.deliver(event(EventType::Exception, 17, Some(0)));
        (raised, desk.vcpu.rsp)
    };
    let none = vec![Exception::StackFault(1)];
    assert_eq!(with_stack(0x5fff, 0x93, 0x6000), (vec![], 0x5ffc));
    assert_eq!(with_stack(0x5fff, 0x93, 0x6001), (none.clone(), 0x6001));
    assert_eq!(with_stack(0xffff, 0x93, 2), (none.clone(), 2));
    assert_eq!(with_stack(0x5fff, 0x97, 0x6004), (vec![], 0x6000));
    assert_eq!(with_stack(0x5fff, 0x97, 0x6003), (none, 0x6003));
}

#[test]
fn an_absent_stack_is_a_page_fault_in_the_new_task() {
    let mut desk = Desk::new();
    desk.vm.memory.unmap(STACK - 0x1000);
    let raised = desk.deliver(GENERAL_PROTECTION);
    assert_eq!(raised, [page_fault(STACK - 4, page_fault::WRITE)]);
    assert_eq!(desk.vcpu.rsp, STACK);
}

#[test]
fn the_first_instruction_must_be_inside_its_segment() {
    let change = |desk: &Desk, state: &mut TaskState| {
        desk.describe(SPARE, descriptor(0, 0xfff, 0x9b));
        state.segments[1] = SPARE;
    };
    faulty(change, Exception::GeneralProtection(0));
}
