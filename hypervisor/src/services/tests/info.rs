//! What there is.

use super::*;
use abi::record::{FEATURE_TRACE, Info, ServiceRecord};

const AT: u64 = 0x8f00;

#[test]
fn info_is_cut_to_the_room_and_says_what_it_would_take() {
    let mut vm = vm(Presence::Leaf);
    vm.cpus = 3;
    vm.memory_used = 4096;
    let whole = Info::SIZE as u64;
    let cpu = PROGRAM.calls(&vm, call::INFO, [AT, u64::MAX, 0, 0, 0]);
    assert_eq!((cpu.registers.rax, cpu.registers.rbx), (whole, AT));
    let bytes = vm.memory.snapshot();
    let at = AT as usize;
    let info = Info::from_bytes(bytes[at..at + Info::SIZE].try_into().expect("as long"));
    assert_eq!((info.abi, info.vendor, info.cpus), (call::VERSION, 1, 3));
    assert_eq!((info.memory, info.used), (1 << 20, 4096));
    assert_eq!(info.features, 1 | FEATURE_TRACE);
    assert_eq!(info.version.as_str(), env!("CARGO_PKG_VERSION"));
    vm.memory.put(AT, &[0xee; 200]);
    PROGRAM.calls(&vm, call::INFO, [AT, 3, 0, 0, 0]);
    assert_eq!(vm.memory.snapshot()[at..at + 4], [1, 0, 0, 0xee]);
    let empty = PROGRAM.calls(&vm, call::INFO, [0, 0, 0, 0, 0]);
    assert_eq!(empty.registers.rax, whole);
}

#[test]
fn the_list_goes_on_where_it_stopped_and_writes_whole_rows() {
    let vm = vm(Presence::Leaf);
    let size = ServiceRecord::SIZE as u64;
    let all = SERVICES.len() as u64;
    for first in [0, 1, all - 1, all, u64::MAX] {
        vm.memory.put(AT, &[0; 1000]);
        let cpu = PROGRAM.calls(&vm, call::LIST, [AT, 2 * size + 7, first, 0, 0]);
        let written = cpu.registers.rax;
        assert_eq!(written, all.saturating_sub(first).min(2));
        assert_eq!((cpu.registers.rbx, cpu.registers.rcx), (all, 2 * size + 7));
        let bytes = vm.memory.snapshot();
        let rows = bytes[AT as usize..].chunks_exact(size as usize);
        for (row, number) in rows.zip(first..).take(written as usize) {
            let row = ServiceRecord::from_bytes(row.try_into().expect("as long"));
            assert_eq!(row, ServiceRecord::from(&SERVICES[number as usize]));
        }
        let end = (AT + written * size) as usize;
        assert_eq!(bytes[end..end + 8], [0; 8]);
    }
}

#[test]
fn what_cannot_be_written_whole_is_not_begun() {
    let vm = vm(Presence::Leaf);
    vm.memory.unmap(0x9000);
    for number in [call::INFO, call::LIST] {
        let at = 0x9000 - 16;
        let cpu = PROGRAM.calls(&vm, number, [at, 4096, 0, 0, 0]);
        let code = page_fault::WRITE | page_fault::USER;
        assert_eq!(page_fault_of(&cpu), (0x9000, code));
        let cpu = KERNEL.calls(&vm, number, [at, 4096, 0, 0, 0]);
        assert_eq!(error(&cpu), Some(Errno::BadAddress));
        assert_eq!(cpu.registers.rbx, 0x9000);
    }
    assert!(vm.memory.written.borrow().is_empty());
}
