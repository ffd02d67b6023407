//! Buffers that a kernel keeps open.

use super::*;
use abi::call::TRANSFER_MAX;

const LIST: u64 = 0x3_4000;
const OWN: u64 = FakeMemory::RESERVED.start.0;

fn share(vm: &Vm<FakeMemory>, guest: Guest, pages: [u64; 2], bytes: u64) -> FakeVtx {
    vm.memory.put(LIST, &pages.map(u64::to_le_bytes).concat());
    guest.calls(vm, call::BUFFER_SHARE, [LIST, bytes, 0xffe, 0, 0])
}

#[test]
fn a_buffer_is_what_it_was_when_it_was_shared() {
    let vm = vm(Presence::Leaf);
    let handle = share(&vm, KERNEL, [0x6000, 0x4000], 4).registers.rax;
    vm.memory.put(LIST, &[0; 16]);
    vm.memory.unmap(0x6000);
    let reply = memory::shared(&vm, handle, |buffer| {
        buffer.write(0, b"abcd").expect("checked");
        log::fill(buffer, &|_, _| machine::LogLine::Whole(5), 0)
    });
    let bytes = vm.memory.snapshot();
    assert_eq!(
        (&bytes[0x6ffe..0x7000], &bytes[0x4000..0x4002]),
        (&b"ab"[..], &b"cd"[..])
    );
    assert_eq!(reply, Err(Failure::Refused(Errno::InvalidArgument)));
    assert_eq!(
        error(&KERNEL.calls(&vm, call::LOG_FILL, [handle, 0, 0, 0, 0])),
        None
    );
}

#[test]
fn handles_end_and_come_back() {
    let vm = vm(Presence::Leaf);
    let handles = (0..8).map(|_| share(&vm, KERNEL, [0x6000, 0x4000], 4).registers.rax);
    assert!(handles.eq(1..=8));
    let full = share(&vm, KERNEL, [0x6000, 0x4000], 4);
    assert_eq!(error(&full), Some(Errno::NoSpace));
    let release = |handle| KERNEL.calls(&vm, call::BUFFER_RELEASE, [handle, 0, 0, 0, 0]);
    assert_eq!(release(3).registers.rax, 0);
    let wrong = Some(Errno::InvalidArgument);
    for handle in [0, 3, 9, u64::MAX] {
        assert_eq!(error(&release(handle)), wrong);
        let fill = KERNEL.calls(&vm, call::LOG_FILL, [handle, 0, 0, 0, 0]);
        assert_eq!(error(&fill), wrong);
    }
    assert_eq!(share(&vm, KERNEL, [0x6000, 0x4000], 4).registers.rax, 3);
}

#[test]
fn only_a_kernel_shares_and_only_memory_of_the_guests() {
    let mut vm = vm(Presence::Leaf);
    vm.token = TOKEN;
    for number in [call::BUFFER_SHARE, call::BUFFER_RELEASE, call::LOG_FILL] {
        let cpu = OWNER.calls(&vm, number, [LIST, 4, 0, 0, 0]);
        assert_eq!(error(&cpu), Some(Errno::NotPermitted));
    }
    let own = share(&vm, KERNEL, [0x6000, OWN], 4);
    assert_eq!(
        (error(&own), own.registers.rbx),
        (Some(Errno::BadAddress), OWN)
    );
    let long = share(&vm, KERNEL, [0x6000, 0x4000], TRANSFER_MAX as u64 + 1);
    assert_eq!(error(&long), Some(Errno::InvalidArgument));
    assert!(vm.shared.with(1, |_| ()).is_none());
}
