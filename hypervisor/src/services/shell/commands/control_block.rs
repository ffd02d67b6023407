//! `vmcs` and `vmcb`: the fields that run this guest on this CPU.

use super::{Asked, Next, Out, State};
use machine::{Memory, Vcpu};
use x86::cpuid::Vendor;

/// The next field whose name is asked for.
pub fn step<V: Vcpu, M: Memory>(asked: &Asked<V, M>, state: &mut State, out: &mut Out) -> Next {
    let own = match V::VENDOR {
        Vendor::Intel => "vmcs",
        Vendor::Amd => "vmcb",
    };
    if asked.command != own {
        out.say(format_args!(
            "this CPU has {}: try `{own}`",
            V::VENDOR.name()
        ));
        return Next::Done;
    }
    let [wanted, ..] = asked.arguments;
    let vcpu = &asked.place.cpu.vcpu;
    while let Some((name, value)) = vcpu.field(state.at as usize) {
        state.at += 1;
        let is_wanted = contains(name, wanted);
        match value {
            Some(value) if is_wanted => out.say(format_args!("{name} {value:#x}")),
            None if is_wanted && !wanted.is_empty() => {
                out.say(format_args!("{name} is not in this CPU"));
            }
            _ => continue,
        }
        state.end += 1;
        return Next::More;
    }
    if state.end == 0 {
        out.say(format_args!(
            "no field's name contains `{wanted}`; `{own}` lists all"
        ));
    }
    Next::Done
}

/// Whether `part` is in `name`, large or small.
fn contains(name: &str, part: &str) -> bool {
    let (name, part) = (name.as_bytes(), part.as_bytes());
    part.is_empty()
        || name
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
}
