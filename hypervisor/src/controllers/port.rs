//! Port accesses that exit for a controller which does not want them, such as a
//! wide one that begins beside its port: the guest gets what is there.

use crate::emulator::{self, Device};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use core::marker::PhantomData;
use machine::{Memory, Vcpu};
use x86::exit::PortAccess;

/// Does the access for the guest.
#[inline(never)]
pub fn handle_port<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
) -> Outcome {
    emulator::port(vm, cpu, access, &mut Below::<V>(PhantomData))
}

/// The machine's own ports.
struct Below<V>(PhantomData<V>);

impl<V: Vcpu> Device for Below<V> {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        u64::from(V::read_port(at as u16, size))
    }

    fn write(&mut self, at: u64, size: u8, value: u64) {
        V::write_port(at as u16, size, value as u32);
    }
}
