//! `underlayctl raw`: a call by number, whatever is beneath.

use super::{Command, Use};
use crate::arguments::{Given, number};
use crate::trouble::Trouble;
use std::io::Write;
use underlay::{Instruction, Reply, Token, Underlay, Way, discovery, owner};

pub const COMMAND: Command = Command {
    name: "raw",
    uses: &[Use {
        takes: "NUMBER [ARGUMENT]...",
        does: "call a service by its number, with up to 5 numbers",
    }],
    options: &[],
    more: "\
The arguments go to RBX RCX RDX RSI RDI, and the registers are shown afterwards.
As root the call carries the owner token. `raw` executes the instruction even
where nothing answers it: without a hypervisor it dies of an illegal instruction
(status 132 in a shell). An argument that is an address is used with this
program's rights: a bad one ends it like any bad access (status 139), a good one
may be written to. `call` takes care of all that.

Examples:
  underlayctl raw 1                          what `ping` does, in registers
  underlayctl raw 15 0xffffffff81000000 0x2c0a000
",
    run,
};

/// Calls by number, whether or not anything announced itself, and lets the CPU
/// have its way: that is what the command is for.
fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let (number, arguments) = numbers(&given.words())?;
    let instruction = given.instruction.unwrap_or_else(instruction);
    let token = owner::token().unwrap_or(Token::NONE);
    // SAFETY: the person at the keyboard chose instruction, number and
    // arguments, and is told by --help what that may do to this process, which
    // does nothing afterwards but print six numbers.
    let reply = unsafe { underlay::call::call(instruction, token, number, arguments) };
    out.write_all(registers(instruction, &reply).as_bytes())?;
    out.flush()?;
    reply.result().map(drop).map_err(|_| Trouble::Shown)
}

fn instruction() -> Instruction {
    match Underlay::find().map(Underlay::way) {
        Ok(Way::Instruction(instruction, _)) => instruction,
        _ => discovery::instruction_of_cpu(),
    }
}

fn numbers(words: &[&str]) -> Result<(u64, [u64; 5]), Trouble> {
    let [service, rest @ ..] = words else {
        return Err(Trouble::usage("`raw` needs the number of a service"));
    };
    let mut arguments = [0; 5];
    if rest.len() > arguments.len() {
        return Err(Trouble::usage("a call has no more than 5 arguments"));
    }
    for (argument, word) in arguments.iter_mut().zip(rest) {
        *argument = number(word)?;
    }
    Ok((number(service)?, arguments))
}

fn registers(instruction: Instruction, reply: &Reply) -> String {
    let names = ["rbx", "rcx", "rdx", "rsi", "rdi"];
    let mut text = format!("{instruction}\nrax {:#018x}", reply.rax);
    if let Err(failure) = reply.result() {
        text += &format!(" ({failure})");
    }
    for (name, value) in names.iter().zip(reply.results) {
        text += &format!("\n{name} {value:#018x}");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_shown_in_hex_with_the_error_in_words() {
        let reply = Reply {
            rax: -38i64 as u64,
            results: [1, 2, 3, 4, 5],
        };
        let text = registers(Instruction::Vmmcall, &reply);
        assert!(text.starts_with("vmmcall\nrax 0xffffffffffffffda (no such service)\n"));
        assert!(text.ends_with("rdi 0x0000000000000005\n"));
    }

    #[test]
    fn raw_takes_a_number_and_up_to_five_arguments() {
        let (number, arguments) = numbers(&["0x10", "1", "0xffffffffffffffff"]).unwrap();
        assert_eq!((number, arguments), (0x10, [1, u64::MAX, 0, 0, 0]));
        for wrong in [&[][..], &["1"; 7], &["0x"], &["one"]] {
            assert!(numbers(wrong).is_err(), "{wrong:?}");
        }
    }
}
