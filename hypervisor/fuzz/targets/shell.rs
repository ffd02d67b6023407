//! No line, and no typed bytes, upset the debug shell: each gets text that can
//! be shown and that ends, within what a call may take, and nothing is written
//! to the guest's memory but the text.
#![no_main]

#[allow(dead_code)]
#[path = "../../src/fake.rs"]
mod fake;

use abi::call::SHELL_TEXT_MAX;
use abi::handoff::Presence;
use fake::{FakeMemory, FakeSvm, FakeVtx};
use hypervisor::counted::Counted;
use hypervisor::caller::Caller;
use hypervisor::services::shell;
use hypervisor::statistics::Statistics;
use hypervisor::trace::Trace;
use hypervisor::vm::{Cpu, Features, Vm};
use libfuzzer_sys::fuzz_target;
use machine::{Memory, Vcpu};
use std::sync::LazyLock;
use x86::Gpa;

const LINE: u64 = 0x5000;
const TEXT: u64 = 0x6000;
/// What `dbgsh` takes for nothing, and returns at the end.
const NOTHING: u64 = 0xffff_ffff;
const END: u64 = 0x10a;

static COUNTED: LazyLock<Counted> = LazyLock::new(|| Counted {
    statistics: Statistics::new(&[]),
    trace: Trace::new(&[]),
});

thread_local! {
    static VM: Vm<FakeMemory> = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b'\n' | 0x08 | b' '..=b'~')
}

fn lines<V: Vcpu>(vm: &Vm<FakeMemory>, cpu: &Cpu<V>, typed: &[u8]) {
    let caller = Caller::new(vm, &cpu.vcpu);
    let handle = shell::open(vm, cpu);
    for line in typed
        .split(|byte| *byte == b'\n')
        .filter(|line| line.len() <= 120)
    {
        vm.memory.put(LINE, line);
        vm.memory.written.take();
        let operands = [[LINE, line.len() as u64], [TEXT, SHELL_TEXT_MAX as u64]];
        // A session that a line ended is no mistake.
        let _ = shell::line(vm, cpu, &caller, handle, operands);
        for (at, size) in vm.memory.written.take() {
            let mut text = vec![0; size];
            assert!((TEXT..TEXT + SHELL_TEXT_MAX as u64).contains(&at.0));
            vm.memory.read(Gpa(at.0), &mut text).expect("in memory");
            assert!(text.into_iter().all(is_text));
        }
    }
}

fn bytes<V: Vcpu>(vm: &Vm<FakeMemory>, cpu: &Cpu<V>, typed: &[u8]) {
    let mut keys = typed.iter();
    let mut answer = NOTHING;
    for _ in 0..100_000 {
        answer = match shell::byte(vm, cpu, answer) {
            0 => match keys.next() {
                Some(key) => u64::from(*key),
                None => return,
            },
            END => 0,
            byte => {
                assert!(is_text(byte as u8));
                0
            }
        };
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, typed)) = data.split_first() else {
        return;
    };
    VM.with(|vm| {
        let intel = Cpu::watched(FakeVtx::default(), &COUNTED);
        let amd = Cpu::watched(FakeSvm::default(), &COUNTED);
        match which & 3 {
            0 => lines(vm, &intel, typed),
            1 => lines(vm, &amd, typed),
            2 => bytes(vm, &intel, typed),
            _ => bytes(vm, &amd, typed),
        }
    });
});
