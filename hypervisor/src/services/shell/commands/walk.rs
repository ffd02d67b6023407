//! `walk`: how an address is translated, entry by entry, by the guest's tables
//! and then by the nested ones.

use super::{Asked, Next, Out, State, usage};
use crate::services::shell::line;
use crate::services::shell::view::{View, Why};
use machine::{Memory, Vcpu};
use x86::{Gpa, Gva};

/// Bits of an entry that say something about every level.
const BITS: [(u32, &str); 8] = [
    (0, "present"),
    (1, "writable"),
    (2, "user"),
    (5, "accessed"),
    (6, "dirty"),
    (7, "large"),
    (8, "global"),
    (63, "no-execute"),
];

/// `State::end` behind the last of the guest's entries: the nested tables' is
/// next.
const NESTED: u64 = u64::MAX;

/// One entry, or where it ends.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let (memory, vcpu) = (&asked.place.vm.memory, &asked.place.cpu.vcpu);
    let [address, "", ..] = asked.arguments else {
        return usage(asked.command, out);
    };
    let Some(address) = line::address(address) else {
        out.say(format_args!("an address is hexadecimal; "));
        return usage(asked.command, out);
    };
    let view = View::new(memory, vcpu);
    let found = view.translate(Gva(address));
    if state.end == NESTED {
        nested(memory, Gpa(state.at), out);
        return Next::Done;
    }
    if let Some((level, at, value)) = view.entry(state.step as usize) {
        out.say(format_args!(
            "level {level}, entry at {at:#x}: {value:#018x}"
        ));
        let set = BITS.iter().filter(|(bit, _)| value >> bit & 1 != 0);
        for (_, name) in set {
            out.say(format_args!(" {name}"));
        }
        return Next::More;
    }
    match found {
        Ok(found) => {
            let how = if view.is_paged() {
                "lies at"
            } else {
                "is not paged:"
            };
            out.say(format_args!(
                "{address:#x} {how} guest-physical {:#x}, {} bytes of its page follow",
                found.gpa, found.left
            ));
            (state.at, state.end) = (found.gpa.0, NESTED);
            Next::More
        }
        Err(denied) => {
            out.say(format_args!("{address:#x} leads nowhere: {}", Why(denied)));
            Next::Done
        }
    }
}

fn nested<M: Memory>(memory: &M, gpa: Gpa, out: &mut Out) {
    let entry = memory.nested(gpa);
    let [read, write, execute] = entry.rights;
    let (level, value) = (entry.level, entry.value);
    out.say(format_args!(
        "nested tables, level {level}: {value:#018x}{}{}{}",
        if read { " read" } else { " nothing" },
        if write { " write" } else { "" },
        if execute { " execute" } else { "" },
    ));
}
