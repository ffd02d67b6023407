//! A page whose accesses are all emulated, and done to another page: only in
//! the build with the feature `breakable`, for comparing the emulator with the
//! CPU. A service says which pages.

use crate::emulator::{self, Device};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use core::sync::atomic::Ordering;
use machine::{Memory, Vcpu};
use x86::exit::NestedFault;
use x86::{Gpa, PAGE_SIZE};

/// The page behind the mirror.
struct Other<'a, M> {
    memory: &'a M,
    at: Gpa,
}

impl<M: Memory> Device for Other<'_, M> {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        let mut value = [0; 8];
        if let Some(part) = value.get_mut(..usize::from(size)) {
            let _ = self.memory.read(Gpa(self.at.0 + at), part);
        }
        u64::from_le_bytes(value)
    }

    fn write(&mut self, at: u64, size: u8, value: u64) {
        if let Some(part) = value.to_le_bytes().get(..usize::from(size)) {
            let _ = self.memory.write(Gpa(self.at.0 + at), part);
        }
    }
}

/// Emulates what touches the mirror.
pub fn handle_fault<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    fault: NestedFault,
) -> Outcome {
    let [mirror, other] = vm
        .mirror
        .each_ref()
        .map(|page| page.load(Ordering::Relaxed));
    if mirror == 0 || fault.gpa.page() != Gpa(mirror) {
        return Outcome::Pass;
    }
    let mut device = Other {
        memory: &vm.memory,
        at: Gpa(other),
    };
    let watched = Gpa(mirror)..Gpa(mirror + PAGE_SIZE);
    emulator::memory(vm, cpu, fault, watched, &mut device)
}
