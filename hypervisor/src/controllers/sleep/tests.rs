use super::*;
use crate::fake::{FakeMemory, FakeVtx, PORT_LOG};
use crate::outcome::Stop;
use crate::run::run;
use crate::vm::Features;
use abi::handoff::Presence;
use x86::Exit;

const CONTROL: u16 = 0x604;
const STATUS: u16 = 0x600;
/// What the fake machine's ports answer: their number.
const NOTHING: u32 = STATUS as u32;
const TYPE_3: u32 = 0b011 << 10;
const TYPE_5: u32 = 0b101 << 10;
const SLEEP_NOW: u32 = SLEEP as u32;

fn access(port: u16, size: u8, written: Option<u32>) -> Exit {
    Exit::Port(PortAccess {
        port,
        size,
        input: written.is_none(),
        string: false,
        repeat: false,
        segment: None,
        value: written.unwrap_or(0),
        next: None,
    })
}

/// What arrived at the hardware, and what the guest has in RAX at the end.
fn after(exits: &[Exit]) -> (Vec<(u16, u8, Option<u32>)>, u32) {
    let mut vcpu = FakeVtx::default();
    vcpu.exits.extend(exits.iter().copied());
    let mut vm = Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL);
    vm.sleep[0] = Sleep {
        control: CONTROL,
        status: STATUS,
        harmless: 1 << 5,
    };
    watches(&mut Watches::new(&vm, &mut vcpu));
    let wanted = [STATUS, STATUS + 1, CONTROL, CONTROL + 1];
    assert_eq!(vcpu.ports, wanted.into());
    PORT_LOG.with_borrow_mut(Vec::clear);
    let mut cpu = Cpu::new(vcpu);
    assert_eq!(run(&vm, &mut cpu), Stop::Reset);
    let rax = cpu.vcpu.registers.rax as u32;
    (PORT_LOG.with_borrow(Clone::clone), rax)
}

#[test]
fn a_harmless_sleep_and_its_preparation_reach_the_hardware() {
    for value in [TYPE_3, TYPE_5, TYPE_5 | SLEEP_NOW] {
        let written = (CONTROL, 2, Some(value));
        assert_eq!(after(&[access(CONTROL, 2, Some(value))]).0, [written]);
    }
}

#[test]
fn another_does_not_however_it_is_written() {
    let word = TYPE_3 | SLEEP_NOW;
    for exit in [
        access(CONTROL, 2, Some(word)),
        access(CONTROL, 4, Some(word)),
        access(CONTROL + 1, 1, Some(word >> 8)),
        access(CONTROL - 2, 4, Some(word << 16)),
        access(CONTROL - 1, 4, Some(word << 8)),
    ] {
        assert_eq!(after(&[exit]).0, [], "{exit:?}");
    }
    let elsewhere = access(CONTROL, 1, Some(word >> 8));
    assert_eq!(after(&[elsewhere]).0.len(), 1);
}

#[test]
fn a_refused_sleep_is_over_at_once_until_the_guest_has_seen_it() {
    let refused = access(CONTROL, 2, Some(TYPE_3 | SLEEP_NOW));
    let look = access(STATUS, 2, None);
    let clear = access(STATUS, 2, Some(WOKEN as u32));
    assert_eq!(after(&[look]).1, NOTHING);
    assert_eq!(after(&[refused, look]).1, NOTHING | WOKEN as u32);
    assert_eq!(after(&[refused, access(STATUS + 1, 1, None)]).1, 0x81);
    let (_, seen) = after(&[refused, access(CONTROL, 2, Some(TYPE_3)), look]);
    assert_eq!(seen, NOTHING | WOKEN as u32);
    assert_eq!(after(&[refused, clear, look]).1, NOTHING);
}
