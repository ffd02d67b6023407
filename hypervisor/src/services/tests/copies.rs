//! Copies by calls, and who may make them.

use super::*;
use abi::call::TRANSFER_MAX;

const OWN: u64 = FakeMemory::RESERVED.start.0;
/// A buffer of the caller's that straddles two pages.
pub const BUFFER: u64 = 0x8ffe;
pub const OTHER: u64 = 0x2_0ffc;
/// An address space that maps linear 0x4000 to the page of [`OTHER`], and
/// nothing else below 2 MiB.
const SPACE: u64 = 0x3_0000;
/// Takes the other side from guest-physical or another space's addresses.
pub const OWNERS: [u64; 7] = [
    call::MEMORY_READ_PHYSICAL,
    call::MEMORY_WRITE_PHYSICAL,
    call::MEMORY_READ_PAGES,
    call::MEMORY_WRITE_PAGES,
    call::MEMORY_READ_SPACE,
    call::MEMORY_WRITE_SPACE,
    call::MEMORY_TRANSLATE,
];

pub fn machine() -> Vm<FakeMemory> {
    let mut vm = vm(Presence::Leaf);
    vm.token = TOKEN;
    put_words(&vm, SPACE, &[0x3_1000 | 7]);
    put_words(&vm, 0x3_1000, &[0x3_2000 | 7]);
    put_words(&vm, 0x3_2000, &[0x3_3000 | 7, 0x20_0000 | 0x87, OWN | 7]);
    put_words(
        &vm,
        0x3_3000,
        &[0, 0, 0, 0, 0x2_0000 | 7, 0x2_1000 | 7, 0x2_0000 | 5],
    );
    put_words(&vm, LIST, &[0x2_0000, 0x2_1000]);
    vm.memory.put(OTHER, b"physical");
    vm.memory.put(BUFFER, b"........");
    vm
}

const LIST: u64 = 0x3_4000;

fn put_words(vm: &Vm<FakeMemory>, at: u64, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    vm.memory.put(at, &bytes);
}

fn bytes_at(vm: &Vm<FakeMemory>, at: u64) -> [u8; 8] {
    let at = at as usize;
    vm.memory.snapshot()[at..at + 8]
        .try_into()
        .expect("8 bytes")
}

/// The arguments that make each of [`OWNERS`] move 8 bytes between
/// [`BUFFER`] and [`OTHER`].
pub fn arguments(number: u64) -> [u64; 5] {
    match number {
        call::MEMORY_READ_PHYSICAL | call::MEMORY_WRITE_PHYSICAL => [BUFFER, OTHER, 8, 0, 0],
        call::MEMORY_READ_PAGES | call::MEMORY_WRITE_PAGES => [BUFFER, LIST, 8, 0xffc, 0],
        call::MEMORY_READ_SPACE | call::MEMORY_WRITE_SPACE => [BUFFER, 0x4ffc, 8, SPACE, 0],
        _ => [0x4ffc, SPACE, 0, 0, 0],
    }
}

#[test]
fn an_owner_and_a_kernel_move_bytes_and_others_may_not() {
    for number in OWNERS {
        for guest in [OWNER, KERNEL] {
            let vm = machine();
            let cpu = guest.calls(&vm, number, arguments(number));
            assert_eq!(error(&cpu), None, "{number}");
            let moved = match number {
                call::MEMORY_TRANSLATE => {
                    assert_eq!((cpu.registers.rax, cpu.registers.rbx), (OTHER, 4));
                    continue;
                }
                call::MEMORY_READ_PHYSICAL | call::MEMORY_READ_PAGES | call::MEMORY_READ_SPACE => {
                    b"physical"
                }
                _ => b"........",
            };
            assert_eq!(cpu.registers.rax, 8);
            assert_eq!(
                [bytes_at(&vm, BUFFER), bytes_at(&vm, OTHER)],
                [*moved; 2],
                "{number}"
            );
        }
        let vm = machine();
        for cpl in 1..4 {
            let stranger = Guest { cpl, ..PROGRAM };
            let cpu = stranger.calls(&vm, number, arguments(number));
            assert_eq!(error(&cpu), Some(Errno::NotPermitted));
            assert_eq!(cpu.registers.rbx, arguments(number)[0]);
        }
        assert!(vm.memory.written.borrow().is_empty());
        let refused = vm
            .oddities
            .kinds()
            .flatten()
            .map(|row| (row.name, row.count));
        assert_eq!(refused.collect::<Vec<_>>(), [("refused-call", 3)]);
    }
}

#[test]
fn without_a_token_there_is_no_owner_outside_the_kernel() {
    let mut vm = machine();
    vm.token = Token::NONE;
    let nobody = Guest {
        token: [0; 2],
        ..PROGRAM
    };
    for number in OWNERS {
        let cpu = nobody.calls(&vm, number, arguments(number));
        assert_eq!(error(&cpu), Some(Errno::NotPermitted));
    }
}

#[test]
fn a_program_copies_its_own_memory_and_gets_its_own_faults() {
    let vm = machine();
    let copies = |into, from| PROGRAM.calls(&vm, call::MEMORY_COPY, [into, from, 8, 0, 0]);
    assert_eq!(copies(BUFFER, OTHER).registers.rax, 8);
    assert_eq!(bytes_at(&vm, BUFFER), *b"physical");
    vm.memory.written.borrow_mut().clear();
    vm.memory.remap(0x9000, 0x9000 | 5);
    let (write, user, present) = (page_fault::WRITE, page_fault::USER, page_fault::PRESENT);
    assert_eq!(
        page_fault_of(&copies(BUFFER, OTHER)),
        (0x9000, present | write | user)
    );
    assert_eq!(copies(OTHER, BUFFER).registers.rax, 8);
    vm.memory.written.borrow_mut().clear();
    vm.memory.remap(0x9000, 0x9000 | 3);
    assert_eq!(
        page_fault_of(&copies(OTHER, BUFFER)),
        (0x9000, present | user)
    );
    vm.memory.unmap(0x9000);
    assert_eq!(page_fault_of(&copies(OTHER, BUFFER)), (0x9000, user));
    assert!(vm.memory.written.borrow().is_empty());
}

#[test]
fn a_call_that_fails_on_either_side_has_written_nothing() {
    for number in OWNERS.into_iter().filter(|n| *n != call::MEMORY_TRANSLATE) {
        let vm = machine();
        vm.memory.unmap(0x9000);
        assert_eq!(
            page_fault_of(&OWNER.calls(&vm, number, arguments(number))).0,
            0x9000
        );
        let cpu = KERNEL.calls(&vm, number, arguments(number));
        assert_eq!(
            (error(&cpu), cpu.registers.rbx),
            (Some(Errno::BadAddress), 0x9000)
        );
        vm.memory.map(0x9000);
        // The other side's second page is Underlay's own.
        put_words(&vm, LIST + 8, &[OWN]);
        put_words(&vm, 0x3_3028, &[OWN | 7]);
        let mut given = arguments(number);
        let bad = match number {
            call::MEMORY_READ_PHYSICAL | call::MEMORY_WRITE_PHYSICAL => {
                given[1] = OWN - 4;
                OWN
            }
            call::MEMORY_READ_PAGES | call::MEMORY_WRITE_PAGES => OWN,
            _ => 0x5000,
        };
        for guest in [OWNER, KERNEL] {
            let cpu = guest.calls(&vm, number, given);
            assert_eq!(
                (error(&cpu), cpu.registers.rbx),
                (Some(Errno::BadAddress), bad)
            );
        }
        assert!(vm.memory.written.borrow().is_empty(), "{number}");
    }
}

#[test]
fn another_space_is_a_kernels_view_of_it() {
    let vm = machine();
    let bad = |number, at| {
        let given = match number {
            call::MEMORY_TRANSLATE => [at, SPACE, 0, 0, 0],
            _ => [BUFFER, at, 4, SPACE, 0],
        };
        let cpu = OWNER.calls(&vm, number, given);
        (error(&cpu) == Some(Errno::BadAddress)).then_some(cpu.registers.rbx)
    };
    // A read-only page can be read, and not be written by a kernel either.
    assert_eq!(bad(call::MEMORY_READ_SPACE, 0x6000), None);
    assert_eq!(bad(call::MEMORY_WRITE_SPACE, 0x6000), Some(0x6000));
    // Absent, Underlay's own in a large page, and a table that lies there.
    for at in [0x7000, 0x30_0000, 0x40_0000, 1 << 47] {
        for number in [call::MEMORY_READ_SPACE, call::MEMORY_WRITE_SPACE] {
            assert_eq!(bad(number, at), Some(at), "{number} {at:#x}");
        }
    }
    assert_eq!(bad(call::MEMORY_TRANSLATE, 0x7000), Some(0x7000));
    assert_eq!(bad(call::MEMORY_TRANSLATE, 0x40_0000), Some(0x40_0000));
    let cpu = OWNER.calls(&vm, call::MEMORY_TRANSLATE, [0x4000, OWN, 0, 0, 0]);
    assert_eq!(error(&cpu), Some(Errno::BadAddress));
}

/// What the owner names as a root may hold anything, tables or not.
#[test]
fn who_reads_in_another_space_changes_nothing_there() {
    let vm = machine();
    let tables = || vm.memory.snapshot()[SPACE as usize..LIST as usize].to_vec();
    let before = tables();
    for at in [0x4000, 0x7000, 0x40_0000] {
        OWNER.calls(&vm, call::MEMORY_READ_SPACE, [BUFFER, at, 8, SPACE, 0]);
        OWNER.calls(&vm, call::MEMORY_TRANSLATE, [at, SPACE, 0, 0, 0]);
        assert_eq!(tables(), before, "{at:#x}");
    }
    OWNER.calls(&vm, call::MEMORY_WRITE_SPACE, [BUFFER, 0x4000, 8, SPACE, 0]);
    assert_ne!(tables(), before, "a write leaves its marks");
}

#[test]
fn long_requests_are_begun_and_nonsense_is_refused() {
    let vm = machine();
    let long = [0x8_0000, 0xa_0000, u64::MAX, 0, 0];
    let cpu = KERNEL.calls(&vm, call::MEMORY_COPY, long);
    assert_eq!(cpu.registers.rax, TRANSFER_MAX as u64);
    let wrong = Some(Errno::InvalidArgument);
    for (number, arguments) in [
        (call::MEMORY_COPY, [u64::MAX - 3, BUFFER, 8, 0, 0]),
        (call::MEMORY_READ_PHYSICAL, [BUFFER, u64::MAX - 3, 8, 0, 0]),
        (call::MEMORY_READ_PAGES, [BUFFER, LIST, 8, 4096, 0]),
        (call::MEMORY_READ_PAGES, [BUFFER, u64::MAX - 3, 8, 0, 0]),
        (call::MEMORY_READ_SPACE, [BUFFER, u64::MAX - 3, 8, SPACE, 0]),
    ] {
        assert_eq!(
            error(&KERNEL.calls(&vm, number, arguments)),
            wrong,
            "{number}"
        );
    }
    let written = vm.memory.written.borrow();
    assert!(
        written
            .iter()
            .all(|(gpa, _)| (0x8_0000..0x9_0000).contains(&gpa.0))
    );
}

#[test]
fn a_narrow_callers_upper_halves_do_not_count() {
    let vm = machine();
    let narrow = Guest {
        size: CodeSize::Bits32,
        ..OWNER
    };
    let high = 0xdead_0000_0000_0000;
    for number in OWNERS.into_iter().filter(|n| *n != call::MEMORY_TRANSLATE) {
        let cpu = narrow.calls(
            &vm,
            number | high,
            arguments(number).map(|word| word | high),
        );
        assert_eq!((error(&cpu), cpu.registers.rax), (None, 8), "{number}");
    }
    let wraps = [0xffff_fffc, BUFFER, 8, 0, 0];
    let cpu = narrow.calls(&vm, call::MEMORY_COPY, wraps);
    assert_eq!(error(&cpu), Some(Errno::InvalidArgument));
}
