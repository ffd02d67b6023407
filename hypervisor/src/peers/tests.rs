//! CPUs that want things of each other, each a thread.

mod watch;

use super::*;
use crate::fake::FakeVtx;
use crate::fake::locked::Locked;
use crate::vm::Features;
use abi::handoff::Presence;
use std::thread;
use x86::apic::register;
use x86::control::Rflags;
use x86::startup::Life;

/// A guest with so many CPUs, of which the first is the boot processor and each
/// has its number in its APIC.
fn vm(count: u32) -> Vm<Locked> {
    let mut vm = Vm::new(Locked::default(), Presence::Leaf, Features::ALL);
    vm.peers = Peers::new(count);
    vm.ticks_per_second = 1 << 40;
    for number in 0..count {
        let address = Address {
            id: number,
            ..Address::default()
        };
        vm.peers.note_address(number, address);
        vm.peers.note_boot(number, number == 0);
    }
    vm
}

/// CPU `number`, which the thread that makes it is.
fn cpu(number: u32) -> Cpu<FakeVtx> {
    FakeVtx::write_apic(register::ID, number << 24);
    let mut cpu = Cpu::new(FakeVtx::default());
    cpu.number = number;
    cpu
}

#[test]
fn who_is_alone_is_alone() {
    const CPUS: u32 = 4;
    const ROUNDS: u32 = 60;
    let vm = &vm(CPUS);
    let (inside, alone_now, finished) =
        (&AtomicU32::new(0), &AtomicU32::new(0), &AtomicU32::new(0));
    thread::scope(|scope| {
        for number in 0..CPUS {
            scope.spawn(move || {
                let mut cpu = cpu(number);
                let mut round = 0;
                while finished.load(Acquire) < CPUS {
                    inside.fetch_add(1, AcqRel);
                    thread::yield_now();
                    inside.fetch_sub(1, AcqRel);
                    serve(vm, &mut cpu);
                    round += 1;
                    if round <= ROUNDS && round % 7 == number {
                        alone(vm, &mut cpu, |_| {
                            assert_eq!(alone_now.fetch_add(1, AcqRel), 0);
                            assert_eq!(inside.load(Acquire), 0);
                            alone_now.fetch_sub(1, AcqRel);
                        });
                    }
                    if round == ROUNDS {
                        finished.fetch_add(1, AcqRel);
                    }
                }
                assert!(cpu.vcpu.flushes > 0, "it forgot what the others changed");
            });
        }
    });
}

#[test]
fn who_does_not_come_is_called_again_before_the_machine_stops() {
    let mut vm = vm(3);
    vm.ticks_per_second = 100;
    for number in [1, 2] {
        let other = Peer::default();
        other.out.store(3, Release);
        crate::fake::CALLED.take();
        let cpu = cpu(0);
        let begin = cpu.vcpu.ticks();
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            await_out(vm.ticks_per_second, &cpu.vcpu, (number, &other), 1);
        }));
        let why = stopped.expect_err("it stops");
        let why = why.downcast::<String>().expect("in words");
        assert_eq!(*why, format!("CPU {number} was called and did not come"));
        let waited = cpu.vcpu.ticks() - begin;
        assert!((1000..1010).contains(&waited), "{waited}");
        assert_eq!(
            crate::fake::CALLED.take(),
            [crate::fake::WHOEVER],
            "once more"
        );
    }
}

#[test]
fn an_init_takes_the_logical_number_away_before_it_is_taken_up() {
    let vm = vm(2);
    let address = Address {
        id: 1,
        logical: 2 << 24,
        format: u32::MAX,
        x2: false,
    };
    vm.peers.note_address(1, address);
    let to_it = Destination::Logical(2);
    vm.peers.send::<FakeVtx>(0, Signal::Init, to_it);
    vm.peers.send::<FakeVtx>(0, Signal::Startup(9), to_it);
    assert_eq!(vm.peers.all[1].state(), State::Init);
}

#[test]
fn who_was_out_is_addressed_as_it_is_by_then() {
    let vm = &vm(2);
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            let mut other = cpu(1);
            FakeVtx::write_apic(register::ID, 7 << 24);
            while vm.peers.gate.load(Acquire) < 2 {
                serve(vm, &mut other);
            }
        });
        alone(vm, &mut cpu(0), |_| {
            let address = vm.peers.all[1].address();
            assert!(address.is_meant(Destination::Physical(7), false));
        });
        other.join().expect("it comes out");
    });
}

#[test]
fn a_cpu_starts_once_where_the_first_of_two_senders_says() {
    for round in 0..200u32 {
        let vm = &vm(3);
        let to_it = Destination::Physical(2);
        let started = thread::scope(|scope| {
            let target = scope.spawn(move || {
                let mut cpu = cpu(2);
                while cpu.vcpu.started.is_none() {
                    serve(vm, &mut cpu);
                }
                (cpu.vcpu.started, serve(vm, &mut cpu), cpu.vcpu.resets)
            });
            vm.peers.send::<FakeVtx>(0, Signal::Init, to_it);
            for sender in 0..2 {
                let page = 0x10 * (sender as u8 + 1);
                scope.spawn(move || {
                    if round % 2 == sender {
                        thread::yield_now();
                    }
                    for _ in 0..2 {
                        vm.peers
                            .send::<FakeVtx>(sender, Signal::Startup(page), to_it);
                    }
                });
            }
            target.join().expect("it asserts nothing")
        });
        let (page, then, resets) = started;
        assert!(matches!(page, Some(0x10 | 0x20)));
        assert_eq!(then, Outcome::Resume);
        assert!((1..=2).contains(&resets));
    }
}

#[test]
fn signals_go_to_whom_they_are_for_and_call_them() {
    let vm = vm(4);
    crate::fake::CALLED.take();
    vm.peers
        .send::<FakeVtx>(1, Signal::Init, Destination::Others);
    assert_eq!(crate::fake::CALLED.take(), [0, 2, 3]);
    vm.peers
        .send::<FakeVtx>(1, Signal::Init, Destination::Others);
    vm.peers
        .send::<FakeVtx>(2, Signal::Startup(1), Destination::Physical(1));
    assert_eq!(crate::fake::CALLED.take(), [], "they were called for it");
    vm.peers
        .send::<FakeVtx>(1, Signal::Init, Destination::Physical(9));
    vm.peers
        .send::<FakeVtx>(1, Signal::Init, Destination::Sender);
    assert_eq!(crate::fake::CALLED.take(), []);
    let mut sender = cpu(1);
    assert_eq!(serve(&vm, &mut sender), Outcome::Resume);
    let mut boot = cpu(0);
    assert_eq!(serve(&vm, &mut boot), Outcome::Moved);
    assert_eq!((boot.vcpu.resets, boot.vcpu.started), (1, None));
}

#[test]
fn an_init_that_hit_the_hypervisor_is_taken_up_like_one_that_was_sent() {
    let vm = vm(2);
    let mut boot = cpu(0);
    boot.vcpu.init = true;
    assert_eq!(serve(&vm, &mut boot), Outcome::Moved);
    assert_eq!(boot.vcpu.resets, 1);
    assert_eq!(serve(&vm, &mut boot), Outcome::Resume, "once");
    let vm = &vm;
    let to_it = Destination::Physical(1);
    vm.peers.send::<FakeVtx>(0, Signal::Startup(9), to_it);
    let started = thread::scope(|scope| {
        let other = scope.spawn(move || {
            let mut other = cpu(1);
            other.vcpu.init = true;
            serve(vm, &mut other);
            other.vcpu.started
        });
        let state = || State::from_word(vm.peers.all[1].state.load(Acquire));
        while state() != State::Waiting {
            thread::yield_now();
        }
        vm.peers.send::<FakeVtx>(0, Signal::Startup(8), to_it);
        other.join().expect("it starts")
    });
    assert_eq!(started, Some(8), "the one behind the INIT");
}

/// CPU 1, which was up for a system that is over.
fn abandoned(vm: &Vm<Locked>) -> Cpu<FakeVtx> {
    vm.peers.all[1].change(|_| State::Running(Life::Up).abandon());
    let mut left = cpu(1);
    FakeVtx::write_apic(register::SPURIOUS, 0xff);
    left.vcpu.rflags = Rflags::empty();
    left
}

#[test]
fn one_that_its_system_has_left_halted_does_not_run_beneath_the_next() {
    let vm = &vm(2);
    let returned = &AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let left = scope.spawn(move || {
            let mut left = abandoned(vm);
            let outcome = serve(vm, &mut left);
            returned.store(true, Release);
            (outcome, left.vcpu.started)
        });
        let mut other = cpu(0);
        let state = || State::from_word(vm.peers.all[1].state.load(Acquire));
        while !state().is_abandoned() {
            thread::yield_now();
        }
        for _ in 0..3 {
            // It comes for each, and goes no further.
            alone(vm, &mut other, |_| assert!(!returned.load(Acquire)));
        }
        let to_it = Destination::Physical(1);
        for signal in [Signal::Init, Signal::Startup(9)] {
            vm.peers.send::<FakeVtx>(0, signal, to_it);
        }
        left.join().expect("it starts")
    });
    assert_eq!(outcome, (Outcome::Moved, Some(9)));
}

#[test]
fn one_that_its_system_has_left_goes_on_where_it_can_be_woken() {
    let vm = &vm(2);
    let wakes: [fn(&mut FakeVtx); 2] = [
        |vcpu| vcpu.rflags = Rflags::IF,
        |_| FakeVtx::write_apic(register::SPURIOUS, 0x1ff),
    ];
    for wake in wakes {
        let mut left = abandoned(vm);
        wake(&mut left.vcpu);
        assert_eq!(serve(vm, &mut left), Outcome::Resume);
    }
}

#[test]
fn one_that_cannot_or_does_not_come_keeps_all_out() {
    let unable = vm(2);
    unable.peers.decline(1);
    assert_eq!(unable.peers.gather(|| false), Together::Without(1));
    assert!(!unable.peers.wait_for_decision(1));
    let late = vm(2);
    assert_eq!(late.peers.gather(|| true), Together::Without(1));
    assert_eq!(vm(1).peers.gather(|| true), Together::Yes);
    let all = &vm(3);
    thread::scope(|scope| {
        let others = [1, 2].map(|number| scope.spawn(move || all.peers.wait_for_decision(number)));
        assert_eq!(all.peers.gather(|| false), Together::Yes);
        for other in others {
            assert!(other.join().expect("it only waits"));
        }
    });
}
