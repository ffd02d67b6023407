//! Buffers on the desk, with the fake machine's tables.

use super::*;
use crate::fake::{FakeMemory, FakeVtx};
use crate::vm::{Features, Vm};
use abi::handoff::Presence;
use machine::CodeSize;
use proptest::prelude::*;
use x86::Exception;
use x86::exception::page_fault;

const READ_ONLY: u64 = 5;
const SUPERVISOR: u64 = 3;
const OWN: u64 = FakeMemory::RESERVED.start.0;

fn vm() -> Vm<FakeMemory> {
    Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL)
}

fn caller(vm: &Vm<FakeMemory>, cpl: u8) -> Caller<'_, FakeMemory> {
    let cpu = FakeVtx {
        cpl,
        ..FakeVtx::default()
    };
    Caller::new(vm, &cpu)
}

/// For a buffer that lives as long as its test likes.
fn pages() -> &'static mut Pages {
    Box::leak(Box::default())
}

fn failure(result: Result<Buffer<'_, FakeMemory>, Failure>) -> Option<Failure> {
    result.err()
}

fn page_fault(address: u64, code: u32) -> Option<Failure> {
    Some(Failure::Fault(Exception::PageFault { address, code }))
}

/// Linear pages 0x8000 and 0x9000 lie at 0x5000 and 0x3000.
fn scattered() -> Vm<FakeMemory> {
    let vm = vm();
    vm.memory.remap(0x8000, 0x5000 | 7);
    vm.memory.remap(0x9000, 0x3000 | 7);
    vm
}

#[test]
fn a_buffer_follows_the_tables_from_page_to_page() {
    let vm = scattered();
    let caller = caller(&vm, 3);
    let buffer = Buffer::at_gva(pages(), &caller, 0x8ffd, 7, Access::Write).expect("mapped");
    buffer.write(0, b"abcdefg").expect("checked");
    let bytes = vm.memory.snapshot();
    assert_eq!(
        (&bytes[0x5ffd..0x6000], &bytes[0x3000..0x3004]),
        (&b"abc"[..], &b"defg"[..])
    );
    let mut back = [0; 3];
    buffer.read(2, &mut back).expect("checked");
    assert_eq!(&back, b"cde");
}

#[test]
fn tables_that_change_during_a_call_lead_it_nowhere_else() {
    let vm = scattered();
    let caller = caller(&vm, 3);
    let make = || Buffer::at_gva(pages(), &caller, 0x8ffe, 4, Access::Write);
    let buffer = make().expect("mapped");
    vm.memory.remap(0x8000, OWN | 7);
    vm.memory.remap(0x9000, 0);
    buffer.write(0, b"kept").expect("checked");
    let bytes = vm.memory.snapshot();
    assert_eq!(
        (&bytes[0x5ffe..0x6000], &bytes[0x3000..0x3002]),
        (&b"ke"[..], &b"pt"[..])
    );
    assert!(make().is_err());
}

#[test]
fn what_is_behind_the_end_stays() {
    let vm = scattered();
    let buffer =
        Buffer::at_gva(pages(), &caller(&vm, 3), 0x8ffe, 4, Access::Write).expect("mapped");
    buffer.write(2, b"xyzzy").expect("checked");
    let mut bytes = [9; 4];
    buffer.read(3, &mut bytes).expect("checked");
    assert_eq!(bytes, [b'y', 9, 9, 9]);
    assert_eq!(*vm.memory.written.borrow(), [(Gpa(0x3000), 2)]);
}

#[test]
fn a_large_page_is_walked_once_and_copied_page_by_page() {
    let vm = vm();
    let buffer = Buffer::at_gva(pages(), &caller(&vm, 3), 0x20_0010, 0x3000, Access::Write);
    let buffer = buffer.expect("a page of 2 MiB");
    buffer.write(0, &[1; 0x3000]).expect("checked");
    let at = [
        (0x20_0010, 0xff0),
        (0x20_1000, 0x1000),
        (0x20_2000, 0x1000),
        (0x20_3000, 0x10),
    ];
    assert_eq!(
        *vm.memory.written.borrow(),
        at.map(|(gpa, size)| (Gpa(gpa), size))
    );
}

#[test]
fn no_call_uses_more_than_its_share() {
    let vm = vm();
    for bytes in [TRANSFER_MAX as u64, TRANSFER_MAX as u64 + 1, u64::MAX] {
        let buffer = Buffer::at_gva(pages(), &caller(&vm, 3), 0x8fff, bytes, Access::Read);
        assert_eq!(buffer.expect("mapped").length(), TRANSFER_MAX);
    }
    let empty = Buffer::at_gva(pages(), &caller(&vm, 3), 0x1_0000_0000, 0, Access::Write);
    assert_eq!(empty.expect("touches nothing").length(), 0);
}

#[test]
fn a_program_gets_the_fault_of_its_own_access_at_the_first_bad_byte() {
    let vm = scattered();
    let user = caller(&vm, 3);
    vm.memory.remap(0x9000, 0x3000 | READ_ONLY);
    assert!(Buffer::at_gva(pages(), &user, 0x8ffe, 4, Access::Read).is_ok());
    let written = Buffer::at_gva(pages(), &user, 0x8ffe, 4, Access::Write);
    let code = page_fault::PRESENT | page_fault::WRITE | page_fault::USER;
    assert_eq!(failure(written), page_fault(0x9000, code));
    vm.memory.remap(0x9000, 0x3000 | SUPERVISOR);
    let read = Buffer::at_gva(pages(), &user, 0x9123, 4, Access::Read);
    assert_eq!(
        failure(read),
        page_fault(0x9123, page_fault::PRESENT | page_fault::USER)
    );
    vm.memory.unmap(0x9000);
    let absent = Buffer::at_gva(pages(), &user, 0x8ffe, 4, Access::Read);
    assert_eq!(failure(absent), page_fault(0x9000, page_fault::USER));
    assert!(vm.memory.written.borrow().is_empty());
}

#[test]
fn a_kernel_gets_an_error_unless_it_asks_for_the_fault() {
    let vm = vm();
    vm.memory.unmap(0x9000);
    let mut kernel = caller(&vm, 0);
    let absent =
        |kernel: &Caller<'_, _>| failure(Buffer::at_gva(pages(), kernel, 0x8ffe, 4, Access::Read));
    assert_eq!(absent(&kernel), Some(Failure::BadAddress(0x9000)));
    kernel.faults = true;
    assert_eq!(absent(&kernel), page_fault(0x9000, 0));
    for ring in [1, 2] {
        assert_eq!(absent(&caller(&vm, ring)), page_fault(0x9000, 0));
    }
}

#[test]
fn the_hypervisors_memory_is_in_no_buffer_however_it_is_reached() {
    let vm = vm();
    let (user, kernel) = (caller(&vm, 3), caller(&vm, 0));
    vm.memory.remap(0x9000, OWN | 7);
    for (address, first) in [(0x8ffe, 0x9000), (OWN - 2, OWN), (OWN, OWN)] {
        let by_kernel = Buffer::at_gva(pages(), &kernel, address, 4, Access::Write);
        assert_eq!(failure(by_kernel), Some(Failure::BadAddress(first)));
        let by_user = Buffer::at_gva(pages(), &user, address, 4, Access::Write);
        let protection = Failure::Fault(Exception::GeneralProtection(0));
        assert_eq!(failure(by_user), Some(protection));
    }
    let by_gpa = Buffer::at_gpa(pages(), &vm.memory, OWN - 2, 4);
    assert_eq!(failure(by_gpa), Some(Failure::BadAddress(OWN)));
    vm.memory
        .put(0x2000, &[OWN - 4096, OWN].map(u64::to_le_bytes).concat());
    let by_list = Buffer::of_pages(pages(), &kernel, 0x2000, 0, 4097);
    assert_eq!(failure(by_list), Some(Failure::BadAddress(OWN)));
}

#[test]
fn tables_that_lie_in_the_hypervisor_lead_nowhere() {
    let vm = vm();
    let space = caller(&vm, 3).space(OWN);
    let found = Buffer::at_gva(pages(), &space, 0x8000, 4, Access::Read);
    assert_eq!(failure(found), Some(Failure::BadAddress(0x8000)));
    let outside = caller(&vm, 0).space(1 << 39);
    let found = Buffer::at_gva(pages(), &outside, 0x8000, 4, Access::Read);
    assert_eq!(failure(found), Some(Failure::BadAddress(0x8000)));
}

#[test]
fn buffers_do_not_go_around_the_end() {
    let vm = vm();
    let wrong = Some(Failure::Refused(Errno::InvalidArgument));
    let wide = caller(&vm, 0);
    assert_eq!(
        failure(Buffer::at_gva(pages(), &wide, u64::MAX, 2, Access::Read)),
        wrong
    );
    assert_eq!(
        failure(Buffer::at_gpa(pages(), &vm.memory, u64::MAX, 1)),
        wrong
    );
    assert_eq!(
        failure(Buffer::at_gpa(pages(), &vm.memory, u64::MAX - 8, 4096)),
        wrong
    );
    let last = Buffer::at_gva(pages(), &wide, u64::MAX, 1, Access::Read);
    assert_eq!(failure(last), Some(Failure::BadAddress(u64::MAX)));
    let edge = Buffer::at_gva(pages(), &wide, (1 << 47) - 1, 2, Access::Read);
    assert_eq!(failure(edge), Some(Failure::BadAddress((1 << 47) - 1)));
    let narrow = FakeVtx {
        size: CodeSize::Bits32,
        ..FakeVtx::default()
    };
    let narrow = Caller::new(&vm, &narrow);
    assert_eq!(
        failure(Buffer::at_gva(
            pages(),
            &narrow,
            0xffff_ffff,
            2,
            Access::Read
        )),
        wrong
    );
}

#[test]
fn a_list_of_pages_is_read_once_and_must_be_of_pages() {
    let vm = vm();
    let kernel = caller(&vm, 0);
    let list = |at, pages: &[u64]| {
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        vm.memory.put(at, &bytes);
    };
    // The list straddles pages itself.
    list(0x1ffc, &[0x6000, 0x4000]);
    let buffer = Buffer::of_pages(pages(), &kernel, 0x1ffc, 0xffe, 4).expect("two pages");
    list(0x1ffc, &[OWN, OWN]);
    buffer.write(0, b"abcd").expect("checked");
    let bytes = vm.memory.snapshot();
    assert_eq!(
        (&bytes[0x6ffe..0x7000], &bytes[0x4000..0x4002]),
        (&b"ab"[..], &b"cd"[..])
    );
    let wrong = Some(Failure::Refused(Errno::InvalidArgument));
    list(0x2000, &[0x6000, 0x4008]);
    assert_eq!(
        failure(Buffer::of_pages(pages(), &kernel, 0x2000, 0, 4097)),
        wrong
    );
    assert!(Buffer::of_pages(pages(), &kernel, 0x2000, 0, 4096).is_ok());
    assert_eq!(
        failure(Buffer::of_pages(pages(), &kernel, 0x2000, 4096, 1)),
        wrong
    );
    vm.memory.unmap(0x3000);
    let absent = Buffer::of_pages(pages(), &kernel, 0x2ff8, 0, 4097);
    assert_eq!(failure(absent), Some(Failure::BadAddress(0x3000)));
}

proptest! {
    /// A copy between two buffers moves just these bytes, wherever either
    /// straddles.
    #[test]
    fn copies_move_the_bytes(
        from in 0x1_0000u64..0x1_4000, to in 0x3_0000u64..0x3_4000,
        bytes in 0u64..0x2_0000, shuffle in 1u64..16,
    ) {
        let vm = vm();
        for page in 0..32 {
            // An odd multiple permutes the pages.
            let moved = page * (2 * shuffle + 1) % 32;
            vm.memory.remap(0x1_0000 + page * 4096, (0x8_0000 + moved * 4096) | 7);
            vm.memory.put(0x8_0000 + moved * 4096, &[page as u8; 4096]);
        }
        let caller = caller(&vm, 3);
        let source = Buffer::at_gva(pages(), &caller, from, bytes, Access::Read).expect("mapped");
        let target = Buffer::at_gva(pages(), &caller, to, bytes, Access::Write).expect("mapped");
        let before = vm.memory.snapshot();
        let done = target.copy(&source).expect("checked");
        prop_assert_eq!(done as u64, bytes.min(TRANSFER_MAX as u64));
        let (start, after) = (to as usize, vm.memory.snapshot());
        for (at, byte) in after[start..start + done].iter().enumerate() {
            prop_assert_eq!(u64::from(*byte), (from + at as u64 - 0x1_0000) / 4096);
        }
        prop_assert!(after[start + done..0x10_0000] == before[start + done..0x10_0000]);
        prop_assert!(after[..start] == before[..start]);
    }

    /// Whatever a buffer is asked to be, it is one within the guest's memory,
    /// or none.
    #[test]
    fn any_address_is_survived(address: u64, low in 0u64..5 << 20, bytes: u64, short in 0u64..9000, cpl in 0u8..4) {
        let vm = vm();
        let caller = caller(&vm, cpl);
        for at in [address, low] {
            for length in [bytes, short] {
                for buffer in [
                    Buffer::at_gva(pages(), &caller, at, length, Access::Write),
                    Buffer::at_gpa(pages(), &vm.memory, at, length),
                    Buffer::of_pages(pages(), &caller, at, 0, length),
                ].into_iter().flatten() {
                    prop_assert_eq!(buffer.length(), transfer(length));
                    buffer.write(0, &[7; 100]).expect("checked");
                }
            }
        }
        let written = vm.memory.written.borrow();
        prop_assert!(written.iter().all(|(gpa, _)| !FakeMemory::RESERVED.contains(gpa)));
    }
}
