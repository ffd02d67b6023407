//! Interrupts on their way through all controllers.

use super::local::register;
use super::*;

const EITHER: Takes = Takes {
    interrupts: true,
    events: true,
};
const NO_INTERRUPTS: Takes = Takes {
    interrupts: false,
    events: true,
};

fn run(raise: Option<Event>) -> Next {
    Next::Run {
        raise,
        window: false,
        due: None,
    }
}

/// Two vCPUs that run, whose APICs are enabled.
fn two() -> Interrupts {
    let interrupts = Interrupts::new(2, 1_000_000);
    command(&interrupts, 0, 1, 0x4500);
    command(&interrupts, 0, 1, 0x4608);
    assert_eq!(interrupts.next(1, 0, EITHER), Next::Start(8));
    for number in 0..2 {
        interrupts.write_local(number, register::SPURIOUS, 0x1ff);
    }
    interrupts
}

fn command(interrupts: &Interrupts, from: usize, to: u32, word: u32) {
    interrupts.write_local(from, register::COMMAND_HIGH, to << 24);
    interrupts.write_local(from, register::COMMAND, word);
}

fn route(interrupts: &Interrupts, input: u32, destination: u32, word: u32) {
    interrupts.write_io(0, 0x11 + 2 * input);
    interrupts.write_io(0x10, destination << 24);
    interrupts.write_io(0, 0x10 + 2 * input);
    interrupts.write_io(0x10, word);
}

#[test]
fn a_vcpu_starts_by_init_and_startup_and_once() {
    let interrupts = Interrupts::new(2, 1_000_000);
    assert_eq!(interrupts.next(1, 0, EITHER), Next::Sleep);
    command(&interrupts, 0, 1, 0x4608);
    command(&interrupts, 0, 1, 0x4609);
    assert_eq!(interrupts.next(1, 0, EITHER), Next::Start(8));
    assert_eq!(interrupts.next(1, 0, EITHER), run(None));
    command(&interrupts, 0, 1, 0x4609);
    assert_eq!(interrupts.next(1, 0, EITHER), run(None));
    command(&interrupts, 0, 1, 0x8500);
    assert_eq!(
        interrupts.next(1, 0, EITHER),
        run(None),
        "INIT's end is no INIT"
    );
    command(&interrupts, 0, 1, 0x4500);
    assert_eq!(interrupts.next(1, 0, EITHER), Next::Sleep);
}

#[test]
fn an_interrupt_waits_until_its_vcpu_can_take_it() {
    let interrupts = two();
    command(&interrupts, 0, 1, 0x41);
    let waits = Next::Run {
        raise: None,
        window: true,
        due: None,
    };
    assert_eq!(interrupts.next(1, 0, NO_INTERRUPTS), waits);
    let taken = run(Some(Event::Interrupt(0x41)));
    assert_eq!(interrupts.next(1, 0, EITHER), taken);
    assert_eq!(interrupts.next(1, 0, EITHER), run(None));
}

#[test]
fn shorthands_mean_oneself_all_and_all_others() {
    let interrupts = two();
    for (word, taken) in [
        (0x4_0041, [true, false]),
        (0x8_0042, [true; 2]),
        (0xc_0043, [false, true]),
    ] {
        interrupts.write_local(0, register::COMMAND, word);
        for (number, taken) in taken.into_iter().enumerate() {
            let raise = taken.then_some(Event::Interrupt(word as u8));
            assert_eq!(interrupts.next(number, 0, EITHER), run(raise));
            interrupts.write_local(number, register::END, 0);
        }
    }
}

#[test]
fn an_nmi_wakes_a_vcpu_that_takes_no_interrupts() {
    let interrupts = two();
    assert!(interrupts.halt(1, false), "the other one runs");
    assert_eq!(interrupts.next(1, 0, NO_INTERRUPTS), Next::Sleep);
    command(&interrupts, 0, 1, 0x41);
    assert_eq!(interrupts.next(1, 0, NO_INTERRUPTS), Next::Sleep);
    command(&interrupts, 0, 1, 0x400);
    let woken = Next::Run {
        raise: Some(Event::Nmi),
        window: true,
        due: None,
    };
    assert_eq!(interrupts.next(1, 0, NO_INTERRUPTS), woken);
}

#[test]
fn when_all_have_halted_without_interrupts_nothing_wakes_them() {
    let interrupts = two();
    assert!(interrupts.halt(0, true));
    assert!(!interrupts.halt(1, false));
}

#[test]
fn a_devices_pulse_reaches_whom_its_input_names() {
    let interrupts = two();
    route(&interrupts, 4, 1, 0x31);
    interrupts.pulse(4);
    assert_eq!(interrupts.next(0, 0, EITHER), run(None));
    assert_eq!(
        interrupts.next(1, 0, EITHER),
        run(Some(Event::Interrupt(0x31)))
    );
    for number in 0..2 {
        interrupts.write_local(number, register::LOGICAL, 1 << (24 + number));
        interrupts.write_local(number, register::END, 0);
    }
    const LOWEST_OF_A_SET: u32 = 0x900;
    route(&interrupts, 4, 3, LOWEST_OF_A_SET | 0x32);
    interrupts.pulse(4);
    assert_eq!(interrupts.next(1, 0, EITHER), run(None));
    assert_eq!(
        interrupts.next(0, 0, EITHER),
        run(Some(Event::Interrupt(0x32)))
    );
}

#[test]
fn the_timer_is_looked_at_before_each_turn() {
    let interrupts = two();
    interrupts.write_local(0, register::TIMER, 2 << 17 | 0x50);
    interrupts.set_deadline(0, u64::MAX);
    let waits = Next::Run {
        raise: None,
        window: false,
        due: Some(u64::MAX),
    };
    assert_eq!(interrupts.next(0, 0, EITHER), waits);
    interrupts.came_back(0);
    interrupts.set_deadline(0, 1);
    assert_eq!(
        interrupts.next(0, 0, EITHER),
        run(Some(Event::Interrupt(0x50)))
    );
    assert_eq!(interrupts.deadline(0), 0);
}

#[test]
fn the_end_is_the_last_word() {
    let interrupts = two();
    command(&interrupts, 0, 1, 0x41);
    interrupts.end();
    assert_eq!(interrupts.next(1, 0, EITHER), Next::End);
    interrupts.sleep(0);
}
