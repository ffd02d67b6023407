use super::*;
use crate::fake::{FakeMemory, FakeSvm};
use crate::vm::Features;
use abi::handoff::Presence;
use x86::control::Cr4;
use x86::walk::Entries;

type Machine = (Vm<FakeMemory>, FakeSvm);

const CPUID: [u8; 2] = [0x0f, 0xa2];
const PREFIXED: [u8; 3] = [0x66, 0x0f, 0xa2];

/// A guest with `code` at linear `rip`, whose CPU does not say lengths.
fn machine(rip: u64, code: &[u8]) -> Machine {
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    vm.memory.put(rip, code);
    let vcpu = FakeSvm {
        rip,
        ..FakeSvm::default()
    };
    (vm, vcpu)
}

/// The same, whose length is known.
fn known(rip: u64, code: &[u8]) -> Machine {
    let (vm, mut vcpu) = machine(rip, code);
    let length = code.len() as u64;
    assert_eq!(super::length(&vm, &mut vcpu, Kind::Cpuid), Ok(length));
    assert_eq!(kept_length(&vm, &vcpu), Some(length), "{rip:#x}");
    (vm, vcpu)
}

/// What was kept is not believed any more, and `expected` is found.
fn is_found_anew((vm, vcpu): &mut Machine, expected: u64) {
    assert_eq!(kept_length(vm, vcpu), None);
    assert_eq!(super::length(vm, vcpu, Kind::Cpuid), Ok(expected));
}

#[test]
fn the_base_of_a_code_segment_counts_but_in_64_bit_code() {
    let vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    vm.memory.put(0x1000, &CPUID);
    vm.memory.put(0x5000, &[0x90]);
    for (size, expected) in [(CodeSize::Bits64, 2), (CodeSize::Bits32, 1)] {
        let mut vcpu = FakeSvm {
            size,
            ..FakeSvm::default()
        };
        vcpu.segments[SegmentName::Cs as usize].base = 0x4000;
        assert_eq!(
            super::length(&vm, &mut vcpu, Kind::Cpuid),
            Ok(expected),
            "{size:?}"
        );
    }
}

#[test]
fn a_prefix_that_came_later_is_seen() {
    let mut machine = known(0x1000, &CPUID);
    machine.0.memory.put(0x1000, &PREFIXED);
    is_found_anew(&mut machine, 3);
    machine.0.memory.put(0x1000, &CPUID);
    is_found_anew(&mut machine, 2);
}

/// Tables beside the first ones, from the last level up; they lead to another
/// page.
const OTHERS: [u64; 4] = [0x11_0000, 0x11_1000, 0x11_2000, 0x11_3000];

fn put_entry(vm: &Vm<FakeMemory>, at: u64, below: u64) {
    vm.memory.put(at, &(below | 7).to_le_bytes());
}

fn with_other_tables(vm: &Vm<FakeMemory>) {
    let [table, directory, pointers, root] = OTHERS;
    vm.memory.put(0x5000, &PREFIXED);
    put_entry(vm, table + 8, 0x5000);
    put_entry(vm, directory, table);
    put_entry(vm, pointers, directory);
    put_entry(vm, root, pointers);
}

#[test]
fn another_way_to_the_same_address_is_seen_at_each_level() {
    let [table, directory, pointers, _] = OTHERS;
    for (entry, below) in [
        (0x10_3008, 0x5000),
        (0x10_2000, table),
        (0x10_1000, directory),
        (FakeMemory::ROOT, pointers),
    ] {
        let mut machine = known(0x1000, &CPUID);
        with_other_tables(&machine.0);
        assert_eq!(kept_length(&machine.0, &machine.1), Some(2));
        put_entry(&machine.0, entry, below);
        is_found_anew(&mut machine, 3);
    }
}

#[test]
fn another_address_space_has_its_own_instructions() {
    let mut machine = known(0x1000, &CPUID);
    with_other_tables(&machine.0);
    machine.1.cr3 = OTHERS[3];
    is_found_anew(&mut machine, 3);
    machine.1.cr3 = FakeMemory::ROOT;
    is_found_anew(&mut machine, 2);
}

#[test]
fn other_addresses_have_their_own_lengths() {
    let (vm, mut vcpu) = known(0x1000, &CPUID);
    vm.memory.put(0x1010, &PREFIXED);
    vcpu.rip = 0x1010;
    is_found_anew(&mut (vm, vcpu), 3);
}

#[test]
fn lengths_are_kept_of_64_bit_code_alone() {
    let (vm, mut vcpu) = known(0x1000, &CPUID);
    vm.memory.put(0x5000, &PREFIXED);
    vcpu.segments[SegmentName::Cs as usize].base = 0x4000;
    vcpu.size = CodeSize::Bits32;
    let mut machine = (vm, vcpu);
    is_found_anew(&mut machine, 3);
    machine.1.size = CodeSize::Bits64;
    assert_eq!(
        super::length(&machine.0, &mut machine.1, Kind::Cpuid),
        Ok(2)
    );
}

#[test]
fn a_large_page_that_is_split_is_seen() {
    let mut machine = known(0x20_0000, &CPUID);
    machine.0.memory.put(0x5000, &PREFIXED);
    put_entry(&machine.0, OTHERS[0], 0x5000);
    put_entry(&machine.0, 0x10_2008, OTHERS[0]);
    is_found_anew(&mut machine, 3);
}

#[test]
fn what_ends_with_its_page_is_kept() {
    for (rip, code) in [(0x1ffe, &CPUID[..]), (0x1ffd, &PREFIXED), (0x1ff8, &CPUID)] {
        let mut machine = known(rip, code);
        machine.0.memory.put(rip, &[0x90]);
        is_found_anew(&mut machine, 1);
    }
}

#[test]
fn what_is_not_in_one_word_of_one_page_is_not_kept() {
    let vmmcall = [0x0f, 0x01, 0xd9];
    let long = [0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0xa2];
    for (rip, code) in [
        (0x1fff, &CPUID[..]),
        (0x1ffe, &PREFIXED),
        (0x1ffe, &vmmcall),
        (0x1000, &long),
    ] {
        let (vm, mut vcpu) = machine(rip, code);
        let length = code.len() as u64;
        assert_eq!(
            super::length(&vm, &mut vcpu, Kind::Cpuid),
            Ok(length),
            "{rip:#x}"
        );
        assert_eq!(kept_length(&vm, &vcpu), None, "{rip:#x}");
    }
}

#[test]
fn five_levels_of_tables_are_too_many() {
    let (vm, mut vcpu) = machine(0x1000, &CPUID);
    put_entry(&vm, OTHERS[0], FakeMemory::ROOT);
    (vcpu.cr3, vcpu.cr4) = (OTHERS[0], Cr4::LA57);
    assert_eq!(super::length(&vm, &mut vcpu, Kind::Cpuid), Ok(2));
    assert_eq!(kept_length(&vm, &vcpu), None);
}

#[test]
fn a_word_is_of_the_guests_memory() {
    let memory = FakeMemory::new();
    let last = Gpa(FakeMemory::RESERVED.start.0 - 8);
    assert!(Word::new(&memory, last, 5).is_some());
    for at in [Gpa(last.0 + 1), FakeMemory::RESERVED.start] {
        assert_eq!(Word::new(&memory, at, 5), None, "{at:?}");
    }
}

#[test]
fn an_entry_that_changes_during_a_walk_leaves_no_trail() {
    let (vm, _) = machine(0x1000, &CPUID);
    let trail = Trail::new(&vm.memory);
    let (at, last) = (
        Gpa(0x10_3008),
        Word::new(&vm.memory, Gpa(0x1000), 1).expect("a word"),
    );
    let entry = trail.load(at, 8).expect("it is memory");
    assert!(trail.exchange(at, 8, entry, entry | 1 << 5));
    trail.load(at, 8);
    let words = trail.words(last).expect("the walk itself changed it");
    assert_eq!((words[0].at(), words[0].value()), (at, entry | 1 << 5));
    vm.memory.remap(0x1000, 0x5000 | 7);
    trail.load(at, 8);
    assert_eq!(trail.words(last), None);
}

/// Firmware parks CPUs in memory that its map calls reserved: the first thing that
/// such a CPU does is to leave long mode.
#[test]
fn code_outside_the_memory_that_is_seen_is_taken_to_have_no_prefixes() {
    let (vm, mut vcpu) = machine(0x1000, &CPUID);
    vm.memory.remap(0x1000, FakeMemory::RESERVED.start.0 | 7);
    for (kind, length) in [
        (Kind::ReadMsr, 2),
        (Kind::WriteMsr, 2),
        (Kind::Cpuid, 2),
        (Kind::Hypercall, 3),
    ] {
        assert_eq!(super::length(&vm, &mut vcpu, kind), Ok(length), "{kind:?}");
    }
    let fault = Exception::GeneralProtection(0);
    assert_eq!(super::length(&vm, &mut vcpu, Kind::Control), Err(fault));
}

#[test]
fn an_instruction_that_cannot_be_fetched_raises_what_that_raises() {
    let (vm, mut vcpu) = known(0x1000, &CPUID);
    vm.memory.unmap(0x1000);
    let address = 0x1000;
    let fault = Exception::PageFault { address, code: 16 };
    assert_eq!(super::length(&vm, &mut vcpu, Kind::Cpuid), Err(fault));
}

fn length(code: &[u8], size: CodeSize) -> Option<usize> {
    match decode(code, size, 0) {
        Decoded::Whole(instruction) => Some(instruction.len()),
        Decoded::Truncated | Decoded::Invalid => None,
    }
}

#[test]
fn prefixes_count() {
    let (narrow, wide) = (CodeSize::Bits16, CodeSize::Bits64);
    assert_eq!(length(&[0x0f, 0xa2], wide), Some(2));
    assert_eq!(length(&[0x66, 0x0f, 0xa2], narrow), Some(3));
    assert_eq!(length(&[0xf3, 0x48, 0x0f, 0xa2], wide), Some(4));
    assert_eq!(length(&[0x0f, 0x01, 0xd9], wide), Some(3));
    assert_eq!(decode(&[0x0f], wide, 0), Decoded::Truncated);
}
