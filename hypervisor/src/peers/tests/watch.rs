//! The watch on local APICs through the life of a system with two CPUs, by the
//! exits that it makes.

use super::*;
use crate::fake::{ANSWER, FakeMemory};
use crate::outcome::Stop;
use crate::run::run;
use x86::apic::{PAGE, X2_COMMAND, X2_END_OF_INTERRUPT, register};
use x86::control::Cr0;
use x86::exit::{Access, Instruction, NestedFault};
use x86::{Exit, Gpa, msr};

/// Where the guest's tables map the APIC's page.
const WINDOW: u64 = 0x5000;
const TICKS_PER_SECOND: u64 = 800;

struct Machine {
    vm: &'static Vm<FakeMemory>,
    cpus: [Cpu<FakeVtx>; 2],
}

impl Machine {
    fn new(may_end: bool) -> Self {
        let memory = FakeMemory::new();
        // mov [rdi], eax
        memory.put(0x1000, &[0x89, 0x07]);
        memory.remap(WINDOW, PAGE | 7);
        let mut vm = Vm::new(memory, Presence::Leaf, Features::ALL);
        vm.ticks_per_second = TICKS_PER_SECOND;
        vm.peers = super::vm(2).peers;
        vm.peers.watch.may_end = may_end;
        let vm: &'static Vm<FakeMemory> = Box::leak(Box::new(vm));
        ANSWER.set(Some(Box::new(|number| {
            let peer = &vm.peers.all[number as usize];
            peer.out.store(vm.peers.gate.load(Acquire), Release);
        })));
        let cpus = [0, 1].map(|number| {
            let mut cpu = Cpu::new(FakeVtx::default());
            cpu.number = number;
            cpu.vcpu.msrs.insert(msr::LSTAR, 0);
            cpu
        });
        Self { vm, cpus }
    }

    fn exit(&mut self, number: usize, exit: Exit) {
        let cpu = &mut self.cpus[number];
        cpu.vcpu.rip = 0x1000;
        cpu.vcpu.exits = [exit].into();
        assert_eq!(run(self.vm, cpu), Stop::Reset);
    }

    fn enter_kernel(&mut self, number: usize) {
        let value = 0xffff_ffff_8100_0000;
        let entry = Exit::WriteMsr {
            number: msr::LSTAR,
            value,
        };
        self.exit(number, entry);
        let written = self.cpus[number].vcpu.msrs[&msr::LSTAR];
        assert_eq!(written, value);
    }

    fn write(&mut self, number: usize, at: u16, value: u32) {
        let registers = &mut self.cpus[number].vcpu.registers;
        (registers.rdi, registers.rax) = (WINDOW + u64::from(at), u64::from(value));
        let fault = NestedFault {
            gpa: Gpa(PAGE + u64::from(at)),
            gva: None,
            access: Access {
                write: true,
                fetch: false,
            },
            walk: false,
        };
        self.exit(number, Exit::NestedFault(fault));
        assert_eq!(self.cpus[number].vcpu.rip, 0x1002, "{at:#x} is written");
    }

    fn end_interrupt(&mut self, number: usize) {
        self.write(number, register::END_OF_INTERRUPT, 0);
    }

    fn start_other(&mut self) {
        for command in [0x4500, 0x4610, 0x4610] {
            self.write(0, register::COMMAND_HIGH, 1 << 24);
            self.write(0, register::COMMAND, command);
        }
        let other = &mut self.cpus[1];
        // All CPUs of this thread have one APIC.
        FakeVtx::write_apic(register::ID, 1 << 24);
        assert_eq!(serve(self.vm, other), Outcome::Moved);
        FakeVtx::write_apic(register::ID, 0);
        assert_eq!(other.vcpu.started.take(), Some(0x10));
    }

    fn boot(&mut self) {
        self.enter_kernel(0);
        self.start_other();
        self.enter_kernel(1);
    }

    fn time_passes(&mut self) {
        for cpu in &self.cpus {
            let now = cpu.vcpu.ticks.get();
            cpu.vcpu.ticks.set(now + TICKS_PER_SECOND);
        }
    }

    fn is_watched(&self) -> bool {
        !self.vm.memory.writes_through.get()
    }
}

#[test]
fn it_ends_when_all_cpus_are_up_for_a_while() {
    let mut machine = Machine::new(true);
    machine.boot();
    machine.end_interrupt(0);
    assert!(machine.is_watched(), "they have only just come up");
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(!machine.is_watched());
    let vcpu = &machine.cpus[0].vcpu;
    assert_eq!(vcpu.intercepted[&X2_COMMAND], (false, false));
    assert!(vcpu.flushes > 0);
}

#[test]
fn it_is_there_again_before_caches_are_written_back_until_the_cpu_lives() {
    let mut machine = Machine::new(true);
    machine.boot();
    machine.time_passes();
    machine.end_interrupt(1);
    assert!(!machine.is_watched());
    machine.exit(1, Exit::Instruction(Instruction::Wbinvd));
    assert!(machine.is_watched());
    let vcpu = &machine.cpus[1].vcpu;
    assert_eq!((vcpu.written_back, vcpu.rip), (1, 0x1002));
    assert_eq!(vcpu.intercepted[&X2_END_OF_INTERRUPT], (false, true));
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(machine.is_watched(), "another one's life says nothing");
    machine.end_interrupt(1);
    let vcpu = &machine.cpus[1].vcpu;
    assert_eq!(vcpu.intercepted[&X2_END_OF_INTERRUPT], (false, false));
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(!machine.is_watched());
}

#[test]
fn a_cpu_that_went_down_comes_back_and_it_ends_again() {
    let mut machine = Machine::new(true);
    machine.boot();
    machine.time_passes();
    machine.end_interrupt(0);
    machine.exit(1, Exit::Instruction(Instruction::Wbinvd));
    machine.start_other();
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(machine.is_watched(), "it has started, and is not up");
    machine.enter_kernel(1);
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(!machine.is_watched());
}

/// A kernel that has just begun changes memory types so, before anything tells
/// that it is another one: those that the one before has halted are not called.
#[test]
fn caches_written_back_while_they_are_off_are_no_sign() {
    let mut machine = Machine::new(true);
    machine.boot();
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(!machine.is_watched());
    machine.cpus[0].vcpu.cr0 |= Cr0::CD;
    machine.exit(0, Exit::Instruction(Instruction::Wbinvd));
    assert_eq!(machine.cpus[0].vcpu.written_back, 1);
    assert!(!machine.is_watched());
}

#[test]
fn another_kernel_finds_it() {
    let mut machine = Machine::new(true);
    machine.boot();
    machine.time_passes();
    machine.end_interrupt(0);
    machine.enter_kernel(0);
    assert!(machine.is_watched());
    machine.start_other();
    machine.enter_kernel(1);
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(!machine.is_watched());
}

#[test]
fn an_init_that_got_by_has_it_back() {
    let mut machine = Machine::new(true);
    machine.boot();
    machine.time_passes();
    machine.end_interrupt(0);
    machine.exit(0, Exit::Init);
    assert!(machine.is_watched());
}

#[test]
fn it_stays_where_the_config_wants_it() {
    let mut machine = Machine::new(false);
    machine.boot();
    machine.time_passes();
    machine.end_interrupt(0);
    assert!(machine.is_watched());
    let declared = crate::chain::declare(machine.vm, &mut machine.cpus[0].vcpu);
    assert_eq!(declared, Ok(()));
    let vcpu = &machine.cpus[0].vcpu;
    assert_eq!(vcpu.intercepted[&X2_COMMAND], (false, true));
    assert!(!vcpu.intercepted.contains_key(&msr::LSTAR) && !vcpu.write_backs_exit);
}

#[test]
fn signs_exit_where_it_may_end() {
    let mut machine = Machine::new(true);
    let declared = crate::chain::declare(machine.vm, &mut machine.cpus[0].vcpu);
    assert_eq!(declared, Ok(()));
    let vcpu = &machine.cpus[0].vcpu;
    assert_eq!(vcpu.intercepted[&msr::LSTAR], (false, true));
    assert!(vcpu.write_backs_exit);
}

#[test]
fn an_entry_that_the_cpu_refuses_is_no_sign() {
    let mut machine = Machine::new(true);
    machine.cpus[0].vcpu.msrs.clear();
    machine.exit(
        0,
        Exit::WriteMsr {
            number: msr::LSTAR,
            value: 1 << 63,
        },
    );
    assert_eq!(machine.cpus[0].vcpu.injected.len(), 1);
    assert_eq!(machine.vm.peers.all[0].state(), State::from_word(0));
}
