//! The watch on local APICs, by which start-up signals stop at their sender.
//! It costs an exit for each write to a watched register, so it is on only while
//! a CPU may be sent such a signal, see [`x86::startup::Life`].

use super::{Peer, Peers, alone};
use crate::vm::{Cpu, Vm};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use core::sync::atomic::{AtomicBool, AtomicU64};
use machine::{Memory, Vcpu};
use x86::apic::{X2_COMMAND, X2_END_OF_INTERRUPT};
use x86::startup::{Sign, State};

/// Parts of a second for which nobody must need the watch before it is dropped:
/// putting it on and off takes all CPUs out of the guest, and a guest that has
/// its caches written back all the time is not to cause that each time.
const QUIET: u64 = 8;

/// Shared by all CPUs.
pub struct Watch {
    /// Whether it is ever dropped. Set before the guest runs.
    pub may_end: bool,
    /// Whether writes exit. Changed by who is alone.
    on: AtomicBool,
    /// When it was last known to be needed. Written by any CPU that found so.
    needed: AtomicU64,
}

impl Default for Watch {
    /// On, for good.
    fn default() -> Self {
        Self {
            may_end: false,
            on: AtomicBool::new(true),
            needed: AtomicU64::new(0),
        }
    }
}

impl Watch {
    /// Whether writes exit.
    pub fn is_on(&self) -> bool {
        self.on.load(Acquire)
    }
}

impl Peers {
    fn all_are_up(&self) -> bool {
        self.numbered().all(|(_, peer)| peer.state().is_up())
    }
}

/// Notes a sign of this CPU, and has the watch follow from it before the
/// instruction that gave it is done.
///
/// What a CPU notes and what it then sees of the watch are not parted: it comes
/// out of the guest for nobody in between. So who is alone sees either both or
/// neither.
pub fn note<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, sign: Sign) {
    let Some(peer) = vm.peers.peer(cpu.number) else {
        return;
    };
    if !vm.peers.watch.may_end {
        return;
    }
    let before = peer.change(|state| state.sign(sign));
    if before.begins_system(sign) {
        for (_, other) in vm.peers.others(cpu.number) {
            other.change(State::abandon);
        }
    }
    if peer.state() != before {
        follow(&vm.peers, peer, &mut cpu.vcpu);
    }
    adjust(vm, cpu);
}

/// Puts the watch on where it is needed and drops it where it has not been for
/// a while.
pub fn adjust<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) {
    let watch = &vm.peers.watch;
    if !watch.may_end {
        return;
    }
    let (is_on, now) = (watch.is_on(), cpu.vcpu.ticks());
    if !vm.peers.all_are_up() {
        watch.needed.store(now, Release);
        if !is_on {
            turn(vm, cpu);
        }
    } else if is_on {
        let needed = watch.needed.load(Acquire);
        if now < needed {
            // The guest has set the counter back.
            watch.needed.store(now, Release);
        } else if now - needed > vm.ticks_per_second / QUIET {
            turn(vm, cpu);
        }
    }
}

/// Has the watch as the states of all want it.
fn turn<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) {
    if let Some(on) = alone(vm, cpu, |cpu| turn_alone(vm, cpu)) {
        let state = if on { "on" } else { "off" };
        log::debug!("CPU {} turns the watch on start-up {state}", cpu.number);
    }
}

/// The same, while nobody can change them. Returns what it was turned to.
fn turn_alone<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Option<bool> {
    let on = !vm.peers.all_are_up();
    if vm.peers.watch.on.swap(on, AcqRel) == on {
        return None;
    }
    vm.memory.let_writes_through(!on);
    cpu.vcpu.flush_nested();
    if let Some(peer) = vm.peers.peer(cpu.number) {
        follow(&vm.peers, peer, &mut cpu.vcpu);
    }
    Some(on)
}

/// This CPU's own part: its registers in x2APIC mode. One that is to show that
/// it lives is seen by the end of its next interrupt, too.
pub(super) fn follow<V: Vcpu>(peers: &Peers, peer: &Peer, vcpu: &mut V) {
    let on = peers.watch.is_on();
    vcpu.intercept_msr(X2_COMMAND, false, on);
    let in_doubt = on && peer.state().is_in_doubt();
    vcpu.intercept_msr(X2_END_OF_INTERRUPT, false, in_doubt);
}
