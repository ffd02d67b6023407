//! Whatever a CPU says of an exit is decoded: on both vendors, without a panic,
//! and into a kind that can be counted. What is of no known reason survives.
#![no_main]

#[allow(dead_code)]
mod numbers;

use libfuzzer_sys::fuzz_target;
use numbers::Numbers;
use std::cell::RefCell;
use x86::exit::{Exit, Kind};
use x86::svm::vmcb;
use x86::vtx::field::{Field, Fields, Width};
use x86::{Registers, svm, vtx};

/// Each field reads as the next number.
struct Made<'a>(RefCell<Numbers<'a>>);

impl Fields for Made<'_> {
    fn read<W: Width, D>(&self, _: Field<W, D>) -> W::Value {
        W::from_raw(self.0.borrow_mut().quad())
    }
}

fn registers(numbers: &mut Numbers) -> Registers {
    let mut registers = Registers::default();
    for number in 0..16 {
        if let Some(register) = registers.general_mut(number) {
            *register = numbers.quad();
        }
    }
    registers
}

fn check(exit: &Exit) {
    assert!(Kind::ALL.contains(&exit.kind()));
    match exit {
        Exit::Port(access) => assert!(matches!(access.size, 1 | 2 | 4), "{access:?}"),
        Exit::Control(_) | Exit::Debug(_) => assert!(!format!("{exit:?}").is_empty()),
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let mut numbers = Numbers(data);
    let which = numbers.byte();
    let reason = u64::from(numbers.byte()) | u64::from(numbers.byte() & 7) << 8;
    let registers = registers(&mut numbers);
    if which & 1 == 0 {
        let high = if which & 2 != 0 { 1 << 31 } else { 0 };
        let fields = Made(RefCell::new(numbers));
        check(&vtx::exit::decode(
            reason as u32 | high,
            &registers,
            &fields,
        ));
        return;
    }
    let mut control = vmcb::blank().control;
    control.exit_code = if which & 2 != 0 {
        reason
    } else {
        numbers.quad()
    };
    control.exit_info1 = numbers.quad();
    control.exit_info2 = numbers.quad();
    control.exit_event = numbers.quad();
    control.next_rip = numbers.quad();
    let exit = svm::exit::decode(&control, &registers);
    check(&exit);
    if let Exit::Other { reason, .. } = exit {
        assert_eq!(reason, control.exit_code);
    }
});
